// SPDX-License-Identifier: BSD-3-Clause
// From one row of logits to one token: bias, penalties, the grammar's mask, temperature, min-p, top-k,
// top-p, draw.
// The random number depends on (seed, choice, position) only: a counter-based generator (Philox
// 4x32-10; Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011). Greedy: the
// largest logit, ties to the lowest token. Order of operations and vLLM's meaning of each field:
// docs/sampling.md. Everything is in a fixed order with our own exp and log, so bytes do not depend
// on the layout.
// Threads: one sampler per thread. Memory: taken at create; draw takes none.
#ifndef PR_RUNTIME_SAMPLING_SAMPLER_H
#define PR_RUNTIME_SAMPLING_SAMPLER_H

#include "runtime/batch/plan.h"
#include "runtime/batch/request.h"

typedef struct pr_sampler pr_sampler;

typedef struct pr_sampler_args {
    const pr_sampling *sampling;
    const int32_t *prompt;  // [prompt_tokens]
    int32_t prompt_tokens;
    const int32_t *output;  // [outputs] generated so far
    int32_t outputs;        // = index of the token to draw
    float *logits;          // [V], changed
    // Of a grammar; NULL: any token. Stop tokens stand apart from the bits.
    const uint64_t *allowed;  // [ceil(V / 64)]
    bool may_stop;            // stop tokens are allowed, too
    bool must_stop;           // no bit is set: min_tokens does not hold
} pr_sampler_args;

typedef struct pr_sampled {
    int32_t token;
    float logprob;                        // if sampling->top_logprobs >= 0
    int32_t tops;                         // = top_logprobs, or 0
    pr_logprob top[PR_MAX_TOP_LOGPROBS];  // from log-softmax of the logits as given
} pr_sampled;

pr_status pr_sampler_create(int32_t vocabulary, pr_sampler **sampler) PR_MUST_CHECK;
void pr_sampler_destroy(pr_sampler *sampler);
void pr_sampler_draw(pr_sampler *sampler, const pr_sampler_args *args, pr_sampled *sampled);

// Scores a token that is given, not drawn: its logprob and the `tops` most likely ones, bit by bit as
// draw reports them. A token outside of the vocabulary has -infinity.
void pr_sampler_score(
    pr_sampler *sampler,
    const float *logits,  // [V]
    int32_t token,
    int32_t tops,  // 0..20
    pr_sampled *sampled);

// Whether `token` as output number `index` ends the sequence (stop tokens, max_tokens).
pr_finish pr_sampler_finish(const pr_sampling *sampling, int32_t index, int32_t token);

// Philox 4x32-10, for tests against the published vectors.
void pr_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
