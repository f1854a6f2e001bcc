// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/fleet.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "launcher/simulate/fleet_balance.h"
#include "launcher/simulate/fleet_decode.h"
#include "runtime/base/log.h"
#include "scheduler/dispatch/dispatch.h"
#include "scheduler/dispatch/lane_tree.h"
#include "scheduler/policy/block_lru.h"

enum { REQUESTS_OF_A_SLAB = 1024, PROGRESS_EVERY = 8192 };

typedef struct pr_fleet pr_fleet;

// One prefill group: it computes one request, a chunk at a time.
typedef struct pr_fleet_prefill {
    pr_fleet *fleet;
    pr_block_lru *cache;
    pr_fleet_request *request;  // NULL: idle
    int32_t chunk_tokens;       // of the chunk that runs
    int32_t number, at;         // at: in the heap of chunk ends
    uint64_t order;             // of making of its event
    double link_free_s;         // when its link to the decode groups has sent what it was given
} pr_fleet_prefill;

typedef struct pr_slab {
    struct pr_slab *next;
    pr_fleet_request request[REQUESTS_OF_A_SLAB];
} pr_slab;

struct pr_fleet {
    const pr_fleet_params *params;
    const pr_trace *trace;
    pr_run_record *record;
    pr_fleet_counts *counts;
    pr_dispatch *dispatch;
    pr_fleet_balance balance;
    pr_fleet_prefill *prefill;  // [prefill_groups]
    pr_fleet_decode *decode;    // [decode_groups]
    pr_lane_tree *quiet;        // decode groups by the time until which nobody leaves
    pr_min_heap chunk_ends;
    pr_slab *slab;
    pr_fleet_request *free;
    uint64_t order;
    double now_s;
    pr_status status;  // of the first failure inside a callback or an event
    int64_t finished, finished_outputs;
};

// ---- Requests ----

static pr_fleet_request *take_request(pr_fleet *fleet)
{
    if (!fleet->free) {
        pr_slab *slab = calloc(1, sizeof *slab);
        if (!slab)
            return NULL;
        slab->next = fleet->slab;
        fleet->slab = slab;
        for (int i = 0; i < REQUESTS_OF_A_SLAB; i++) {
            slab->request[i].next_free = fleet->free;
            fleet->free = &slab->request[i];
        }
    }
    pr_fleet_request *request = fleet->free;
    fleet->free = request->next_free;
    *request = (pr_fleet_request){.decode_group = -1};
    return request;
}

static void release_request(pr_fleet *fleet, pr_fleet_request *request)
{
    request->next_free = fleet->free;
    fleet->free = request;
}

static void
span(pr_fleet *fleet, int32_t group, char what, double begin_s, double end_s, int64_t id)
{
    pr_run_record *record = fleet->record;
    if (record->spans < record->most_spans)
        record->span[record->spans++] = (pr_span_row){group, what, begin_s, end_s, id};
}

// A guess from those that have finished: nobody knows more.
static int32_t expect_outputs(const pr_fleet *fleet, const pr_trace_request *from)
{
    enum { UNKNOWN = 256 };
    if (fleet->params->expected_is_true)
        return from->outputs;
    return fleet->finished ? (int32_t)(fleet->finished_outputs / fleet->finished) : UNKNOWN;
}

static void finish_request(pr_fleet *fleet, pr_fleet_request *request)
{
    pr_request_row *row = request->row;
    fleet->finished++;
    fleet->finished_outputs += row->outputs;
    fleet->counts->outputs += row->outputs;
    fleet->counts->last_finish_s = fmax(fleet->counts->last_finish_s, row->finish_s);
    release_request(fleet, request);
    if (fleet->params->progress && fleet->finished % PROGRESS_EVERY == 0)
        fleet->params->progress(fleet->params->context, fleet->finished, fleet->trace->requests);
}

static void reject(pr_fleet *fleet, pr_fleet_request *request, const char *reason)
{
    request->row->rejected = reason;
    fleet->counts->rejected++;
    release_request(fleet, request);
}

// ---- Decode groups ----

static void rank_decode(pr_fleet *fleet, int32_t group)
{
    pr_lane_tree_set(fleet->quiet, group, pr_fleet_decode_quiet_until(&fleet->decode[group]));
}

static void left(void *context, pr_fleet_request *request)
{
    pr_fleet *fleet = context;
    span(
        fleet, fleet->balance.decode_first + request->decode_group, 'd', request->row->join_s,
        request->row->finish_s, request->row->id);
    pr_dispatch_generated(fleet->dispatch, &request->job, request->row->outputs - 1);
    pr_dispatch_left(fleet->dispatch, &request->job);
    pr_fleet_balance_finished(&fleet->balance, &request->job, request->row);
    finish_request(fleet, request);
}

// All groups as they are at this time, as far as dispatch may learn of it.
static void advance_decode(pr_fleet *fleet, double now_s)
{
    for (;;) {
        int32_t group = pr_lane_tree_best(fleet->quiet);
        if (group < 0 || pr_lane_tree_key(fleet->quiet, group) > now_s)
            return;
        pr_fleet_decode_advance(&fleet->decode[group], now_s);
        // The time that is told is a bound from below; until now, all that leave have left.
        double quiet_s = pr_fleet_decode_quiet_until(&fleet->decode[group]);
        pr_lane_tree_set(fleet->quiet, group, fmax(quiet_s, nextafter(now_s, (double)INFINITY)));
    }
}

static void choose_decode(pr_fleet *fleet, pr_fleet_request *request)
{
    request->decode_group =
        pr_dispatch_decode_lane(fleet->dispatch, &request->job, fleet->balance.room);
    request->row->decode_group = request->decode_group;
    pr_dispatch_joined(fleet->dispatch, &request->job, request->decode_group);
}

// ---- Prefill groups ----

static void stored(void *context, uint64_t block)
{
    pr_fleet_prefill *group = context;
    pr_status status =
        pr_cache_map_add(pr_dispatch_cache_map(group->fleet->dispatch), block, group->number);
    if (status != PR_OK && group->fleet->status == PR_OK)
        group->fleet->status = status;
}

static void evicted(void *context, uint64_t block)
{
    pr_fleet_prefill *group = context;
    pr_cache_map_remove(pr_dispatch_cache_map(group->fleet->dispatch), block, group->number);
}

static void begin_chunk(pr_fleet *fleet, pr_fleet_prefill *group, double delay_s)
{
    pr_fleet_request *request = group->request;
    int32_t done = request->job.computed_tokens;
    int32_t tokens = request->row->prompt_tokens - done;
    if (tokens > fleet->params->cost->chunk_tokens)
        tokens = fleet->params->cost->chunk_tokens;
    double begin_s = fleet->now_s + delay_s;
    double end_s = begin_s + pr_cost_model_chunk_s(fleet->params->cost, tokens, done);
    group->chunk_tokens = tokens;
    group->order = fleet->order++;
    fleet->record->busy_s[group->number] += end_s - fleet->now_s;
    if (delay_s > 0)
        span(fleet, group->number, 'g', fleet->now_s, begin_s, request->row->id);
    span(fleet, group->number, 'p', begin_s, end_s, request->row->id);
    pr_min_heap_put(&fleet->chunk_ends, end_s, group);
}

// Takes note at their holders that prefixes are used, up to what is fetched. Returns how many blocks are.
static int32_t fetch_blocks(pr_fleet *fleet, const pr_verdict *verdict)
{
    int32_t blocks = 0;
    for (int32_t i = verdict->gathers - 1; i >= 0; i--) {
        const pr_gather *gather = &verdict->gather[i];
        pr_block_lru_touch(
            fleet->prefill[gather->lane].cache, verdict->job->block,
            gather->first + gather->blocks);
        blocks += gather->blocks;
    }
    return blocks;
}

// The first chunk of a request, or, after it made way, its next.
static void start(pr_fleet *fleet, const pr_verdict *verdict)
{
    pr_fleet_prefill *group = &fleet->prefill[verdict->lane];
    pr_fleet_request *request = (pr_fleet_request *)verdict->job;
    pr_request_row *row = request->row;
    double gather_s = 0;
    group->request = request;
    if (isnan(row->prefill_start_s)) {
        row->prefill_start_s = fleet->now_s;
        row->prefill_group = verdict->lane;
        row->hit_tokens = request->job.computed_tokens;
        pr_block_lru_touch(group->cache, request->job.block, verdict->local_blocks);
        if (verdict->gathers > 0) {
            int32_t fetched = fetch_blocks(fleet, verdict);
            row->fetch_tokens =
                row->hit_tokens - (int64_t)(verdict->depth - fetched) * fleet->trace->block_tokens;
            gather_s = pr_cost_model_transfer_s(fleet->params->cost, row->fetch_tokens);
        }
        if (!verdict->keep) {
            request->fetched_first = verdict->local_blocks;
            request->fetched_end = verdict->depth;
        }
        pr_fleet_balance_started(&fleet->balance, row);
        fleet->counts->hit_tokens += row->hit_tokens;
        fleet->counts->fetch_tokens += row->fetch_tokens;
        fleet->counts->prompt_tokens += row->prompt_tokens;
    }
    pr_dispatch_open(fleet->dispatch, verdict->lane, false);
    begin_chunk(fleet, group, gather_s);
}

// Its blocks are in the group's cache now, but for those that were fetched for this once.
static void cache_blocks(pr_fleet_prefill *group, const pr_fleet_request *request)
{
    const pr_job *job = &request->job;
    int32_t first = request->fetched_first, end = request->fetched_end;
    pr_block_lru_insert(group->cache, job->block + end, job->blocks - end);
    pr_block_lru_touch(group->cache, job->block + first, end - first);
    pr_block_lru_insert(group->cache, job->block, first);
}

// From the end of prefill to the decode group, over the prefill group's one link.
static pr_status hand_over(pr_fleet *fleet, pr_fleet_prefill *group, pr_fleet_request *request)
{
    pr_request_row *row = request->row;
    double begin_s = fmax(fleet->now_s, group->link_free_s);
    group->link_free_s =
        begin_s + pr_cost_model_transfer_s(fleet->params->cost, row->prompt_tokens);
    span(fleet, group->number, 't', begin_s, group->link_free_s, row->id);
    row->join_s = group->link_free_s;
    PR_TRY(pr_fleet_decode_join(&fleet->decode[request->decode_group], request));
    rank_decode(fleet, request->decode_group);
    return PR_OK;
}

static pr_status end_prefill(pr_fleet *fleet, pr_fleet_prefill *group, pr_fleet_request *request)
{
    pr_request_row *row = request->row;
    row->first_s = fleet->now_s;
    cache_blocks(group, request);
    group->request = NULL;
    if (row->outputs > 1 && request->decode_group < 0)
        choose_decode(fleet, request);
    pr_dispatch_prefilled(fleet->dispatch, &request->job, fleet->now_s);
    pr_dispatch_open(fleet->dispatch, group->number, true);
    if (row->outputs > 1)
        return hand_over(fleet, group, request);
    row->finish_s = fleet->now_s;
    finish_request(fleet, request);
    return PR_OK;
}

// ---- Events ----

static pr_status on_chunk_end(pr_fleet *fleet)
{
    pr_fleet_prefill *group = pr_min_heap_first(&fleet->chunk_ends);
    pr_fleet_request *request = group->request;
    pr_min_heap_take(&fleet->chunk_ends, group->at);
    pr_job *job = &request->job;
    pr_dispatch_progress(
        fleet->dispatch, job, job->computed_tokens + group->chunk_tokens, fleet->now_s);
    if (job->computed_tokens == job->prompt_tokens)
        return end_prefill(fleet, group, request);
    if (pr_dispatch_yields(fleet->dispatch, job, fleet->now_s)) {
        group->request = NULL;
        pr_dispatch_open(fleet->dispatch, group->number, true);
        return PR_OK;
    }
    begin_chunk(fleet, group, 0);
    return PR_OK;
}

static pr_status on_arrival(pr_fleet *fleet, int64_t id)
{
    const pr_trace_request *from = &fleet->trace->request[id];
    pr_request_row *row = &fleet->record->request[id];
    *row = (pr_request_row){
        .id = id,
        .arrival_s = fleet->now_s,
        .prompt_tokens = from->prompt_tokens,
        .outputs = from->outputs,
        .prefill_group = -1,
        .decode_group = -1,
        .prefill_start_s = NAN,
        .first_s = NAN,
        .join_s = NAN,
        .finish_s = NAN,
        .tbt_mean_s = NAN,
        .tbt_tail_s = NAN,
        .tenant = from->tenant,
        .priority = from->priority,
    };
    pr_fleet_request *request = take_request(fleet);
    if (!request)
        return pr_fail(PR_ERR_RESOURCE, "fleet: no memory for a request");
    request->row = row;
    request->job = (pr_job){
        .id = (uint64_t)id,
        .arrival_s = fleet->now_s,
        .prompt_tokens = from->prompt_tokens,
        .outputs_expected = expect_outputs(fleet, from),
        .tenant = from->tenant,
        .priority = from->priority,
        .ttft_target_s = from->ttft_target_s,
        .tpot_target_s = from->tpot_target_s,
        .blocks = from->blocks,
        .block = from->block,
    };
    pr_fleet_balance_arrived(&fleet->balance, &request->job);
    pr_status status = pr_dispatch_arrive(fleet->dispatch, &request->job, fleet->now_s);
    if (request->job.refused != PR_FLOW_PASS) {
        reject(fleet, request, pr_flow_reason_text((pr_flow_reason)request->job.refused));
        return PR_OK;
    }
    return status;
}

static void decide(pr_fleet *fleet)
{
    pr_verdict verdict;
    for (;;) {
        pr_dispatch_next(fleet->dispatch, fleet->now_s, &verdict);
        if (verdict.kind == PR_VERDICT_NONE)
            return;
        fleet->counts->decisions++;
        if (verdict.kind == PR_VERDICT_START)
            start(fleet, &verdict);
        else
            reject(fleet, (pr_fleet_request *)verdict.job, verdict.reason);
    }
}

static pr_status run(pr_fleet *fleet)
{
    const pr_trace *trace = fleet->trace;
    for (int64_t next = 0;;) {
        double arrival_s = INFINITY, end_s = INFINITY;
        if (next < trace->requests)
            arrival_s = trace->request[next].arrival_s / fleet->params->speed;
        if (fleet->chunk_ends.count > 0)
            end_s = fleet->chunk_ends.node[0].key;
        double event_s = fmin(arrival_s, end_s);
        double wakes_s = pr_dispatch_wakes_s(fleet->dispatch);
        if (isinf(event_s) && isinf(wakes_s))
            break;
        fleet->now_s = fmin(event_s, wakes_s);
        fleet->counts->events++;
        advance_decode(fleet, fleet->now_s);
        if (event_s <= wakes_s)
            PR_TRY(end_s <= arrival_s ? on_chunk_end(fleet) : on_arrival(fleet, next++));
        pr_fleet_balance_round(&fleet->balance, fleet->now_s);
        decide(fleet);
        if (fleet->status != PR_OK)
            return fleet->status;
    }
    for (int32_t d = 0; d < fleet->balance.decode_numbers; d++) {
        pr_fleet_decode_advance(&fleet->decode[d], INFINITY);
        fleet->record->busy_s[fleet->balance.decode_first + d] += fleet->decode[d].busy_s;
    }
    fleet->counts->role_changes = fleet->balance.role_changes;
    return PR_OK;
}

// ---- Life ----

static bool event_before(const void *a, const void *b)
{
    const pr_fleet_prefill *one = a, *other = b;
    return one->order < other->order;
}

static pr_status open_groups(pr_fleet *fleet)
{
    const pr_fleet_params *params = fleet->params;
    int32_t prefills = fleet->balance.prefill_numbers, decodes = fleet->balance.decode_numbers;
    fleet->prefill = calloc((size_t)prefills, sizeof *fleet->prefill);
    fleet->decode = calloc((size_t)decodes, sizeof *fleet->decode);
    if (!fleet->prefill || !fleet->decode)
        return pr_fail(PR_ERR_RESOURCE, "fleet: no memory for its groups");
    for (int32_t p = 0; p < prefills; p++) {
        pr_fleet_prefill *group = &fleet->prefill[p];
        pr_block_lru_watch watch = {group, stored, evicted};
        group->fleet = fleet;
        group->number = p;
        PR_TRY(pr_block_lru_create(params->cache_blocks, &watch, &group->cache));
    }
    pr_fleet_balance_begin(&fleet->balance, fleet->dispatch);
    for (int32_t d = 0; d < decodes; d++)
        pr_fleet_decode_open(&fleet->decode[d], params->cost, left, fleet);
    fleet->chunk_ends.index_offset = offsetof(pr_fleet_prefill, at);
    fleet->chunk_ends.before = event_before;
    PR_TRY(pr_min_heap_reserve(&fleet->chunk_ends, prefills));
    return pr_lane_tree_create(decodes, &fleet->quiet);
}

static pr_status open_fleet(pr_fleet *fleet)
{
    const pr_fleet_params *params = fleet->params;
    if (!(params->speed > 0))
        return pr_fail(PR_ERR_ARGUMENT, "fleet: speed %g, must be more than 0", params->speed);
    PR_TRY(pr_fleet_balance_create(
        &params->balance, params->cost, params->prefill_groups, params->decode_groups,
        &fleet->balance));
    pr_dispatch_params dispatch = {
        .prefill_lanes = fleet->balance.prefill_numbers,
        .decode_lanes = fleet->balance.decode_numbers,
        .block_tokens = fleet->trace->block_tokens > 0 ? fleet->trace->block_tokens : 512,
        .cache_blocks = params->cache_blocks,
        .cost = params->cost,
        .policy = params->policy,
        .seed = params->seed,
        .queue = params->queue,
        .flow = params->flow,
    };
    PR_TRY(pr_dispatch_create(&dispatch, &fleet->dispatch));
    return open_groups(fleet);
}

static void close_fleet(pr_fleet *fleet)
{
    for (int32_t p = 0; fleet->prefill && p < fleet->balance.prefill_numbers; p++)
        pr_block_lru_destroy(fleet->prefill[p].cache);
    for (int32_t d = 0; fleet->decode && d < fleet->balance.decode_numbers; d++)
        pr_fleet_decode_close(&fleet->decode[d]);
    while (fleet->slab) {
        pr_slab *slab = fleet->slab;
        fleet->slab = slab->next;
        free(slab);
    }
    pr_min_heap_clear(&fleet->chunk_ends);
    pr_lane_tree_destroy(fleet->quiet);
    pr_dispatch_destroy(fleet->dispatch);
    pr_fleet_balance_free(&fleet->balance);
    free(fleet->prefill);
    free(fleet->decode);
}

pr_status pr_fleet_run(
    const pr_fleet_params *params,
    const pr_trace *trace,
    pr_run_record *record,
    pr_fleet_counts *counts)
{
    pr_fleet fleet = {
        .params = params,
        .trace = trace,
        .record = record,
        .counts = counts,
    };
    *counts = (pr_fleet_counts){0};
    pr_status status = open_fleet(&fleet);
    if (status == PR_OK)
        status = run(&fleet);
    close_fleet(&fleet);
    return status;
}
