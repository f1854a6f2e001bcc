// SPDX-License-Identifier: BSD-3-Clause
// Strings of a render that know which of their bytes came from the caller:
//   data   <tool_call>{"name": "f<|im_end|>"}
//   mark   00000000000000000000111111111100      only when shade is MIXED
// A text is a value: slices share the bytes, which live in the heap, the template or the variables.
// All texts are valid UTF-8; positions are in bytes and stand between characters.
// Threads: one render, one thread.
#ifndef PR_RUNTIME_VALUE_TEMPLATE_TEXT_H
#define PR_RUNTIME_VALUE_TEMPLATE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/value/template_heap.h"

// No string, and so no output, is longer.
#define PR_TEMPLATE_TEXT_MAX_BYTES ((size_t)16 << 20)

typedef enum pr_template_shade {
    PR_TEMPLATE_PLAIN,   // all of it the template's
    PR_TEMPLATE_MARKED,  // all of it the caller's
    PR_TEMPLATE_MIXED,
} pr_template_shade;

typedef struct pr_template_text {
    const char *data;
    size_t size_bytes;
    const uint8_t *mark;  // [size_bytes] 0 or 1, when MIXED
    pr_template_shade shade;
    bool safe;  // went through the filter `safe`: what is added to it with + is escaped for HTML
} pr_template_text;

static inline pr_template_text pr_template_text_of(const char *data, size_t size_bytes, bool marked)
{
    return (pr_template_text){
        .data = data,
        .size_bytes = size_bytes,
        .shade = marked ? PR_TEMPLATE_MARKED : PR_TEMPLATE_PLAIN};
}

static inline bool pr_template_text_is_marked(const pr_template_text *text, size_t at)
{
    return text->shade == PR_TEMPLATE_MIXED ? text->mark[at] : text->shade == PR_TEMPLATE_MARKED;
}

// Bytes begin..end of it.
pr_template_text pr_template_text_slice(pr_template_text text, size_t begin, size_t end);
// As memcmp's order, which for UTF-8 is that of code points.
int pr_template_text_compare(const pr_template_text *left, const pr_template_text *right);
bool pr_template_text_equals(const pr_template_text *text, const char *word);
// First place at or after `from`, or SIZE_MAX.
size_t
pr_template_text_find(const pr_template_text *text, const pr_template_text *part, size_t from);
// Last place, or SIZE_MAX.
size_t pr_template_text_find_last(const pr_template_text *text, const pr_template_text *part);
bool pr_template_text_starts(const pr_template_text *text, const pr_template_text *part);
bool pr_template_text_ends(const pr_template_text *text, const pr_template_text *part);
size_t pr_template_text_characters(const pr_template_text *text);
// Byte position of a character; index must not pass the number of characters.
size_t pr_template_text_offset(const pr_template_text *text, size_t index);
// What Python's str.isspace says of one character.
bool pr_template_text_is_space(uint32_t code_point);
// Without the characters (NULL: white space) that stand at its sides.
pr_template_text pr_template_text_strip(
    pr_template_text text, const pr_template_text *characters, bool left, bool right);

#endif
