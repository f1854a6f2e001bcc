// SPDX-License-Identifier: BSD-3-Clause
// The kernels whose work is one pass over rows, on AVX-512.
#include <math.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/vector_avx512.h"

// Adds the 16 lanes as the reference does: neighbours, then pairs of neighbours, ...; a + b is b + a, so
// every lane holds the sum.
static float add_lanes(__m512 lanes)
{
    lanes = _mm512_add_ps(lanes, _mm512_permute_ps(lanes, _MM_SHUFFLE(2, 3, 0, 1)));
    lanes = _mm512_add_ps(lanes, _mm512_permute_ps(lanes, _MM_SHUFFLE(1, 0, 3, 2)));
    lanes = _mm512_add_ps(lanes, _mm512_shuffle_f32x4(lanes, lanes, _MM_SHUFFLE(2, 3, 0, 1)));
    lanes = _mm512_add_ps(lanes, _mm512_shuffle_f32x4(lanes, lanes, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm512_cvtss_f32(lanes);
}

static void add_row(float *x, const float *addend, int32_t n)
{
    for (int32_t i = 0; i < n; i += PR_WIDTH) {
        __mmask16 lanes = pr_lanes(n - i);
        __m512 sum = _mm512_add_ps(
            _mm512_maskz_loadu_ps(lanes, x + i), _mm512_maskz_loadu_ps(lanes, addend + i));
        _mm512_mask_storeu_ps(x + i, lanes, sum);
    }
}

static void rmsnorm(const pr_rmsnorm_args *args)
{
    int32_t n = args->hidden;
    for (int32_t t = 0; t < args->tokens; t++) {
        float *x = args->x + (size_t)t * (size_t)n;
        float *y = args->y + (size_t)t * (size_t)n;
        if (args->addend != NULL)
            add_row(x, args->addend + (size_t)t * (size_t)n, n);
        __m512 squares = _mm512_setzero_ps();
        for (int32_t i = 0; i < n; i += PR_WIDTH) {
            __m512 v = _mm512_maskz_loadu_ps(pr_lanes(n - i), x + i);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        float mean = add_lanes(squares) / (float)n;
        __m512 inverse = _mm512_set1_ps(1.0f / sqrtf(mean + args->epsilon));
        for (int32_t i = 0; i < n; i += PR_WIDTH) {
            __mmask16 lanes = pr_lanes(n - i);
            __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), inverse);
            __m512 weight = _mm512_maskz_loadu_ps(lanes, args->weight + i);
            _mm512_mask_storeu_ps(y + i, lanes, _mm512_mul_ps(scaled, weight));
        }
    }
}

static void swiglu(float *gates, const float *ups, int64_t elements)
{
    __m512 one = _mm512_set1_ps(1.0f), sign = _mm512_set1_ps(-0.0f);
    for (int64_t i = 0; i < elements; i += PR_WIDTH) {
        __mmask16 lanes = pr_lanes(elements - i);
        __m512 gate = _mm512_maskz_loadu_ps(lanes, gates + i);
        __m512 up = _mm512_maskz_loadu_ps(lanes, ups + i);
        __m512 e = pr_exp16(_mm512_xor_ps(gate, sign));
        __m512 silu = _mm512_div_ps(gate, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(gates + i, lanes, _mm512_mul_ps(silu, up));
    }
}

static void exponentials(const float *x, float shift, int32_t n, float *y)
{
    for (int32_t i = 0; i < n; i += PR_WIDTH) {
        __mmask16 lanes = pr_lanes(n - i);
        __m512 shifted = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, x + i), _mm512_set1_ps(shift));
        _mm512_mask_storeu_ps(y + i, lanes, pr_exp16(shifted));
    }
}

static void combine(const pr_combine_args *args)
{
    int32_t n = args->hidden;
    for (int32_t t = 0; t < args->tokens; t++) {
        size_t slot = (size_t)t * (size_t)args->chosen;
        const float *const *row = args->row + slot;
        for (int32_t i = 0; i < n; i += PR_WIDTH) {
            __mmask16 lanes = pr_lanes(n - i);
            __m512 y = _mm512_setzero_ps();
            for (int32_t k = 0; k < args->chosen; k++) {
                __m512 x = _mm512_maskz_loadu_ps(lanes, row[k] + i);
                y = _mm512_fmadd_ps(_mm512_set1_ps(args->weight[slot + (size_t)k]), x, y);
            }
            _mm512_mask_storeu_ps(args->y + (size_t)t * (size_t)n + i, lanes, y);
        }
    }
}

void pr_cpu_avx512_kernels(pr_cpu_kernels *kernels)
{
    kernels->matmul[PR_PACKED_F32] = &pr_matmul_float_avx512;
    kernels->matmul[PR_PACKED_BF16] = &pr_matmul_float_avx512;
    kernels->matmul[PR_PACKED_F16] = &pr_matmul_float_avx512;
    kernels->matmul[PR_PACKED_INT8] = &pr_matmul_quantized_avx2;
    kernels->matmul[PR_PACKED_INT4] = &pr_matmul_quantized_avx2;
    kernels->pack[PR_PACKED_F32] = pr_pack_f32_avx2;
    kernels->pack[PR_PACKED_BF16] = pr_pack_bf16_avx2;
    kernels->pack[PR_PACKED_F16] = pr_pack_f16_avx2;
    kernels->rmsnorm = rmsnorm;
    kernels->combine = combine;
    kernels->swiglu = swiglu;
    kernels->exponentials = exponentials;
    kernels->attend = pr_attend_avx512;
    kernels->rope_store = pr_rope_store_avx512;
}
