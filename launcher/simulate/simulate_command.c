// SPDX-License-Identifier: BSD-3-Clause
// `polyreme simulate`: the scheduler on virtual time. No model, no MPI.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/simulate/calibrate_mode.h"
#include "launcher/simulate/replay_mode.h"
#include "launcher/simulate/simulation.h"
#include "launcher/simulate/workload.h"
#include "runtime/base/log.h"
#include "scheduler/policy/policy.h"

enum { MAX_ITEMS = 64 };

static const double CAPACITY_GOODPUT = 0.9;

typedef struct text_list {
    char *copy;
    char *item[MAX_ITEMS];
    int32_t items;
} text_list;

typedef struct simulate_run {
    const pr_options *options;
    pr_trace trace;
    pr_cost_model cost;
    pr_simulation simulation;
    text_list policy;
    double speed[MAX_ITEMS];
    int32_t speeds;
    pr_simulation_target target;
    json_t *runs;  // with --json
} simulate_run;

// ---- Arguments ----

// "weights:a=1,b=2,other": a part with "=" and no ":" before it belongs to the item before.
static bool begins_item(const char *part)
{
    size_t length = strcspn(part, ",");
    const char *equals = memchr(part, '=', length), *colon = memchr(part, ':', length);
    return !equals || (colon && colon < equals);
}

static pr_status split(const char *flag, const char *text, text_list *list)
{
    list->items = 0;
    list->copy = strdup(text);
    if (!list->copy)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %s", flag);
    for (char *part = list->copy; part;) {
        char *comma = strchr(part, ',');
        if (list->items == 0 || begins_item(part)) {
            if (list->items == MAX_ITEMS)
                return pr_fail(PR_ERR_ARGUMENT, "%s has more than %d entries", flag, MAX_ITEMS);
            if (list->items > 0)
                part[-1] = '\0';
            list->item[list->items++] = part;
        }
        part = comma ? comma + 1 : NULL;
    }
    for (int32_t i = 0; i < list->items; i++) {
        if (*list->item[i] == '\0')
            return pr_fail(PR_ERR_ARGUMENT, "%s '%s' has an empty entry", flag, text);
    }
    return PR_OK;
}

static pr_status read_speeds(const char *text, simulate_run *run)
{
    text_list list = {0};
    pr_status status = split("--speed", text, &list);
    for (int32_t i = 0; status == PR_OK && i < list.items; i++) {
        char *end;
        double speed = strtod(list.item[i], &end);
        if (*end != '\0' || !(speed > 0) || !isfinite(speed))
            status = pr_fail(PR_ERR_ARGUMENT, "--speed '%s' is not a number above 0", list.item[i]);
        run->speed[run->speeds++] = speed;
    }
    free(list.copy);
    return status;
}

// "prefill=8,decode=8"
static pr_status read_groups(const char *text, int32_t *prefill, int32_t *decode)
{
    enum { MOST = 1 << 20 };
    int length = 0;
    bool whole = sscanf(text, "prefill=%d,decode=%d%n", prefill, decode, &length) == 2 &&
                 text[length] == '\0';
    if (!whole || *prefill < 1 || *prefill > MOST || *decode < 1 || *decode > MOST)
        return pr_fail(
            PR_ERR_ARGUMENT, "--groups '%s': write prefill=P,decode=D with numbers from 1", text);
    return PR_OK;
}

static pr_status check_together(const simulate_run *run)
{
    const pr_options *options = run->options;
    bool one = run->policy.items == 1 && (run->speeds == 1 || options->capacity);
    if ((options->dump || options->hdf5) && !one)
        return pr_fail(
            PR_ERR_ARGUMENT, "--dump and --hdf5 hold one run: give one --policy and one --speed");
    if (options->spans > 0 && !options->dump && !options->hdf5)
        return pr_fail(PR_ERR_ARGUMENT, "--spans needs --dump FILE or --hdf5 FILE to write to");
    return PR_OK;
}

static pr_status prepare(simulate_run *run)
{
    const pr_options *options = run->options;
    pr_fleet_params *fleet = &run->simulation.fleet;
    *fleet = (pr_fleet_params){
        .cache_blocks = options->cache_blocks,
        .cost = &run->cost,
        .seed = (uint64_t)options->trace_seed,
        .queue = pr_workload_queue(options),
        .flow = pr_workload_flow(options),
        .expected_is_true = options->known_outputs,
    };
    // Figures are for a fixed split unless something else is asked for.
    if (pr_options_given(options, "balance"))
        fleet->balance = pr_options_balance(options);
    run->target = (pr_simulation_target){
        .slo_b = options->capacity && strcmp(options->capacity, "slo-b") == 0,
        .goodput = CAPACITY_GOODPUT,
        .ttft_limit_s = options->ttft_limit,
    };
    run->simulation.trace = &run->trace;
    run->simulation.most_spans = options->spans;
    PR_TRY(read_groups(options->groups, &fleet->prefill_groups, &fleet->decode_groups));
    PR_TRY(pr_fleet_engine_parse(options->engine, &fleet->engine));
    PR_TRY(pr_cost_model_parse(options->cost, &run->cost));
    PR_TRY(split("--policy", options->policy, &run->policy));
    for (int32_t i = 0; i < run->policy.items; i++)
        PR_TRY(pr_policy_check_spec(run->policy.item[i], false));
    PR_TRY(read_speeds(options->speed, run));
    PR_TRY(check_together(run));
    return pr_workload_read(options, &run->trace);
}

// ---- Runs ----

static json_t *about(const simulate_run *run)
{
    json_t *facts = pr_workload_about(run->options, &run->trace);
    const pr_fleet_params *fleet = &run->simulation.fleet;
    json_object_set_new(facts, "command", json_string("simulate"));
    json_object_set_new(facts, "prefill_groups", json_integer(fleet->prefill_groups));
    json_object_set_new(facts, "decode_groups", json_integer(fleet->decode_groups));
    json_object_set_new(facts, "cache_blocks", json_integer(fleet->cache_blocks));
    json_object_set_new(
        facts, "balance",
        json_string(pr_options_given(run->options, "balance") ? run->options->balance : "off"));
    json_object_set_new(facts, "known_outputs", json_integer(fleet->expected_is_true));
    json_object_set_new(facts, "engine", json_string(run->options->engine));
    json_object_set_new(facts, "cost", json_string(run->options->cost));
    pr_workload_add_cost(facts, &run->cost);
    return facts;
}

static pr_status tell_run(simulate_run *run, const pr_run_record *record, const pr_run_point *point)
{
    json_t *facts = about(run);
    json_object_set_new(facts, "policy", json_string(point->policy));
    json_object_set_new(facts, "speed", json_real(point->speed));
    pr_status status = pr_workload_write(run->options, record, facts);
    json_decref(facts);
    if (run->options->json)
        json_array_append_new(run->runs, pr_run_point_json(point));
    else
        pr_run_table_row(stdout, point);
    return status;
}

static pr_status run_one(simulate_run *run, const char *policy, double speed)
{
    pr_run_record record;
    pr_run_point point;
    if (run->options->capacity)
        PR_TRY(pr_simulation_capacity(&run->simulation, policy, &run->target, &record, &point));
    else
        PR_TRY(pr_simulation_run(&run->simulation, policy, speed, &record, &point));
    pr_status status = tell_run(run, &record, &point);
    pr_run_record_free(&record);
    return status;
}

static void print_heading(const simulate_run *run)
{
    const pr_trace *trace = &run->trace;
    const pr_options *options = run->options;
    double span_s = trace->request[trace->requests - 1].arrival_s;
    printf(
        "%s: %lld requests, %.2f/s at speed 1; %s groups, %s, %d cache blocks a group\n",
        options->trace, (long long)trace->requests,
        span_s > 0 ? (double)trace->requests / span_s : 0.0, options->groups, options->cost,
        (int)options->cache_blocks);
    if (options->capacity) {
        printf("capacity: highest speed with %.0f %% of requests within ", CAPACITY_GOODPUT * 100);
        printf("%s", run->target.slo_b ? "SLO-B" : "SLO-A");
        if (run->target.ttft_limit_s > 0)
            printf(" and TTFT p99 <= %g s", run->target.ttft_limit_s);
        putchar('\n');
    }
    putchar('\n');
    pr_run_table_begin(stdout);
}

static void print_json(const simulate_run *run)
{
    json_t *all = json_pack("{s:o, s:O}", "about", about(run), "runs", run->runs);
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    putchar('\n');
    json_decref(all);
}

static pr_status run_all(simulate_run *run)
{
    PR_TRY(prepare(run));
    int32_t speeds = run->options->capacity ? 1 : run->speeds;
    if (!run->options->json)
        print_heading(run);
    for (int32_t p = 0; p < run->policy.items; p++) {
        for (int32_t s = 0; s < speeds; s++)
            PR_TRY(run_one(run, run->policy.item[p], run->speed[s]));
    }
    if (run->options->json)
        print_json(run);
    return PR_OK;
}

int pr_simulate_command(const pr_options *options)
{
    if (options->calibrate)
        return pr_calibrate_mode(options);
    if (options->replay)
        return pr_replay_mode(options);
    if (!options->trace)
        return pr_exit_code(pr_fail(
            PR_ERR_ARGUMENT, "give --trace FILE, or a record: --replay FILE or --calibrate FILE"));
    simulate_run run = {.options = options, .runs = json_array()};
    pr_status status = run_all(&run);
    pr_trace_free(&run.trace);
    json_decref(run.runs);
    free(run.policy.copy);
    return pr_exit_code(status);
}
