// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/lane.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

static void add_to_map(void *context, uint64_t chain, int32_t depth)
{
    const pr_lane *lane = context;
    if (lane->map && depth % lane->map_blocks == 0 &&
        pr_cache_map_add(lane->map, chain, lane->map_number) != PR_OK)
        pr_log(PR_LOG_WARN, "the map of cached blocks is full: a prefix will be computed again");
}

static void remove_from_map(void *context, uint64_t chain, int32_t depth)
{
    const pr_lane *lane = context;
    if (lane->map && depth % lane->map_blocks == 0)
        pr_cache_map_remove(lane->map, chain, lane->map_number);
}

static void tell_stored(void *context, const pr_kv_block *block)
{
    const pr_lane *lane = context;
    add_to_map(context, block->chain, block->depth);
    if (lane->listener)
        lane->listener->stored(lane->listener->context, lane->group, lane->lane, block);
}

static void tell_evicted(void *context, uint64_t chain, int32_t depth)
{
    const pr_lane *lane = context;
    remove_from_map(context, chain, depth);
    if (lane->listener)
        lane->listener->evicted(lane->listener->context, lane->group, lane->lane, chain);
}

pr_status pr_lane_create(pr_lane *lane, const pr_kv_cache_params *params, int32_t seats)
{
    pr_kv_cache_params pool = *params;
    pool.watch = (pr_kv_watch){.context = lane, .stored = tell_stored, .evicted = tell_evicted};
    lane->seats = seats;
    lane->block_tokens = params->block_tokens;
    lane->sequence = calloc((size_t)seats, sizeof(pr_sequence *));
    if (!lane->sequence)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a lane of %d sequences", (int)seats);
    return pr_kv_cache_create(&pool, &lane->cache);
}

void pr_lane_destroy(pr_lane *lane)
{
    while (lane->sequences > 0) {
        pr_sequence *sequence = lane->sequence[0];
        pr_lane_unseat(sequence, sequence->seat[PR_SEAT_COMPUTE].lane != lane);
    }
    free(lane->sequence);
    if (lane->cache)
        pr_kv_cache_destroy(lane->cache);
}

void pr_lane_list(pr_lane *lane) { pr_kv_cache_visit(lane->cache, add_to_map, lane); }

void pr_lane_unlist(pr_lane *lane)
{
    pr_kv_cache_visit(lane->cache, remove_from_map, lane);
    lane->map = NULL;
}

static void insert(pr_lane *lane, pr_sequence *sequence)
{
    int32_t at = lane->sequences++;
    while (at > 0 && pr_sequence_before(sequence, lane->sequence[at - 1])) {
        lane->sequence[at] = lane->sequence[at - 1];
        at--;
    }
    lane->sequence[at] = sequence;
}

pr_status pr_lane_seat(
    pr_lane *lane,
    pr_sequence *sequence,
    int32_t seat,
    int32_t room,
    int32_t *cached,
    pr_kv_copy *copy)
{
    if (lane->sequences == lane->seats)
        return PR_ERR_RESOURCE;
    pr_kv_sequence *kv;
    PR_TRY(pr_kv_cache_open(
        lane->cache, sequence->request->salt, sequence->token, sequence->tokens, &kv, cached,
        copy));
    pr_status status = pr_kv_cache_extend(lane->cache, kv, room);
    if (status != PR_OK) {
        pr_kv_cache_close(lane->cache, kv);
        return status;
    }
    pr_seat *taken = &sequence->seat[seat];
    taken->lane = lane;
    taken->kv = kv;
    insert(lane, sequence);
    return PR_OK;
}

void pr_lane_unseat(pr_sequence *sequence, int32_t seat)
{
    pr_lane *lane = sequence->seat[seat].lane;
    if (!lane)
        return;
    pr_kv_cache_close(lane->cache, sequence->seat[seat].kv);
    memset(&sequence->seat[seat], 0, sizeof(pr_seat));
    int32_t at = 0;
    while (lane->sequence[at] != sequence)
        at++;
    lane->sequences--;
    memmove(
        &lane->sequence[at], &lane->sequence[at + 1],
        (size_t)(lane->sequences - at) * sizeof(pr_sequence *));
}

void pr_lane_publish(pr_sequence *sequence, int32_t seat, int32_t tokens)
{
    const pr_seat *at = &sequence->seat[seat];
    if (at->lane)
        pr_kv_cache_publish(at->lane->cache, at->kv, sequence->token, tokens);
}

int32_t pr_lane_blocks(const pr_lane *lane, int32_t tokens)
{
    return (tokens + lane->block_tokens - 1) / lane->block_tokens;
}

int32_t pr_lane_capacity(const pr_seat *seat)
{
    int32_t blocks;
    pr_kv_sequence_blocks(seat->kv, &blocks);
    return blocks * seat->lane->block_tokens;
}

bool pr_lane_may_decode(const pr_lane *lane, const pr_sequence *sequence)
{
    return sequence->phase == PR_PHASE_DECODE && lane->role != PR_ROLE_PREFILL;
}
