// SPDX-License-Identifier: BSD-3-Clause
// KV pages to and from a slab: what is sent to another rank, and what came from one.
//
//   pages   | page 0: head 0 .. g-1 | page 1: head 0 .. g-1 | ...      a range of heads is one piece of each page
//   slab    | piece of page[0] | piece of page[1] | ...
//
// A block copies 32 KiB of one piece at a time, 16 bytes a thread, several loads in flight; byte by byte where sizes or
// places are not multiples of 16. Cost: each byte is read once and written once.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/language/gpu.cuh"

enum { SLAB_THREADS = 256, SLAB_FLIGHT = 4, SLAB_TURNS = 2, SLAB_MOST_BLOCKS = 4096 };
enum { SLAB_CUT = SLAB_THREADS * SLAB_FLIGHT * SLAB_TURNS };  // elements of one block's turn

GPU_FUNCTION gpu_bytes16 slab_load(const gpu_bytes16 *from) { return gpu_load16(from); }
GPU_FUNCTION void slab_store(gpu_bytes16 *to, gpu_bytes16 v) { gpu_store16(to, v); }
GPU_FUNCTION unsigned char slab_load(const unsigned char *from) { return *from; }
GPU_FUNCTION void slab_store(unsigned char *to, unsigned char v) { *to = v; }

template <class T> GPU_FUNCTION void slab_copy(T *to, const T *from, int64_t begin, int64_t end)
{
    for (int64_t i = begin + gpu_thread(); i < end; i += SLAB_THREADS * SLAB_FLIGHT) {
        T v[SLAB_FLIGHT];
        GPU_UNROLL
        for (int j = 0; j < SLAB_FLIGHT; j++) {
            if (i + j * SLAB_THREADS < end)
                v[j] = slab_load(from + i + j * SLAB_THREADS);
        }
        GPU_UNROLL
        for (int j = 0; j < SLAB_FLIGHT; j++) {
            if (i + j * SLAB_THREADS < end)
                slab_store(to + i + j * SLAB_THREADS, v[j]);
        }
    }
}

// T: the element copied, as large as sizes and places allow.
template <class T, bool GATHER> GPU_KERNEL void slab_move(pr_gpu_slab_args args)
{
    int64_t piece = (int64_t)(args.heads * args.head_bytes / sizeof(T));
    int64_t cuts = (piece + SLAB_CUT - 1) / SLAB_CUT;
    for (int64_t turn = gpu_block(); turn < args.pages * cuts; turn += gpu_blocks()) {
        int64_t i = turn / cuts, begin = turn % cuts * SLAB_CUT;
        int64_t end = begin + SLAB_CUT < piece ? begin + SLAB_CUT : piece;
        T *slab = (T *)args.slab + i * piece;
        T *page =
            (T *)((char *)args.pages_memory + args.page[i] * args.page_bytes + args.head_begin * args.head_bytes);
        slab_copy(GATHER ? slab : page, GATHER ? page : slab, begin, end);
    }
}

static bool slab_is_aligned(const pr_gpu_slab_args *args)
{
    uintptr_t places = (uintptr_t)args->pages_memory | (uintptr_t)args->slab;
    return (places | args->page_bytes | args->head_bytes) % sizeof(gpu_bytes16) == 0;
}

template <bool GATHER> static void slab_launch(pr_gpu_stream *stream, const pr_gpu_slab_args *args)
{
    bool aligned = slab_is_aligned(args);
    size_t piece = args->heads * args->head_bytes / (aligned ? sizeof(gpu_bytes16) : 1);
    size_t turns = args->pages * ((piece + SLAB_CUT - 1) / SLAB_CUT);
    if (turns == 0)
        return;
    gpu_grid grid;
    grid.x = turns < SLAB_MOST_BLOCKS ? (unsigned)turns : (unsigned)SLAB_MOST_BLOCKS;
    if (aligned)
        gpu_launch(slab_move<gpu_bytes16, GATHER>, grid, SLAB_THREADS, 0, stream, *args);
    else
        gpu_launch(slab_move<unsigned char, GATHER>, grid, SLAB_THREADS, 0, stream, *args);
}

void pr_gpu_slab_gather(pr_gpu_stream *stream, const pr_gpu_slab_args *args)
{
    slab_launch<true>(stream, args);
}

void pr_gpu_slab_scatter(pr_gpu_stream *stream, const pr_gpu_slab_args *args)
{
    slab_launch<false>(stream, args);
}
