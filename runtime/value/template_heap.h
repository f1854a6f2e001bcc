// SPDX-License-Identifier: BSD-3-Clause
// What one parse or one render may use: memory that is freed all at once, and a number of steps. Both are bounded, so
// that no template and no variables, however hostile, cost more than that.
// Threads: one heap, one thread.
#ifndef PR_RUNTIME_VALUE_TEMPLATE_HEAP_H
#define PR_RUNTIME_VALUE_TEMPLATE_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

#define PR_TEMPLATE_HEAP_MAX_BYTES ((size_t)256 << 20)
#define PR_TEMPLATE_HEAP_MAX_STEPS ((int64_t)50000000)

typedef struct pr_template_heap {
    struct pr_template_heap_block *newest;
    size_t taken_bytes;
    int64_t steps;
    int32_t line;  // of the template, where parse or render are: for messages
} pr_template_heap;

// Uninitialised, aligned for anything. NULL when the limit is passed or the system has no memory; the line is said.
void *pr_template_heap_take(pr_template_heap *heap, size_t size_bytes);
void *pr_template_heap_take_zeroed(pr_template_heap *heap, size_t size_bytes);
// Frees all that was taken.
void pr_template_heap_clear(pr_template_heap *heap);

// Work is about to be done: one step is an evaluation, an element looked at, or 64 bytes looked at.
pr_status pr_template_heap_charge(pr_template_heap *heap, size_t steps) PR_MUST_CHECK;

// A fault at heap->line: PR_ERR_REQUEST, "chat template line 3: ...".
pr_status pr_template_heap_fail(const pr_template_heap *heap, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
