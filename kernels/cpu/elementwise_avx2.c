// SPDX-License-Identifier: BSD-3-Clause
// The kernels whose work is one pass over rows, on AVX2. Ends of rows that do not fill a vector are
// done in plain C with the same operations.
#include <math.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/vector_avx2.h"

static float sum_of_squares(const float *x, int32_t n)
{
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    int32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + 8);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    float lane[16];
    _mm256_storeu_ps(lane, low);
    _mm256_storeu_ps(lane + 8, high);
    for (; i < n; i++)
        lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    for (int step = 1; step < 16; step *= 2) {
        for (int j = 0; j < 16; j += 2 * step)
            lane[j] = lane[j] + lane[j + step];
    }
    return lane[0];
}

static void rmsnorm(pr_device *device, const pr_rmsnorm_args *args)
{
    (void)device;
    int32_t n = args->hidden;
    for (int32_t t = 0; t < args->tokens; t++) {
        const float *x = args->x + (size_t)t * (size_t)n;
        float *y = args->y + (size_t)t * (size_t)n;
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

static void swiglu(pr_device *device, const pr_swiglu_args *args)
{
    (void)device;
    __m256 one = _mm256_set1_ps(1.0f), sign = _mm256_set1_ps(-0.0f);
    int64_t i = 0;
    for (; i + PR_WIDTH <= args->elements; i += PR_WIDTH) {
        __m256 gate = _mm256_loadu_ps(args->gate + i);
        __m256 e = pr_exp8(_mm256_xor_ps(gate, sign));
        __m256 silu = _mm256_div_ps(gate, _mm256_add_ps(one, e));
        _mm256_storeu_ps(args->out + i, _mm256_mul_ps(silu, _mm256_loadu_ps(args->up + i)));
    }
    for (; i < args->elements; i++)
        args->out[i] = pr_silu(args->gate[i]) * args->up[i];
}

static void combine_row(const pr_combine_args *args, size_t t)
{
    size_t n = (size_t)args->hidden, chosen = (size_t)args->chosen, i = 0;
    const float *rows = args->rows + t * chosen * n, *weight = args->weight + t * chosen;
    float *y = args->y + t * n;
    for (; i + PR_WIDTH <= n; i += PR_WIDTH) {
        __m256 sum = _mm256_setzero_ps();
        for (size_t k = 0; k < chosen; k++) {
            __m256 row = _mm256_loadu_ps(rows + k * n + i);
            sum = _mm256_fmadd_ps(_mm256_set1_ps(weight[k]), row, sum);
        }
        _mm256_storeu_ps(y + i, sum);
    }
    for (; i < n; i++) {
        float sum = 0.0f;
        for (size_t k = 0; k < chosen; k++)
            sum = fmaf(weight[k], rows[k * n + i], sum);
        y[i] = sum;
    }
}

static void combine(pr_device *device, const pr_combine_args *args)
{
    (void)device;
    for (size_t t = 0; t < (size_t)args->tokens; t++)
        combine_row(args, t);
}

void pr_cpu_avx2_kernels(pr_device *device)
{
    device->rmsnorm = rmsnorm;
    device->matmul = pr_matmul_avx2;
    device->attention = pr_attention_avx2;
    device->swiglu = swiglu;
    device->combine = combine;
}
