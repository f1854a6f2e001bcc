// SPDX-License-Identifier: BSD-3-Clause
// A long prompt that several prefill groups compute together: its chunks in order, each on the group that
// took it. Attention of chunk i needs the KV of all before it, layer by layer, so chunk i may be in
// layer l as soon as chunk i - 1 has left it and its KV has come over: the groups run one layer apart.
//
//   group 0   |1...L|      |4...L|
//   group 1    |1...L|                 each fetches what it lacks of the KV before its chunk while it
//   group 2     |1...L|                computes (chunk i - 1 layer by layer as it is made)
//
// Work is what one group would do, plus transfers; time is less. The group of the last chunk has
// all KV then: it hands over to decode. Blocks stay in the cache of the group that computed them.
// Source: Mooncake's chunked pipeline parallelism, with groups that come and go. Threads: one.
#ifndef PR_LAUNCHER_SIMULATE_FLEET_SPREAD_H
#define PR_LAUNCHER_SIMULATE_FLEET_SPREAD_H

#include "launcher/simulate/fleet_engine.h"

typedef struct pr_spread_piece {
    int32_t group, first, end;  // tokens [first, end) of the prompt
} pr_spread_piece;

// The pieces of one request, in order; the memory stays for the next.
typedef struct pr_spread {
    pr_spread_piece *piece;  // [room], pieces of it used
    int32_t pieces, room;
    double begin_s, end_s;  // of the last piece
} pr_spread;

// The next piece, begun at now_s: when it ends, later than the last. The group of the first piece
// has all that comes before it. PR_ERR_RESOURCE.
pr_status pr_spread_add(
    pr_spread *spread,
    const pr_cost_model *cost,
    const pr_spread_piece *piece,
    double now_s,
    double *end_s) PR_MUST_CHECK;

#endif
