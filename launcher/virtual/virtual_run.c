// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/virtual/virtual_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/virtual/event_heap.h"
#include "launcher/virtual/null_group.h"
#include "runtime/base/log.h"

// The controller looks at the time so often when nothing comes; a run is stuck after so many looks.
enum { LOOK_NS = 100000000, MOST_LOOKS = 36000 };

typedef enum event_kind {
    EVENT_ARRIVAL,   // number: of the load
    EVENT_REPORT,    // data: pr_report
    EVENT_PLAN,      // number: group, data: pr_plan
    EVENT_BOUNDARY,  // number: group
    EVENT_TRANSFER,  // data: transfer
} event_kind;

// A handover that both sides, or one, have noted.
typedef struct transfer {
    pr_handover handover;  // without the block tables
    bool sent, expected, moving;
    int64_t sent_ns;
} transfer;

typedef struct virtual_group {
    pr_null_group *null;
    pr_role role;
    int32_t ranks;
    bool busy;  // in a step, or in the gap after one
    bool in_step;
    int64_t begin_ns, looked_ns;
    double alone_s, crowded_s;  // the step takes alone + crowded excess
    double part;                // of the step that was done when last looked at
} virtual_group;

typedef struct virtual_run {
    const pr_virtual_run_params *params;
    pr_scheduler *scheduler;
    pr_run_measure *measure;
    virtual_group *group;
    pr_event_heap events;  // key: ns
    int64_t now_ns, heard_ns;
    pr_event_heap ends;  // of steps; key: ns, if nothing changes before
    bool crowds;         // whether steps depend on how many there are
    int32_t ranks_in_step;
    transfer **transfer;
    int32_t transfers, transfer_room;
    uint64_t *left;  // requests whose client has just left
    int32_t leaves, leave_room;
    pr_virtual_result result;
} virtual_run;

void pr_virtual_columns(const pr_step_work *work, double column[PR_VIRTUAL_COLUMNS])
{
    bool empty = work->prefill_rows + work->decode_sequences == 0;
    column[0] = empty ? 0 : 1;
    column[1] = (double)work->prefill_rows;
    column[2] = (double)work->prefill_pairs - (double)work->prefill_rows / 2;
    column[3] = (double)work->decode_sequences;
    column[4] = (double)work->decode_context;
}

double pr_virtual_slowness(const pr_virtual_model *model, int64_t now_ns)
{
    if (model->window_ns == 0)
        return 1;
    int64_t window = now_ns > 0 ? now_ns / model->window_ns : 0;
    return model->slowness[window < PR_VIRTUAL_WINDOWS ? window : PR_VIRTUAL_WINDOWS - 1];
}

// ---- Time ----

static double excess(const virtual_run *run)
{
    return fmax(0, run->ranks_in_step - run->params->model->cores);
}

static double length_ns(const virtual_group *group, double excess)
{
    return (group->alone_s + group->crowded_s * excess) * 1e9;
}

static pr_status put_end(virtual_run *run, int32_t number)
{
    const virtual_group *group = &run->group[number];
    double left_ns = fmax(0, 1 - group->part) * length_ns(group, excess(run));
    return pr_event_heap_put(
        &run->ends,
        (pr_heap_event){.key = (double)run->now_ns + nearbyint(left_ns), .number = number});
}

// More ranks, or fewer, are in a step from now on: what is left of the others' steps takes longer.
static pr_status crowd(virtual_run *run, int32_t ranks)
{
    double before = excess(run);
    run->ranks_in_step += ranks;
    if (!run->crowds || !(excess(run) < before || excess(run) > before))
        return PR_OK;
    run->ends.events = 0;
    for (int32_t g = 0; g < run->params->scheduler->layout->groups; g++) {
        virtual_group *group = &run->group[g];
        if (!group->in_step)
            continue;
        double length = length_ns(group, before);
        group->part += length > 0 ? (double)(run->now_ns - group->looked_ns) / length : 1;
        group->looked_ns = run->now_ns;
        PR_TRY(put_end(run, g));
    }
    return PR_OK;
}

static pr_status
put_event(virtual_run *run, int64_t time_ns, event_kind kind, int64_t number, void *data)
{
    pr_heap_event event = {
        .key = (double)time_ns,
        .kind = (int32_t)kind,
        .number = number,
        .data = data,
    };
    return pr_event_heap_put(&run->events, event);
}

// ---- What groups say ----

static pr_status send_report(void *context, const pr_report *report)
{
    virtual_run *run = context;
    unsigned char *wire = NULL;
    size_t size_bytes = 0;
    pr_report *copy = NULL;
    pr_status status = pr_report_encode(report, &wire, &size_bytes);
    if (status == PR_OK)
        status = pr_report_decode(wire, size_bytes, &copy);
    free(wire);
    PR_TRY(status);
    status = put_event(run, run->now_ns + run->params->model->message_ns, EVENT_REPORT, 0, copy);
    if (status != PR_OK)
        pr_report_free(copy);
    return status;
}

static pr_status find_transfer(virtual_run *run, const pr_handover *handover, transfer **found)
{
    for (int32_t i = 0; i < run->transfers; i++) {
        const pr_handover *at = &run->transfer[i]->handover;
        if (at->id == handover->id && at->generation == handover->generation &&
            at->tag == handover->tag) {
            *found = run->transfer[i];
            return PR_OK;
        }
    }
    if (run->transfers == run->transfer_room) {
        int32_t room = run->transfer_room * 2 + 16;
        transfer **grown = realloc(run->transfer, (size_t)room * sizeof(transfer *));
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d transfers", (int)room);
        run->transfer = grown;
        run->transfer_room = room;
    }
    transfer *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a transfer");
    made->handover = *handover;
    made->handover.from_block = made->handover.to_block = NULL;
    *found = run->transfer[run->transfers++] = made;
    return PR_OK;
}

static pr_status begin_transfer(virtual_run *run, transfer *moving)
{
    const pr_virtual_model *model = run->params->model;
    if (!moving->sent || !moving->expected || moving->moving)
        return PR_OK;
    moving->moving = true;
    double seconds = model->transfer_s + model->transfer_block_s * moving->handover.blocks;
    int64_t there_ns = moving->sent_ns + llround(seconds * 1e9);
    return put_event(
        run, there_ns > run->now_ns ? there_ns : run->now_ns, EVENT_TRANSFER, 0, moving);
}

static pr_status note_sent(void *context, const pr_handover *handover)
{
    virtual_run *run = context;
    transfer *of;
    PR_TRY(find_transfer(run, handover, &of));
    of->sent = true;
    of->sent_ns = run->now_ns;
    return begin_transfer(run, of);
}

static pr_status note_expected(void *context, const pr_handover *handover)
{
    virtual_run *run = context;
    transfer *of;
    PR_TRY(find_transfer(run, handover, &of));
    of->expected = true;
    return begin_transfer(run, of);
}

static pr_status end_transfer(virtual_run *run, transfer *moved)
{
    pr_handover handover = moved->handover;
    int32_t at = 0;
    while (run->transfer[at] != moved)
        at++;
    run->transfer[at] = run->transfer[--run->transfers];
    free(moved);
    return pr_null_group_arrival(
        run->group[handover.to_group].null, &handover, run->params->model->transfer_boundaries);
}

// ---- Steps ----

static pr_status at_boundary(virtual_run *run, int32_t number)
{
    virtual_group *group = &run->group[number];
    pr_step_work work;
    bool steps;
    PR_TRY(pr_null_group_begin(group->null, &steps, &work));
    group->busy = steps;
    if (!steps)
        return PR_OK;
    PR_TRY(crowd(run, group->ranks));
    double column[PR_VIRTUAL_COLUMNS];
    const pr_virtual_step *step =
        &run->params->model->step[group->role = pr_scheduler_role(run->scheduler, number)];
    pr_virtual_columns(&work, column);
    group->begin_ns = group->looked_ns = run->now_ns;
    group->in_step = true;
    group->alone_s = group->crowded_s = group->part = 0;
    double slowness = pr_virtual_slowness(run->params->model, run->now_ns);
    for (int32_t i = 0; i < PR_VIRTUAL_COLUMNS; i++) {
        group->alone_s += step->alone[i] * column[i] * slowness;
        group->crowded_s += step->crowded[i] * column[i] * slowness;
    }
    return put_end(run, number);
}

static pr_status end_step(virtual_run *run)
{
    int32_t number = (int32_t)pr_event_heap_take(&run->ends).number;
    virtual_group *group = &run->group[number];
    int64_t step_ns = run->now_ns - group->begin_ns;
    group->in_step = false;
    run->result.steps++;
    run->result.busy_s[group->role] += (double)step_ns * 1e-9;
    PR_TRY(crowd(run, -group->ranks));
    PR_TRY(pr_null_group_end(group->null, step_ns));
    return put_event(run, run->now_ns + run->params->model->gap_ns, EVENT_BOUNDARY, number, NULL);
}

// ---- The controller ----

static pr_status client_leaves(virtual_run *run, uint64_t id)
{
    if (run->leaves == run->leave_room) {
        int32_t room = run->leave_room * 2 + 16;
        uint64_t *grown = realloc(run->left, (size_t)room * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d cancels", (int)room);
        run->left = grown;
        run->leave_room = room;
    }
    run->left[run->leaves++] = id;
    return PR_OK;
}

static pr_status take_token(virtual_run *run, const pr_token_report *token)
{
    int64_t number = pr_virtual_load_find(run->params->load, token->id);
    const pr_virtual_request *request = &run->params->load->request[number];
    bool leaves =
        token->finish == PR_FINISH_NONE && request->left && token->index + 1 == request->outputs;
    bool last = leaves || token->finish != PR_FINISH_NONE;
    PR_TRY(pr_run_measure_token(run->measure, number, run->now_ns, last));
    return leaves ? client_leaves(run, token->id) : PR_OK;
}

static pr_status send_plan(virtual_run *run, const pr_plan *plan)
{
    unsigned char *wire = NULL;
    size_t size_bytes = 0;
    pr_plan *copy = NULL;
    for (int32_t i = 0; i < plan->admissions; i++) {
        const pr_admission *admission = &plan->admission[i];
        if (!admission->arrives)
            pr_run_measure_hit(
                run->measure, pr_virtual_load_find(run->params->load, admission->request->id),
                admission->computed);
    }
    pr_status status = pr_plan_encode(plan, &wire, &size_bytes);
    if (status == PR_OK)
        status = pr_plan_decode(wire, size_bytes, &copy);
    free(wire);
    PR_TRY(status);
    int64_t there_ns = run->now_ns + run->params->model->message_ns;
    status = put_event(run, there_ns, EVENT_PLAN, plan->group, copy);
    if (status != PR_OK)
        pr_plan_free(copy);
    return status;
}

// Rows keep the reason; one with times in it is not for ever.
static const char *static_reason(const pr_decision *decision)
{
    static const char no_time[] = "rejected-walltime";
    bool is = strncmp(decision->reason, no_time, strlen(no_time)) == 0;
    return is ? no_time : decision->reason;
}

static pr_status carry_out_round(virtual_run *run)
{
    for (;;) {
        pr_decision decision;
        pr_scheduler_next(run->scheduler, &decision);
        switch (decision.kind) {
        case PR_DECISION_NONE:
            return PR_OK;
        case PR_DECISION_PLAN:
            PR_TRY(send_plan(run, decision.plan));
            break;
        case PR_DECISION_TOKEN:
            PR_TRY(take_token(run, decision.token));
            break;
        case PR_DECISION_REJECTED:
            pr_run_measure_rejected(
                run->measure, pr_virtual_load_find(run->params->load, decision.id),
                static_reason(&decision));
            break;
        case PR_DECISION_LEFT:
            pr_run_measure_rejected(
                run->measure, pr_virtual_load_find(run->params->load, decision.id), "left");
            break;
        }
    }
}

static pr_status carry_out_decisions(virtual_run *run)
{
    run->heard_ns = run->now_ns;
    do {
        for (int32_t i = 0; i < run->leaves; i++)
            pr_scheduler_cancel(run->scheduler, run->left[i]);
        run->leaves = 0;
        PR_TRY(carry_out_round(run));
        if (run->params->check)
            pr_scheduler_check(run->scheduler);
    } while (run->leaves > 0);
    return PR_OK;
}

static pr_status submit(virtual_run *run, int64_t number)
{
    const pr_virtual_request *next = &run->params->load->request[number];
    pr_request *copy;
    PR_TRY(pr_run_measure_arrival(run->measure, run->now_ns, next->request->prompt_tokens));
    PR_TRY(pr_request_copy(next->request, &copy));
    pr_error_capture_begin();
    pr_status status = pr_scheduler_submit(run->scheduler, copy);
    pr_error_capture_end();
    if (status != PR_OK) {
        pr_request_destroy(copy);
        pr_run_measure_rejected(run->measure, number, "refused on arrival");
    }
    if (number + 1 == run->params->load->requests)
        return PR_OK;
    return put_event(run, next[1].arrival_ns, EVENT_ARRIVAL, number + 1, NULL);
}

// What reaches the controller is looked at together with all else that came at the same time.
static bool reaches_controller(const pr_heap_event *event)
{
    return event->kind == EVENT_ARRIVAL || event->kind == EVENT_REPORT;
}

static pr_status controller_hears(virtual_run *run, const pr_heap_event *event)
{
    pr_scheduler_advance(run->scheduler, run->now_ns);
    if (event->kind == EVENT_ARRIVAL) {
        PR_TRY(submit(run, event->number));
    } else {
        pr_scheduler_report(run->scheduler, event->data);
        pr_report_free(event->data);
    }
    const pr_event_heap *events = &run->events;
    bool more = events->events > 0 && reaches_controller(&events->event[0]) &&
                events->event[0].key <= (double)run->now_ns;
    return more ? PR_OK : carry_out_decisions(run);
}

// ---- The loop ----

static pr_status group_hears(virtual_run *run, const pr_heap_event *event)
{
    virtual_group *group = &run->group[event->number];
    pr_status status = pr_null_group_plan(group->null, event->data);
    if (status != PR_OK) {
        pr_plan_free(event->data);
        return status;
    }
    return group->busy ? PR_OK : at_boundary(run, (int32_t)event->number);
}

static pr_status happen(virtual_run *run)
{
    pr_heap_event event = pr_event_heap_take(&run->events);
    switch ((event_kind)event.kind) {
    case EVENT_ARRIVAL:
    case EVENT_REPORT:
        return controller_hears(run, &event);
    case EVENT_PLAN:
        return group_hears(run, &event);
    case EVENT_BOUNDARY:
        return at_boundary(run, (int32_t)event.number);
    case EVENT_TRANSFER:
        return end_transfer(run, event.data);
    }
    return PR_OK;
}

static pr_status look_at_time(virtual_run *run)
{
    pr_scheduler_advance(run->scheduler, run->now_ns);
    return carry_out_decisions(run);
}

static pr_status run_to_end(virtual_run *run)
{
    int64_t looks = 0;
    for (;;) {
        bool event = run->events.events > 0, end = run->ends.events > 0;
        int64_t event_ns = event ? (int64_t)run->events.event[0].key : INT64_MAX;
        int64_t end_ns = end ? (int64_t)run->ends.event[0].key : INT64_MAX;
        int64_t next_ns = end_ns <= event_ns ? end_ns : event_ns;
        bool unfinished = pr_scheduler_unfinished(run->scheduler) > 0;
        if (!event && !end && !unfinished)
            return PR_OK;
        int64_t look_ns = run->heard_ns + LOOK_NS;
        if (unfinished && look_ns < next_ns) {
            if (!event && !end && ++looks > MOST_LOOKS)
                return pr_fail(PR_ERR_INTERNAL, "the run stands still with requests unfinished");
            run->now_ns = look_ns;
            PR_TRY(look_at_time(run));
            continue;
        }
        looks = 0;
        run->now_ns = next_ns;
        PR_TRY(end_ns <= event_ns ? end_step(run) : happen(run));
    }
}

static pr_status create_groups(virtual_run *run)
{
    const pr_scheduler_params *params = run->params->scheduler;
    const pr_layout *layout = params->layout;
    pr_null_group_face face = {
        .context = run,
        .report = send_report,
        .sent = note_sent,
        .expects = note_expected,
    };
    run->group = calloc((size_t)layout->groups, sizeof *run->group);
    if (!run->group)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %d groups", (int)layout->groups);
    for (int32_t g = 0; g < layout->groups; g++) {
        run->group[g].role = layout->group[g].role;
        run->group[g].ranks = layout->group[g].ranks;
        PR_TRY(pr_null_group_create(params, g, run->params->load, &face, &run->group[g].null));
    }
    return PR_OK;
}

static void release(virtual_run *run)
{
    while (run->events.events > 0) {
        pr_heap_event event = pr_event_heap_take(&run->events);
        if (event.kind == EVENT_REPORT)
            pr_report_free(event.data);
        else if (event.kind == EVENT_PLAN)
            pr_plan_free(event.data);
    }
    for (int32_t i = 0; i < run->transfers; i++)
        free(run->transfer[i]);
    for (int32_t g = 0; run->group && g < run->params->scheduler->layout->groups; g++)
        pr_null_group_destroy(run->group[g].null);
    pr_event_heap_free(&run->events);
    pr_event_heap_free(&run->ends);
    free(run->transfer);
    free(run->left);
    free(run->group);
    pr_scheduler_destroy(run->scheduler);
}

pr_status pr_virtual_run(
    const pr_virtual_run_params *params, pr_run_measure *measure, pr_virtual_result *result)
{
    virtual_run run = {.params = params, .measure = measure};
    pr_status status;
    for (int32_t i = 0; i < PR_VIRTUAL_COLUMNS; i++) {
        for (int32_t role = 0; role <= PR_ROLE_DECODE; role++)
            run.crowds = run.crowds || params->model->step[role].crowded[i] > 0;
    }
    PR_TRY_GOTO(pr_scheduler_create(params->scheduler, &run.scheduler), release);
    if (params->record)
        pr_scheduler_record(run.scheduler, params->record);
    pr_scheduler_set_end(run.scheduler, params->end_ns, params->at_end);
    PR_TRY_GOTO(create_groups(&run), release);
    if (params->load->requests > 0)
        PR_TRY_GOTO(
            put_event(&run, params->load->request[0].arrival_ns, EVENT_ARRIVAL, 0, NULL), release);
    PR_TRY_GOTO(run_to_end(&run), release);
    run.result.hash = pr_scheduler_hash(run.scheduler);
    run.result.end_ns = run.now_ns;
    pr_scheduler_count(run.scheduler, &run.result.counts);
    pr_scheduler_walltime(run.scheduler, &run.result.walltime);
    *result = run.result;

release:
    release(&run);
    return status;
}
