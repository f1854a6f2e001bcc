// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/observe/metrics_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "launcher/observe/metrics_state.h"
#include "runtime/base/log.h"

// ---- Lines ----

static void __attribute__((format(printf, 2, 3)))
print(pr_byte_buffer *text, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *room = length < 0 ? NULL : pr_byte_buffer_extend(text, (size_t)length + 1);
    if (room) {
        vsnprintf(room, (size_t)length + 1, format, again);
        text->size_bytes--;  // the NUL
    }
    va_end(again);
    va_end(arguments);
}

static void escape(pr_byte_buffer *text, const char *value)
{
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            print(text, "\\%c", *value);
        else if (*value == '\n')
            print(text, "\\n");
        else
            print(text, "%c", *value);
    }
}

pr_status pr_metrics_text_labels(const char *model_name, char **labels)
{
    pr_byte_buffer text = {0};
    print(&text, "model_name=\"");
    escape(&text, model_name);
    print(&text, "\",engine=\"0\"");
    pr_byte_buffer_append(&text, "", 1);
    if (text.failed) {
        pr_byte_buffer_free(&text);
        return pr_fail(PR_ERR_RESOURCE, "no memory for metrics");
    }
    *labels = text.data;
    return PR_OK;
}

static void head(pr_byte_buffer *text, const char *name, const char *type, const char *help)
{
    print(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_one(
    pr_byte_buffer *text,
    const char *name,
    const char *type,
    const char *help,
    const char *labels,
    double value)
{
    head(text, name, type, help);
    if (labels)
        print(text, "%s{%s} %.15g\n", name, labels, value);
    else
        print(text, "%s %.15g\n", name, value);
}

// As vLLM's client library writes a bound: 0.25, 1.0, 1e+06.
static void print_bound(pr_byte_buffer *text, double bound)
{
    char number[32];
    snprintf(number, sizeof number, "%g", bound);
    print(text, "%s%s", number, strpbrk(number, ".e") ? "" : ".0");
}

static void print_histogram(
    pr_byte_buffer *text,
    const char *name,
    const char *help,
    const char *labels,
    const pr_histogram *histogram)
{
    int64_t sum = 0;
    head(text, name, "histogram", help);
    for (int32_t i = 0; i < histogram->scale->bounds; i++) {
        sum += histogram->count[i];
        print(text, "%s_bucket{%s,le=\"", name, labels);
        print_bound(text, histogram->scale->bound[i]);
        print(text, "\"} %lld\n", (long long)sum);
    }
    print(
        text, "%s_bucket{%s,le=\"+Inf\"} %lld\n%s_count{%s} %lld\n%s_sum{%s} %.15g\n", name, labels,
        (long long)histogram->values, name, labels, (long long)histogram->values, name, labels,
        histogram->sum);
}

// ---- vLLM's families ----

static void print_gauges(const pr_metrics *metrics, pr_byte_buffer *text)
{
    const char *labels = metrics->labels;
    pr_metrics_kv kv = pr_metrics_kv_sum(metrics);
    print_one(
        text, "vllm:num_requests_running", "gauge", "Sequences that have a seat in some group.",
        labels, pr_metrics_running(metrics));
    print_one(
        text, "vllm:num_requests_waiting", "gauge", "Sequences that wait for a seat.", labels,
        metrics->now.waiting);
    print_one(
        text, "vllm:kv_cache_usage_perc", "gauge",
        "Part of the KV blocks in use in groups that decode; 1 is all.", labels,
        kv.blocks > 0 ? (double)kv.used_blocks / (double)kv.blocks : 0);
    head(text, "vllm:cache_config_info", "gauge", "The KV cache of groups that decode; always 1.");
    print(
        text, "vllm:cache_config_info{%s,block_size=\"%d\",num_gpu_blocks=\"%d\"} 1\n", labels,
        metrics->params.block_tokens, metrics->params.kv_blocks);
}

static void print_counters(const pr_metrics *metrics, pr_byte_buffer *text)
{
    const char *labels = metrics->labels;
    const struct {
        const char *name, *help;
        int64_t value;
    } counter[] = {
        {"vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
         metrics->prompt_tokens},
        {"vllm:prefix_cache_hits_total", "Prompt tokens found there.", metrics->cached_tokens},
        {"vllm:num_preemptions_total", "Times a sequence lost its blocks to another.",
         metrics->now.counts.preemptions},
        {"vllm:prompt_tokens_total", "Tokens of the prompts that got a seat.",
         metrics->prompt_tokens},
        {"vllm:generation_tokens_total", "Tokens generated.", metrics->output_tokens},
    };
    for (size_t i = 0; i < sizeof counter / sizeof counter[0]; i++)
        print_one(
            text, counter[i].name, "counter", counter[i].help, labels, (double)counter[i].value);
    head(text, "vllm:request_success_total", "counter", "Sequences that ended, by how.");
    for (int32_t end = 0; end < PR_REQUEST_ENDS; end++)
        print(
            text, "vllm:request_success_total{%s,finished_reason=\"%s\"} %lld\n", labels,
            pr_request_end_names[end], (long long)metrics->ended[end]);
}

static void print_iterations(const pr_metrics *metrics, pr_byte_buffer *text)
{
    pr_histogram iteration = {.scale = &pr_histogram_iteration};
    for (int32_t i = 0; i < PR_ITERATION_BUCKETS; i++) {
        iteration.count[i] = metrics->now.iteration_bucket[i];
        iteration.values += iteration.count[i];
    }
    iteration.sum = (double)metrics->now.iteration_sum;
    print_histogram(
        text, "vllm:iteration_tokens_total", "Tokens computed by a group in one step.",
        metrics->labels, &iteration);
}

static void print_histograms(const pr_metrics *metrics, pr_byte_buffer *text)
{
    static const struct {
        const char *name, *help;
        pr_metrics_series series;
    } family[] = {
        {"vllm:time_to_first_token_seconds", "From arrival to the first token.", PR_SERIES_TTFT},
        {"vllm:inter_token_latency_seconds", "Between two tokens of a sequence.", PR_SERIES_GAP},
        {"vllm:time_per_output_token_seconds", "The same under its older name.", PR_SERIES_GAP},
        {"vllm:request_time_per_output_token_seconds",
         "Mean of a sequence between its first token and its last; 0 where there is one.",
         PR_SERIES_TOKEN_TIME},
        {"vllm:e2e_request_latency_seconds", "From arrival to the last token.", PR_SERIES_WHOLE},
        {"vllm:request_queue_time_seconds", "From arrival to the first seat.", PR_SERIES_QUEUE},
        {"vllm:request_inference_time_seconds", "From the first seat to the last token.",
         PR_SERIES_INFERENCE},
        {"vllm:request_prefill_time_seconds", "From the first seat to the first token.",
         PR_SERIES_PREFILL},
        {"vllm:request_decode_time_seconds", "From the first token to the last.", PR_SERIES_DECODE},
        {"vllm:request_prompt_tokens", "Prompt tokens of a sequence.", PR_SERIES_PROMPT_TOKENS},
        {"vllm:request_generation_tokens", "Tokens generated for a sequence.",
         PR_SERIES_OUTPUT_TOKENS},
        {"vllm:request_max_num_generation_tokens",
         "Most tokens generated for one choice of a request.", PR_SERIES_MOST_OUTPUT_TOKENS},
        {"vllm:max_num_generation_tokens", "The same as llm-d's simulator calls it.",
         PR_SERIES_MOST_OUTPUT_TOKENS},
        {"vllm:request_params_max_tokens", "The parameter max_tokens.", PR_SERIES_MAX_TOKENS},
        {"vllm:request_params_n", "The parameter n.", PR_SERIES_N},
    };
    for (size_t i = 0; i < sizeof family / sizeof family[0]; i++)
        print_histogram(
            text, family[i].name, family[i].help, metrics->labels,
            &metrics->series[family[i].series]);
}

// ---- Ours ----

typedef enum group_value {
    GROUP_RUNNING,
    GROUP_BLOCKS,
    GROUP_USED,
    GROUP_CACHED,
    GROUP_STEPS,
    GROUP_STEP_S,
    GROUP_PREFILL,
    GROUP_DECODE,
} group_value;

static double value_of(const pr_group_snapshot *group, group_value value)
{
    switch (value) {
    case GROUP_RUNNING:
        return group->running;
    case GROUP_BLOCKS:
        return group->blocks;
    case GROUP_USED:
        return group->used_blocks;
    case GROUP_CACHED:
        return group->cached_blocks;
    case GROUP_STEPS:
        return (double)group->steps;
    case GROUP_STEP_S:
        return group->step_s;
    case GROUP_PREFILL:
        return (double)group->prefill_tokens;
    case GROUP_DECODE:
        return (double)group->decode_tokens;
    }
    return 0;
}

static void print_groups(const pr_metrics *metrics, pr_byte_buffer *text)
{
    static const struct {
        const char *name, *type, *help;
        group_value value;
    } family[] = {
        {"polyreme_group_running", "gauge", "Sequences seated in the group.", GROUP_RUNNING},
        {"polyreme_group_kv_blocks", "gauge", "KV blocks of the group's lanes.", GROUP_BLOCKS},
        {"polyreme_group_kv_used_blocks", "gauge", "Of these, held by sequences.", GROUP_USED},
        {"polyreme_group_kv_cached_blocks", "gauge", "Of these, found by a prompt that begins so.",
         GROUP_CACHED},
        {"polyreme_group_steps_total", "counter", "Steps of the group.", GROUP_STEPS},
        {"polyreme_group_step_seconds_total", "counter", "Time in these steps.", GROUP_STEP_S},
        {"polyreme_group_prefill_tokens_total", "counter", "Prompt tokens computed.",
         GROUP_PREFILL},
        {"polyreme_group_decode_tokens_total", "counter", "Decode rows computed.", GROUP_DECODE},
    };
    for (size_t i = 0; i < sizeof family / sizeof family[0]; i++) {
        head(text, family[i].name, family[i].type, family[i].help);
        for (int32_t g = 0; g < metrics->now.groups; g++) {
            const pr_group_snapshot *group = &metrics->now.group[g];
            print(
                text, "%s{group=\"%d\",role=\"%s\"} %.15g\n", family[i].name, g,
                pr_role_name(group->role), value_of(group, family[i].value));
        }
    }
}

static void print_ranks(const pr_metrics *metrics, pr_byte_buffer *text)
{
    const pr_layout *layout = metrics->params.layout;
    head(text, "polyreme_rank_info", "gauge", "Which rank is in which group; always 1.");
    for (int32_t rank = 0; rank < layout->ranks; rank++) {
        int32_t g = pr_layout_group_of(layout, rank);
        const char *role = g < 0 ? "controller"
                                 : pr_role_name(
                                       g < metrics->now.groups ? metrics->now.group[g].role
                                                               : layout->group[g].role);
        print(text, "polyreme_rank_info{rank=\"%d\",group=\"%d\",role=\"%s\"} 1\n", rank, g, role);
    }
}

static void print_decisions(const pr_metrics *metrics, pr_byte_buffer *text)
{
    const pr_scheduler_counts *counts = &metrics->now.counts;
    const struct {
        const char *name, *help;
        int64_t value;
    } counter[] = {
        {"polyreme_plans_total", "Plans sent to groups.", counts->plans},
        {"polyreme_handovers_total", "Sequences that went from prefill to decode.",
         counts->handovers},
        {"polyreme_handovers_lost_total", "Of these, damaged and computed again.",
         counts->handovers_lost},
        {"polyreme_gathers_total", "Prefixes fetched from another lane.", counts->gathers},
        {"polyreme_gathered_tokens_total", "Tokens of these.", counts->gathered_tokens},
        {"polyreme_gathers_lost_total", "Of these, damaged and computed instead.",
         counts->gathers_lost},
        {"polyreme_short_cuts_total", "Prompts computed by the decode lane itself.",
         counts->short_cuts},
        {"polyreme_role_changes_total", "Times a group changed its role.", counts->role_changes},
        {"polyreme_rejected_total", "Requests that the scheduler refused.", counts->rejected},
        {"polyreme_walltime_rejected_total", "Of these, for want of time before the job's end.",
         counts->rejected_walltime},
    };
    for (size_t i = 0; i < sizeof counter / sizeof counter[0]; i++)
        print_one(
            text, counter[i].name, "counter", counter[i].help, NULL, (double)counter[i].value);
}

static void print_walltime(const pr_metrics *metrics, int64_t now_ns, pr_byte_buffer *text)
{
    static const char name[] = "polyreme_walltime_remaining_seconds";
    int64_t end_ns = metrics->now.walltime.end_ns;
    double left_s = end_ns > now_ns ? (double)(end_ns - now_ns) * 1e-9 : 0;
    head(text, name, "gauge", "Time for requests: until the job's end, less the reserve.");
    if (end_ns != 0)
        print(text, "%s %.15g\n", name, left_s);
}

static void print_http(const pr_metrics *metrics, int32_t connections, pr_byte_buffer *text)
{
    static const char *const names[PR_HTTP_CLASSES] = {"other", "1xx", "2xx", "3xx", "4xx", "5xx"};
    head(text, "polyreme_http_responses_total", "counter", "Replies by path and class of status.");
    for (int32_t path = 0; path < PR_HTTP_PATHS; path++) {
        for (int32_t class = 0; class < PR_HTTP_CLASSES; class ++) {
            if (metrics->http[path][class] > 0)
                print(
                    text, "polyreme_http_responses_total{path=\"%s\",code=\"%s\"} %lld\n",
                    pr_http_path_names[path], names[class], (long long)metrics->http[path][class]);
        }
    }
    print_one(
        text, "polyreme_http_connections", "gauge", "Connections open now.", NULL, connections);
}

static void print_build(const pr_metrics *metrics, pr_byte_buffer *text)
{
    head(text, "polyreme_build_info", "gauge", "Version and layout; always 1.");
    print(text, "polyreme_build_info{version=\"");
    escape(text, metrics->params.version);
    print(text, "\",layout=\"");
    escape(text, metrics->params.layout_text);
    print(text, "\"} 1\n");
}

// ---- The process ----

static double resident_bytes(void)
{
    long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*s %lld", &pages) != 1)
        pages = 0;
    if (file)
        fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void print_process(const pr_metrics *metrics, pr_byte_buffer *text)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    double cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    print_one(text, "process_cpu_seconds_total", "counter", "CPU time of rank 0.", NULL, cpu_s);
    print_one(
        text, "process_resident_memory_bytes", "gauge", "Memory of rank 0 in use.", NULL,
        resident_bytes());
    print_one(
        text, "process_start_time_seconds", "gauge", "When serving began, in Unix time.", NULL,
        metrics->begin_unix_s);
}

void pr_metrics_print(
    const pr_metrics *metrics, int64_t now_ns, int32_t connections, pr_byte_buffer *text)
{
    print_gauges(metrics, text);
    print_counters(metrics, text);
    print_iterations(metrics, text);
    print_histograms(metrics, text);
    print_groups(metrics, text);
    print_ranks(metrics, text);
    print_decisions(metrics, text);
    print_walltime(metrics, now_ns, text);
    print_http(metrics, connections, text);
    print_build(metrics, text);
    print_one(
        text, "polyreme_uptime_seconds", "gauge", "Since serving began.", NULL,
        (double)(now_ns - metrics->params.begin_ns) * 1e-9);
    print_process(metrics, text);
}
