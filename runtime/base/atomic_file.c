// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/base/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/file_write.h"
#include "runtime/base/log.h"

static int write_all(int descriptor, const void *data, size_t size_bytes)
{
    return pr_file_write(descriptor, data, size_bytes) == size_bytes ? fsync(descriptor) : -1;
}

static pr_status fail_write(const char *path)
{
    return pr_fail(
        PR_ERR_IO, "cannot write %s: %s: choose another path or free space", path, strerror(errno));
}

pr_status pr_atomic_file_write(const char *path, mode_t mode, const void *data, size_t size_bytes)
{
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.tmp", path) >= (int)sizeof beside) {
        errno = ENAMETOOLONG;
        return fail_write(path);
    }
    (void)unlink(beside);
    int descriptor = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (descriptor < 0)
        return fail_write(path);
    int failed = write_all(descriptor, data, size_bytes);
    int reason = errno;
    if (close(descriptor) != 0 && !failed) {
        failed = -1;
        reason = errno;
    }
    if (!failed && rename(beside, path) == 0)
        return PR_OK;
    if (failed)
        errno = reason;
    pr_status status = fail_write(path);
    (void)unlink(beside);
    return status;
}
