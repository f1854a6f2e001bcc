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
    static const int64_t depths[] = {1, 3, 8, 13, 64, 101};  // slices of odd and even lengths
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
                    sum += (double)pr_bf16_to_f32(pr_f32_to_bf16(x[m * COLS + k])) *
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

enum { CUT_N = 37, CUT_COLS = 8 * 27, CUT_ROWS = 5, CUT_SIZE = CUT_ROWS * CUT_N };

// The product of columns [begin, end) only, in `slices`.
static void multiply_part(
    pr_device *device, const pr_matrix_source *whole, const float *x, int64_t begin, float *y)
{
    pr_matrix_source source = *whole;
    pr_matrix *matrix;
    int64_t cols = source.col_end - source.col_begin;
    float part[CUT_ROWS * CUT_COLS];
    source.col_begin = begin;
    source.col_end = begin + cols;
    assert_int_equal(device->matrix_create(device, &source, &matrix), PR_OK);
    for (int m = 0; m < CUT_ROWS; m++)
        memcpy(part + m * cols, x + m * CUT_COLS + begin, (size_t)cols * 4);
    pr_matmul_args args = {.rows = CUT_ROWS, .x = part, .matrix = matrix, .y = y};
    device->matmul(device, &args, 1);
    device->matrix_destroy(device, matrix);
}

// What tensor parallelism does: tp parts of the columns, 8 / tp slices each, added as a tree.
static void cutting_columns_over_ranks_does_not_change_a_bit(void **state)
{
    (void)state;
    devices all = open_devices();
    float *x = random_floats(CUT_ROWS * CUT_COLS, 6), branch[8][CUT_SIZE], whole[CUT_SIZE];
    for (int t = 0; t < 3; t++) {
        void *data = random_matrix(dtypes[t], CUT_N, CUT_COLS, 5);
        for (int i = 0; i < all.count; i++) {
            for (int tp = 1; tp <= 8; tp *= 2) {
                pr_matrix_source source = {
                    .data = data,
                    .dtype = dtypes[t],
                    .stride = CUT_COLS,
                    .row_end = CUT_N,
                    .col_end = CUT_COLS / tp,
                    .slices = PR_SLICES / tp,
                };
                for (int r = 0; r < tp; r++)
                    multiply_part(all.device[i], &source, x, r * (CUT_COLS / tp), branch[r]);
                for (int step = 1; step < tp; step *= 2) {
                    for (int r = 0; r < tp; r += 2 * step) {
                        for (int j = 0; j < CUT_SIZE; j++)
                            branch[r][j] += branch[r + step][j];
                    }
                }
                if (tp == 1)
                    memcpy(whole, branch[0], sizeof(whole));
                assert_memory_equal(branch[0], whole, sizeof(whole));
            }
        }
        free(data);
    }
    free(x);
    close_devices(&all);
}

typedef struct known_pair {
    float x[2], w[2], y;
} known_pair;

static void a_pair_of_bfloat16_columns_gives_the_known_value(void **state)
{
    (void)state;
    static const known_pair known[] = {
        {{1.0f + 0x1p-8f, 0}, {1, 0}, 1.0f},            // a tie rounds to even
        {{1.0f + 0x3p-8f, 0}, {1, 0}, 1.0f + 0x1p-6f},  // upwards too
        {{1.0f + 0x1p-8f + 0x1p-20f, 0}, {1, 0}, 1.0f + 0x1p-7f},
        {{-3.4028235e38f, 0}, {0x1p-2f, 0}, -INFINITY},  // beyond the largest bfloat16
        {{0x1p-24f, 1}, {1, 1}, 1.0f},                   // the second column goes first
        {{1, -1}, {1 + 0x1p-7f, 1}, 0x1p-7f},
        {{0x1.fep-127f, 0}, {0x1p100f, 0}, 0},  // a denormal x is zero
        {{0x1p100f, 0}, {0x1p-127f, 0}, 0},     // so is a denormal weight
        {{0x1p-64f, 0}, {0x1p-63f, 0}, 0},      // and a denormal product
        {{0x1p-63f, 0}, {0x1p-63f, 0}, 0x1p-126f},
        {{-0x1p-75f, 0x1p-63f}, {0x1p-75f, 0x1p-63f}, 0},  // 24 bits hold 2^-126 - 2^-150
        {{-0x1p-76f, 0x1p-63f}, {0x1p-76f, 0x1p-63f}, 0x1p-126f},
    };
    devices all = open_devices();
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        uint16_t w[2] = {pr_f32_to_bf16(known[i].w[0]), pr_f32_to_bf16(known[i].w[1])};
        for (int d = 0; d < all.count; d++) {
            pr_matrix *matrix = whole_matrix(all.device[d], w, PR_BF16, 1, 2, 1);
            for (int rows = 1; rows <= 13; rows++) {
                float x[13][2], y[13];
                for (int m = 0; m < rows; m++)
                    memcpy(x[m], known[i].x, sizeof(x[m]));
                pr_matmul_args args = {.rows = rows, .x = x[0], .matrix = matrix, .y = y};
                all.device[d]->matmul(all.device[d], &args, 1);
                for (int m = 0; m < rows; m++)
                    assert_true(y[m] == known[i].y);
            }
            all.device[d]->matrix_destroy(all.device[d], matrix);
        }
    }
    close_devices(&all);
}

// Products and sums around the smallest normal number; some operands are denormal.
static void denormals_are_zero_for_bfloat16_weights_only(void **state)
{
    (void)state;
    enum { N = 35, COLS = 75, ROWS = 13, SIZE = ROWS * N };
    devices all = open_devices();
    uint16_t w[N * COLS];
    float *x = random_floats(ROWS * COLS, 11);
    uint64_t seed = 12;
    for (int i = 0; i < N * COLS; i++)
        w[i] = pr_f32_to_bf16(ldexpf(random_float(&seed), i % 9 == 0 ? -125 : -50 - i % 7));
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = ldexpf(x[i], i % 11 == 0 ? -125 : -70 - i % 5);
    for (int32_t slices = 1; slices <= 8; slices *= 2) {
        float *right = guarded_floats(SIZE), *y = guarded_floats(SIZE);
        for (int i = 0; i < all.count; i++) {
            pr_matrix *matrix = whole_matrix(all.device[i], w, PR_BF16, N, COLS, slices);
            pr_matmul_args args = {.rows = ROWS, .x = x, .matrix = matrix, .y = i == 0 ? right : y};
            all.device[i]->matmul(all.device[i], &args, 1);
            all.device[i]->matrix_destroy(all.device[i], matrix);
            if (i > 0)
                assert_same_bits(right, y, SIZE);
            volatile float smallest = 0x1p-126f;
            assert_true(smallest * 0.5f > 0.0f);  // the caller's arithmetic is as it was
        }
        int zeros = 0;
        for (int i = 0; i < SIZE; i++) {
            zeros += right[i] == 0.0f;
            assert_true(slices > 1 || right[i] == 0.0f || fabsf(right[i]) >= 0x1p-126f);
        }
        assert_in_range(zeros, slices > 1 ? 0 : 1, SIZE / 2);
        free(right);
        free(y);
    }
    float tiny = 0x1p-127f, one = 1.0f, sum;
    for (int i = 0; i < all.count; i++) {
        pr_matrix *matrix = whole_matrix(all.device[i], &one, PR_F32, 1, 1, 1);
        pr_matmul_args args = {.rows = 1, .x = &tiny, .matrix = matrix, .y = &sum};
        all.device[i]->matmul(all.device[i], &args, 1);
        assert_true(sum == tiny);
        all.device[i]->matrix_destroy(all.device[i], matrix);
    }
    free(x);
    close_devices(&all);
}

// Row 2 of x has a NaN, row 3 an infinity; outputs 5 and 17 have such weights.
static void not_a_number_stays_in_its_row_and_output(void **state)
{
    (void)state;
    enum { N = 33, COLS = 21, ROWS = 14, SIZE = ROWS * N };
    devices all = open_devices();
    for (int t = 0; t < 3; t++) {
        char *data = random_matrix(dtypes[t], N, COLS, 21);
        float *x = random_floats(ROWS * COLS, 22), right[SIZE], y[SIZE];
        uint32_t nan = dtypes[t] == PR_F32 ? 0x7fc00000u : dtypes[t] == PR_BF16 ? 0x7fc0u : 0x7e00u;
        uint32_t inf = dtypes[t] == PR_F32 ? 0x7f800000u : dtypes[t] == PR_BF16 ? 0x7f80u : 0x7c00u;
        size_t bytes = pr_dtype_bytes(dtypes[t]);
        memcpy(data + (5 * COLS + 3) * bytes, &nan, bytes);
        memcpy(data + (17 * COLS + 20) * bytes, &inf, bytes);
        x[2 * COLS + 7] = NAN;
        x[3 * COLS + 20] = INFINITY;
        for (int i = 0; i < all.count; i++) {
            pr_matrix *matrix = whole_matrix(all.device[i], data, dtypes[t], N, COLS, 2);
            pr_matmul_args args = {.rows = ROWS, .x = x, .matrix = matrix, .y = i == 0 ? right : y};
            all.device[i]->matmul(all.device[i], &args, 1);
            all.device[i]->matrix_destroy(all.device[i], matrix);
            for (int j = 0; j < SIZE; j++) {
                int row = j / N, output = j % N;
                bool bad = row == 2 || row == 3 || output == 5 || output == 17;
                assert_true(bad == !isfinite(args.y[j]));
                assert_true(bad || memcmp(&args.y[j], &right[j], 4) == 0);
            }
        }
        free(data);
        free(x);
    }
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
        cmocka_unit_test(a_pair_of_bfloat16_columns_gives_the_known_value),
        cmocka_unit_test(denormals_are_zero_for_bfloat16_weights_only),
        cmocka_unit_test(not_a_number_stays_in_its_row_and_output),
        cmocka_unit_test(a_matrix_that_makes_no_sense_is_refused),
        cmocka_unit_test(only_known_instruction_sets_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
