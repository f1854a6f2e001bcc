// SPDX-License-Identifier: BSD-3-Clause
// float32 weights: a thread per output, fma with k ascending in a slice, slices as a tree; the bits of the CPU's
// reference. For small test models: plain, not fast. A block makes 16 rows x 16 columns, chunks of K through shared
// memory. Source: ours.
#ifndef PR_GPU_MATRIX_MATMUL_PLAIN_CUH
#define PR_GPU_MATRIX_MATMUL_PLAIN_CUH

#include "kernels/gpu/matrix/matmul_order.cuh"

enum { PLAIN_SIDE = 16, PLAIN_THREADS = PLAIN_SIDE * PLAIN_SIDE, PLAIN_CHUNK = 32 };

struct plain_shared {
    float x[PLAIN_SIDE][PLAIN_CHUNK + 1];
    float weights[PLAIN_SIDE][PLAIN_CHUNK + 1];
};

// Row thread / 16 of the rows and of the weights (NULL: none), which this thread brings along.
struct plain_source {
    const float *x, *weights;
    int cols, slices;
};

// Output (thread / 16, thread % 16).
GPU_FUNCTION float plain_product(plain_shared &shared, const plain_source &source)
{
    int row = gpu_thread() / PLAIN_SIDE, column = gpu_thread() % PLAIN_SIDE;
    matmul_sums<1, true> sums;
    matmul_sums_begin(sums);
    for (int s = 0; s < source.slices; s++) {
        int begin = (int)((int64_t)source.cols * s / source.slices);
        int end = (int)((int64_t)source.cols * (s + 1) / source.slices);
        float sum = 0.0f;
        for (int k = begin; k < end; k += PLAIN_CHUNK) {
            int length = end - k < PLAIN_CHUNK ? end - k : PLAIN_CHUNK;
            for (int i = column; i < length; i += PLAIN_SIDE) {
                shared.x[row][i] = source.x ? source.x[k + i] : 0.0f;
                shared.weights[row][i] = source.weights ? source.weights[k + i] : 0.0f;
            }
            gpu_barrier();
            for (int i = 0; i < length; i++)
                sum = gpu_fma(shared.x[row][i], shared.weights[column][i], sum);
            gpu_barrier();
        }
        sums.value[0] = sum;
        matmul_sums_slice(sums, s + 1, source.slices);
    }
    return sums.value[0];
}

#endif
