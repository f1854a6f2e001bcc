// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/plan/split_mode.h"

#include <stdio.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/plan/plan_command.h"
#include "launcher/plan/split_search.h"
#include "launcher/simulate/workload.h"
#include "runtime/base/log.h"

static const double GOODPUT = 0.9;

typedef struct split_view {
    const pr_options *options;
    pr_trace trace;
    pr_cost_model cost;
    const char *cost_name;
    bool validated;
    int32_t tp;
    int32_t cache_blocks;
    pr_simulation_target target;
    pr_split_search search;
} split_view;

// ---- What a group is ----

// Prefill's and decode's side of the two lanes' models, in one.
static void join_costs(const pr_prediction *prediction, pr_cost_model *cost)
{
    *cost = prediction->prefill;
    cost->step_s = prediction->decode.step_s;
    cost->step_sequence_s = prediction->decode.step_sequence_s;
    cost->step_context_s = prediction->decode.step_context_s;
    cost->max_batch = prediction->decode.max_batch;
    cost->capacity_tokens = prediction->decode.capacity_tokens;
}

static pr_status find_cost(split_view *view)
{
    const pr_options *options = view->options;
    view->cache_blocks = options->cache_blocks;
    view->cost_name = options->cost;
    if (pr_options_given(options, "cost"))
        return pr_cost_model_parse(options->cost, &view->cost);
    if (!options->machine)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--split needs step times: name a machine with --machine, or a model with --cost");
    pr_prediction prediction;
    PR_TRY(pr_plan_forecast(options, &prediction));
    join_costs(&prediction, &view->cost);
    view->cost_name = options->machine;
    view->validated = prediction.machine.checked != NULL;
    // A lane's prefix cache is its KV pool.
    int64_t blocks = prediction.prefill.capacity_tokens / options->block_tokens;
    if (!pr_options_given(options, "cache-blocks"))
        view->cache_blocks = blocks < 1 ? 1 : blocks > INT32_MAX ? INT32_MAX : (int32_t)blocks;
    return PR_OK;
}

// Arrivals that were made at one a second, at the rate at which prefill alone would keep half the groups
// busy: the search begins there.
static void scale_arrivals(split_view *view)
{
    pr_trace *trace = &view->trace;
    double busy_s = 0;
    for (int64_t i = 0; i < trace->requests; i++)
        busy_s += pr_cost_model_prefill_s(&view->cost, trace->request[i].prompt_tokens, 0);
    double rate = 0.5 * view->options->split * (double)trace->requests / busy_s;
    for (int64_t i = 0; i < trace->requests; i++)
        trace->request[i].arrival_s /= rate;
}

static pr_status read_trace(split_view *view)
{
    pr_options reading = *view->options;
    if (!reading.trace)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--split needs a workload: --trace FILE, with arrival times or lengths alone");
    bool unsaid = reading.rate <= 0;
    if (unsaid)
        reading.rate = 1;
    PR_TRY(pr_workload_read(&reading, &view->trace));
    if (unsaid && view->trace.made_arrivals)
        scale_arrivals(view);
    return PR_OK;
}

static pr_status search(split_view *view)
{
    const pr_options *options = view->options;
    PR_TRY(find_cost(view));
    PR_TRY(read_trace(view));
    view->target = (pr_simulation_target){
        .slo_b = strcmp(options->slo, "slo-b") == 0,
        .goodput = GOODPUT,
        .ttft_limit_s = options->ttft_limit,
    };
    pr_simulation simulation = {
        .trace = &view->trace,
        .fleet =
            {
                .cache_blocks = view->cache_blocks,
                .cost = &view->cost,
                .seed = (uint64_t)options->trace_seed,
                .queue = pr_workload_queue(options),
                .flow = pr_workload_flow(options),
            },
    };
    return pr_split_search_run(
        &simulation, options->policy, &view->target, options->split, &view->search);
}

// ---- Text ----

static double rate_of(const split_view *view, double speed)
{
    double span_s = view->trace.request[view->trace.requests - 1].arrival_s;
    return span_s > 0 ? speed * (double)view->trace.requests / span_s : 0;
}

static void print_row(const split_view *view, int32_t i)
{
    const pr_split *split = &view->search.split[i];
    const pr_statistics *s = &split->point.statistics;
    printf("%5d:%-5d |", (int)split->prefill, (int)split->decode);
    if (!split->meets) {
        puts("  misses the target at any speed");
        return;
    }
    printf(
        "%8.3f%8.2f |%8.3f%8.3f%8.3f |%8.1f%8.1f |%7.1f%s\n", split->point.speed,
        rate_of(view, split->point.speed), s->ttft_s.mean, s->ttft_s.p50, s->ttft_s.p99,
        s->tbt_s.mean * 1e3, s->tbt_s.p99 * 1e3,
        (view->target.slo_b ? s->goodput_b : s->goodput_a) * 100,
        i == view->search.best ? "  <- best" : "");
}

static void print_text(const split_view *view)
{
    const pr_options *options = view->options;
    printf(
        "%s: %lld requests, %.2f/s at speed 1\n", options->trace, (long long)view->trace.requests,
        rate_of(view, 1));
    printf(
        "%d groups of %s%s, %d cache blocks of %d tokens each, policy %s\n", (int)options->split,
        view->cost_name,
        view->validated || pr_options_given(options, "cost") ? "" : " (not validated)",
        (int)view->cache_blocks, (int)options->block_tokens, options->policy);
    printf(
        "capacity: highest speed with %.0f %% of requests within %s", GOODPUT * 100,
        view->target.slo_b ? "SLO-B" : "SLO-A");
    if (view->target.ttft_limit_s > 0)
        printf(" and TTFT p99 <= %g s", view->target.ttft_limit_s);
    printf(
        "\n\n%-11s |%16s |%24s |%16s |%7s\n%11s |%8s%8s |%8s%8s%8s |%8s%8s |%7s\n", "  prefill",
        "capacity", "TTFT s", "TBT ms", "goodput", ":decode ", "speed", "req/s", "mean", "p50",
        "p99", "mean", "p99", "%");
    for (int32_t i = 0; i < view->search.splits; i++)
        print_row(view, i);
    if (view->search.best < 0) {
        puts("\nNo split meets the target: take more or faster groups, or another target");
        return;
    }
    const pr_split *best = &view->search.split[view->search.best];
    printf(
        "\n%d prefill and %d decode groups bear most: %.3g times the trace, %.3g requests/s, %.3g "
        "for "
        "each group\n",
        (int)best->prefill, (int)best->decode, best->point.speed, rate_of(view, best->point.speed),
        rate_of(view, best->point.speed) / options->split);
}

// ---- JSON ----

static void print_json(const split_view *view)
{
    json_t *rows = json_array();
    for (int32_t i = 0; i < view->search.splits; i++) {
        const pr_split *split = &view->search.split[i];
        json_t *row = split->meets ? pr_run_point_json(&split->point) : json_object();
        json_object_set_new(row, "prefill_groups", json_integer(split->prefill));
        json_object_set_new(row, "decode_groups", json_integer(split->decode));
        json_object_set_new(row, "meets", json_boolean(split->meets));
        json_array_append_new(rows, row);
    }
    json_t *about = pr_workload_about(view->options, &view->trace);
    json_object_set_new(about, "command", json_string("plan --split"));
    json_object_set_new(about, "cost", json_string(view->cost_name));
    json_object_set_new(about, "slo", json_string(view->options->slo));
    json_object_set_new(about, "groups", json_integer(view->options->split));
    json_object_set_new(about, "cache_blocks", json_integer(view->cache_blocks));
    pr_workload_add_cost(about, &view->cost);
    const pr_split *best = view->search.best < 0 ? NULL : &view->search.split[view->search.best];
    json_t *all = json_pack(
        "{s:o, s:o, s:i, s:i, s:f}", "about", about, "splits", rows, "prefill_groups",
        best ? (int)best->prefill : 0, "decode_groups", best ? (int)best->decode : 0,
        "requests_per_s", best ? rate_of(view, best->point.speed) : 0.0);
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    putchar('\n');
    json_decref(all);
}

int pr_split_mode(const pr_options *options)
{
    static split_view view;  // one per process
    view.options = options;
    pr_status status = search(&view);
    if (status == PR_OK && options->json)
        print_json(&view);
    else if (status == PR_OK)
        print_text(&view);
    pr_trace_free(&view.trace);
    return pr_exit_code(status);
}
