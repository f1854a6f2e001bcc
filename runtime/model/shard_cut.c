// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/shard_cut.h"

#include "runtime/base/log.h"

// ---- who holds what --------------------------------------------------------------------------

static pr_shard_range part(int64_t length, int32_t parts, int32_t number)
{
    return (pr_shard_range){length * number / parts, length * (number + 1) / parts};
}

pr_shard_range pr_shard_cut(const pr_place *place, int64_t length)
{
    return part(length, place->tp, place->tp_rank);
}

pr_shard_range pr_shard_cut_experts(const pr_place *place, int32_t experts)
{
    return part(experts, place->ranks, place->rank);
}

static bool has_dense_layer(const pr_model *model)
{
    for (int32_t i = 0; i < model->layers; i++)
        if (!model->layer_is_moe[i])
            return true;
    return false;
}

// NULL if the model can be cut in tp parts, else the name of the dimension that cannot.
static const char *uncut_dimension(const pr_model *model, int32_t tp, int32_t *length)
{
    const struct {
        const char *name;
        int32_t length;
    } cuts[] = {
        {"num_attention_heads", model->query_heads},
        {"num_key_value_heads", model->kv_heads},
        {"intermediate_size", has_dense_layer(model) ? model->inner : 0},
    };
    for (int i = 0; i < 3; i++) {
        if (cuts[i].length % tp != 0) {
            *length = cuts[i].length;
            return cuts[i].name;
        }
    }
    return NULL;
}

pr_status pr_shard_check(const pr_model *model, const pr_place *place)
{
    int32_t tp = place->tp, length = 0;
    if (tp != 1 && tp != 2 && tp != 4 && tp != 8)
        return pr_fail(PR_ERR_ARGUMENT, "tp is %d: 1, 2, 4 and 8 are possible", tp);
    if (place->ranks < 1 || place->ranks % tp != 0) {
        return pr_fail(
            PR_ERR_ARGUMENT,
            "a group of %d ranks cannot be cut by tp %d: the ranks must be a "
            "multiple of tp",
            place->ranks, tp);
    }
    if (place->tp_rank < 0 || place->tp_rank >= tp || place->rank < 0 ||
        place->rank >= place->ranks) {
        return pr_fail(
            PR_ERR_ARGUMENT, "rank %d of %d with tp rank %d of %d does not exist", place->rank,
            place->ranks, place->tp_rank, tp);
    }
    const char *name = uncut_dimension(model, tp, &length);
    if (!name)
        return PR_OK;
    int32_t nearest = tp, ignored;
    while (uncut_dimension(model, nearest, &ignored))
        nearest /= 2;
    return pr_fail(
        PR_ERR_ARGUMENT, "%s: %s is %d, not divisible by tp %d: tp %d fits this model", model->path,
        name, length, tp, nearest);
}

// ---- bytes from the config alone -------------------------------------------------------------

static int64_t layer_elements(const pr_model *model, const pr_place *place, int32_t layer)
{
    int64_t hidden = model->hidden, tp = place->tp;
    int64_t queries = (int64_t)model->query_heads * model->head_size / tp;
    int64_t keys = (int64_t)model->kv_heads * model->head_size / tp;
    int64_t elements = 2 * hidden;                         // the norms
    elements += 2 * hidden * queries + 2 * hidden * keys;  // q, o, k, v
    elements += model->qkv_bias ? queries + 2 * keys : 0;
    elements += model->output_bias ? hidden : 0;
    elements += model->qk_norm ? 2 * model->head_size : 0;
    if (!model->layer_is_moe[layer])
        return elements + 3 * hidden * (model->inner / tp);
    pr_shard_range experts = pr_shard_cut_experts(place, model->experts);
    return elements + hidden * model->experts +
           (experts.end - experts.begin) * 3 * hidden * model->expert_inner;
}

int64_t pr_shard_predict_bytes(const pr_model *model, const pr_place *place, pr_dtype dtype)
{
    pr_shard_range head = pr_shard_cut(place, model->vocabulary);
    int64_t elements = model->hidden + (head.end - head.begin) * model->hidden;
    for (int32_t layer = 0; layer < model->layers; layer++)
        elements += layer_elements(model, place, layer);
    return elements * (int64_t)pr_dtype_bytes(dtype);
}
