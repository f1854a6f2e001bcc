// SPDX-License-Identifier: BSD-3-Clause
// A compiled grammar: a pushdown automaton over bytes. Its states are stacks of frames (node, count); the
// top frame's node says what may come, the ones below where to go on after a return.
//
//   EDGES    one byte, along an edge whose range holds it
//   SPLIT    on at next or at other
//   CALL     other until it returns, then next
//   REPEAT   the body `other` min..max times (max -1: no limit), then next; the frame counts
//   RETURN   the end of a call, of a body, or, on the lowest frame, of the text
//
// Every node can reach the end: branches that cannot are cut when the grammar is compiled. `need` is how
// many frames the shallowest way to the node's RETURN adds, so a matcher that keeps to
// PR_GRAMMAR_MAX_DEPTH never gets stuck (runtime/grammar/matcher.h).
//
// Source: ours. Pushdown matching of schemas by bytes with masks over tokens: Willard, Louf 2023
// (arXiv:2307.09702); Dong et al. 2024 (XGrammar, arXiv:2411.15100).
// Cost: compiling takes time and memory linear in the text, up to PR_GRAMMAR_MAX_NODES nodes.
// Threads: immutable once compiled.
#ifndef PR_RUNTIME_GRAMMAR_GRAMMAR_H
#define PR_RUNTIME_GRAMMAR_GRAMMAR_H

#include <stddef.h>

#include "runtime/base/status.h"
#include "runtime/grammar/grammar_source.h"

enum {
    PR_GRAMMAR_MAX_NODES = 1 << 18,
    PR_GRAMMAR_MAX_EDGES = 1 << 20,
    PR_GRAMMAR_MAX_DEPTH = 96,      // frames of one stack
    PR_GRAMMAR_MAX_NESTING = 48,    // of schemas in schemas and groups in groups
    PR_GRAMMAR_MAX_REPEAT = 65536,  // in a regular expression
};

typedef enum pr_grammar_op {
    PR_GRAMMAR_RETURN,
    PR_GRAMMAR_EDGES,
    PR_GRAMMAR_SPLIT,
    PR_GRAMMAR_CALL,
    PR_GRAMMAR_REPEAT,
} pr_grammar_op;

typedef struct pr_grammar_edge {
    uint8_t low, high;  // inclusive
    int32_t next;
} pr_grammar_edge;

typedef struct pr_grammar_node {
    pr_grammar_op op;
    int32_t next;  // SPLIT, CALL, REPEAT
    int32_t
        other;    // EDGES: the first edge; SPLIT: node; CALL, REPEAT: first node of what is called
    int32_t min;  // REPEAT
    int32_t max;  // REPEAT; EDGES: how many
    int32_t need;
} pr_grammar_node;

typedef struct pr_grammar {
    int32_t nodes, edges, start;
    pr_grammar_node *node;  // [nodes]
    pr_grammar_edge *edge;  // [edges]
} pr_grammar;

// PR_ERR_REQUEST, with a line that names what is wrong and where, for whatever the source has wrong.
pr_status pr_grammar_compile(const pr_grammar_source *source, pr_grammar **grammar) PR_MUST_CHECK;
void pr_grammar_destroy(pr_grammar *grammar);

#endif
