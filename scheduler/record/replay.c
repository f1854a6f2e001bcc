// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/record/replay.h"

#include "runtime/base/log.h"
#include "scheduler/record/record_reader.h"
#include "scheduler/scheduler_state.h"

static pr_status replay_next(pr_scheduler *scheduler, const pr_record_reader *reader, int32_t calls)
{
    pr_decision decision;
    decision.kind = PR_DECISION_PLAN;
    for (int32_t i = 0; i < calls && decision.kind != PR_DECISION_NONE; i++)
        pr_scheduler_next(scheduler, &decision);
    bool out = scheduler->ring.outcomes == 0;
    for (int32_t g = 0; g < scheduler->groups; g++)
        out = out && !scheduler->group[g].ready;
    return out ? PR_OK
               : pr_record_reader_fail(reader, "it ends before all decisions of the round are out");
}

// Takes the event's request.
static pr_status replay_event(
    pr_scheduler *scheduler,
    const pr_record_reader *reader,
    const pr_record_event *event,
    pr_replay_result *result)
{
    pr_status status;
    switch (event->kind) {
    case PR_RECORD_SUBMIT:
        status = pr_scheduler_submit(scheduler, event->request);
        if (status != PR_OK)
            pr_request_destroy(event->request);
        return status;
    case PR_RECORD_REPORT:
        pr_scheduler_report(scheduler, &event->report);
        break;
    case PR_RECORD_CANCEL:
        pr_scheduler_cancel(scheduler, event->id);
        break;
    case PR_RECORD_ADVANCE:
        pr_scheduler_advance(scheduler, event->now_ns);
        break;
    case PR_RECORD_END:
        pr_scheduler_set_end(scheduler, event->end_ns, event->at_end);
        break;
    case PR_RECORD_LOST:
        pr_scheduler_group_lost(scheduler, event->group);
        break;
    case PR_RECORD_BACK:
        pr_scheduler_group_back(scheduler, event->group);
        break;
    case PR_RECORD_PAUSE:
        pr_scheduler_pause(scheduler, event->paused);
        break;
    case PR_RECORD_PLAN:
    case PR_RECORD_ROLE:
        break;
    case PR_RECORD_NEXT:
        PR_TRY(replay_next(scheduler, reader, event->calls));
        if (result->diverged_line == 0 && (uint32_t)pr_scheduler_hash(scheduler) != event->hash)
            result->diverged_line = pr_record_reader_line(reader);
        break;
    case PR_RECORD_HASH:
        result->complete = true;
        result->recorded_hash = event->hash;
        break;
    }
    return PR_OK;
}

pr_status pr_replay_run(FILE *events, pr_replay_result *result)
{
    pr_replay_result made = {0};
    pr_record_reader *reader;
    pr_scheduler *scheduler = NULL;
    pr_record_event event;
    bool more = true;
    PR_TRY(pr_record_reader_open(events, &reader));
    pr_status status;
    PR_TRY_GOTO(pr_scheduler_create(pr_record_reader_params(reader), &scheduler), destroy);
    for (;;) {
        PR_TRY_GOTO(pr_record_reader_next(reader, &event, &more), destroy);
        if (!more)
            break;
        made.events += event.kind != PR_RECORD_PLAN && event.kind != PR_RECORD_ROLE;
        PR_TRY_GOTO(replay_event(scheduler, reader, &event, &made), destroy);
    }
    made.hash = pr_scheduler_hash(scheduler);
    pr_scheduler_count(scheduler, &made.counts);
    *result = made;

destroy:
    pr_scheduler_destroy(scheduler);
    pr_record_reader_close(reader);
    return status;
}
