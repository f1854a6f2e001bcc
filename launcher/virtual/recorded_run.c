// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/virtual/recorded_run.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "scheduler/record/record_reader.h"

// What is known of a group while reading.
typedef struct group_state {
    uint64_t sent, done, told;  // plan numbers
    int64_t sent_ns;            // of the last plan
    bool idle;                  // when that one was sent
    int64_t last_step;          // index, -1: none
    bool went_on;               // after it there was more to do
    pr_role role;               // now
} group_state;

typedef struct reading_state {
    pr_recorded_run *run;
    group_state *group;
    bool started;
    int64_t round;  // the first request that came since decisions were made
    int64_t begin_ns;
} reading_state;

static void *grow(void *items, int64_t count, int64_t *room, size_t size)
{
    if (count < *room)
        return items;
    int64_t wider = *room * 2 + 256;
    void *grown = realloc(items, (size_t)wider * size);
    if (grown)
        *room = wider;
    return grown;
}

static pr_status read_submit(reading_state *reading, const pr_record_event *event)
{
    pr_recorded_run *run = reading->run;
    if (!reading->started)
        reading->begin_ns = event->now_ns;
    reading->started = true;
    int64_t now_ns = event->now_ns - reading->begin_ns;
    int32_t prompt_tokens = event->request->prompt_tokens;
    // What was submitted together is decided about together.
    for (int64_t i = reading->round; i < run->load.requests; i++)
        run->load.request[i].arrival_ns = now_ns;
    pr_status status = pr_virtual_load_add(&run->load, event->request, now_ns);
    if (status != PR_OK) {
        pr_request_destroy(event->request);
        return status;
    }
    return pr_run_measure_arrival(&run->measure, now_ns, prompt_tokens);
}

static pr_recorded_move *find_move(pr_recorded_run *run, uint64_t id)
{
    for (int64_t i = run->moves - 1; i >= 0; i--) {
        if (run->move[i].id == id)
            return &run->move[i];
    }
    return NULL;
}

static pr_status read_plan(reading_state *reading, const pr_record_event *event)
{
    pr_recorded_run *run = reading->run;
    group_state *group = &reading->group[event->group];
    group->idle = group->done == group->sent;
    group->sent = event->plan;
    group->sent_ns = event->now_ns - reading->begin_ns;
    for (int32_t i = 0; i < event->admissions; i++) {
        int64_t request = pr_virtual_load_find(&run->load, event->admission[i].id);
        if (request >= 0 && !event->admission[i].arrives)
            pr_run_measure_hit(&run->measure, request, event->admission[i].cached);
    }
    for (int32_t i = 0; i < event->handovers; i++) {
        const pr_record_handover *handover = &event->handover[i];
        if (handover->from_group != event->group)
            continue;
        pr_recorded_move *move = grow(run->move, run->moves, &run->move_room, sizeof *move);
        if (!move)
            return pr_fail(PR_ERR_RESOURCE, "no memory for a record's handovers");
        run->move = move;
        run->move[run->moves++] = (pr_recorded_move){
            .id = handover->id,
            .to_group = handover->to_group,
            .blocks = handover->blocks,
            .sent_ns = -1,
            .there_ns = -1,
        };
    }
    return PR_OK;
}

static pr_status read_token(pr_recorded_run *run, const pr_token_report *token, int64_t now_ns)
{
    int64_t number = pr_virtual_load_find(&run->load, token->id);
    if (number < 0)
        return PR_OK;
    pr_virtual_request *request = &run->load.request[number];
    if (token->finish == PR_FINISH_HANDED) {
        pr_recorded_move *move = find_move(run, token->id);
        if (move && move->sent_ns < 0)
            move->sent_ns = now_ns;
    }
    if (request->left || request->finish != PR_FINISH_NONE || token->index != request->outputs)
        return PR_OK;
    bool last = token->finish == PR_FINISH_STOP || token->finish == PR_FINISH_LENGTH;
    if (last)
        request->finish = token->finish;
    PR_TRY(pr_virtual_load_output(&run->load, number, token->index, token->token));
    return pr_run_measure_token(&run->measure, number, now_ns, last);
}

static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static void widen(pr_recorded_step *step, const pr_report *report)
{
    pr_step_work *work = &step->work;
    const pr_step_work *lane = &report->work;
    step->step_ns = most(step->step_ns, report->step_ns);
    work->prefill_rows = (int32_t)most(work->prefill_rows, lane->prefill_rows);
    work->prefill_pairs = most(work->prefill_pairs, lane->prefill_pairs);
    work->decode_sequences = (int32_t)most(work->decode_sequences, lane->decode_sequences);
    work->decode_context = most(work->decode_context, lane->decode_context);
}

static pr_status read_step(reading_state *reading, const pr_report *report, int64_t now_ns)
{
    pr_recorded_run *run = reading->run;
    group_state *group = &reading->group[report->group];
    if (group->last_step >= 0) {
        pr_recorded_step *last = &run->step[group->last_step];
        if (last->plan == report->plan && last->step == report->step) {
            widen(last, report);
            return PR_OK;
        }
    }
    if (report->plan == group->sent && group->told < report->plan && group->idle) {
        run->trips.waits++;
        run->trips.sum_ns += now_ns - group->sent_ns - report->step_ns;
    } else if (group->went_on && report->step_ns > 0) {
        run->gaps.waits++;
        run->gaps.sum_ns += now_ns - run->step[group->last_step].told_ns - report->step_ns;
    }
    if (group->last_step >= 0)
        run->step[group->last_step].next = run->steps;
    group->told = report->plan;
    pr_recorded_step *step = grow(run->step, run->steps, &run->step_room, sizeof *step);
    if (!step)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a record's steps");
    run->step = step;
    group->last_step = run->steps;
    run->step[run->steps++] = (pr_recorded_step){
        .group = report->group,
        .role = group->role,
        .plan = report->plan,
        .step = report->step,
        .told_ns = now_ns,
        .step_ns = report->step_ns,
        .work = report->work,
        .next = -1,
    };
    return PR_OK;
}

static pr_status read_report(reading_state *reading, const pr_record_event *event)
{
    pr_recorded_run *run = reading->run;
    const pr_report *report = &event->report;
    int64_t now_ns = event->now_ns - reading->begin_ns;
    if (report->group < 0 || report->group >= run->layout.groups)
        return PR_OK;
    group_state *group = &reading->group[report->group];
    for (int32_t i = 0; i < report->arrivals; i++) {
        pr_recorded_move *move = find_move(run, report->arrival[i].id);
        if (move)
            move->there_ns = now_ns;
    }
    bool stepped = report->tokens + report->chunks > 0 || report->plan_finished;
    if (stepped)
        PR_TRY(read_step(reading, report, now_ns));
    if (report->plan_finished && report->plan > group->done)
        group->done = report->plan;
    if (stepped)
        group->went_on = !report->plan_finished || group->done < group->sent;
    for (int32_t i = 0; i < report->tokens; i++)
        PR_TRY(read_token(run, &report->token[i], now_ns));
    return PR_OK;
}

static pr_status read_event(reading_state *reading, const pr_record_event *event)
{
    pr_recorded_run *run = reading->run;
    int64_t number;
    switch (event->kind) {
    case PR_RECORD_SUBMIT:
        return read_submit(reading, event);
    case PR_RECORD_PLAN:
        return read_plan(reading, event);
    case PR_RECORD_REPORT:
        return read_report(reading, event);
    case PR_RECORD_CANCEL:
        number = pr_virtual_load_find(&run->load, event->id);
        if (number >= 0)
            run->load.request[number].left = true;
        return PR_OK;
    case PR_RECORD_ROLE:
        reading->group[event->group].role = event->role;
        return PR_OK;
    case PR_RECORD_HASH:
        run->complete = true;
        return PR_OK;
    case PR_RECORD_NEXT:
        reading->round = run->load.requests;
        return PR_OK;
    case PR_RECORD_ADVANCE:
    case PR_RECORD_END:
    case PR_RECORD_LOST:
    case PR_RECORD_BACK:
    case PR_RECORD_PAUSE:
        break;
    }
    return PR_OK;
}

pr_status pr_recorded_run_read(FILE *events, pr_recorded_run *run)
{
    pr_record_reader *reader;
    reading_state reading = {.run = run};
    pr_record_event event;
    pr_status status;
    bool more = true;
    PR_TRY(pr_record_reader_open(events, &reader));
    run->params = *pr_record_reader_params(reader);
    run->layout = *run->params.layout;
    run->params.layout = &run->layout;
    run->params.policy = run->policy = strdup(run->params.policy);
    reading.group = calloc((size_t)run->layout.groups, sizeof *reading.group);
    if (!reading.group || !run->policy) {
        status = pr_fail(PR_ERR_RESOURCE, "no memory for %d groups", (int)run->layout.groups);
        goto close;
    }
    for (int32_t g = 0; g < run->layout.groups; g++) {
        reading.group[g].last_step = -1;
        reading.group[g].role = run->layout.group[g].role;
    }
    for (;;) {
        PR_TRY_GOTO(pr_record_reader_next(reader, &event, &more), close);
        if (!more)
            break;
        PR_TRY_GOTO(read_event(&reading, &event), close);
    }

close:
    free(reading.group);
    pr_record_reader_close(reader);
    return status;
}

void pr_recorded_run_free(pr_recorded_run *run)
{
    pr_virtual_load_free(&run->load);
    pr_run_measure_free(&run->measure);
    free(run->policy);
    free(run->step);
    free(run->move);
    *run = (pr_recorded_run){0};
}
