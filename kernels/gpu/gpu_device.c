// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/gpu_device.h"

#include <stdlib.h>

#include "kernels/gpu/gpu_direct.h"
#include "kernels/gpu/gpu_matrix.h"
#include "kernels/gpu/gpu_state.h"
#include "kernels/gpu/gpu_step_graph.h"
#include "runtime/base/log.h"

pr_status pr_gpu_fail(pr_gpu_state *state, const char *what)
{
    const char *why = state->backend->error();
    if (state->status != PR_OK)
        return state->status;
    state->status = pr_fail(
        PR_ERR_INTERNAL, "%s:%d (%s): %s failed after %s: %s", state->backend->name,
        (int)state->index, state->facts.name, what, state->last, why[0] ? why : "no reason given");
    return state->status;
}

static void share(pr_device *device, pr_shared_work work, void *context, int64_t tasks)
{
    pr_cpu_team_run(pr_gpu_state_of(device)->team, work, context, tasks);
}

static pr_status exchange_create(
    pr_device *device, const pr_device_exchange_params *params, pr_device_exchange **exchange)
{
    const pr_gpu_state *state = pr_gpu_state_of(device);
    return pr_gpu_direct_create(state->backend, state->stream, params, exchange);
}

static pr_status open_state(const pr_gpu_device_params *params, pr_gpu_state *state)
{
    const pr_gpu_backend *backend = params->backend;
    state->backend = backend;
    state->index = params->index;
    state->last = "opening";
    PR_TRY(pr_cpu_team_create(params->threads, params->cpu, params->shares_cores, &state->team));
    if (!backend->use(params->index) || !backend->facts(params->index, &state->facts))
        return pr_gpu_fail(state, "opening the device");
    state->stream = backend->stream_create();
    if (!state->stream)
        return pr_gpu_fail(state, "creating a stream");
    for (int32_t i = 0; i < PR_GPU_STAGES; i++) {
        state->stage[i].memory = backend->pinned_take(PR_GPU_STAGE_BYTES);
        state->stage[i].gone = backend->event_create(false);
        if (!state->stage[i].memory || !state->stage[i].gone)
            return pr_gpu_fail(state, "taking pinned memory");
    }
    return PR_OK;
}

static void close_state(pr_gpu_state *state)
{
    const pr_gpu_backend *backend = state->backend;
    for (int32_t i = 0; i < PR_GPU_STAGES; i++) {
        if (state->stage[i].gone)
            backend->event_destroy(state->stage[i].gone);
        if (state->stage[i].memory)
            backend->pinned_release(state->stage[i].memory);
    }
    if (state->stream)
        backend->stream_destroy(state->stream);
    free(state->scratch);
    pr_cpu_team_destroy(state->team);
    free(state);
}

pr_status pr_gpu_device_open(const pr_gpu_device_params *params, pr_device **device)
{
    int32_t devices = params->backend->devices();
    if (params->threads < 1 || params->threads > PR_MAX_THREADS)
        return pr_fail(
            PR_ERR_ARGUMENT, "%d threads: use 1 to %d", params->threads, (int)PR_MAX_THREADS);
    if (params->index < 0 || params->index >= devices)
        return pr_fail(
            PR_ERR_ARGUMENT, "%s:%d: there are %d devices", params->backend->name,
            (int)params->index, (int)devices);
    pr_device *opened = calloc(1, sizeof *opened);
    pr_gpu_state *state = calloc(1, sizeof *state);
    if (!opened || !state) {
        free(opened);
        free(state);
        return pr_fail(PR_ERR_RESOURCE, "no memory left for a device");
    }
    pr_status status = open_state(params, state);
    if (status != PR_OK) {
        close_state(state);
        free(opened);
        return status;
    }
    *opened = (pr_device){
        .name = state->backend->name,
        .isa = state->facts.architecture,
        .free_bytes = state->facts.free_bytes,
        .kv_arrangement = PR_KV_ROWS,
        .threads = pr_cpu_team_threads(state->team),
        .state = state,
        .exchange_create = exchange_create,
        .share = share,
    };
    pr_gpu_memory_fill(opened);
    pr_gpu_matrix_fill(opened);
    pr_gpu_tables_fill(opened);
    pr_gpu_pages_fill(opened);
    pr_gpu_calls_fill(opened);
    if (params->graphs)
        pr_gpu_step_graph_fill(opened);
    *device = opened;
    return PR_OK;
}

void pr_gpu_device_close(pr_device *device)
{
    if (!device)
        return;
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_step_graph_forget(state);
    device->memory_release(device, state->partial);
    device->memory_release(device, state->products);
    device->memory_release(device, state->slab.page);
    device->memory_release(device, state->slab.memory);
    pr_gpu_tables_release(device);
    pr_gpu_memory_release_all(device);
    close_state(state);
    free(device);
}

const pr_gpu_facts *pr_gpu_device_facts(const pr_device *device)
{
    return &pr_gpu_state_of(device)->facts;
}
