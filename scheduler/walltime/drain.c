// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/walltime/drain.h"

#include <assert.h>
#include <math.h>

#include "scheduler/gather.h"
#include "scheduler/transfer.h"
#include "scheduler/walltime/forecast.h"

enum {
    LEAST_LOOK_NS = 50000000,  // between two looks at those that wait
    USUAL_REQUESTS = 32,       // that the mean of needs remembers
    USUAL_NEEDS = 2,           // with less time than so many of them left, the run drains
};

void pr_drain_begin(pr_scheduler *scheduler) { scheduler->drain.look_ns = INT64_MAX; }

static double left_s(const pr_scheduler *scheduler)
{
    return (double)(scheduler->drain.end_ns - scheduler->now_ns) * 1e-9;
}

// ---- The gate ----

bool pr_drain_may_start(
    pr_scheduler *scheduler, const pr_lane *lane, const pr_sequence *sequence, bool fetches)
{
    const pr_drain *drain = &scheduler->drain;
    if (drain->end_ns == 0 || sequence->accepted)
        return true;
    return drain->returning == 0 && !drain->passed &&
           pr_forecast_is_in_time(scheduler, lane, sequence, fetches, left_s(scheduler));
}

static void wait_in(pr_sequence_list *list, pr_sequence *sequence)
{
    if (sequence->list)
        pr_sequence_list_remove(sequence);
    pr_sequence_list_append(list, sequence);
}

// Looked at again by then, the less time there is the sooner.
static void look_before(pr_scheduler *scheduler, double spare_s)
{
    pr_drain *drain = &scheduler->drain;
    int64_t ahead_ns = (int64_t)(fmin(spare_s / 2, 1e9) * 1e9);
    if (ahead_ns < LEAST_LOOK_NS)
        ahead_ns = LEAST_LOOK_NS;
    if (scheduler->now_ns + ahead_ns < drain->look_ns)
        drain->look_ns = scheduler->now_ns + ahead_ns;
}

void pr_drain_park(pr_scheduler *scheduler, pr_sequence *sequence)
{
    wait_in(&scheduler->drain.parked, sequence);
    look_before(scheduler, 0);
}

static bool has_room(const pr_scheduler *scheduler)
{
    return scheduler->ring.outcomes < scheduler->ring.capacity;
}

// It will not start any more. Needs room for one decision; siblings for which there is none are cancelled
// by the caller with the request.
static void keep_out(pr_scheduler *scheduler, pr_sequence *sequence, double needs_s)
{
    pr_drain *drain = &scheduler->drain;
    if (drain->at_end != PR_AT_END_LEAVE) {
        pr_scheduler_decide_no_time(scheduler, sequence->request->id, needs_s);
        pr_scheduler_forget(scheduler, sequence);
        return;
    }
    pr_sequence *next;
    for (pr_sequence *at = scheduler->held.first; at; at = next) {
        next = at->list_next;
        if (at->request->sibling_of == sequence->request->id)
            wait_in(&drain->left, at);
    }
    if (!sequence->list)
        pr_dispatch_cancel(scheduler->dispatch, &sequence->job);
    wait_in(&drain->left, sequence);
}

// Whether it cannot end in time; how much time there is beyond what it needs, otherwise.
static bool
is_too_late(pr_scheduler *scheduler, const pr_sequence *sequence, double *needs_s, double *spare_s)
{
    *needs_s = pr_forecast_alone_s(scheduler, sequence);
    *spare_s = left_s(scheduler) - *needs_s;
    return !(*spare_s >= 0);
}

static void note_need(pr_drain *drain, double needs_s)
{
    if (drain->needs < USUAL_REQUESTS)
        drain->needs++;
    drain->usual_s += (needs_s - drain->usual_s) / drain->needs;
}

void pr_drain_sort_out(pr_scheduler *scheduler, pr_sequence *sequence)
{
    double needs_s, spare_s;
    if (scheduler->drain.end_ns == 0 || sequence->accepted)
        return;
    bool too_late = is_too_late(scheduler, sequence, &needs_s, &spare_s);
    note_need(&scheduler->drain, needs_s);
    if (too_late)
        keep_out(scheduler, sequence, needs_s);
    else
        look_before(scheduler, spare_s);
}

// ---- Looking again ----

static bool may_be_kept_out(const pr_scheduler *scheduler, const pr_sequence *sequence)
{
    return sequence->phase == PR_PHASE_WAITING && !sequence->accepted &&
           sequence->list != &scheduler->held && sequence->list != &scheduler->fresh &&
           sequence->list != &scheduler->drain.left;
}

// All that wait. Those that would do alone stay.
static void look_at_waiting(pr_scheduler *scheduler)
{
    pr_drain *drain = &scheduler->drain;
    drain->look_ns = INT64_MAX;
    for (int32_t i = 0; i < scheduler->table.buckets; i++) {
        pr_sequence *next;
        for (pr_sequence *at = scheduler->table.bucket[i]; at; at = next) {
            double needs_s, spare_s;
            next = at->table_next;
            if (!may_be_kept_out(scheduler, at))
                continue;
            if (!is_too_late(scheduler, at, &needs_s, &spare_s))
                look_before(scheduler, at->list ? 0 : spare_s);
            else if (has_room(scheduler))
                keep_out(scheduler, at, needs_s);
            else
                look_before(scheduler, 0);
        }
    }
}

static bool could_seat(const pr_scheduler *scheduler, const pr_lane *lane)
{
    const pr_group_state *group = &scheduler->group[lane->group];
    return group->open && group->look && !group->leaving && lane->role != PR_ROLE_DECODE &&
           lane->rows > 0 && lane->sequences < lane->seats;
}

static void unpark(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_sequence_list_remove(sequence);
    pr_dispatch_put_back(scheduler->dispatch, &sequence->job, pr_scheduler_now_s(scheduler));
}

// Into dispatch goes who could start in a group where somebody has gone since.
static void look_at_parked(pr_scheduler *scheduler)
{
    pr_sequence *next;
    bool looked = false;
    for (pr_sequence *at = scheduler->drain.parked.first; at; at = next) {
        next = at->list_next;
        for (int32_t i = 0; i < scheduler->compute_lanes; i++) {
            const pr_lane *lane = scheduler->compute_lane[i];
            looked = looked || could_seat(scheduler, lane);
            if (could_seat(scheduler, lane) && pr_drain_may_start(scheduler, lane, at, false)) {
                unpark(scheduler, at);
                break;
            }
        }
    }
    for (int32_t g = 0; looked && g < scheduler->groups; g++)
        scheduler->group[g].look = scheduler->group[g].look && !scheduler->group[g].open;
}

static void look_everywhere(pr_scheduler *scheduler)
{
    for (int32_t g = 0; g < scheduler->groups; g++)
        scheduler->group[g].look = true;
}

// ---- The end ----

static void note_left(pr_drain *drain, double needs_s)
{
    drain->longest_left_s = fmax(drain->longest_left_s, needs_s);
    if (!(drain->shortest_left_s > 0) || needs_s < drain->shortest_left_s)
        drain->shortest_left_s = needs_s;
}

// And all that waits.
void pr_drain_cut(pr_scheduler *scheduler)
{
    const pr_drain *drain = &scheduler->drain;
    if (drain->end_ns == 0 || drain->passed || scheduler->now_ns < drain->end_ns)
        return;
    for (int32_t i = 0; i < scheduler->table.buckets; i++) {
        pr_sequence *next;
        for (pr_sequence *at = scheduler->table.bucket[i]; at; at = next) {
            next = at->table_next;
            if (at->ending)
                continue;
            if (!has_room(scheduler))
                return;
            scheduler->counts.cut += at->accepted;
            if (!at->accepted)
                note_left(&scheduler->drain, pr_forecast_alone_s(scheduler, at));
            pr_scheduler_decide_no_time(scheduler, at->request->id, 0);
            if (at->phase == PR_PHASE_HANDOVER)
                pr_transfer_abandon(scheduler, at);
            else if (at->phase == PR_PHASE_GATHER)
                pr_gather_abandon(scheduler, at);
            else
                pr_scheduler_forget(scheduler, at);
        }
    }
    scheduler->drain.passed = true;
}

// The siblings of one that is left wait for it again.
static void take_back_left(pr_scheduler *scheduler)
{
    pr_drain *drain = &scheduler->drain;
    while (drain->left.first) {
        pr_sequence *sequence = drain->left.first;
        bool sibling = sequence->request->sibling_of != sequence->request->id;
        wait_in(sibling ? &scheduler->held : &drain->parked, sequence);
    }
    scheduler->siblings_changed = true;
}

static bool is_nothing_but_left(const pr_scheduler *scheduler)
{
    const pr_drain *drain = &scheduler->drain;
    return drain->left.sequences > 0 && drain->left.sequences == scheduler->table.sequences;
}

static void end_left(pr_scheduler *scheduler)
{
    pr_drain *drain = &scheduler->drain;
    while (drain->left.first && has_room(scheduler)) {
        pr_sequence *sequence = drain->left.first;
        double needs_s = pr_forecast_alone_s(scheduler, sequence);
        note_left(drain, needs_s);
        pr_scheduler_decide_no_time(scheduler, sequence->request->id, needs_s);
        pr_scheduler_forget(scheduler, sequence);
    }
}

// What was known of steps when they were left may have changed since.
static void reconsider_left(pr_scheduler *scheduler)
{
    take_back_left(scheduler);
    look_at_waiting(scheduler);
    look_everywhere(scheduler);
    look_at_parked(scheduler);
}

void pr_drain_round(pr_scheduler *scheduler)
{
    pr_drain *drain = &scheduler->drain;
    if (drain->end_ns == 0)
        return;
    bool due = scheduler->now_ns >= drain->look_ns;
    if (due)  // what is known of steps may have changed
        look_everywhere(scheduler);
    look_at_parked(scheduler);
    if (due || (drain->running == 0 && drain->parked.sequences > 0))
        look_at_waiting(scheduler);
    if (is_nothing_but_left(scheduler))
        reconsider_left(scheduler);
    if (is_nothing_but_left(scheduler))
        end_left(scheduler);
}

void pr_drain_set_end(pr_scheduler *scheduler, int64_t end_ns, pr_at_end at_end)
{
    pr_drain *drain = &scheduler->drain;
    take_back_left(scheduler);
    while (end_ns == 0 && drain->parked.first)
        unpark(scheduler, drain->parked.first);
    drain->end_ns = end_ns;
    drain->at_end = at_end;
    drain->passed = false;
    drain->shortest_left_s = drain->longest_left_s = 0;
    drain->look_ns = end_ns ? scheduler->now_ns : INT64_MAX;
    look_everywhere(scheduler);
}

int64_t pr_drain_wakes_ns(const pr_scheduler *scheduler)
{
    const pr_drain *drain = &scheduler->drain;
    int64_t wake_ns = INT64_MAX;
    if (drain->end_ns == 0)
        return wake_ns;
    if (scheduler->table.sequences > drain->left.sequences) {
        wake_ns = drain->look_ns;
        if (!drain->passed && drain->end_ns < wake_ns)
            wake_ns = drain->end_ns;
    }
    return wake_ns;
}

const char *pr_drain_reason(pr_scheduler *scheduler, double needs_s)
{
    pr_drain *drain = &scheduler->drain;
    double seconds = fmax(0, left_s(scheduler));
    if (needs_s > 0)
        snprintf(
            drain->reason, sizeof drain->reason,
            "rejected-walltime: the job's time ends in %.1f s, and with its max_tokens the request "
            "may take %.1f s: ask for fewer tokens, or again when the next job serves",
            seconds, needs_s);
    else
        snprintf(
            drain->reason, sizeof drain->reason,
            "rejected-walltime: the job's time is over (%.1f s left): ask again when the next job "
            "serves",
            seconds);
    return drain->reason;
}

void pr_scheduler_walltime(const pr_scheduler *scheduler, pr_walltime_state *state)
{
    const pr_drain *drain = &scheduler->drain;
    *state = (pr_walltime_state){.end_ns = drain->end_ns};
    if (drain->end_ns == 0)
        return;
    state->drains = drain->parked.sequences > 0 ||
                    left_s(scheduler) < USUAL_NEEDS * drain->usual_s || left_s(scheduler) <= 0;
    state->kept = drain->parked.sequences + drain->left.sequences;
    state->shortest_left_s = drain->shortest_left_s;
    state->longest_left_s = drain->longest_left_s;
    int64_t since_ns = drain->ended_ns > 0 ? drain->ended_ns : scheduler->begin_ns;
    if (drain->running == 0 && drain->end_ns > since_ns)
        state->idle_tail_ns = drain->end_ns - since_ns;
}

// ---- What happened ----

bool pr_drain_goes_first(pr_scheduler *scheduler, pr_sequence *sequence)
{
    const pr_request *request = sequence->request;
    if (!sequence->accepted && request->sibling_of != request->id) {
        const pr_sequence *first = pr_sequence_table_find(&scheduler->table, request->sibling_of);
        // It waited for one that has been started, or has ended.
        sequence->accepted = !first || first->accepted;
    }
    if (sequence->accepted && !sequence->returning) {
        sequence->returning = true;
        scheduler->drain.returning++;
    }
    return sequence->accepted && scheduler->drain.end_ns != 0;
}

static void stop_returning(pr_scheduler *scheduler, pr_sequence *sequence)
{
    scheduler->drain.returning -= sequence->returning;
    if (sequence->returning && scheduler->drain.returning == 0)
        look_everywhere(scheduler);
    sequence->returning = false;
}

void pr_drain_seated(pr_scheduler *scheduler, pr_sequence *sequence)
{
    sequence->accepted = true;
    stop_returning(scheduler, sequence);
    scheduler->drain.running++;
}

void pr_drain_returns(pr_scheduler *scheduler, pr_sequence *sequence)
{
    assert(sequence->phase != PR_PHASE_WAITING && sequence->accepted);
    (void)sequence;
    scheduler->drain.running--;
}

void pr_drain_gone(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_drain *drain = &scheduler->drain;
    stop_returning(scheduler, sequence);
    if (sequence->phase == PR_PHASE_WAITING)
        return;
    drain->running--;
    drain->ended_ns = scheduler->now_ns;
    look_everywhere(scheduler);
}

// ---- Check ----

void pr_drain_check(const pr_scheduler *scheduler)
{
    const pr_drain *drain = &scheduler->drain;
    int32_t running = 0, returning = 0;
    for (int32_t i = 0; i < scheduler->table.buckets; i++) {
        for (const pr_sequence *at = scheduler->table.bucket[i]; at; at = at->table_next) {
            bool waits = at->phase == PR_PHASE_WAITING;
            running += !waits;
            returning += at->returning;
            assert(waits ? at->accepted == at->returning || at->list : at->accepted);
            assert(!at->returning || !at->list);
            assert((at->list != &drain->parked && at->list != &drain->left) || !at->accepted);
        }
    }
    assert(running == drain->running && returning == drain->returning);
    assert(drain->end_ns != 0 || drain->parked.sequences + drain->left.sequences == 0);
    (void)running, (void)returning;
}
