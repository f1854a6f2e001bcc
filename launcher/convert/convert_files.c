// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/convert/convert_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/file_write.h"
#include "runtime/base/log.h"

enum { COPY_BYTES = 64 << 10 };

static bool is_link_of_directory(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static pr_status check_empty(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry;
    bool empty = true;
    if (!directory)
        return pr_fail(PR_ERR_IO, "%s: %s", path, strerror(errno));
    while (empty && (entry = readdir(directory)))
        empty = is_link_of_directory(entry->d_name);
    closedir(directory);
    if (!empty)
        return pr_fail(
            PR_ERR_ARGUMENT, "--output %s is not empty: name a new directory or empty that one",
            path);
    return PR_OK;
}

pr_status pr_convert_files_make_directory(const char *path, bool *made)
{
    *made = mkdir(path, 0777) == 0;
    if (*made)
        return PR_OK;
    if (errno != EEXIST)
        return pr_fail(PR_ERR_IO, "cannot make the directory %s: %s", path, strerror(errno));
    PR_TRY(check_empty(path));
    if (access(path, W_OK | X_OK) != 0)
        return pr_fail(PR_ERR_IO, "cannot write to %s: %s", path, strerror(errno));
    return PR_OK;
}

static bool ends_with(const char *name, const char *ending)
{
    size_t length = strlen(name), end = strlen(ending);
    return length >= end && strcmp(name + length - end, ending) == 0;
}

static bool holds_weights(const char *name)
{
    static const char *const endings[] = {
        ".safetensors", ".index.json", ".bin", ".pt",      ".pth",
        ".gguf",        ".h5",         ".npz", ".msgpack", ".onnx",
    };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (ends_with(name, endings[i]))
            return true;
    return false;
}

static int copy_bytes(int from, int to)
{
    char bytes[COPY_BYTES];
    for (;;) {
        ssize_t got = read(from, bytes, sizeof bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -1 : 0;
        if (pr_file_write(to, bytes, (size_t)got) != (size_t)got)
            return -1;
    }
}

static pr_status copy_file(const char *from, const char *to)
{
    int source = open(from, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        return pr_fail(PR_ERR_IO, "%s: %s", from, strerror(errno));
    int target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int failed = target < 0 ? -1 : copy_bytes(source, target), reason = errno;
    if (target >= 0 && close(target) != 0 && !failed) {
        failed = -1;
        reason = errno;
    }
    close(source);
    if (failed)
        return pr_fail(PR_ERR_IO, "cannot copy %s to %s: %s", from, to, strerror(reason));
    return PR_OK;
}

static pr_status copy_entry(const char *from, const char *to, const char *name, int32_t *files)
{
    char source[PATH_MAX], target[PATH_MAX];
    struct stat info;
    if (name[0] == '.' || holds_weights(name))
        return PR_OK;
    if (snprintf(source, sizeof source, "%s/%s", from, name) >= (int)sizeof source ||
        snprintf(target, sizeof target, "%s/%s", to, name) >= (int)sizeof target)
        return pr_fail(PR_ERR_ARGUMENT, "%s/%s: the path is too long", to, name);
    if (stat(source, &info) != 0 || !S_ISREG(info.st_mode))
        return PR_OK;
    ++*files;
    return copy_file(source, target);
}

pr_status pr_convert_files_copy(const char *from, const char *to, int32_t *files)
{
    DIR *directory = opendir(from);
    const struct dirent *entry;
    pr_status status = PR_OK;
    *files = 0;
    if (!directory)
        return pr_fail(PR_ERR_IO, "%s: %s", from, strerror(errno));
    while (status == PR_OK && (entry = readdir(directory)))
        status = copy_entry(from, to, entry->d_name, files);
    closedir(directory);
    return status;
}
