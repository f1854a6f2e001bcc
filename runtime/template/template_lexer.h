// SPDX-License-Identifier: BSD-3-Clause
// Template text to tokens. What stands outside of {{ }}, {% %} and {# #} becomes data tokens, already without the white
// space that trim_blocks, lstrip_blocks and the signs - and + take away:
//   "  {%- if x %}\n Hi"  →  block_begin, name if, name x, block_end, data " Hi"
// Cost: linear in the text.
// Threads: one parse, one thread.
// Source: Jinja 3.1 template designer documentation, "Whitespace Control".
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_LEXER_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/value/template_heap.h"
#include "runtime/value/template_text.h"

typedef enum pr_template_token_kind {
    PR_TEMPLATE_TOKEN_DATA,
    PR_TEMPLATE_TOKEN_VARIABLE_BEGIN,
    PR_TEMPLATE_TOKEN_VARIABLE_END,
    PR_TEMPLATE_TOKEN_BLOCK_BEGIN,
    PR_TEMPLATE_TOKEN_BLOCK_END,
    PR_TEMPLATE_TOKEN_NAME,
    PR_TEMPLATE_TOKEN_STRING,  // text is what it stands for: escapes are done
    PR_TEMPLATE_TOKEN_INTEGER,
    PR_TEMPLATE_TOKEN_FLOAT,
    PR_TEMPLATE_TOKEN_OPERATOR,
    PR_TEMPLATE_TOKEN_END,
} pr_template_token_kind;

typedef struct pr_template_token {
    pr_template_token_kind kind;
    int32_t line;
    pr_template_text text;  // DATA, NAME, STRING, OPERATOR
    int64_t integer;
    double real;
} pr_template_token;

// *token: an array in the heap that ends with END; the texts are in the heap too. text: valid UTF-8.
pr_status pr_template_lexer_run(
    pr_template_heap *heap, const char *text, size_t size_bytes, pr_template_token **token)
    PR_MUST_CHECK;

#endif
