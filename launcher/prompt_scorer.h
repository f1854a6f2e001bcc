// SPDX-License-Identifier: BSD-3-Clause
// The tokens of prompts whose logprobs are wanted (pr_sampling.prompt_logprobs), in one rank: noted while
// a step is composed, scored after it, as many rows at a time as the forward pass has room for logits.
//
//   rows of a chunk     r0   r1   r2   r3           position  start .. start + 3
//   what they predict   t1   t2   t3   output       r_i: token start + i + 1 of the prompt
//
// Cost: a row of the head and V exponentials a token, the latter on the lane's leader only.
// Memory: taken at create. Threads: the worker's. Collective over the lane: all its ranks note the same.
#ifndef PR_LAUNCHER_PROMPT_SCORER_H
#define PR_LAUNCHER_PROMPT_SCORER_H

#include "launcher/slot.h"
#include "runtime/model/forward.h"
#include "runtime/sampling/sampler.h"

typedef struct pr_prompt_scorer pr_prompt_scorer;

typedef struct pr_prompt_scorer_params {
    pr_forward *forward;  // borrowed, as is the sampler
    pr_sampler *sampler;
    int32_t vocabulary;
    int32_t max_rows;      // of one step
    int32_t rows_at_once;  // the forward's max_outputs
    bool leads;            // this rank reports; on others entries have no logprobs
} pr_prompt_scorer_params;

pr_status pr_prompt_scorer_create(const pr_prompt_scorer_params *params, pr_prompt_scorer **scorer)
    PR_MUST_CHECK;
void pr_prompt_scorer_destroy(pr_prompt_scorer *scorer);

// Forgets the step before.
void pr_prompt_scorer_begin(pr_prompt_scorer *scorer);

// Tokens [start, start + count) of the sequence are the step's rows from first_row on. No effect if the
// request wants no prompt logprobs.
void pr_prompt_scorer_note(
    pr_prompt_scorer *scorer, const pr_slot *slot, int32_t first_row, int32_t start, int32_t count);

// After the step: the next of the noted tokens, valid until the next call; none: all are done.
// Overwrites the forward's logits.
pr_status pr_prompt_scorer_next(
    pr_prompt_scorer *scorer,
    int32_t *entries,
    const pr_prompt_logprob **entry) PR_MUST_CHECK;  // [entries]

#endif
