// SPDX-License-Identifier: BSD-3-Clause
// The kernels whose work is one pass over rows, on AVX2. Ends of rows that do not fill a vector are
// done in plain C with the same operations.
#include <math.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/vector_avx2.h"

// Adds the 8 lanes as the reference does: neighbours, then pairs of neighbours, ...
static float add_lanes(__m256 lanes)
{
    lanes = _mm256_add_ps(lanes, _mm256_permute_ps(lanes, _MM_SHUFFLE(2, 3, 0, 1)));
    lanes = _mm256_add_ps(lanes, _mm256_permute_ps(lanes, _MM_SHUFFLE(1, 0, 3, 2)));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
    return _mm_cvtss_f32(four);
}

static __m256 load_at_most_8(const float *x, int32_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_maskload_ps(x, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
}

static float sum_of_squares(const float *x, int32_t n)
{
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    int32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    __m256 a = load_at_most_8(x + i, n - i), b = load_at_most_8(x + i + 8, n - i - 8);
    low = _mm256_fmadd_ps(a, a, low);
    high = _mm256_fmadd_ps(b, b, high);
    return add_lanes(low) + add_lanes(high);
}

static void add_row(float *x, const float *addend, int32_t n)
{
    int32_t i = 0;
    for (; i + PR_WIDTH <= n; i += PR_WIDTH)
        _mm256_storeu_ps(x + i, _mm256_add_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(addend + i)));
    for (; i < n; i++)
        x[i] = x[i] + addend[i];
}

static void rmsnorm(const pr_rmsnorm_args *args)
{
    int32_t n = args->hidden;
    for (int32_t t = 0; t < args->tokens; t++) {
        float *x = args->x + (size_t)t * (size_t)n;
        float *y = args->y + (size_t)t * (size_t)n;
        if (args->addend != NULL)
            add_row(x, args->addend + (size_t)t * (size_t)n, n);
        float inverse = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + args->epsilon);
        int32_t i = 0;
        for (; i + PR_WIDTH <= n; i += PR_WIDTH) {
            __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inverse));
            _mm256_storeu_ps(y + i, _mm256_mul_ps(scaled, _mm256_loadu_ps(args->weight + i)));
        }
        for (; i < n; i++)
            y[i] = x[i] * inverse * args->weight[i];
    }
}

static void swiglu(float *gates, const float *ups, int64_t elements)
{
    __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    int64_t i = 0;
    for (; i + PR_WIDTH <= elements; i += PR_WIDTH) {
        __m256 gate = _mm256_loadu_ps(gates + i);
        __m256 e = pr_exp8(_mm256_xor_ps(gate, sign));
        __m256 silu = _mm256_div_ps(gate, _mm256_add_ps(one, e));
        _mm256_storeu_ps(gates + i, _mm256_mul_ps(silu, _mm256_loadu_ps(ups + i)));
    }
    for (; i < elements; i++)
        gates[i] = pr_silu(gates[i]) * ups[i];
}

static void exponentials(const float *x, float shift, int32_t n, float *y)
{
    int32_t i = 0;
    for (; i + PR_WIDTH <= n; i += PR_WIDTH) {
        __m256 shifted = _mm256_sub_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(shift));
        _mm256_storeu_ps(y + i, pr_exp8(shifted));
    }
    for (; i < n; i++)
        y[i] = pr_exp(x[i] - shift);
}

static void combine_row(const pr_combine_args *args, size_t t)
{
    size_t n = (size_t)args->hidden, chosen = (size_t)args->chosen, i = 0;
    const float *const *row = args->row + t * chosen, *weight = args->weight + t * chosen;
    float *y = args->y + t * n;
    for (; i + PR_WIDTH <= n; i += PR_WIDTH) {
        __m256 sum = _mm256_setzero_ps();
        for (size_t k = 0; k < chosen; k++) {
            __m256 x = _mm256_loadu_ps(row[k] + i);
            sum = _mm256_fmadd_ps(_mm256_set1_ps(weight[k]), x, sum);
        }
        _mm256_storeu_ps(y + i, sum);
    }
    for (; i < n; i++) {
        float sum = 0.0f;
        for (size_t k = 0; k < chosen; k++)
            sum = fmaf(weight[k], row[k][i], sum);
        y[i] = sum;
    }
}

static void combine(const pr_combine_args *args)
{
    for (size_t t = 0; t < (size_t)args->tokens; t++)
        combine_row(args, t);
}

void pr_cpu_avx2_kernels(pr_cpu_kernels *kernels)
{
    kernels->matmul[PR_PACKED_F32] = &pr_matmul_float_avx2;
    kernels->matmul[PR_PACKED_BF16] = &pr_matmul_float_avx2;
    kernels->matmul[PR_PACKED_F16] = &pr_matmul_float_avx2;
    kernels->matmul[PR_PACKED_INT8] = &pr_matmul_quantized_avx2;
    kernels->matmul[PR_PACKED_INT4] = &pr_matmul_quantized_avx2;
    kernels->pack[PR_PACKED_F32] = pr_pack_f32_avx2;
    kernels->pack[PR_PACKED_BF16] = pr_pack_bf16_avx2;
    kernels->pack[PR_PACKED_F16] = pr_pack_f16_avx2;
    kernels->rmsnorm = rmsnorm;
    kernels->combine = combine;
    kernels->swiglu = swiglu;
    kernels->exponentials = exponentials;
    kernels->attend = pr_attend_avx2;
    kernels->rope_store = pr_rope_store_avx2;
}
