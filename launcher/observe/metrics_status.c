// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/observe/metrics_state.h"

// json_pack gives NULL for what it cannot make; a NULL anywhere makes the whole NULL.

static json_t *pack_requests(const pr_metrics *metrics)
{
    json_t *finished = json_object();
    for (int32_t end = 0; end < PR_REQUEST_ENDS; end++)
        json_object_set_new(finished, pr_request_end_names[end], json_integer(metrics->ended[end]));
    return json_pack(
        "{s:i, s:i, s:o}", "running", pr_metrics_running(metrics), "waiting",
        (int)metrics->now.waiting, "finished", finished);
}

static json_t *pack_tokens(const pr_metrics *metrics, int64_t now_ns)
{
    return json_pack(
        "{s:I, s:I, s:I, s:f, s:f}", "prompt", (json_int_t)metrics->prompt_tokens, "generated",
        (json_int_t)metrics->output_tokens, "cached", (json_int_t)metrics->cached_tokens,
        "prompt_per_s", pr_recent_sum_rate(&metrics->recent_prompt, now_ns), "generated_per_s",
        pr_recent_sum_rate(&metrics->recent_output, now_ns));
}

static json_t *pack_quantiles(const pr_recent_values *recent, int64_t now_ns)
{
    return json_pack(
        "{s:f, s:f, s:f}", "p50", pr_recent_values_quantile(recent, now_ns, 0.5), "p90",
        pr_recent_values_quantile(recent, now_ns, 0.9), "p99",
        pr_recent_values_quantile(recent, now_ns, 0.99));
}

static json_t *pack_latency(const pr_metrics *metrics, int64_t now_ns)
{
    return json_pack(
        "{s:o, s:o, s:o}", "ttft", pack_quantiles(&metrics->recent_ttft, now_ns), "itl",
        pack_quantiles(&metrics->recent_gap, now_ns), "e2e",
        pack_quantiles(&metrics->recent_whole, now_ns));
}

static json_t *pack_kv(const pr_metrics *metrics)
{
    pr_metrics_kv kv = pr_metrics_kv_sum(metrics);
    return json_pack(
        "{s:I, s:I, s:I}", "used_blocks", (json_int_t)kv.used_blocks, "cached_blocks",
        (json_int_t)kv.cached_blocks, "blocks", (json_int_t)kv.blocks);
}

static json_t *pack_group(const pr_metrics *metrics, int32_t index)
{
    const pr_group_snapshot *now = &metrics->now.group[index];
    const pr_metrics_base *base = metrics->base.time_ns > 0 ? &metrics->base : &metrics->next_base;
    double step_ms = 0, tokens_per_s = 0;
    double passed_s = (double)(metrics->now.time_ns - base->time_ns) * 1e-9;
    if (base->time_ns > 0 && passed_s > 0) {
        const pr_group_snapshot *then = &base->group[index];
        int64_t steps = now->steps - then->steps;
        int64_t tokens =
            now->prefill_tokens + now->decode_tokens - then->prefill_tokens - then->decode_tokens;
        step_ms = steps > 0 ? (now->step_s - then->step_s) * 1e3 / (double)steps : 0;
        tokens_per_s = (double)tokens / passed_s;
    }
    return json_pack(
        "{s:i, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:f, s:f}", "index", (int)index, "role",
        pr_role_name(now->role), "first_rank", (int)now->first_rank, "ranks", (int)now->ranks, "tp",
        (int)now->tp, "running", (int)now->running, "kv_used_blocks", (int)now->used_blocks,
        "kv_cached_blocks", (int)now->cached_blocks, "kv_blocks", (int)now->blocks, "steps",
        (json_int_t)now->steps, "step_ms", step_ms, "tokens_per_s", tokens_per_s);
}

static json_t *pack_groups(const pr_metrics *metrics)
{
    json_t *groups = json_array();
    for (int32_t g = 0; g < metrics->now.groups; g++) {
        if (json_array_append_new(groups, pack_group(metrics, g)) != 0) {
            json_decref(groups);
            return NULL;
        }
    }
    return groups;
}

static json_t *pack_ranks(const pr_metrics *metrics)
{
    const pr_layout *layout = metrics->params.layout;
    json_t *ranks = json_array();
    for (int32_t rank = 0; rank < layout->ranks; rank++) {
        int32_t g = pr_layout_group_of(layout, rank);
        const char *role = g < 0 ? "controller"
                                 : pr_role_name(
                                       g < metrics->now.groups ? metrics->now.group[g].role
                                                               : layout->group[g].role);
        json_t *each =
            json_pack("{s:i, s:i, s:s}", "rank", (int)rank, "group", (int)g, "role", role);
        if (json_array_append_new(ranks, each) != 0) {
            json_decref(ranks);
            return NULL;
        }
    }
    return ranks;
}

json_t *
pr_metrics_status(const pr_metrics *metrics, int64_t now_ns, const char *state, int32_t connections)
{
    const pr_metrics_params *params = &metrics->params;
    return json_pack(
        "{s:s, s:s, s:s, s:f, s:s?, s:s, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:i}", "version",
        params->version, "state", state, "model", params->model_name, "uptime_s",
        (double)(now_ns - params->begin_ns) * 1e-9, "job_id", params->job_id, "layout",
        params->layout_text, "max_model_len", (int)params->max_model_len, "block_size",
        (int)params->block_tokens, "requests", pack_requests(metrics), "tokens",
        pack_tokens(metrics, now_ns), "latency_s", pack_latency(metrics, now_ns), "kv",
        pack_kv(metrics), "groups", pack_groups(metrics), "ranks", pack_ranks(metrics),
        "connections", (int)connections);
}
