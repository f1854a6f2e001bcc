// SPDX-License-Identifier: BSD-3-Clause
// The states that walks of the token tree meet, numbered, with a table of transitions: what has been
// stepped once is a look-up from then on. Memory is fixed: when it is full everything is forgotten, and
// states are numbered anew as they come.
// Threads: one per thread. Source: lazy determinisation as in RE2 (Cox 2010).
#ifndef PR_RUNTIME_SAMPLING_TOKEN_AUTOMATON_H
#define PR_RUNTIME_SAMPLING_TOKEN_AUTOMATON_H

#include "runtime/grammar/matcher.h"

enum { PR_AUTOMATON_DEAD = 0, PR_AUTOMATON_UNKNOWN = 0xffff };

typedef struct pr_token_automaton {
    const pr_grammar *grammar;
    uint64_t serial;
    pr_matcher_scratch *scratch;
    int32_t states;
    uint16_t (*next)[256];  // [most states]; PR_AUTOMATON_UNKNOWN: not stepped yet
    // Private: the states themselves and a table that finds them.
    uint64_t (*hash)[2];
    size_t *offset;
    uint16_t *slot;
    unsigned char *memory;
    size_t memory_used;
    pr_matcher_state loaded, stepped;
    int64_t flushes, made;
} pr_token_automaton;

pr_status pr_token_automaton_create(pr_token_automaton **automaton) PR_MUST_CHECK;
void pr_token_automaton_destroy(pr_token_automaton *automaton);

// Forgets everything unless it is this grammar's.
void pr_token_automaton_use(
    pr_token_automaton *automaton, const pr_grammar *grammar, uint64_t serial);
void pr_token_automaton_flush(pr_token_automaton *automaton);

// The state's number; false when there is no room (flush and begin again).
bool pr_token_automaton_enter(
    pr_token_automaton *automaton, const pr_matcher_state *state, uint16_t *number);
// Fills next[from][byte]; false when there is no room.
bool pr_token_automaton_step(pr_token_automaton *automaton, uint16_t from, uint8_t byte);

#endif
