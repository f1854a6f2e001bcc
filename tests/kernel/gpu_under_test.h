// SPDX-License-Identifier: BSD-3-Clause
// The GPUs a test runs on: both emulated ones, and those of this machine. Takes, fills and reads their memory.
#ifndef PR_TESTS_KERNEL_GPU_UNDER_TEST_H
#define PR_TESTS_KERNEL_GPU_UNDER_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "kernels/gpu/gpu_library.h"
#include "runtime/base/log.h"

enum { GPUS_MOST = 4, GPU_GUARD_BYTES = 256 };

typedef struct gpus_under_test {
    int count;
    const pr_gpu_backend *gpu[GPUS_MOST];
    pr_gpu_stream *stream[GPUS_MOST];
} gpus_under_test;

static const char *const gpus_of_program[GPUS_MOST] = {"emulated", "emulated64", "cuda", "hip"};

// The emulated ones must open where they are built (PR_HAVE_GPU_EMULATED); others where there is a device.
static inline gpus_under_test gpu_under_test_open_these(const char *const names[GPUS_MOST])
{
    gpus_under_test all = {0};
    for (int i = 0; i < GPUS_MOST; i++) {
        const pr_gpu_backend *gpu = NULL;
        pr_error_capture_begin();
        pr_status status = pr_gpu_library_open(names[i], &gpu);
#ifdef PR_HAVE_GPU_EMULATED
        if (i < 2 && status != PR_OK)
            fail_msg("%s", pr_error_text());
#endif
        pr_error_capture_end();
        if (status != PR_OK || gpu->devices() == 0)
            continue;
        assert_true(gpu->use(0));
        all.gpu[all.count] = gpu;
        all.stream[all.count] = gpu->stream_create();
        assert_non_null(all.stream[all.count]);
        all.count++;
    }
    if (all.count == 0)
        print_message("no GPU, and none emulated: this needs a C++ compiler at build time\n");
    return all;
}

static inline gpus_under_test gpu_under_test_open(void)
{
    return gpu_under_test_open_these(gpus_of_program);
}

static inline void gpu_under_test_close(gpus_under_test *all)
{
    for (int i = 0; i < all->count; i++)
        all->gpu[i]->stream_destroy(all->stream[i]);
    all->count = 0;
}

// Device memory of size_bytes, with 0xa5 in it and in the guard behind.
static inline void *
gpu_under_test_take(const pr_gpu_backend *gpu, pr_gpu_stream *stream, size_t size_bytes)
{
    void *memory = gpu->memory_take(size_bytes + GPU_GUARD_BYTES);
    if (!memory)
        fail_msg("%zu bytes: %s", size_bytes, gpu->error());
    assert_true(gpu->fill(memory, 0xa5, size_bytes + GPU_GUARD_BYTES, stream));
    return memory;
}

// The same with a copy of `from` in it.
static inline void *gpu_under_test_put(
    const pr_gpu_backend *gpu, pr_gpu_stream *stream, const void *from, size_t size_bytes)
{
    void *memory = gpu_under_test_take(gpu, stream, size_bytes);
    assert_true(gpu->copy(memory, from, size_bytes, stream));
    assert_true(gpu->wait(stream));
    return memory;
}

// Waits for the stream, copies to the host, and looks whether the guard is as it was.
static inline void gpu_under_test_get(
    const pr_gpu_backend *gpu,
    pr_gpu_stream *stream,
    void *to,
    const void *memory,
    size_t size_bytes)
{
    unsigned char guard[GPU_GUARD_BYTES], expected[GPU_GUARD_BYTES];
    memset(expected, 0xa5, sizeof(expected));
    assert_true(gpu->copy(to, memory, size_bytes, stream));
    assert_true(
        gpu->copy(guard, (const unsigned char *)memory + size_bytes, GPU_GUARD_BYTES, stream));
    if (!gpu->wait(stream))
        fail_msg("%s: %s", gpu->name, gpu->error());
    assert_memory_equal(guard, expected, GPU_GUARD_BYTES);
}

#endif
