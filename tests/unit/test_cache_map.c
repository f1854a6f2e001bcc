// SPDX-License-Identifier: BSD-3-Clause
// The map against a model that is a plain table of booleans.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "scheduler/dispatch/cache_map.h"

typedef struct plain_map {
    int32_t lanes, blocks;
    uint64_t *block;  // [blocks] their hashes
    bool *holds;      // [blocks][lanes]
    pr_cache_map *map;
} plain_map;

static void model_create(plain_map *model, int32_t lanes, int32_t blocks)
{
    model->lanes = lanes;
    model->blocks = blocks;
    model->block = malloc((size_t)blocks * sizeof *model->block);
    model->holds = calloc((size_t)blocks * (size_t)lanes, sizeof *model->holds);
    for (int32_t i = 0; i < blocks; i++)  // plain numbers, 0 and the largest among them
        model->block[i] = i == 1 ? UINT64_MAX : (uint64_t)i;
    assert_int_equal(pr_cache_map_create(lanes, &model->map), PR_OK);
}

static void model_destroy(plain_map *model)
{
    pr_cache_map_destroy(model->map);
    free(model->holds);
    free(model->block);
}

static bool *cell(const plain_map *model, int32_t block, int32_t lane)
{
    return &model->holds[(size_t)block * (size_t)model->lanes + (size_t)lane];
}

static void put(plain_map *model, int32_t block, int32_t lane, bool held)
{
    int64_t changes = pr_cache_map_changes(model->map) + (*cell(model, block, lane) != held);
    *cell(model, block, lane) = held;
    if (held)
        assert_int_equal(pr_cache_map_add(model->map, model->block[block], lane), PR_OK);
    else
        pr_cache_map_remove(model->map, model->block[block], lane);
    assert_int_equal(pr_cache_map_changes(model->map), changes);
}

static int32_t holders_of(const plain_map *model, int32_t block)
{
    int32_t holders = 0;
    for (int32_t i = 0; i < model->lanes; i++)
        holders += *cell(model, block, i);
    return holders;
}

static int32_t holder_from(const plain_map *model, int32_t block, int32_t from)
{
    for (int32_t i = 0; i < model->lanes; i++) {
        int32_t lane = (from + i) % model->lanes;
        if (*cell(model, block, lane))
            return lane;
    }
    return -1;
}

static int32_t depth_of(const plain_map *model, const int32_t *prompt, int32_t blocks, int32_t lane)
{
    int32_t depth = 0;
    while (depth < blocks && *cell(model, prompt[depth], lane))
        depth++;
    return depth;
}

static int32_t union_depth_of(const plain_map *model, const int32_t *prompt, int32_t blocks)
{
    int32_t depth = 0;
    while (depth < blocks && holders_of(model, prompt[depth]) > 0)
        depth++;
    return depth;
}

// Every lane that reaches the first block with few holders, deepest first.
static int32_t candidates_of(
    const plain_map *model, const int32_t *prompt, int32_t blocks, pr_cache_candidate *candidate)
{
    int32_t end = union_depth_of(model, prompt, blocks), few = 0, found = 0;
    while (few < end && holders_of(model, prompt[few]) > PR_CACHE_MAP_FEW)
        few++;
    for (int32_t depth = end; depth > few; depth--) {
        for (int32_t lane = 0; lane < model->lanes; lane++) {
            if (depth_of(model, prompt, end, lane) == depth)
                candidate[found++] = (pr_cache_candidate){.lane = lane, .depth = depth};
        }
    }
    return found;
}

static void compare_block(const plain_map *model, int32_t block, int32_t lane)
{
    uint64_t hash = model->block[block];
    assert_int_equal(pr_cache_map_holds(model->map, hash, lane), *cell(model, block, lane));
    assert_int_equal(pr_cache_map_holders(model->map, hash), holders_of(model, block));
    assert_int_equal(pr_cache_map_holder(model->map, hash, lane), holder_from(model, block, lane));
    assert_int_equal(
        pr_cache_map_holder(model->map, hash, model->lanes), holder_from(model, block, 0));
}

static void
compare_prompt(const plain_map *model, const int32_t *prompt, int32_t blocks, int32_t lane)
{
    uint64_t *hash = calloc((size_t)blocks + 1, sizeof *hash);
    for (int32_t i = 0; i < blocks; i++)
        hash[i] = model->block[prompt[i]];
    int32_t end = union_depth_of(model, prompt, blocks);
    assert_int_equal(pr_cache_map_union_depth(model->map, hash, blocks), end);
    assert_int_equal(
        pr_cache_map_depth(model->map, hash, blocks, lane), depth_of(model, prompt, blocks, lane));
    for (int32_t other = 0; other < model->lanes; other += 1 + model->lanes / 4) {
        int32_t run = depth_of(model, prompt, blocks, lane);
        for (int32_t i = run - 1; i >= 0; i--)
            run = *cell(model, prompt[i], other) ? i : run;
        assert_int_equal(pr_cache_map_run(model->map, hash, blocks, lane, other), run);
    }
    pr_cache_candidate *expected = malloc(((size_t)model->lanes + 1) * sizeof *expected);
    int32_t count = candidates_of(model, prompt, blocks, expected);
    assert_true(count <= PR_CACHE_MAP_FEW);
    for (int32_t most = 0; most <= PR_CACHE_MAP_FEW + 1; most++) {
        pr_cache_candidate found[PR_CACHE_MAP_FEW + 1];
        int32_t depth = -1;
        int32_t lanes = pr_cache_map_candidates(model->map, hash, blocks, &depth, found, most);
        assert_int_equal(depth, end);
        assert_int_equal(lanes, count < most ? count : most);
        for (int32_t i = 0; i < lanes; i++) {
            assert_int_equal(found[i].lane, expected[i].lane);
            assert_int_equal(found[i].depth, expected[i].depth);
        }
    }
    free(expected);
    free(hash);
}

static void compare_sizes(const plain_map *model)
{
    int64_t blocks = 0, copies = 0;
    for (int32_t lane = 0; lane < model->lanes; lane++) {
        int32_t held = 0;
        for (int32_t i = 0; i < model->blocks; i++)
            held += *cell(model, i, lane);
        assert_int_equal(pr_cache_map_copies_of(model->map, lane), held);
    }
    for (int32_t i = 0; i < model->blocks; i++) {
        int32_t holders = holders_of(model, i);
        blocks += holders > 0;
        copies += holders;
    }
    assert_int_equal(pr_cache_map_blocks(model->map), blocks);
    assert_int_equal(pr_cache_map_copies(model->map), copies);
    pr_cache_map_check(model->map);
}

// Fills, churns and empties again; lanes' sets have gaps.
static void churn(int32_t lanes, int32_t blocks, int32_t steps, uint64_t seed)
{
    enum { LONGEST = 70 };
    plain_map model;
    model_create(&model, lanes, blocks);
    for (int32_t step = 0; step < steps; step++) {
        uint64_t draw = pr_hash_mix(++seed);
        // Low numbers are drawn more often, so that holders go from none to all lanes.
        int32_t block = (int32_t)((draw & 0xffff) * (draw >> 16 & 0xffff) * (uint64_t)blocks >> 32);
        int32_t lane = (int32_t)((draw >> 32 & 0xffff) % (uint64_t)lanes);
        int32_t phase = step / (steps / 4 + 1);  // grow, churn, churn, shrink
        uint64_t adds_of_8 = phase == 0 ? 7 : phase == 3 ? 1 : 4;
        put(&model, block, lane, (draw >> 48 & 7) < adds_of_8);
        compare_block(&model, block, lane);
        if (step % 16 == 0) {
            int32_t prompt[LONGEST], length = (int32_t)(draw >> 52) % (LONGEST + 1);
            int32_t first = step % 32 == 0 ? 0 : block;
            for (int32_t i = 0; i < length; i++)
                prompt[i] = (first + i) % blocks;
            compare_prompt(&model, prompt, length, lane);
        }
        if (step % 1024 == 0)
            compare_sizes(&model);
    }
    for (int32_t block = 0; block < blocks; block++) {
        for (int32_t lane = 0; lane < lanes; lane++)
            put(&model, block, lane, false);
    }
    compare_sizes(&model);
    assert_int_equal(pr_cache_map_blocks(model.map), 0);
    model_destroy(&model);
}

static void the_map_says_what_a_plain_table_says(void **state)
{
    (void)state;
    churn(1, 50, 4000, 1);
    churn(6, 40, 20000, 2);
    churn(16, 300, 20000, 3);
    churn(64, 1500, 20000, 4);
    churn(130, 5000, 40000, 5);
}

static void depth_ends_at_the_first_gap(void **state)
{
    (void)state;
    plain_map model;
    model_create(&model, 20, 100);
    int32_t prompt[100];
    for (int32_t i = 0; i < 100; i++) {
        prompt[i] = i;
        for (int32_t lane = 0; lane < 20; lane++)
            put(&model, i, lane, i < 10 || (lane < 4 && i != 10 + 20 * lane));
    }
    for (int32_t lane = 0; lane < 20; lane++)
        compare_prompt(&model, prompt, 100, lane);
    put(&model, 95, 0, false);
    for (int32_t lane = 1; lane < 20; lane++)
        put(&model, 95, lane, false);
    compare_prompt(&model, prompt, 100, 0);
    compare_prompt(&model, prompt, 0, 0);
    model_destroy(&model);
}

static void growth_loses_no_block_and_keeps_63_bytes_per_block(void **state)
{
    (void)state;
    enum { BLOCKS = 400000, LANES = 1000 };
    pr_cache_map *map;
    assert_int_equal(pr_cache_map_create(LANES, &map), PR_OK);
    for (uint64_t i = 0; i < BLOCKS; i++) {
        assert_int_equal(pr_cache_map_add(map, i, (int32_t)(i % LANES)), PR_OK);
        // Old ones and new ones are there at any time, also those the growth is just moving.
        uint64_t other = pr_hash_mix(i) % (i + 1);
        assert_true(pr_cache_map_holds(map, other, (int32_t)(other % LANES)));
        assert_false(pr_cache_map_holds(map, i + 1, (int32_t)((i + 1) % LANES)));
        if (i % 40000 == 0)
            pr_cache_map_check(map);
        // Of the old table up to 4 MiB wait to be given back.
        int64_t most_bytes = 63 * pr_cache_map_blocks(map) + (5 << 20);
        assert_true(pr_cache_map_size_bytes(map) <= most_bytes);
    }
    pr_cache_map_check(map);
    for (uint64_t i = 0; i < BLOCKS; i++)
        assert_int_equal(pr_cache_map_holder(map, i, 0), (int32_t)(i % LANES));
    pr_cache_map_destroy(map);
}

static void churn_at_a_steady_size_takes_no_more_memory(void **state)
{
    (void)state;
    enum { HELD = 20000, ROUNDS = 30 };
    pr_cache_map *map;
    assert_int_equal(pr_cache_map_create(8, &map), PR_OK);
    for (uint64_t i = 0; i < HELD; i++)
        assert_int_equal(pr_cache_map_add(map, i, 3), PR_OK);
    int64_t before = 0;
    for (uint64_t i = 0; i < (uint64_t)ROUNDS * HELD; i++) {
        pr_cache_map_remove(map, i, 3);
        assert_int_equal(pr_cache_map_add(map, i + HELD, 3), PR_OK);
        if (i == HELD)
            before = pr_cache_map_size_bytes(map);
    }
    assert_int_equal(pr_cache_map_blocks(map), HELD);
    assert_int_equal(pr_cache_map_size_bytes(map), before);
    pr_cache_map_check(map);
    pr_cache_map_destroy(map);
}

static void a_block_of_100000_lanes_is_a_count_and_a_bitmap(void **state)
{
    (void)state;
    enum { LANES = 100000 };
    pr_cache_map *map;
    assert_int_equal(pr_cache_map_create(LANES, &map), PR_OK);
    const uint64_t prompt[] = {0, 1, 2};
    for (int32_t i = LANES - 1; i >= 0; i--)
        assert_int_equal(pr_cache_map_add(map, 0, i), PR_OK);
    assert_int_equal(pr_cache_map_add(map, 1, 77777), PR_OK);
    assert_int_equal(pr_cache_map_holders(map, 0), LANES);
    assert_int_equal(pr_cache_map_copies(map), LANES + 1);
    int32_t depth;
    pr_cache_candidate found[8];
    assert_int_equal(pr_cache_map_candidates(map, prompt, 1, &depth, found, 8), 0);
    assert_int_equal(depth, 1);
    assert_int_equal(pr_cache_map_candidates(map, prompt, 3, &depth, found, 8), 1);
    assert_int_equal(depth, 2);
    assert_true(found[0].lane == 77777 && found[0].depth == 2);
    for (int32_t i = 0; i < LANES; i++) {
        if (i % 20000 != 19999)
            pr_cache_map_remove(map, 0, i);
    }
    assert_int_equal(pr_cache_map_holders(map, 0), 5);
    pr_cache_map_check(map);
    assert_int_equal(pr_cache_map_candidates(map, prompt, 1, &depth, found, 8), 5);
    for (int32_t i = 0; i < 5; i++)
        assert_true(found[i].lane == i * 20000 + 19999 && found[i].depth == 1);
    assert_int_equal(pr_cache_map_holder(map, 0, 99999), 99999);
    assert_int_equal(pr_cache_map_holder(map, 0, 60000), 79999);
    assert_int_equal(pr_cache_map_holder(map, 0, 0), 19999);
    pr_cache_map_destroy(map);
}

static void adding_twice_and_removing_what_is_not_there_change_nothing(void **state)
{
    (void)state;
    pr_cache_map *map;
    assert_int_equal(pr_cache_map_create(10, &map), PR_OK);
    pr_cache_map_remove(map, 5, 1);
    assert_int_equal(pr_cache_map_blocks(map), 0);
    for (int32_t i = 0; i < 20; i++)
        assert_int_equal(pr_cache_map_add(map, 5, i % 10), PR_OK);
    assert_int_equal(pr_cache_map_copies(map), 10);
    for (int32_t i = 0; i < 10; i++) {
        pr_cache_map_remove(map, 5, 9);
        pr_cache_map_remove(map, 6, i);
    }
    assert_int_equal(pr_cache_map_copies(map), 9);
    assert_int_equal(pr_cache_map_holder(map, 6, 0), -1);
    assert_int_equal(pr_cache_map_holders(map, 6), 0);
    pr_cache_map_check(map);
    pr_cache_map_destroy(map);
}

static void a_map_without_lanes_is_refused(void **state)
{
    (void)state;
    pr_cache_map *map = NULL;
    assert_int_equal(pr_cache_map_create(0, &map), PR_ERR_ARGUMENT);
    assert_null(map);
    pr_cache_map_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_map_says_what_a_plain_table_says),
        cmocka_unit_test(depth_ends_at_the_first_gap),
        cmocka_unit_test(growth_loses_no_block_and_keeps_63_bytes_per_block),
        cmocka_unit_test(churn_at_a_steady_size_takes_no_more_memory),
        cmocka_unit_test(a_block_of_100000_lanes_is_a_count_and_a_bitmap),
        cmocka_unit_test(adding_twice_and_removing_what_is_not_there_change_nothing),
        cmocka_unit_test(a_map_without_lanes_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
