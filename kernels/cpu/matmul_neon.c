// SPDX-License-Identifier: BSD-3-Clause
// Matmul on NEON: four vectors are one column of a panel (16 outputs), at most 24 sums stay in registers.
// A lane of x is a float; bfloat16 weights are pairs of columns, widened in registers by a mask or a
// shift, and the second column of a pair is added first.
//   bfloat16 runs with FPCR.FZ, which flushes what is denormal before rounding; the specification says
// after rounding. FPSR.UFC tells that anything was flushed: such a block is added again in plain C.
// Source: Arm ARM, A1.5.4 (flushing to zero).
#include <arm_neon.h>
#include <string.h>

#include "kernels/cpu/flushed.h"
#include "kernels/cpu/matmul_walk.h"

#define PR_INLINE static inline __attribute__((always_inline))

#define PASS_ROWS 6
enum { PANEL_VECTORS = 4, FETCH_ROWS = 4, MOST_VECTORS = PANEL_VECTORS * PR_MOST_PANELS };

typedef float32x4_t vector;
typedef vector sums[PASS_ROWS][MOST_VECTORS];

static const int8_t pass_panels[PASS_ROWS + 1] = {0, 4, 2, 2, 1, 1, 1};

PR_INLINE vector zero(void) { return vdupq_n_f32(0.0f); }

PR_INLINE void store(float *to, vector x) { vst1q_f32(to, x); }

// ---- A pass ------------------------------------------------------------------------------------

PR_INLINE int lanes_of(pr_dtype dtype) { return dtype == PR_BF16 ? 2 : 1; }

PR_INLINE int bytes_of(pr_dtype dtype) { return dtype == PR_F16 ? 32 : 64; }

PR_INLINE void add_column(const float *x, int rows, int vectors, const float32x4_t *w, sums sum)
{
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vfmaq_n_f32(sum[r][v], w[v], x[r]);
    }
}

PR_INLINE float32x4_t load_column(pr_dtype dtype, const char *const *panel, int v)
{
    const char *at = panel[v / 4] + v % 4 * (dtype == PR_F16 ? 8 : 16);
    if (dtype == PR_F16)
        return vcvt_f32_f16(vld1_f16((const float16_t *)(const void *)at));
    return vld1q_f32((const float *)(const void *)at);
}

PR_INLINE void
add_step(pr_dtype dtype, const float *x, int rows, int vectors, const char *const *panel, sums sum)
{
    float32x4_t w[MOST_VECTORS], half[MOST_VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++)
        w[v] = load_column(dtype, panel, v);
    if (dtype != PR_BF16) {
        add_column(x, rows, vectors, w, sum);
        return;
    }
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++)
        half[v] =
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(w[v]), vdupq_n_u32(0xffff0000u)));
    add_column(x + rows, rows, vectors, half, sum);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; v++)
        half[v] = vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(w[v]), 16));
    add_column(x, rows, vectors, half, sum);
}

#include "kernels/cpu/matmul_pass.h"

static void pass_bf16_exactly(const pr_pass *pass, float *sum)
{
    for (int32_t r = 0; r < pass->rows; r++) {
        for (int32_t n = 0; n < pass->panels * PR_PANEL; n++) {
            const char *panel = pass->weights + (size_t)(n / PR_PANEL) * pass->panel_bytes;
            const float *x = pass->x + r;
            float y = 0.0f;
            for (int64_t step = 0; step < pass->steps; step++, x += 2 * pass->rows) {
                size_t pair = 2 * ((size_t)step * PR_PANEL + (size_t)(n % PR_PANEL));
                y = pr_flushed_fma(x[pass->rows], pr_dtype_load(PR_BF16, panel, pair + 1), y);
                y = pr_flushed_fma(x[0], pr_dtype_load(PR_BF16, panel, pair), y);
            }
            sum[r * pass->panels * PR_PANEL + n] = y;
        }
    }
}

static void pass_bf16(const pr_pass *pass, float *sum)
{
    const uint64_t FZ = UINT64_C(1) << 24, UFC = UINT64_C(1) << 3;
    uint64_t control, flags, flags_after;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(control), "=r"(flags) : : "memory");
    __asm__ volatile("msr fpsr, %0\n\tmsr fpcr, %1"
                     :
                     : "r"(flags & ~UFC), "r"(control | FZ)
                     : "memory");
    pass_bf16_flushed(pass, sum);
    __asm__ volatile("mrs %0, fpsr" : "=r"(flags_after) : : "memory");
    __asm__ volatile("msr fpsr, %0\n\tmsr fpcr, %1" : : "r"(flags), "r"(control) : "memory");
    if ((flags_after & UFC) != 0)
        pass_bf16_exactly(pass, sum);
}

// ---- Rounding rows -----------------------------------------------------------------------------

static void copy_lanes(const float *x, int64_t count, float *lane)
{
    memcpy(lane, x, (size_t)count * sizeof(float));
}

static void round_bf16(const float *x, int64_t count, float *lane)
{
    for (int64_t k = 0; k < count; k++)
        lane[k] = pr_bf16_to_f32(pr_f32_to_bf16(pr_flushed(x[k])));
}

static void interleave(const float *const *lane, int32_t rows, int64_t count, float *prepared)
{
    for (int32_t r = 0; r < rows; r++) {
        for (int64_t j = 0; j < count; j++)
            prepared[j * rows + r] = lane[r][j];
    }
}

// ---- Kernels -----------------------------------------------------------------------------------

static const pr_walk walks[] = {
    [PR_PACKED_F32] = {pass_f32, copy_lanes, interleave, pass_panels, 1, 1, 64, 6, PASS_ROWS},
    [PR_PACKED_BF16] = {pass_bf16, round_bf16, interleave, pass_panels, 1, 2, 64, 3, PASS_ROWS},
    [PR_PACKED_F16] = {pass_f16, copy_lanes, interleave, pass_panels, 1, 1, 32, 3, PASS_ROWS},
};

#include "kernels/cpu/matmul_kernels.h"

static const pr_matmul_kernel floats = {row_bytes, prepare, multiply};

void pr_cpu_neon_kernels(pr_cpu_kernels *kernels)
{
    kernels->matmul[PR_PACKED_F32] = &floats;
    kernels->matmul[PR_PACKED_BF16] = &floats;
    kernels->matmul[PR_PACKED_F16] = &floats;
}
