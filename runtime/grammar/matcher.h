// SPDX-License-Identifier: BSD-3-Clause
// Walks a grammar byte by byte. A state is a set of stacks, each with a node on top that waits for a byte,
// and whether the text may end here:
//
//     {"a": 1|                      { [object after a] [digits] , [object after a] }     ends: no
//
// Stacks are sorted by their hash, so equal sets are equal bytes. Sets are small: several stacks mean that
// the text so far can be read in several ways. There is a limit, PR_MATCHER_MAX_STACKS (and one on the sum
// of the stacks); ways beyond it are forgotten. What is left is still right: every way can reach an end.
//
// Cost: a byte costs some hundred nanoseconds per stack. No memory is taken after create.
// Threads: none of its own; a scratch serves one thread.
#ifndef PR_RUNTIME_GRAMMAR_MATCHER_H
#define PR_RUNTIME_GRAMMAR_MATCHER_H

#include <stdbool.h>

#include "runtime/grammar/grammar.h"

enum { PR_MATCHER_MAX_STACKS = 256, PR_MATCHER_MAX_FRAMES = 2048 };

typedef struct pr_matcher_frame {
    int32_t node, count;
} pr_matcher_frame;

typedef struct pr_matcher_stack {
    uint64_t hash;
    int32_t first, depth;  // its frames, the lowest first
} pr_matcher_stack;

typedef struct pr_matcher_state {
    int32_t stacks, frames;
    bool ends;
    pr_matcher_stack stack[PR_MATCHER_MAX_STACKS];
    pr_matcher_frame frame[PR_MATCHER_MAX_FRAMES];
} pr_matcher_state;

typedef struct pr_matcher_scratch pr_matcher_scratch;

pr_status pr_matcher_scratch_create(pr_matcher_scratch **scratch) PR_MUST_CHECK;
void pr_matcher_scratch_destroy(pr_matcher_scratch *scratch);

// The state before the first byte.
void pr_matcher_begin(
    const pr_grammar *grammar, pr_matcher_scratch *scratch, pr_matcher_state *state);
// The state after one more byte, which may be written over `from`. Without stacks and ends: none fits.
void pr_matcher_step(
    const pr_grammar *grammar,
    pr_matcher_scratch *scratch,
    const pr_matcher_state *from,
    uint8_t byte,
    pr_matcher_state *to);

// As a run of steps; false, with the state unchanged, when the bytes do not fit.
bool pr_matcher_advance(
    const pr_grammar *grammar,
    pr_matcher_scratch *scratch,
    pr_matcher_state *state,
    const uint8_t *bytes,
    int32_t size_bytes);

// Counts that no text of at most `horizon` bytes can tell apart become equal.
void pr_matcher_blur(const pr_grammar *grammar, pr_matcher_state *state, int32_t horizon);

// Two hashes of the whole state.
void pr_matcher_hash(const pr_matcher_state *state, uint64_t hash[2]);

static inline bool pr_matcher_is_dead(const pr_matcher_state *state)
{
    return state->stacks == 0 && !state->ends;
}

// Copies what is used of a state.
void pr_matcher_copy(const pr_matcher_state *from, pr_matcher_state *to);

#endif
