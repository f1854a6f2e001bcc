// SPDX-License-Identifier: BSD-3-Clause
// The neon matmuls against the reference, bit by bit; built for aarch64 and run under an emulator by
// scripts/check_neon. Without cmocka, which is rarely there for a foreign machine.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_device.h"
#include "runtime/base/dtype.h"

enum { MOST_N = 81, MOST_COLS = 75, MOST_ROWS = 26 };

static float random_float(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) * 0x1p-52 - 1.0);
}

// scale_w, scale_x: exponents; small ones give sums around the smallest normal number.
typedef struct shape {
    pr_dtype dtype;
    int32_t n, cols, slices, scale_w, scale_x;
} shape;

static void fill(const shape *s, char *w, float *x)
{
    uint64_t seed = (uint64_t)(s->n * 1000 + s->cols);
    for (int i = 0; i < s->n * s->cols; i++) {
        float value = ldexpf(random_float(&seed), s->scale_w - i % 7);
        uint16_t half = pr_f32_to_bf16(value);
        if (s->dtype == PR_F16)  // any finite half, subnormals too
            half = (uint16_t)((seed >> 40) & 0xbfffu);
        if (s->dtype == PR_F32)
            memcpy(w + 4 * i, &value, 4);
        else
            memcpy(w + 2 * i, &half, 2);
    }
    for (int i = 0; i < MOST_ROWS * s->cols; i++)
        x[i] = ldexpf(random_float(&seed), s->scale_x - i % 5);
}

static int
multiply(const char *isa, const shape *s, int32_t rows, const char *w, const float *x, float *y)
{
    pr_device *device;
    pr_matrix *matrix;
    pr_matrix_source source = {
        .data = w,
        .dtype = s->dtype,
        .stride = s->cols,
        .row_end = s->n,
        .col_end = s->cols,
        .slices = s->slices,
    };
    if (pr_cpu_device_open(&(pr_cpu_device_params){.isa = isa, .threads = 1}, &device) != PR_OK ||
        device->reserve(device, MOST_ROWS, MOST_COLS, 1) != PR_OK ||
        device->matrix_create(device, &source, &matrix) != PR_OK)
        return 1;
    pr_matmul_args args = {.rows = rows, .x = x, .matrix = matrix, .y = y};
    device->matmul(device, &args, 1);
    device->matrix_destroy(device, matrix);
    pr_cpu_device_close(device);
    return 0;
}

// Rounds up to the smallest normal number: FZ alone would make it zero.
static int just_below_the_smallest_normal(void)
{
    static const shape s = {.dtype = PR_BF16, .n = 1, .cols = 2, .slices = 1};
    float x[] = {-0x1p-76f, 0x1p-63f}, y;
    uint16_t w[] = {pr_f32_to_bf16(0x1p-76f), pr_f32_to_bf16(0x1p-63f)};
    return multiply("neon", &s, 1, (const char *)w, x, &y) != 0 || y != 0x1p-126f;
}

int main(void)
{
    static const int32_t ns[] = {1, 15, 33, 48, 81}, depths[] = {1, 8, 13, 75};
    static char w[4 * MOST_N * MOST_COLS];
    static float x[MOST_ROWS * MOST_COLS], right[MOST_ROWS * MOST_N], y[MOST_ROWS * MOST_N];
    int failed = just_below_the_smallest_normal(), checked = 1;
    for (int i = 0; i < 5 * 4 * 4 * 4; i++) {
        int kind = i / 80, small = kind == 3;
        shape s = {
            .dtype = small ? PR_BF16 : (pr_dtype)kind,
            .n = ns[i % 5],
            .cols = depths[i / 5 % 4],
            .slices = 1 << (i / 20 % 4),
            .scale_w = small ? -55 : 0,
            .scale_x = small ? -69 : 0,
        };
        fill(&s, w, x);
        for (int32_t rows = 1; rows <= MOST_ROWS; rows += 1 + (rows > 7) * 3) {
            if (multiply("reference", &s, rows, w, x, right) + multiply("neon", &s, rows, w, x, y))
                return 1;
            failed += memcmp(right, y, sizeof(float) * (size_t)(rows * s.n)) != 0;
            checked++;
        }
    }
    printf("%d passed, %d failed\n", checked - failed, failed);
    return failed != 0;
}
