// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/cost/cost_model.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

// A group is one node of 8 GPUs with 80 GB; Llama-3-70B in bfloat16 with tensor parallelism over all.
static const struct {
    const char *name;
    pr_cost_model model;
} NAMED[] = {
    {"a100-llama3-70b",
     {
         .chunk_s = 19.10e-3,
         .chunk_token_s = 0.11344e-3,
         .chunk_pair_s = 1.7504e-9,
         .step_s = 19.07e-3,
         .step_sequence_s = 0.0973e-3,
         .step_context_s = 2.511e-8,
         .transfer_s = 2e-3,
         .transfer_bytes_per_s = 80e9,
         .kv_bytes_per_token = 327680,
         .chunk_tokens = 8192,
         .max_batch = 256,
         .capacity_tokens = 1327000,
     }},
    {"h100-llama3-70b",
     {
         .chunk_s = 13.41e-3,
         .chunk_token_s = 0.04186e-3,
         .chunk_pair_s = 0.5523e-9,
         .step_s = 13.27e-3,
         .step_sequence_s = 0.02635e-3,
         .step_context_s = 1.528e-8,
         .transfer_s = 2e-3,
         .transfer_bytes_per_s = 160e9,
         .kv_bytes_per_token = 327680,
         .chunk_tokens = 8192,
         .max_batch = 256,
         .capacity_tokens = 1327000,
     }},
};

enum { NAMES = sizeof NAMED / sizeof NAMED[0] };

static const pr_cost_model *find(const char *name, size_t length)
{
    for (int i = 0; i < NAMES; i++) {
        if (strlen(NAMED[i].name) == length && memcmp(NAMED[i].name, name, length) == 0)
            return &NAMED[i].model;
    }
    return NULL;
}

const pr_cost_model *pr_cost_model_named(const char *name) { return find(name, strlen(name)); }

// ---- overrides ----

// Puts value under the key; false if there is no such key or the value cannot be.
static bool set(pr_cost_model *model, const char *key, size_t length, double value)
{
    const struct {
        const char *key;
        double *field;
        double least;
    } real[] = {
        {"a", &model->chunk_s, 0},
        {"b", &model->chunk_token_s, 0},
        {"c", &model->chunk_pair_s, 0},
        {"d0", &model->step_s, 0},
        {"d1", &model->step_sequence_s, 0},
        {"d2", &model->step_context_s, 0},
        {"alpha", &model->transfer_s, 0},
        {"beta", &model->transfer_bytes_per_s, 1},
        {"kappa", &model->kv_bytes_per_token, 0},
    };
    for (size_t i = 0; i < sizeof real / sizeof real[0]; i++) {
        if (strlen(real[i].key) != length || memcmp(real[i].key, key, length) != 0)
            continue;
        *real[i].field = value;
        return value >= real[i].least && isfinite(value);
    }
    bool whole = value >= 1 && value == floor(value);
    bool small = whole && value <= INT32_MAX;
    if (length == 5 && memcmp(key, "chunk", 5) == 0 && small)
        model->chunk_tokens = (int32_t)value;
    else if (length == 5 && memcmp(key, "batch", 5) == 0 && small)
        model->max_batch = (int32_t)value;
    else if (length == 8 && memcmp(key, "capacity", 8) == 0 && whole && value <= 1e15)
        model->capacity_tokens = (int64_t)value;
    else
        return false;
    return true;
}

pr_status pr_cost_model_override(const char *overrides, pr_cost_model *model)
{
    pr_cost_model changed = *model;
    for (const char *at = overrides; *at;) {
        size_t item = strcspn(at, ","), key = strcspn(at, "=,");
        char *end = NULL;
        double value = key < item ? strtod(at + key + 1, &end) : 0;
        if (key == item || end == at + key + 1 || end != at + item ||
            !set(&changed, at, key, value))
            return pr_fail(
                PR_ERR_ARGUMENT,
                "cost model: '%.*s' is not one of a b c d0 d1 d2 alpha beta kappa chunk batch "
                "capacity = a number that can be",
                (int)item, at);
        at += item + (at[item] == ',');
    }
    *model = changed;
    return PR_OK;
}

pr_status pr_cost_model_parse(const char *text, pr_cost_model *model)
{
    size_t name = strcspn(text, ",");
    const pr_cost_model *named = find(text, name);
    if (!named)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "cost model '%.*s' is unknown; give a100-llama3-70b or h100-llama3-70b", (int)name,
            text);
    pr_cost_model found = *named;
    PR_TRY(pr_cost_model_override(text + name + (text[name] == ','), &found));
    *model = found;
    return PR_OK;
}

// ---- times ----

double pr_cost_model_chunk_s(const pr_cost_model *model, int32_t tokens, int32_t before)
{
    double n = tokens, h = before;
    return model->chunk_s + model->chunk_token_s * n + model->chunk_pair_s * (n * h + n * n / 2);
}

double pr_cost_model_prefill_s(const pr_cost_model *model, int32_t tokens, int32_t cached)
{
    double time_s = 0;
    while (cached < tokens) {
        int32_t left = tokens - cached;
        int32_t chunk = left < model->chunk_tokens ? left : model->chunk_tokens;
        time_s += pr_cost_model_chunk_s(model, chunk, cached);
        cached += chunk;
    }
    return time_s;
}

double pr_cost_model_step_s(const pr_cost_model *model, int32_t sequences, int64_t context)
{
    return model->step_s + model->step_sequence_s * sequences +
           model->step_context_s * (double)context;
}

double pr_cost_model_transfer_s(const pr_cost_model *model, int64_t tokens)
{
    return model->transfer_s +
           (double)tokens * model->kv_bytes_per_token / model->transfer_bytes_per_s;
}
