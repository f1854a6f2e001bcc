// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/bench/bench_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/batch/progress.h"
#include "launcher/bench/bench_prompt.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { MAX_REASONS = 32 };

// What is known of a request while it runs, beside its row.
typedef struct live_request {
    double last_s;         // when its latest token came
    double *gap_s;         // [outputs - 1], NULL when it is over
    bool gathers;          // blocks were asked for from another lane, before its admission
    int32_t local_tokens;  // then: the prefix that its own lane held
} live_request;

struct pr_bench_run {
    pr_bench_params params;
    const pr_layout *layout;
    int32_t block_size;  // of the KV cache
    pr_bench_scale scale;
    pr_run_record record;
    live_request *live;  // [requests]
    int64_t submitted, ended;
    int64_t prompt_tokens, output_tokens;  // so far
    bool begun;
    int64_t begin_ns;
    char *reason[MAX_REASONS];  // of rejections, each once
    int32_t reasons;
    pr_progress progress;
};

// ---- Before ----

static pr_status check_fit(const pr_bench_run *run, const pr_engine *engine)
{
    const pr_trace *trace = run->params.trace;
    for (int64_t i = 0; i < trace->requests; i++) {
        int32_t prompt = pr_bench_prompt_tokens(&run->scale, &trace->request[i]);
        int32_t outputs = pr_bench_prompt_outputs(&run->scale, &trace->request[i]);
        if (prompt + outputs > engine->max_model_len)
            return pr_fail(
                PR_ERR_ARGUMENT,
                "request %lld of the trace has %d + %d tokens at --scale-tokens %d, the model "
                "takes "
                "%d: scale more",
                (long long)i, prompt, outputs, run->scale.tokens, engine->max_model_len);
    }
    if (trace->block_tokens > 0 && trace->block_tokens < run->scale.tokens)
        return pr_fail(
            PR_ERR_ARGUMENT, "--scale-tokens %d leaves nothing of blocks of %d tokens: scale less",
            run->scale.tokens, trace->block_tokens);
    return PR_OK;
}

static int32_t count_groups(const pr_layout *layout, bool decode)
{
    int32_t groups = 0;
    for (int32_t g = 0; g < layout->groups; g++)
        groups += (layout->group[g].role == PR_ROLE_DECODE) == decode;
    return groups;
}

static void set_rows(pr_bench_run *run)
{
    for (int64_t i = 0; i < run->record.requests; i++) {
        const pr_trace_request *request = &run->params.trace->request[i];
        pr_request_row *row = &run->record.request[i];
        row->arrival_s = request->arrival_s / run->params.speed;
        row->prompt_tokens = pr_bench_prompt_tokens(&run->scale, request);
        row->outputs = pr_bench_prompt_outputs(&run->scale, request);
        row->tenant = request->tenant;
    }
}

pr_status
pr_bench_run_create(const pr_bench_params *params, const pr_engine *engine, pr_bench_run **run)
{
    pr_bench_run *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the benchmark");
    made->params = *params;
    made->layout = &engine->layout;
    made->block_size = engine->options->block_size;
    made->scale = (pr_bench_scale){
        .tokens = params->scale_tokens,
        .block_tokens = params->trace->block_tokens,
        .vocabulary = engine->model->vocabulary,
    };
    made->live = calloc((size_t)params->trace->requests, sizeof *made->live);
    pr_status status = made->live ? check_fit(made, engine)
                                  : pr_fail(PR_ERR_RESOURCE, "no memory for the benchmark");
    if (status == PR_OK)
        status = pr_run_record_create(
            params->trace->requests, 0, count_groups(made->layout, false),
            count_groups(made->layout, true), &made->record);
    if (status != PR_OK) {
        pr_bench_run_destroy(made);
        return status;
    }
    set_rows(made);
    *run = made;
    return PR_OK;
}

void pr_bench_run_destroy(pr_bench_run *run)
{
    if (!run)
        return;
    for (int64_t i = 0; run->live && i < run->params.trace->requests; i++)
        free(run->live[i].gap_s);
    for (int32_t i = 0; i < run->reasons; i++)
        free(run->reason[i]);
    free(run->live);
    pr_run_record_free(&run->record);
    free(run);
}

// ---- Arrivals ----

static double now_of(const pr_bench_run *run)
{
    return (double)(pr_clock_now_ns() - run->begin_ns) * 1e-9;
}

// The same text for the same reason: rows keep it as long as the run lives.
static const char *keep_reason(pr_bench_run *run, const char *reason)
{
    for (int32_t i = 0; i < run->reasons; i++) {
        if (strcmp(run->reason[i], reason) == 0)
            return run->reason[i];
    }
    char *copy = run->reasons < MAX_REASONS ? strdup(reason) : NULL;
    if (!copy)
        return "rejected";
    for (char *c = copy; *c; c++)  // it stands in a CSV field
        *c = *c == ',' || *c == '\n' ? ';' : *c;
    run->reason[run->reasons++] = copy;
    return copy;
}

static void reject(pr_bench_run *run, int64_t number, const char *reason)
{
    run->record.request[number].rejected = keep_reason(run, reason);
    free(run->live[number].gap_s);
    run->live[number].gap_s = NULL;
    run->ended++;
}

static pr_status make_request(const pr_bench_run *run, int64_t number, pr_request **request)
{
    const pr_request_row *row = &run->record.request[number];
    int32_t *prompt = malloc((size_t)row->prompt_tokens * sizeof *prompt);
    if (!prompt)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a prompt");
    pr_bench_prompt_fill(&run->scale, &run->params.trace->request[number], number, prompt);
    pr_request plain = {
        .id = (uint64_t)number,
        .prompt_tokens = row->prompt_tokens,
        .prompt = prompt,
        .tenant = row->tenant,
        .priority = row->priority,
        .sibling_of = (uint64_t)number,
    };
    pr_sampling_defaults(&plain.sampling);
    plain.sampling.temperature = 0;
    plain.sampling.ignore_eos = true;
    plain.sampling.max_tokens = row->outputs;
    pr_status status = pr_request_copy(&plain, request);
    free(prompt);
    return status;
}

static pr_status submit(pr_bench_run *run, pr_controller *controller, int64_t number)
{
    const pr_request_row *row = &run->record.request[number];
    pr_request *request;
    PR_TRY(make_request(run, number, &request));
    if (row->outputs > 1) {
        run->live[number].gap_s = malloc((size_t)(row->outputs - 1) * sizeof(double));
        if (!run->live[number].gap_s) {
            pr_request_destroy(request);
            return pr_fail(PR_ERR_RESOURCE, "no memory to time a request");
        }
    }
    run->prompt_tokens += row->prompt_tokens;
    pr_error_capture_begin();
    pr_status status = pr_controller_submit(controller, request);
    pr_error_capture_end();
    if (status == PR_OK)
        return PR_OK;
    pr_request_destroy(request);
    reject(run, number, pr_error_text());
    return PR_OK;
}

static pr_status feed(void *context, pr_controller *controller, bool *more)
{
    pr_bench_run *run = context;
    if (!run->begun) {
        run->begun = true;
        run->begin_ns = pr_clock_now_ns();
        pr_progress_begin(&run->progress);
    }
    double now_s = now_of(run);
    while (run->submitted < run->record.requests &&
           run->record.request[run->submitted].arrival_s <= now_s)
        PR_TRY(submit(run, controller, run->submitted++));
    *more = run->submitted < run->record.requests;
    if (*more) {
        double next_s = run->record.request[run->submitted].arrival_s;
        pr_controller_wake_at(controller, run->begin_ns + (int64_t)(next_s * 1e9));
    }
    return PR_OK;
}

// ---- What happens to them ----

static int compare_down(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static void finish(pr_bench_run *run, int64_t number, int32_t outputs)
{
    pr_request_row *row = &run->record.request[number];
    live_request *live = &run->live[number];
    int32_t gaps = outputs - 1, longest = (gaps + 9) / 10;
    row->finish_s = live->last_s;
    run->ended++;
    if (gaps < 1)
        return;
    double sum_s = 0;
    qsort(live->gap_s, (size_t)gaps, sizeof *live->gap_s, compare_down);
    for (int32_t i = 0; i < longest; i++)
        sum_s += live->gap_s[i];
    row->tbt_mean_s = (row->finish_s - row->first_s) / gaps;
    row->tbt_tail_s = sum_s / longest;
    free(live->gap_s);
    live->gap_s = NULL;
}

static pr_status token(void *context, pr_controller *controller, const pr_token_report *report)
{
    (void)controller;
    pr_bench_run *run = context;
    int64_t number = (int64_t)report->id;
    pr_request_row *row = &run->record.request[number];
    live_request *live = &run->live[number];
    double now_s = now_of(run);
    if (report->index == 0)
        row->first_s = now_s;
    else if (report->index < row->outputs)
        live->gap_s[report->index - 1] = now_s - live->last_s;
    live->last_s = now_s;
    run->output_tokens++;
    if (report->finish != PR_FINISH_NONE)
        finish(run, number, report->index + 1);
    return PR_OK;
}

static pr_status rejected(void *context, pr_controller *controller, const pr_decision *decision)
{
    (void)controller;
    reject(context, (int64_t)decision->id, decision->reason);
    return PR_OK;
}

// Index of a group among those of its kind.
static int32_t place_of(const pr_layout *layout, int32_t group)
{
    int32_t place = 0;
    for (int32_t g = 0; g < group; g++)
        place += (layout->group[g].role == PR_ROLE_DECODE) ==
                 (layout->group[group].role == PR_ROLE_DECODE);
    return place;
}

static void note_admission(pr_bench_run *run, const pr_plan *plan, const pr_admission *admission)
{
    pr_request_row *row = &run->record.request[admission->request->id];
    const live_request *live = &run->live[admission->request->id];
    int32_t place = place_of(run->layout, plan->group);
    if (admission->arrives) {
        row->decode_group = place;
    } else if (isnan(row->prefill_start_s)) {  // not one that was preempted and comes back
        row->prefill_start_s = now_of(run);
        row->prefill_group = place;
        row->hit_tokens = admission->computed;
        if (live->gathers && admission->computed > live->local_tokens)
            row->fetch_tokens = admission->computed - live->local_tokens;
        if (!admission->hands_over)
            row->decode_group = place;
    }
}

// What came of it, the admission says: the blocks may have been damaged on their way.
static void note_gather(pr_bench_run *run, const pr_handover *handover)
{
    live_request *live = &run->live[handover->id];
    live->gathers = true;
    live->local_tokens = handover->first_block * run->block_size;
}

static void planned(void *context, const pr_plan *plan)
{
    pr_bench_run *run = context;
    for (int32_t i = 0; i < plan->handovers; i++) {
        if (plan->handover[i].gather)
            note_gather(run, &plan->handover[i]);
    }
    for (int32_t i = 0; i < plan->admissions; i++)
        note_admission(run, plan, &plan->admission[i]);
    for (int32_t i = 0; i < plan->starts; i++)
        run->record.request[plan->start[i].id].join_s = now_of(run);
}

static void show_progress(void *context, const pr_scheduler_counts *counts)
{
    (void)counts;
    pr_bench_run *run = context;
    pr_progress_state state = {
        .answered = run->ended,
        .taken = run->submitted,
        .input_ended = run->submitted == run->record.requests,
        .prompt_tokens = run->prompt_tokens,
        .output_tokens = run->output_tokens,
    };
    pr_progress_show(&run->progress, &state);
}

static void salvage(void *context)
{
    pr_bench_run *run = context;
    pr_progress_end(&run->progress);
}

pr_face pr_bench_run_face(pr_bench_run *run)
{
    return (pr_face){
        .context = run,
        .feed = feed,
        .token = token,
        .rejected = rejected,
        .planned = planned,
        .progress = show_progress,
        .salvage = salvage,
    };
}

// ---- After ----

const pr_run_record *pr_bench_run_finish(pr_bench_run *run, const pr_controller *controller)
{
    const pr_layout *layout = run->layout;
    pr_progress_end(&run->progress);
    for (int32_t g = 0; g < layout->groups; g++) {
        const pr_group_layout *group = &layout->group[g];
        bool decode = group->role == PR_ROLE_DECODE;
        int32_t at = place_of(layout, g) + (decode ? run->record.prefill_groups : 0);
        for (int32_t i = 0; i < group->ranks; i++)
            run->record.busy_s[at] +=
                (double)pr_controller_counts(controller, group->first_rank + i)->step_ns * 1e-9 /
                group->ranks;
    }
    return &run->record;
}
