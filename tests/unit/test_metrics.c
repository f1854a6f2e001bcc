// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/observe/histogram.h"
#include "launcher/observe/metrics.h"
#include "launcher/observe/recent.h"
#include "launcher/observe/step_tally.h"

static const int64_t second = 1000000000;
static const int64_t begin = 1000 * (int64_t)1000000000;

static const pr_layout layout = {
    .ranks = 5,
    .dedicated_controller = true,
    .groups = 2,
    .group =
        {{.role = PR_ROLE_PREFILL, .first_rank = 1, .ranks = 2, .tp = 2},
         {.role = PR_ROLE_DECODE, .first_rank = 3, .ranks = 2, .tp = 1}},
};

static pr_metrics *create(const char *model_name)
{
    pr_metrics_params params = {
        .model_name = model_name,
        .version = "1.2.3",
        .layout_text = "prefill 1x2:tp=2 decode 1x2",
        .job_id = NULL,
        .max_model_len = 4096,
        .block_tokens = 16,
        .kv_blocks = 200,
        .begin_ns = begin,
        .layout = &layout,
    };
    pr_metrics *metrics;
    assert_int_equal(pr_metrics_create(&params, &metrics), PR_OK);
    return metrics;
}

// The text as a string; free it.
static char *print(const pr_metrics *metrics, int64_t now_ns)
{
    pr_byte_buffer text = {0};
    pr_metrics_print(metrics, now_ns, 7, &text);
    pr_byte_buffer_append(&text, "", 1);
    assert_false(text.failed);
    return text.data;
}

// ---- The text format, as far as it is used here ----

static const char *skip_name(const char *at)
{
    assert_true(strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:", *at) && *at);
    return at + strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:0123456789");
}

static const char *skip_labels(const char *at)
{
    if (*at != '{')
        return at;
    do {
        at = skip_name(at + 1);
        assert_memory_equal(at, "=\"", 2);
        for (at += 2; *at != '"'; at++) {
            assert_true(*at != '\0' && *at != '\n');
            if (*at == '\\')
                assert_non_null(strchr("\\\"n", *++at));
        }
        at++;
    } while (*at == ',');
    assert_int_equal(*at, '}');
    return at + 1;
}

typedef struct family {
    char name[128], type[32];
    double last;  // cumulative count of the last bucket; -1: none yet
    bool infinite;
    int samples;
} family;

static void begin_family(family *current, const char *line)
{
    family next = {.last = -1};
    assert_int_equal(sscanf(line, "# TYPE %127s %31s", next.name, next.type), 2);
    assert_true(
        strcmp(next.type, "gauge") == 0 || strcmp(next.type, "counter") == 0 ||
        strcmp(next.type, "histogram") == 0);
    size_t length = strlen(next.name);
    bool total = length > 6 && strcmp(next.name + length - 6, "_total") == 0;
    if (strcmp(next.type, "counter") == 0)
        assert_true(total);
    else if (strcmp(next.name, "vllm:iteration_tokens_total") != 0)
        assert_false(total);
    *current = next;
}

static void check_sample(family *current, const char *line)
{
    const char *end = skip_name(line);
    size_t length = strlen(current->name);
    assert_memory_equal(line, current->name, length);
    const char *labels = end;
    end = skip_labels(end);
    assert_int_equal(*end, ' ');
    char *rest;
    double value = strtod(end + 1, &rest);
    assert_true(*rest == '\n' && isfinite(value) && value >= 0);
    current->samples++;
    if (strcmp(current->type, "histogram") != 0) {
        assert_int_equal((size_t)(labels - line), length);
    } else if (strncmp(line + length, "_bucket{", 8) == 0) {
        assert_true(value >= current->last);
        current->last = value;
        current->infinite = strstr(line, "le=\"+Inf\"") && strstr(line, "le=\"+Inf\"") < rest;
    } else if (strncmp(line + length, "_count{", 7) == 0) {
        assert_true(current->infinite && value == current->last);
    } else {
        assert_memory_equal(line + length, "_sum{", 5);
    }
}

// Every line is well formed, every sample belongs to the family above it, histograms are cumulative.
static int check_text(const char *text)
{
    family current = {0};
    int families = 0;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        assert_non_null(strchr(line, '\n'));
        if (strncmp(line, "# HELP ", 7) == 0)
            continue;
        if (*line == '#') {
            begin_family(&current, line);
            families++;
        } else {
            check_sample(&current, line);
        }
    }
    return families;
}

static double value_of(const char *text, const char *sample)
{
    char start[256];
    snprintf(start, sizeof start, "\n%s ", sample);
    const char *at = strstr(text, start);
    if (!at)
        fail_msg("no sample %s", sample);
    return strtod(at + strlen(start), NULL);
}

// ---- A scripted life ----

static pr_request_life one_life(void)
{
    return (pr_request_life){
        .arrived_ns = begin + second,
        .scheduled_ns = begin + 2 * second,
        .first_token_ns = begin + 4 * second,
        .last_token_ns = begin + 5 * second,
        .prompt_tokens = 30,
        .cached_tokens = 16,
        .output_tokens = 5,
        .max_tokens = 64,
        .n = 2,
        .most_output_tokens = 9,
        .end = PR_REQUEST_LENGTH,
    };
}

static void live_once(pr_metrics *metrics)
{
    pr_request_life life = one_life();
    pr_metrics_scheduled(metrics, begin + 2 * second, 30, 16);
    pr_metrics_token(metrics, begin + 4 * second, 3 * second, -1);
    for (int i = 1; i < 5; i++)
        pr_metrics_token(metrics, begin + 4 * second + i * second / 4, -1, second / 4);
    pr_metrics_request_ended(metrics, begin + 5 * second, &life);
    life = (pr_request_life){
        .arrived_ns = begin + second,
        .prompt_tokens = 3,
        .max_tokens = 8,
        .end = PR_REQUEST_ABORT,
    };
    pr_metrics_request_ended(metrics, begin + 5 * second, &life);
    pr_metrics_http(metrics, "/v1/completions", 200);
    pr_metrics_http(metrics, "/v1/completions?x=1", 429);
    pr_metrics_http(metrics, "/v1/comp", 404);
    pr_metrics_http(metrics, "/v1/completions/../x", 404);
    pr_metrics_http(metrics, "", 404);
    pr_metrics_http(metrics, "/metrics", 999);
    pr_group_snapshot group[2] = {
        {.role = PR_ROLE_PREFILL,
         .first_rank = 1,
         .ranks = 2,
         .tp = 2,
         .running = 2,
         .blocks = 100,
         .used_blocks = 90,
         .cached_blocks = 95,
         .steps = 3,
         .step_s = 0.5,
         .prefill_tokens = 300},
        {.role = PR_ROLE_DECODE,
         .first_rank = 3,
         .ranks = 2,
         .tp = 1,
         .running = 1,
         .blocks = 200,
         .used_blocks = 50,
         .cached_blocks = 40,
         .steps = 10,
         .step_s = 1,
         .decode_tokens = 70},
    };
    pr_snapshot snapshot = {
        .time_ns = begin + 6 * second,
        .waiting = 4,
        .unfinished = 7,
        .counts = {.preemptions = 2, .handovers = 11, .gathers = 3, .role_changes = 1},
        .iteration_bucket = {1, 2, [13] = 1},
        .iteration_sum = 20001,
        .groups = 2,
        .group = group,
    };
    pr_metrics_snapshot(metrics, &snapshot);
    snapshot.time_ns += 2 * second;
    group[1].steps += 4;
    group[1].step_s += 0.02;
    group[1].decode_tokens += 30;
    pr_metrics_snapshot(metrics, &snapshot);
}

#define MODEL "{model_name=\"demo\",engine=\"0\""

static void the_text_is_well_formed_and_the_numbers_are_right(void **state)
{
    (void)state;
    pr_metrics *metrics = create("demo");
    live_once(metrics);
    char *text = print(metrics, begin + 8 * second);
    assert_true(check_text(text) > 40);
    const struct {
        const char *sample;
        double value;
    } expected[] = {
        {"vllm:num_requests_running" MODEL "}", 3},
        {"vllm:num_requests_waiting" MODEL "}", 4},
        {"vllm:kv_cache_usage_perc" MODEL "}", 0.25},
        {"vllm:cache_config_info" MODEL ",block_size=\"16\",num_gpu_blocks=\"200\"}", 1},
        {"vllm:prefix_cache_queries_total" MODEL "}", 30},
        {"vllm:prefix_cache_hits_total" MODEL "}", 16},
        {"vllm:num_preemptions_total" MODEL "}", 2},
        {"vllm:prompt_tokens_total" MODEL "}", 30},
        {"vllm:generation_tokens_total" MODEL "}", 5},
        {"vllm:request_success_total" MODEL ",finished_reason=\"length\"}", 1},
        {"vllm:request_success_total" MODEL ",finished_reason=\"abort\"}", 1},
        {"vllm:request_success_total" MODEL ",finished_reason=\"stop\"}", 0},
        {"vllm:iteration_tokens_total_bucket" MODEL ",le=\"1.0\"}", 1},
        {"vllm:iteration_tokens_total_bucket" MODEL ",le=\"16384.0\"}", 3},
        {"vllm:iteration_tokens_total_bucket" MODEL ",le=\"+Inf\"}", 4},
        {"vllm:iteration_tokens_total_sum" MODEL "}", 20001},
        {"vllm:time_to_first_token_seconds_bucket" MODEL ",le=\"2.5\"}", 0},
        {"vllm:time_to_first_token_seconds_bucket" MODEL ",le=\"5.0\"}", 1},
        {"vllm:time_to_first_token_seconds_sum" MODEL "}", 3},
        {"vllm:inter_token_latency_seconds_count" MODEL "}", 4},
        {"vllm:inter_token_latency_seconds_bucket" MODEL ",le=\"0.2\"}", 0},
        {"vllm:inter_token_latency_seconds_bucket" MODEL ",le=\"0.3\"}", 4},
        {"vllm:time_per_output_token_seconds_sum" MODEL "}", 1},
        {"vllm:request_time_per_output_token_seconds_sum" MODEL "}", 0.25},
        {"vllm:e2e_request_latency_seconds_sum" MODEL "}", 4},
        {"vllm:e2e_request_latency_seconds_count" MODEL "}", 1},
        {"vllm:request_queue_time_seconds_sum" MODEL "}", 1},
        {"vllm:request_queue_time_seconds_bucket" MODEL ",le=\"1.0\"}", 1},
        {"vllm:request_queue_time_seconds_bucket" MODEL ",le=\"0.8\"}", 0},
        {"vllm:request_inference_time_seconds_sum" MODEL "}", 3},
        {"vllm:request_prefill_time_seconds_sum" MODEL "}", 2},
        {"vllm:request_decode_time_seconds_sum" MODEL "}", 1},
        {"vllm:request_prompt_tokens_sum" MODEL "}", 30},
        {"vllm:request_prompt_tokens_bucket" MODEL ",le=\"2000.0\"}", 1},
        {"vllm:request_generation_tokens_sum" MODEL "}", 5},
        {"vllm:request_max_num_generation_tokens_sum" MODEL "}", 9},
        {"vllm:max_num_generation_tokens_count" MODEL "}", 1},
        {"vllm:request_params_max_tokens_sum" MODEL "}", 72},
        {"vllm:request_params_n_bucket" MODEL ",le=\"1.0\"}", 0},
        {"vllm:request_params_n_bucket" MODEL ",le=\"2.0\"}", 1},
        {"polyreme_group_running{group=\"0\",role=\"prefill\"}", 2},
        {"polyreme_group_kv_blocks{group=\"1\",role=\"decode\"}", 200},
        {"polyreme_group_kv_used_blocks{group=\"0\",role=\"prefill\"}", 90},
        {"polyreme_group_kv_cached_blocks{group=\"1\",role=\"decode\"}", 40},
        {"polyreme_group_steps_total{group=\"1\",role=\"decode\"}", 14},
        {"polyreme_group_step_seconds_total{group=\"1\",role=\"decode\"}", 1.02},
        {"polyreme_group_prefill_tokens_total{group=\"0\",role=\"prefill\"}", 300},
        {"polyreme_group_decode_tokens_total{group=\"1\",role=\"decode\"}", 100},
        {"polyreme_rank_info{rank=\"0\",group=\"-1\",role=\"controller\"}", 1},
        {"polyreme_rank_info{rank=\"4\",group=\"1\",role=\"decode\"}", 1},
        {"polyreme_handovers_total", 11},
        {"polyreme_gathers_total", 3},
        {"polyreme_role_changes_total", 1},
        {"polyreme_http_responses_total{path=\"/v1/completions\",code=\"2xx\"}", 1},
        {"polyreme_http_responses_total{path=\"/v1/completions\",code=\"4xx\"}", 1},
        {"polyreme_http_responses_total{path=\"other\",code=\"4xx\"}", 3},
        {"polyreme_http_responses_total{path=\"/metrics\",code=\"other\"}", 1},
        {"polyreme_http_connections", 7},
        {"polyreme_uptime_seconds", 8},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (fabs(value_of(text, expected[i].sample) - expected[i].value) > 1e-9)
            fail_msg(
                "%s is %.17g, not %.17g", expected[i].sample, value_of(text, expected[i].sample),
                expected[i].value);
    assert_true(value_of(text, "process_resident_memory_bytes") > 1e5);
    free(text);
    pr_metrics_destroy(metrics);
}

static void nothing_measured_is_well_formed_too(void **state)
{
    (void)state;
    pr_metrics *metrics = create("a \"quoted\\\" name\nof two lines");
    char *text = print(metrics, begin);
    check_text(text);
    assert_non_null(strstr(text, "model_name=\"a \\\"quoted\\\\\\\" name\\nof two lines\",engine"));
    free(text);
    json_t *status = pr_metrics_status(metrics, begin, "loading", 0);
    assert_non_null(status);
    assert_int_equal(json_array_size(json_object_get(status, "groups")), 0);
    assert_int_equal(json_array_size(json_object_get(status, "ranks")), 5);
    json_decref(status);
    pr_metrics_destroy(metrics);
}

static json_t *get(json_t *object, const char *path)
{
    char name[64];
    size_t length;
    for (; *path; path += length + (path[length] == '.')) {
        length = strcspn(path, ".");
        snprintf(name, sizeof name, "%.*s", (int)length, path);
        object = json_is_array(object) ? json_array_get(object, (size_t)atoi(name))
                                       : json_object_get(object, name);
        if (!object)
            fail_msg("the status has no %s", path);
    }
    return object;
}

static void the_status_says_the_same(void **state)
{
    (void)state;
    pr_metrics *metrics = create("demo");
    live_once(metrics);
    json_t *status = pr_metrics_status(metrics, begin + 8 * second, "ready", 7);
    assert_non_null(status);
    const struct {
        const char *path;
        double value, error;
    } expected[] = {
        {"uptime_s", 8, 0},
        {"max_model_len", 4096, 0},
        {"block_size", 16, 0},
        {"requests.running", 3, 0},
        {"requests.waiting", 4, 0},
        {"requests.finished.length", 1, 0},
        {"requests.finished.abort", 1, 0},
        {"requests.finished.error", 0, 0},
        {"tokens.prompt", 30, 0},
        {"tokens.generated", 5, 0},
        {"tokens.cached", 16, 0},
        {"tokens.prompt_per_s", 0, 0},
        {"tokens.generated_per_s", 1, 0},
        {"latency_s.ttft.p50", 3, 0.05},
        {"latency_s.itl.p99", 0.25, 0.05},
        {"latency_s.e2e.p90", 4, 0.05},
        {"kv.used_blocks", 50, 0},
        {"kv.cached_blocks", 40, 0},
        {"kv.blocks", 200, 0},
        {"groups.1.index", 1, 0},
        {"groups.1.first_rank", 3, 0},
        {"groups.1.ranks", 2, 0},
        {"groups.1.tp", 1, 0},
        {"groups.1.running", 1, 0},
        {"groups.1.kv_used_blocks", 50, 0},
        {"groups.1.steps", 14, 0},
        {"groups.1.step_ms", 5, 1e-9},
        {"groups.1.tokens_per_s", 15, 1e-9},
        {"groups.0.step_ms", 0, 0},
        {"ranks.0.group", -1, 0},
        {"ranks.3.group", 1, 0},
        {"connections", 7, 0},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        double value = json_number_value(get(status, expected[i].path));
        if (fabs(value - expected[i].value) > expected[i].error * fabs(expected[i].value))
            fail_msg("%s is %g, not %g", expected[i].path, value, expected[i].value);
    }
    assert_true(json_is_null(get(status, "job_id")));
    assert_string_equal(json_string_value(get(status, "state")), "ready");
    assert_string_equal(json_string_value(get(status, "groups.0.role")), "prefill");
    assert_string_equal(json_string_value(get(status, "layout")), "prefill 1x2:tp=2 decode 1x2");
    json_decref(status);
    pr_metrics_destroy(metrics);
}

// Names and types in the text and in docs/metrics.md are the same.
static void every_metric_is_documented_and_nothing_else(void **state)
{
    (void)state;
    char line[1024], row[300];
    FILE *file = fopen(PR_SOURCE_DIR "/docs/metrics.md", "r");
    assert_non_null(file);
    pr_metrics *metrics = create("demo");
    char *text = print(metrics, begin);
    int documented = 0;
    while (fgets(line, sizeof line, file)) {
        char name[128], type[32];
        if (sscanf(line, "| `%127[^`]` | %31s |", name, type) != 2)
            continue;
        snprintf(row, sizeof row, "\n# TYPE %s %s\n", name, type);
        if (!strstr(text, row))
            fail_msg("docs/metrics.md has a row that /metrics has not: %s %s", name, type);
        documented++;
    }
    fclose(file);
    assert_int_equal(documented, check_text(text));
    free(text);
    pr_metrics_destroy(metrics);
}

// ---- Parts ----

static void a_value_on_a_bound_is_in_the_bounds_bucket(void **state)
{
    (void)state;
    assert_int_equal(pr_histogram_place(&pr_histogram_iteration, 0), 0);
    assert_int_equal(pr_histogram_place(&pr_histogram_iteration, 1), 0);
    assert_int_equal(pr_histogram_place(&pr_histogram_iteration, 1.5), 1);
    assert_int_equal(pr_histogram_place(&pr_histogram_iteration, 8), 1);
    assert_int_equal(pr_histogram_place(&pr_histogram_iteration, 16384), 12);
    assert_int_equal(pr_histogram_place(&pr_histogram_iteration, 16385), 13);
    assert_int_equal(pr_histogram_iteration.bounds + 1, PR_ITERATION_BUCKETS);
}

static void token_bounds_end_at_the_longest_request(void **state)
{
    (void)state;
    assert_int_equal(pr_histogram_tokens(1).bounds, 1);
    assert_int_equal(pr_histogram_tokens(4).bounds, 2);
    assert_int_equal(pr_histogram_tokens(5).bounds, 3);
    pr_histogram_scale scale = pr_histogram_tokens(4096);
    assert_int_equal(scale.bounds, 11);
    assert_true(scale.bound[10] == 2000);
    scale = pr_histogram_tokens(INT32_MAX);
    assert_int_equal(scale.bounds, 29);
    assert_true(scale.bound[27] == 1e9 && scale.bound[28] == 2e9);
}

static void quantiles_forget_after_a_minute(void **state)
{
    (void)state;
    pr_recent_values *recent = calloc(1, sizeof *recent);
    assert_non_null(recent);
    assert_true(pr_recent_values_quantile(recent, begin, 0.5) == 0);
    for (int i = 1; i <= 100; i++)
        pr_recent_values_add(recent, begin, i * 0.01);
    assert_true(fabs(pr_recent_values_quantile(recent, begin, 0.5) - 0.5) < 0.03);
    assert_true(fabs(pr_recent_values_quantile(recent, begin, 0.99) - 0.99) < 0.05);
    assert_true(pr_recent_values_quantile(recent, begin + 54 * second, 0.5) > 0);
    assert_true(pr_recent_values_quantile(recent, begin + 60 * second, 0.5) == 0);
    pr_recent_values_add(recent, begin + 60 * second, 1e-9);
    pr_recent_values_add(recent, begin + 60 * second, 1e9);
    assert_true(pr_recent_values_quantile(recent, begin + 60 * second, 0.5) < 2e-5);
    assert_true(pr_recent_values_quantile(recent, begin + 60 * second, 1) > 1000);
    free(recent);
}

static void rates_are_of_the_last_seconds(void **state)
{
    (void)state;
    pr_recent_sum recent = {0};
    assert_true(pr_recent_sum_rate(&recent, begin) == 0);
    for (int i = 0; i < 20; i++)
        pr_recent_sum_add(&recent, begin + i * second / 2, 5);
    // 5.5 s of 10 a second.
    assert_true(fabs(pr_recent_sum_rate(&recent, begin + 19 * second / 2) - 10) < 1.1);
    assert_true(pr_recent_sum_rate(&recent, begin + 16 * second) == 0);
}

static pr_report step_report(int32_t lane, uint64_t plan, uint32_t step, int32_t rows, int64_t ns)
{
    return (pr_report){
        .group = 1,
        .lane = lane,
        .plan = plan,
        .step = step,
        .step_ns = ns,
        .work = {.prefill_rows = rows, .decode_sequences = 1},
    };
}

static void a_step_counts_once_and_its_tokens_over_all_lanes(void **state)
{
    (void)state;
    pr_step_tally *tally;
    assert_int_equal(pr_step_tally_create(2, &tally), PR_OK);
    const pr_report report[] = {
        step_report(0, 1, 0, 3, 100),
        step_report(0, 1, 1, 0, 50),
        step_report(1, 1, 0, 3, 120),
        step_report(1, 1, 1, 0, 40),
        step_report(0, 2, 0, 0, 30),
        step_report(0, 2, 0, 0, 0),
        {.group = 5, .plan = 1, .step_ns = 9, .work = {.prefill_rows = 1}},
        {.group = -1, .plan = 1, .step_ns = 9, .work = {.prefill_rows = 1}},
    };
    for (size_t i = 0; i < sizeof report / sizeof report[0]; i++)
        pr_step_tally_add(tally, &report[i]);
    pr_group_snapshot group[2] = {0};
    pr_snapshot snapshot = {.groups = 2, .group = group};
    for (int again = 0; again < 2; again++) {
        pr_step_tally_read(tally, &snapshot);
        assert_int_equal(group[1].steps, 3);
        assert_true(fabs(group[1].step_s - 200e-9) < 1e-15);
        assert_int_equal(group[1].prefill_tokens, 6);
        assert_int_equal(group[1].decode_tokens, 5);
        assert_int_equal(group[0].steps, 0);
        // Steps of 8, 2 and 1 tokens.
        assert_int_equal(snapshot.iteration_bucket[0], 1);
        assert_int_equal(snapshot.iteration_bucket[1], 2);
        assert_int_equal(snapshot.iteration_sum, 11);
    }
    for (uint32_t step = 0; step < 100; step++) {
        pr_report more = step_report(0, 3, step, 9, 10);
        pr_step_tally_add(tally, &more);
    }
    pr_step_tally_read(tally, &snapshot);
    assert_int_equal(group[1].steps, 103);
    assert_int_equal(snapshot.iteration_bucket[2], 100);
    assert_int_equal(snapshot.iteration_sum, 1011);
    pr_step_tally_destroy(tally);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_is_well_formed_and_the_numbers_are_right),
        cmocka_unit_test(nothing_measured_is_well_formed_too),
        cmocka_unit_test(the_status_says_the_same),
        cmocka_unit_test(every_metric_is_documented_and_nothing_else),
        cmocka_unit_test(a_value_on_a_bound_is_in_the_bounds_bucket),
        cmocka_unit_test(token_bounds_end_at_the_longest_request),
        cmocka_unit_test(quantiles_forget_after_a_minute),
        cmocka_unit_test(rates_are_of_the_last_seconds),
        cmocka_unit_test(a_step_counts_once_and_its_tokens_over_all_lanes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
