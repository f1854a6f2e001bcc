// SPDX-License-Identifier: BSD-3-Clause
// The host API of CUDA and of HIP under one spelling: vendorMalloc is cudaMalloc or hipMalloc. Included by
// gpu_backend.cu alone.
#ifndef PR_KERNELS_GPU_VENDOR_RUNTIME_H
#define PR_KERNELS_GPU_VENDOR_RUNTIME_H

#if defined(__HIPCC__) || defined(__HIP__)
#include <hip/hip_runtime.h>
#define VENDOR(name) hip##name
#define VENDOR_IS_HIP 1
typedef hipDeviceProp_t vendor_properties;
#else
#include <cuda_runtime.h>
#define VENDOR(name) cuda##name
#define VENDOR_IS_HIP 0
typedef cudaDeviceProp vendor_properties;
#endif

typedef VENDOR(Error_t) vendor_error;
typedef VENDOR(Stream_t) vendor_stream;
typedef VENDOR(Event_t) vendor_event;
typedef VENDOR(Graph_t) vendor_graph;
typedef VENDOR(GraphExec_t) vendor_graph_run;
typedef VENDOR(IpcMemHandle_t) vendor_ipc;

// Device memory; `reached`: other GPUs write to it while kernels of this one read it. NVIDIA's is always so.
static inline vendor_error vendor_take(void **memory, size_t size_bytes, bool reached)
{
#if VENDOR_IS_HIP
    return reached ? hipExtMallocWithFlags(memory, size_bytes, hipDeviceMallocFinegrained)
                   : hipMalloc(memory, size_bytes);
#else
    (void)reached;
    return cudaMalloc(memory, size_bytes);
#endif
}

static inline vendor_error vendor_host_take(void **memory, size_t size_bytes)
{
#if VENDOR_IS_HIP
    return hipHostMalloc(memory, size_bytes, hipHostMallocPortable | hipHostMallocMapped);
#else
    return cudaHostAlloc(memory, size_bytes, cudaHostAllocPortable | cudaHostAllocMapped);
#endif
}

static inline vendor_error vendor_host_release(void *memory)
{
#if VENDOR_IS_HIP
    return hipHostFree(memory);
#else
    return cudaFreeHost(memory);
#endif
}

static inline vendor_error vendor_instantiate(vendor_graph_run *run, vendor_graph graph)
{
#if VENDOR_IS_HIP
    return hipGraphInstantiateWithFlags(run, graph, 0);
#else
    return cudaGraphInstantiate(run, graph, 0);
#endif
}

// Now, so that the first run takes no memory.
static inline vendor_error vendor_upload(vendor_graph_run run, vendor_stream stream)
{
#if VENDOR_IS_HIP
    (void)run;
    (void)stream;
    return hipSuccess;
#else
    return cudaGraphUpload(run, stream);
#endif
}

static inline vendor_error vendor_event_make(vendor_event *event, bool timed)
{
    return VENDOR(EventCreateWithFlags)(
        event, timed ? VENDOR(EventDefault) : VENDOR(EventDisableTiming));
}

#endif
