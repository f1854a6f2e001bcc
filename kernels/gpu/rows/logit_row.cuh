// SPDX-License-Identifier: BSD-3-Clause
// One row of logits as the sampler sees it (runtime/sampling/sampler.c): NaN is -infinity, +infinity the largest finite
// float. Tokens rank by (logit descending, token ascending): a key of 64 bits that ascends along the ranking.
// A quad is four tokens at a multiple of 4; a block of PR_LOGIT_THREADS holds the lanes of a vocabulary sum, four a thread.
#ifndef PR_GPU_ROWS_LOGIT_ROW_CUH
#define PR_GPU_ROWS_LOGIT_ROW_CUH

#include "kernels/gpu/rows/row_vector.cuh"
#include "runtime/sampling/vocabulary_sum.h"

enum { PR_LOGIT_QUAD = 4, PR_LOGIT_THREADS = PR_VOCABULARY_LANES / PR_LOGIT_QUAD };

static const uint64_t PR_LOGIT_NO_KEY = ~(uint64_t)0;  // after all keys; 0 is before all

GPU_FUNCTION float pr_logit_row_impossible() { return gpu_from_bits(0xff800000u); }

GPU_FUNCTION float pr_logit_row_value(float logit)
{
    float most = gpu_from_bits(0x7f7fffffu);
    if (!(logit <= most))  // NaN or infinity
        return logit > most ? most : pr_logit_row_impossible();
    return logit;
}

// The upper half of a key; -0 counts as 0.
GPU_FUNCTION uint32_t pr_logit_row_rank_bits(float value)
{
    uint32_t bits = gpu_bits(value + 0.0f);
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

GPU_FUNCTION uint64_t pr_logit_row_key(float value, int32_t token)
{
    return (uint64_t)pr_logit_row_rank_bits(value) << 32 | (uint32_t)token;
}
GPU_FUNCTION int32_t pr_logit_row_token_of(uint64_t key) { return (int32_t)(uint32_t)key; }
GPU_FUNCTION float pr_logit_row_value_of(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);
    return gpu_from_bits(bits & 0x80000000u ? bits : ~bits & 0x7fffffffu);
}

struct pr_logit_quad {
    float value[PR_LOGIT_QUAD];
};

// Tokens from `token` on; those beyond the vocabulary are impossible. WIDE: rows are aligned to 16 bytes.
template <bool WIDE>
GPU_FUNCTION pr_logit_quad pr_logit_row_quad(const float *logits, int32_t token, int32_t vocabulary)
{
    pr_logit_quad quad;
    GPU_UNROLL
    for (int j = 0; j < PR_LOGIT_QUAD; j++)
        quad.value[j] = pr_logit_row_impossible();
    if constexpr (WIDE) {
        if (token < vocabulary) {
            pr_row_vector<PR_LOGIT_QUAD> v = pr_row_vector_load<PR_LOGIT_QUAD>(logits + token);
            GPU_UNROLL
            for (int j = 0; j < PR_LOGIT_QUAD; j++)
                quad.value[j] = pr_logit_row_value(v.value[j]);
        }
    } else {
        GPU_UNROLL
        for (int j = 0; j < PR_LOGIT_QUAD; j++) {
            if (token + j < vocabulary)
                quad.value[j] = pr_logit_row_value(logits[token + j]);
        }
    }
    return quad;
}

// ---- Of a block: every thread arrives and gets the result ----

struct pr_logit_shared {
    union {
        uint64_t key[PR_LOGIT_THREADS * 2 / GPU_WARP];
        double sum[PR_LOGIT_THREADS * 2 / GPU_WARP];
    };
};

GPU_FUNCTION uint64_t pr_logit_row_first_key(pr_logit_shared &shared, uint64_t key)
{
    GPU_UNROLL
    for (int step = 1; step < GPU_WARP; step *= 2) {
        uint64_t other = gpu_shuffle_xor(key, step);
        key = other < key ? other : key;
    }
    if (gpu_lane() == 0)
        shared.key[gpu_warp()] = key;
    gpu_barrier();
    for (int warp = 0; warp < gpu_threads() / GPU_WARP; warp++)
        key = shared.key[warp] < key ? shared.key[warp] : key;
    gpu_barrier();
    return key;
}

// The end of a chunk of a vocabulary sum: lanes 4 thread .. 4 thread + 3 are this thread's, of PR_LOGIT_THREADS.
GPU_FUNCTION double pr_logit_row_tree(pr_logit_shared &shared, const double (&lane)[PR_LOGIT_QUAD])
{
    double sum = (lane[0] + lane[1]) + (lane[2] + lane[3]);
    GPU_UNROLL
    for (int step = 1; step < GPU_WARP; step *= 2)
        sum = sum + gpu_shuffle_xor(sum, step);
    if (gpu_lane() == 0)
        shared.sum[gpu_warp()] = sum;
    gpu_barrier();
    double part[PR_LOGIT_THREADS / GPU_WARP];
    GPU_UNROLL
    for (int i = 0; i < PR_LOGIT_THREADS / GPU_WARP; i++)
        part[i] = shared.sum[i];
    GPU_UNROLL
    for (int step = 1; step < PR_LOGIT_THREADS / GPU_WARP; step *= 2) {
        GPU_UNROLL
        for (int i = 0; i < PR_LOGIT_THREADS / GPU_WARP; i += 2 * step)
            part[i] = part[i] + part[i + step];
    }
    gpu_barrier();
    return part[0];
}

#endif
