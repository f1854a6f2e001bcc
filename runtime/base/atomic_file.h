// SPDX-License-Identifier: BSD-3-Clause
// A small file that readers see whole: the old content or the new, never a part. Written beside its place as
// PATH.tmp and renamed. A link or file that lies at PATH.tmp is removed, not written through.
// Threads: any, one for each path.
#ifndef PR_RUNTIME_BASE_ATOMIC_FILE_H
#define PR_RUNTIME_BASE_ATOMIC_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "runtime/base/status.h"

// The umask takes from the mode. PR_ERR_IO, with its line: what was at path is still there.
pr_status pr_atomic_file_write(const char *path, mode_t mode, const void *data, size_t size_bytes)
    PR_MUST_CHECK;

#endif
