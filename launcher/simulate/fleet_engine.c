// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/fleet_engine.h"

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
    return cost->transfer_s + fmax(
                                  bytes_s + compute_s / PR_FLEET_LAYERS,
                                  bytes_s / PR_FLEET_LAYERS + compute_s);
}

double pr_fleet_engine_last_layer_s(const pr_cost_model *cost, int32_t tokens)
{
    double bytes_s = pr_cost_model_transfer_s(cost, tokens) - cost->transfer_s;
    return cost->transfer_s + bytes_s / PR_FLEET_LAYERS;
}
