// SPDX-License-Identifier: BSD-3-Clause
// Matrix products on every GPU of gpu_under_test.h: the order of additions, and that a row's bits depend on the row
// and the weights alone, whichever way (few rows, many rows, slices, several products) it goes.
#include "kernels/cpu/cpu_device.h"
#include "runtime/base/elementary.h"
#include "tests/kernel/gpu_product.h"

static gpus_under_test gpus;

static int setup(void **state)
{
    (void)state;
    gpus = gpu_under_test_open();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gpu_under_test_close(&gpus);
    return 0;
}

static pr_gpu_weights shape_of(int32_t rows, int32_t cols, int32_t slices, bool is_bf16)
{
    return (pr_gpu_weights){.is_bf16 = is_bf16, .rows = rows, .cols = cols, .slices = slices};
}

static float *take_y(int32_t rows, int32_t columns)
{
    float *y = malloc(((size_t)rows * (size_t)columns + 1) * sizeof(float));
    assert_non_null(y);
    return y;
}

static void check_shape(int gpu_at, int32_t rows, pr_gpu_weights shape, bool with_bias)
{
    const pr_gpu_backend *gpu = gpus.gpu[gpu_at];
    pr_gpu_stream *stream = gpus.stream[gpu_at];
    size_t cols = (size_t)shape.cols, n = (size_t)shape.rows;
    product_weights weights =
        product_weights_take(gpu, stream, shape, 1, (uint64_t)(rows + shape.cols));
    float *x = product_floats((size_t)rows * cols, 7), *bias = product_floats(n, 8);
    float *y = take_y(rows, shape.rows);
    pr_gpu_matmul_args args = {
        .rows = rows, .x = x, .weights = weights.weights, .bias = with_bias ? bias : NULL};
    product_run(gpu, stream, &args, 1, &y);
    for (size_t i = 0; i < (size_t)rows * n; i++) {
        float expected = product_sum(&shape, x + i / n * cols, weights.value + i % n * cols);
        product_expect(gpu, y[i], with_bias ? expected + bias[i % n] : expected, shape.cols);
    }
    product_weights_release(gpu, &weights);
    free(x);
    free(bias);
    free(y);
}

static void sums_go_by_spans_then_slices(void **state)
{
    (void)state;
    static const struct {
        int32_t rows, columns, cols, slices;
    } shapes[] = {
        {0, 16, 64, 1},     {1, 1, 1, 1},      {1, 16, 16, 1},    {2, 17, 15, 1},
        {3, 31, 64, 1},     {5, 0, 64, 1},     {5, 37, 65, 1},    {1, 5, 512, 1},
        {16, 16, 513, 1},   {1, 33, 1537, 1},  {2, 16, 5000, 1},  {7, 19, 0, 1},
        {17, 19, 0, 1},     {16, 129, 128, 8}, {1, 17, 1, 8},     {3, 18, 257, 8},
        {2, 7, 4224, 8},    {4, 20, 96, 2},    {4, 20, 192, 4},   {17, 16, 16, 1},
        {17, 33, 17, 1},    {61, 32, 65, 1},   {64, 127, 67, 1},  {65, 128, 64, 1},
        {65, 129, 31, 1},   {127, 130, 33, 1}, {129, 5, 514, 1},  {17, 3, 1100, 1},
        {20, 31, 129, 8},   {67, 65, 256, 4},  {130, 9, 1025, 2}, {17, 14330, 16, 1},
        {17, 14336, 32, 2},
    };
    for (int g = 0; g < gpus.count; g++)
        for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
            check_shape(
                g, shapes[i].rows,
                shape_of(shapes[i].columns, shapes[i].cols, shapes[i].slices, true), i % 2 == 0);
}

// Row 0 of x among other rows, at `place` of `rows`: its y must be `right`.
static void check_place(
    int gpu_at,
    const product_weights *weights,
    const float *x,
    int32_t rows,
    int32_t place,
    const float *right)
{
    size_t cols = (size_t)weights->weights.cols, columns = (size_t)weights->weights.rows;
    float *mixed = product_floats((size_t)rows * cols, (uint64_t)(rows * 100 + place));
    float *y = take_y(rows, weights->weights.rows);
    memcpy(mixed + (size_t)place * cols, x, cols * sizeof(float));
    pr_gpu_matmul_args args = {.rows = rows, .x = mixed, .weights = weights->weights};
    product_run(gpus.gpu[gpu_at], gpus.stream[gpu_at], &args, 1, &y);
    assert_memory_equal(y + (size_t)place * columns, right, columns * sizeof(float));
    free(mixed);
    free(y);
}

static void a_row_has_its_bits_in_any_number_of_rows_at_any_place(void **state)
{
    (void)state;
    static const int32_t numbers[] = {1, 2, 15, 16, 17, 64, 65, 129};
    static const int32_t slices[] = {1, 8};
    for (int g = 0; g < gpus.count; g++)
        for (size_t s = 0; s < 2; s++) {
            pr_gpu_weights shape = shape_of(20, s ? 640 : 1060, slices[s], true);
            product_weights weights =
                product_weights_take(gpus.gpu[g], gpus.stream[g], shape, 1, 11);
            float *x = product_floats((size_t)shape.cols, 12), *right = take_y(1, shape.rows);
            pr_gpu_matmul_args args = {.rows = 1, .x = x, .weights = weights.weights};
            product_run(gpus.gpu[g], gpus.stream[g], &args, 1, &right);
            for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
                for (int32_t place = 0; place < numbers[i]; place += numbers[i] / 3 + 1)
                    check_place(g, &weights, x, numbers[i], place, right);
            product_weights_release(gpus.gpu[g], &weights);
            free(x);
            free(right);
        }
}

// Columns [rank of tp) of a matrix with eight slices, as tensor parallelism cuts it: y of its part.
static void run_part(
    int gpu_at,
    const product_weights *whole,
    const float *x,
    int32_t rows,
    int32_t tp,
    int32_t rank,
    float *y)
{
    const pr_gpu_backend *gpu = gpus.gpu[gpu_at];
    int32_t all = whole->weights.cols;
    int32_t begin = (int32_t)((int64_t)all * rank / tp),
            end = (int32_t)((int64_t)all * (rank + 1) / tp);
    pr_gpu_weights shape = shape_of(whole->weights.rows, end - begin, PRODUCT_SLICES / tp, true);
    shape.stride = whole->weights.stride;
    shape.data = (const uint16_t *)whole->weights.data + begin;  // begins at a multiple of 16
    float *part = take_y(rows, shape.cols);
    for (int32_t row = 0; row < rows; row++)
        memcpy(
            part + (size_t)row * (size_t)shape.cols, x + (size_t)row * (size_t)all + begin,
            (size_t)shape.cols * sizeof(float));
    pr_gpu_matmul_args args = {.rows = rows, .x = part, .weights = shape};
    product_run(gpu, gpus.stream[gpu_at], &args, 1, &y);
    free(part);
}

static void check_split(int gpu_at, int32_t rows, int32_t tp)
{
    const pr_gpu_backend *gpu = gpus.gpu[gpu_at];
    pr_gpu_weights shape = shape_of(18, 128 * 9, PRODUCT_SLICES, true);
    product_weights weights = product_weights_take(gpu, gpus.stream[gpu_at], shape, 1, 21);
    size_t n = (size_t)rows * (size_t)shape.rows;
    float *x = product_floats((size_t)rows * (size_t)shape.cols, 22),
          *right = take_y(rows, shape.rows);
    float *part[PRODUCT_SLICES] = {0};
    pr_gpu_matmul_args args = {.rows = rows, .x = x, .weights = weights.weights};
    product_run(gpu, gpus.stream[gpu_at], &args, 1, &right);
    for (int32_t rank = 0; rank < tp; rank++) {
        part[rank] = take_y(rows, shape.rows);
        run_part(gpu_at, &weights, x, rows, tp, rank, part[rank]);
    }
    for (int32_t half = tp / 2; half > 0; half /= 2)
        for (int32_t rank = 0; rank < half; rank++)
            for (size_t i = 0; i < n; i++)
                part[rank][i] = part[2 * rank][i] + part[2 * rank + 1][i];
    assert_memory_equal(part[0], right, n * sizeof(float));
    for (int32_t rank = 0; rank < tp; rank++)
        free(part[rank]);
    free(x);
    free(right);
    product_weights_release(gpu, &weights);
}

static void the_tree_of_the_ranks_is_the_tree_of_the_slices(void **state)
{
    (void)state;
    for (int g = 0; g < gpus.count; g++)
        for (int32_t tp = 2; tp <= PRODUCT_SLICES; tp *= 2) {
            check_split(g, 3, tp);
            check_split(g, 18, tp);
        }
}

static void products_of_one_launch_are_those_of_one_each(void **state)
{
    (void)state;
    static const int32_t columns[PR_GPU_MATMUL_MOST] = {70, 16, 145}, slices[] = {1, 2, 1};
    static const int32_t numbers[] = {1, 16, 19, 70};
    for (int g = 0; g < gpus.count; g++)
        for (size_t m = 0; m < 8; m++) {
            int32_t rows = numbers[m / 2];
            bool is_bf16 = m % 2 == 0;
            pr_gpu_matmul_args args[PR_GPU_MATMUL_MOST] = {0};
            product_weights weights[PR_GPU_MATMUL_MOST];
            float *x = product_floats((size_t)rows * 96, 31), *bias = product_floats(145, 32);
            float *all[PR_GPU_MATMUL_MOST], *single[PR_GPU_MATMUL_MOST];
            for (int i = 0; i < PR_GPU_MATMUL_MOST; i++) {
                pr_gpu_weights shape = shape_of(columns[i], 96, slices[i], is_bf16);
                weights[i] =
                    product_weights_take(gpus.gpu[g], gpus.stream[g], shape, 1, (uint64_t)(33 + i));
                all[i] = take_y(rows, columns[i]);
                single[i] = take_y(rows, columns[i]);
                args[i] = (pr_gpu_matmul_args){
                    .rows = rows,
                    .x = x,
                    .weights = weights[i].weights,
                    .bias = i % 2 ? NULL : bias};
                pr_gpu_matmul_args one = args[i];
                product_run(gpus.gpu[g], gpus.stream[g], &one, 1, &single[i]);
            }
            product_run(gpus.gpu[g], gpus.stream[g], args, PR_GPU_MATMUL_MOST, all);
            for (int i = 0; i < PR_GPU_MATMUL_MOST; i++) {
                assert_memory_equal(
                    all[i], single[i], (size_t)rows * (size_t)columns[i] * sizeof(float));
                product_weights_release(gpus.gpu[g], &weights[i]);
                free(all[i]);
                free(single[i]);
            }
            free(x);
            free(bias);
        }
}

static void rows_beyond_those_used_are_left_alone(void **state)
{
    (void)state;
    static const int32_t numbers[][2] = {{16, 0}, {16, 3}, {40, 16}, {140, 129}, {140, 140}};
    for (int g = 0; g < gpus.count; g++)
        for (size_t m = 0; m < 5; m++) {
            const pr_gpu_backend *gpu = gpus.gpu[g];
            int32_t rows = numbers[m][0], used = numbers[m][1], columns = 21;
            size_t n = (size_t)rows * (size_t)columns, kept = (size_t)used * (size_t)columns;
            product_weights weights =
                product_weights_take(gpu, gpus.stream[g], shape_of(columns, 48, 1, true), 1, 41);
            float *x = product_floats((size_t)rows * 48, 42), *all = take_y(rows, columns);
            float *some = take_y(rows, columns);
            pr_gpu_matmul_args args = {.rows = rows, .x = x, .weights = weights.weights};
            product_run(gpu, gpus.stream[g], &args, 1, &all);
            args = (pr_gpu_matmul_args){.rows = rows, .x = x, .weights = weights.weights};
            int32_t *device_used = gpu_under_test_put(gpu, gpus.stream[g], &used, sizeof(used));
            args.rows_used = device_used;
            product_run(gpu, gpus.stream[g], &args, 1, &some);
            assert_memory_equal(some, all, kept * sizeof(float));
            for (size_t i = kept * sizeof(float); i < n * sizeof(float); i++)
                assert_int_equal(((unsigned char *)some)[i], 0xa5);
            gpu->memory_release(device_used);
            product_weights_release(gpu, &weights);
            free(x);
            free(all);
            free(some);
        }
}

static void a_row_that_is_no_number_stays_alone(void **state)
{
    (void)state;
    static const int32_t numbers[] = {3, 16, 33, 130};
    for (int g = 0; g < gpus.count; g++)
        for (size_t m = 0; m < 4; m++) {
            int32_t rows = numbers[m];
            pr_gpu_weights shape = shape_of(17, 100, 1, true);
            product_weights weights =
                product_weights_take(gpus.gpu[g], gpus.stream[g], shape, 1, 51);
            float *x = product_floats((size_t)rows * 100, 52), *y = take_y(rows, 17);
            x[100 + 99] = NAN;
            pr_gpu_matmul_args args = {.rows = rows, .x = x, .weights = weights.weights};
            product_run(gpus.gpu[g], gpus.stream[g], &args, 1, &y);
            for (size_t i = 0; i < (size_t)rows * 17; i++)
                assert_true(isnan(y[i]) == (i / 17 == 1));
            product_weights_release(gpus.gpu[g], &weights);
            free(x);
            free(y);
        }
}

static void check_float32(int gpu_at, pr_device *reference, int32_t rows, pr_gpu_weights shape)
{
    const pr_gpu_backend *gpu = gpus.gpu[gpu_at];
    product_weights weights = product_weights_take(gpu, gpus.stream[gpu_at], shape, 1, 61);
    float *x = product_floats((size_t)rows * (size_t)shape.cols, 62);
    float *bias = product_floats((size_t)shape.rows, 63);
    float *right = take_y(rows, shape.rows), *y = take_y(rows, shape.rows);
    pr_matrix_source source = {
        .data = weights.value,
        .dtype = PR_F32,
        .stride = shape.cols,
        .row_end = shape.rows,
        .col_end = shape.cols,
        .slices = shape.slices,
    };
    pr_matrix *matrix;
    assert_int_equal(reference->matrix_create(reference, &source, &matrix), PR_OK);
    pr_matmul_args wanted = {.rows = rows, .x = x, .matrix = matrix, .bias = bias, .y = right};
    reference->matmul(reference, &wanted, 1);
    pr_gpu_matmul_args args = {.rows = rows, .x = x, .weights = weights.weights, .bias = bias};
    product_run(gpu, gpus.stream[gpu_at], &args, 1, &y);
    assert_memory_equal(y, right, (size_t)rows * (size_t)shape.rows * sizeof(float));
    reference->matrix_destroy(reference, matrix);
    product_weights_release(gpu, &weights);
    free(x);
    free(bias);
    free(right);
    free(y);
}

static void float32_weights_have_the_bits_of_the_cpu(void **state)
{
    (void)state;
    static const int32_t numbers[] = {0, 1, 16, 19}, depths[] = {1, 16, 33, 101};
    const pr_cpu_device_params params = {.isa = "reference", .threads = 1};
    pr_device *reference;
    assert_int_equal(pr_cpu_device_open(&params, &reference), PR_OK);
    assert_int_equal(reference->reserve(reference, 32, 128, 0), PR_OK);
    for (int g = 0; g < gpus.count; g++)
        for (size_t i = 0; i < 4; i++)
            for (size_t j = 0; j < 4; j++)
                check_float32(
                    g, reference, numbers[i], shape_of(17, depths[j], i % 2 ? 8 : 1, false));
    pr_cpu_device_close(reference);
}

static void gated_has_the_bits_of_silu(void **state)
{
    (void)state;
    static const size_t numbers[] = {0, 1, 3, 4, 1021, 5000};
    for (int g = 0; g < gpus.count; g++)
        for (size_t m = 0; m < 6; m++) {
            const pr_gpu_backend *gpu = gpus.gpu[g];
            size_t n = numbers[m], bytes = n * sizeof(float);
            float *gate = product_floats(n, 71), *up = product_floats(n, 72),
                  *y = take_y(1, (int32_t)n);
            for (size_t i = 0; i < n; i++)
                gate[i] *= i % 7 == 0 ? 100.0f : 5.0f;
            pr_gpu_gated_args args = {
                .elements = (int64_t)n,
                .gate = gpu_under_test_put(gpu, gpus.stream[g], gate, bytes),
                .up = gpu_under_test_put(gpu, gpus.stream[g], up, bytes),
                .y = gpu_under_test_take(gpu, gpus.stream[g], bytes),
            };
            gpu->operations->gated(gpus.stream[g], &args);
            gpu_under_test_get(gpu, gpus.stream[g], y, args.y, bytes);
            for (size_t i = 0; i < n; i++) {
                float right = pr_silu(gate[i]) * up[i];
                assert_memory_equal(&y[i], &right, sizeof(right));
            }
            gpu->memory_release((void *)(uintptr_t)args.gate);
            gpu->memory_release((void *)(uintptr_t)args.up);
            gpu->memory_release(args.y);
            free(gate);
            free(up);
            free(y);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_go_by_spans_then_slices),
        cmocka_unit_test(a_row_has_its_bits_in_any_number_of_rows_at_any_place),
        cmocka_unit_test(the_tree_of_the_ranks_is_the_tree_of_the_slices),
        cmocka_unit_test(products_of_one_launch_are_those_of_one_each),
        cmocka_unit_test(rows_beyond_those_used_are_left_alone),
        cmocka_unit_test(a_row_that_is_no_number_stays_alone),
        cmocka_unit_test(float32_weights_have_the_bits_of_the_cpu),
        cmocka_unit_test(gated_has_the_bits_of_silu),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
