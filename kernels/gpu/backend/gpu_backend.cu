// SPDX-License-Identifier: BSD-3-Clause
// The table of CUDA and of HIP: gpu_backend.h in terms of the vendor's runtime (vendor_runtime.h).
#include <stdio.h>
#include <string.h>

#include "kernels/gpu/backend/operations_table.h"
#include "kernels/gpu/backend/vendor_runtime.h"
#include "kernels/gpu/gpu_backend.h"

static thread_local char last[256], taken[256];
static thread_local int32_t used_device = -1;

// True: it went well. Otherwise keeps what the vendor says, and clears it there.
static bool fine(vendor_error error, const char *what)
{
    if (error == VENDOR(Success))
        return true;
    (void)VENDOR(GetLastError)();
    snprintf(
        last, sizeof(last), "%s: %s (%s)", what, VENDOR(GetErrorString)(error),
        VENDOR(GetErrorName)(error));
    return false;
}

static const char *error_text(void)
{
    vendor_error of_launch = VENDOR(GetLastError)();
    if (!last[0])
        (void)fine(of_launch, "launch");
    memcpy(taken, last, sizeof(taken));
    last[0] = '\0';
    return taken;
}

// ---- Devices ----

static int32_t devices(void)
{
    int count = 0;
    return fine(VENDOR(GetDeviceCount)(&count), "counting devices") ? count : 0;
}

#if VENDOR_IS_HIP
static bool name_device(int32_t device, const vendor_properties *properties, pr_gpu_facts *facts)
{
    hipUUID uuid;
    if (!fine(hipDeviceGetUuid(&uuid, device), "UUID of a device"))
        return false;
    // The bytes are the letters that ROCR_VISIBLE_DEVICES takes.
    snprintf(facts->uuid, sizeof(facts->uuid), "GPU-%.16s", uuid.bytes);
    snprintf(facts->architecture, sizeof(facts->architecture), "%.31s", properties->gcnArchName);
    char *features = strchr(facts->architecture, ':');
    if (features)
        *features = '\0';
    facts->shared_bytes = (int32_t)properties->sharedMemPerBlock;
    return true;
}
#else
static bool name_device(int32_t, const vendor_properties *properties, pr_gpu_facts *facts)
{
    const unsigned char *id = (const unsigned char *)properties->uuid.bytes;
    bool is_slice = strstr(properties->name, " MIG ") != NULL;
    int at = snprintf(facts->uuid, sizeof(facts->uuid), is_slice ? "MIG" : "GPU");
    for (int i = 0; i < 16; i++) {
        bool group = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
        at += snprintf(
            facts->uuid + at, sizeof(facts->uuid) - (size_t)at, group ? "-%02x" : "%02x", id[i]);
    }
    snprintf(
        facts->architecture, sizeof(facts->architecture), "sm_%d%d", properties->major,
        properties->minor);
    facts->shared_bytes = (int32_t)properties->sharedMemPerBlockOptin;
    return true;
}
#endif

static bool use(int32_t device)
{
    if (!fine(VENDOR(SetDevice)(device), "choosing a device"))
        return false;
    used_device = device;
    return true;
}

static bool facts(int32_t device, pr_gpu_facts *facts)
{
    vendor_properties properties;
    if (!fine(VENDOR(GetDeviceProperties)(&properties, device), "properties of a device"))
        return false;
    *facts = {};
    snprintf(facts->name, sizeof(facts->name), "%.127s", properties.name);
    facts->multiprocessors = properties.multiProcessorCount;
    facts->warp = properties.warpSize;
    facts->cache_bytes = properties.l2CacheSize;
    facts->cooperative = properties.cooperativeLaunch != 0;
    facts->memory_bytes = (int64_t)properties.totalGlobalMem;
    // To ask a device for it takes memory of that device.
    size_t free_bytes = 0, all_bytes = 0;
    if (device == used_device &&
        !fine(VENDOR(MemGetInfo)(&free_bytes, &all_bytes), "memory of a device"))
        return false;
    facts->free_bytes = (int64_t)free_bytes;
    return name_device(device, &properties, facts);
}

// ---- Memory ----

static void *take_zeroed(size_t size_bytes, bool reached)
{
    void *memory = NULL;
    size_t bytes = size_bytes > 0 ? size_bytes : 1;
    if (!fine(vendor_take(&memory, bytes, reached), "taking memory"))
        return NULL;
    // The other streams do not wait for this one, so the host does.
    if (!fine(VENDOR(Memset)(memory, 0, bytes), "zeroing memory") ||
        !fine(VENDOR(StreamSynchronize)(NULL), "zeroing memory")) {
        (void)VENDOR(Free)(memory);
        return NULL;
    }
    return memory;
}

static void *memory_take(size_t size_bytes) { return take_zeroed(size_bytes, false); }

static void *region_take(size_t size_bytes) { return take_zeroed(size_bytes, true); }

static void memory_release(void *memory) { (void)fine(VENDOR(Free)(memory), "releasing memory"); }

static void *pinned_take(size_t size_bytes)
{
    void *memory = NULL;
    if (!fine(vendor_host_take(&memory, size_bytes > 0 ? size_bytes : 1), "taking pinned memory"))
        return NULL;
    memset(memory, 0, size_bytes);
    return memory;
}

static void pinned_release(void *memory)
{
    if (memory)
        (void)fine(vendor_host_release(memory), "releasing pinned memory");
}

static bool ipc_share(void *memory, pr_gpu_ipc *ipc)
{
    static_assert(sizeof(vendor_ipc) <= PR_GPU_IPC_BYTES, "a handle fits");
    vendor_ipc handle;
    if (!fine(VENDOR(IpcGetMemHandle)(&handle, memory), "sharing memory"))
        return false;
    *ipc = {};
    memcpy(ipc->handle, &handle, sizeof(handle));
    return true;
}

static void *ipc_open(const pr_gpu_ipc *ipc)
{
    vendor_ipc handle;
    memcpy(&handle, ipc->handle, sizeof(handle));
    void *memory = NULL;
    return fine(
               VENDOR(IpcOpenMemHandle)(&memory, handle, VENDOR(IpcMemLazyEnablePeerAccess)),
               "opening another process's memory")
               ? memory
               : NULL;
}

static void ipc_close(void *memory)
{
    if (memory)
        (void)fine(VENDOR(IpcCloseMemHandle)(memory), "closing another process's memory");
}

// ---- Order ----

static pr_gpu_stream *stream_create(void)
{
    vendor_stream stream = NULL;
    return fine(
               VENDOR(StreamCreateWithFlags)(&stream, VENDOR(StreamNonBlocking)),
               "creating a stream")
               ? (pr_gpu_stream *)stream
               : NULL;
}

static void stream_destroy(pr_gpu_stream *stream)
{
    if (!stream)
        return;
    (void)fine(VENDOR(StreamSynchronize)((vendor_stream)stream), "ending a stream");
    (void)fine(VENDOR(StreamDestroy)((vendor_stream)stream), "ending a stream");
}

static bool copy(void *to, const void *from, size_t size_bytes, pr_gpu_stream *stream)
{
    return size_bytes == 0 ||
           fine(
               VENDOR(MemcpyAsync)(
                   to, from, size_bytes, VENDOR(MemcpyDefault), (vendor_stream)stream),
               "copy");
}

static bool fill(void *to, unsigned char byte, size_t size_bytes, pr_gpu_stream *stream)
{
    return size_bytes == 0 ||
           fine(VENDOR(MemsetAsync)(to, byte, size_bytes, (vendor_stream)stream), "fill");
}

// What a launch left behind counts as well.
static bool wait_stream(pr_gpu_stream *stream)
{
    bool done = fine(VENDOR(StreamSynchronize)((vendor_stream)stream), "wait");
    return fine(VENDOR(GetLastError)(), "launch") && done;
}

static pr_gpu_event *event_create(bool timed)
{
    vendor_event event = NULL;
    return fine(vendor_event_make(&event, timed), "creating an event") ? (pr_gpu_event *)event
                                                                       : NULL;
}

static void event_destroy(pr_gpu_event *event)
{
    if (event)
        (void)fine(VENDOR(EventDestroy)((vendor_event)event), "ending an event");
}

static bool event_record(pr_gpu_event *event, pr_gpu_stream *stream)
{
    return fine(VENDOR(EventRecord)((vendor_event)event, (vendor_stream)stream), "event");
}

static bool event_follow(pr_gpu_stream *stream, pr_gpu_event *event)
{
    return fine(
        VENDOR(StreamWaitEvent)((vendor_stream)stream, (vendor_event)event, 0),
        "following an event");
}

static bool event_wait(pr_gpu_event *event)
{
    bool done = fine(VENDOR(EventSynchronize)((vendor_event)event), "waiting for an event");
    return fine(VENDOR(GetLastError)(), "launch") && done;
}

static float event_ms(pr_gpu_event *from, pr_gpu_event *to)
{
    float ms = 0.0f;
    (void)fine(
        VENDOR(EventElapsedTime)(&ms, (vendor_event)from, (vendor_event)to), "time between events");
    return ms;
}

// ---- Graphs ----

static bool graph_begin(pr_gpu_stream *stream)
{
    return fine(
        VENDOR(StreamBeginCapture)((vendor_stream)stream, VENDOR(StreamCaptureModeThreadLocal)),
        "beginning a graph");
}

static pr_gpu_graph *graph_end(pr_gpu_stream *stream)
{
    vendor_graph graph = NULL;
    vendor_graph_run run = NULL;
    // A launch that failed is not in the graph.
    bool launched = fine(VENDOR(GetLastError)(), "launch");
    if (!fine(VENDOR(StreamEndCapture)((vendor_stream)stream, &graph), "ending a graph") || !graph)
        return NULL;
    if (launched && fine(vendor_instantiate(&run, graph), "making a graph"))
        (void)fine(vendor_upload(run, (vendor_stream)stream), "making a graph");
    (void)fine(VENDOR(GraphDestroy)(graph), "making a graph");
    return (pr_gpu_graph *)run;
}

static bool graph_run(pr_gpu_graph *graph, pr_gpu_stream *stream)
{
    return fine(
        VENDOR(GraphLaunch)((vendor_graph_run)graph, (vendor_stream)stream), "running a graph");
}

static void graph_destroy(pr_gpu_graph *graph)
{
    if (graph)
        (void)fine(VENDOR(GraphExecDestroy)((vendor_graph_run)graph), "ending a graph");
}

static const pr_gpu_backend table = {
    .version = PR_GPU_BACKEND_VERSION,
    .name = VENDOR_IS_HIP ? "hip" : "cuda",
    .compiled = PR_GPU_COMPILED_FOR,
    .devices = devices,
    .facts = facts,
    .use = use,
    .error = error_text,
    .memory_take = memory_take,
    .region_take = region_take,
    .memory_release = memory_release,
    .pinned_take = pinned_take,
    .pinned_release = pinned_release,
    .ipc_share = ipc_share,
    .ipc_open = ipc_open,
    .ipc_close = ipc_close,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .copy = copy,
    .fill = fill,
    .wait = wait_stream,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_follow = event_follow,
    .event_wait = event_wait,
    .event_ms = event_ms,
    .graph_begin = graph_begin,
    .graph_end = graph_end,
    .graph_run = graph_run,
    .graph_destroy = graph_destroy,
    .operations = &pr_gpu_operations_table,
};

__attribute__((visibility("default"))) const pr_gpu_backend *pr_gpu_backend_table(void)
{
    return &table;
}
