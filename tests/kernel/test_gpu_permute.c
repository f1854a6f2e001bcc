// SPDX-License-Identifier: BSD-3-Clause
// The permutation of every GPU back end against a plain stable counting sort, which is what runtime/parallel.c does.
#include "devices.h"

#include "gpu_arrays.h"

typedef struct shape {
    int32_t tokens, used, chosen, all_experts, first_expert, experts;
} shape;

// Around groups of a warp, runs, the most pairs of one block (8192) and tiles (2048). used -1: all.
static const shape shapes[] = {
    {0, -1, 2, 8, 0, 8},       {1, -1, 1, 1, 0, 1},        {1, -1, 8, 8, 0, 8},
    {3, -1, 2, 8, 0, 8},       {31, -1, 1, 4, 0, 4},       {33, -1, 2, 8, 4, 4},
    {64, -1, 4, 128, 32, 32},  {65, 17, 4, 128, 32, 32},   {127, 0, 8, 128, 0, 128},
    {257, -1, 8, 257, 3, 251}, {300, -1, 8, 512, 0, 512},  {300, 299, 3, 1024, 0, 1024},
    {1024, -1, 8, 16, 0, 16},  {1025, -1, 8, 16, 0, 16},   {1367, 1031, 8, 128, 64, 64},
    {8193, -1, 1, 3, 1, 1},    {2049, -1, 5, 300, 7, 270}, {20, -1, 2, 8, 8, 0},
    {5000, 3, 2, 8, 0, 8},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

typedef struct sorted {
    int32_t total;
    int32_t *count, *row_of, *place;
} sorted;

static int32_t *zeros(size_t n)
{
    int32_t *x = calloc(n + 1, sizeof *x);
    assert_non_null(x);
    return x;
}

static sorted sort_plainly(const shape *s, const int32_t *expert)
{
    int32_t pairs = s->tokens * s->chosen, used = s->used < 0 ? pairs : s->used * s->chosen;
    sorted made = {0, zeros((size_t)s->experts), zeros((size_t)pairs), zeros((size_t)pairs)};
    for (int32_t i = 0; i < pairs; i++)
        made.place[i] = -1;
    for (int32_t e = 0; e < s->experts; e++) {
        for (int32_t i = 0; i < used; i++) {
            if (expert[i] != s->first_expert + e)
                continue;
            made.place[i] = made.total;
            made.row_of[made.total++] = i / s->chosen;
            made.count[e]++;
        }
    }
    return made;
}

static void free_sorted(sorted *made)
{
    free(made->count);
    free(made->row_of);
    free(made->place);
}

static void check_sort(gpu_arrays *arrays, const shape *s, const int32_t *expert)
{
    size_t pairs_bytes = (size_t)(s->tokens * s->chosen) * sizeof(int32_t);
    sorted right = sort_plainly(s, expert);
    pr_gpu_permute_args args = {
        .tokens = s->tokens,
        .chosen = s->chosen,
        .first_expert = s->first_expert,
        .experts = s->experts,
        .tokens_used = s->used < 0 ? NULL : gpu_arrays_put(arrays, &s->used, sizeof s->used),
        .expert = gpu_arrays_put(arrays, expert, pairs_bytes),
        .count = gpu_arrays_take(arrays, (size_t)s->experts * sizeof(int32_t)),
        .total = gpu_arrays_take(arrays, sizeof(int32_t)),
        .row_of = gpu_arrays_take(arrays, pairs_bytes),
        .place = gpu_arrays_take(arrays, pairs_bytes),
    };
    size_t scratch_bytes =
        arrays->operations->permute_scratch_bytes(s->tokens, s->chosen, s->experts);
    args.scratch = gpu_arrays_take(arrays, scratch_bytes);
    arrays->operations->permute(arrays->stream, &args);
    gpu_arrays_assert(arrays, &right.total, args.total, sizeof(int32_t));
    gpu_arrays_assert(arrays, right.count, args.count, (size_t)s->experts * sizeof(int32_t));
    gpu_arrays_assert(arrays, right.place, args.place, pairs_bytes);
    // Of row_of as much is right as there are rows.
    int32_t *row_of = zeros(pairs_bytes / sizeof(int32_t)), *scratch = zeros(scratch_bytes / 4);
    gpu_arrays_get(arrays, row_of, args.row_of, pairs_bytes);
    assert_memory_equal(right.row_of, row_of, (size_t)right.total * sizeof(int32_t));
    gpu_arrays_get(arrays, scratch, args.scratch, scratch_bytes);  // and its guard
    free(row_of);
    free(scratch);
    free_sorted(&right);
}

// Skewed: every second pair goes to one expert.
static void check_every_shape(bool skewed)
{
    gpus_under_test all = gpu_under_test_open();
    for (int i = 0; i < all.count * SHAPES; i++) {
        const shape *s = &shapes[i / all.count];
        gpu_arrays arrays = gpu_arrays_of(&all, i % all.count);
        int32_t *expert = zeros((size_t)(s->tokens * s->chosen));
        uint64_t seed = 5;
        for (int32_t j = 0; j < s->tokens * s->chosen; j++) {
            int32_t drawn = (int32_t)((random_float(&seed) + 1) / 2 * (float)s->all_experts);
            expert[j] = skewed && j % 2 ? s->all_experts - 1 : drawn;
        }
        check_sort(&arrays, s, expert);
        gpu_arrays_release(&arrays);
        free(expert);
    }
    gpu_under_test_close(&all);
}

static void pairs_are_sorted_by_expert_then_token_then_slot(void **state)
{
    (void)state;
    check_every_shape(false);
}

static void a_crowded_expert_keeps_its_order(void **state)
{
    (void)state;
    check_every_shape(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_sorted_by_expert_then_token_then_slot),
        cmocka_unit_test(a_crowded_expert_keeps_its_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
