// SPDX-License-Identifier: BSD-3-Clause
// An emulated back end whose memory the host cannot touch but through it: pages are open only while a copy or a
// kernel runs. Who reads device memory as if it were the host's ends the test. One at a time.
#ifndef PR_TESTS_KERNEL_GPU_FENCE_H
#define PR_TESTS_KERNEL_GPU_FENCE_H

#include <sys/mman.h>

#include "tests/kernel/gpu_under_test.h"

enum { FENCE_MOST = 256, FENCE_PAGE = 4096 };

typedef struct gpu_fence {
    const pr_gpu_backend *inner;
    pr_gpu_backend backend;
    pr_gpu_operations operations;
    struct {
        void *memory;
        size_t size_bytes;
    } piece[FENCE_MOST];
    int pieces;
} gpu_fence;

static gpu_fence fence;

static inline void gpu_fence_protect(int protection)
{
    for (int i = 0; i < fence.pieces; i++)
        assert_int_equal(mprotect(fence.piece[i].memory, fence.piece[i].size_bytes, protection), 0);
}

static inline void gpu_fence_begin(void) { gpu_fence_protect(PROT_READ | PROT_WRITE); }

static inline bool gpu_fence_end(pr_gpu_stream *stream)
{
    bool done = fence.inner->wait(stream);
    gpu_fence_protect(PROT_NONE);
    return done;
}

static inline void *gpu_fence_take(size_t size_bytes)
{
    size_t whole = (size_bytes + FENCE_PAGE - 1) / FENCE_PAGE * FENCE_PAGE;
    void *memory = fence.inner->memory_take(whole);
    if (!memory)
        return NULL;
    assert_true(fence.pieces < FENCE_MOST);
    fence.piece[fence.pieces].memory = memory;
    fence.piece[fence.pieces++].size_bytes = whole;
    gpu_fence_protect(PROT_NONE);
    return memory;
}

static inline void gpu_fence_release(void *memory)
{
    int i = 0;
    while (i < fence.pieces && fence.piece[i].memory != memory)
        i++;
    assert_true(i < fence.pieces);
    gpu_fence_begin();
    fence.piece[i] = fence.piece[--fence.pieces];
    fence.inner->memory_release(memory);
    gpu_fence_protect(PROT_NONE);
}

static inline bool
gpu_fence_copy(void *to, const void *from, size_t size_bytes, pr_gpu_stream *stream)
{
    gpu_fence_begin();
    bool taken = fence.inner->copy(to, from, size_bytes, stream);
    return gpu_fence_end(stream) && taken;
}

static inline bool
gpu_fence_fill(void *to, unsigned char byte, size_t size_bytes, pr_gpu_stream *stream)
{
    gpu_fence_begin();
    bool taken = fence.inner->fill(to, byte, size_bytes, stream);
    return gpu_fence_end(stream) && taken;
}

#define GPU_FENCED(operation)                                                                      \
    static inline void gpu_fence_##operation(                                                      \
        pr_gpu_stream *stream, const pr_gpu_##operation##_args *args)                              \
    {                                                                                              \
        gpu_fence_begin();                                                                         \
        fence.inner->operations->operation(stream, args);                                          \
        assert_true(gpu_fence_end(stream));                                                        \
    }

GPU_FENCED(embed)
GPU_FENCED(rmsnorm)
GPU_FENCED(add)
GPU_FENCED(gated)
GPU_FENCED(rope_store)
GPU_FENCED(experts)
GPU_FENCED(attention)
GPU_FENCED(topk)
GPU_FENCED(permute)
GPU_FENCED(combine)

static inline void
gpu_fence_matmul(pr_gpu_stream *stream, const pr_gpu_matmul_args *args, int32_t count)
{
    gpu_fence_begin();
    fence.inner->operations->matmul(stream, args, count);
    assert_true(gpu_fence_end(stream));
}

static inline void gpu_fence_slab_gather(pr_gpu_stream *stream, const pr_gpu_slab_args *args)
{
    gpu_fence_begin();
    fence.inner->operations->slab_gather(stream, args);
    assert_true(gpu_fence_end(stream));
}

static inline void gpu_fence_slab_scatter(pr_gpu_stream *stream, const pr_gpu_slab_args *args)
{
    gpu_fence_begin();
    fence.inner->operations->slab_scatter(stream, args);
    assert_true(gpu_fence_end(stream));
}

static inline const pr_gpu_backend *gpu_fence_around(const pr_gpu_backend *inner)
{
    fence = (gpu_fence){.inner = inner, .backend = *inner, .operations = *inner->operations};
    pr_gpu_operations *operations = &fence.operations;
    operations->embed = gpu_fence_embed;
    operations->rmsnorm = gpu_fence_rmsnorm;
    operations->add = gpu_fence_add;
    operations->gated = gpu_fence_gated;
    operations->rope_store = gpu_fence_rope_store;
    operations->matmul = gpu_fence_matmul;
    operations->experts = gpu_fence_experts;
    operations->attention = gpu_fence_attention;
    operations->topk = gpu_fence_topk;
    operations->permute = gpu_fence_permute;
    operations->combine = gpu_fence_combine;
    operations->slab_gather = gpu_fence_slab_gather;
    operations->slab_scatter = gpu_fence_slab_scatter;
    fence.backend.operations = operations;
    fence.backend.memory_take = gpu_fence_take;
    fence.backend.memory_release = gpu_fence_release;
    fence.backend.copy = gpu_fence_copy;
    fence.backend.fill = gpu_fence_fill;
    return &fence.backend;
}

#endif
