// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/fleet_spread.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"

// Up to where the group has the KV: it keeps what it fetched until the request's prefill ends.
static int32_t held_until(const pr_spread *spread, int32_t group)
{
    for (int32_t i = spread->pieces - 1; i >= 0; i--) {
        if (spread->piece[i].group == group)
            return spread->piece[i].end;
    }
    return 0;
}

static pr_status keep(pr_spread *spread, const pr_spread_piece *piece)
{
    if (spread->pieces == spread->room) {
        int32_t room = spread->room ? 2 * spread->room : 16;
        pr_spread_piece *grown = realloc(spread->piece, (size_t)room * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "fleet: no memory for a request's pieces");
        spread->piece = grown;
        spread->room = room;
    }
    spread->piece[spread->pieces++] = *piece;
    return PR_OK;
}

pr_status pr_spread_add(
    pr_spread *spread,
    const pr_cost_model *cost,
    const pr_spread_piece *piece,
    double now_s,
    double *end_s)
{
    static const pr_fleet_engine OVERLAPPED = {.gather = true};
    int32_t missing = spread->pieces == 0 ? 0 : piece->first - held_until(spread, piece->group);
    double compute_s = pr_cost_model_chunk_s(cost, piece->end - piece->first, piece->first);
    double begin_s = now_s;
    *end_s = now_s + compute_s;
    if (missing > 0) {
        const pr_spread_piece *last = &spread->piece[spread->pieces - 1];
        double layer_s = pr_fleet_engine_last_layer_s(cost, last->end - last->first);
        double first_layer_s = (spread->end_s - spread->begin_s) / PR_FLEET_LAYERS + layer_s;
        begin_s = fmax(now_s, spread->begin_s + first_layer_s);
        *end_s = fmax(
            begin_s + pr_fleet_engine_gather_s(&OVERLAPPED, cost, missing, compute_s),
            spread->end_s + layer_s + compute_s / PR_FLEET_LAYERS);
    }
    spread->begin_s = begin_s;
    spread->end_s = *end_s;
    return keep(spread, piece);
}
