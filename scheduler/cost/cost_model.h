// SPDX-License-Identifier: BSD-3-Clause
// How long a group's work takes: the constants by which the scheduler predicts, the simulator tells
// time, and `plan` compares layouts. All in seconds and tokens, float64.
//
//   prefill(n, h): while h < n:  m = min(chunk_tokens, n - h)
//                                t += a + b m + c (m h + m^2 / 2);  h += m
//   step(B, K)   = d0 + d1 B + d2 K             B sequences that hold K tokens in all
//   transfer(t)  = alpha + t kappa / beta
//
// Source: the shape of DistServe's and Llumnix's latency models (prefill quadratic in length, decode
// linear in batch and context); the constants of the named machines are least-squares fits of
// published operator profiles (vidur, data/profiling), see docs/scheduling.md.
// Threads: any; plain records.
#ifndef PR_SCHEDULER_COST_COST_MODEL_H
#define PR_SCHEDULER_COST_COST_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_cost_model {
    double chunk_s, chunk_token_s, chunk_pair_s;     // a, b, c
    double step_s, step_sequence_s, step_context_s;  // d0, d1, d2
    double transfer_s, transfer_bytes_per_s;         // alpha, beta
    double kv_bytes_per_token;                       // kappa
    int32_t chunk_tokens;                            // most new tokens of one prefill chunk
    int32_t max_batch;                               // sequences of one decode group
    int64_t capacity_tokens;                         // KV of one decode group
} pr_cost_model;

// "a100-llama3-70b", "h100-llama3-70b"; NULL for an unknown name. c, d2, alpha and beta of both are
// analytic terms, the rest is fitted to measured operators.
const pr_cost_model *pr_cost_model_named(const char *name);

// "NAME", or "NAME,KEY=NUMBER,..": a named model with some constants replaced. The keys are the letters
// above (a b c d0 d1 d2 alpha beta kappa) and chunk, batch, capacity. Errors: PR_ERR_ARGUMENT.
pr_status pr_cost_model_parse(const char *text, pr_cost_model *model) PR_MUST_CHECK;

// Replaces constants by the "KEY=NUMBER,.." of overrides; "" replaces none.
pr_status pr_cost_model_override(const char *overrides, pr_cost_model *model) PR_MUST_CHECK;

double pr_cost_model_chunk_s(const pr_cost_model *model, int32_t tokens, int32_t before);
double pr_cost_model_prefill_s(const pr_cost_model *model, int32_t tokens, int32_t cached);
double pr_cost_model_step_s(const pr_cost_model *model, int32_t sequences, int64_t context);
double pr_cost_model_transfer_s(const pr_cost_model *model, int64_t tokens);

#endif
