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
#ifndef PR_SCHEDULER_COST_MODEL_H
#define PR_SCHEDULER_COST_MODEL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct pr_cost_model {
    double chunk_s, chunk_token_s, chunk_pair_s;     // a, b, c
    double step_s, step_sequence_s, step_context_s;  // d0, d1, d2
    double transfer_s, transfer_bytes_per_s;         // alpha, beta
    double kv_bytes_per_token;                       // kappa
    int32_t chunk_tokens;                            // most new tokens of one prefill chunk
    int32_t max_batch;                               // sequences of one decode group
    int64_t capacity_tokens;                         // KV of one decode group
} pr_cost_model;

// "a100-llama3-70b", "h100-llama3-70b"; NULL for an unknown name. *validated: false where the
// constants come from an analytic term rather than a measurement.
const pr_cost_model *pr_cost_model_named(const char *name);

double pr_cost_model_chunk_s(const pr_cost_model *model, int32_t tokens, int32_t before);
double pr_cost_model_prefill_s(const pr_cost_model *model, int32_t tokens, int32_t cached);
double pr_cost_model_step_s(const pr_cost_model *model, int32_t sequences, int64_t context);
double pr_cost_model_transfer_s(const pr_cost_model *model, int64_t tokens);

#endif
