// SPDX-License-Identifier: BSD-3-Clause
// The scheduler's outside: events in, decisions out. Who runs where and when is in batching.c and
// placement.c; what reports mean is in intake.c and transfer.c.
#include "scheduler/scheduler.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "scheduler/balance/role_change.h"
#include "scheduler/batching.h"
#include "scheduler/gather.h"
#include "scheduler/group_loss.h"
#include "scheduler/intake.h"
#include "scheduler/record/record.h"
#include "scheduler/seating.h"
#include "scheduler/transfer.h"
#include "scheduler/walltime/drain.h"
#include "scheduler/walltime/forecast.h"

enum { FIRST_EXPECTED_OUTPUTS = 256 };  // before any request has ended

static pr_status check_params(const pr_scheduler_params *params)
{
    const pr_layout *layout = params->layout;
    if (params->kv_blocks < 1 || params->block_tokens < 1 || params->max_model_len < 2 ||
        params->max_num_batched_tokens < 1 || params->max_num_seqs < 1 || params->lease_steps < 1 ||
        params->lease_steps > PR_MAX_LEASE_STEPS)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "scheduler: %d blocks of %d tokens, max_model_len %d, max_num_batched_tokens %d, "
            "max_num_seqs %d, %d lease steps: each must be at least 1 (max_model_len 2), lease "
            "steps "
            "at most %d",
            (int)params->kv_blocks, (int)params->block_tokens, (int)params->max_model_len,
            (int)params->max_num_batched_tokens, (int)params->max_num_seqs,
            (int)params->lease_steps, PR_MAX_LEASE_STEPS);
    const pr_cost_model *cost = &params->cost;
    if (cost->chunk_tokens < 1 || !(cost->transfer_bytes_per_s > 0))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "scheduler: the cost model needs chunks of at least one token and transfers "
            "of more than 0 bytes/s");
    int32_t roles[3] = {0};
    for (int32_t g = 0; g < layout->groups; g++)
        roles[layout->group[g].role]++;
    if (roles[PR_ROLE_MIXED] + roles[PR_ROLE_PREFILL] == 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "the layout has no group that can prefill; add one or use --mixed");
    if ((roles[PR_ROLE_PREFILL] > 0) != (roles[PR_ROLE_DECODE] > 0))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "the layout has %d prefill and %d decode groups; give both or use --mixed",
            (int)roles[PR_ROLE_PREFILL], (int)roles[PR_ROLE_DECODE]);
    return PR_OK;
}

static pr_status create_group(pr_scheduler *scheduler, int32_t number)
{
    const pr_scheduler_params *params = &scheduler->params;
    const pr_group_layout *layout = &params->layout->group[number];
    pr_group_state *group = &scheduler->group[number];
    int32_t lanes = pr_layout_lanes(params->layout, number);
    pr_kv_cache_params pool = {
        .blocks = params->kv_blocks,
        .block_tokens = params->block_tokens,
        .prefix_caching = params->prefix_caching,
    };
    group->role = layout->role;
    group->lane = calloc((size_t)lanes, sizeof *group->lane);
    if (!group->lane)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %d lanes", (int)lanes);
    group->lanes = lanes;
    for (int32_t l = 0; l < lanes; l++) {
        pr_lane *lane = &group->lane[l];
        *lane = (pr_lane){
            .group = number,
            .lane = l,
            .tp = layout->tp,
            .role = layout->role,
            .listener = params->listener.stored ? &params->listener : NULL,
        };
        pr_seating_number(scheduler, lane);
        PR_TRY(pr_lane_create(lane, &pool, scheduler->seats));
    }
    return pr_plan_draft_create(
        &group->draft, number, lanes * scheduler->seats, lanes * PR_GATHERS_PER_LANE);
}

// Everything that is sized by seats, checked before any of it is made.
static pr_status check_seats(const pr_scheduler *scheduler)
{
    const pr_layout *layout = scheduler->params.layout;
    int64_t seats = 0;
    int64_t decode_seats = 0;
    for (int32_t g = 0; g < layout->groups; g++) {
        int64_t of_group = (int64_t)pr_layout_lanes(layout, g) * scheduler->seats;
        seats += of_group;
        if (layout->group[g].role == PR_ROLE_DECODE)
            decode_seats += of_group;
    }
    if (decode_seats > PR_HANDOVER_TAGS / 2 ||
        seats > INT32_MAX / PR_PLANS_AHEAD / (scheduler->params.lease_steps + 1))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%d sequences per lane make %lld in all lanes and %lld in decode lanes (at most %d), "
            "which is more than one scheduler can hold; lower --max-num-seqs",
            (int)scheduler->seats, (long long)seats, (long long)decode_seats, PR_HANDOVER_TAGS / 2);
    return PR_OK;
}

static pr_status create_ring(pr_scheduler *scheduler)
{
    int32_t seats = 0;
    for (int32_t g = 0; g < scheduler->groups; g++)
        seats += scheduler->group[g].draft.seats;
    pr_outcome_ring *ring = &scheduler->ring;
    ring->most_tokens = seats * PR_PLANS_AHEAD * scheduler->params.lease_steps;
    ring->capacity = ring->most_tokens + seats * PR_PLANS_AHEAD;
    ring->outcome = calloc((size_t)ring->capacity, sizeof(pr_outcome));
    if (!ring->outcome)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %d tokens", (int)ring->capacity);
    return PR_OK;
}

pr_status pr_scheduler_create(const pr_scheduler_params *params, pr_scheduler **scheduler)
{
    PR_TRY(check_params(params));
    pr_status status;
    pr_scheduler *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the scheduler");
    made->params = *params;
    made->seats = params->max_num_seqs < params->max_num_batched_tokens
                      ? params->max_num_seqs
                      : params->max_num_batched_tokens;
    PR_TRY_GOTO(check_seats(made), destroy);
    made->group = calloc((size_t)params->layout->groups, sizeof *made->group);
    if (!made->group) {
        status = pr_fail(PR_ERR_RESOURCE, "no memory for %d groups", (int)params->layout->groups);
        goto destroy;
    }
    made->groups = params->layout->groups;
    made->cost = params->cost;
    made->changes_roles = pr_role_change_is_possible(params);
    pr_balance_begin(&made->balance, &params->balance);
    made->outputs_expected = FIRST_EXPECTED_OUTPUTS;
    PR_TRY_GOTO(pr_seating_create(made), destroy);
    for (int32_t g = 0; g < made->groups; g++)
        PR_TRY_GOTO(create_group(made, g), destroy);
    for (int32_t role = 0; role < PR_ROLES; role++)
        pr_step_fit_begin(&made->fit[role], &params->cost);
    pr_step_fit_transfer_begin(&made->transfer_fit, &params->cost);
    PR_TRY_GOTO(create_ring(made), destroy);
    PR_TRY_GOTO(pr_forecast_create(made), destroy);
    pr_drain_begin(made);
    PR_TRY_GOTO(pr_sequence_table_create(&made->table), destroy);
    *scheduler = made;
    return PR_OK;

destroy:
    pr_scheduler_destroy(made);
    return status;
}

void pr_scheduler_destroy(pr_scheduler *scheduler)
{
    if (!scheduler)
        return;
    pr_record_end(scheduler);
    for (int32_t g = 0; g < scheduler->groups; g++) {
        for (int32_t l = 0; l < scheduler->group[g].lanes; l++)
            pr_lane_destroy(&scheduler->group[g].lane[l]);
        free(scheduler->group[g].lane);
        pr_plan_draft_destroy(&scheduler->group[g].draft);
    }
    pr_sequence_table_destroy(&scheduler->table);
    pr_forecast_destroy(scheduler);
    pr_dispatch_destroy(scheduler->dispatch);
    pr_cache_map_destroy(scheduler->decode_map);
    free(scheduler->compute_lane);
    free(scheduler->decode_lane);
    free(scheduler->decode_room);
    free(scheduler->group);
    free(scheduler->ring.outcome);
    free(scheduler);
}

void pr_scheduler_record(pr_scheduler *scheduler, FILE *events)
{
    assert(scheduler->arrivals == 0 && scheduler->hash == 0);
    scheduler->record = events;
    pr_record_begin(scheduler);
}

// The plan returned last is no longer looked at.
static void clear_sent(pr_scheduler *scheduler)
{
    if (scheduler->sent)
        pr_plan_draft_clear(&scheduler->sent->draft);
    scheduler->sent = NULL;
}

static void begin_event(pr_scheduler *scheduler)
{
    clear_sent(scheduler);
    for (int32_t g = 0; g < scheduler->groups; g++)
        assert(!scheduler->group[g].ready);
    scheduler->changed = true;
}

static pr_status check_request(const pr_scheduler *scheduler, const pr_request *request)
{
    const pr_scheduler_params *params = &scheduler->params;
    int64_t prompt = request->prompt_tokens;
    int64_t max_tokens = request->sampling.max_tokens;
    if (prompt < 1 || max_tokens < 1)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "a request needs at least one prompt token and max_tokens >= 1 (it has %lld and %lld)",
            (long long)prompt, (long long)max_tokens);
    if (request->outputs > 0 &&
        (request->outputs >= max_tokens || prompt + request->outputs >= params->max_model_len))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "an earlier run has generated %d tokens, but with this max_model_len and max_tokens no "
            "more than %lld are wanted: resume with the options of that run",
            (int)request->outputs, (long long)max_tokens);
    if (prompt + 1 > params->max_model_len)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "the prompt has %lld tokens and max_model_len is %d, of which one is for the output; "
            "shorten the prompt or raise --max-model-len",
            (long long)prompt, (int)params->max_model_len);
    int64_t tokens =
        prompt + max_tokens < params->max_model_len ? prompt + max_tokens : params->max_model_len;
    int64_t blocks = (tokens + params->block_tokens - 1) / params->block_tokens;
    if (blocks > params->kv_blocks)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%lld prompt tokens and up to %lld output tokens need %lld KV blocks of %d tokens, the "
            "pool has %d; lower max_tokens, shorten the prompt or give the cache more blocks",
            (long long)prompt, (long long)(tokens - prompt), (long long)blocks,
            (int)params->block_tokens, (int)params->kv_blocks);
    if (pr_sequence_table_find(&scheduler->table, request->id))
        return pr_fail(
            PR_ERR_ARGUMENT, "request id %llu is in use", (unsigned long long)request->id);
    return PR_OK;
}

pr_status pr_scheduler_submit(pr_scheduler *scheduler, pr_request *request)
{
    clear_sent(scheduler);
    PR_TRY(check_request(scheduler, request));
    int32_t most = scheduler->params.max_model_len - request->prompt_tokens;
    if (request->sampling.max_tokens > most)
        request->sampling.max_tokens = most;
    pr_sequence *sequence;
    PR_TRY(pr_sequence_create(request, scheduler->arrivals, &sequence));
    pr_status status = pr_sequence_table_add(&scheduler->table, sequence);
    PR_TRY_GOTO(status, give_back);
    begin_event(scheduler);
    PR_TRY_GOTO(pr_seating_wait(scheduler, sequence), remove);
    scheduler->arrivals++;
    pr_record_submit(scheduler, request);
    return PR_OK;

remove:
    pr_sequence_table_remove(&scheduler->table, sequence);
give_back:
    sequence->request = NULL;
    pr_sequence_destroy(sequence);
    return status;
}

void pr_scheduler_report(pr_scheduler *scheduler, const pr_report *report)
{
    begin_event(scheduler);
    pr_record_report(scheduler, report);
    pr_intake_report(scheduler, report);
}

void pr_scheduler_cancel(pr_scheduler *scheduler, uint64_t id)
{
    begin_event(scheduler);
    pr_record_cancel(scheduler, id);
    pr_outcome_ring *ring = &scheduler->ring;
    for (int32_t i = 0; i < ring->outcomes; i++) {
        pr_outcome *outcome = &ring->outcome[(ring->first + i) % ring->capacity];
        outcome->cancelled = outcome->cancelled || outcome->token.id == id;
    }
    pr_sequence *sequence = pr_sequence_table_find(&scheduler->table, id);
    if (!sequence)
        return;
    if (sequence->phase == PR_PHASE_HANDOVER)
        pr_transfer_abandon(scheduler, sequence);
    else if (sequence->phase == PR_PHASE_GATHER)
        pr_gather_abandon(scheduler, sequence);
    else
        pr_scheduler_forget(scheduler, sequence);
}

void pr_scheduler_group_lost(pr_scheduler *scheduler, int32_t group)
{
    begin_event(scheduler);
    pr_record_group(scheduler, PR_RECORD_LOST, group);
    pr_group_loss_begin(scheduler, group);
}

void pr_scheduler_group_back(pr_scheduler *scheduler, int32_t group)
{
    begin_event(scheduler);
    pr_record_group(scheduler, PR_RECORD_BACK, group);
    pr_group_loss_end(scheduler, group);
}

void pr_scheduler_pause(pr_scheduler *scheduler, bool paused)
{
    begin_event(scheduler);
    pr_record_group(scheduler, PR_RECORD_PAUSE, paused);
    scheduler->paused = paused;
    if (!paused)
        pr_group_loss_settle(scheduler);
}

bool pr_scheduler_is_quiet(const pr_scheduler *scheduler)
{
    return pr_group_loss_is_quiet(scheduler);
}

bool pr_scheduler_can_serve(const pr_scheduler *scheduler)
{
    return pr_group_loss_can_serve(scheduler);
}

void pr_scheduler_advance(pr_scheduler *scheduler, int64_t now_ns)
{
    clear_sent(scheduler);
    pr_record_advance(scheduler, now_ns);
    if (scheduler->now_ns == 0)
        scheduler->begin_ns = now_ns;
    if (now_ns > scheduler->now_ns)
        scheduler->now_ns = now_ns;
    if (pr_scheduler_wakes_ns(scheduler) <= scheduler->now_ns)
        scheduler->changed = true;
}

void pr_scheduler_set_end(pr_scheduler *scheduler, int64_t end_ns, pr_at_end at_end)
{
    if (end_ns == scheduler->drain.end_ns && at_end == scheduler->drain.at_end)
        return;
    begin_event(scheduler);
    pr_record_end_time(scheduler, end_ns, at_end);
    pr_drain_set_end(scheduler, end_ns, at_end);
}

void pr_scheduler_drop(pr_scheduler *scheduler, pr_sequence *sequence, int32_t seat)
{
    const pr_lane *lane = sequence->seat[seat].lane;
    if (!lane)
        return;
    if (sequence->seat[seat].blocks_told > 0)
        pr_plan_draft_drop(&scheduler->group[lane->group].draft, sequence);
    pr_lane_unseat(sequence, seat);
}

void pr_scheduler_forget(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_scheduler_drop(scheduler, sequence, PR_SEAT_COMPUTE);
    pr_scheduler_drop(scheduler, sequence, PR_SEAT_DECODE);
    pr_scheduler_finish(scheduler, sequence);
}

void pr_scheduler_finish(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_drain_gone(scheduler, sequence);
    pr_seating_leave(scheduler, sequence);
    pr_lane_unseat(sequence, PR_SEAT_COMPUTE);
    pr_lane_unseat(sequence, PR_SEAT_DECODE);
    pr_sequence_table_remove(&scheduler->table, sequence);
    pr_sequence_destroy(sequence);
}

void pr_scheduler_requeue(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_scheduler_drop(scheduler, sequence, PR_SEAT_COMPUTE);
    pr_scheduler_drop(scheduler, sequence, PR_SEAT_DECODE);
    pr_drain_returns(scheduler, sequence);
    sequence->phase = PR_PHASE_WAITING;
    sequence->generation++;
    sequence->refused = false;
    pr_seating_wait_again(scheduler, sequence);
}

static pr_outcome *add_outcome(pr_scheduler *scheduler, pr_decision_kind kind)
{
    pr_outcome_ring *ring = &scheduler->ring;
    assert(ring->outcomes < ring->capacity);
    pr_outcome *outcome = &ring->outcome[(ring->first + ring->outcomes++) % ring->capacity];
    outcome->kind = kind;
    outcome->cancelled = false;
    outcome->reason = NULL;
    outcome->http_status = 0;
    return outcome;
}

void pr_scheduler_decide_token(pr_scheduler *scheduler, const pr_token_report *token)
{
    pr_outcome *outcome = add_outcome(scheduler, PR_DECISION_TOKEN);
    outcome->token = *token;
    if (token->tops > 0)
        memcpy(outcome->top, token->top, (size_t)token->tops * sizeof *token->top);
    outcome->token.top = outcome->top;
    if (token->finish == PR_FINISH_HANDED)
        outcome->token.finish = PR_FINISH_NONE;
}

void pr_scheduler_decide_rejection(
    pr_scheduler *scheduler, uint64_t id, const char *reason, int32_t http_status)
{
    pr_outcome *outcome = add_outcome(scheduler, PR_DECISION_REJECTED);
    outcome->token = (pr_token_report){.id = id};
    outcome->reason = reason;
    outcome->http_status = http_status;
    scheduler->counts.rejected++;
}

void pr_scheduler_decide_no_time(pr_scheduler *scheduler, uint64_t id, double needs_s)
{
    if (scheduler->drain.at_end == PR_AT_END_LEAVE) {
        add_outcome(scheduler, PR_DECISION_LEFT)->token = (pr_token_report){.id = id};
        scheduler->counts.left++;
        return;
    }
    pr_outcome *outcome = add_outcome(scheduler, PR_DECISION_REJECTED);
    outcome->token = (pr_token_report){.id = id};
    outcome->needs_s = needs_s;
    outcome->http_status = 503;
    scheduler->counts.rejected++;
    scheduler->counts.rejected_walltime++;
}

static bool next_outcome(pr_scheduler *scheduler, pr_decision *decision)
{
    pr_outcome_ring *ring = &scheduler->ring;
    while (ring->outcomes > 0) {
        const pr_outcome *outcome = &ring->outcome[ring->first];
        ring->first = (ring->first + 1) % ring->capacity;
        ring->outcomes--;
        if (outcome->cancelled)
            continue;
        const pr_token_report *token = &outcome->token;
        decision->kind = outcome->kind;
        decision->token = outcome->kind == PR_DECISION_TOKEN ? token : NULL;
        decision->reason = outcome->reason;
        if (outcome->kind == PR_DECISION_REJECTED && !outcome->reason)
            decision->reason = pr_drain_reason(scheduler, outcome->needs_s);
        decision->http_status = outcome->http_status;
        decision->id = token->id;
        int64_t word[] = {decision->kind, token->id, token->index, token->token, token->finish};
        scheduler->hash = pr_hash_bytes(scheduler->hash, word, sizeof word);
        return true;
    }
    return false;
}

static bool next_plan(pr_scheduler *scheduler, pr_decision *decision)
{
    for (int32_t g = 0; g < scheduler->groups; g++) {
        pr_group_state *group = &scheduler->group[g];
        if (!group->ready)
            continue;
        group->ready = false;
        scheduler->sent = group;
        decision->kind = PR_DECISION_PLAN;
        decision->plan = &group->draft.plan;
        scheduler->counts.plans++;
        scheduler->hash = pr_plan_draft_hash(scheduler->hash, decision->plan);
        pr_record_plan(scheduler, decision->plan);
        return true;
    }
    return false;
}

void pr_scheduler_next(pr_scheduler *scheduler, pr_decision *decision)
{
    clear_sent(scheduler);
    pr_record_next(scheduler);
    *decision = (pr_decision){.kind = PR_DECISION_NONE};
    if (next_outcome(scheduler, decision))
        return;
    if (next_plan(scheduler, decision) || !scheduler->changed)
        return;
    pr_batching_round(scheduler);
    // A plan changes what the next round sees: there may be one more to send ahead. So does a rejection.
    scheduler->changed = next_outcome(scheduler, decision) || next_plan(scheduler, decision);
}

int32_t pr_scheduler_unfinished(const pr_scheduler *scheduler)
{
    return scheduler->table.sequences;
}

int32_t pr_scheduler_waiting(const pr_scheduler *scheduler)
{
    return pr_dispatch_waiting(scheduler->dispatch) + scheduler->fresh.sequences +
           scheduler->held.sequences + scheduler->drain.parked.sequences +
           scheduler->drain.left.sequences;
}

int64_t pr_scheduler_wakes_ns(const pr_scheduler *scheduler)
{
    double at_s = pr_dispatch_wakes_s(scheduler->dispatch);
    int64_t at_ns = isfinite(at_s) ? scheduler->begin_ns + (int64_t)ceil(at_s * 1e9) : INT64_MAX;
    int64_t drain_ns = pr_drain_wakes_ns(scheduler);
    return drain_ns < at_ns ? drain_ns : at_ns;
}

uint64_t pr_scheduler_hash(const pr_scheduler *scheduler) { return scheduler->hash; }

void pr_scheduler_count(const pr_scheduler *scheduler, pr_scheduler_counts *counts)
{
    *counts = scheduler->counts;
}

pr_role pr_scheduler_role(const pr_scheduler *scheduler, int32_t group)
{
    return scheduler->group[group].role;
}

void pr_scheduler_group_load(const pr_scheduler *scheduler, int32_t group, pr_group_load *load)
{
    const pr_group_state *state = &scheduler->group[group];
    *load = (pr_group_load){.role = state->role, .lost = state->lost, .plans = state->planned};
    for (int32_t l = 0; l < state->lanes; l++) {
        const pr_lane *lane = &state->lane[l];
        load->sequences += lane->sequences;
        load->blocks += scheduler->params.kv_blocks;
        load->used_blocks += pr_kv_cache_used_blocks(lane->cache);
        load->cached_blocks += pr_kv_cache_cached_blocks(lane->cache);
    }
}

const pr_step_fit *pr_scheduler_step_fit(const pr_scheduler *scheduler, pr_role role)
{
    return &scheduler->fit[role];
}
