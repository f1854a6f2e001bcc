// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/fleet/fleet.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "launcher/fleet/fleet_balance.h"
#include "launcher/fleet/fleet_decode.h"
#include "runtime/base/log.h"
#include "scheduler/dispatch/dispatch.h"
#include "scheduler/dispatch/lane_tree.h"
#include "scheduler/policy/block_lru.h"

enum { REQUESTS_OF_A_SLAB = 1024, PROGRESS_EVERY = 8192 };

static const pr_block_heat HEAT = {.use = 0.125, .cost = 0.15};

typedef struct pr_fleet pr_fleet;

// One prefill group: it computes one request, a chunk at a time.
typedef struct pr_fleet_prefill {
    pr_fleet *fleet;
    pr_block_lru *cache;
    pr_fleet_request *request;  // NULL: idle
    pr_spread_piece chunk;      // that runs
    double chunk_begin_s;
    int32_t number, at;  // at: in the heap of chunk ends
    int32_t idle_at;     // in fleet->idle
    uint64_t order;      // of making of its event
    double link_free_s;  // when its link to the decode groups has sent what it was given
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
    int32_t *idle;  // [idles] numbers of the prefill groups without work
    int32_t idles;
    pr_min_heap spreading;  // requests of which other groups may take chunks, least left first
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
    pr_spread spread = {.piece = request->spread.piece, .room = request->spread.room};
    *request = (pr_fleet_request){.decode_group = -1, .spread_at = -1, .spread = spread};
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

// With work or without.
static void open_group(pr_fleet *fleet, pr_fleet_prefill *group, bool open)
{
    pr_dispatch_open(fleet->dispatch, group->number, open);
    if (open) {
        group->request = NULL;
        group->idle_at = fleet->idles;
        fleet->idle[fleet->idles++] = group->number;
    } else {
        int32_t last = fleet->idle[--fleet->idles];
        fleet->idle[group->idle_at] = last;
        fleet->prefill[last].idle_at = group->idle_at;
    }
}

// What is left to give out of a request is worth less to others with each chunk that is taken.
static void rank_spread(pr_fleet *fleet, pr_fleet_request *request)
{
    int32_t left = request->row->prompt_tokens - request->given_tokens;
    if (request->spread_at >= 0)
        pr_min_heap_take(&fleet->spreading, request->spread_at);
    request->spread_at = -1;
    if (left > 0)
        pr_min_heap_put(&fleet->spreading, left, request);
}

static int32_t share(int32_t tokens, int32_t parts) { return (tokens + parts - 1) / parts; }

// How long its next chunk is. Those of a spread one are alike, so that none waits for the one before,
// and short enough to give all groups without work one.
static int32_t next_tokens(const pr_fleet *fleet, const pr_fleet_request *request)
{
    int32_t most = fleet->params->cost->chunk_tokens;
    int32_t left = request->row->prompt_tokens - request->given_tokens;
    if (request->spread_at < 0)
        return left < most ? left : most;
    int32_t even = share(left, fleet->idles + 1);
    if (even < fleet->params->engine.spread_tokens)
        even = fleet->params->engine.spread_tokens;
    if (even < most)
        most = even;
    even = share(left, share(left, most));
    if (fleet->trace->block_tokens > 0)
        even = share(even, fleet->trace->block_tokens) * fleet->trace->block_tokens;
    return even < left ? even : left;
}

// The next chunk of the group's request. fetch_tokens: of its prefix, from other groups, first.
static pr_status begin_chunk(pr_fleet *fleet, pr_fleet_prefill *group, int64_t fetch_tokens)
{
    const pr_fleet_params *params = fleet->params;
    pr_fleet_request *request = group->request;
    int32_t first = request->given_tokens, end = first + next_tokens(fleet, request);
    double compute_s = pr_cost_model_chunk_s(params->cost, end - first, first);
    double end_s = fleet->now_s +
                   pr_fleet_engine_gather_s(&params->engine, params->cost, fetch_tokens, compute_s);
    group->chunk = (pr_spread_piece){group->number, first, end};
    group->chunk_begin_s = fleet->now_s;
    request->given_tokens = end;
    if (request->spread.pieces > 0 || request->spread_at >= 0) {
        double spread_s;
        PR_TRY(
            pr_spread_add(&request->spread, params->cost, &group->chunk, fleet->now_s, &spread_s));
        request->spread.end_s = end_s = fmax(end_s, spread_s);
        rank_spread(fleet, request);
    }
    group->order = fleet->order++;
    fleet->record->busy_s[group->number] += end_s - fleet->now_s;
    double begin_s = end_s - compute_s;
    if (begin_s > fleet->now_s)
        span(fleet, group->number, 'g', fleet->now_s, begin_s, request->row->id);
    span(fleet, group->number, 'p', begin_s, end_s, request->row->id);
    pr_min_heap_put(&fleet->chunk_ends, end_s, group);
    if (params->engine.layers && end == request->row->prompt_tokens && request->row->outputs > 1)
        choose_decode(fleet, request);
    return PR_OK;
}

// The group's cache, which weighs what is used next by what it would cost to compute it again.
static pr_block_lru *cache_for(const pr_fleet *fleet, int32_t group, const pr_job *job)
{
    const pr_cost_model *cost = fleet->params->cost;
    pr_block_lru *cache = fleet->prefill[group].cache;
    if (fleet->params->engine.heat)
        pr_block_lru_value(cache, cost->chunk_pair_s * job->prompt_tokens / cost->chunk_token_s);
    return cache;
}

// Takes note at their holders that prefixes are used, up to what is fetched. Returns how many blocks are.
static int32_t fetch_blocks(pr_fleet *fleet, const pr_verdict *verdict)
{
    int32_t blocks = 0;
    for (int32_t i = verdict->gathers - 1; i >= 0; i--) {
        const pr_gather *gather = &verdict->gather[i];
        pr_block_lru_touch(
            cache_for(fleet, gather->lane, verdict->job), verdict->job->block,
            gather->first + gather->blocks);
        blocks += gather->blocks;
    }
    return blocks;
}

// The first chunk of a request, or, after it made way, its next.
static pr_status start(pr_fleet *fleet, const pr_verdict *verdict)
{
    pr_fleet_prefill *group = &fleet->prefill[verdict->lane];
    pr_fleet_request *request = (pr_fleet_request *)verdict->job;
    pr_request_row *row = request->row;
    int64_t fetch_tokens = 0;
    open_group(fleet, group, false);
    group->request = request;
    if (isnan(row->prefill_start_s)) {
        row->prefill_start_s = fleet->now_s;
        row->prefill_group = verdict->lane;
        row->hit_tokens = request->job.computed_tokens;
        pr_block_lru_touch(
            cache_for(fleet, verdict->lane, verdict->job), verdict->job->block,
            verdict->local_blocks);
        if (verdict->gathers > 0) {
            int32_t fetched = fetch_blocks(fleet, verdict);
            row->fetch_tokens =
                row->hit_tokens - (int64_t)(verdict->depth - fetched) * fleet->trace->block_tokens;
            fetch_tokens = row->fetch_tokens;
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
    request->given_tokens = request->job.computed_tokens;
    int32_t spread_tokens = fleet->params->engine.spread_tokens;
    if (spread_tokens > 0 && row->prompt_tokens - request->given_tokens > spread_tokens) {
        PR_TRY(pr_min_heap_reserve(&fleet->spreading, fleet->spreading.count + 1));
        rank_spread(fleet, request);
    }
    return begin_chunk(fleet, group, fetch_tokens);
}

// Blocks of a prompt whose computation ended there stay in a group's cache.
static void cache_piece(pr_fleet *fleet, const pr_fleet_request *request, pr_spread_piece piece)
{
    int32_t size = fleet->trace->block_tokens;
    const pr_job *job = &request->job;
    if (size == 0 || job->blocks == 0)
        return;
    bool last = piece.end == job->prompt_tokens && !fleet->params->engine.whole;
    int32_t first = piece.first / size, end = last ? job->blocks : piece.end / size;
    if (end > first)
        pr_block_lru_insert(cache_for(fleet, piece.group, job), job->block + first, end - first);
}

// Its blocks are in the groups' caches now, but for those that were fetched for this once.
static void cache_blocks(pr_fleet *fleet, const pr_fleet_request *request)
{
    const pr_job *job = &request->job;
    int32_t first = request->fetched_first, end = request->fetched_end;
    int32_t blocks = job->blocks;
    if (fleet->params->engine.whole && blocks > 0)
        blocks = job->prompt_tokens / fleet->trace->block_tokens;
    for (int32_t i = request->spread.pieces - 1; i >= 0; i--)
        cache_piece(fleet, request, request->spread.piece[i]);
    pr_block_lru *cache = cache_for(fleet, request->row->prefill_group, job);
    if (request->spread.pieces == 0 && blocks > end)
        pr_block_lru_insert(cache, job->block + end, blocks - end);
    pr_block_lru_touch(cache, job->block + first, end - first);
    pr_block_lru_insert(cache, job->block, first);
}

// From the end of prefill to the decode group, over the prefill group's one link; layer by layer from the
// begin of the last chunk.
static pr_status hand_over(pr_fleet *fleet, pr_fleet_prefill *group, pr_fleet_request *request)
{
    const pr_cost_model *cost = fleet->params->cost;
    pr_request_row *row = request->row;
    bool layers = fleet->params->engine.layers;
    double begin_s = fmax(layers ? group->chunk_begin_s : fleet->now_s, group->link_free_s);
    double end_s = begin_s + pr_cost_model_transfer_s(cost, row->prompt_tokens);
    if (layers) {
        int32_t tokens = group->chunk.end - group->chunk.first;
        end_s = fmax(end_s, fleet->now_s + pr_fleet_engine_last_layer_s(cost, tokens));
    }
    group->link_free_s = row->join_s = end_s;
    span(fleet, group->number, 't', begin_s, end_s, row->id);
    PR_TRY(pr_fleet_decode_join(&fleet->decode[request->decode_group], request));
    rank_decode(fleet, request->decode_group);
    return PR_OK;
}

static pr_status end_prefill(pr_fleet *fleet, pr_fleet_prefill *group, pr_fleet_request *request)
{
    pr_request_row *row = request->row;
    row->first_s = fleet->now_s;
    cache_blocks(fleet, request);
    if (row->outputs > 1 && request->decode_group < 0)
        choose_decode(fleet, request);
    pr_dispatch_prefilled(fleet->dispatch, &request->job, fleet->now_s);
    open_group(fleet, group, true);
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
    pr_dispatch_progress(fleet->dispatch, job, group->chunk.end, fleet->now_s);
    if (group->chunk.end == job->prompt_tokens)
        return end_prefill(fleet, group, request);
    bool others = request->spread.pieces > 0;
    // Whoever helps looks at all that waits after each chunk; whoever began goes on while there is work.
    bool leaves = others && (request->given_tokens == job->prompt_tokens ||
                             group->number != request->row->prefill_group);
    if (leaves || (!others && pr_dispatch_yields(fleet->dispatch, job, fleet->now_s))) {
        open_group(fleet, group, true);
        return PR_OK;
    }
    return begin_chunk(fleet, group, 0);
}

// An open group takes a chunk of what runs elsewhere, if that comes first.
static bool help(pr_fleet *fleet)
{
    pr_fleet_request *request = pr_min_heap_first(&fleet->spreading);
    if (!request || fleet->idles == 0)
        return false;
    pr_fleet_prefill *group = &fleet->prefill[fleet->idle[fleet->idles - 1]];
    if (!pr_dispatch_helps(fleet->dispatch, &request->job, group->number, fleet->now_s))
        return false;
    open_group(fleet, group, false);
    group->request = request;
    pr_status status = begin_chunk(fleet, group, 0);
    if (fleet->status == PR_OK)
        fleet->status = status;
    return true;
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
        .prefill_start_s = (double)NAN,
        .first_s = (double)NAN,
        .join_s = (double)NAN,
        .finish_s = (double)NAN,
        .tbt_mean_s = (double)NAN,
        .tbt_tail_s = (double)NAN,
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
    while (fleet->status == PR_OK) {
        if (help(fleet))
            continue;
        pr_dispatch_next(fleet->dispatch, fleet->now_s, &verdict);
        if (verdict.kind == PR_VERDICT_NONE)
            return;
        fleet->counts->decisions++;
        if (verdict.kind == PR_VERDICT_START)
            fleet->status = start(fleet, &verdict);
        else
            reject(fleet, (pr_fleet_request *)verdict.job, verdict.reason);
    }
}

static pr_status run(pr_fleet *fleet)
{
    const pr_trace *trace = fleet->trace;
    for (int64_t next = 0;;) {
        double arrival_s = (double)INFINITY, end_s = (double)INFINITY;
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
        pr_fleet_decode_advance(&fleet->decode[d], (double)INFINITY);
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

static bool came_before(const void *a, const void *b)
{
    return ((const pr_fleet_request *)a)->job.id < ((const pr_fleet_request *)b)->job.id;
}

static pr_status open_groups(pr_fleet *fleet)
{
    const pr_fleet_params *params = fleet->params;
    int32_t prefills = fleet->balance.prefill_numbers, decodes = fleet->balance.decode_numbers;
    fleet->prefill = calloc((size_t)prefills, sizeof *fleet->prefill);
    fleet->decode = calloc((size_t)decodes, sizeof *fleet->decode);
    fleet->idle = calloc((size_t)prefills, sizeof *fleet->idle);
    if (!fleet->prefill || !fleet->decode || !fleet->idle)
        return pr_fail(PR_ERR_RESOURCE, "fleet: no memory for its groups");
    for (int32_t p = 0; p < prefills; p++) {
        pr_fleet_prefill *group = &fleet->prefill[p];
        pr_block_lru_watch watch = {group, stored, evicted};
        group->fleet = fleet;
        group->number = p;
        PR_TRY(pr_block_lru_create(params->cache_blocks, &watch, &group->cache));
        if (params->engine.heat)
            PR_TRY(pr_block_lru_heat(group->cache, &HEAT));
        open_group(fleet, group, true);
    }
    pr_fleet_balance_begin(&fleet->balance, fleet->dispatch);
    fleet->spreading.index_offset = offsetof(pr_fleet_request, spread_at);
    fleet->spreading.before = came_before;
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
        for (int i = 0; i < REQUESTS_OF_A_SLAB; i++)
            free(slab->request[i].spread.piece);
        free(slab);
    }
    pr_min_heap_clear(&fleet->chunk_ends);
    pr_min_heap_clear(&fleet->spreading);
    free(fleet->idle);
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
    if (params->balance.period_s > 0 && params->engine.spread_tokens > 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "prompts spread over idle groups and groups that change roles do not "
                             "go together: leave "
                             "out --balance or the spread");
    pr_status status = open_fleet(&fleet);
    if (status == PR_OK)
        status = run(&fleet);
    close_fleet(&fleet);
    return status;
}
