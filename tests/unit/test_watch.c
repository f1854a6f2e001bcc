// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <pthread.h>
#include <string.h>

#include "comm/watch.h"

static pr_watch_state look(void)
{
    pr_watch_state state;
    pr_watch_read(&state);
    return state;
}

static void operations_are_numbered_and_a_wait_belongs_to_one(void **state)
{
    (void)state;
    uint64_t number = look().number;
    pr_watch_step(12, 3);
    pr_watch_begin("expert combine", 7);
    assert_int_equal(look().number, number + 1);
    assert_int_equal(look().activity, PR_WATCH_COMPUTES);
    pr_watch_wait(NULL, 3);
    assert_int_equal(look().number, number + 1);
    assert_int_equal(look().activity, PR_WATCH_WAITS);
    assert_int_equal(look().peer, 3);
    assert_int_equal(look().layer, 7);
    assert_int_equal(look().plan, 12);
    assert_int_equal(look().step, 3);
    assert_string_equal(look().operation, "expert combine");
    assert_string_equal(look().wait, "");
    pr_watch_go();
    assert_int_equal(look().activity, PR_WATCH_COMPUTES);
    pr_watch_idle();
    assert_int_equal(look().activity, PR_WATCH_IDLE);
}

static void whatever_is_noted_changes_the_record(void **state)
{
    (void)state;
    uint64_t changes = look().changes;
    pr_watch_begin("tensor reduce", 0);
    assert_true(look().changes > changes);
    changes = look().changes;
    pr_watch_wait("KV transfer", 1);
    assert_true(look().changes > changes);
    assert_string_equal(look().wait, "KV transfer");
    changes = look().changes;
    pr_watch_go();
    assert_true(look().changes > changes);
    changes = look().changes;
    pr_watch_step(12, 4);
    assert_true(look().changes > changes);
}

static void a_long_name_is_cut(void **state)
{
    (void)state;
    pr_watch_begin("an operation whose name is longer than a record has room for", 0);
    assert_int_equal(strlen(look().operation), PR_WATCH_NAME_BYTES - 1);
}

static void an_error_says_layer_and_step(void **state)
{
    (void)state;
    char text[PR_WATCH_PLACE_BYTES];
    pr_watch_step(12, 3);
    pr_watch_begin("tensor gather", -1);
    pr_watch_place(text);
    assert_string_equal(text, ", plan 12 step 3");
    pr_watch_begin("expert combine", 7);
    pr_watch_place(text);
    assert_string_equal(text, " of layer 7, plan 12 step 3");
}

static void *write_from_another_thread(void *unused)
{
    pr_watch_begin("not the worker's", 1);
    pr_watch_wait("nor this", 1);
    pr_watch_idle();
    return unused;
}

static void only_the_worker_thread_writes(void **state)
{
    (void)state;
    pthread_t thread;
    pr_watch_begin("tensor reduce", 0);
    pr_watch_state before = look();
    assert_int_equal(pthread_create(&thread, NULL, write_from_another_thread, NULL), 0);
    pthread_join(thread, NULL);
    pr_watch_state after = look();
    assert_memory_equal(&before, &after, sizeof before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operations_are_numbered_and_a_wait_belongs_to_one),
        cmocka_unit_test(whatever_is_noted_changes_the_record),
        cmocka_unit_test(a_long_name_is_cut),
        cmocka_unit_test(an_error_says_layer_and_step),
        cmocka_unit_test(only_the_worker_thread_writes),
    };
    pr_watch_adopt();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
