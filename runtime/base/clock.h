// SPDX-License-Identifier: BSD-3-Clause
// Monotonic time. Only launcher and comm read clocks; the scheduler is told the time.
#ifndef PR_RUNTIME_BASE_CLOCK_H
#define PR_RUNTIME_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t pr_clock_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
