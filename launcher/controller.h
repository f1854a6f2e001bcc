// SPDX-License-Identifier: BSD-3-Clause
// The loop on rank 0 that turns events into decisions: requests from a face (batch file, prompt,
// later HTTP) and reports from workers go into the scheduler, plans go out to groups, tokens to the face.
// Threads: its own thread on rank 0; never calls MPI. pr_controller_interrupt may come from anywhere.
#ifndef PR_LAUNCHER_CONTROLLER_H
#define PR_LAUNCHER_CONTROLLER_H

#include <stdio.h>

#include "comm/control.h"
#include "launcher/leave/end_watch.h"
#include "launcher/observe/timeline.h"
#include "launcher/serve/snapshot.h"
#include "launcher/worker.h"
#include "scheduler/scheduler.h"

typedef struct pr_controller pr_controller;

// Who brings requests and takes tokens. Called from the controller's thread only. An error ends the run.
typedef struct pr_face {
    void *context;
    // Submits more requests by pr_controller_submit while it is sensible; *more: false at the end of
    // input. Called before each round of decisions.
    pr_status (*feed)(void *context, pr_controller *controller, bool *more);
    // One final token of a sequence, in order; finish is set on the last.
    pr_status (*token)(void *context, pr_controller *controller, const pr_token_report *token);
    // Tokens of prompts whose logprobs were asked for; before the sequence's first token. Some may come
    // again, with the same values, after a preemption. NULL: the face asks for none.
    pr_status (*prompt_logprobs)(void *context, const pr_report *report);
    // No further token of the sequence will come.
    pr_status (*rejected)(void *context, pr_controller *controller, const pr_decision *decision);
    // The run's time ends before the sequence would, or did: what is known of it is for the next run. From
    // the first on it is of no use to bring more requests. NULL: the face lets the run refuse instead.
    pr_status (*left)(void *context, pr_controller *controller, uint64_t id);
    // A plan goes out to its group. NULL: the face does not care.
    void (*planned)(void *context, const pr_plan *plan);
    // After each round of decisions: a chance to keep what they brought. NULL: nothing is kept.
    pr_status (*settle)(void *context);
    // Now and then (every round): a chance to show progress.
    void (*progress)(void *context, const pr_scheduler_counts *counts);
    // The last call, only after an error: the process ends, keep what is done.
    void (*salvage)(void *context);
    // An interrupt does not end the run: the face sees it in feed, and ends by bringing no more.
    bool drains;
    // The run's time may end (pr_controller_params.end); what then becomes of what cannot end by then.
    bool has_end;
    pr_at_end at_end;
} pr_face;

typedef struct pr_controller_params {
    const pr_layout *layout;
    pr_scheduler_params scheduler;
    pr_control *control;  // the controller's endpoint
    int32_t timeout_ms;   // --comm-timeout
    pr_face face;
    const pr_end_watch *end;  // of the job, or NULL: none
    double reserve_s;         // before it the run's time ends
    FILE *record;             // events for replay, or NULL
    pr_timeline *timeline;    // or NULL
    bool recovers;            // the loss of a rank costs its group only (recover/group_rebuild.h)
    bool respawns;            // and the rank is replaced
    bool check;               // pr_scheduler_check after every event (POLYREME_CHECK=1)
} pr_controller_params;

pr_status
pr_controller_create(const pr_controller_params *params, pr_controller **controller) PR_MUST_CHECK;
void pr_controller_destroy(pr_controller *controller);

// Until the face has no more input and everything is answered, or an interrupt; then stops all
// workers and collects their counts. An error names the rank at fault, and the face was told.
pr_status pr_controller_run(pr_controller *controller) PR_MUST_CHECK;

// For the face: takes the request on success.
pr_status pr_controller_submit(pr_controller *controller, pr_request *request) PR_MUST_CHECK;
// Takes effect when this round of decisions is carried out.
pr_status pr_controller_cancel(pr_controller *controller, uint64_t id) PR_MUST_CHECK;
// From feed: call it again at this time (pr_clock), even if nothing happens until then.
void pr_controller_wake_at(pr_controller *controller, int64_t time_ns);
int32_t pr_controller_waiting(const pr_controller *controller);
// How the run stands to its end, now or after run; *end_unix_s: of the job, 0 if none is known.
void pr_controller_walltime(
    const pr_controller *controller, pr_walltime_state *state, int64_t *end_unix_s);
// From any of the face's functions. The caller gives room for the layout's groups at snapshot->group.
void pr_controller_snapshot(const pr_controller *controller, pr_snapshot *snapshot);

// Async-signal-safe: stop admitting, stop the workers at the next step boundary, keep what is done.
void pr_controller_interrupt(pr_controller *controller);
// From any thread: ends the run with this error, which the controller tells. False without memory.
bool pr_controller_give_up(pr_controller *controller, const char *why);
bool pr_controller_interrupted(const pr_controller *controller);

// After run: counts of world rank r (zero for one without a group), the scheduler's, the hash.
const pr_worker_counts *pr_controller_counts(const pr_controller *controller, int32_t rank);
void pr_controller_scheduler_counts(const pr_controller *controller, pr_scheduler_counts *counts);
const pr_step_fit *pr_controller_step_fit(const pr_controller *controller, pr_role role);
uint64_t pr_controller_hash(const pr_controller *controller);

#endif
