// SPDX-License-Identifier: BSD-3-Clause
// Prompts for a trace that has none: tokens made of its block ids, so that requests which share blocks
// in the trace share tokens, and prefix caches see what they would have seen.
//
//   trace    |  block id a, 512 tokens  |  block id b, 512  | c, 100 |     1124 tokens
//   prompt   | 8 tokens made of a | 8 of b | 2 of c |                     18 tokens at scale 64
// A request without ids shares nothing: its tokens are made of its number. The same trace gives the same
// prompts. Tokens come from the middle half of the vocabulary, away from special ones.
#ifndef PR_LAUNCHER_BENCH_BENCH_PROMPT_H
#define PR_LAUNCHER_BENCH_BENCH_PROMPT_H

#include "launcher/simulate/trace.h"

typedef struct pr_bench_scale {
    int32_t tokens;        // lengths are divided by it
    int32_t block_tokens;  // of the trace
    int32_t vocabulary;
} pr_bench_scale;

// At least 1, rounded up.
int32_t pr_bench_prompt_tokens(const pr_bench_scale *scale, const pr_trace_request *request);
int32_t pr_bench_prompt_outputs(const pr_bench_scale *scale, const pr_trace_request *request);

void pr_bench_prompt_fill(
    const pr_bench_scale *scale,
    const pr_trace_request *request,
    int64_t number,   // of the request
    int32_t *token);  // [pr_bench_prompt_tokens]

#endif
