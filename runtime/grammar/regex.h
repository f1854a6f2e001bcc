// SPDX-License-Identifier: BSD-3-Clause
// Regular expressions: text to a tree, a tree to grammar. The language is what ECMA 262 and Python agree on:
// alternation, groups, classes, ? * + {m,n} (lazy or not: it matches the same texts), escapes; anchors at the
// ends only. What cannot be told from left to right by an automaton (look-around, back references, word
// boundaries) and what needs tables of Unicode (\p) is refused by name.
//
//     a(b|c){2,3}      CONCAT( SET a, REPEAT 2..3 ( ALT( SET b, SET c ) ) )
//
// The tree is an array of nodes; children are chained by `next`.
// Cost: linear in the text. Threads: none of its own.
#ifndef PR_RUNTIME_GRAMMAR_REGEX_H
#define PR_RUNTIME_GRAMMAR_REGEX_H

#include "runtime/grammar/json_rules.h"

typedef enum pr_regex_op {
    PR_REGEX_SET,
    PR_REGEX_CONCAT,
    PR_REGEX_ALT,
    PR_REGEX_REPEAT,
    PR_REGEX_BEGIN,  // ^
    PR_REGEX_END,    // $
} pr_regex_op;

typedef struct pr_regex_node {
    pr_regex_op op;
    int32_t child, next;  // -1: none
    int32_t min, max;     // REPEAT; max -1: no limit
    int32_t set;          // SET
} pr_regex_node;

typedef struct pr_regex {
    pr_byte_buffer node;  // pr_regex_node[]
    pr_byte_buffer set;   // pr_code_points[], normalised
    int32_t root;         // an ALT of CONCATs
} pr_regex;

// PR_ERR_REQUEST, with the place and what is wrong there. `what` begins the line. Free also after an error.
pr_status pr_regex_parse(const char *what, const char *text, size_t size_bytes, pr_regex *regex)
    PR_MUST_CHECK;
void pr_regex_free(pr_regex *regex);

// Fewest and most code points that a match of the whole has; max -1: no limit.
void pr_regex_length(const pr_regex *regex, int32_t *min, int32_t *max);

typedef enum pr_regex_use {
    PR_REGEX_WHOLE,        // the text matches from its beginning to its end; anchors change nothing
    PR_REGEX_JSON_WHOLE,   // the same, as the inside of a JSON string
    PR_REGEX_JSON_SEARCH,  // the inside of a JSON string in which it matches somewhere
} pr_regex_use;

// What matches, followed by `next`.
pr_status pr_regex_build(
    const char *what,
    const pr_regex *regex,
    pr_regex_use use,
    pr_json_rules *rules,
    int32_t next,
    int32_t *start) PR_MUST_CHECK;

#endif
