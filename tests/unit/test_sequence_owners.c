// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include "launcher/openai/sequence_owners.h"

static void ids_run_on_and_find_their_owner(void **state)
{
    (void)state;
    pr_sequence_owners owners;
    char one, two;
    uint64_t first;
    pr_sequence_owners_begin(&owners);
    assert_null(pr_sequence_owners_find(&owners, 0));
    assert_null(pr_sequence_owners_find(&owners, 1));
    assert_int_equal(pr_sequence_owners_add(&owners, &one, 3, &first), PR_OK);
    assert_int_equal(first, 1);
    assert_int_equal(pr_sequence_owners_add(&owners, &two, 1, &first), PR_OK);
    assert_int_equal(first, 4);
    assert_ptr_equal(pr_sequence_owners_find(&owners, 1), &one);
    assert_ptr_equal(pr_sequence_owners_find(&owners, 3), &one);
    assert_ptr_equal(pr_sequence_owners_find(&owners, 4), &two);
    assert_null(pr_sequence_owners_find(&owners, 5));
    pr_sequence_owners_remove(&owners, 1, 3);
    assert_null(pr_sequence_owners_find(&owners, 2));
    assert_ptr_equal(pr_sequence_owners_find(&owners, 4), &two);
    pr_sequence_owners_end(&owners);
}

static void the_table_is_as_long_as_the_oldest_open_one_is_old(void **state)
{
    (void)state;
    pr_sequence_owners owners;
    char old, other;
    uint64_t first, oldest;
    pr_sequence_owners_begin(&owners);
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(pr_sequence_owners_add(&owners, &other, 2, &first), PR_OK);
        pr_sequence_owners_remove(&owners, first, 2);
    }
    assert_true(owners.capacity < 100);
    assert_int_equal(pr_sequence_owners_add(&owners, &old, 1, &oldest), PR_OK);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(pr_sequence_owners_add(&owners, &other, 1, &first), PR_OK);
        pr_sequence_owners_remove(&owners, first, 1);
    }
    assert_ptr_equal(pr_sequence_owners_find(&owners, oldest), &old);
    assert_true(owners.capacity < 10000);
    pr_sequence_owners_end(&owners);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_run_on_and_find_their_owner),
        cmocka_unit_test(the_table_is_as_long_as_the_oldest_open_one_is_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
