// SPDX-License-Identifier: BSD-3-Clause
// embed, rmsnorm, add, gather and combine of every GPU back end, bit by bit against the CPU reference.
#include "devices.h"

#include "gpu_arrays.h"

// 4: the floats of one access; 1024: of one turn of a block.
static const int32_t widths[] = {1, 3, 4, 5, 15, 16, 17, 64, 127, 128, 257, 1020, 1024, 1028, 1031};
static const int32_t counts[] = {0, 1, 2, 5};
enum { WIDTHS = sizeof(widths) / sizeof(widths[0]), COUNTS = sizeof(counts) / sizeof(counts[0]) };
enum { SHAPES = WIDTHS * COUNTS, MOST_ROWS = 8 };

typedef void check(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width);

typedef struct row_shape {
    int32_t rows, width;
} row_shape;

static void in_shapes(check *one, const row_shape *shapes, int count)
{
    devices cpu = open_devices();
    gpus_under_test all = gpu_under_test_open();
    for (int i = 0; i < all.count * count; i++) {
        row_shape s = shapes[i / all.count];
        gpu_arrays arrays = gpu_arrays_of(&all, i % all.count);
        one(&arrays, cpu.device[0], s.rows, s.width);
        gpu_arrays_release(&arrays);
    }
    gpu_under_test_close(&all);
    close_devices(&cpu);
}

static void in_every_shape(check *one)
{
    row_shape shapes[SHAPES];
    for (int s = 0; s < SHAPES; s++)
        shapes[s] = (row_shape){counts[s / WIDTHS], widths[s % WIDTHS]};
    in_shapes(one, shapes, SHAPES);
}

static void
check_embed(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width, pr_dtype dtype)
{
    enum { VOCABULARY = 7 };
    static const int32_t token[MOST_ROWS] = {6, 0, 3, 3, 1, 5, 2, 4};
    size_t cells = VOCABULARY * (size_t)width, size = (size_t)(rows * width) * sizeof(float);
    float *table = random_floats(cells, 1), *right = guarded_floats((size_t)(rows * width));
    uint16_t *rounded = malloc(cells * sizeof *rounded);
    assert_non_null(rounded);
    for (size_t i = 0; i < cells; i++)
        rounded[i] = pr_f32_to_bf16(table[i]);
    pr_embed_args args = {
        .tokens = rows,
        .token = token,
        .table = dtype == PR_BF16 ? (void *)rounded : (void *)table,
        .dtype = dtype,
        .hidden = width,
        .x = right,
    };
    reference->embed(reference, &args);
    pr_gpu_embed_args on_gpu = {
        .tokens = rows,
        .token = gpu_arrays_put(arrays, token, sizeof token),
        .table = gpu_arrays_put(arrays, args.table, cells * pr_dtype_bytes(dtype)),
        .table_is_bf16 = dtype == PR_BF16,
        .hidden = width,
        .x = gpu_arrays_take(arrays, size),
    };
    arrays->operations->embed(arrays->stream, &on_gpu);
    gpu_arrays_assert(arrays, right, on_gpu.x, size);
    free(table);
    free(rounded);
    free(right);
}

static void check_embed_f32(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width)
{
    check_embed(arrays, reference, rows, width, PR_F32);
}

static void check_embed_bf16(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width)
{
    check_embed(arrays, reference, rows, width, PR_BF16);
}

static void embed_widens_the_rows_of_tokens(void **state)
{
    (void)state;
    in_every_shape(check_embed_f32);
    in_every_shape(check_embed_bf16);
}

static void check_norm(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width)
{
    size_t floats = (size_t)(rows * width), size = floats * sizeof(float);
    float *x = random_floats(floats, 1), *weight = random_floats((size_t)width, 2);
    float *right = guarded_floats(floats);
    pr_rmsnorm_args args = {
        .tokens = rows, .hidden = width, .x = x, .weight = weight, .epsilon = 1e-6f, .y = right};
    reference->rmsnorm(reference, &args);
    pr_gpu_rmsnorm_args on_gpu = {
        .tokens = rows,
        .hidden = width,
        .x = gpu_arrays_put(arrays, x, size),
        .weight = gpu_arrays_put(arrays, weight, (size_t)width * sizeof(float)),
        .epsilon = 1e-6f,
        .y = gpu_arrays_take(arrays, size),
    };
    arrays->operations->rmsnorm(arrays->stream, &on_gpu);
    gpu_arrays_assert(arrays, right, on_gpu.y, size);
    gpu_arrays_assert(arrays, x, on_gpu.x, size);
    on_gpu.y = on_gpu.x;
    arrays->operations->rmsnorm(arrays->stream, &on_gpu);
    gpu_arrays_assert(arrays, right, on_gpu.y, size);
    free(x);
    free(weight);
    free(right);
}

static void rmsnorm_gives_the_bits_of_the_reference(void **state)
{
    (void)state;
    in_every_shape(check_norm);
}

static void check_addend(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width)
{
    size_t floats = (size_t)(rows * width), size = floats * sizeof(float);
    float *x = random_floats(floats, 1), *weight = random_floats((size_t)width, 2);
    float *addend = random_floats(floats, 3), *right = guarded_floats(floats);
    pr_gpu_rmsnorm_args on_gpu = {
        .tokens = rows,
        .hidden = width,
        .x = gpu_arrays_put(arrays, x, size),
        .addend = gpu_arrays_put(arrays, addend, size),
        .weight = gpu_arrays_put(arrays, weight, (size_t)width * sizeof(float)),
        .epsilon = 1e-5f,
        .y = gpu_arrays_take(arrays, size),
    };
    arrays->operations->rmsnorm(arrays->stream, &on_gpu);
    pr_rmsnorm_args args = {
        .tokens = rows,
        .hidden = width,
        .x = x,
        .addend = addend,
        .weight = weight,
        .epsilon = 1e-5f,
        .y = right,
    };
    reference->rmsnorm(reference, &args);
    gpu_arrays_assert(arrays, right, on_gpu.y, size);
    gpu_arrays_assert(arrays, x, on_gpu.x, size);
    free(x);
    free(weight);
    free(addend);
    free(right);
}

// 12288 floats are what shared memory holds.
static void rmsnorm_takes_rows_that_shared_memory_does_not_hold(void **state)
{
    (void)state;
    static const row_shape long_rows[] = {{2, 12288}, {2, 12289}, {2, 12292}};
    in_shapes(check_norm, long_rows, 3);
    in_shapes(check_addend, long_rows, 3);
}

static void rmsnorm_adds_the_residual_first(void **state)
{
    (void)state;
    in_every_shape(check_addend);
}

static void
check_norm_of_some(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width)
{
    static const int32_t row[MOST_ROWS] = {4, 4, 0, 7, 1, 2, 6, 5};
    size_t floats = (size_t)(MOST_ROWS * width), size = floats * sizeof(float);
    size_t row_bytes = (size_t)width * sizeof(float), made_bytes = (size_t)rows * row_bytes;
    float *x = random_floats(floats, 1), *weight = random_floats((size_t)width, 2);
    float *all = guarded_floats(floats), *right = guarded_floats(floats);
    pr_rmsnorm_args args = {
        .tokens = MOST_ROWS, .hidden = width, .x = x, .weight = weight, .epsilon = 1e-6f, .y = all};
    reference->rmsnorm(reference, &args);
    for (int32_t t = 0; t < rows; t++)
        memcpy(right + t * width, all + row[t] * width, row_bytes);
    pr_gpu_rmsnorm_args on_gpu = {
        .tokens = rows,
        .hidden = width,
        .x = gpu_arrays_put(arrays, x, size),
        .weight = gpu_arrays_put(arrays, weight, row_bytes),
        .epsilon = 1e-6f,
        .row = gpu_arrays_put(arrays, row, sizeof row),
        .y = gpu_arrays_take(arrays, made_bytes),
    };
    arrays->operations->rmsnorm(arrays->stream, &on_gpu);
    gpu_arrays_assert(arrays, right, on_gpu.y, made_bytes);
    free(x);
    free(weight);
    free(all);
    free(right);
}

static void rmsnorm_of_chosen_rows_is_that_of_all_rows(void **state)
{
    (void)state;
    in_every_shape(check_norm_of_some);
}

// Elements that do not end with a period, too.
static void check_add(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width)
{
    size_t floats = (size_t)(rows * width + width / 2), size = floats * sizeof(float);
    float *x = random_floats(floats, 1), *y = random_floats(floats, 2);
    pr_gpu_add_args on_gpu = {
        .elements = (int64_t)floats,
        .x = gpu_arrays_put(arrays, x, size),
        .y = gpu_arrays_put(arrays, y, size),
    };
    arrays->operations->add(arrays->stream, &on_gpu);
    pr_add_args args = {.elements = (int64_t)floats, .x = x, .y = y};
    reference->add(reference, &args);
    gpu_arrays_assert(arrays, x, on_gpu.x, size);
    on_gpu.period = width;
    arrays->operations->add(arrays->stream, &on_gpu);
    for (size_t i = 0; i < floats; i++)
        x[i] = x[i] + y[i % (size_t)width];
    gpu_arrays_assert(arrays, x, on_gpu.x, size);
    free(x);
    free(y);
}

static void add_repeats_a_bias(void **state)
{
    (void)state;
    in_every_shape(check_add);
    static const row_shape pieces[] = {{2, 4096}, {2, 4100}, {2, 9001}};  // of 4096 a block
    in_shapes(check_add, pieces, 3);
}

static void check_gather(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width)
{
    static const int32_t row_of[MOST_ROWS] = {5, 5, 0, 3, 7, 1, 2, 6};
    (void)reference;
    size_t floats = (size_t)(MOST_ROWS * width), row_bytes = (size_t)width * sizeof(float);
    float *from = random_floats(floats, 1), *right = guarded_floats(floats);
    pr_gpu_gather_args on_gpu = {
        .rows = MOST_ROWS,
        .hidden = width,
        .used = gpu_arrays_put(arrays, &rows, sizeof rows),
        .row_of = gpu_arrays_put(arrays, row_of, sizeof row_of),
        .from = gpu_arrays_put(arrays, from, floats * sizeof(float)),
        .to = gpu_arrays_take(arrays, floats * sizeof(float)),
    };
    arrays->operations->gather(arrays->stream, &on_gpu);
    for (int32_t i = 0; i < rows; i++)
        memcpy(right + i * width, from + row_of[i] * width, row_bytes);
    gpu_arrays_assert(arrays, right, on_gpu.to, floats * sizeof(float));
    on_gpu.used = NULL;
    on_gpu.rows = rows + 1;
    arrays->operations->gather(arrays->stream, &on_gpu);
    memcpy(right + rows * width, from + row_of[rows] * width, row_bytes);
    gpu_arrays_assert(arrays, right, on_gpu.to, floats * sizeof(float));
    free(from);
    free(right);
}

static void gather_copies_the_rows_that_are_used_and_no_others(void **state)
{
    (void)state;
    in_every_shape(check_gather);
    static const row_shape turns[] = {{3, 4100}};  // 4096 in one turn of a block
    in_shapes(check_gather, turns, 1);
}

enum { COMBINED = 64 };

// The reference adds rows[place] in the order of k; with a place of -1 it has one slot less.
static void reference_combine(
    pr_device *reference,
    const float *rows,
    const int32_t *place,
    const float *weight,
    const pr_combine_args *shape)
{
    int32_t chosen = shape->chosen, width = shape->hidden;
    for (int32_t t = 0; t < shape->tokens; t++) {
        const float *row[COMBINED];
        float weights[COMBINED];
        pr_combine_args args = *shape;
        args.tokens = 1;
        args.chosen = 0;
        for (int32_t k = t * chosen; k < (t + 1) * chosen; k++) {
            if (place[k] < 0)
                continue;
            row[args.chosen] = rows + place[k] * width;
            weights[args.chosen++] = weight[k];
        }
        args.row = row;
        args.weight = weights;
        args.y = shape->y + t * width;
        reference->combine(reference, &args);
    }
}

static void check_combine_of(
    gpu_arrays *arrays, pr_device *reference, int32_t tokens, int32_t chosen, int32_t width)
{
    enum { ROWS = 11 };
    size_t row_bytes = (size_t)width * sizeof(float), pairs = (size_t)(tokens * chosen);
    float *rows = random_floats(ROWS * (size_t)width, 1), *weight = random_floats(pairs, 2);
    float *right = guarded_floats((size_t)(tokens * width));
    int32_t place[COMBINED];
    const float *slot[COMBINED];
    float *rows_on_gpu = gpu_arrays_put(arrays, rows, ROWS * row_bytes);
    for (size_t i = 0; i < pairs; i++) {
        place[i] = (int32_t)(i * 7 % (ROWS + 1)) - 1;
        slot[i] = place[i] < 0 ? NULL : rows_on_gpu + place[i] * width;
    }
    pr_combine_args shape = {.tokens = tokens, .chosen = chosen, .hidden = width, .y = right};
    reference_combine(reference, rows, place, weight, &shape);
    pr_gpu_combine_args on_gpu = {
        .tokens = tokens,
        .chosen = chosen,
        .hidden = width,
        .rows = rows_on_gpu,
        .place = gpu_arrays_put(arrays, place, pairs * sizeof *place),
        .weight = gpu_arrays_put(arrays, weight, pairs * sizeof(float)),
        .y = gpu_arrays_take(arrays, (size_t)tokens * row_bytes),
    };
    arrays->operations->combine(arrays->stream, &on_gpu);
    gpu_arrays_assert(arrays, right, on_gpu.y, (size_t)tokens * row_bytes);
    on_gpu.rows = NULL;
    on_gpu.place = NULL;
    on_gpu.slot = gpu_arrays_put(arrays, slot, pairs * sizeof *slot);
    on_gpu.y = gpu_arrays_take(arrays, (size_t)tokens * row_bytes);
    arrays->operations->combine(arrays->stream, &on_gpu);
    gpu_arrays_assert(arrays, right, on_gpu.y, (size_t)tokens * row_bytes);
    gpu_arrays_release(arrays);
    free(rows);
    free(weight);
    free(right);
}

static void check_combine(gpu_arrays *arrays, pr_device *reference, int32_t rows, int32_t width)
{
    for (int32_t chosen = 1; chosen <= 9; chosen += chosen < 5 ? 3 : 1)
        check_combine_of(arrays, reference, rows, chosen, width);
}

static void combine_adds_in_order_of_k(void **state)
{
    (void)state;
    in_every_shape(check_combine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embed_widens_the_rows_of_tokens),
        cmocka_unit_test(rmsnorm_gives_the_bits_of_the_reference),
        cmocka_unit_test(rmsnorm_takes_rows_that_shared_memory_does_not_hold),
        cmocka_unit_test(rmsnorm_adds_the_residual_first),
        cmocka_unit_test(rmsnorm_of_chosen_rows_is_that_of_all_rows),
        cmocka_unit_test(add_repeats_a_bias),
        cmocka_unit_test(gather_copies_the_rows_that_are_used_and_no_others),
        cmocka_unit_test(combine_adds_in_order_of_k),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
