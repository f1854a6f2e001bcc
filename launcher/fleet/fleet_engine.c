// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/fleet/fleet_engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

enum { SPREAD_TOKENS = 2048 };

static const pr_fleet_engine ALL = {true, true, true, true, SPREAD_TOKENS};

static bool is(const char *name, const char *text, size_t length)
{
    return strlen(name) == length && memcmp(name, text, length) == 0;
}

static bool set(const char *text, size_t length, pr_fleet_engine *engine)
{
    enum { SPREAD = 7 };  // of "spread="
    if (is("all", text, length)) {
        *engine = ALL;
    } else if (is("layers", text, length)) {
        engine->layers = true;
    } else if (is("gather", text, length)) {
        engine->gather = true;
    } else if (is("heat", text, length)) {
        engine->heat = true;
    } else if (is("whole", text, length)) {
        engine->whole = true;
    } else if (is("spread", text, length)) {
        engine->spread_tokens = SPREAD_TOKENS;
    } else if (length > SPREAD && memcmp(text, "spread=", SPREAD) == 0) {
        char *end;
        long tokens = strtol(text + SPREAD, &end, 10);
        engine->spread_tokens = (int32_t)tokens;
        return end == text + length && tokens > 0 && tokens < INT32_MAX;
    } else {
        return is("none", text, length);
    }
    return true;
}

pr_status pr_fleet_engine_parse(const char *text, pr_fleet_engine *engine)
{
    *engine = (pr_fleet_engine){0};
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        if (!set(at, length, engine))
            return pr_fail(
                PR_ERR_ARGUMENT,
                "--engine: '%.*s' is none of none, all, layers, gather, heat, whole, spread, "
                "spread=TOKENS",
                (int)length, at);
        at += length;
        if (!*at)
            return PR_OK;
    }
}

double pr_fleet_engine_gather_s(
    const pr_fleet_engine *engine, const pr_cost_model *cost, int64_t tokens, double compute_s)
{
    if (tokens <= 0)
        return compute_s;
    double fetch_s = pr_cost_model_transfer_s(cost, tokens);
    if (!engine->gather)
        return fetch_s + compute_s;
    double bytes_s = fetch_s - cost->transfer_s;
    return cost->transfer_s +
           fmax(bytes_s + compute_s / PR_FLEET_LAYERS, bytes_s / PR_FLEET_LAYERS + compute_s);
}

double pr_fleet_engine_last_layer_s(const pr_cost_model *cost, int32_t tokens)
{
    double bytes_s = pr_cost_model_transfer_s(cost, tokens) - cost->transfer_s;
    return cost->transfer_s + bytes_s / PR_FLEET_LAYERS;
}

// ---- Spread ----

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
