// SPDX-License-Identifier: BSD-3-Clause
// Small kernels, one for each thing a kernel may use (kernels/gpu/language), as host functions of a test's back end.
#ifndef PR_TESTS_KERNEL_LANGUAGE_KERNELS_H
#define PR_TESTS_KERNEL_LANGUAGE_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/gpu/gpu_stream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LANGUAGE_THREADS = 256,
    LANGUAGE_BLOCKS = 4,     // of those that wait for each other
    LANGUAGE_TILE_ROWS = 32  // two tiles
};

// What is left out of `sum` to see it fail.
typedef enum language_fault {
    LANGUAGE_NO_FAULT,
    LANGUAGE_NO_BARRIER,     // before other threads' values are read
    LANGUAGE_NO_COPY_WAIT,   // before copied values are read
    LANGUAGE_THREAD_ENDS,    // one thread, before a barrier
    LANGUAGE_THREAD_PARTS,   // one thread, to another barrier
    LANGUAGE_BEYOND_SHARED,  // a write
} language_fault;

typedef struct language_kernels {
    // sum[block] of LANGUAGE_THREADS values each, as a tree in shared memory.
    void (*sum)(
        pr_gpu_stream *stream,
        int32_t blocks,
        const float *values,
        float *sum,
        language_fault fault);
    // For each thread: the value of lane + 1 around its warp, of lane ^ 1, of the lane below; the ballot of odd lanes.
    void (*lanes)(
        pr_gpu_stream *stream,
        const uint64_t *value,
        uint64_t *next,
        uint64_t *other,
        uint64_t *below,
        uint64_t *odd);
    // to = from, by copies of 16 bytes in two commits.
    void (*copy)(pr_gpu_stream *stream, const float *from, float *to);
    // Blocks pass a token around, rounds times; false: they do not fit.
    bool (*ring)(pr_gpu_stream *stream, int32_t blocks, uint32_t *token, uint32_t rounds);
    // Waits until *flag is at least `value`, at most 20 s (then *late = 1), and sets *answer to it.
    void (*answer)(
        pr_gpu_stream *stream,
        const uint32_t *flag,
        uint32_t value,
        uint32_t *answer,
        uint32_t *late);
    void (*increment)(pr_gpu_stream *stream, uint32_t *counter);
    // c[32][32] = a[32][k] b[32][k]^T, bfloat16, k a multiple of 16; then again = bfloat16(c)[32][0..15] b[32][0..15]^T.
    void (*tiles)(
        pr_gpu_stream *stream,
        const uint16_t *a,
        const uint16_t *b,
        int32_t k,
        float *c,
        float *again);
    void (*numbers)(
        pr_gpu_stream *stream,
        int32_t count,
        const float *x,
        float *exp,
        float *sqrt,
        uint32_t *pair);
    void (*too_large)(pr_gpu_stream *stream);  // a block of 4096 threads
    void (*shuffle)(uint64_t seed);            // of the emulation; NULL elsewhere
} language_kernels;

const language_kernels *language_kernels_table(void);
typedef const language_kernels *language_kernels_function(void);

#ifdef __cplusplus
}
#endif

#endif
