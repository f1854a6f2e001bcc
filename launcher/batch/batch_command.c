// SPDX-License-Identifier: BSD-3-Clause
// `polyreme batch`: opens the engine on every rank, runs a JSONL file through it, sums up.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/batch/batch_line.h"
#include "launcher/batch/batch_run.h"
#include "launcher/batch/batch_state.h"
#include "launcher/commands.h"
#include "launcher/engine/engine.h"
#include "launcher/engine/layout_choice.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

typedef struct opening {
    const pr_options *options;
    pr_batch_run *run;
    bool complete;
} opening;

static pr_status prepare(void *context)
{
    opening *open = context;
    return pr_batch_run_create(open->options, &open->run, &open->complete);
}

static void sum_up_ranks(const pr_engine *engine, const pr_controller *controller)
{
    for (int32_t rank = 0; rank < engine->ranks; rank++) {
        const pr_worker_counts *counts = pr_controller_counts(controller, rank);
        int32_t index = pr_layout_group_of(&engine->layout, rank);
        if (index < 0)
            continue;
        pr_log(
            PR_LOG_INFO,
            "rank %d (%s group %d): %lld bytes of weights read, %lld steps, %lld rows in %.2f s; "
            "sent MB: reduce %.2f, gather %.2f, dispatch %.2f, combine %.2f, KV %.2f",
            rank, pr_role_name(engine->layout.group[index].role), index,
            (long long)counts->read_bytes, (long long)counts->steps, (long long)counts->rows,
            (double)counts->step_ns * 1e-9, (double)counts->reduce_bytes / 1e6,
            (double)counts->gather_bytes / 1e6, (double)counts->dispatch_bytes / 1e6,
            (double)counts->combine_bytes / 1e6, (double)counts->transfer_bytes / 1e6);
    }
}

// What the run says about the step time model (docs/scheduling.md), for each role that ran steps.
static void sum_up_step_times(const pr_controller *controller)
{
    for (int32_t role = 0; role < PR_ROLES; role++) {
        const pr_step_fit *fit = pr_controller_step_fit(controller, (pr_role)role);
        if (fit->observations == 0)
            continue;
        const double *constant = fit->constant;
        pr_fit_quality quality;
        pr_step_fit_quality(fit, &quality);
        pr_log(
            PR_LOG_INFO,
            "step time of %s groups from %lld steps: %.4g ms + per prefill row %.4g us, pair %.4g "
            "ns, decode sequence %.4g us, context token %.4g ns; R2 %.3f, errors of %lld steps: "
            "p50 %.1f %%, p99 %.1f %%",
            pr_role_name((pr_role)role), (long long)quality.observations, constant[0] * 1e3,
            constant[1] * 1e6, constant[2] * 1e9, constant[3] * 1e6, constant[4] * 1e9, quality.r2,
            (long long)quality.judged, quality.error_p50 * 100, quality.error_p99 * 100);
    }
}

static void sum_up_walltime(const pr_controller *controller, const pr_scheduler_counts *counts)
{
    pr_walltime_state state;
    int64_t end_unix_s;
    pr_controller_walltime(controller, &state, &end_unix_s);
    if (counts->left == 0)
        return;
    char needs[64] = "";
    if (state.longest_left_s > 0)
        snprintf(
            needs, sizeof needs, ", each of them may take %.1f to %.1f s", state.shortest_left_s,
            state.longest_left_s);
    pr_log(
        PR_LOG_INFO,
        "walltime: %lld requests of those read are left for the next job, %lld of them begun; idle "
        "tail %.1f s%s",
        (long long)counts->left, (long long)counts->cut, (double)state.idle_tail_ns * 1e-9, needs);
}

static void sum_up(
    const pr_engine *engine,
    const pr_controller *controller,
    const pr_batch_totals *totals,
    double seconds)
{
    pr_scheduler_counts counts;
    pr_controller_scheduler_counts(controller, &counts);
    sum_up_ranks(engine, controller);
    sum_up_walltime(controller, &counts);
    sum_up_step_times(controller);
    pr_log(
        PR_LOG_INFO,
        "%lld requests answered (%lld of them before), %lld refused in %.2f s: %lld prompt tokens "
        "(%lld from the prefix "
        "cache, %lld fetched from other lanes), %lld output tokens, %.0f tokens/s out; "
        "%lld preemptions, %lld handovers, %lld role changes, %lld gathers, %lld short cuts",
        (long long)totals->answered, (long long)totals->earlier_answered,
        (long long)totals->refused, seconds, (long long)totals->prompt_tokens,
        (long long)counts.cached_tokens, (long long)counts.gathered_tokens,
        (long long)totals->output_tokens,
        (double)(totals->output_tokens - totals->earlier_output_tokens) / seconds,
        (long long)counts.preemptions, (long long)counts.handovers, (long long)counts.role_changes,
        (long long)counts.gathers, (long long)counts.short_cuts);
    if (counts.handovers_lost + counts.gathers_lost > 0)
        pr_log(
            PR_LOG_WARN, "%lld handovers and %lld gathers arrived damaged and were computed again",
            (long long)counts.handovers_lost, (long long)counts.gathers_lost);
    pr_log(
        PR_LOG_INFO, "results: %s; decision hash %016llx", engine->options->output,
        (unsigned long long)pr_controller_hash(controller));
}

static int exit_code(const pr_batch_totals *totals)
{
    int signal_number = pr_engine_signal();
    if (totals->resumable && signal_number != SIGINT) {
        pr_log(
            PR_LOG_INFO, "preempted: %lld answered, %lld refused so far; go on with --resume",
            (long long)totals->answered, (long long)totals->refused);
        return PR_EXIT_OK;
    }
    if (signal_number != 0 && !totals->complete) {
        pr_log(
            PR_LOG_WARN, "stopped by signal %d after %lld answers: %s", signal_number,
            (long long)totals->answered,
            totals->resumable ? "go on with --resume" : "the output holds what was done");
        return 128 + signal_number;
    }
    if (!totals->complete) {
        pr_log(
            PR_LOG_WARN, "out of time after %lld answers: the output holds what was done",
            (long long)totals->answered);
        return PR_EXIT_UNFINISHED;
    }
    return totals->refused > 0 ? PR_EXIT_SOME_FAILED : PR_EXIT_OK;
}

// Why a run ends before its input does: for the state.
static const char *reason_of_signal(char text[64])
{
    int number = pr_engine_signal();
    if (number == 0)
        return "";
    snprintf(text, 64, "signal %d (%s)", number, strsignal(number));
    return text;
}

static pr_batch_ending describe_end(const pr_controller *controller, char text[64])
{
    pr_batch_ending ending = {.reason = reason_of_signal(text)};
    pr_scheduler_counts counts;
    pr_walltime_state state;
    pr_controller_scheduler_counts(controller, &counts);
    pr_controller_walltime(controller, &state, &ending.end_unix_s);
    if (counts.left > 0 && !*ending.reason)
        ending.reason = "walltime";
    if (counts.left > 0)
        ending.idle_tail_s = (double)state.idle_tail_ns * 1e-9;
    return ending;
}

static int run_batch(pr_engine *engine, pr_batch_run *run)
{
    pr_controller *controller = NULL;
    pr_batch_totals totals = {0};
    int64_t begin_ns = pr_clock_now_ns();
    if (engine->rank != 0) {
        pr_status status = pr_engine_run(engine, NULL, &controller);
        pr_engine_close(engine, NULL, status);
        return pr_exit_code(status);
    }
    pr_face face = pr_batch_run_face(run);
    pr_status status = pr_batch_run_attach(run, engine);
    if (status == PR_OK)
        status = pr_engine_run(engine, &face, &controller);
    double seconds = (double)(pr_clock_now_ns() - begin_ns) * 1e-9;
    char reason[64];
    if (status == PR_OK) {
        const pr_batch_ending ending = describe_end(controller, reason);
        status = pr_batch_run_finish(run, &ending, &totals);
    }
    if (status == PR_OK)
        sum_up(engine, controller, &totals, seconds);
    // Told before the ranks part: a launcher that ends the job may not wait for that.
    int code = status == PR_OK ? exit_code(&totals) : pr_exit_code(status);
    pr_batch_run_destroy(run);  // its answers use the engine's tokenizer
    pr_engine_close(engine, controller, status);
    return code;
}

// Needs the model's config and tokenizer, but no weights and no MPI.
static pr_status validate(pr_batch_run *run, pr_engine *engine)
{
    const pr_options *options = engine->options;
    PR_TRY(pr_model_open(options->model, &engine->model));
    PR_TRY(pr_tokenizer_open(options->model, &engine->tokenizer));
    PR_TRY(pr_engine_name_model(engine));
    engine->max_model_len =
        options->max_model_len ? options->max_model_len : engine->model->max_positions;
    PR_TRY(pr_batch_run_attach(run, engine));
    return pr_batch_run_validate(run);
}

static int validate_only(const pr_options *options)
{
    pr_engine engine = {.options = options};
    pr_batch_run *run = NULL;
    pr_batch_totals totals = {0};
    bool complete;
    pr_status status = pr_batch_run_create(options, &run, &complete);
    if (status == PR_OK)
        status = validate(run, &engine);
    if (status == PR_OK)
        status = pr_batch_run_finish(run, &(pr_batch_ending){0}, &totals);
    if (status == PR_OK)
        printf(
            "%lld lines can be run, %lld would be refused\n", (long long)totals.answered,
            (long long)totals.refused);
    pr_batch_run_destroy(run);
    pr_tokenizer_close(engine.tokenizer);
    pr_model_close(engine.model);
    free(engine.model_name);
    if (status != PR_OK)
        return pr_exit_code(status);
    return totals.refused > 0 ? PR_EXIT_SOME_FAILED : PR_EXIT_OK;
}

int pr_batch_command(const pr_options *options)
{
    if (options->state)
        return pr_world_is_first() ? pr_batch_state_print(options->state) : PR_EXIT_OK;
    if (options->validate_only)
        return pr_world_is_first() ? validate_only(options) : PR_EXIT_OK;
    char reason[64];
    opening open = {.options = options};
    pr_engine_prepare preparation = {
        .call = prepare, .context = &open, .nothing_to_do = &open.complete};
    pr_engine *engine;
    pr_status status = pr_engine_open(options, &preparation, &engine);
    if (status == PR_OK && !engine)
        return PR_EXIT_OK;
    if (status == PR_OK)
        return run_batch(engine, open.run);
    bool told = status == PR_ERR_INTERRUPTED && open.run && pr_engine_signal() != SIGINT &&
                pr_batch_run_interrupt(open.run, reason_of_signal(reason));
    pr_batch_run_destroy(open.run);
    return told ? PR_EXIT_OK : pr_engine_exit_code(status);
}
