// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/engine/engine_parts.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/leave/stop_signals.h"
#include "launcher/recover/rank_recovery.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

pr_status pr_engine_parts_open_model(pr_engine *engine)
{
    const pr_options *options = engine->options;
    PR_TRY(pr_model_open(options->model, &engine->model));
    PR_TRY(pr_engine_name_model(engine));
    if (engine->rank == 0)
        PR_TRY(pr_tokenizer_open(options->model, &engine->tokenizer));
    PR_TRY(pr_device_choice_open(options, &engine->threads, engine->node_number, &engine->device));
    return pr_weights_open(options->model, &engine->weights);
}

// Bytes of the files that this rank's load_watch will count: its part of all but an embedding that is no
// lm_head as well.
static int64_t count_bytes_to_load(const pr_engine *engine, const pr_place *place)
{
    const pr_place alone = {.tp = 1, .ranks = 1};
    const pr_model *model = engine->model;
    double part = (double)pr_shard_predict_bytes(model, place, PR_BF16);
    double whole = (double)pr_shard_predict_bytes(model, &alone, PR_BF16);
    const pr_tensor *embedding = pr_weights_find(engine->weights, "model.embed_tokens.weight");
    bool apart = !model->tied_embeddings || pr_weights_layout(engine->weights);
    int64_t bytes = pr_weights_total_bytes(engine->weights);
    if (embedding && apart)
        bytes -= embedding->size_bytes;
    return (int64_t)((double)bytes * part / whole);
}

static pr_status load_shard(pr_engine *engine, const pr_place *place)
{
    const pr_shard_params params = {
        .model = engine->model,
        .weights = engine->weights,
        .place = *place,
        .quantization = pr_options_quantization(engine->options),
        .device = engine->device.device,
        .load = pr_options_load_mode(engine->options),
        .loaded_bytes = &engine->load_watch.loaded_bytes,
        .stop = pr_stop_signals_flag(),
    };
    atomic_store(&engine->load_watch.total_bytes, count_bytes_to_load(engine, place));
    PR_TRY(pr_shard_load(&params, &engine->shard));
    pr_start_mark(&engine->start, PR_START_WEIGHTS);
    pr_start_note_weights(&engine->start, engine->shard);
    return PR_OK;
}

pr_status pr_engine_parts_take_place(pr_engine *engine)
{
    engine->group_index = pr_layout_group_of(&engine->layout, engine->rank);
    if (engine->group_index < 0)
        return PR_OK;
    const pr_group_layout *layout = &engine->layout.group[engine->group_index];
    int32_t rank = engine->rank - layout->first_rank;
    pr_place place = {
        .tp = layout->tp,
        .tp_rank = rank % layout->tp,
        .ranks = layout->ranks,
        .rank = rank,
    };
    engine->lane = rank / layout->tp;
    PR_TRY(load_shard(engine, &place));
    int32_t heads = engine->model->kv_heads / layout->tp;
    pr_kv_store_params store = {
        .layers = engine->model->layers,
        .blocks = engine->kv_blocks,
        .block_tokens = engine->options->block_size,
        .kv_heads = heads,
        .head_size = engine->model->head_size,
        .first_head = heads * place.tp_rank,
        .dtype = engine->kv_dtype,
    };
    return pr_kv_store_create(engine->device.device, &store, &engine->store);
}

pr_status pr_engine_parts_create_transfer(pr_engine *engine)
{
    const pr_options *options = engine->options;
    pr_kv_transfer_params transfer = {
        .world = engine->world,
        .layout = &engine->layout,
        .store = engine->store,
        .kv_heads = engine->model->kv_heads,
        .max_blocks = engine->max_model_len / options->block_size + 2,
        .timeout_ms = options->comm_timeout,
        .corrupt_for_test = getenv("POLYREME_TEST_CORRUPT_KV") != NULL,
    };
    return pr_kv_transfer_create(&transfer, &engine->transfer);
}

pr_status pr_engine_parts_build_token_bytes(pr_engine *engine)
{
    if (engine->rank != 0)
        return PR_OK;
    return pr_token_bytes_from_tokenizer(
        engine->tokenizer, engine->model->vocabulary, &engine->token_bytes);
}

pr_status pr_engine_parts_room_for_token_bytes(pr_engine *engine, int64_t packed_bytes)
{
    if (engine->rank == 0)
        return PR_OK;
    return pr_token_bytes_create(engine->model->vocabulary, packed_bytes, &engine->token_bytes);
}

pr_status pr_engine_create_worker(pr_engine *engine, uint64_t plan_number)
{
    const pr_options *options = engine->options;
    const pr_model *model = engine->model;
    if (!engine->group)
        return PR_OK;
    pr_comm_params comm = {
        // Memory of ranks that MPI has started at different times may not be shared.
        .exchange = plan_number > 0 ? PR_EXCHANGE_AUTO : pr_options_exchange(options),
        .experts = model->experts,
        .chosen = model->experts_chosen,
        .hidden = model->hidden,
        .vocabulary = model->vocabulary,
        .max_tokens = options->max_num_batched_tokens,
        .max_outputs = options->max_num_seqs,
        .timeout_ms = options->comm_timeout,
        .shares_cores = engine->threads.shares_cores,
        .device = engine->device.device,
    };
    PR_TRY(pr_comm_parallel_create(engine->group, &comm, &engine->parallel));
    pr_worker_params worker = {
        .model = model,
        .group_index = engine->group_index,
        .lane = engine->lane,
        .group = engine->group,
        .control = engine->control,
        .transfer = engine->transfer,
        .store = engine->store,
        .shard = engine->shard,
        .parallel = engine->parallel,
        .token_bytes = engine->token_bytes,
        .max_num_batched_tokens = options->max_num_batched_tokens,
        .max_num_seqs = options->max_num_seqs,
        .max_model_len = engine->max_model_len,
        .timeout_ms = options->comm_timeout,
        .plan_number = plan_number,
        .recovers = pr_rank_recovery_is_on(engine),
    };
    return pr_worker_create(&worker, &engine->worker);
}

pr_status pr_engine_parts_open_record(pr_engine *engine)
{
    const char *path = engine->options->record;
    if (!path || engine->rank != 0)
        return PR_OK;
    engine->record = fopen(path, "w");
    if (!engine->record)
        return pr_fail(PR_ERR_IO, "cannot write the record %s: %s", path, strerror(errno));
    return PR_OK;
}

pr_status pr_engine_parts_open_timeline(pr_engine *engine)
{
    pr_timeline_params params = {
        .path = engine->options->trace_file,
        .layout = &engine->layout,
        .most_bytes = engine->options->trace_file_size,
        .begin_ns = pr_clock_now_ns(),
    };
    if (!params.path || engine->rank != 0)
        return PR_OK;
    return pr_timeline_open(&params, &engine->timeline);
}
