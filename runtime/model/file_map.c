// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "runtime/base/log.h"

static pr_status map_descriptor(const char *path, pr_file_map *file)
{
    struct stat info;
    if (fstat(file->descriptor, &info) != 0)
        return pr_fail(PR_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return pr_fail(PR_ERR_FORMAT, "%s: not a regular file", path);
    if (info.st_size == 0)
        return PR_OK;
    void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, file->descriptor, 0);
    if (map == MAP_FAILED)
        return pr_fail(PR_ERR_IO, "%s: cannot map the file: %s", path, strerror(errno));
    file->map = map;
    file->size_bytes = (uint64_t)info.st_size;
    return PR_OK;
}

pr_status pr_file_map_open(const char *path, pr_file_map *file)
{
    pr_file_map made = {.descriptor = open(path, O_RDONLY | O_CLOEXEC)};
    if (made.descriptor < 0 && errno == ENOENT)
        return pr_fail(PR_ERR_NOT_FOUND, "%s: there is no such file", path);
    if (made.descriptor < 0)
        return pr_fail(PR_ERR_IO, "%s: %s", path, strerror(errno));
    pr_status status = map_descriptor(path, &made);
    if (status == PR_OK && made.map) {
        *file = made;
        return PR_OK;
    }
    close(made.descriptor);
    return status;
}

void pr_file_map_close(pr_file_map *file)
{
    if (!file->map)
        return;
    munmap((void *)(uintptr_t)file->map, file->size_bytes);
    close(file->descriptor);
    *file = (pr_file_map){0};
}

int pr_file_map_read(const pr_file_map *file, const void *from, void *to, size_t size_bytes)
{
    off_t at = (const unsigned char *)from - file->map;
    for (char *next = to; size_bytes > 0;) {
        ssize_t got = pread(file->descriptor, next, size_bytes, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? errno : EIO;
        next += got;
        at += got;
        size_bytes -= (size_t)got;
    }
    return 0;
}

void pr_file_map_fetch(const pr_file_map *file, const void *from, size_t size_bytes)
{
    off_t at = (const unsigned char *)from - file->map;
    (void)posix_fadvise(file->descriptor, at, (off_t)size_bytes, POSIX_FADV_WILLNEED);
}

bool pr_file_map_is_in_memory(const pr_file_map *file)
{
    static const uint32_t tmpfs = 0x01021994, ramfs = 0x858458f6;  // statfs(2)
    struct statfs info;
    if (fstatfs(file->descriptor, &info) != 0)
        return false;
    return (uint32_t)info.f_type == tmpfs || (uint32_t)info.f_type == ramfs;
}
