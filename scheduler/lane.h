// SPDX-License-Identifier: BSD-3-Clause
// One lane of a group as the scheduler sees it: its pool of KV blocks and the sequences that sit in
// it, in order (sequence.h). The worker's lane follows by the plans.
#ifndef PR_SCHEDULER_LANE_H
#define PR_SCHEDULER_LANE_H

#include "runtime/batch/layout.h"
#include "scheduler/dispatch/cache_map.h"
#include "scheduler/sequence.h"

typedef struct pr_lane {
    int32_t group, lane, tp;
    int32_t number, decode_number;  // in dispatch; -1: never prefills, never decodes
    pr_role role;
    int32_t seats;  // maximum of sequences
    int32_t block_tokens;
    pr_kv_cache *cache;
    int32_t sequences;
    pr_sequence **sequence;          // [seats], in order
    int32_t rows;                    // left in the first step of the plan being made
    pr_cache_map *map;               // told what the pool holds; NULL: nobody is
    int32_t map_number;              // of the lane in the map
    int32_t map_blocks;              // every so manieth block of a chain is told
    const pr_kv_listener *listener;  // told what the pool holds; NULL: nobody is
    int32_t pins;                    // gathers in flight that read its blocks
} pr_lane;

// Sets role, group, lane and tp from the layout.
pr_status
pr_lane_create(pr_lane *lane, const pr_kv_cache_params *params, int32_t seats) PR_MUST_CHECK;
void pr_lane_destroy(pr_lane *lane);

// Gives the sequence a seat with KV for `room` tokens; *cached as pr_kv_cache_open. Errors:
// PR_ERR_RESOURCE (silent) when no seat or too few blocks are left; nothing changes then.
pr_status pr_lane_seat(
    pr_lane *lane,
    pr_sequence *sequence,
    int32_t seat,
    int32_t room,
    int32_t *cached,
    pr_kv_copy *copy) PR_MUST_CHECK;
void pr_lane_unseat(pr_sequence *sequence, int32_t seat);  // no seat: no effect

// KV of the first `tokens` tokens is written.
void pr_lane_publish(pr_sequence *sequence, int32_t seat, int32_t tokens);

// The map is told of all that the pool holds; it forgets all of that, and is told no more.
void pr_lane_list(pr_lane *lane);
void pr_lane_unlist(pr_lane *lane);

// Blocks for so many tokens, and how many tokens the sequence's blocks hold.
int32_t pr_lane_blocks(const pr_lane *lane, int32_t tokens);
int32_t pr_lane_capacity(const pr_seat *seat);

bool pr_lane_may_decode(const pr_lane *lane, const pr_sequence *sequence);

#endif
