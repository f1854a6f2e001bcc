// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdlib.h>

#include "runtime/base/hash.h"
#include "scheduler/dispatch/lane_tree.h"

static int32_t best_of(const double *key, int32_t lanes)
{
    int32_t best = -1;
    for (int32_t i = 0; i < lanes; i++) {
        if (key[i] < (double)INFINITY && (best < 0 || key[i] < key[best]))
            best = i;
    }
    return best;
}

static void compare_with_a_scan(int32_t lanes, int32_t steps, uint64_t seed)
{
    pr_lane_tree *tree;
    assert_int_equal(pr_lane_tree_create(lanes, &tree), PR_OK);
    double *key = malloc((size_t)lanes * sizeof *key);
    for (int32_t i = 0; i < lanes; i++)
        key[i] = (double)INFINITY;
    assert_int_equal(pr_lane_tree_best(tree), -1);
    for (int32_t step = 0; step < steps; step++) {
        uint64_t draw = pr_hash_mix(++seed);
        int32_t lane = (int32_t)(draw % (uint64_t)lanes);
        double value = (double)(draw >> 32 & 31) - 8;  // few values: many ties
        key[lane] = draw >> 40 & 3 ? value : (double)INFINITY;
        pr_lane_tree_set(tree, lane, key[lane]);
        assert_true(pr_lane_tree_key(tree, lane) == key[lane]);
        assert_int_equal(pr_lane_tree_best(tree), best_of(key, lanes));
    }
    for (int32_t i = 0; i < lanes; i++)
        pr_lane_tree_set(tree, i, (double)INFINITY);
    assert_int_equal(pr_lane_tree_best(tree), -1);
    free(key);
    pr_lane_tree_destroy(tree);
}

static void the_best_lane_is_the_one_a_scan_finds(void **state)
{
    (void)state;
    for (int32_t lanes = 1; lanes <= 40; lanes++)
        compare_with_a_scan(lanes, 2000, (uint64_t)lanes);
    compare_with_a_scan(1000, 5000, 7);
    compare_with_a_scan(4097, 2000, 8);
}

static void of_equal_lanes_the_lowest_is_best(void **state)
{
    (void)state;
    enum { LANES = 100000 };
    pr_lane_tree *tree;
    assert_int_equal(pr_lane_tree_create(LANES, &tree), PR_OK);
    for (int32_t i = LANES - 1; i >= 0; i--) {
        pr_lane_tree_set(tree, i, 1.5);
        assert_int_equal(pr_lane_tree_best(tree), i);
    }
    for (int32_t i = 0; i < LANES - 1; i++) {
        pr_lane_tree_set(tree, i, 2.0);
        assert_int_equal(pr_lane_tree_best(tree), i + 1);
    }
    pr_lane_tree_destroy(tree);
}

static void a_tree_without_lanes_is_refused(void **state)
{
    (void)state;
    pr_lane_tree *tree = NULL;
    assert_int_equal(pr_lane_tree_create(0, &tree), PR_ERR_ARGUMENT);
    assert_int_equal(pr_lane_tree_create(-3, &tree), PR_ERR_ARGUMENT);
    assert_null(tree);
    pr_lane_tree_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_best_lane_is_the_one_a_scan_finds),
        cmocka_unit_test(of_equal_lanes_the_lowest_is_best),
        cmocka_unit_test(a_tree_without_lanes_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
