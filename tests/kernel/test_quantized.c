// SPDX-License-Identifier: BSD-3-Clause
#include "devices.h"

#include <math.h>

static const pr_quantization kinds[] = {PR_QUANTIZATION_INT8, PR_QUANTIZATION_INT4};

static int32_t block_of(pr_quantization kind) { return kind == PR_QUANTIZATION_INT8 ? 64 : 32; }

static pr_matrix_source
whole(const void *data, pr_quantization kind, int64_t rows, int64_t cols, int32_t slices)
{
    return (pr_matrix_source){
        .data = data,
        .dtype = PR_F32,
        .stride = cols,
        .row_end = rows,
        .col_end = cols,
        .slices = slices,
        .quantization = kind,
    };
}

static pr_matrix *pack(pr_device *device, const pr_matrix_source *source)
{
    pr_matrix *matrix;
    assert_int_equal(device->matrix_create(device, source, &matrix), PR_OK);
    return matrix;
}

static void
multiply(pr_device *device, const pr_matrix_source *source, const float *x, int32_t rows, float *y)
{
    pr_matrix *matrix = pack(device, source);
    pr_matmul_args args = {.rows = rows, .x = x, .matrix = matrix, .y = y};
    device->matmul(device, &args, 1);
    device->matrix_destroy(device, matrix);
}

// y of every device, for one shape, must be the reference's.
static void compare(const devices *all, const pr_matrix_source *source, const float *x)
{
    enum { MOST_ROWS = 61 };
    int64_t n = source->row_end;
    float *bias = random_floats((size_t)n, 8);
    pr_matrix *matrix[MAX_DEVICES];
    for (int i = 0; i < all->count; i++)
        matrix[i] = pack(all->device[i], source);
    for (int32_t rows = 0; rows <= MOST_ROWS; rows += 1 + (rows > 13) * 9) {
        size_t size = (size_t)(rows * n);
        float *right = guarded_floats(size), *y = guarded_floats(size);
        pr_matmul_args args = {.rows = rows, .x = x, .bias = rows % 2 ? bias : NULL};
        for (int i = 0; i < all->count; i++) {
            args.matrix = matrix[i];
            args.y = i == 0 ? right : y;
            all->device[i]->matmul(all->device[i], &args, 1);
            if (i > 0)
                assert_same_bits(right, y, size);
        }
        free(right);
        free(y);
    }
    for (int i = 0; i < all->count; i++)
        all->device[i]->matrix_destroy(all->device[i], matrix[i]);
    free(bias);
}

static void every_device_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 15, 16, 17, 31, 33, 61};
    static const int64_t depths[] = {0, 1, 7, 31, 32, 33, 63, 64, 65, 101, 131, 264, 512};
    devices all = open_devices();
    float *data = random_floats(61 * 512, 1), *x = random_floats(61 * 512, 7);
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            for (size_t j = 0; j < sizeof(depths) / sizeof(depths[0]); j++) {
                int32_t slices = 1 << ((i + j + t) % 4);
                pr_matrix_source source = whole(data, kinds[t], sizes[i], depths[j], slices);
                compare(&all, &source, x);
            }
        }
    }
    free(data);
    free(x);
    close_devices(&all);
}

// Any half, any bfloat16 below 2, subnormal ones too, an infinity and a NaN.
static void stored_types_that_hold_the_same_numbers_are_quantised_alike(void **state)
{
    (void)state;
    enum { N = 21, COLS = 90, ROWS = 3 };
    static const pr_dtype dtypes[] = {PR_BF16, PR_F16};
    devices all = open_devices();
    float wide[N * COLS], *x = random_floats(ROWS * COLS, 2), right[ROWS * N], y[ROWS * N];
    uint16_t stored[N * COLS];
    uint64_t seed = 3;
    for (int t = 0; t < 4; t++) {
        uint16_t infinity = dtypes[t / 2] == PR_F16 ? 0x7c00 : 0x7f80;
        uint16_t bits = dtypes[t / 2] == PR_F16 ? 0xffff : 0xbfff;
        for (int i = 0; i < N * COLS; i++) {
            (void)random_float(&seed);
            stored[i] = (uint16_t)((seed >> 40) & (i % 8 == 0 ? 0x83ff : bits));
            if (i == 5 * COLS + 3 || i == 9 * COLS + 88)
                stored[i] = (uint16_t)(infinity + i % 2);
            else if ((stored[i] & infinity) == infinity)
                stored[i] = 0x8001;
            wide[i] = pr_dtype_load(dtypes[t / 2], stored, (size_t)i);
        }
        pr_matrix_source source = whole(wide, kinds[t % 2], N, COLS, 1);
        multiply(all.device[0], &source, x, ROWS, right);
        source.dtype = dtypes[t / 2];
        source.data = stored;
        multiply(all.device[0], &source, x, ROWS, y);
        assert_memory_equal(right, y, sizeof y);
        assert_true(isfinite(y[4]) && !isfinite(y[5]) && !isfinite(y[9]) && y[4] != 0);
    }
    free(x);
    close_devices(&all);
}

// int8 by the words of docs/kernels.md, from the stored weights, without packing.
static float written_out(const float *w, const float *x, int32_t cols)
{
    float y = 0;
    for (int32_t begin = 0; begin < cols; begin += 64) {
        int32_t end = begin + 64 < cols ? begin + 64 : cols, sum = 0;
        float most_w = 0, most_x = 0;
        for (int32_t k = begin; k < end; k++) {
            most_w = fmaxf(most_w, fabsf(w[k]));
            most_x = fmaxf(most_x, fabsf(x[k]));
        }
        float w_scale = pr_bf16_to_f32(pr_f32_to_bf16(most_w / 127)), x_scale = most_x / 127;
        for (int32_t k = begin; k < end; k++) {
            float q = rintf(w[k] * (1 / w_scale));
            q = q > 127 ? 127 : q < -127 ? -127 : q;
            sum += (int32_t)q * (int32_t)rintf(x[k] * (127 / most_x));
        }
        y = fmaf((float)sum, w_scale * x_scale, y);
    }
    return y;
}

static void the_reference_is_what_the_specification_says(void **state)
{
    (void)state;
    enum { N = 35, COLS = 203, ROWS = 3 };
    devices all = open_devices();
    float *data = random_floats(N * COLS, 3), *x = random_floats(ROWS * COLS, 4), y[ROWS * N];
    pr_matrix_source source = whole(data, PR_QUANTIZATION_INT8, N, COLS, 1);
    multiply(all.device[0], &source, x, ROWS, y);
    for (int m = 0; m < ROWS; m++) {
        for (int n = 0; n < N; n++) {
            float right = written_out(data + n * COLS, x + m * COLS, COLS);
            assert_memory_equal(&right, &y[m * N + n], sizeof right);
        }
    }
    free(data);
    free(x);
    close_devices(&all);
}

// A row with a single one gives back a column of the weights as they were quantised.
static void quantised_weights_are_as_near_as_their_bits_allow(void **state)
{
    (void)state;
    enum { N = 40, COLS = 96 };
    devices all = open_devices();
    float *data = random_floats(N * COLS, 5), *x = calloc(COLS * COLS, sizeof(float));
    float *y = guarded_floats(COLS * N);
    assert_non_null(x);
    for (int k = 0; k < COLS; k++)
        x[k * COLS + k] = 1;
    for (int t = 0; t < 2; t++) {
        double worst = 0, squares = 0, error_squares = 0;
        pr_matrix_source source = whole(data, kinds[t], N, COLS, 1);
        multiply(all.device[0], &source, x, COLS, y);
        for (int k = 0; k < COLS; k++) {
            for (int n = 0; n < N; n++) {
                double w = (double)data[n * COLS + k], error = (double)y[k * N + n] - w;
                worst = fmax(worst, fabs(error));
                squares += w * w;
                error_squares += error * error;
            }
        }
        print_message(
            "relative error of %s: %.4f\n", t ? "int4" : "int8", sqrt(error_squares / squares));
        assert_true(worst < (t ? 1.1 / 7 : 0.51 / 127));
        assert_true(sqrt(error_squares / squares) < (t ? 0.075 : 0.0045));
    }
    free(data);
    free(x);
    free(y);
    close_devices(&all);
}

// Sums of products at the ends of their range, where 16 bits would overflow.
static void extreme_values_are_added_exactly(void **state)
{
    (void)state;
    enum { N = 17, COLS = 512, ROWS = 61 };
    devices all = open_devices();
    float *data = calloc(N * COLS, sizeof(float)), *x = calloc(ROWS * COLS, sizeof(float));
    assert_true(data != NULL && x != NULL);
    for (int pattern = 0; pattern < 5; pattern++) {
        for (int i = 0; i < N * COLS; i++)
            data[i] =
                pattern == 1 || (pattern == 2 && i % 2) || (pattern == 3 && i % 7 == 3) ? -1 : 1;
        for (int i = 0; i < ROWS * COLS; i++)
            x[i] = pattern == 4 ? 0 : pattern == 3 && i % 5 == 1 ? -1 : 1;
        for (int t = 0; t < 2; t++) {
            pr_matrix_source source = whole(data, kinds[t], N, COLS, 1 << pattern % 4);
            compare(&all, &source, x);
            float y[N];
            multiply(all.device[0], &source, x, 1, y);
            if (pattern < 2)
                assert_true(fabsf(fabsf(y[0]) - COLS) < 2.5f);
        }
    }
    for (int i = 0; i < N * COLS; i++)
        data[i] = i % 97 == 5 ? 1000 : i % 2 ? 1e-3f : -1e-38f;
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = i % 101 == 9 ? -3e37f : i % 3 ? 1e-39f : 0.5f;
    for (int t = 0; t < 2; t++) {
        pr_matrix_source source = whole(data, kinds[t], N, COLS, 1);
        compare(&all, &source, x);
    }
    free(data);
    free(x);
    close_devices(&all);
}

static void unusable_numbers_stay_in_their_rows_and_outputs(void **state)
{
    (void)state;
    enum { N = 20, COLS = 150, ROWS = 9, BAD_ROW = 4, BAD_OUTPUT = 17 };
    static const float unusable[] = {NAN, INFINITY, -INFINITY};
    devices all = open_devices();
    float *data = random_floats(N * COLS, 3), *x = random_floats(ROWS * COLS, 4);
    float clean[ROWS * N], y[ROWS * N];
    for (int i = 0; i < all.count * 6; i++) {
        pr_device *device = all.device[i / 6];
        pr_matrix_source source = whole(data, kinds[i % 2], N, COLS, 2);
        float bad = unusable[i / 2 % 3];
        multiply(device, &source, x, ROWS, clean);
        float kept_x = x[BAD_ROW * COLS + 70], kept_w = data[BAD_OUTPUT * COLS + 149];
        x[BAD_ROW * COLS + 70] = bad;
        data[BAD_OUTPUT * COLS + 149] = bad;
        multiply(device, &source, x, ROWS, y);
        for (int m = 0; m < ROWS; m++) {
            for (int n = 0; n < N; n++) {
                if (m == BAD_ROW || n == BAD_OUTPUT)
                    assert_false(isfinite(y[m * N + n]));
                else
                    assert_memory_equal(&clean[m * N + n], &y[m * N + n], sizeof(float));
            }
        }
        x[BAD_ROW * COLS + 70] = kept_x;
        data[BAD_OUTPUT * COLS + 149] = kept_w;
    }
    free(data);
    free(x);
    close_devices(&all);
}

// What tensor parallelism does: tp parts of the columns, 8 / tp slices each, added as a tree.
static void cutting_columns_over_ranks_does_not_change_a_bit(void **state)
{
    (void)state;
    enum { N = 37, COLS = 8 * 43, ROWS = 5, SIZE = ROWS * N };
    devices all = open_devices();
    float *data = random_floats(N * COLS, 5), *x = random_floats(ROWS * COLS, 6);
    for (int i = 0; i < all.count * 2; i++) {
        pr_device *device = all.device[i / 2];
        float right[SIZE], branch[8][SIZE];
        pr_matrix_source source = whole(data, kinds[i % 2], N, COLS, PR_SLICES);
        multiply(device, &source, x, ROWS, right);
        for (int tp = 2; tp <= 8; tp *= 2) {
            int cols = COLS / tp;
            for (int r = 0; r < tp; r++) {
                float part[ROWS * COLS];
                source.col_begin = r * cols;
                source.col_end = (r + 1) * cols;
                source.slices = PR_SLICES / tp;
                for (int m = 0; m < ROWS; m++)
                    memcpy(part + m * cols, x + m * COLS + r * cols, (size_t)cols * 4);
                multiply(device, &source, part, ROWS, branch[r]);
            }
            for (int step = 1; step < tp; step *= 2) {
                for (int r = 0; r < tp; r += 2 * step) {
                    for (int j = 0; j < SIZE; j++)
                        branch[r][j] += branch[r + step][j];
                }
            }
            assert_memory_equal(branch[0], right, sizeof right);
        }
    }
    free(data);
    free(x);
    close_devices(&all);
}

static void cutting_outputs_over_ranks_does_not_change_a_bit(void **state)
{
    (void)state;
    enum { N = 48, COLS = 70, ROWS = 3 };
    devices all = open_devices();
    float *data = random_floats(N * COLS, 5), *x = random_floats(ROWS * COLS, 6);
    for (int t = 0; t < 2; t++) {
        float right[ROWS * N], part[ROWS * N / 2];
        pr_matrix_source source = whole(data, kinds[t], N, COLS, 1);
        multiply(all.device[0], &source, x, ROWS, right);
        for (int r = 0; r < 2; r++) {
            source.row_begin = r * N / 2;
            source.row_end = (r + 1) * N / 2;
            multiply(all.device[0], &source, x, ROWS, part);
            for (int m = 0; m < ROWS; m++)
                assert_memory_equal(
                    part + m * N / 2, right + m * N + r * N / 2, N / 2 * sizeof(float));
        }
    }
    free(data);
    free(x);
    close_devices(&all);
}

static void matrices_take_the_bytes_that_plan_counts(void **state)
{
    (void)state;
    devices all = open_devices();
    for (int t = 0; t < 2; t++) {
        size_t block = t == 0 ? 64 * 16 + 32 : 32 * 16 / 2 + 32;
        size_t bytes = all.device[0]->matrix_bytes(33, 256, PR_BF16, kinds[t]);
        size_t lines = ((size_t)(256 / block_of(kinds[t])) * block + 63) / 64 | 1;
        assert_int_equal(bytes, 3 * lines * 64);
    }
    close_devices(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_device_gives_the_bits_of_the_reference),
        cmocka_unit_test(stored_types_that_hold_the_same_numbers_are_quantised_alike),
        cmocka_unit_test(the_reference_is_what_the_specification_says),
        cmocka_unit_test(quantised_weights_are_as_near_as_their_bits_allow),
        cmocka_unit_test(extreme_values_are_added_exactly),
        cmocka_unit_test(unusable_numbers_stay_in_their_rows_and_outputs),
        cmocka_unit_test(cutting_columns_over_ranks_does_not_change_a_bit),
        cmocka_unit_test(cutting_outputs_over_ranks_does_not_change_a_bit),
        cmocka_unit_test(matrices_take_the_bytes_that_plan_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
