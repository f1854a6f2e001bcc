// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/recover/rank_recovery.h"

#include <stdlib.h>
#include <string.h>

#include "comm/recovery.h"
#include "launcher/recover/recover_order.h"
#include "runtime/base/log.h"

enum { REPLACE_LIMIT_S = 40, FORM_LIMIT_S = 15 };

// What a replacement is told of the run that it joins.
typedef struct recover_facts {
    pr_layout layout;
    int32_t kv_blocks, max_model_len;
    pr_dtype kv_dtype;
    pr_quantization quantization;
    int32_t losses;
    int32_t lost[PR_RECOVER_MOST_LOST];
    pr_thread_choice threads[PR_RECOVER_MOST_LOST];
    int32_t invitation_bytes, watch_bytes;
    char invitation[PR_INVITATION_BYTES];
    char watch[PR_INVITATION_BYTES];  // the watchdog's
} recover_facts;

bool pr_rank_recovery_is_on(const pr_engine *engine)
{
    return engine->ranks > 1 && pr_recovery_is_possible();
}

pr_status pr_rank_recovery_prepare(pr_engine *engine)
{
    size_t ranks = (size_t)engine->ranks;
    if (!pr_rank_recovery_is_on(engine))
        return PR_OK;
    engine->every_threads = calloc(ranks, sizeof *engine->every_threads);
    if (!engine->every_threads)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the threads of %zu ranks", ranks);
    PR_TRY(pr_recovery_prepare(engine->world));
    return pr_world_gather_all(
        engine->world, &engine->threads, engine->every_threads, sizeof engine->threads);
}

// ---- A replacement ----

static pr_status answer(pr_engine *engine, pr_recover_kind kind, bool good)
{
    pr_recover_done done = {.kind = kind, .good = good};
    return pr_control_send(engine->control, 0, PR_MESSAGE_DONE, &done, sizeof done);
}

pr_status pr_rank_recovery_take_facts(pr_engine *engine)
{
    int64_t size_bytes = 0;
    const recover_facts *facts = pr_recovery_facts(&size_bytes);
    if (size_bytes != sizeof *facts)
        return pr_fail(PR_ERR_INTERNAL, "facts of %lld bytes", (long long)size_bytes);
    engine->layout = facts->layout;
    engine->kv_blocks = facts->kv_blocks;
    engine->max_model_len = facts->max_model_len;
    engine->kv_dtype = facts->kv_dtype;
    engine->quantization = facts->quantization;
    for (int32_t i = 0; i < facts->losses; i++) {
        if (facts->lost[i] == engine->rank)
            engine->threads = facts->threads[i];
    }
    engine->threads.unbound_why = "as the rank that it replaces";
    pr_error_capture_begin();
    pr_status joined = pr_control_join(
        engine->world, PR_ENGINE_PING_MS, facts->invitation, (size_t)facts->invitation_bytes,
        &engine->control);
    pr_error_capture_end();
    if (joined != PR_OK)  // the run has ended meanwhile, or rank 0 tells that we are not heard of
        pr_log(PR_LOG_INFO, "%s", pr_error_text());
    PR_TRY(joined);
    pr_engine_join_watch(engine, facts->watch, (size_t)facts->watch_bytes);
    return answer(engine, PR_RECOVER_JOIN, true);
}

pr_status pr_rank_recovery_say_ready(pr_engine *engine)
{
    return answer(engine, PR_RECOVER_REPLACE, true);
}

// ---- Orders ----

static pr_status
fill_facts(const pr_engine *engine, const pr_recover_order *order, recover_facts **facts)
{
    recover_facts *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for what a replacement is told");
    made->layout = engine->layout;
    made->kv_blocks = engine->kv_blocks;
    made->max_model_len = engine->max_model_len;
    made->kv_dtype = engine->kv_dtype;
    made->quantization = engine->quantization;
    made->losses = order->losses;
    memcpy(made->lost, order->lost, sizeof made->lost);
    for (int32_t i = 0; i < order->losses; i++)
        made->threads[i] = engine->every_threads[order->lost[i]];
    made->invitation_bytes = order->invitation_bytes;
    memcpy(made->invitation, order->invitation, sizeof made->invitation);
    made->watch_bytes = (int32_t)pr_run_watch_invite(engine->watch, made->watch);
    *facts = made;
    return PR_OK;
}

static pr_status replace_lost(pr_engine *engine, const pr_recover_order *order)
{
    recover_facts *facts = NULL;
    if (engine->rank == 0)
        PR_TRY(fill_facts(engine, order, &facts));
    pr_status status = pr_recovery_replace(
        engine->world, order->lost, order->losses, order->epoch, facts, sizeof *facts);
    free(facts);
    bool afresh = !engine->worker || pr_worker_is_broken(engine->worker);
    return status == PR_OK ? pr_kv_transfer_renew(engine->transfer, afresh) : status;
}

static pr_status form_group(pr_engine *engine, const pr_recover_order *order)
{
    engine->group = NULL;
    engine->parallel = NULL;
    engine->worker = NULL;
    PR_TRY(pr_group_create_again(engine->world, &engine->layout, order->epoch, &engine->group));
    return pr_engine_create_worker(engine, order->plan);
}

static pr_status carry_out(pr_engine *engine, const pr_recover_order *order)
{
    bool replaces = order->kind == PR_RECOVER_REPLACE;
    pr_error_capture_begin();
    // MPI waits for ever for one that is lost meanwhile. Where rank 0 waits, the controller ends the run.
    if (engine->rank > 0)
        pr_recovery_limit(replaces ? REPLACE_LIMIT_S : FORM_LIMIT_S);
    pr_status status = replaces ? replace_lost(engine, order) : form_group(engine, order);
    pr_recovery_limit(0);
    pr_error_capture_end();
    if (status != PR_OK)
        pr_log(PR_LOG_ERROR, "%s", pr_error_text());
    return answer(engine, order->kind, status == PR_OK);
}

// ---- Without a worker ----

static void take_order(pr_engine *engine, const pr_message *message, pr_recover_order *order)
{
    pr_recover_order taken;
    if (message->size_bytes != sizeof taken)
        return;
    memcpy(&taken, message->data, sizeof taken);
    if (taken.kind == PR_RECOVER_LOSE && taken.group != engine->group_index)
        pr_kv_transfer_lose(engine->transfer, taken.group);
    else if (taken.kind == PR_RECOVER_RETURN)
        pr_kv_transfer_return(engine->transfer, taken.group);
    else if (taken.kind == PR_RECOVER_REPLACE || taken.kind == PR_RECOVER_FORM)
        *order = taken;
}

static pr_status send_no_counts(pr_engine *engine)
{
    pr_worker_counts counts = {0};
    if (engine->group_index < 0)
        return PR_OK;
    return pr_control_send(engine->control, 0, PR_MESSAGE_COUNTS, &counts, sizeof counts);
}

// Until an order that is carried out here, or the stop.
static pr_status attend(pr_engine *engine, pr_recover_order *order)
{
    *order = (pr_recover_order){.kind = PR_RECOVER_NONE};
    while (order->kind == PR_RECOVER_NONE) {
        pr_message message;
        PR_TRY(pr_control_receive(engine->control, -1, &message));
        if (message.kind == PR_MESSAGE_STOP)
            return send_no_counts(engine);
        if (message.kind == PR_MESSAGE_LOST)
            return pr_fail(PR_ERR_PEER, "rank 0 (the controller) is lost: this rank ends");
        if (message.kind == PR_MESSAGE_ORDER)
            take_order(engine, &message, order);
    }
    return PR_OK;
}

pr_status pr_rank_recovery_run(pr_engine *engine)
{
    for (;;) {
        pr_recover_order order;
        if (engine->worker)
            PR_TRY(pr_worker_run(engine->worker, &order));
        else if (pr_rank_recovery_is_on(engine))
            PR_TRY(attend(engine, &order));
        else
            return PR_OK;
        if (order.kind == PR_RECOVER_NONE)
            return PR_OK;
        PR_TRY(carry_out(engine, &order));
    }
}
