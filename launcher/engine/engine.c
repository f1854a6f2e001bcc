// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/engine/engine.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/recovery.h"
#include "launcher/engine/cost_prior.h"
#include "launcher/engine/engine_parts.h"
#include "launcher/engine/layout_choice.h"
#include "launcher/leave/stop_signals.h"
#include "launcher/placement/node_ranks.h"
#include "launcher/placement/world_order.h"
#include "launcher/recover/rank_recovery.h"
#include "runtime/base/clock.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "scheduler/policy/policy.h"

enum { ERROR_TEXT = 512 };
enum { MOST_TENANTS = 4096 };  // remembered in each band of priority

// ---- Agreement: a stage has worked on every rank, or fails on every rank ----

typedef struct stage_result {
    int32_t status;
    int32_t signal;
    char text[ERROR_TEXT];
} stage_result;

static int32_t signal_of_any(const stage_result *result, int32_t ranks)
{
    int32_t number = 0;
    for (int32_t i = 0; i < ranks && number == 0; i++)
        number = result[i].signal;
    return number;
}

static pr_status interrupt(const pr_engine *engine, int32_t number)
{
    pr_stop_signals_note(number);
    if (engine->rank == 0)
        pr_log(PR_LOG_WARN, "stopped by signal %d before the run began", number);
    return PR_ERR_INTERRUPTED;
}

// The lowest failing rank's error is the one line that is told, by that rank. A signal on any rank ends the
// start of all.
static pr_status agree(pr_engine *engine, pr_status mine)
{
    stage_result result = {.status = mine, .signal = pr_stop_signals_received()};
    if (mine == PR_ERR_INTERRUPTED)
        result.status = PR_OK;
    if (mine != PR_OK)
        snprintf(result.text, sizeof result.text, "%s", pr_error_text());
    pr_error_capture_end();
    stage_result *all = calloc((size_t)engine->ranks, sizeof *all);
    if (!all)
        return pr_fail(PR_ERR_RESOURCE, "no memory to agree on a start-up stage");
    pr_status status = pr_world_gather_all(engine->world, &result, all, sizeof result);
    for (int32_t i = 0; status == PR_OK && i < engine->ranks; i++) {
        if (all[i].status == PR_OK)
            continue;
        status = (pr_status)all[i].status;
        if (i == engine->rank)
            pr_log(PR_LOG_ERROR, "%s", result.text);
    }
    int32_t number = status == PR_OK ? signal_of_any(all, engine->ranks) : 0;
    free(all);
    return number ? interrupt(engine, number) : status;
}

#define STAGE(engine, call)                                                                        \
    do {                                                                                           \
        pr_error_capture_begin();                                                                  \
        PR_TRY(agree(engine, call));                                                               \
    } while (0)

// ---- Stages ----

static char *last_part(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    return strndup(path + begin, end - begin);
}

pr_status pr_engine_name_model(pr_engine *engine)
{
    const pr_options *options = engine->options;
    engine->model_name =
        options->served_model_name ? strdup(options->served_model_name) : last_part(options->model);
    if (!engine->model_name)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the model's name");
    return PR_OK;
}

static pr_status join_group(pr_engine *engine)
{
    pr_control_params control = {
        .world = engine->world,
        .backend = engine->options->control,
        .ping_ms = PR_ENGINE_PING_MS,
    };
    PR_TRY(pr_group_create(engine->world, &engine->layout, &engine->group));
    PR_TRY(pr_control_create(&control, &engine->control, &engine->controller_control));
    return pr_engine_parts_create_transfer(engine);
}

// ---- The bytes of the tokens: rank 0 has the tokenizer, every rank's grammars need them ----

static pr_status share_token_bytes(pr_engine *engine)
{
    int64_t begin_ns = pr_clock_now_ns();
    STAGE(engine, pr_engine_parts_build_token_bytes(engine));
    int64_t built_ns = pr_clock_now_ns();
    int64_t packed_bytes = engine->rank == 0 ? engine->token_bytes->packed_bytes : 0;
    PR_TRY(pr_world_broadcast(engine->world, &packed_bytes, sizeof packed_bytes));
    STAGE(engine, pr_engine_parts_room_for_token_bytes(engine, packed_bytes));
    PR_TRY(pr_world_broadcast(engine->world, engine->token_bytes->packed, packed_bytes));
    if (engine->rank == 0)
        pr_log(
            PR_LOG_DEBUG, "bytes of %d tokens: %lld bytes, made in %.1f ms, shared in %.1f ms",
            engine->token_bytes->tokens, (long long)packed_bytes,
            (double)(built_ns - begin_ns) * 1e-6, (double)(pr_clock_now_ns() - built_ns) * 1e-6);
    STAGE(engine, pr_token_bytes_index(engine->token_bytes));
    return PR_OK;
}

static void say_threads(const pr_engine *engine)
{
    const pr_thread_choice *threads = &engine->threads;
    char text[PR_THREAD_TEXT_BYTES];
    if (threads->cores == 0)  // rank 0 only schedules
        return;
    pr_thread_describe(threads, text);
    pr_log(PR_LOG_INFO, "threads of a rank: %s", text);
    if (threads->shares_cores && engine->options->threads > 1)
        pr_log(
            PR_LOG_WARN,
            "--threads %d: %d threads take turns on %d cores, which is slower than --threads auto",
            (int)threads->threads, (int)(threads->threads * threads->sharers), (int)threads->cores);
}

// Collective: what the groups exchange through.
static pr_status say_exchange(pr_engine *engine)
{
    pr_exchange mine =
        engine->parallel ? pr_comm_parallel_exchange(engine->parallel) : PR_EXCHANGE_AUTO;
    int64_t shared = mine == PR_EXCHANGE_SHARED, messages = mine == PR_EXCHANGE_MESSAGES;
    int64_t direct = mine == PR_EXCHANGE_DIRECT, nccl = mine == PR_EXCHANGE_NCCL;
    int64_t staged = (shared || messages) && !engine->device.device->is_host;
    PR_TRY(pr_world_max(engine->world, &shared));
    PR_TRY(pr_world_max(engine->world, &messages));
    PR_TRY(pr_world_max(engine->world, &direct));
    PR_TRY(pr_world_max(engine->world, &nccl));
    PR_TRY(pr_world_max(engine->world, &staged));
    const char *text = shared && messages
                           ? "shared memory in groups on one node, messages in others"
                       : shared   ? "shared memory"
                       : messages ? "messages"
                       : direct   ? "direct, from GPU to GPU"
                       : nccl     ? "NCCL or RCCL, from GPU to GPU"
                                  : "none, each rank works alone";
    const char *between = direct && (shared || messages) ? "direct, from GPU to GPU, or " : "";
    if (engine->rank == 0)
        pr_log(
            PR_LOG_INFO, "exchange: %s%s%s", between, staged ? "staged in pinned memory, by " : "",
            text);
    return PR_OK;
}

static void say_what_runs(const pr_engine *engine, const char *why)
{
    const pr_model *model = engine->model;
    char text[PR_LAYOUT_TEXT_BYTES];
    pr_layout_describe(&engine->layout, text);
    pr_log(
        PR_LOG_INFO, "model %s: %s, %d layers, %d experts, context %d; kernels: %s; weights %s",
        engine->model_name, pr_family_name(model->family), model->layers, model->experts,
        engine->max_model_len, engine->device.device->isa,
        pr_options_weights_text(engine->quantization));
    say_threads(engine);
    if (!engine->device.device->is_host)
        pr_log(PR_LOG_INFO, "device: %s", engine->device.text);
    pr_log(PR_LOG_INFO, "layout: %s", text);
    for (const char *line = why; *line; line += strcspn(line, "\n") + 1)
        pr_log(PR_LOG_INFO, "  %.*s", (int)strcspn(line, "\n"), line);
    pr_log(
        PR_LOG_INFO, "KV: %d blocks of %d tokens a lane; control plane: %s; start-up %.2f s",
        engine->kv_blocks, engine->options->block_size,
        pr_control_backend(engine->controller_control),
        (double)(engine->start.last_ns - engine->start.begin_ns) * 1e-9);
    pr_start_tell_parts(&engine->start);
}

// How many threads this rank computes with, where, and which of this machine's ranks it is.
static pr_status place_threads(pr_engine *engine)
{
    const pr_options *options = engine->options;
    bool computes = !(options->dedicated_controller && engine->rank == 0);
    pr_topology topology;
    pr_node_ranks node;
    pr_topology_read(&topology);
    PR_TRY(pr_node_ranks_gather(engine->world, &topology.usable, computes, &node));
    pr_thread_wish wish = {
        .threads = options->threads,
        .bind = options->bind,
        .granted = pr_world_is_launched() || !topology.whole,
    };
    engine->threads = (pr_thread_choice){.threads = 1};
    if (computes)
        pr_thread_choose(
            &topology.map, node.usable, node.computing, node.number, &wish, &engine->threads);
    engine->numa = pr_thread_numa(&topology.map, &topology.usable, &engine->threads);
    engine->node_number = computes ? node.number : 0;
    engine->node_ranks = node.ranks;
    pr_node_ranks_release(&node);
    return PR_OK;
}

// The step times of the group that is slowest: all ranks wait for the one with the fewest threads.
static pr_status agree_on_threads(pr_engine *engine, int32_t *least)
{
    bool computes = engine->group_index >= 0;
    int64_t negative = computes ? -engine->threads.threads : -PR_MAX_THREADS;
    PR_TRY(pr_world_max(engine->world, &negative));
    *least = (int32_t)-negative;
    return PR_OK;
}

// Bytes depend on what computes, so all ranks compute on the same kind of device.
static pr_status agree_on_device(pr_engine *engine)
{
    const pr_device *device = engine->device.device;
    uint64_t hash = pr_hash_bytes(1, device->name, strlen(device->name)) >> 1;
    int64_t most = (int64_t)hash, least = -(int64_t)hash;
    PR_TRY(pr_world_max(engine->world, &most));
    PR_TRY(pr_world_max(engine->world, &least));
    if (most == -least)
        return PR_OK;
    if (engine->rank > 0)
        return PR_ERR_ARGUMENT;
    return pr_fail(
        PR_ERR_ARGUMENT,
        "this rank computes on %s, others on something else: say --device, or start on nodes alike",
        engine->device.text);
}

// Ranks see different free memory; the least of them decides, so that all choose the same layout.
static pr_status agree_on_memory(pr_engine *engine, pr_memory_facts *facts)
{
    int64_t memory = -facts->memory_bytes;
    PR_TRY(pr_world_max(engine->world, &memory));
    facts->memory_bytes = -memory;
    return PR_OK;
}

static pr_status choose_layout(pr_engine *engine, const pr_memory_facts *facts, char *why)
{
    PR_TRY(pr_layout_choose(facts, engine->ranks, &engine->layout, why));
    return pr_memory_budget_blocks(facts, &engine->layout, &engine->kv_blocks);
}

// From here on a rank has the number that its place in the machine makes best. It keeps its cores.
static pr_status order_ranks(pr_engine *engine)
{
    PR_TRY(pr_world_order_settle(
        engine->world, &engine->layout, engine->numa,
        strcmp(engine->options->rank_order, "launcher") == 0));
    engine->rank = pr_world_rank(engine->world);
    if (engine->ranks > 1)
        pr_log_set_rank(engine->rank);
    return pr_run_watch_follow_order(engine->watch);
}

static pr_status load_stage(pr_engine *engine)
{
    if (engine->rank == 0)
        pr_load_watch_begin(&engine->load_watch, "loading weights");
    pr_error_capture_begin();
    pr_status status = agree(engine, pr_engine_parts_take_place(engine));
    if (engine->rank == 0)
        pr_load_watch_end(&engine->load_watch);
    pr_start_mark(&engine->start, PR_START_KV);
    return status;
}

static pr_status agree_on_nothing_to_do(pr_engine *engine, const bool *mine)
{
    int64_t nothing = engine->rank == 0 && mine && *mine;
    PR_TRY(pr_world_max(engine->world, &nothing));
    engine->nothing_to_do = nothing != 0;
    return PR_OK;
}

static pr_status open_stages(pr_engine *engine, const pr_engine_prepare *prepare)
{
    const pr_options *options = engine->options;
    pr_memory_facts facts;
    char why[PR_LAYOUT_TEXT_BYTES] = "";
    int32_t threads = 1;
    pr_start_mark(&engine->start, PR_START_MPI);
    STAGE(engine, engine->rank == 0 ? pr_policy_check_spec(options->policy, true) : PR_OK);
    STAGE(engine, engine->rank == 0 ? prepare->call(prepare->context) : PR_OK);
    PR_TRY(agree_on_nothing_to_do(engine, prepare->nothing_to_do));
    if (engine->nothing_to_do)
        return PR_OK;
    PR_TRY(place_threads(engine));
    STAGE(engine, pr_engine_parts_open_model(engine));
    PR_TRY(agree_on_device(engine));
    STAGE(
        engine, pr_memory_facts_fill(
                    options, engine->model, engine->weights, engine->device.device,
                    pr_device_choice_sharers(&engine->device, engine->node_ranks), &facts));
    PR_TRY(agree_on_memory(engine, &facts));
    engine->max_model_len = facts.max_model_len;
    engine->kv_dtype = pr_options_kv_dtype(options, facts.weight_dtype);
    engine->quantization = pr_memory_quantization(&facts);
    STAGE(engine, choose_layout(engine, &facts, why));
    PR_TRY(order_ranks(engine));
    pr_run_watch_set_layout(engine->watch, &engine->layout);
    pr_start_mark(&engine->start, PR_START_MODEL);
    PR_TRY(load_stage(engine));
    PR_TRY(agree_on_threads(engine, &threads));
    PR_TRY(pr_rank_recovery_prepare(engine));
    STAGE(engine, pr_engine_parts_open_record(engine));
    STAGE(engine, pr_engine_parts_open_timeline(engine));
    pr_status joined = join_group(engine);
    if (joined != PR_OK)  // some ranks may be inside a collective call: only ending the job helps
        pr_engine_close(engine, NULL, joined);
    PR_TRY(share_token_bytes(engine));
    STAGE(engine, pr_engine_create_worker(engine, 0));
    pr_start_mark(&engine->start, PR_START_GROUPS);
    PR_TRY(pr_start_tell_weights(
        &engine->start, engine->world,
        pr_weights_load_mode(engine->weights, pr_options_load_mode(options)),
        pr_weights_layout(engine->weights) != NULL));
    engine->scheduler = (pr_scheduler_params){
        .layout = &engine->layout,
        .kv_blocks = engine->kv_blocks,
        .block_tokens = options->block_size,
        .max_model_len = engine->max_model_len,
        .max_num_batched_tokens = options->max_num_batched_tokens,
        .max_num_seqs = options->max_num_seqs,
        .lease_steps = options->lease_steps,
        .prefix_caching = options->enable_prefix_caching,
        .policy = options->policy,
        .queue =
            {
                .fair = strcmp(options->fairness, "vtc") == 0,
                .prompt_weight = 1,
                .output_weight = 2,
                .guard_s =
                    options->starvation_guard > 0 ? options->starvation_guard : (double)INFINITY,
                .most_jobs = INT32_MAX,
                .most_tenants = MOST_TENANTS,
            },
        .balance = pr_options_balance(options),
        .flow = {.ttl_s = options->queue_ttl, .most_prompt_tokens = options->queue_tokens},
        .short_suffix = options->short_suffix,
        .cost = pr_cost_prior(
            engine->model, options, engine->kv_dtype, engine->layout.group[0].tp, threads,
            engine->kv_blocks),
    };
    if (engine->rank == 0)
        say_what_runs(engine, why);
    return say_exchange(engine);
}

// A process that replaces a lost rank agrees with nobody: it takes what the others have agreed on.
static pr_status open_replacement(pr_engine *engine)
{
    PR_TRY(pr_rank_recovery_take_facts(engine));
    PR_TRY(pr_engine_parts_open_model(engine));
    PR_TRY(pr_engine_parts_take_place(engine));
    PR_TRY(pr_engine_parts_create_transfer(engine));
    PR_TRY(pr_tokenizer_open(engine->options->model, &engine->tokenizer));
    PR_TRY(pr_token_bytes_from_tokenizer(
        engine->tokenizer, engine->model->vocabulary, &engine->token_bytes));
    PR_TRY(pr_token_bytes_index(engine->token_bytes));
    return pr_rank_recovery_say_ready(engine);
}

static pr_status open_rank(pr_engine *engine, const pr_engine_prepare *prepare)
{
    if (pr_recovery_is_replacement())
        return open_replacement(engine);
    PR_TRY(pr_engine_watch(engine));
    return open_stages(engine, prepare);
}

pr_status
pr_engine_open(const pr_options *options, const pr_engine_prepare *prepare, pr_engine **engine)
{
    pr_engine *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the engine");
    made->options = options;
    made->group_index = -1;
    pr_start_begin(&made->start);
    pr_status status = pr_stop_signals_catch();
    if (status == PR_OK)
        status = pr_world_open(&made->world);
    if (status != PR_OK) {
        free(made);
        return status;
    }
    made->rank = pr_world_rank(made->world);
    made->ranks = pr_world_ranks(made->world);
    if (made->ranks > 1)
        pr_log_set_rank(made->rank);
    status = open_rank(made, prepare);
    if (status != PR_OK || made->nothing_to_do) {
        pr_engine_close(made, NULL, PR_OK);
        *engine = NULL;
        return status;
    }
    *engine = made;
    return PR_OK;
}
