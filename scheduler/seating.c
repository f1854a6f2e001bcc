// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/seating.h"

#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/cache/prefix_index.h"
#include "scheduler/batching.h"
#include "scheduler/placement.h"
#include "scheduler/walltime/drain.h"

// Above so many fine blocks in all pools, the map keeps every 2nd, 4th, ... of a chain.
static const int64_t MAP_BLOCKS_MOST = INT64_C(1) << 25;

// Where groups may change their role, every lane has a number for both.
static bool is_numbered(const pr_scheduler *scheduler, pr_role role, pr_role not_for)
{
    return role != not_for || scheduler->changes_roles;
}

static void count_lanes(const pr_scheduler *scheduler, int32_t *compute, int32_t *decode)
{
    const pr_layout *layout = scheduler->params.layout;
    *compute = *decode = 0;
    for (int32_t g = 0; g < layout->groups; g++) {
        int32_t lanes = pr_layout_lanes(layout, g);
        pr_role role = layout->group[g].role;
        *compute += is_numbered(scheduler, role, PR_ROLE_DECODE) ? lanes : 0;
        *decode += is_numbered(scheduler, role, PR_ROLE_PREFILL) ? lanes : 0;
    }
}

pr_status pr_seating_create(pr_scheduler *scheduler)
{
    const pr_scheduler_params *params = &scheduler->params;
    int32_t compute, decode;
    count_lanes(scheduler, &compute, &decode);
    scheduler->map_blocks = 1;
    while ((int64_t)compute * params->kv_blocks / scheduler->map_blocks > MAP_BLOCKS_MOST)
        scheduler->map_blocks *= 2;
    pr_dispatch_params dispatch = {
        .prefill_lanes = compute,
        .decode_lanes = decode,
        .block_tokens = scheduler->map_blocks * params->block_tokens,
        .cache_blocks = params->kv_blocks / scheduler->map_blocks,
        .cost = &scheduler->cost,
        .policy = params->policy,
        .seed = 1,
        .queue = params->queue,
        .flow = params->flow,
    };
    scheduler->compute_lane = calloc((size_t)compute + 1, sizeof(pr_lane *));
    scheduler->decode_room = calloc((size_t)decode + 1, sizeof *scheduler->decode_room);
    scheduler->decode_lane = calloc((size_t)decode + 1, sizeof(pr_lane *));
    if (!scheduler->compute_lane || !scheduler->decode_lane || !scheduler->decode_room)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a table of lanes");
    if (params->short_suffix > 0)
        PR_TRY(pr_cache_map_create(decode, &scheduler->decode_map));
    return pr_dispatch_create(&dispatch, &scheduler->dispatch);
}

// Where it is told what the lane's pool holds: as it computes prompts, or only goes on with them.
static void choose_map(const pr_scheduler *scheduler, pr_lane *lane)
{
    bool computes = lane->role != PR_ROLE_DECODE;
    lane->map = computes ? pr_dispatch_cache_map(scheduler->dispatch) : scheduler->decode_map;
    lane->map_number = computes ? lane->number : lane->decode_number;
}

void pr_seating_number(pr_scheduler *scheduler, pr_lane *lane)
{
    lane->number = lane->decode_number = -1;
    if (is_numbered(scheduler, lane->role, PR_ROLE_DECODE)) {
        lane->number = scheduler->compute_lanes++;
        scheduler->compute_lane[lane->number] = lane;
    }
    if (is_numbered(scheduler, lane->role, PR_ROLE_PREFILL)) {
        lane->decode_number = scheduler->decode_lanes++;
        scheduler->decode_lane[lane->decode_number] = lane;
    }
    lane->map_blocks = scheduler->map_blocks;
    choose_map(scheduler, lane);
    if (lane->role == PR_ROLE_DECODE && lane->number >= 0)
        pr_dispatch_retire(scheduler->dispatch, lane->number, true, 0);
}

void pr_seating_renumber(pr_scheduler *scheduler, pr_lane *lane, pr_role role)
{
    lane->role = role;
    pr_seating_return(scheduler, lane);
}

void pr_seating_retire(pr_scheduler *scheduler, pr_lane *lane)
{
    pr_lane_unlist(lane);
    if (lane->number >= 0)
        pr_dispatch_retire(scheduler->dispatch, lane->number, true, pr_scheduler_now_s(scheduler));
}

void pr_seating_return(pr_scheduler *scheduler, pr_lane *lane)
{
    bool computes = lane->role != PR_ROLE_DECODE;
    choose_map(scheduler, lane);
    pr_lane_list(lane);
    if (lane->number >= 0)
        pr_dispatch_retire(
            scheduler->dispatch, lane->number, !computes, pr_scheduler_now_s(scheduler));
}

// ---- Waiting ----

static pr_status fill_job(const pr_scheduler *scheduler, pr_sequence *sequence)
{
    const pr_request *request = sequence->request;
    int32_t fine = scheduler->params.block_tokens;
    int32_t step = scheduler->map_blocks;
    int32_t blocks = scheduler->params.prefix_caching ? request->prompt_tokens / (fine * step) : 0;
    uint64_t *chain = malloc((size_t)blocks * sizeof *chain + 1);
    if (!chain)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the chain of %d blocks", (int)blocks);
    uint64_t last = pr_prefix_index_root_chain(request->salt);
    for (int32_t i = 0; i < blocks * step; i++) {
        last = pr_prefix_index_next_chain(last, sequence->token + (size_t)i * (size_t)fine, fine);
        chain[i / step] = last;
    }
    free(sequence->chain);
    sequence->chain = chain;
    sequence->job = (pr_job){
        .id = request->id,
        .arrival_s = pr_scheduler_now_s(scheduler),
        .prompt_tokens = sequence->tokens,
        .outputs_expected = scheduler->outputs_expected < request->sampling.max_tokens
                                ? scheduler->outputs_expected
                                : request->sampling.max_tokens,
        .priority = request->priority,
        .tenant = request->tenant,
        .ttft_target_s = (double)request->ttft_target_ms * 1e-3,
        .tpot_target_s = (double)request->tpot_target_ms * 1e-3,
        .blocks = blocks,
        .block = chain,
        .bound_lane = -1,
        .lane = -1,
        .decode_lane = -1,
    };
    return PR_OK;
}

// The next choice of a request waits until the first has published the prompt they share.
static bool waits_for_sibling(const pr_scheduler *scheduler, const pr_sequence *sequence)
{
    if (sequence->request->sibling_of == sequence->request->id)
        return false;
    const pr_sequence *first =
        pr_sequence_table_find(&scheduler->table, sequence->request->sibling_of);
    return first && !first->ending && !first->prompt_published;
}

pr_status pr_seating_wait(pr_scheduler *scheduler, pr_sequence *sequence)
{
    PR_TRY(fill_job(scheduler, sequence));
    pr_balance_arrive(
        &scheduler->balance, &scheduler->cost, sequence->tokens, sequence->job.outputs_expected);
    pr_sequence_list_append(
        waits_for_sibling(scheduler, sequence) ? &scheduler->held : &scheduler->fresh, sequence);
    return PR_OK;
}

void pr_seating_wait_again(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_dispatch_left(scheduler->dispatch, &sequence->job);
    if (pr_sequence_outputs(sequence) > 0)
        sequence->job.ttft_target_s = 0;             // its first token is out
    sequence->job.prompt_tokens = sequence->tokens;  // its outputs are computed again like a prompt
    sequence->job.outputs = 0;
    pr_dispatch_put_back(scheduler->dispatch, &sequence->job, pr_scheduler_now_s(scheduler));
    if (!pr_drain_goes_first(scheduler, sequence))
        return;
    // Only now: it was charged in its own band.
    pr_dispatch_cancel(scheduler->dispatch, &sequence->job);
    sequence->job.priority = INT32_MIN;
    pr_dispatch_put_back(scheduler->dispatch, &sequence->job, pr_scheduler_now_s(scheduler));
}

void pr_seating_leave(pr_scheduler *scheduler, pr_sequence *sequence)
{
    scheduler->siblings_changed = true;
    int32_t outputs = pr_sequence_outputs(sequence);
    int32_t missing = sequence->job.outputs_expected - outputs;
    if (missing > 0)
        pr_balance_outputs(&scheduler->balance, -missing, sequence->tokens + missing / 2);
    if (sequence->list) {
        pr_sequence_list_remove(sequence);
        return;
    }
    // How long outputs are, slowly forgetting.
    if (outputs > 0)
        scheduler->outputs_expected += (outputs - scheduler->outputs_expected) / 16;
    pr_dispatch_cancel(scheduler->dispatch, &sequence->job);
}

// A round rejects as many as the ring takes; the next round goes on.
static bool may_reject(const pr_scheduler *scheduler)
{
    return scheduler->ring.outcomes < scheduler->ring.capacity;
}

static void reject(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_flow_reason reason = sequence->job.refused;
    bool no_memory = reason == PR_FLOW_PASS;
    pr_scheduler_decide_rejection(
        scheduler, sequence->request->id,
        no_memory ? "no memory for one more request that waits" : pr_flow_reason_text(reason),
        no_memory ? 500 : pr_flow_reason_http_status(reason));
    pr_scheduler_forget(scheduler, sequence);
}

// ---- A round ----

static bool takes_more(const pr_scheduler *scheduler, const pr_lane *lane)
{
    return scheduler->group[lane->group].open && lane->rows > 0 && lane->sequences < lane->seats;
}

// The lane that a prefix is fetched from, or NULL. One that holds a block holds all before it, so the
// holder of the last has them all.
static pr_lane *
holder_of(const pr_scheduler *scheduler, const pr_verdict *verdict, int32_t *prefix_tokens)
{
    *prefix_tokens = verdict->depth * scheduler->map_blocks * scheduler->params.block_tokens;
    return verdict->gathers == 0
               ? NULL
               : scheduler->compute_lane[verdict->gather[verdict->gathers - 1].lane];
}

static void seat(pr_scheduler *scheduler, const pr_verdict *verdict)
{
    pr_lane *lane = scheduler->compute_lane[verdict->lane];
    pr_sequence *sequence = pr_sequence_table_find(&scheduler->table, verdict->job->id);
    int32_t prefix_tokens;
    pr_lane *holder = holder_of(scheduler, verdict, &prefix_tokens);
    if (!pr_drain_may_start(scheduler, lane, sequence, false)) {
        pr_dispatch_put_back(scheduler->dispatch, &sequence->job, pr_scheduler_now_s(scheduler));
        pr_dispatch_cancel(scheduler->dispatch, &sequence->job);
        pr_drain_park(scheduler, sequence);
        return;
    }
    if (holder && !pr_drain_may_start(scheduler, lane, sequence, true))
        holder = NULL;  // what it computes takes no longer than was reckoned, what it fetches may
    bool seated = pr_batching_admit(scheduler, lane, sequence, holder, prefix_tokens) == PR_OK;
    if (seated)
        pr_drain_seated(scheduler, sequence);
    else
        pr_dispatch_put_back(scheduler->dispatch, &sequence->job, pr_scheduler_now_s(scheduler));
    pr_dispatch_open(scheduler->dispatch, lane->number, seated && takes_more(scheduler, lane));
}

// ---- Into dispatch ----

static void release_siblings(pr_scheduler *scheduler)
{
    pr_sequence *next;
    for (pr_sequence *at = scheduler->held.first; at; at = next) {
        next = at->list_next;
        if (waits_for_sibling(scheduler, at))
            continue;
        pr_sequence_list_remove(at);
        pr_sequence_list_append(&scheduler->fresh, at);
    }
    scheduler->siblings_changed = false;
}

// The decode lane that holds so much of the prompt that computing the rest there costs its steps less
// than a prefill elsewhere and the way of the KV back to it; NULL: none, or not in this round.
static pr_lane *short_cut(const pr_scheduler *scheduler, const pr_sequence *sequence)
{
    const pr_job *job = &sequence->job;
    pr_cache_candidate best;
    int32_t depth;
    if (!scheduler->decode_map || scheduler->params.short_suffix == 0 ||
        pr_cache_map_candidates(scheduler->decode_map, job->block, job->blocks, &depth, &best, 1) ==
            0)
        return NULL;
    int32_t known = best.depth * scheduler->map_blocks * scheduler->params.block_tokens;
    pr_lane *lane = scheduler->decode_lane[best.lane];
    bool is_short = sequence->tokens - known <= scheduler->params.short_suffix;
    return is_short && lane->role == PR_ROLE_DECODE && takes_more(scheduler, lane) ? lane : NULL;
}

static void enter(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_lane *lane = short_cut(scheduler, sequence);
    pr_sequence_list_remove(sequence);
    if (lane && pr_drain_may_start(scheduler, lane, sequence, false) &&
        pr_batching_admit(scheduler, lane, sequence, NULL, 0) == PR_OK) {
        pr_drain_seated(scheduler, sequence);
        scheduler->counts.short_cuts++;
        return;
    }
    if (pr_drain_goes_first(scheduler, sequence))
        sequence->job.priority = INT32_MIN;
    if (pr_dispatch_arrive(scheduler->dispatch, &sequence->job, pr_scheduler_now_s(scheduler)) ==
        PR_OK)
        pr_drain_sort_out(scheduler, sequence);
    else
        reject(scheduler, sequence);
}

void pr_seating_round(pr_scheduler *scheduler)
{
    pr_verdict verdict;
    if (scheduler->siblings_changed)
        release_siblings(scheduler);
    while (scheduler->fresh.first && may_reject(scheduler))
        enter(scheduler, scheduler->fresh.first);
    pr_drain_round(scheduler);
    for (int32_t i = 0; i < scheduler->compute_lanes; i++)
        pr_dispatch_open(scheduler->dispatch, i, takes_more(scheduler, scheduler->compute_lane[i]));
    while (may_reject(scheduler)) {
        pr_dispatch_next(scheduler->dispatch, pr_scheduler_now_s(scheduler), &verdict);
        if (verdict.kind == PR_VERDICT_NONE)
            return;
        if (verdict.kind == PR_VERDICT_START)
            seat(scheduler, &verdict);
        else
            reject(scheduler, pr_sequence_table_find(&scheduler->table, verdict.job->id));
    }
}

// ---- What happened ----

void pr_seating_computed(pr_scheduler *scheduler, pr_sequence *sequence, int32_t computed)
{
    if (computed >= sequence->request->prompt_tokens && !sequence->prompt_published) {
        sequence->prompt_published = true;
        scheduler->siblings_changed = true;
    }
    if (computed >= sequence->target)
        pr_dispatch_prefilled(scheduler->dispatch, &sequence->job, pr_scheduler_now_s(scheduler));
    else
        pr_dispatch_progress(
            scheduler->dispatch, &sequence->job, computed, pr_scheduler_now_s(scheduler));
}

void pr_seating_decodes(pr_scheduler *scheduler, pr_sequence *sequence, const pr_lane *lane)
{
    pr_dispatch_joined(scheduler->dispatch, &sequence->job, lane->decode_number);
}

void pr_seating_generated(pr_scheduler *scheduler, pr_sequence *sequence)
{
    if (pr_sequence_outputs(sequence) > sequence->job.outputs_expected)
        pr_balance_outputs(&scheduler->balance, 1, sequence->tokens);
    if (sequence->job.decode_lane >= 0)
        pr_dispatch_generated(scheduler->dispatch, &sequence->job, 1);
}
