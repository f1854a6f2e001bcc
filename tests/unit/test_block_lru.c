// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <string.h>

#include "scheduler/policy/block_lru.h"

static pr_block_lru *make(int32_t blocks, const pr_block_lru_watch *watch)
{
    pr_block_lru *lru;
    assert_int_equal(pr_block_lru_create(blocks, watch, &lru), PR_OK);
    return lru;
}

static void the_tail_of_the_prompt_used_least_recently_goes_first(void **state)
{
    (void)state;
    pr_block_lru *lru = make(4, NULL);
    pr_block_lru_insert(lru, (uint64_t[]){1, 2, 3, 4}, 4);
    pr_block_lru_insert(lru, (uint64_t[]){5}, 1);
    assert_false(pr_block_lru_holds(lru, 4));
    assert_int_equal(pr_block_lru_depth(lru, (uint64_t[]){1, 2, 3, 4}, 4), 3);
    pr_block_lru_touch(lru, (uint64_t[]){1, 2, 3}, 3);
    pr_block_lru_insert(lru, (uint64_t[]){6}, 1);
    assert_false(pr_block_lru_holds(lru, 5));
    assert_int_equal(pr_block_lru_count(lru), 4);
    pr_block_lru_destroy(lru);
}

static void touching_what_is_not_held_changes_nothing(void **state)
{
    (void)state;
    pr_block_lru *lru = make(2, NULL);
    pr_block_lru_insert(lru, (uint64_t[]){1, 2}, 2);
    pr_block_lru_touch(lru, (uint64_t[]){7, 8}, 2);
    assert_int_equal(pr_block_lru_count(lru), 2);
    assert_false(pr_block_lru_holds(lru, 7));
    pr_block_lru_destroy(lru);
}

// The same as a list that is searched from end to end, and as what the watch was told.
enum { MOST = 37, NAMES = 100 };

typedef struct model {
    uint64_t block[MOST + 1];  // most recent first
    int32_t count;
    bool watched[NAMES];
} model;

static void stored(void *context, uint64_t block)
{
    model *told = context;
    assert_false(told->watched[block]);
    told->watched[block] = true;
}

static void evicted(void *context, uint64_t block)
{
    model *told = context;
    assert_true(told->watched[block]);
    told->watched[block] = false;
}

static int32_t find(const model *list, uint64_t block)
{
    for (int32_t i = 0; i < list->count; i++) {
        if (list->block[i] == block)
            return i;
    }
    return -1;
}

static void use(model *list, uint64_t block, bool insert)
{
    int32_t at = find(list, block);
    if (at < 0 && !insert)
        return;
    if (at < 0)
        at = list->count < MOST ? list->count++ : MOST - 1;
    memmove(&list->block[1], &list->block[0], (size_t)at * sizeof list->block[0]);
    list->block[0] = block;
}

static void it_agrees_with_a_list_over_many_random_uses(void **state)
{
    (void)state;
    model list = {0};
    pr_block_lru_watch watch = {&list, stored, evicted};
    pr_block_lru *lru = make(MOST, &watch);
    uint64_t random = 1;
    for (int step = 0; step < 50000; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t prompt[12];
        int32_t blocks = (int32_t)(random >> 60) % 12 + 1;
        uint64_t first = (random >> 33) % NAMES;
        for (int32_t i = 0; i < blocks; i++)
            prompt[i] = (first + (uint64_t)i * 7) % NAMES;
        bool insert = (random >> 59) & 1;
        if (insert)
            pr_block_lru_insert(lru, prompt, blocks);
        else
            pr_block_lru_touch(lru, prompt, blocks);
        for (int32_t i = blocks - 1; i >= 0; i--)
            use(&list, prompt[i], insert);
        assert_int_equal(pr_block_lru_count(lru), list.count);
        uint64_t probe = (random >> 20) % NAMES;
        assert_int_equal(pr_block_lru_holds(lru, probe), find(&list, probe) >= 0);
        assert_int_equal(list.watched[probe], find(&list, probe) >= 0);
    }
    pr_block_lru_destroy(lru);
}

static void warm(pr_block_lru *lru, double use, double cost)
{
    assert_int_equal(pr_block_lru_heat(lru, &(pr_block_heat){use, cost}), PR_OK);
}

static void what_is_used_often_or_dear_stays_longer(void **state)
{
    (void)state;
    pr_block_lru *lru = make(4, NULL);
    warm(lru, 1, 0.5);
    pr_block_lru_insert(lru, (uint64_t[]){1}, 1);
    pr_block_lru_touch(lru, (uint64_t[]){1}, 1);  // twice: four uses of blocks longer
    pr_block_lru_value(lru, 3);
    pr_block_lru_insert(lru, (uint64_t[]){2}, 1);  // six longer
    pr_block_lru_value(lru, 0);
    for (uint64_t other = 10; other < 14; other++)
        pr_block_lru_insert(lru, &other, 1);
    assert_true(pr_block_lru_holds(lru, 1) && pr_block_lru_holds(lru, 2));
    for (uint64_t other = 20; other < 23; other++)
        pr_block_lru_insert(lru, &other, 1);
    assert_false(pr_block_lru_holds(lru, 1));
    assert_true(pr_block_lru_holds(lru, 2));
    for (uint64_t other = 30; other < 33; other++)
        pr_block_lru_insert(lru, &other, 1);
    assert_false(pr_block_lru_holds(lru, 2));
    pr_block_lru_destroy(lru);
}

// Prompts of a tree in which block b hangs under b / 2: whatever is held, so is all above it.
static void with_heat_tails_go_before_their_heads(void **state)
{
    (void)state;
    pr_block_lru *lru = make(MOST, NULL);
    warm(lru, 0.3, 0.5);
    uint64_t random = 7;
    for (int step = 0; step < 20000; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t prompt[8], leaf = 128 + (random >> 57);
        for (int i = 7; i >= 0; i--, leaf /= 2)
            prompt[i] = leaf;
        pr_block_lru_touch(lru, prompt, pr_block_lru_depth(lru, prompt, 8));
        pr_block_lru_insert(lru, prompt, 8);
        for (uint64_t block = 2; block < 256; block++)
            assert_true(!pr_block_lru_holds(lru, block) || pr_block_lru_holds(lru, block / 2));
    }
    pr_block_lru_destroy(lru);
}

static void a_cache_of_no_blocks_is_refused(void **state)
{
    (void)state;
    pr_block_lru *lru;
    assert_int_equal(pr_block_lru_create(0, NULL, &lru), PR_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tail_of_the_prompt_used_least_recently_goes_first),
        cmocka_unit_test(touching_what_is_not_held_changes_nothing),
        cmocka_unit_test(it_agrees_with_a_list_over_many_random_uses),
        cmocka_unit_test(what_is_used_often_or_dear_stays_longer),
        cmocka_unit_test(with_heat_tails_go_before_their_heads),
        cmocka_unit_test(a_cache_of_no_blocks_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
