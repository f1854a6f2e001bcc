// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/intake.h"

#include "runtime/base/log.h"
#include "scheduler/gather.h"
#include "scheduler/seating.h"
#include "scheduler/transfer.h"
#include "scheduler/walltime/forecast.h"

static pr_sequence *find(const pr_scheduler *scheduler, uint64_t id, uint32_t generation)
{
    pr_sequence *sequence = pr_sequence_table_find(&scheduler->table, id);
    return sequence && sequence->generation == generation ? sequence : NULL;
}

static bool sits_in(const pr_seat *seat, const pr_report *report)
{
    return seat->lane && seat->lane->group == report->group && seat->lane->lane == report->lane;
}

static void complain(const pr_report *report, const char *what, uint64_t id)
{
    (void)pr_fail(
        PR_ERR_PEER,
        "report of group %d lane %d, plan %llu step %u: %s of request %llu cannot be right; "
        "ignored",
        (int)report->group, (int)report->lane, (unsigned long long)report->plan,
        (unsigned)report->step, what, (unsigned long long)id);
}

static void
chunk_done(pr_scheduler *scheduler, const pr_report *report, const pr_chunk_report *chunk)
{
    pr_sequence *sequence = find(scheduler, chunk->id, chunk->generation);
    if (!sequence)
        return;
    if (!sits_in(&sequence->seat[PR_SEAT_COMPUTE], report) || chunk->computed < 0 ||
        chunk->computed > sequence->planned) {
        complain(report, "a chunk", chunk->id);
        return;
    }
    sequence->computed = chunk->computed;
    pr_lane_publish(sequence, PR_SEAT_COMPUTE, chunk->computed);
    pr_seating_computed(scheduler, sequence, chunk->computed);
}

// The token before the newest has been fed, so its KV is written. A block is published when full.
static void publish_decoded(pr_sequence *sequence)
{
    const pr_seat *seat = pr_sequence_decode_seat(sequence);
    int32_t written = sequence->tokens - 1;
    if (written % seat->lane->block_tokens == 0)
        pr_lane_publish(sequence, (int32_t)(seat - sequence->seat), written);
}

static bool
token_is_next(pr_sequence *sequence, const pr_report *report, const pr_token_report *token)
{
    bool handing = sequence->phase == PR_PHASE_HANDOVER;
    const pr_seat *seat =
        handing ? &sequence->seat[PR_SEAT_COMPUTE] : pr_sequence_decode_seat(sequence);
    if (handing ? sequence->first_token_known : sequence->phase != PR_PHASE_DECODE)
        return false;
    bool computed = sequence->job.state != PR_JOB_RUNNING;  // the last chunk's report came first
    return computed && sits_in(seat, report) && sequence->tokens <= pr_lane_capacity(seat) &&
           token->index == pr_sequence_outputs(sequence) &&
           token->index < sequence->request->sampling.max_tokens && token->tops >= 0 &&
           token->tops <= PR_MAX_TOP_LOGPROBS;
}

static void
token_sampled(pr_scheduler *scheduler, const pr_report *report, const pr_token_report *token)
{
    pr_sequence *sequence = find(scheduler, token->id, token->generation);
    if (!sequence || sequence->ending)
        return;
    bool ring_full = scheduler->ring.outcomes >= scheduler->ring.most_tokens;
    if (ring_full || !token_is_next(sequence, report, token)) {
        complain(report, "a token", token->id);
        return;
    }
    bool handing = sequence->phase == PR_PHASE_HANDOVER;
    bool ends = token->finish == PR_FINISH_STOP || token->finish == PR_FINISH_LENGTH;
    sequence->token[sequence->tokens++] = token->token;
    scheduler->counts.output_tokens++;
    scheduler->counts.resumed += sequence->moved;
    sequence->moved = sequence->job.moved = false;
    pr_seating_generated(scheduler, sequence);
    pr_scheduler_decide_token(scheduler, token);
    if (!handing)
        publish_decoded(sequence);
    if (handing && ends)
        pr_transfer_abandon(scheduler, sequence);
    else if (handing)
        pr_transfer_first_token(scheduler, sequence);
    else if (ends)
        pr_scheduler_finish(scheduler, sequence);
}

static void
arrived(pr_scheduler *scheduler, const pr_report *report, const pr_arrival_report *arrival)
{
    pr_sequence *sequence = find(scheduler, arrival->id, arrival->generation);
    if (!sequence)
        return;
    bool gathers = sequence->phase == PR_PHASE_GATHER;
    const pr_seat *seat = &sequence->seat[gathers ? PR_SEAT_COMPUTE : PR_SEAT_DECODE];
    if ((!gathers && sequence->phase != PR_PHASE_HANDOVER) || !sits_in(seat, report) ||
        sequence->unsent > 0 || sequence->arrivals == seat->lane->tp) {
        complain(report, "an arrival", arrival->id);
        return;
    }
    if (gathers)
        pr_gather_arrived(scheduler, sequence, arrival->intact);
    else
        pr_transfer_arrived(scheduler, sequence, arrival->intact);
}

// What dispatch predicts with follows the steps that were measured, once there are some.
static void learn_step_time(pr_scheduler *scheduler, pr_role role, const pr_report *report)
{
    enum { FEW = 64 };
    pr_step_fit *fit = &scheduler->fit[role];
    pr_step_fit_add(fit, &report->work, (double)report->step_ns * 1e-9);
    if (fit->observations < FEW)
        return;
    pr_cost_model learnt = scheduler->cost;
    pr_step_fit_apply(fit, &learnt);
    if (role != PR_ROLE_DECODE) {
        scheduler->cost.chunk_s = learnt.chunk_s;
        scheduler->cost.chunk_token_s = learnt.chunk_token_s;
        scheduler->cost.chunk_pair_s = learnt.chunk_pair_s;
    }
    if (role != PR_ROLE_PREFILL) {
        scheduler->cost.step_s = learnt.step_s;
        scheduler->cost.step_sequence_s = learnt.step_sequence_s;
        scheduler->cost.step_context_s = learnt.step_context_s;
    }
}

void pr_intake_report(pr_scheduler *scheduler, const pr_report *report)
{
    if (report->group < 0 || report->group >= scheduler->groups || report->plan < 1 ||
        report->plan > scheduler->group[report->group].planned) {
        complain(report, "the plan", 0);
        return;
    }
    pr_group_state *group = &scheduler->group[report->group];
    if (report->plan <= group->void_plans)
        return;
    uint64_t done = report->plan_finished ? report->plan : report->plan - 1;
    if (done > group->done)
        group->done = done;
    learn_step_time(scheduler, group->role, report);
    pr_forecast_report(scheduler, group, report);
    for (int32_t i = 0; i < report->chunks; i++)
        chunk_done(scheduler, report, &report->chunk[i]);
    for (int32_t i = 0; i < report->tokens; i++)
        token_sampled(scheduler, report, &report->token[i]);
    for (int32_t i = 0; i < report->arrivals; i++)
        arrived(scheduler, report, &report->arrival[i]);
}
