// SPDX-License-Identifier: BSD-3-Clause
// `polyreme bench`: a trace, scaled down, on the live runtime with its arrival times.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "launcher/bench/bench_run.h"
#include "launcher/commands.h"
#include "launcher/engine/layout_choice.h"
#include "launcher/simulate/run_table.h"
#include "launcher/simulate/workload.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

typedef struct bench {
    const pr_options *options;
    double speed;
    pr_trace trace;
} bench;

// Rank 0, before the model is loaded.
static pr_status prepare(void *context)
{
    bench *made = context;
    const char *text = made->options->speed;
    char *end;
    made->speed = strtod(text, &end);
    if (*end != '\0' || !(made->speed > 0) || !isfinite(made->speed))
        return pr_fail(PR_ERR_ARGUMENT, "--speed '%s' is not one number above 0", text);
    return pr_workload_read(made->options, &made->trace);
}

static json_t *about(const bench *made, const pr_engine *engine)
{
    char layout[PR_LAYOUT_TEXT_BYTES];
    json_t *facts = pr_workload_about(made->options, &made->trace);
    pr_layout_describe(&engine->layout, layout);
    json_object_set_new(facts, "command", json_string("bench"));
    json_object_set_new(facts, "model", json_string(engine->model_name));
    json_object_set_new(facts, "layout", json_string(layout));
    json_object_set_new(facts, "ranks", json_integer(engine->ranks));
    json_object_set_new(facts, "device", json_string(engine->device.device->isa));
    json_object_set_new(facts, "policy", json_string(made->options->policy));
    json_object_set_new(facts, "speed", json_real(made->speed));
    json_object_set_new(facts, "scale_tokens", json_integer(made->options->scale_tokens));
    json_object_set_new(facts, "kv_blocks", json_integer(engine->kv_blocks));
    json_object_set_new(facts, "block_size", json_integer(made->options->block_size));
    json_object_set_new(facts, "max_num_seqs", json_integer(made->options->max_num_seqs));
    json_object_set_new(
        facts, "max_num_batched_tokens", json_integer(made->options->max_num_batched_tokens));
    return facts;
}

static json_t *counts_json(const pr_scheduler_counts *counts, uint64_t hash)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "plans",
        (json_int_t)counts->plans, "prefill_tokens", (json_int_t)counts->prefill_tokens,
        "cached_tokens", (json_int_t)counts->cached_tokens, "output_tokens",
        (json_int_t)counts->output_tokens, "preemptions", (json_int_t)counts->preemptions,
        "handovers", (json_int_t)counts->handovers, "role_changes",
        (json_int_t)counts->role_changes, "gathers", (json_int_t)counts->gathers, "gathered_tokens",
        (json_int_t)counts->gathered_tokens, "short_cuts", (json_int_t)counts->short_cuts,
        "decision_hash", text);
}

static void print_json(json_t *facts, const pr_run_point *point, json_t *scheduler)
{
    json_t *all = json_pack(
        "{s:O, s:[o], s:O}", "about", facts, "runs", pr_run_point_json(point), "scheduler",
        scheduler);
    json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
    putchar('\n');
    json_decref(all);
}

static void print_table(const bench *made, const pr_run_point *point)
{
    printf(
        "%s: %lld requests, lengths divided by %d\n\n", made->options->trace,
        (long long)made->trace.requests, (int)made->options->scale_tokens);
    pr_run_table_begin(stdout);
    pr_run_table_row(stdout, point);
}

static pr_status tell(
    const bench *made,
    const pr_engine *engine,
    const pr_run_record *record,
    const pr_controller *controller,
    double wall_s)
{
    pr_scheduler_counts counts;
    pr_controller_scheduler_counts(controller, &counts);
    pr_run_point point = {
        .policy = made->options->policy,
        .speed = made->speed,
        .wall_s = wall_s,
        .decisions = counts.plans,
    };
    PR_TRY(pr_statistics_compute(record, NULL, &point.statistics));
    json_t *facts = about(made, engine);
    json_t *scheduler = counts_json(&counts, pr_controller_hash(controller));
    if (made->options->json)
        print_json(facts, &point, scheduler);
    else
        print_table(made, &point);
    pr_log(
        PR_LOG_INFO,
        "%lld plans: %lld prompt tokens computed, %lld from the prefix cache, %lld fetched, %lld "
        "output tokens, "
        "%lld preemptions, %lld handovers, %lld role changes; decision hash %016llx",
        (long long)counts.plans, (long long)counts.prefill_tokens, (long long)counts.cached_tokens,
        (long long)counts.gathered_tokens, (long long)counts.output_tokens,
        (long long)counts.preemptions, (long long)counts.handovers, (long long)counts.role_changes,
        (unsigned long long)pr_controller_hash(controller));
    pr_status status = pr_workload_write(made->options, record, facts);
    json_decref(scheduler);
    json_decref(facts);
    return status;
}

static pr_status run_rank_zero(bench *made, pr_engine *engine, pr_controller **controller)
{
    pr_bench_params params = {
        .trace = &made->trace,
        .speed = made->speed,
        .scale_tokens = made->options->scale_tokens,
    };
    pr_bench_run *run;
    PR_TRY(pr_bench_run_create(&params, engine, &run));
    pr_face face = pr_bench_run_face(run);
    int64_t begin_ns = pr_clock_now_ns();
    pr_status status = pr_engine_run(engine, &face, controller);
    double wall_s = (double)(pr_clock_now_ns() - begin_ns) * 1e-9;
    if (status == PR_OK)
        status = tell(made, engine, pr_bench_run_finish(run, *controller), *controller, wall_s);
    pr_bench_run_destroy(run);
    return status;
}

int pr_bench_command(const pr_options *options)
{
    bench made = {.options = options};
    pr_engine_prepare preparation = {.call = prepare, .context = &made};
    pr_engine *engine;
    pr_controller *controller = NULL;
    pr_status status = pr_engine_open(options, &preparation, &engine);
    if (status == PR_OK) {
        if (engine->rank == 0)
            status = run_rank_zero(&made, engine, &controller);
        else
            status = pr_engine_run(engine, NULL, &controller);
        pr_engine_close(engine, controller, status);
    }
    pr_trace_free(&made.trace);
    int signal_number = pr_world_is_first() ? pr_engine_signal() : 0;
    return signal_number ? 128 + signal_number : pr_engine_exit_code(status);
}
