// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/serve_face.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/serve/serve_message.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

static const int64_t snapshot_gap_ns = 200000000, calm_gap_ns = 1000000000;

struct pr_serve_face {
    pr_serve_face_params params;
    bool leaving;     // the gateway brings no more
    bool told_drain;  // of an interrupt
    bool has_events;  // since the last wake
    pr_controller *controller;
    int64_t snapshot_ns;  // when the last one was sent
    int64_t changes;      // counted then
};

pr_status pr_serve_face_create(const pr_serve_face_params *params, pr_serve_face **face)
{
    pr_serve_face *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory to serve");
    made->params = *params;
    made->changes = -1;  // the first snapshot comes before any work
    *face = made;
    return PR_OK;
}

void pr_serve_face_destroy(pr_serve_face *face) { free(face); }

static pr_status send_event(pr_serve_face *face, pr_serve_event *event)
{
    event->time_ns = pr_clock_now_ns();
    PR_TRY(pr_mailbox_put(face->params.events, event));
    face->has_events = true;
    return PR_OK;
}

static pr_status send_rejection(pr_serve_face *face, uint64_t id, const char *text, int32_t status)
{
    pr_serve_event event = {.kind = PR_SERVE_REJECTED, .id = id};
    event.text = strdup(text);
    event.http_status = status;
    return send_event(face, &event);
}

// ---- From the gateway ----

// A request that can never run is its client's fault, all else is ours.
static pr_status submit(pr_serve_face *face, pr_controller *controller, pr_request *request)
{
    uint64_t id = request->id;
    pr_error_capture_begin();
    pr_status status = pr_controller_submit(controller, request);
    pr_error_capture_end();
    if (status == PR_OK)
        return PR_OK;
    pr_request_destroy(request);
    if (status == PR_ERR_ARGUMENT)
        return send_rejection(face, id, pr_error_text(), 400);
    pr_log(PR_LOG_ERROR, "%s", pr_error_text());
    return status;
}

static pr_status
obey(pr_serve_face *face, pr_controller *controller, const pr_serve_command *command)
{
    switch (command->kind) {
    case PR_SERVE_SUBMIT:
        return submit(face, controller, command->request);
    case PR_SERVE_CANCEL:
        return pr_controller_cancel(controller, command->id);
    case PR_SERVE_LEAVE:
        face->leaving = true;
        return PR_OK;
    }
    return PR_OK;
}

static bool is_over(const pr_controller *controller)
{
    pr_walltime_state state;
    int64_t end_unix_s;
    pr_controller_walltime(controller, &state, &end_unix_s);
    return state.end_ns != 0 && pr_clock_now_ns() >= state.end_ns;
}

static pr_status feed(void *context, pr_controller *controller, bool *more)
{
    pr_serve_face *face = context;
    size_t commands;
    face->controller = controller;
    const pr_serve_command *command = pr_mailbox_take(face->params.commands, &commands);
    pr_status status = PR_OK;
    for (size_t i = 0; i < commands; i++) {
        if (status == PR_OK)
            status = obey(face, controller, &command[i]);
        else if (command[i].kind == PR_SERVE_SUBMIT)
            pr_request_destroy(command[i].request);
    }
    bool ends = pr_controller_interrupted(controller) || is_over(controller);
    if (status == PR_OK && ends && !face->told_drain) {
        pr_serve_event event = {.kind = PR_SERVE_DRAIN};
        face->told_drain = true;
        status = send_event(face, &event);
    }
    *more = !face->leaving;
    return status;
}

// ---- To the gateway ----

static pr_status copy_tops(const pr_logprob *top, int32_t tops, const pr_logprob **copy)
{
    size_t size_bytes = (size_t)tops * sizeof *top;
    *copy = NULL;
    if (tops == 0)
        return PR_OK;
    pr_logprob *made = malloc(size_bytes);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for logprobs");
    memcpy(made, top, size_bytes);
    *copy = made;
    return PR_OK;
}

static pr_status token(void *context, pr_controller *controller, const pr_token_report *token)
{
    (void)controller;
    pr_serve_event event = {.kind = PR_SERVE_TOKEN, .id = token->id};
    event.token = *token;
    PR_TRY(copy_tops(token->top, token->tops, &event.token.top));
    return send_event(context, &event);
}

static pr_status prompt_logprobs(void *context, const pr_report *report)
{
    for (int32_t i = 0; i < report->prompt_logprobs; i++) {
        const pr_prompt_logprob *each = &report->prompt_logprob[i];
        pr_serve_event event = {.kind = PR_SERVE_PROMPT, .id = each->id};
        event.prompt = *each;
        PR_TRY(copy_tops(each->top, each->tops, &event.prompt.top));
        PR_TRY(send_event(context, &event));
    }
    return PR_OK;
}

static pr_status rejected(void *context, pr_controller *controller, const pr_decision *decision)
{
    (void)controller;
    return send_rejection(context, decision->id, decision->reason, decision->http_status);
}

// An admission that waits for a handover follows another that was told.
static void planned(void *context, const pr_plan *plan)
{
    for (int32_t i = 0; i < plan->admissions; i++) {
        const pr_admission *admission = &plan->admission[i];
        pr_serve_event event = {.kind = PR_SERVE_SCHEDULED, .id = admission->request->id};
        event.tokens = admission->computed;
        if (!admission->arrives && send_event(context, &event) != PR_OK)
            return;  // only a metric
    }
}

// The groups lie behind the record: one allocation, one free.
static pr_status send_snapshot(pr_serve_face *face)
{
    size_t groups = (size_t)face->params.layout->groups;
    pr_snapshot *snapshot = calloc(1, sizeof *snapshot + groups * sizeof *snapshot->group);
    if (!snapshot)
        return PR_OK;  // there will be another one
    snapshot->group = (pr_group_snapshot *)(snapshot + 1);
    pr_controller_snapshot(face->controller, snapshot);
    pr_serve_event event = {.kind = PR_SERVE_SNAPSHOT};
    event.snapshot = snapshot;
    return send_event(face, &event);
}

// Now and then, as long as something has changed; more rarely while time alone does.
static void take_snapshot(pr_serve_face *face, const pr_scheduler_counts *counts)
{
    int64_t now_ns = pr_clock_now_ns();
    int64_t changes =
        counts->plans + counts->prefill_tokens + counts->output_tokens + counts->rejected;
    int64_t gap_ns = changes == face->changes ? calm_gap_ns : snapshot_gap_ns;
    if (now_ns - face->snapshot_ns < gap_ns)
        return;
    face->changes = changes;
    face->snapshot_ns = now_ns;
    pr_status status = send_snapshot(face);
    (void)status;  // only numbers
}

static void progress(void *context, const pr_scheduler_counts *counts)
{
    pr_serve_face *face = context;
    take_snapshot(face, counts);
    if (face->params.kv_events)
        pr_kv_events_flush(face->params.kv_events, pr_clock_now_ns());
    if (face->has_events)
        pr_http_server_wake(face->params.server);
    face->has_events = false;
}

static void salvage(void *context)
{
    pr_serve_face *face = context;
    pr_serve_event event = {.kind = PR_SERVE_FAILED};
    const char *text = pr_error_text();
    event.text = strdup(text[0] ? text : "the run is lost");
    if (send_event(face, &event) == PR_OK)
        pr_http_server_wake(face->params.server);
    face->params.lost(face->params.context);
}

pr_face pr_serve_face_face(pr_serve_face *face)
{
    return (pr_face){
        .context = face,
        .feed = feed,
        .token = token,
        .prompt_logprobs = prompt_logprobs,
        .rejected = rejected,
        .planned = planned,
        .progress = progress,
        .salvage = salvage,
        .drains = true,
        .has_end = true,
        .at_end = PR_AT_END_REJECT,
    };
}
