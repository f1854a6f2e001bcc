// SPDX-License-Identifier: BSD-3-Clause
// The arrays of one test on one GPU: taken together, released together.
#ifndef PR_TESTS_KERNEL_GPU_ARRAYS_H
#define PR_TESTS_KERNEL_GPU_ARRAYS_H

#include "gpu_under_test.h"

enum { GPU_ARRAYS_MOST = 16 };

typedef struct gpu_arrays {
    const pr_gpu_backend *gpu;
    pr_gpu_stream *stream;
    const pr_gpu_operations *operations;
    int count;
    void *taken[GPU_ARRAYS_MOST];
} gpu_arrays;

static inline gpu_arrays gpu_arrays_of(const gpus_under_test *all, int i)
{
    return (gpu_arrays){
        .gpu = all->gpu[i], .stream = all->stream[i], .operations = all->gpu[i]->operations};
}

static inline void *gpu_arrays_keep(gpu_arrays *arrays, void *memory)
{
    assert_true(arrays->count < GPU_ARRAYS_MOST);
    arrays->taken[arrays->count++] = memory;
    return memory;
}

// Not initialised, with a guard behind that `get` looks at.
static inline void *gpu_arrays_take(gpu_arrays *arrays, size_t size_bytes)
{
    return gpu_arrays_keep(arrays, gpu_under_test_take(arrays->gpu, arrays->stream, size_bytes));
}

static inline void *gpu_arrays_put(gpu_arrays *arrays, const void *from, size_t size_bytes)
{
    return gpu_arrays_keep(
        arrays, gpu_under_test_put(arrays->gpu, arrays->stream, from, size_bytes));
}

static inline void
gpu_arrays_get(const gpu_arrays *arrays, void *to, const void *memory, size_t size_bytes)
{
    gpu_under_test_get(arrays->gpu, arrays->stream, to, memory, size_bytes);
}

// What a kernel made is, bit by bit, what is right.
static inline void gpu_arrays_assert(
    const gpu_arrays *arrays, const void *right, const void *memory, size_t size_bytes)
{
    void *made = malloc(size_bytes + 1);
    assert_non_null(made);
    gpu_arrays_get(arrays, made, memory, size_bytes);
    assert_memory_equal(right, made, size_bytes);
    free(made);
}

static inline void gpu_arrays_release(gpu_arrays *arrays)
{
    while (arrays->count > 0)
        arrays->gpu->memory_release(arrays->taken[--arrays->count]);
}

#endif
