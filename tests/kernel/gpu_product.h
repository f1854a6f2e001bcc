// SPDX-License-Identifier: BSD-3-Clause
// What tests of matrix products on GPUs share: random weights as the device holds them, and the order of additions of
// docs/kernels.md in plain C.
#ifndef PR_TESTS_KERNEL_GPU_PRODUCT_H
#define PR_TESTS_KERNEL_GPU_PRODUCT_H

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "runtime/base/dtype.h"
#include "tests/kernel/gpu_under_test.h"

enum { PRODUCT_SPAN = 512, PRODUCT_SLICES = 8 };

// Weights of one matrix on the host, [rows][cols] exact in bfloat16, and on the device.
typedef struct product_weights {
    float *value;  // NULL after product_weights_release
    pr_gpu_weights weights;
} product_weights;

static inline float product_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) * 0x1p-52 - 1.0);
}

static inline float product_bf16(float value) { return pr_bf16_to_f32(pr_f32_to_bf16(value)); }

static inline float *product_floats(size_t n, uint64_t seed)
{
    float *values = malloc((n + 1) * sizeof(float));
    assert_non_null(values);
    for (size_t i = 0; i < n; i++)
        values[i] = product_random(&seed);
    return values;
}

static inline int32_t product_padded(int32_t n, int32_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

// `matrices` of one shape, one after another, with zeros around each; weights.data is the first.
static inline product_weights product_weights_take(
    const pr_gpu_backend *gpu,
    pr_gpu_stream *stream,
    pr_gpu_weights shape,
    int32_t matrices,
    uint64_t seed)
{
    size_t tall = (size_t)product_padded(shape.rows, PR_GPU_PADDED_ROWS);
    size_t stride = (size_t)product_padded(shape.cols, PR_GPU_PADDED_COLS);
    size_t element = shape.is_bf16 ? 2 : 4, all = (size_t)matrices * tall * stride;
    size_t rows = (size_t)shape.rows, cols = (size_t)shape.cols;
    product_weights made = {product_floats((size_t)matrices * rows * cols, seed), shape};
    char *padded = calloc(all + 1, element);
    assert_non_null(padded);
    for (size_t i = 0; i < (size_t)matrices * rows * cols; i++) {
        size_t at = (i / cols / rows * tall + i / cols % rows) * stride + i % cols;
        uint16_t bits = pr_f32_to_bf16(made.value[i]);
        if (shape.is_bf16) {
            made.value[i] = pr_bf16_to_f32(bits);
            memcpy(padded + at * 2, &bits, 2);
        } else {
            memcpy(padded + at * 4, &made.value[i], 4);
        }
    }
    made.weights.stride = (int32_t)stride;
    made.weights.data = gpu_under_test_put(gpu, stream, padded, all * element);
    free(padded);
    return made;
}

static inline void product_weights_release(const pr_gpu_backend *gpu, product_weights *weights)
{
    gpu->memory_release((void *)(uintptr_t)weights->weights.data);
    free(weights->value);
    weights->value = NULL;
}

// One slice in the order of GPUs: spans from 0 by fma, k ascending, added ascending. float32: no spans.
static inline float
product_slice(const pr_gpu_weights *shape, const float *x, const float *w, int32_t k, int32_t end)
{
    int32_t step = shape->is_bf16 ? PRODUCT_SPAN : end - k;
    float slice = 0;
    while (k < end) {
        float span = 0;
        int32_t stop = end - k < step ? end : k + step;
        for (; k < stop; k++)
            span = fmaf(shape->is_bf16 ? product_bf16(x[k]) : x[k], w[k], span);
        slice = shape->is_bf16 ? slice + span : span;
    }
    return slice;
}

// x . w as an emulated GPU sums it, without bias.
static inline float product_sum(const pr_gpu_weights *shape, const float *x, const float *w)
{
    float tree[PRODUCT_SLICES];
    for (int32_t s = 0; s < shape->slices; s++)
        tree[s] = product_slice(
            shape, x, w, (int32_t)((int64_t)shape->cols * s / shape->slices),
            (int32_t)((int64_t)shape->cols * (s + 1) / shape->slices));
    for (int32_t half = shape->slices / 2; half > 0; half /= 2)
        for (int32_t s = 0; s < half; s++)
            tree[s] = tree[2 * s] + tree[2 * s + 1];
    return tree[0];
}

// y of `rows` on the device, copied to the host. count products of the same x.
static inline void product_run(
    const pr_gpu_backend *gpu,
    pr_gpu_stream *stream,
    pr_gpu_matmul_args *args,
    int32_t count,
    float *const *y)
{
    size_t rows = (size_t)args->rows;
    size_t scratch_bytes = gpu->operations->matmul_scratch_bytes(args->rows, args->weights.cols);
    void *x =
        gpu_under_test_put(gpu, stream, args->x, rows * (size_t)args->weights.cols * sizeof(float));
    void *scratch = gpu_under_test_take(gpu, stream, scratch_bytes);
    float *sums[PR_GPU_MATMUL_MOST];
    void *bias[PR_GPU_MATMUL_MOST] = {0};
    for (int32_t i = 0; i < count; i++) {
        size_t columns = (size_t)args[i].weights.rows;
        sums[i] = gpu_under_test_take(gpu, stream, rows * columns * sizeof(float));
        if (args[i].bias)
            bias[i] = gpu_under_test_put(gpu, stream, args[i].bias, columns * sizeof(float));
        args[i].x = x;
        args[i].bias = bias[i];
        args[i].scratch = scratch;
        args[i].y = sums[i];
    }
    gpu->operations->matmul(stream, args, count);
    for (int32_t i = 0; i < count; i++) {
        gpu_under_test_get(
            gpu, stream, y[i], sums[i], rows * (size_t)args[i].weights.rows * sizeof(float));
        gpu->memory_release(sums[i]);
        gpu->memory_release(bias[i]);
    }
    gpu->memory_release(x);
    gpu->memory_release(scratch);
}

static inline bool product_is_emulated(const pr_gpu_backend *gpu)
{
    return strncmp(gpu->name, "emulated", 8) == 0;
}

// The same bits where the order within a tile is known, else as near as float32 sums of n products are.
static inline void product_expect(const pr_gpu_backend *gpu, float got, float expected, int32_t n)
{
    if (product_is_emulated(gpu)) {
        assert_memory_equal(&got, &expected, sizeof(got));
        return;
    }
    if (!(fabsf(got - expected) <= 1e-6f * (float)(n + 8)))
        fail_msg("%s: %.9g where %.9g was expected", gpu->name, (double)got, (double)expected);
}

#endif
