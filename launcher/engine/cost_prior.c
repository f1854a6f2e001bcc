// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/engine/cost_prior.h"

// Orders of magnitude: float32 products of a core, memory of one socket, messages between two processes.
// A gather also waits for two plans and a report.
static const double FLOPS = 20e9, MEMORY_BYTES_PER_S = 10e9, TRANSFER_BYTES_PER_S = 1e9;
static const double STEP_S = 0.5e-3, TRANSFER_S = 1e-3;

// Weights that one token is multiplied with.
static double active_weights(const pr_model *model)
{
    double hidden = model->hidden, head = model->head_size;
    double attention = hidden * head * (2.0 * model->query_heads + 2.0 * model->kv_heads);
    double weights = 0;
    for (int32_t layer = 0; layer < model->layers; layer++) {
        double inner = model->layer_is_moe[layer]
                           ? (double)model->experts_chosen * model->expert_inner
                           : (double)model->inner;
        weights += attention + 3 * hidden * inner;
    }
    return weights;
}

pr_cost_model pr_cost_prior(
    const pr_model *model,
    const pr_options *options,
    pr_dtype kv_dtype,
    int32_t tp,
    int32_t threads,
    int32_t kv_blocks)
{
    double flops = FLOPS * tp * threads;
    double token_s = 2 * active_weights(model) / flops;
    double pair_s = 4.0 * model->layers * model->query_heads * model->head_size / flops;
    double kv_bytes =
        2.0 * model->layers * model->kv_heads * model->head_size * (double)pr_dtype_bytes(kv_dtype);
    return (pr_cost_model){
        .chunk_s = STEP_S,
        .chunk_token_s = token_s,
        .chunk_pair_s = pair_s,
        .step_s = STEP_S,
        .step_sequence_s = token_s,
        .step_context_s = kv_bytes / (MEMORY_BYTES_PER_S * tp),
        .transfer_s = TRANSFER_S,
        .transfer_bytes_per_s = TRANSFER_BYTES_PER_S,
        .kv_bytes_per_token = kv_bytes,
        .chunk_tokens = options->max_num_batched_tokens,
        .max_batch = options->max_num_seqs,
        .capacity_tokens = (int64_t)kv_blocks * options->block_size,
    };
}
