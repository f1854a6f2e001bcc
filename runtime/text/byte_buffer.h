// SPDX-License-Identifier: BSD-3-Clause
// A growing array of bytes: text, or records of one kind. Failure is sticky: an append that finds no
// memory marks the buffer, later appends do nothing, and the user checks once at the end.
#ifndef PR_RUNTIME_TEXT_BYTE_BUFFER_H
#define PR_RUNTIME_TEXT_BYTE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

typedef struct pr_byte_buffer {
    void *data;
    size_t size_bytes;
    size_t capacity_bytes;
    bool failed;
} pr_byte_buffer;

void pr_byte_buffer_append(pr_byte_buffer *buffer, const void *data, size_t size_bytes);
// As append with the bytes left unset; NULL when there is no memory.
void *pr_byte_buffer_extend(pr_byte_buffer *buffer, size_t size_bytes);
static inline void pr_byte_buffer_clear(pr_byte_buffer *buffer) { buffer->size_bytes = 0; }
void pr_byte_buffer_free(pr_byte_buffer *buffer);
// PR_ERR_RESOURCE, with its line, when an append failed.
pr_status pr_byte_buffer_check(const pr_byte_buffer *buffer) PR_MUST_CHECK;

#endif
