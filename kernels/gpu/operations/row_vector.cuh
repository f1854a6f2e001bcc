// SPDX-License-Identifier: BSD-3-Clause
// A few floats of a row at once, and how many threads a row gets. N is 4 (16 bytes at a time) where all rows are aligned
// to 16 bytes, else 1, by the same code and to the same bits.
#ifndef PR_GPU_OPERATIONS_ROW_VECTOR_CUH
#define PR_GPU_OPERATIONS_ROW_VECTOR_CUH

#include "kernels/gpu/language/gpu.cuh"

enum { PR_ROW_VECTOR = 4, PR_ROW_THREADS = 256 };

template <int N> struct pr_row_vector {
    float value[N];
};

template <int N> GPU_FUNCTION pr_row_vector<N> pr_row_vector_load(const float *from)
{
    pr_row_vector<N> v;
    if constexpr (N == PR_ROW_VECTOR) {
        gpu_bytes16 bytes = gpu_load16(from);
        GPU_UNROLL
        for (int i = 0; i < N; i++)
            v.value[i] = gpu_from_bits(bytes.word[i]);
    } else {
        GPU_UNROLL
        for (int i = 0; i < N; i++)
            v.value[i] = from[i];
    }
    return v;
}

template <int N> GPU_FUNCTION void pr_row_vector_store(float *to, const pr_row_vector<N> &v)
{
    if constexpr (N == PR_ROW_VECTOR) {
        gpu_bytes16 bytes;
        GPU_UNROLL
        for (int i = 0; i < N; i++)
            bytes.word[i] = gpu_bits(v.value[i]);
        gpu_store16(to, bytes);
    } else {
        GPU_UNROLL
        for (int i = 0; i < N; i++)
            to[i] = v.value[i];
    }
}

// ---- Host ----

static inline bool pr_row_vector_fits(const void *rows, int64_t row_floats)
{
    return (uintptr_t)rows % 16 == 0 && row_floats % PR_ROW_VECTOR == 0;
}

// Whole warps, enough for one item each, not more than a block's.
static inline unsigned pr_row_vector_threads(int64_t items)
{
    int64_t warps = (items + GPU_WARP - 1) / GPU_WARP;
    int64_t most = PR_ROW_THREADS / GPU_WARP;
    return (unsigned)((warps < 1 ? 1 : warps > most ? most : warps) * GPU_WARP);
}

#endif
