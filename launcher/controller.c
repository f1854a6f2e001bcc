// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/controller.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "launcher/engine/layout_choice.h"
#include "launcher/observe/step_tally.h"
#include "launcher/recover/group_rebuild.h"
#include "launcher/recover/losses.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

// A face that waits for input is asked again so often; it costs nothing to speak of.
enum { POLL_MS = 100, STOP_WAIT_MS = 30000 };
// A loop that took so long was not running.
enum { PAUSE_MS = 2000 };
// Of the timeline's counters.
enum { SAMPLE_MS = 20 };

// What a group has to do, and when it last gave a sign of doing it.
typedef struct group_watch {
    uint64_t sent, done;  // plan numbers
    int64_t heard_ns;
} group_watch;

struct pr_controller {
    pr_controller_params params;
    pr_scheduler *scheduler;
    atomic_bool interrupted;
    char *_Atomic verdict;     // of the watchdog: why the run cannot go on
    unsigned char *wire;       // the encoded plan; grows to the largest
    pr_worker_counts *counts;  // [ranks]
    bool *counted;             // [ranks] their counts are here, or they are lost
    bool *stopped;             // [ranks] they were told to stop
    int32_t outstanding;       // ranks that owe counts
    bool stopping;             // everything is answered
    pr_losses *losses;         // NULL: the first loss ends the run
    pr_group_rebuild *rebuild;
    uint64_t *cancelled;  // asked for while decisions are carried out; [cancels]
    int32_t cancels, cancel_capacity;
    group_watch *watch;    // [groups]
    pr_step_tally *steps;  // of every group
    pr_snapshot sample;    // the timeline's last
    int64_t looked_ns;     // when the groups were last looked at
    int64_t wake_ns;       // when the face wants to be fed; INT64_MAX: no matter when
    int64_t end_unix_s;    // of the job, as the scheduler was told; 0: none
};

// A group has come back: its ranks have work to give account of again.
static void note_back(void *context, int32_t index)
{
    pr_controller *controller = context;
    const pr_group_layout *group = &controller->params.layout->group[index];
    for (int32_t i = 0; i < group->ranks; i++)
        controller->counted[group->first_rank + i] = false;
}

static pr_status create_recovery(pr_controller *controller)
{
    const pr_controller_params *params = &controller->params;
    if (!params->recovers)
        return PR_OK;
    PR_TRY(pr_losses_create(params->layout, &controller->losses));
    pr_group_rebuild_params rebuild = {
        .layout = params->layout,
        .scheduler = controller->scheduler,
        .control = params->control,
        .losses = controller->losses,
        .replaces = params->respawns,
        .context = controller,
        .back = note_back,
    };
    return pr_group_rebuild_create(&rebuild, &controller->rebuild);
}

pr_status pr_controller_create(const pr_controller_params *params, pr_controller **controller)
{
    pr_controller *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the controller");
    made->params = *params;
    made->looked_ns = pr_clock_now_ns();
    size_t ranks = (size_t)params->layout->ranks;
    made->counts = calloc(ranks, sizeof *made->counts);
    made->counted = calloc(ranks, sizeof *made->counted);
    made->stopped = calloc(ranks, sizeof *made->stopped);
    made->watch = calloc((size_t)params->layout->groups, sizeof *made->watch);
    made->sample.group = calloc((size_t)params->layout->groups, sizeof *made->sample.group);
    pr_status status =
        made->counts && made->counted && made->stopped && made->watch && made->sample.group
            ? pr_scheduler_create(&params->scheduler, &made->scheduler)
            : pr_fail(PR_ERR_RESOURCE, "no memory for the controller");
    if (status == PR_OK)
        status = create_recovery(made);
    if (status == PR_OK)
        status = pr_step_tally_create(params->layout->groups, &made->steps);
    if (status != PR_OK) {
        pr_controller_destroy(made);
        return status;
    }
    if (params->record)
        pr_scheduler_record(made->scheduler, params->record);
    *controller = made;
    return PR_OK;
}

void pr_controller_destroy(pr_controller *controller)
{
    if (!controller)
        return;
    pr_scheduler_destroy(controller->scheduler);
    free(controller->wire);
    free(controller->counts);
    free(controller->counted);
    free(controller->stopped);
    free(controller->watch);
    free(controller->sample.group);
    pr_step_tally_destroy(controller->steps);
    pr_group_rebuild_destroy(controller->rebuild);
    pr_losses_destroy(controller->losses);
    free(controller->cancelled);
    free(atomic_load(&controller->verdict));
    free(controller);
}

pr_status pr_controller_submit(pr_controller *controller, pr_request *request)
{
    int64_t now_ns = pr_clock_now_ns();
    pr_scheduler_advance(controller->scheduler, now_ns);  // the time of arrival
    PR_TRY(pr_scheduler_submit(controller->scheduler, request));
    if (controller->params.timeline)
        pr_timeline_arrived(controller->params.timeline, now_ns, request);
    return PR_OK;
}

// The face asks from inside a decision; the scheduler takes events only between rounds.
pr_status pr_controller_cancel(pr_controller *controller, uint64_t id)
{
    if (controller->cancels == controller->cancel_capacity) {
        int32_t capacity = controller->cancel_capacity * 2 + 16;
        uint64_t *grown = realloc(controller->cancelled, (size_t)capacity * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory to cancel a request");
        controller->cancelled = grown;
        controller->cancel_capacity = capacity;
    }
    controller->cancelled[controller->cancels++] = id;
    return PR_OK;
}

void pr_controller_wake_at(pr_controller *controller, int64_t time_ns)
{
    controller->wake_ns = time_ns;
}

void pr_controller_walltime(
    const pr_controller *controller, pr_walltime_state *state, int64_t *end_unix_s)
{
    pr_scheduler_walltime(controller->scheduler, state);
    *end_unix_s = controller->end_unix_s;
}

int32_t pr_controller_waiting(const pr_controller *controller)
{
    return pr_scheduler_waiting(controller->scheduler);
}

void pr_controller_snapshot(const pr_controller *controller, pr_snapshot *snapshot)
{
    const pr_layout *layout = controller->params.layout;
    const pr_scheduler *scheduler = controller->scheduler;
    pr_group_snapshot *group = snapshot->group;
    *snapshot = (pr_snapshot){
        .time_ns = pr_clock_now_ns(),
        .waiting = pr_scheduler_waiting(scheduler),
        .unfinished = pr_scheduler_unfinished(scheduler),
        .groups = layout->groups,
        .group = group,
    };
    pr_scheduler_count(scheduler, &snapshot->counts);
    pr_controller_walltime(controller, &snapshot->walltime, &snapshot->end_unix_s);
    for (int32_t g = 0; g < layout->groups; g++) {
        pr_group_load load;
        pr_scheduler_group_load(scheduler, g, &load);
        group[g] = (pr_group_snapshot){
            .role = load.role,
            .first_rank = layout->group[g].first_rank,
            .ranks = layout->group[g].ranks,
            .tp = layout->group[g].tp,
            .running = load.sequences,
            .blocks = load.blocks,
            .used_blocks = load.used_blocks,
            .cached_blocks = load.cached_blocks,
        };
    }
    pr_step_tally_read(controller->steps, snapshot);
}

void pr_controller_interrupt(pr_controller *controller)
{
    atomic_store(&controller->interrupted, true);
    pr_control_wake(controller->params.control);
}

bool pr_controller_give_up(pr_controller *controller, const char *why)
{
    char *copy = strdup(why), *none = NULL;
    if (!copy)
        return false;
    if (!atomic_compare_exchange_strong(&controller->verdict, &none, copy))
        free(copy);
    pr_control_wake(controller->params.control);
    return true;
}

bool pr_controller_interrupted(const pr_controller *controller)
{
    return atomic_load(&controller->interrupted);
}

const pr_worker_counts *pr_controller_counts(const pr_controller *controller, int32_t rank)
{
    return &controller->counts[rank];
}

void pr_controller_scheduler_counts(const pr_controller *controller, pr_scheduler_counts *counts)
{
    pr_scheduler_count(controller->scheduler, counts);
}

const pr_step_fit *pr_controller_step_fit(const pr_controller *controller, pr_role role)
{
    return pr_scheduler_step_fit(controller->scheduler, role);
}

uint64_t pr_controller_hash(const pr_controller *controller)
{
    return pr_scheduler_hash(controller->scheduler);
}

// ---- Events ----

enum { RANK_NAME_BYTES = PR_LAYOUT_RANK_BYTES, FAULTS_BYTES = 800, FAULTS_MS = 1000 };

// "rank 3 (decode group 1)"
static const char *name_rank(const pr_controller *controller, int32_t rank, char *name)
{
    pr_layout_rank_text(controller->params.layout, rank, name);
    return name;
}

static pr_status fail_lost_rank(const pr_controller *controller, int32_t rank)
{
    char name[RANK_NAME_BYTES];
    return pr_fail(
        PR_ERR_PEER, "%s is lost: the run ends, results so far are kept",
        name_rank(controller, rank, name));
}

// The one line about a fault that workers have not told themselves. Who waits for a rank that waits for
// another blames the wrong one: all that comes within a moment is told, and a lost rank explains it.
static pr_status fail_faulty_ranks(pr_controller *controller, pr_message message)
{
    char text[FAULTS_BYTES] = "", name[RANK_NAME_BYTES];
    size_t used = 0;
    int64_t end_ns = pr_clock_now_ns() + (int64_t)FAULTS_MS * 1000000;
    do {
        if (message.kind == PR_MESSAGE_LOST && !controller->counted[message.from])
            return fail_lost_rank(controller, message.from);
        if (message.kind == PR_MESSAGE_FAULT && used < sizeof text)
            used += (size_t)snprintf(
                text + used, sizeof text - used, "%s cannot go on: %.*s; ",
                name_rank(controller, message.from, name), (int)message.size_bytes,
                (const char *)message.data);
        PR_TRY(pr_control_receive(controller->params.control, POLL_MS, &message));
    } while (pr_clock_now_ns() < end_ns);
    return pr_fail(PR_ERR_PEER, "%sthe run ends, results so far are kept", text);
}

static void note_report(pr_controller *controller, const pr_report *report)
{
    if (report->group >= controller->params.layout->groups)
        return;
    group_watch *watch = &controller->watch[report->group];
    watch->heard_ns = pr_clock_now_ns();
    if (report->plan_finished && report->plan > watch->done)
        watch->done = report->plan;
    pr_step_tally_add(controller->steps, report);
    if (controller->params.timeline)
        pr_timeline_reported(controller->params.timeline, watch->heard_ns, report);
}

// Prompt logprobs are no event of the scheduler's: nothing is decided by them.
static pr_status take_report(pr_controller *controller, const pr_message *message)
{
    const pr_face *face = &controller->params.face;
    pr_status status = PR_OK;
    pr_report *report;
    PR_TRY(pr_report_decode(message->data, message->size_bytes, &report));
    note_report(controller, report);
    if (report->prompt_logprobs == 0) {
        pr_scheduler_advance(controller->scheduler, pr_clock_now_ns());
        pr_scheduler_report(controller->scheduler, report);
    } else if (face->prompt_logprobs) {
        status = face->prompt_logprobs(face->context, report);
    }
    pr_report_free(report);
    return status;
}

// Its group's sequences wait again.
static pr_status lose_group(pr_controller *controller, int32_t group, const pr_message *message)
{
    pr_scheduler_counts before, after;
    char name[RANK_NAME_BYTES];
    name_rank(controller, message->from, name);
    pr_scheduler_count(controller->scheduler, &before);
    pr_scheduler_advance(controller->scheduler, pr_clock_now_ns());
    pr_scheduler_group_lost(controller->scheduler, group);
    pr_scheduler_count(controller->scheduler, &after);
    pr_losses_tell(controller->losses, name, message->data, &before, &after);
    controller->watch[group].done = controller->watch[group].sent;
    pr_recover_order order = {.kind = PR_RECOVER_LOSE, .group = group};
    PR_TRY(pr_group_rebuild_order(controller->rebuild, &order));
    if (controller->stopping || pr_scheduler_can_serve(controller->scheduler) ||
        pr_group_rebuild_hopes(controller->rebuild))
        return PR_OK;
    return pr_fail(
        PR_ERR_PEER,
        "%s is lost, and no group is left that can do its part: the run ends, results so far are "
        "kept",
        name);
}

static pr_status lose_rank(pr_controller *controller, const pr_message *message)
{
    int32_t rank = message->from;
    int32_t group = pr_layout_group_of(controller->params.layout, rank);
    bool replaced = controller->losses && group >= 0 && rank > 0 &&
                    pr_losses_has_group(controller->losses, group);
    if (controller->counted[rank] && !replaced)  // one that has sent its counts may leave
        return PR_OK;
    if (!controller->losses || rank == 0 || group < 0)
        return fail_lost_rank(controller, rank);
    if (controller->stopped[rank] && !controller->counted[rank])
        controller->outstanding--;
    controller->counted[rank] = true;
    if (pr_losses_add(controller->losses, rank))
        PR_TRY(lose_group(controller, group, message));
    return pr_group_rebuild_lose(controller->rebuild, rank);
}

static pr_status take_message(pr_controller *controller, const pr_message *message)
{
    switch (message->kind) {
    case PR_MESSAGE_REPORT:
        return take_report(controller, message);
    case PR_MESSAGE_COUNTS:
        if (controller->rebuild && !controller->stopped[message->from])
            return PR_OK;  // of a rank whose group was not back
        if (message->size_bytes != sizeof(pr_worker_counts) || controller->counted[message->from])
            return pr_fail(PR_ERR_PEER, "rank %d sent malformed counts", message->from);
        memcpy(&controller->counts[message->from], message->data, sizeof(pr_worker_counts));
        controller->counted[message->from] = true;
        controller->outstanding--;
        return PR_OK;
    case PR_MESSAGE_FAULT:
        return fail_faulty_ranks(controller, *message);
    case PR_MESSAGE_LOST:
        return lose_rank(controller, message);
    case PR_MESSAGE_DONE:
        return controller->rebuild ? pr_group_rebuild_answer(controller->rebuild, message) : PR_OK;
    default:
        return PR_OK;
    }
}

static pr_status take_verdict(const pr_controller *controller)
{
    const char *verdict = atomic_load(&controller->verdict);
    if (!verdict)
        return PR_OK;
    return pr_fail(PR_ERR_TIMEOUT, "%s: the run ends, results so far are kept", verdict);
}

// A rank that is stuck looks like one that computes, so its group is given twice the time in which
// the group's own waits end, which can name the operation. Time in which this process was stopped is
// not counted against the others.
static pr_status check_groups(pr_controller *controller)
{
    const pr_layout *layout = controller->params.layout;
    int64_t now_ns = pr_clock_now_ns(), gap_ns = now_ns - controller->looked_ns;
    int64_t limit_ns = (int64_t)controller->params.timeout_ms * 2 * 1000000;
    controller->looked_ns = now_ns;
    for (int32_t g = 0; layout->ranks > 1 && g < layout->groups; g++) {
        group_watch *watch = &controller->watch[g];
        if (gap_ns > (int64_t)PAUSE_MS * 1000000)
            watch->heard_ns += gap_ns;
        if (watch->sent == watch->done || now_ns - watch->heard_ns <= limit_ns)
            continue;
        const pr_group_layout *group = &layout->group[g];
        char ranks[32];
        pr_layout_ranks_text(group, ranks);
        return pr_fail(
            PR_ERR_TIMEOUT,
            "%s group %d (%s) gave no sign of plan %llu for %lld ms: a rank is stuck, or a step "
            "takes longer than --comm-timeout %d",
            pr_role_name(group->role), g, ranks, (unsigned long long)watch->done + 1,
            (long long)limit_ns / 1000000, controller->params.timeout_ms);
    }
    return PR_OK;
}

// Waits for one message, then takes all that are there.
static pr_status take_messages(pr_controller *controller, int32_t timeout_ms)
{
    for (;;) {
        pr_message message;
        PR_TRY(pr_control_receive(controller->params.control, timeout_ms, &message));
        if (message.kind == PR_MESSAGE_NONE)
            return PR_OK;
        PR_TRY(take_message(controller, &message));
        if (controller->params.check)
            pr_scheduler_check(controller->scheduler);
        timeout_ms = 0;
    }
}

// ---- Decisions ----

// A rank that cannot be sent to is lost; its own message about that may be behind others.
static pr_status send_to(
    pr_controller *controller,
    int32_t rank,
    pr_message_kind kind,
    const void *data,
    size_t size_bytes)
{
    pr_error_capture_begin();
    pr_status status = pr_control_send(controller->params.control, rank, kind, data, size_bytes);
    pr_error_capture_end();
    if (status == PR_ERR_PEER)
        return controller->losses && rank > 0 ? PR_OK : fail_lost_rank(controller, rank);
    if (status != PR_OK)
        pr_log(PR_LOG_ERROR, "%s", pr_error_text());
    return status;
}

static pr_status send_plan(pr_controller *controller, const pr_plan *plan)
{
    const pr_group_layout *group = &controller->params.layout->group[plan->group];
    group_watch *watch = &controller->watch[plan->group];
    size_t size_bytes = 0;
    PR_TRY(pr_plan_encode(plan, &controller->wire, &size_bytes));
    if (watch->sent == watch->done)
        watch->heard_ns = pr_clock_now_ns();
    watch->sent = plan->number;
    for (int32_t i = 0; i < group->ranks; i++)
        PR_TRY(send_to(
            controller, group->first_rank + i, PR_MESSAGE_PLAN, controller->wire, size_bytes));
    return PR_OK;
}

static void show_decision(pr_timeline *timeline, const pr_decision *decision)
{
    int64_t now_ns = pr_clock_now_ns();
    if (decision->kind == PR_DECISION_PLAN)
        pr_timeline_planned(timeline, now_ns, decision->plan);
    else if (decision->kind == PR_DECISION_TOKEN)
        pr_timeline_token(timeline, now_ns, decision->token);
    else if (decision->kind == PR_DECISION_REJECTED)
        pr_timeline_ended(timeline, now_ns, decision->id, "rejected");
    else if (decision->kind == PR_DECISION_LEFT)
        pr_timeline_ended(timeline, now_ns, decision->id, "left");
}

static pr_status carry_out_round(pr_controller *controller)
{
    const pr_face *face = &controller->params.face;
    for (;;) {
        pr_decision decision;
        pr_scheduler_next(controller->scheduler, &decision);
        if (controller->params.timeline)
            show_decision(controller->params.timeline, &decision);
        switch (decision.kind) {
        case PR_DECISION_NONE:
            return PR_OK;
        case PR_DECISION_PLAN:
            if (face->planned)
                face->planned(face->context, decision.plan);
            PR_TRY(send_plan(controller, decision.plan));
            break;
        case PR_DECISION_TOKEN:
            PR_TRY(face->token(face->context, controller, decision.token));
            break;
        case PR_DECISION_REJECTED:
            PR_TRY(face->rejected(face->context, controller, &decision));
            break;
        case PR_DECISION_LEFT:
            if (face->left)
                PR_TRY(face->left(face->context, controller, decision.id));
            break;
        }
    }
}

static void carry_out_cancels(pr_controller *controller)
{
    int64_t now_ns = pr_clock_now_ns();
    if (controller->cancels > 0)
        pr_scheduler_advance(controller->scheduler, now_ns);
    for (int32_t i = 0; i < controller->cancels; i++) {
        pr_scheduler_cancel(controller->scheduler, controller->cancelled[i]);
        if (controller->params.timeline)
            pr_timeline_ended(
                controller->params.timeline, now_ns, controller->cancelled[i], "cancelled");
    }
    controller->cancels = 0;
}

// Until a round asks for no cancel.
static pr_status carry_out_decisions(pr_controller *controller)
{
    do {
        carry_out_cancels(controller);
        PR_TRY(carry_out_round(controller));
    } while (controller->cancels > 0);
    return PR_OK;
}

// In whole milliseconds, rounded up.
static int32_t wait_ms(const pr_controller *controller)
{
    int64_t wake_ns = pr_scheduler_wakes_ns(controller->scheduler);
    if (controller->wake_ns < wake_ns)
        wake_ns = controller->wake_ns;
    int64_t left_ns = wake_ns - pr_clock_now_ns();
    if (left_ns >= (int64_t)POLL_MS * 1000000)
        return POLL_MS;
    return left_ns > 0 ? (int32_t)((left_ns + 999999) / 1000000) : 0;
}

static void sample_timeline(pr_controller *controller)
{
    int64_t now_ns = pr_clock_now_ns();
    if (now_ns - controller->sample.time_ns < (int64_t)SAMPLE_MS * 1000000)
        return;
    pr_controller_snapshot(controller, &controller->sample);
    pr_timeline_sample(controller->params.timeline, &controller->sample);
}

// An end that is known, was moved, or is known no more: from the job's clock to the scheduler's.
static void follow_end(pr_controller *controller)
{
    const pr_controller_params *params = &controller->params;
    int64_t end_unix_s = params->end ? pr_end_watch_unix_s(params->end) : 0;
    if (end_unix_s == controller->end_unix_s)
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double left_s = (double)(end_unix_s - (int64_t)now.tv_sec) - (double)now.tv_nsec * 1e-9;
    int64_t end_ns = pr_clock_now_ns() + (int64_t)((left_s - params->reserve_s) * 1e9);
    controller->end_unix_s = end_unix_s;
    pr_scheduler_set_end(
        controller->scheduler,
        end_unix_s == 0 ? 0
        : end_ns > 1    ? end_ns
                        : 1,
        params->face.at_end);
}

static pr_status answer_everything(pr_controller *controller)
{
    const pr_face *face = &controller->params.face;
    bool more = true;
    while (face->drains || !pr_controller_interrupted(controller)) {
        pr_scheduler_counts counts;
        pr_scheduler_advance(controller->scheduler, pr_clock_now_ns());
        controller->wake_ns = INT64_MAX;
        follow_end(controller);
        if (more)
            PR_TRY(face->feed(face->context, controller, &more));
        PR_TRY(carry_out_decisions(controller));
        if (face->settle)
            PR_TRY(face->settle(face->context));
        pr_scheduler_count(controller->scheduler, &counts);
        face->progress(face->context, &counts);
        pr_losses_tell_resumed(controller->losses, &counts);
        if (controller->params.timeline)
            sample_timeline(controller);
        int32_t unfinished = pr_scheduler_unfinished(controller->scheduler);
        if (unfinished == 0 && !more)
            return PR_OK;
        PR_TRY(take_messages(controller, wait_ms(controller)));
        PR_TRY(take_verdict(controller));
        PR_TRY(check_groups(controller));
        if (controller->rebuild)
            PR_TRY(pr_group_rebuild_look(controller->rebuild));
    }
    return PR_OK;
}

static int32_t first_uncounted(const pr_controller *controller)
{
    const pr_layout *layout = controller->params.layout;
    int32_t rank = 0;
    while (rank < layout->ranks &&
           (controller->counted[rank] || pr_layout_group_of(layout, rank) < 0))
        rank++;
    return rank;
}

// Whether the rank is told to stop, and then its counts are waited for.
static bool is_told(const pr_controller *controller, int32_t rank, bool decode, bool *awaited)
{
    const pr_layout *layout = controller->params.layout;
    int32_t index = pr_layout_group_of(layout, rank);
    if (index < 0) {  // rank 0 without a worker attends to losses only
        *awaited = false;
        return controller->losses && decode;
    }
    *awaited = !controller->counted[rank];
    return (layout->group[index].role == PR_ROLE_DECODE) == decode &&
           !pr_losses_has_rank(controller->losses, rank);
}

static pr_status stop_groups(pr_controller *controller, bool decode, int64_t deadline_ns)
{
    char name[RANK_NAME_BYTES];
    for (int32_t rank = 0; rank < controller->params.layout->ranks; rank++) {
        bool awaited;
        if (!is_told(controller, rank, decode, &awaited))
            continue;
        controller->stopped[rank] = awaited;
        controller->outstanding += awaited;
        PR_TRY(send_to(controller, rank, PR_MESSAGE_STOP, NULL, 0));
    }
    while (controller->outstanding > 0) {
        if (pr_clock_now_ns() > deadline_ns)
            return pr_fail(
                PR_ERR_TIMEOUT, "%s did not stop within %d s",
                name_rank(controller, first_uncounted(controller), name), STOP_WAIT_MS / 1000);
        PR_TRY(take_messages(controller, POLL_MS));
        PR_TRY(take_verdict(controller));
    }
    return PR_OK;
}

// Decode groups last: a prefill rank in the middle of a step may need them to take its KV.
static pr_status stop_workers(pr_controller *controller)
{
    int64_t deadline_ns = pr_clock_now_ns() + (int64_t)STOP_WAIT_MS * 1000000;
    PR_TRY(stop_groups(controller, false, deadline_ns));
    return stop_groups(controller, true, deadline_ns);
}

pr_status pr_controller_run(pr_controller *controller)
{
    const pr_face *face = &controller->params.face;
    pr_status status = answer_everything(controller);
    controller->stopping = true;
    if (status == PR_OK)
        status = stop_workers(controller);
    if (status != PR_OK)
        face->salvage(face->context);
    return status;
}
