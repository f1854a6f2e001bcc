// SPDX-License-Identifier: BSD-3-Clause
// A few floats of a row at once, and how many threads a row gets. N is 4 (16 bytes at a time) where all rows are aligned
// to 16 bytes, else 1, by the same code and to the same bits.
#ifndef PR_GPU_ROWS_ROW_VECTOR_CUH
#define PR_GPU_ROWS_ROW_VECTOR_CUH

#include "kernels/gpu/language/gpu.cuh"

enum { PR_ROW_VECTOR = 4, PR_ROW_THREADS = 256, PR_ROW_TURN = 4 };

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

// What a thread has in flight at once: vectors at first, first + step, .. before end. Loads that are all begun before the
// first store wait for memory once.
template <int N> struct pr_row_turn {
    pr_row_vector<N> part[PR_ROW_TURN];
};

template <int N>
GPU_FUNCTION pr_row_turn<N> pr_row_turn_load(const float *row, int32_t first, int32_t end)
{
    pr_row_turn<N> turn = {};
    GPU_UNROLL
    for (int i = 0; i < PR_ROW_TURN; i++) {
        int32_t at = first + i * gpu_threads() * N;
        if (at < end)
            turn.part[i] = pr_row_vector_load<N>(row + at);
    }
    return turn;
}

template <int N>
GPU_FUNCTION void
pr_row_turn_store(float *row, int32_t first, int32_t end, const pr_row_turn<N> &turn)
{
    GPU_UNROLL
    for (int i = 0; i < PR_ROW_TURN; i++) {
        int32_t at = first + i * gpu_threads() * N;
        if (at < end)
            pr_row_vector_store<N>(row + at, turn.part[i]);
    }
}

template <int N>
GPU_FUNCTION void pr_row_turn_add(pr_row_turn<N> &turn, const pr_row_turn<N> &addend)
{
    GPU_UNROLL
    for (int i = 0; i < PR_ROW_TURN; i++) {
        GPU_UNROLL
        for (int j = 0; j < N; j++)
            turn.part[i].value[j] = turn.part[i].value[j] + addend.part[i].value[j];
    }
}

// Of this thread, and to the next turn.
template <int N> GPU_FUNCTION int32_t pr_row_turn_first() { return gpu_thread() * N; }
template <int N> GPU_FUNCTION int32_t pr_row_turn_step() { return PR_ROW_TURN * gpu_threads() * N; }

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
