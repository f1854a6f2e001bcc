// SPDX-License-Identifier: BSD-3-Clause
// What a program, or work of our own, says from a child process that cannot hang or take us along: it is
// killed with all it started when its time is over. Not after threads were started. Threads: one.
#ifndef PR_LAUNCHER_DOCTOR_CHILD_OUTPUT_H
#define PR_LAUNCHER_DOCTOR_CHILD_OUTPUT_H

#include <stdint.h>

#include "runtime/base/status.h"

typedef enum pr_child_end {
    PR_CHILD_DONE,     // exit code 0
    PR_CHILD_FAILED,   // another one, or a signal
    PR_CHILD_LATE,     // killed
    PR_CHILD_MISSING,  // no such program, or no process could be made
} pr_child_end;

// The words' standard output and error, ended by a zero and cut at the size. argument: NULL at its end.
pr_child_end
pr_child_output_of(const char *const *argument, int32_t limit_ms, char *text, int32_t size_bytes);

// The same for work that writes to a descriptor: *read_bytes says how much came. What it prints is lost.
pr_child_end pr_child_output_call(
    void (*work)(void *context, int output),
    void *context,
    int32_t limit_ms,
    void *data,
    int32_t size_bytes,
    int32_t *read_bytes);

#endif
