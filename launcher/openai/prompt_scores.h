// SPDX-License-Identifier: BSD-3-Clause
// Logprobs of one prompt's tokens, as `echo` with `logprobs` wants them: collected from reports in any order,
// then put before those of the answer. All choices of the prompt show the same: choice 0 computes them.
//
//   prompt   t0    t1       t2       t3       index 0..3
//   score    none  t1|t0    t2|t0t1  ...      from pr_prompt_logprob
//
// Threads: one at a time. Memory: tokens * (24 + 8 * tops) bytes, at begin.
#ifndef PR_LAUNCHER_OPENAI_PROMPT_SCORES_H
#define PR_LAUNCHER_OPENAI_PROMPT_SCORES_H

#include "launcher/openai/logprob_lists.h"
#include "launcher/request/completion_request.h"

typedef struct pr_prompt_score {
    bool known;
    int32_t tops;
    pr_logprob own;      // of the prompt's token
    size_t text_offset;  // characters, in what `echo` puts before the answer
} pr_prompt_score;

typedef struct pr_prompt_scores {
    const pr_prompt *prompt;  // borrowed
    int32_t most_tops;
    size_t text_characters;  // of the echo
    pr_prompt_score *score;  // [tokens]
    pr_logprob *top;         // [tokens][most_tops]
} pr_prompt_scores;

pr_status pr_prompt_scores_begin(
    const pr_prompt *prompt,
    const pr_tokenizer *tokenizer,
    int32_t most_tops,
    pr_prompt_scores *scores) PR_MUST_CHECK;
void pr_prompt_scores_end(pr_prompt_scores *scores);

// What a request that asks for prompt logprobs needs besides, once its ids and salt are set: a salt of its
// own, for what a prefix cache spares has no logits; and only choice 0 asks.
void pr_prompt_scores_prepare(pr_request *request);

// A second report of a token (after a preemption) says the same. One that does not fit is ignored.
void pr_prompt_scores_add(pr_prompt_scores *scores, const pr_prompt_logprob *entry);

// Appends the prompt's tokens, those that nothing was reported of without a logprob.
void pr_prompt_scores_list(
    const pr_prompt_scores *scores, const pr_tokenizer *tokenizer, pr_logprob_lists *lists);

#endif
