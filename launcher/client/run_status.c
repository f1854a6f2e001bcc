// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/client/run_status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "launcher/client/plain_text.h"
#include "runtime/base/log.h"

// Negative numbers have no meaning in any field.
static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    double number = json_is_number(value) ? json_number_value(value) : (double)NAN;
    return number >= 0 ? number : (double)NAN;
}

// job_id is a string or a number.
static void copy_text(const json_t *object, const char *key, char *out, size_t capacity)
{
    const json_t *value = json_object_get(object, key);
    out[0] = '\0';
    if (json_is_string(value))
        pr_plain_text_copy(json_string_value(value), json_string_length(value), out, capacity);
    else if (json_is_integer(value))
        snprintf(out, capacity, "%lld", (long long)json_integer_value(value));
}

// No latency is 0: that is how a server says that it has none to tell.
static double latency_of(const json_t *object, const char *key)
{
    double latency_s = number_of(object, key);
    return latency_s > 0 ? latency_s : (double)NAN;
}

static pr_run_quantiles quantiles_of(const json_t *latency, const char *key)
{
    const json_t *object = json_object_get(latency, key);
    return (pr_run_quantiles){
        .p50 = latency_of(object, "p50"),
        .p90 = latency_of(object, "p90"),
        .p99 = latency_of(object, "p99"),
    };
}

static int32_t length_of(const json_t *array, int32_t most)
{
    size_t length = json_array_size(array);
    return length > (size_t)most ? most : (int32_t)length;
}

static pr_run_group group_of(const json_t *object)
{
    pr_run_group group = {
        .index = number_of(object, "index"),
        .first_rank = number_of(object, "first_rank"),
        .ranks = number_of(object, "ranks"),
        .tp = number_of(object, "tp"),
        .running = number_of(object, "running"),
        .kv_used_blocks = number_of(object, "kv_used_blocks"),
        .kv_cached_blocks = number_of(object, "kv_cached_blocks"),
        .kv_blocks = number_of(object, "kv_blocks"),
        .steps = number_of(object, "steps"),
        .step_ms = number_of(object, "step_ms"),
        .tokens_per_s = number_of(object, "tokens_per_s"),
    };
    copy_text(object, "role", group.role, sizeof group.role);
    return group;
}

static pr_run_rank rank_of(const json_t *object)
{
    pr_run_rank rank = {.rank = number_of(object, "rank"), .group = number_of(object, "group")};
    copy_text(object, "role", rank.role, sizeof rank.role);
    return rank;
}

static pr_status parse_lists(const json_t *root, pr_run_status *status)
{
    const json_t *groups = json_object_get(root, "groups");
    const json_t *ranks = json_object_get(root, "ranks");
    int32_t group_count = length_of(groups, PR_RUN_STATUS_MAX_GROUPS);
    int32_t rank_count = length_of(ranks, PR_RUN_STATUS_MAX_RANKS);
    status->group = calloc((size_t)group_count + 1, sizeof *status->group);
    status->rank = calloc((size_t)rank_count + 1, sizeof *status->rank);
    if (!status->group || !status->rank) {
        pr_run_status_clear(status);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the status of a run");
    }
    for (int32_t i = 0; i < group_count; i++)
        status->group[status->groups++] = group_of(json_array_get(groups, (size_t)i));
    for (int32_t i = 0; i < rank_count; i++)
        status->rank[status->ranks++] = rank_of(json_array_get(ranks, (size_t)i));
    return PR_OK;
}

pr_status pr_run_status_parse(const json_t *root, pr_run_status *status)
{
    const json_t *requests = json_object_get(root, "requests");
    const json_t *ended = json_object_get(requests, "finished");
    const json_t *tokens = json_object_get(root, "tokens");
    const json_t *latency = json_object_get(root, "latency_s");
    const json_t *kv = json_object_get(root, "kv");
    pr_run_status made = {
        .uptime_s = number_of(root, "uptime_s"),
        .max_model_len = number_of(root, "max_model_len"),
        .block_tokens = number_of(root, "block_size"),
        .connections = number_of(root, "connections"),
        .running = number_of(requests, "running"),
        .waiting = number_of(requests, "waiting"),
        .ended_stop = number_of(ended, "stop"),
        .ended_length = number_of(ended, "length"),
        .ended_abort = number_of(ended, "abort"),
        .ended_error = number_of(ended, "error"),
        .prompt_tokens = number_of(tokens, "prompt"),
        .generated_tokens = number_of(tokens, "generated"),
        .cached_tokens = number_of(tokens, "cached"),
        .prompt_per_s = number_of(tokens, "prompt_per_s"),
        .generated_per_s = number_of(tokens, "generated_per_s"),
        .ttft = quantiles_of(latency, "ttft"),
        .itl = quantiles_of(latency, "itl"),
        .e2e = quantiles_of(latency, "e2e"),
        .kv_used_blocks = number_of(kv, "used_blocks"),
        .kv_cached_blocks = number_of(kv, "cached_blocks"),
        .kv_blocks = number_of(kv, "blocks"),
    };
    copy_text(root, "version", made.version, sizeof made.version);
    copy_text(root, "state", made.state, sizeof made.state);
    copy_text(root, "model", made.model, sizeof made.model);
    copy_text(root, "job_id", made.job_id, sizeof made.job_id);
    copy_text(root, "layout", made.layout, sizeof made.layout);
    PR_TRY(parse_lists(root, &made));
    *status = made;
    return PR_OK;
}

void pr_run_status_clear(pr_run_status *status)
{
    free(status->group);
    free(status->rank);
    *status = (pr_run_status){0};
}
