// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/base/file_write.h"

#include <errno.h>
#include <unistd.h>

size_t pr_file_write(int descriptor, const void *data, size_t size_bytes)
{
    size_t done = 0;
    while (done < size_bytes) {
        ssize_t written = write(descriptor, (const char *)data + done, size_bytes - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written == 0)
            errno = ENOSPC;
        if (written <= 0)
            break;
        done += (size_t)written;
    }
    return done;
}
