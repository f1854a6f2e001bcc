// SPDX-License-Identifier: BSD-3-Clause
// Which tokens may come next: for a state of a grammar, one bit per token that is set when all of the
// token's bytes fit. Masks are kept in a cache of bounded memory, the least recently used one is replaced.
//
//   state --blurred--> found in the cache, or: walk the tree of tokens, byte by byte, with the automaton
//                      made deterministic on the way (states numbered, transitions kept in a table)
//
// States that differ only in counts that no token can reach share a mask.
// Cost: found: the state's hash. Not found: a few nanoseconds per node of the tree that fits, one step of
// the matcher per new state and byte. All memory is taken at create; most of it is touched only when used.
// Threads: one per thread.
#ifndef PR_RUNTIME_SAMPLING_TOKEN_MASK_H
#define PR_RUNTIME_SAMPLING_TOKEN_MASK_H

#include "runtime/grammar/matcher.h"
#include "runtime/sampling/token_trie.h"

typedef struct pr_token_masks pr_token_masks;

typedef struct pr_token_masks_params {
    const pr_token_bytes *table;  // borrowed
    int32_t vocabulary;           // bits of a mask; ids beyond the table's have none
    int64_t cache_bytes;
} pr_token_masks_params;

typedef struct pr_token_mask {
    const uint64_t *bit;  // [ceil(V / 64)]; valid until the next find
    bool any;             // a bit is set
} pr_token_mask;

typedef struct pr_token_masks_counts {
    int64_t found, made, states, flushes;
} pr_token_masks_counts;

pr_status
pr_token_masks_create(const pr_token_masks_params *params, pr_token_masks **masks) PR_MUST_CHECK;
void pr_token_masks_destroy(pr_token_masks *masks);

// `serial` names the grammar: never the same for two.
void pr_token_masks_find(
    pr_token_masks *masks,
    const pr_grammar *grammar,
    uint64_t serial,
    const pr_matcher_state *state,
    pr_token_mask *mask);

// The state after a token; false, with the state unchanged, when it does not fit.
bool pr_token_masks_advance(
    pr_token_masks *masks, const pr_grammar *grammar, int32_t token, pr_matcher_state *state);

// The state before the first token.
void pr_token_masks_begin(
    pr_token_masks *masks, const pr_grammar *grammar, pr_matcher_state *state);

pr_token_masks_counts pr_token_masks_count(const pr_token_masks *masks);

#endif
