// SPDX-License-Identifier: BSD-3-Clause
// When a process of this machine began, from /proc.
// Threads: any. Cost: one small file.
#ifndef PR_RUNTIME_BASE_PROCESS_START_H
#define PR_RUNTIME_BASE_PROCESS_START_H

#include <stdint.h>

#include "runtime/base/status.h"

// Unix seconds, rounded down; pid 0: this process. PR_ERR_IO where /proc does not tell.
pr_status pr_process_start_read(int32_t pid, int64_t *start_unix_s) PR_MUST_CHECK;

#endif
