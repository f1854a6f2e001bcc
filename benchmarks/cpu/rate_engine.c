// SPDX-License-Identifier: BSD-3-Clause
#include "benchmarks/cpu/rate_engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "runtime/base/log.h"

enum { PATH_BYTES = 4096 };

static int32_t blocks_for(int32_t tokens)
{
    return (tokens + PR_RATE_BLOCK_TOKENS - 1) / PR_RATE_BLOCK_TOKENS;
}

static pr_status open_parts(pr_rate_engine *engine)
{
    const pr_rate_options *options = &engine->options;
    pr_cpu_device_params device = {.isa = options->isa, .threads = options->threads};
    PR_TRY(pr_model_open(options->model, &engine->model));
    PR_TRY(pr_cpu_device_open(&device, &engine->device));
    PR_TRY(pr_weights_open(options->model, &engine->weights));
    pr_shard_params shard = {
        .model = engine->model,
        .weights = engine->weights,
        .place = {.tp = 1, .ranks = 1},
        .quantization = options->quantization,
        .device = engine->device,
    };
    return pr_shard_load(&shard, &engine->shard);
}

pr_status pr_rate_engine_open(const pr_rate_options *options, pr_rate_engine *engine)
{
    *engine = (pr_rate_engine){.options = *options};
    PR_TRY(open_parts(engine));
    const pr_model *model = engine->model;
    return pr_parallel_alone_create(
        model->experts, model->experts_chosen, model->hidden, PR_RATE_STEP_TOKENS,
        &engine->parallel);
}

void pr_rate_engine_release(pr_rate_engine *engine)
{
    pr_forward_destroy(engine->forward);
    pr_kv_store_destroy(engine->store);
    free(engine->block);
    engine->forward = NULL;
    engine->store = NULL;
    engine->block = NULL;
    engine->sequences = engine->length = engine->filled = 0;
}

void pr_rate_engine_close(pr_rate_engine *engine)
{
    pr_rate_engine_release(engine);
    pr_parallel_alone_destroy(engine->parallel);
    pr_shard_unload(engine->shard);
    pr_weights_close(engine->weights);
    if (engine->device)
        pr_cpu_device_close(engine->device);
    pr_model_close(engine->model);
}

// A fixed random order of 0..count-1.
static pr_status scatter(int32_t count, int32_t **order)
{
    int32_t *made = malloc((size_t)count * sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a table of %d blocks", count);
    uint64_t state = 1;
    for (int32_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        int32_t j = (int32_t)((state >> 33) % (uint64_t)(i + 1));
        made[i] = made[j];
        made[j] = i;
    }
    *order = made;
    return PR_OK;
}

pr_status pr_rate_engine_reserve(pr_rate_engine *engine, int32_t sequences, int32_t length)
{
    if (engine->store && engine->sequences == sequences && engine->length == length)
        return PR_OK;
    pr_rate_engine_release(engine);
    const pr_model *model = engine->model;
    pr_kv_store_params store = {
        .layers = model->layers,
        .blocks = sequences * blocks_for(length),
        .block_tokens = PR_RATE_BLOCK_TOKENS,
        .kv_heads = model->kv_heads,
        .head_size = model->head_size,
        .dtype = engine->options.kv_dtype,
    };
    pr_forward_limits limits = {
        .max_tokens = PR_RATE_STEP_TOKENS,
        .max_outputs = PR_RATE_MOST_SEQUENCES,
        .max_positions = length,
    };
    PR_TRY(scatter(store.blocks, &engine->block));
    PR_TRY(pr_kv_store_create(engine->device, &store, &engine->store));
    PR_TRY(pr_forward_create(
        model, engine->shard, engine->store, engine->parallel, &limits, &engine->forward));
    engine->sequences = sequences;
    engine->length = length;
    return PR_OK;
}

const int32_t *pr_rate_engine_blocks(const pr_rate_engine *engine, int32_t sequence)
{
    return engine->block + (size_t)sequence * (size_t)blocks_for(engine->length);
}

static void name_state(const pr_rate_engine *engine, int32_t context, char path[PATH_BYTES])
{
    const char *name = strrchr(engine->options.model, '/');
    snprintf(
        path, PATH_BYTES, "%s/%s.%d.%s.pages", engine->options.states,
        name ? name + 1 : engine->options.model, context,
        engine->options.kv_dtype == PR_BF16 ? "bfloat16" : "float32");
}

pr_status pr_rate_engine_save(const pr_rate_engine *engine, int32_t context)
{
    char path[PATH_BYTES], unfinished[PATH_BYTES + 16];
    name_state(engine, context, path);
    snprintf(unfinished, sizeof unfinished, "%s.unfinished", path);
    FILE *file = fopen(unfinished, "wb");
    if (!file)
        return pr_fail(PR_ERR_IO, "cannot write %s: %s", unfinished, strerror(errno));
    const pr_kv_store *store = engine->store;
    bool written = true;
    for (int32_t layer = 0; layer < store->layers; layer++) {
        for (int32_t i = 0; i < PR_KV_STREAMS * blocks_for(context); i++) {
            const char *page = pr_kv_store_page(
                store, layer, i % PR_KV_STREAMS,
                pr_rate_engine_blocks(engine, 0)[i / PR_KV_STREAMS]);
            written = written && fwrite(page, store->page_bytes, 1, file) == 1;
        }
    }
    written = fclose(file) == 0 && written;
    if (!written || rename(unfinished, path) != 0)
        return pr_fail(PR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    return PR_OK;
}

// One page of the file into the same place of every sequence.
static bool
restore_page(pr_rate_engine *engine, int32_t layer, int32_t stream, int32_t i, FILE *file)
{
    pr_kv_store *store = engine->store;
    char *first = pr_kv_store_page(store, layer, stream, pr_rate_engine_blocks(engine, 0)[i]);
    if (fread(first, store->page_bytes, 1, file) != 1)
        return false;
    for (int32_t sequence = 1; sequence < engine->sequences; sequence++) {
        int32_t block = pr_rate_engine_blocks(engine, sequence)[i];
        memcpy(pr_kv_store_page(store, layer, stream, block), first, store->page_bytes);
    }
    return true;
}

pr_status pr_rate_engine_restore(pr_rate_engine *engine, int32_t context)
{
    char path[PATH_BYTES];
    name_state(engine, context, path);
    FILE *file = fopen(path, "rb");
    if (!file)
        return PR_ERR_NOT_FOUND;
    bool whole = true;
    for (int32_t layer = 0; layer < engine->store->layers; layer++) {
        for (int32_t i = 0; i < PR_KV_STREAMS * blocks_for(context); i++)
            whole =
                whole && restore_page(engine, layer, i % PR_KV_STREAMS, i / PR_KV_STREAMS, file);
    }
    fclose(file);
    if (!whole)
        return pr_fail(PR_ERR_IO, "%s is too short: delete it", path);
    engine->filled = context;
    return PR_OK;
}
