// SPDX-License-Identifier: BSD-3-Clause
// Builds a grammar from its end to its start: each call takes the node that follows and returns the node
// that begins. PR_GRAMMAR_NOWHERE is the node that matches nothing; given as a follower it makes the whole
// PR_GRAMMAR_NOWHERE, so impossible branches vanish by themselves.
//
//     after = builder_return(b); text(b, "true", 4, after)  ->  t r u e RETURN
//
// Failure is sticky: when a limit is passed or memory is short, calls return PR_GRAMMAR_NOWHERE and
// pr_grammar_builder_finish says why.
// Threads: none of its own.
#ifndef PR_RUNTIME_GRAMMAR_GRAMMAR_BUILDER_H
#define PR_RUNTIME_GRAMMAR_GRAMMAR_BUILDER_H

#include <stdbool.h>

#include "runtime/grammar/code_points.h"
#include "runtime/grammar/grammar.h"
#include "runtime/text/byte_buffer.h"

enum { PR_GRAMMAR_NOWHERE = -1, PR_GRAMMAR_NO_LIMIT = -1 };

typedef struct pr_grammar_builder {
    pr_byte_buffer node, edge;
    pr_byte_buffer rule;  // int32_t[]: the first node of each
    pr_byte_buffer run;   // working space of code points
    bool full;            // a limit was passed
} pr_grammar_builder;

typedef struct pr_grammar_text {
    const char *data;
    size_t size_bytes;
} pr_grammar_text;

void pr_grammar_builder_free(pr_grammar_builder *builder);

int32_t pr_grammar_builder_return(pr_grammar_builder *builder);
int32_t
pr_grammar_builder_edges(pr_grammar_builder *builder, const pr_grammar_edge *edge, int32_t edges);
int32_t pr_grammar_builder_bytes(pr_grammar_builder *builder, int low, int high, int32_t next);
int32_t pr_grammar_builder_text(
    pr_grammar_builder *builder, const char *text, size_t size_bytes, int32_t next);
// One of many texts, as a tree of bytes. Sorts the list.
int32_t pr_grammar_builder_texts(
    pr_grammar_builder *builder, pr_grammar_text *text, int32_t texts, int32_t next);
// One code point of a normalised set, in UTF-8.
int32_t
pr_grammar_builder_code_point(pr_grammar_builder *builder, const pr_code_points *set, int32_t next);
int32_t pr_grammar_builder_split(pr_grammar_builder *builder, int32_t first, int32_t second);
// The body ends in a RETURN of its own.
int32_t pr_grammar_builder_repeat(
    pr_grammar_builder *builder, int32_t body, int32_t min, int32_t max, int32_t next);

// A rule may be called before it is set: that is how recursion is made.
int32_t pr_grammar_builder_rule(pr_grammar_builder *builder);
void pr_grammar_builder_set_rule(pr_grammar_builder *builder, int32_t rule, int32_t start);
int32_t pr_grammar_builder_call(pr_grammar_builder *builder, int32_t rule, int32_t next);

// Links the calls, cuts what cannot end, and gives the grammar away. PR_ERR_REQUEST: it is too large,
// matches nothing, or calls itself before any byte.
pr_status pr_grammar_builder_finish(
    pr_grammar_builder *builder, int32_t start, pr_grammar **grammar) PR_MUST_CHECK;

#endif
