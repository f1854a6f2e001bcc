// SPDX-License-Identifier: BSD-3-Clause
// What a request's output must look like, as its client wrote it. The text is checked and compiled by
// runtime/grammar/grammar.h.
//
//   kind          text
//   JSON_OBJECT   none: any JSON object
//   JSON_SCHEMA   a JSON Schema (the subset of docs/structured-output.md)
//   REGEX         a regular expression that the whole output matches
//   CHOICE        a JSON array of strings, one of which is the output
#ifndef PR_RUNTIME_GRAMMAR_GRAMMAR_SOURCE_H
#define PR_RUNTIME_GRAMMAR_GRAMMAR_SOURCE_H

#include <stdint.h>

typedef enum pr_grammar_kind {
    PR_GRAMMAR_NONE,
    PR_GRAMMAR_JSON_OBJECT,
    PR_GRAMMAR_JSON_SCHEMA,
    PR_GRAMMAR_REGEX,
    PR_GRAMMAR_CHOICE,
} pr_grammar_kind;

enum { PR_GRAMMAR_KINDS = 5, PR_GRAMMAR_MAX_TEXT_BYTES = 256 * 1024 };

typedef struct pr_grammar_source {
    pr_grammar_kind kind;
    int32_t size_bytes;
    char *text;  // [size_bytes], UTF-8; may be NULL if there are none
} pr_grammar_source;

#endif
