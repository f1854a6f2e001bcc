// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/observe/metrics.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "launcher/observe/metrics_state.h"
#include "launcher/observe/metrics_text.h"
#include "runtime/base/log.h"

static const int64_t base_period_ns = 5000000000;

const char *const pr_http_path_names[PR_HTTP_PATHS] = {
    "other",
    "/",
    "/health",
    "/version",
    "/metrics",
    "/load",
    "/v1/models",
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/completions/render",
    "/v1/chat/completions/render",
    "/tokenize",
    "/detokenize",
    "/tokenizer_info",
    "/v1/polyreme/status",
    "/v1/polyreme/drain",
};

const char *const pr_request_end_names[PR_REQUEST_ENDS] = {"stop", "length", "abort", "error"};

static pr_status copy_text(pr_metrics *metrics, int32_t at, const char **text)
{
    if (!*text)
        return PR_OK;
    metrics->text[at] = strdup(*text);
    *text = metrics->text[at];
    return *text ? PR_OK : pr_fail(PR_ERR_RESOURCE, "no memory for metrics");
}

static pr_status copy_texts(pr_metrics *metrics)
{
    pr_metrics_params *params = &metrics->params;
    PR_TRY(copy_text(metrics, 0, &params->model_name));
    PR_TRY(copy_text(metrics, 1, &params->version));
    PR_TRY(copy_text(metrics, 2, &params->layout_text));
    PR_TRY(copy_text(metrics, 3, &params->job_id));
    return pr_metrics_text_labels(params->model_name, &metrics->labels);
}

static void choose_scales(pr_metrics *metrics)
{
    metrics->token_scale = pr_histogram_tokens(metrics->params.max_model_len);
    for (int32_t i = 0; i < PR_SERIES; i++)
        metrics->series[i].scale = &pr_histogram_latency;
    for (int32_t i = PR_SERIES_PROMPT_TOKENS; i <= PR_SERIES_MAX_TOKENS; i++)
        metrics->series[i].scale = &metrics->token_scale;
    metrics->series[PR_SERIES_TTFT].scale = &pr_histogram_ttft;
    metrics->series[PR_SERIES_GAP].scale = &pr_histogram_gap;
    metrics->series[PR_SERIES_TOKEN_TIME].scale = &pr_histogram_gap;
    metrics->series[PR_SERIES_N].scale = &pr_histogram_choices;
}

pr_status pr_metrics_create(const pr_metrics_params *params, pr_metrics **metrics)
{
    size_t groups = (size_t)params->layout->groups;
    pr_metrics *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for metrics");
    made->params = *params;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    made->begin_unix_s = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    made->now.group = calloc(groups, sizeof(pr_group_snapshot));
    made->base.group = calloc(groups, sizeof(pr_group_snapshot));
    made->next_base.group = calloc(groups, sizeof(pr_group_snapshot));
    pr_status status = made->now.group && made->base.group && made->next_base.group
                           ? copy_texts(made)
                           : pr_fail(PR_ERR_RESOURCE, "no memory for metrics");
    if (status != PR_OK) {
        pr_metrics_destroy(made);
        return status;
    }
    choose_scales(made);
    *metrics = made;
    return PR_OK;
}

void pr_metrics_destroy(pr_metrics *metrics)
{
    if (!metrics)
        return;
    for (int32_t i = 0; i < 4; i++)
        free(metrics->text[i]);
    free(metrics->labels);
    free(metrics->now.group);
    free(metrics->base.group);
    free(metrics->next_base.group);
    free(metrics);
}

void pr_metrics_token(pr_metrics *metrics, int64_t now_ns, int64_t ttft_ns, int64_t gap_ns)
{
    bool first = gap_ns < 0;
    double waited_s = (double)(first ? ttft_ns : gap_ns) * 1e-9;
    pr_histogram_add(&metrics->series[first ? PR_SERIES_TTFT : PR_SERIES_GAP], waited_s);
    pr_recent_values_add(first ? &metrics->recent_ttft : &metrics->recent_gap, now_ns, waited_s);
    pr_recent_sum_add(&metrics->recent_output, now_ns, 1);
    metrics->output_tokens++;
}

void pr_metrics_scheduled(
    pr_metrics *metrics, int64_t now_ns, int32_t prompt_tokens, int32_t cached_tokens)
{
    metrics->prompt_tokens += prompt_tokens;
    metrics->cached_tokens += cached_tokens;
    pr_recent_sum_add(&metrics->recent_prompt, now_ns, prompt_tokens);
}

static void
add_seconds(pr_metrics *metrics, pr_metrics_series series, int64_t from_ns, int64_t to_ns)
{
    if (from_ns > 0 && to_ns >= from_ns)
        pr_histogram_add(&metrics->series[series], (double)(to_ns - from_ns) * 1e-9);
}

static void add_answer(pr_metrics *metrics, int64_t now_ns, const pr_request_life *life)
{
    pr_histogram *series = metrics->series;
    add_seconds(metrics, PR_SERIES_WHOLE, life->arrived_ns, life->last_token_ns);
    add_seconds(metrics, PR_SERIES_QUEUE, life->arrived_ns, life->scheduled_ns);
    add_seconds(metrics, PR_SERIES_INFERENCE, life->scheduled_ns, life->last_token_ns);
    add_seconds(metrics, PR_SERIES_PREFILL, life->scheduled_ns, life->first_token_ns);
    add_seconds(metrics, PR_SERIES_DECODE, life->first_token_ns, life->last_token_ns);
    double decode_s = (double)(life->last_token_ns - life->first_token_ns) * 1e-9;
    int32_t gaps = life->output_tokens - 1;
    pr_histogram_add(&series[PR_SERIES_TOKEN_TIME], gaps > 0 ? decode_s / gaps : 0);
    pr_histogram_add(&series[PR_SERIES_PROMPT_TOKENS], life->prompt_tokens);
    pr_histogram_add(&series[PR_SERIES_OUTPUT_TOKENS], life->output_tokens);
    pr_recent_values_add(
        &metrics->recent_whole, now_ns, (double)(life->last_token_ns - life->arrived_ns) * 1e-9);
}

void pr_metrics_request_ended(pr_metrics *metrics, int64_t now_ns, const pr_request_life *life)
{
    metrics->ended[life->end]++;
    if (life->end == PR_REQUEST_STOP || life->end == PR_REQUEST_LENGTH)
        add_answer(metrics, now_ns, life);
    if (life->max_tokens > 0)
        pr_histogram_add(&metrics->series[PR_SERIES_MAX_TOKENS], life->max_tokens);
    if (life->n > 0) {
        pr_histogram_add(&metrics->series[PR_SERIES_N], life->n);
        pr_histogram_add(&metrics->series[PR_SERIES_MOST_OUTPUT_TOKENS], life->most_output_tokens);
    }
}

void pr_metrics_http(pr_metrics *metrics, const char *path, int32_t status)
{
    size_t length = strcspn(path, "?#");
    int32_t at = PR_HTTP_PATHS - 1;
    while (at > 0 && (strncmp(pr_http_path_names[at], path, length) != 0 ||
                      pr_http_path_names[at][length] != '\0'))
        at--;
    metrics->http[at][status >= 100 && status <= 599 ? status / 100 : 0]++;
}

static void move_base(pr_metrics *metrics, const pr_snapshot *snapshot)
{
    pr_metrics_base *next = &metrics->next_base;
    if (next->time_ns > 0 && snapshot->time_ns - next->time_ns < base_period_ns)
        return;
    pr_group_snapshot *room = metrics->base.group;
    metrics->base = *next;
    next->group = room;
    next->time_ns = snapshot->time_ns;
    memcpy(room, snapshot->group, (size_t)snapshot->groups * sizeof *room);
}

void pr_metrics_snapshot(pr_metrics *metrics, const pr_snapshot *snapshot)
{
    pr_group_snapshot *group = metrics->now.group;
    memcpy(group, snapshot->group, (size_t)snapshot->groups * sizeof *group);
    metrics->now = *snapshot;
    metrics->now.group = group;
    move_base(metrics, snapshot);
}

pr_metrics_kv pr_metrics_kv_sum(const pr_metrics *metrics)
{
    pr_metrics_kv sum = {0};
    for (int32_t g = 0; g < metrics->now.groups; g++) {
        const pr_group_snapshot *group = &metrics->now.group[g];
        if (group->role == PR_ROLE_PREFILL)
            continue;
        sum.blocks += group->blocks;
        sum.used_blocks += group->used_blocks;
        sum.cached_blocks += group->cached_blocks;
    }
    return sum;
}

int32_t pr_metrics_running(const pr_metrics *metrics)
{
    int32_t running = metrics->now.unfinished - metrics->now.waiting;
    return running > 0 ? running : 0;
}
