// SPDX-License-Identifier: BSD-3-Clause
// The choice of experts of every GPU back end: experts and weights are the CPU reference's, bit by bit.
#include "devices.h"

#include "gpu_arrays.h"

typedef struct shape {
    int32_t tokens, experts, chosen;
} shape;

// Around a warp's lanes and the numbers of experts that a lane holds; 4: the tokens of a block. The last ones are too many
// for registers, or choose more than a warp has lanes.
static const shape shapes[] = {
    {0, 8, 2},    {1, 1, 1},    {1, 2, 2},    {3, 3, 2},     {4, 8, 8},    {5, 31, 4},
    {5, 32, 4},   {5, 33, 16},  {4, 63, 6},   {9, 64, 8},    {3, 65, 8},   {5, 127, 8},
    {5, 128, 8},  {5, 129, 8},  {5, 255, 4},  {5, 256, 8},   {3, 257, 10}, {3, 511, 16},
    {3, 512, 16}, {2, 513, 16}, {2, 700, 16}, {1, 1024, 16}, {5, 1025, 8}, {2, 1500, 70},
    {3, 128, 33}, {2, 100, 65},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

// Logits of one kind: plain; few different ones; so far apart that most p are 0.
static float *logits_of(size_t n, int kind)
{
    float *x = random_floats(n, 7);
    for (size_t i = 0; i < n; i++) {
        if (kind == 1)
            x[i] = (float)(int)(x[i] * 3);
        if (kind == 2)
            x[i] *= 3000;
    }
    return x;
}

static void check_choice(
    gpu_arrays *arrays, pr_device *reference, shape s, const float *logits, bool renormalise)
{
    size_t pairs = (size_t)(s.tokens * s.chosen), inputs = (size_t)(s.tokens * s.experts);
    int32_t *expert = calloc(pairs + 1, sizeof *expert);
    float *weight = guarded_floats(pairs);
    assert_non_null(expert);
    pr_topk_args args = {s.tokens, s.experts, s.chosen, logits, renormalise, expert, weight};
    reference->topk(reference, &args);
    pr_gpu_topk_args on_gpu = {
        .tokens = s.tokens,
        .experts = s.experts,
        .chosen = s.chosen,
        .logits = gpu_arrays_put(arrays, logits, inputs * sizeof(float)),
        .renormalise = renormalise,
        .expert = gpu_arrays_take(arrays, pairs * sizeof *expert),
        .weight = gpu_arrays_take(arrays, pairs * sizeof(float)),
    };
    arrays->operations->topk(arrays->stream, &on_gpu);
    gpu_arrays_assert(arrays, expert, on_gpu.expert, pairs * sizeof *expert);
    gpu_arrays_assert(arrays, weight, on_gpu.weight, pairs * sizeof(float));
    free(expert);
    free(weight);
}

static void check_kind(int kind, bool renormalise)
{
    devices cpu = open_devices();
    gpus_under_test all = gpu_under_test_open();
    for (int i = 0; i < all.count * SHAPES; i++) {
        shape s = shapes[i / all.count];
        gpu_arrays arrays = gpu_arrays_of(&all, i % all.count);
        float *logits = logits_of((size_t)(s.tokens * s.experts), kind);
        check_choice(&arrays, cpu.device[0], s, logits, renormalise);
        gpu_arrays_release(&arrays);
        free(logits);
    }
    gpu_under_test_close(&all);
    close_devices(&cpu);
}

static void renormalised_weights_are_the_reference_s(void **state)
{
    (void)state;
    check_kind(0, true);
}

static void weights_of_all_are_added_in_the_order_of_experts(void **state)
{
    (void)state;
    check_kind(0, false);
}

static void of_equal_ones_the_lowest_expert_comes_first(void **state)
{
    (void)state;
    check_kind(1, true);
    check_kind(1, false);
}

static void experts_of_probability_zero_are_chosen_in_order(void **state)
{
    (void)state;
    check_kind(2, true);
    check_kind(2, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renormalised_weights_are_the_reference_s),
        cmocka_unit_test(weights_of_all_are_added_in_the_order_of_experts),
        cmocka_unit_test(of_equal_ones_the_lowest_expert_comes_first),
        cmocka_unit_test(experts_of_probability_zero_are_chosen_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
