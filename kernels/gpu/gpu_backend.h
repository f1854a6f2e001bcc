// SPDX-License-Identifier: BSD-3-Clause
// One back end: what gpu_device.c needs of CUDA, of HIP or of the emulation, as a table of functions. Each is a shared
// object of its own (polyreme_cuda.so, polyreme_hip.so, polyreme_emulated.so, polyreme_emulated64.so), opened when its device
// is wanted (gpu_library.h), so the program starts where no GPU library is. The table holds the vendor's runtime
// (backend/gpu_backend.cu) and the kernels (operations/*.cu; operations.h has their arguments).
//
// Threads: those of one device are called by one thread. Errors: false means refused; error() says why and clears it.
// Kernels and copies that are put into a stream return at once; what goes wrong there is told by the next wait.
#ifndef PR_KERNELS_GPU_GPU_BACKEND_H
#define PR_KERNELS_GPU_GPU_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/gpu_stream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PR_GPU_IPC_BYTES = 64 };

typedef struct pr_gpu_event pr_gpu_event;
typedef struct pr_gpu_graph pr_gpu_graph;

typedef struct pr_gpu_facts {
    char name[128];         // "NVIDIA H200", "AMD Instinct MI250X", "emulated"
    char uuid[48];          // "GPU-..." or "MIG-..." of NVIDIA, "GPU-..." of AMD
    char architecture[32];  // "sm_90", "gfx90a", "warp32"
    int32_t multiprocessors, warp;
    int64_t memory_bytes, cache_bytes;  // cache: the last level
    int64_t free_bytes;                 // of the device this thread uses, else 0
    int32_t shared_bytes;               // most of one block
    bool cooperative;
} pr_gpu_facts;

typedef struct pr_gpu_ipc {
    unsigned char handle[PR_GPU_IPC_BYTES];
} pr_gpu_ipc;

typedef struct pr_gpu_backend {
    int32_t version;       // PR_GPU_BACKEND_VERSION
    const char *name;      // "cuda", "hip", "emulated"
    const char *compiled;  // what for, as a user would look for it: "sm_80 sm_90a compute_121"

    // ---- Devices, as this process may see them (CUDA_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES are the vendor's) ----
    int32_t (*devices)(void);  // 0: none, or no driver; error() says which
    bool (*facts)(int32_t device, pr_gpu_facts *facts);
    bool (*use)(int32_t device);  // by this thread from now on
    const char *(*error)(void);   // of this thread's last refusal; "" if there was none

    // ---- Memory ----
    // On the device, zeroed, aligned to 256. NULL: none left.
    void *(*memory_take)(size_t size_bytes);
    // The same for what other GPUs write to while kernels of this one read it (AMD: fine-grained); to be shared.
    void *(*region_take)(size_t size_bytes);
    void (*memory_release)(void *memory);
    // On the host, for copies that do not wait, and seen by kernels.
    void *(*pinned_take)(size_t size_bytes);
    void (*pinned_release)(void *memory);
    bool (*ipc_share)(void *memory, pr_gpu_ipc *ipc);  // of a whole allocation
    void *(*ipc_open)(const pr_gpu_ipc *ipc);          // another process's; NULL: refused
    void (*ipc_close)(void *memory);

    // ---- Order ----
    pr_gpu_stream *(*stream_create)(void);
    void (*stream_destroy)(pr_gpu_stream *stream);
    // Between host (pinned, or it waits) and device or within one, in the stream.
    bool (*copy)(void *to, const void *from, size_t size_bytes, pr_gpu_stream *stream);
    bool (*fill)(void *to, unsigned char byte, size_t size_bytes, pr_gpu_stream *stream);
    bool (*wait)(pr_gpu_stream *stream);  // until all of it is done; false: something failed
    pr_gpu_event *(*event_create)(bool timed);
    void (*event_destroy)(pr_gpu_event *event);
    bool (*event_record)(pr_gpu_event *event, pr_gpu_stream *stream);
    // The stream goes on after it.
    bool (*event_follow)(pr_gpu_stream *stream, pr_gpu_event *event);
    bool (*event_wait)(pr_gpu_event *event);
    float (*event_ms)(pr_gpu_event *from, pr_gpu_event *to);  // both done

    // ---- Graphs: what a stream is given between begin and end, to be run again as one ----
    bool (*graph_begin)(pr_gpu_stream *stream);
    pr_gpu_graph *(*graph_end)(pr_gpu_stream *stream);  // NULL: something in it cannot be captured
    bool (*graph_run)(pr_gpu_graph *graph, pr_gpu_stream *stream);
    void (*graph_destroy)(pr_gpu_graph *graph);

    const pr_gpu_operations *operations;
} pr_gpu_backend;

// Changes with the tables, so that a shared object of an older build is seen as one.
enum {
    PR_GPU_BACKEND_VERSION =
        (1 << 24) + (int)sizeof(pr_gpu_backend) * 2048 + (int)sizeof(pr_gpu_operations)
};

// What each shared object exports.
const pr_gpu_backend *pr_gpu_backend_table(void);
typedef const pr_gpu_backend *pr_gpu_backend_function(void);

#ifdef __cplusplus
}
#endif

#endif
