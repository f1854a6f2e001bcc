// SPDX-License-Identifier: BSD-3-Clause
// Texts under way: parts are appended with their marks. No room for marks is taken while all parts have one shade.
// Cost: amortised linear.
// Threads: one render, one thread.
#ifndef PR_RUNTIME_VALUE_TEMPLATE_BUILDER_H
#define PR_RUNTIME_VALUE_TEMPLATE_BUILDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/value/template_heap.h"
#include "runtime/value/template_text.h"

// Failure is sticky, as in pr_byte_buffer: check at finish.
typedef struct pr_template_builder {
    pr_template_heap *heap;
    char *data;
    uint8_t *mark;  // NULL while all of it has one shade
    size_t size_bytes, capacity_bytes;
    bool marked;  // the shade while mark is NULL
    pr_status status;
} pr_template_builder;

static inline pr_template_builder pr_template_builder_of(pr_template_heap *heap)
{
    return (pr_template_builder){.heap = heap};
}

// Takes room for so many bytes at once.
void pr_template_builder_reserve(pr_template_builder *builder, size_t size_bytes);
void pr_template_builder_append(pr_template_builder *builder, pr_template_text text);
void pr_template_builder_put(
    pr_template_builder *builder, const char *data, size_t size_bytes, bool marked);
void pr_template_builder_put_word(pr_template_builder *builder, const char *word, bool marked);
void pr_template_builder_put_character(
    pr_template_builder *builder, uint32_t code_point, bool marked);
// The builder is empty afterwards.
pr_status
pr_template_builder_finish(pr_template_builder *builder, pr_template_text *text) PR_MUST_CHECK;

#endif
