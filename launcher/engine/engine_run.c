// SPDX-License-Identifier: BSD-3-Clause
// The run and its end: the controller's thread on rank 0, the worker, what the watchdog finds.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/recovery.h"
#include "comm/watch.h"
#include "launcher/commands.h"
#include "launcher/engine/engine.h"
#include "launcher/leave/stop_signals.h"
#include "launcher/placement/topology.h"
#include "launcher/recover/rank_recovery.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { FAULT_WAIT_MS = 3000 };
// For the launcher to end all ranks, or this one ends by itself; the latter for a fault that rank 0 has told.
enum { ABORT_S = 5, TOLD_S = 1 };
// The run is over and all of it is on disk: MPI_Finalize may take so long, which waits for every rank.
enum { PART_S = 30 };

// ---- What the watchdog finds ----

static pr_controller *_Atomic running_controller;
static atomic_bool has_told, has_begun;

// The worker and the watchdog may find out both: why this rank ends is told once.
static void tell_end(const char *text)
{
    if (!atomic_exchange(&has_told, true))
        pr_log(PR_LOG_ERROR, "%s", text);
}

static void on_fault(void *context, pr_status status, const char *text)
{
    static bool gave_up;
    pr_engine *engine = context;
    pr_controller *controller = atomic_load(&running_controller);
    bool goes_on = controller || (atomic_load(&has_begun) && pr_recovery_is_possible());
    if (engine->rank == 0 && status == PR_ERR_PEER && goes_on)
        return;               // it has been told by the control plane
    if (!text || !text[0]) {  // rank 0 has told why
        atomic_store(&has_told, true);
        pr_stop_signals_leave_within(TOLD_S, pr_exit_code(status));
        return;
    }
    if (controller && !gave_up) {
        gave_up = pr_controller_give_up(controller, text);
        if (gave_up)
            return;
    }
    tell_end(text);
    pr_stop_signals_leave_within(ABORT_S, pr_exit_code(status));
    pr_world_abort(engine->world, pr_exit_code(status));
}

static pr_run_watch_params watch_params(pr_engine *engine)
{
    pr_watch_adopt();
    return (pr_run_watch_params){
        .world = engine->world,
        .limit_s = engine->options->watchdog,
        .fault = on_fault,
        .context = engine,
    };
}

pr_status pr_engine_watch(pr_engine *engine)
{
    pr_run_watch_params params = watch_params(engine);
    return pr_run_watch_create(&params, &engine->watch);
}

void pr_engine_join_watch(pr_engine *engine, const void *invitation, size_t size_bytes)
{
    pr_run_watch_params params = watch_params(engine);
    pr_error_capture_begin();
    if (pr_run_watch_join(&params, invitation, size_bytes, &engine->watch) != PR_OK)
        pr_log(PR_LOG_WARN, "this rank is not watched: %s", pr_error_text());
    pr_error_capture_end();
    pr_run_watch_set_layout(engine->watch, &engine->layout);
}

int pr_engine_signal(void) { return pr_stop_signals_received(); }

int pr_engine_exit_code(pr_status status)
{
    if (status == PR_ERR_INTERRUPTED)
        return pr_world_is_first() ? 128 + pr_engine_signal() : PR_EXIT_OK;
    return pr_exit_code(status);
}

// ---- Running ----

typedef struct controller_thread {
    pr_engine *engine;
    pr_controller *controller;
    pr_status status;
} controller_thread;

static void *run_controller(void *argument)
{
    controller_thread *thread = argument;
    thread->status = pr_controller_run(thread->controller);
    // The worker thread may be inside a wait that only a lost job ends.
    if (thread->status != PR_OK)
        pr_engine_close(thread->engine, thread->controller, thread->status);
    return NULL;
}

// A worker's fault is told once: by the controller, which adds rank and role and then ends the job. By
// the worker itself only if nothing of that happens.
static pr_status run_worker(pr_engine *engine)
{
    // Only now: threads that were started before keep the whole mask.
    if (engine->threads.bound && engine->group_index >= 0)
        pr_topology_bind_caller(engine->threads.cpu[0]);
    pr_error_capture_begin();
    pr_status status = pr_rank_recovery_run(engine);
    pr_error_capture_end();
    if (status == PR_OK)
        return PR_OK;
    for (int i = 0; i < FAULT_WAIT_MS / 10 && !pr_engine_signal(); i++)
        usleep(10000);
    if (!pr_engine_signal())
        tell_end(pr_error_text());
    return status;
}

static pr_status run_rank_zero(pr_engine *engine, const pr_face *face, pr_controller **controller)
{
    if (face->has_end)
        PR_TRY(pr_end_watch_open(engine->options, &engine->end));
    pr_controller_params params = {
        .layout = &engine->layout,
        .scheduler = engine->scheduler,
        .control = engine->controller_control,
        .timeout_ms = engine->options->comm_timeout,
        .face = *face,
        .record = engine->record,
        .timeline = engine->timeline,
        .recovers = pr_rank_recovery_is_on(engine),
        .respawns = strcmp(engine->options->respawn, "off") != 0,
        .end = engine->end,
        .reserve_s = engine->options->walltime_reserve,
        .check = getenv("POLYREME_CHECK") != NULL,
    };
    PR_TRY(pr_controller_create(&params, controller));
    pr_stop_signals_call_controller(*controller);
    atomic_store(&running_controller, *controller);
    controller_thread thread = {.engine = engine, .controller = *controller};
    pthread_t id;
    if (pthread_create(&id, NULL, run_controller, &thread) != 0)
        return pr_fail(PR_ERR_RESOURCE, "cannot start the controller's thread");
    pthread_setname_np(id, "controller");
    pr_status status = run_worker(engine);
    pthread_join(id, NULL);
    atomic_store(&running_controller, NULL);
    pr_stop_signals_call_controller(NULL);
    pr_end_watch_close(engine->end);
    engine->end = NULL;
    return status != PR_OK ? status : thread.status;
}

pr_status pr_engine_run(pr_engine *engine, const pr_face *face, pr_controller **controller)
{
    atomic_store(&has_begun, true);
    return engine->rank == 0 ? run_rank_zero(engine, face, controller) : run_worker(engine);
}

// ---- End ----

void pr_engine_close(pr_engine *engine, pr_controller *controller, pr_status status)
{
    if (!engine)
        return;
    if (engine->record)
        fflush(engine->record);
    pr_timeline_close(engine->timeline, pr_clock_now_ns());
    if (status != PR_OK) {
        pr_stop_signals_leave_within(ABORT_S, pr_exit_code(status));
        pr_run_watch_condemn(engine->watch);
    }
    if (status != PR_OK && engine->ranks > 1)
        pr_world_abort(engine->world, pr_exit_code(status));
    if (status != PR_OK)
        _exit(pr_exit_code(status));
    pr_stop_signals_leave_within(PART_S, PR_EXIT_TRANSPORT);
    pr_controller_destroy(controller);
    // Who is lost would be waited for: the rest goes with the process (main.c).
    if (pr_rank_recovery_is_on(engine)) {
        pr_control_destroy(engine->controller_control);
        pr_control_destroy(engine->control);
        pr_run_watch_destroy(engine->watch);
        return;
    }
    pr_worker_destroy(engine->worker);
    pr_kv_transfer_destroy(engine->transfer);
    pr_comm_parallel_destroy(engine->parallel);
    pr_control_destroy(engine->controller_control);
    pr_control_destroy(engine->control);
    pr_group_destroy(engine->group);
    pr_kv_store_destroy(engine->store);
    pr_shard_unload(engine->shard);
    pr_weights_close(engine->weights);
    pr_device_choice_close(&engine->device);
    pr_token_bytes_destroy(engine->token_bytes);
    pr_tokenizer_close(engine->tokenizer);
    pr_model_close(engine->model);
    pr_run_watch_destroy(engine->watch);
    pr_world_close(engine->world);
    if (engine->record)
        fclose(engine->record);
    free(engine->model_name);
    free(engine);
}
