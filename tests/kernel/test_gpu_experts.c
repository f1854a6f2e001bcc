// SPDX-License-Identifier: BSD-3-Clause
// Experts' gated MLPs on every GPU of gpu_under_test.h: each row has the bits that single products give it, whatever
// other rows and experts there are.
#include "runtime/base/elementary.h"
#include "tests/kernel/gpu_product.h"

enum { EXPERTS_MOST = 96 };

static gpus_under_test gpus;

typedef struct experts_case {
    int32_t experts, hidden, inner;
    bool is_bf16, gathers;
    int32_t spare_rows;  // most_rows is so many more than there are
    int32_t count[EXPERTS_MOST];
} experts_case;

typedef struct experts_weights {
    product_weights gate, up, down;
} experts_weights;

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

static int32_t rows_of(const experts_case *c)
{
    int32_t rows = 0;
    for (int32_t e = 0; e < c->experts; e++)
        rows += c->count[e];
    return rows;
}

static experts_weights take_weights(int at, const experts_case *c)
{
    pr_gpu_weights in = {.is_bf16 = c->is_bf16, .rows = c->inner, .cols = c->hidden, .slices = 1};
    pr_gpu_weights down = {.is_bf16 = c->is_bf16, .rows = c->hidden, .cols = c->inner, .slices = 1};
    return (experts_weights){
        product_weights_take(gpus.gpu[at], gpus.stream[at], in, c->experts, 1),
        product_weights_take(gpus.gpu[at], gpus.stream[at], in, c->experts, 2),
        product_weights_take(gpus.gpu[at], gpus.stream[at], down, c->experts, 3),
    };
}

static void release_weights(int at, experts_weights *weights)
{
    product_weights_release(gpus.gpu[at], &weights->gate);
    product_weights_release(gpus.gpu[at], &weights->up);
    product_weights_release(gpus.gpu[at], &weights->down);
}

// y [rows][hidden] of the operation; x [tokens][hidden], row_of [rows] or NULL.
static void run_experts(
    int at,
    const experts_case *c,
    const experts_weights *weights,
    const float *x,
    int32_t tokens,
    const int32_t *row_of,
    float *y)
{
    const pr_gpu_backend *gpu = gpus.gpu[at];
    pr_gpu_stream *stream = gpus.stream[at];
    size_t rows = (size_t)rows_of(c), hidden = (size_t)c->hidden;
    pr_gpu_experts_args args = {
        .experts = c->experts,
        .most_rows = (int32_t)rows + c->spare_rows,
        .count = gpu_under_test_put(gpu, stream, c->count, (size_t)c->experts * sizeof(int32_t)),
        .gate = weights->gate.weights.data,
        .up = weights->up.weights.data,
        .down = weights->down.weights.data,
        .is_bf16 = c->is_bf16,
        .hidden = c->hidden,
        .inner = c->inner,
        .hidden_padded = weights->gate.weights.stride,
        .inner_padded = weights->down.weights.stride,
        .x = gpu_under_test_put(gpu, stream, x, (size_t)tokens * hidden * sizeof(float)),
        .y = gpu_under_test_take(gpu, stream, rows * hidden * sizeof(float)),
    };
    size_t scratch_bytes = gpu->operations->experts_scratch_bytes(&args);
    args.scratch = gpu_under_test_take(gpu, stream, scratch_bytes);
    if (row_of)
        args.row_of = gpu_under_test_put(gpu, stream, row_of, rows * sizeof(int32_t));
    gpu->operations->experts(stream, &args);
    gpu_under_test_get(gpu, stream, y, args.y, rows * hidden * sizeof(float));
    void *scratch_end = malloc(scratch_bytes + 1);
    gpu_under_test_get(gpu, stream, scratch_end, args.scratch, scratch_bytes);
    free(scratch_end);
    const void *taken[] = {args.count, args.x, args.y, args.scratch, args.row_of};
    for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++)
        gpu->memory_release((void *)(uintptr_t)taken[i]);
}

static pr_gpu_weights expert_of(const product_weights *weights, int32_t expert)
{
    pr_gpu_weights one = weights->weights;
    size_t tall = (size_t)product_padded(one.rows, PR_GPU_PADDED_ROWS);
    one.data = (const char *)one.data +
               (size_t)expert * tall * (size_t)one.stride * (one.is_bf16 ? 2u : 4u);
    return one;
}

// The same of one expert by products of their own, the elements between on the host.
static void run_single(
    int at, const experts_weights *weights, int32_t expert, const float *x, int32_t rows, float *y)
{
    pr_gpu_weights gate = expert_of(&weights->gate, expert);
    size_t n = (size_t)rows * (size_t)gate.rows;
    float *sums[2] = {malloc((n + 1) * sizeof(float)), malloc((n + 1) * sizeof(float))};
    pr_gpu_matmul_args in[2] = {
        {.rows = rows, .x = x, .weights = gate},
        {.rows = rows, .x = x, .weights = expert_of(&weights->up, expert)},
    };
    product_run(gpus.gpu[at], gpus.stream[at], in, 2, sums);
    for (size_t i = 0; i < n; i++)
        sums[0][i] = pr_silu(sums[0][i]) * sums[1][i];
    pr_gpu_matmul_args down = {
        .rows = rows, .x = sums[0], .weights = expert_of(&weights->down, expert)};
    product_run(gpus.gpu[at], gpus.stream[at], &down, 1, &y);
    free(sums[0]);
    free(sums[1]);
}

static void check_case(int at, const experts_case *c)
{
    size_t rows = (size_t)rows_of(c), hidden = (size_t)c->hidden;
    int32_t tokens = c->gathers ? (int32_t)rows / 2 + 1 : (int32_t)rows;
    experts_weights weights = take_weights(at, c);
    float *x = product_floats((size_t)tokens * hidden, 4),
          *sorted = product_floats(rows * hidden, 5);
    float *right = product_floats(rows * hidden, 6), *y = product_floats(rows * hidden, 6);
    int32_t *row_of = calloc(rows + 1, sizeof(int32_t));
    assert_non_null(row_of);
    for (size_t i = 0; i < rows; i++) {
        row_of[i] = c->gathers ? (int32_t)((i * 7 + 3) % (size_t)tokens) : (int32_t)i;
        memcpy(sorted + i * hidden, x + (size_t)row_of[i] * hidden, hidden * sizeof(float));
    }
    size_t first = 0;
    for (int32_t e = 0; e < c->experts; e++) {
        run_single(at, &weights, e, sorted + first * hidden, c->count[e], right + first * hidden);
        first += (size_t)c->count[e];
    }
    run_experts(at, c, &weights, x, tokens, c->gathers ? row_of : NULL, y);
    assert_memory_equal(y, right, rows * hidden * sizeof(float));
    release_weights(at, &weights);
    free(x);
    free(sorted);
    free(right);
    free(y);
    free(row_of);
}

static void rows_have_the_bits_of_single_products(void **state)
{
    (void)state;
    static const experts_case cases[] = {
        {.experts = 1, .hidden = 1, .inner = 1, .is_bf16 = true, .count = {1}},
        {.experts = 3, .hidden = 40, .inner = 17, .is_bf16 = true, .count = {0, 2, 0}},
        {.experts = 7,
         .hidden = 70,
         .inner = 33,
         .is_bf16 = true,
         .gathers = true,
         .spare_rows = 40,
         .count = {0, 1, 16, 17, 0, 40, 5}},
        {.experts = 2,
         .hidden = 1100,
         .inner = 80,
         .is_bf16 = true,
         .gathers = true,
         .count = {3, 2}},
        {.experts = 2, .hidden = 530, .inner = 64, .is_bf16 = true, .count = {1, 17}},
        {.experts = 2, .hidden = 130, .inner = 1030, .is_bf16 = true, .count = {1, 18}},
        {.experts = 2, .hidden = 64, .inner = 129, .is_bf16 = true, .count = {131, 129}},
        {.experts = 1, .hidden = 2100, .inner = 20, .is_bf16 = true, .count = {2}},
        {.experts = 1, .hidden = 16, .inner = 4100, .is_bf16 = true, .count = {1}},
        {.experts = 1, .hidden = 16, .inner = 127, .is_bf16 = true, .count = {65}},
    };
    for (int g = 0; g < gpus.count; g++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
            check_case(g, &cases[i]);
}

static void float32_experts_have_the_bits_of_single_products(void **state)
{
    (void)state;
    static const experts_case cases[] = {
        {.experts = 1, .hidden = 1, .inner = 1, .count = {2}},
        {.experts = 5,
         .hidden = 37,
         .inner = 19,
         .gathers = true,
         .spare_rows = 3,
         .count = {17, 0, 1, 16, 4}},
    };
    for (int g = 0; g < gpus.count; g++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
            check_case(g, &cases[i]);
}

// More experts than lanes of a warp, few of them with rows.
static void idle_experts_are_passed_over(void **state)
{
    (void)state;
    for (int g = 0; g < gpus.count; g++)
        for (int is_bf16 = 0; is_bf16 < 2; is_bf16++) {
            experts_case c = {
                .experts = EXPERTS_MOST,
                .hidden = 16,
                .inner = 16,
                .is_bf16 = is_bf16,
                .spare_rows = 5};
            check_case(g, &c);
            c.count[33] = 1;
            c.count[64] = 18;
            c.count[EXPERTS_MOST - 1] = 2;
            check_case(g, &c);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_have_the_bits_of_single_products),
        cmocka_unit_test(float32_experts_have_the_bits_of_single_products),
        cmocka_unit_test(idle_experts_are_passed_over),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
