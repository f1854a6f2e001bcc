// SPDX-License-Identifier: BSD-3-Clause
// The end of the run's time in the scheduler: who may still start, who is left, when nothing is left to do.
//
//   waiting --gate: would it, and all that it slows down, end in time?--> seated: accepted
//      |  ^-- no, but alone it would: parked; looked at again when somebody goes --'
//      '----- no, not even alone: LEAVE: left, waits on in case the end moves     REJECT: refused
//
// Accepted sequences that come back (preempted, lost in a handover, later choices of an accepted request)
// go before all others, and nobody new starts while one of them waits. So admission stops by itself as the
// end comes nearer, short requests last. When all that is there is left, the run is drained: each is
// decided as LEFT. What still runs at the end itself, because steps became slower than they
// had been, is cut: LEFT or REJECTED as the rest.
//
// Without an end nothing of this is asked. Times: forecast.h.
// Parked and waiting ones are looked at when somebody goes and at ever shorter
// distances before they cannot end any more.
#ifndef PR_SCHEDULER_WALLTIME_DRAIN_H
#define PR_SCHEDULER_WALLTIME_DRAIN_H

#include "scheduler/scheduler_state.h"

// Once, before anything else.
void pr_drain_begin(pr_scheduler *scheduler);
void pr_drain_set_end(pr_scheduler *scheduler, int64_t end_ns, pr_at_end at_end);

// At the beginning of a round, before any plan is drafted: the end has come, what runs is cut.
void pr_drain_cut(pr_scheduler *scheduler);
// Before seats are given: looks again at who was kept back.
void pr_drain_round(pr_scheduler *scheduler);

// Whether a sequence that is about to wait goes before those that have not started.
bool pr_drain_goes_first(pr_scheduler *scheduler, pr_sequence *sequence);
// It is new in dispatch: if it cannot end in time, it is left or refused at once.
void pr_drain_sort_out(pr_scheduler *scheduler, pr_sequence *sequence);

// May it be seated in this lane now; and if it fetches a prefix first?
bool pr_drain_may_start(
    pr_scheduler *scheduler, const pr_lane *lane, const pr_sequence *sequence, bool fetches);
// It may not: it waits beside the queue. It has left dispatch.
void pr_drain_park(pr_scheduler *scheduler, pr_sequence *sequence);

// What happened: it has a seat; it lost its seat and is about to wait again; it goes for good.
void pr_drain_seated(pr_scheduler *scheduler, pr_sequence *sequence);
void pr_drain_returns(pr_scheduler *scheduler, pr_sequence *sequence);
void pr_drain_gone(pr_scheduler *scheduler, pr_sequence *sequence);

// When time alone changes something; INT64_MAX: never.
int64_t pr_drain_wakes_ns(const pr_scheduler *scheduler);

// The line for the user of a request that was refused, until the next call.
const char *pr_drain_reason(pr_scheduler *scheduler, double needs_s);

// Asserts every invariant.
void pr_drain_check(const pr_scheduler *scheduler);

#endif
