// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/engine/memory_budget.h"

#include <stdio.h>
#include <string.h>

#include "launcher/placement/topology.h"
#include "runtime/base/log.h"
#include "runtime/cache/kv_store.h"
#include "runtime/model/shard.h"

enum { FIXED_WORK_BYTES = 48 << 20 };  // an allowance for the program, MPI and the tokenizer

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

void pr_memory_text(int64_t bytes, char text[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double)bytes;
    int unit = 0;
    for (; (value >= 1024 || value <= -1024) && unit < 5; unit++)
        value /= 1024;
    snprintf(text, 24, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static pr_dtype find_weight_dtype(const pr_weights *weights)
{
    static const char name[] = "model.layers.0.self_attn.q_proj.weight";
    const pr_packed_tensor *packed = weights ? pr_weights_find_packed(weights, name) : NULL;
    const pr_tensor *tensor = weights ? pr_weights_find(weights, name) : NULL;
    return packed ? packed->shape.dtype : tensor ? tensor->dtype : PR_BF16;
}

pr_quantization pr_memory_quantization(const pr_memory_facts *facts)
{
    pr_quantization wanted = pr_options_quantization(facts->options);
    return wanted == PR_QUANTIZATION_NONE ? facts->converted : wanted;
}

pr_status pr_memory_facts_fill(
    const pr_options *options,
    const pr_model *model,
    const pr_weights *weights,
    const pr_device *device,
    int32_t sharers,
    pr_memory_facts *facts)
{
    int32_t length = options->max_model_len ? options->max_model_len : model->max_positions;
    if (length > model->max_positions)
        return pr_fail(
            PR_ERR_ARGUMENT, "--max-model-len %d: the model has %d positions", (int)length,
            (int)model->max_positions);
    int64_t memory = options->memory;
    if (memory == 0) {
        pr_topology topology;
        pr_topology_read(&topology);
        int64_t free_bytes = device->is_host ? topology.available_bytes : device->free_bytes;
        memory = free_bytes / sharers / 10 * 9;
    }
    *facts = (pr_memory_facts){
        .options = options,
        .model = model,
        .weight_dtype = find_weight_dtype(weights),
        .converted = weights ? pr_weights_quantization(weights) : PR_QUANTIZATION_NONE,
        .matrix_bytes = device->matrix_bytes,
        .has_table = !device->is_host,
        .memory_bytes = memory,
        .max_model_len = length,
    };
    return PR_OK;
}

// Bytes of a packed matrix, quantised as the user wants it.
static int64_t packed_bytes(const pr_memory_facts *facts, int64_t rows, int64_t cols)
{
    return (int64_t)facts->matrix_bytes(
        rows, cols, facts->weight_dtype, pr_memory_quantization(facts));
}

static int64_t head_bytes(const pr_memory_facts *facts, int32_t tp)
{
    const pr_model *m = facts->model;
    return (int64_t)facts->matrix_bytes(
        divide_up(m->vocabulary, tp), m->hidden, facts->weight_dtype,
        pr_shard_head_quantization(pr_memory_quantization(facts)));
}

static int64_t layer_bytes(const pr_memory_facts *facts, int32_t layer, int32_t experts, int32_t tp)
{
    const pr_model *m = facts->model;
    int64_t hidden = m->hidden, query = (int64_t)m->query_heads * m->head_size / tp;
    int64_t kv = (int64_t)m->kv_heads * m->head_size / tp;
    int64_t bytes = packed_bytes(facts, query, hidden) + 2 * packed_bytes(facts, kv, hidden) +
                    packed_bytes(facts, hidden, query) + 8 * hidden;
    if (m->experts == 0 || !m->layer_is_moe[layer]) {
        int64_t inner = m->inner / tp;
        return bytes + 2 * packed_bytes(facts, inner, hidden) + packed_bytes(facts, hidden, inner);
    }
    int64_t expert = 2 * packed_bytes(facts, m->expert_inner, hidden) +
                     packed_bytes(facts, hidden, m->expert_inner);
    int64_t gate =
        (int64_t)facts->matrix_bytes(m->experts, hidden, facts->weight_dtype, PR_QUANTIZATION_NONE);
    return bytes + gate + experts * expert;
}

int64_t pr_memory_weight_bytes(const pr_memory_facts *facts, int32_t experts, int32_t tp)
{
    const pr_model *m = facts->model;
    int64_t bytes = head_bytes(facts, tp);
    if (facts->has_table)
        bytes += (int64_t)facts->matrix_bytes(
            m->vocabulary, m->hidden, facts->weight_dtype, PR_QUANTIZATION_NONE);
    for (int32_t i = 0; i < m->layers; i++)
        bytes += layer_bytes(facts, i, experts, tp);
    return bytes;
}

// What forward.c and its layers, and the expert exchange in comm, take at creation.
static int64_t
count_work_bytes(const pr_memory_facts *facts, int32_t ranks, int32_t tp, int32_t experts)
{
    const pr_model *m = facts->model;
    int64_t tokens = facts->options->max_num_batched_tokens, hidden = m->hidden;
    int64_t heads = (int64_t)(m->query_heads + m->kv_heads) * m->head_size / tp;
    int64_t logits = hidden + 2 * (int64_t)m->vocabulary;
    int64_t floats = tokens * (3 * hidden + 2 * heads + 2 * (int64_t)m->inner / tp) +
                     facts->options->max_num_seqs * logits +
                     (int64_t)facts->max_model_len * m->head_size;  // rotary tables
    if (m->experts) {
        int64_t arrivals = tokens * m->experts_chosen * (ranks / tp);
        int32_t here = experts < m->experts_chosen ? experts : m->experts_chosen;
        int64_t received = tokens * here * (ranks / tp);
        floats += tokens * (m->experts + m->experts_chosen * (hidden + 4)) + 2 * arrivals * hidden +
                  received * (hidden + 2 * (int64_t)m->expert_inner);
    }
    return 4 * floats + FIXED_WORK_BYTES;
}

void pr_memory_budget_of(
    const pr_memory_facts *facts, int32_t ranks, int32_t tp, pr_memory_budget *budget)
{
    const pr_model *m = facts->model;
    const pr_options *options = facts->options;
    *budget = (pr_memory_budget){.experts = (int32_t)divide_up(m->experts, ranks)};
    budget->weight_bytes = pr_memory_weight_bytes(facts, budget->experts, tp);
    budget->work_bytes = count_work_bytes(facts, ranks, tp, budget->experts);
    pr_kv_store_params store = {
        .layers = m->layers,
        .block_tokens = options->block_size,
        .kv_heads = m->kv_heads / tp,
        .head_size = m->head_size,
        .dtype = pr_options_kv_dtype(options, facts->weight_dtype),
    };
    budget->block_bytes = (int64_t)pr_kv_store_block_bytes(&store);
    int64_t left = facts->memory_bytes - budget->weight_bytes - budget->work_bytes;
    budget->blocks_fit = left / budget->block_bytes;
    budget->blocks_least = divide_up(facts->max_model_len, options->block_size);
    budget->blocks_useful = budget->blocks_least * options->max_num_seqs;
}

// Why not even one sequence fits, with the length that would.
static pr_status fail_too_full(
    const pr_memory_facts *facts, const pr_group_layout *group, const pr_memory_budget *budget)
{
    char memory[24], weights[24], work[24], sequence[24];
    pr_memory_text(facts->memory_bytes, memory);
    pr_memory_text(budget->weight_bytes, weights);
    pr_memory_text(budget->work_bytes, work);
    pr_memory_text(budget->blocks_least * budget->block_bytes, sequence);
    if (budget->blocks_fit <= 0)
        return pr_fail(
            PR_ERR_RESOURCE,
            "a rank has %s, but its weights take %s and working memory %s in a group of %d ranks "
            "with "
            "tp %d: use more ranks or a larger tp, lower --max-num-batched-tokens or "
            "--max-num-seqs, or raise --memory",
            memory, weights, work, (int)group->ranks, (int)group->tp);
    return pr_fail(
        PR_ERR_RESOURCE,
        "a rank has %s; beside weights (%s) and working memory (%s) one sequence of %d tokens "
        "needs "
        "%s of KV: lower --max-model-len to %lld, use a larger tp, or raise --memory",
        memory, weights, work, (int)facts->max_model_len, sequence,
        (long long)budget->blocks_fit * facts->options->block_size);
}

pr_status
pr_memory_budget_blocks(const pr_memory_facts *facts, const pr_layout *layout, int32_t *blocks)
{
    int64_t given = facts->options->kv_blocks;
    int64_t least = INT32_MAX;
    for (int32_t i = 0; i < layout->groups; i++) {
        const pr_group_layout *group = &layout->group[i];
        pr_memory_budget budget;
        pr_memory_budget_of(facts, group->ranks, group->tp, &budget);
        if (given && given < budget.blocks_least)
            return pr_fail(
                PR_ERR_ARGUMENT, "--kv-blocks %lld: one sequence of %d tokens needs %lld blocks",
                (long long)given, (int)facts->max_model_len, (long long)budget.blocks_least);
        if (!given && budget.blocks_fit < budget.blocks_least)
            return fail_too_full(facts, group, &budget);
        int64_t most =
            budget.blocks_fit < budget.blocks_useful ? budget.blocks_fit : budget.blocks_useful;
        if (most < least)
            least = most;
    }
    *blocks = (int32_t)(given ? given : least);
    return PR_OK;
}
