// SPDX-License-Identifier: BSD-3-Clause
// The table of the emulated GPU: gpu_backend.h in terms of emulate/. It has a few devices, to choose among; they share
// the memory and the time of this process.
#include <stdio.h>
#include <string.h>

#include "kernels/gpu/backend/operations_table.h"
#include "kernels/gpu/emulate/emulated_error.h"
#include "kernels/gpu/emulate/emulated_machine.h"
#include "kernels/gpu/emulate/emulated_memory.h"
#include "kernels/gpu/gpu_backend.h"

enum { DEVICES = 4, CACHE_BYTES = 32 * 1024 * 1024 };

static int32_t devices(void) { return DEVICES; }

static bool facts(int32_t device, pr_gpu_facts *facts)
{
    if (device < 0 || device >= DEVICES) {
        pr_emulated_error_set("no device %d: 0 to %d", device, DEVICES - 1);
        return false;
    }
    *facts = {};
    snprintf(facts->name, sizeof(facts->name), "emulated GPU, warp of %d", GPU_WARP);
    snprintf(
        facts->uuid, sizeof(facts->uuid), "GPU-00000000-0000-0000-0000-0000000000%02x", device);
    snprintf(facts->architecture, sizeof(facts->architecture), "warp%d", GPU_WARP);
    facts->multiprocessors = PR_EMULATED_MULTIPROCESSORS;
    facts->warp = GPU_WARP;
    facts->memory_bytes = pr_emulated_memory_bytes();
    facts->free_bytes = pr_emulated_memory_free_bytes();
    facts->cache_bytes = CACHE_BYTES;
    facts->shared_bytes = PR_EMULATED_SHARED_BYTES;
    facts->cooperative = true;
    return true;
}

static bool use(int32_t device)
{
    pr_gpu_facts ignored;
    return facts(device, &ignored);
}

static void *memory_take(size_t size_bytes)
{
    return pr_emulated_machine_capturing() ? NULL : pr_emulated_memory_take(size_bytes, false);
}

static void *pinned_take(size_t size_bytes)
{
    return pr_emulated_machine_capturing() ? NULL : pr_emulated_memory_take(size_bytes, true);
}

static void memory_release(void *memory)
{
    if (memory && !pr_emulated_machine_capturing()) {
        (void)pr_emulated_machine_wait(NULL);
        pr_emulated_memory_release(memory);
    }
}

static bool ipc_share(void *memory, pr_gpu_ipc *ipc)
{
    return !pr_emulated_machine_capturing() && pr_emulated_machine_wait(NULL) &&
           pr_emulated_memory_share(memory, ipc);
}

static void ipc_close(void *memory)
{
    if (memory && !pr_emulated_machine_capturing()) {
        (void)pr_emulated_machine_wait(NULL);
        pr_emulated_memory_close(memory);
    }
}

static bool wait_stream(pr_gpu_stream *stream) { return pr_emulated_machine_wait(stream); }

static const pr_gpu_backend table = {
    .version = PR_GPU_BACKEND_VERSION,
    .name = GPU_WARP == 64 ? "emulated64" : "emulated",
    .compiled = GPU_WARP == 64 ? "the CPU, warps of 64" : "the CPU, warps of 32",
    .devices = devices,
    .facts = facts,
    .use = use,
    .error = pr_emulated_error_take,
    .memory_take = memory_take,
    .region_take = memory_take,
    .memory_release = memory_release,
    .pinned_take = pinned_take,
    .pinned_release = memory_release,
    .ipc_share = ipc_share,
    .ipc_open = pr_emulated_memory_open,
    .ipc_close = ipc_close,
    .stream_create = pr_emulated_machine_stream_create,
    .stream_destroy = pr_emulated_machine_stream_destroy,
    .copy = pr_emulated_machine_copy,
    .fill = pr_emulated_machine_fill,
    .wait = wait_stream,
    .event_create = pr_emulated_machine_event_create,
    .event_destroy = pr_emulated_machine_event_destroy,
    .event_record = pr_emulated_machine_event_record,
    .event_follow = pr_emulated_machine_event_follow,
    .event_wait = pr_emulated_machine_event_wait,
    .event_ms = pr_emulated_machine_event_ms,
    .graph_begin = pr_emulated_machine_graph_begin,
    .graph_end = pr_emulated_machine_graph_end,
    .graph_run = pr_emulated_machine_graph_run,
    .graph_destroy = pr_emulated_machine_graph_destroy,
    .operations = &pr_gpu_operations_table,
};

__attribute__((visibility("default"))) const pr_gpu_backend *pr_gpu_backend_table(void)
{
    return &table;
}
