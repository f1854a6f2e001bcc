// SPDX-License-Identifier: BSD-3-Clause
#include "devices.h"

#include <math.h>

static const pr_dtype dtypes[] = {PR_F32, PR_BF16, PR_F16};

// A stored matrix [rows][stride] of the dtype.
static void *random_matrix(pr_dtype dtype, int64_t rows, int64_t stride, uint64_t seed)
{
    size_t n = (size_t)(rows * stride), bytes = pr_dtype_bytes(dtype);
    char *data = malloc(n * bytes + 1);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++) {
        float value = random_float(&seed);
        if (dtype == PR_F32) {
            memcpy(data + 4 * i, &value, 4);
            continue;
        }
        uint16_t bits = pr_f32_to_bf16(value);
        if (dtype == PR_F16)  // any finite half, subnormals too
            bits = (uint16_t)((seed >> 40) & 0xbfffu);
        memcpy(data + 2 * i, &bits, 2);
    }
    return data;
}

static pr_matrix *whole_matrix(
    pr_device *device, const void *data, pr_dtype dtype, int64_t rows, int64_t cols, int32_t slices)
{
    pr_matrix_source source = {
        .data = data,
        .dtype = dtype,
        .stride = cols,
        .row_end = rows,
        .col_end = cols,
        .slices = slices,
    };
    pr_matrix *matrix;
    assert_int_equal(device->matrix_create(device, &source, &matrix), PR_OK);
    return matrix;
}

// y of every device, for one shape, must be the reference's.
static void compare(const devices *all, pr_dtype dtype, int64_t n, int64_t cols, int32_t slices)
{
    enum { MOST_ROWS = 61 };
    void *data = random_matrix(dtype, n, cols, (uint64_t)(n * 1000 + cols));
    float *x = random_floats((size_t)(MOST_ROWS * cols), 7);
    float *bias = random_floats((size_t)n, 8);
    pr_matrix *matrix[MAX_DEVICES];
    for (int i = 0; i < all->count; i++)
        matrix[i] = whole_matrix(all->device[i], data, dtype, n, cols, slices);
    for (int32_t rows = 0; rows <= MOST_ROWS; rows += 1 + (rows > 20) * 3) {
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
    free(data);
    free(x);
    free(bias);
}

static void every_device_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 61, 64, 97, 131};
    static const int64_t depths[] = {1, 3, 8, 13, 64, 101};
    devices all = open_devices();
    for (size_t t = 0; t < 3; t++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            for (size_t j = 0; j < sizeof(depths) / sizeof(depths[0]); j++) {
                int32_t slices = 1 << ((i + j + t) % 4);
                compare(&all, dtypes[t], sizes[i], depths[j], slices);
            }
        }
    }
    close_devices(&all);
}

static void no_outputs_and_no_columns_are_allowed(void **state)
{
    (void)state;
    devices all = open_devices();
    for (int32_t slices = 1; slices <= 8; slices *= 2) {
        compare(&all, PR_F32, 0, 5, slices);
        compare(&all, PR_BF16, 5, 0, slices);
    }
    close_devices(&all);
}

static void the_reference_agrees_with_doubles(void **state)
{
    (void)state;
    enum { N = 19, COLS = 203, ROWS = 3 };
    devices all = open_devices();
    for (int32_t slices = 1; slices <= 8; slices *= 2) {
        void *data = random_matrix(PR_BF16, N, COLS, 3);
        float *x = random_floats(ROWS * COLS, 4), *y = guarded_floats(ROWS * N);
        pr_matrix *matrix = whole_matrix(all.device[0], data, PR_BF16, N, COLS, slices);
        pr_matmul_args args = {.rows = ROWS, .x = x, .matrix = matrix, .y = y};
        all.device[0]->matmul(all.device[0], &args, 1);
        for (int m = 0; m < ROWS; m++) {
            for (int n = 0; n < N; n++) {
                double sum = 0;
                for (int k = 0; k < COLS; k++)
                    sum += (double)x[m * COLS + k] *
                           (double)pr_dtype_load(PR_BF16, data, (size_t)(n * COLS + k));
                assert_true(fabs(sum - (double)y[m * N + n]) < 1e-4);
            }
        }
        all.device[0]->matrix_destroy(all.device[0], matrix);
        free(data);
        free(x);
        free(y);
    }
    close_devices(&all);
}

// What tensor parallelism does: tp parts of the columns, 8 / tp slices each, added as a tree.
static void cutting_columns_over_ranks_does_not_change_a_bit(void **state)
{
    (void)state;
    enum { N = 37, COLS = 8 * 27, ROWS = 5, SIZE = ROWS * N };
    devices all = open_devices();
    void *data = random_matrix(PR_F32, N, COLS, 5);
    float *x = random_floats(ROWS * COLS, 6);
    for (int i = 0; i < all.count; i++) {
        pr_device *device = all.device[i];
        float whole[SIZE], branch[8][SIZE];
        pr_matrix *matrix = whole_matrix(device, data, PR_F32, N, COLS, PR_SLICES);
        pr_matmul_args args = {.rows = ROWS, .x = x, .matrix = matrix, .y = whole};
        device->matmul(device, &args, 1);
        device->matrix_destroy(device, matrix);
        for (int tp = 2; tp <= 8; tp *= 2) {
            for (int r = 0; r < tp; r++) {
                int cols = COLS / tp;
                pr_matrix_source source = {
                    .data = data,
                    .dtype = PR_F32,
                    .stride = COLS,
                    .row_end = N,
                    .col_begin = r * cols,
                    .col_end = (r + 1) * cols,
                    .slices = PR_SLICES / tp,
                };
                assert_int_equal(device->matrix_create(device, &source, &matrix), PR_OK);
                float part[ROWS * COLS];
                for (int m = 0; m < ROWS; m++)
                    memcpy(part + m * cols, x + m * COLS + r * cols, (size_t)cols * 4);
                args = (pr_matmul_args){.rows = ROWS, .x = part, .matrix = matrix, .y = branch[r]};
                device->matmul(device, &args, 1);
                device->matrix_destroy(device, matrix);
            }
            for (int step = 1; step < tp; step *= 2) {
                for (int r = 0; r < tp; r += 2 * step) {
                    for (int j = 0; j < SIZE; j++)
                        branch[r][j] += branch[r + step][j];
                }
            }
            assert_memory_equal(branch[0], whole, sizeof(whole));
        }
    }
    free(data);
    free(x);
    close_devices(&all);
}

static void a_matrix_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    devices all = open_devices();
    pr_device *device = all.device[0];
    float data[4] = {0};
    pr_matrix *matrix;
    pr_matrix_source good = {
        .data = data, .dtype = PR_F32, .stride = 2, .row_end = 2, .col_end = 2, .slices = 1};
    pr_matrix_source bad[] = {good, good, good};
    bad[0].slices = 3;
    bad[1].col_end = 3;
    bad[2].row_begin = 3;
    pr_error_capture_begin();
    for (int i = 0; i < 3; i++)
        assert_int_equal(device->matrix_create(device, &bad[i], &matrix), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    close_devices(&all);
}

static void only_known_instruction_sets_open(void **state)
{
    (void)state;
    pr_device *device;
    pr_error_capture_begin();
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "sse9", .threads = 1}, &device),
        PR_ERR_ARGUMENT);
    assert_string_equal(
        pr_error_text(), "\"sse9\": the CPU kernels are auto, reference, avx2, avx512, avx512bf16");
    pr_error_capture_end();
    assert_int_equal(
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 1}, &device), PR_OK);
    print_message("auto is %s\n", device->isa);
    pr_cpu_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_device_gives_the_bits_of_the_reference),
        cmocka_unit_test(no_outputs_and_no_columns_are_allowed),
        cmocka_unit_test(the_reference_agrees_with_doubles),
        cmocka_unit_test(cutting_columns_over_ranks_does_not_change_a_bit),
        cmocka_unit_test(a_matrix_that_makes_no_sense_is_refused),
        cmocka_unit_test(only_known_instruction_sets_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
