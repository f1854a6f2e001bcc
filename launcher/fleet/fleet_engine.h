// SPDX-License-Identifier: BSD-3-Clause
// What the modelled groups can do beyond the reference model, each off unless asked for: a record of
// choices and the arithmetic of what overlaps.
//
//   layers   a prompt's KV goes to its decode group layer by layer while the last chunk is computed
//   gather   layers of fetched prefix blocks arrive while the first chunk computes the layers before
//   heat     caches keep longer what is used often and dear to compute again (scheduler/policy/block_lru.h)
//   whole    caches do not keep the part-filled last block of a prompt, which hardly anything shares
//   spread   groups with nothing better to do compute chunks of a long prompt that another one started
//
// All assume that a chunk's time and bytes are the same in each layer: a pipeline of two stages over L
// layers takes  max(first + second / L, first / L + second).
// Threads: any; plain records.
#ifndef PR_LAUNCHER_FLEET_FLEET_ENGINE_H
#define PR_LAUNCHER_FLEET_FLEET_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "scheduler/cost/cost_model.h"

enum { PR_FLEET_LAYERS = 80 };  // of the model whose times cost_model.h has (Llama-3-70B)

typedef struct pr_fleet_engine {
    bool layers, gather, heat, whole;
    int32_t
        spread_tokens;  // prompts with more to compute are spread, in chunks no shorter; 0: none
} pr_fleet_engine;

// "layers,gather,heat,whole,spread" or some of them, "all", "none"; "spread=N" for another length than
// 2048 tokens. Errors: PR_ERR_ARGUMENT.
pr_status pr_fleet_engine_parse(const char *text, pr_fleet_engine *engine) PR_MUST_CHECK;

// From the begin of a gather of so many tokens to the end of the chunk that needs them.
double pr_fleet_engine_gather_s(
    const pr_fleet_engine *engine, const pr_cost_model *cost, int64_t tokens, double compute_s);

// One layer's share of the transfer of a chunk's KV, which comes after the chunk's end.
double pr_fleet_engine_last_layer_s(const pr_cost_model *cost, int32_t tokens);

// ---- Spread ----
//
// A long prompt that several prefill groups compute together: its chunks in order, each on the group that
// took it. Attention of chunk i needs the KV of all before it, layer by layer, so chunk i may be in
// layer l as soon as chunk i - 1 has left it and its KV has come over: the groups run one layer apart.
//
//   group 0   |1...L|      |4...L|
//   group 1    |1...L|                 each fetches what it lacks of the KV before its chunk while it
//   group 2     |1...L|                computes (chunk i - 1 layer by layer as it is made)
//
// Work is what one group would do, plus transfers; time is less. The group of the last chunk has all KV
// then: it hands over to decode. Blocks stay in the cache of the group that computed them.
// Source: Mooncake's chunked pipeline parallelism, with groups that come and go.

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
