// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>

#include "launcher/batch/id_set.h"

static pr_status add(pr_id_set *set, const char *id, int64_t line, int64_t *earlier)
{
    const pr_id_key key = pr_id_set_key(id);
    return pr_id_set_add(set, &key, line, earlier);
}

static void an_id_is_new_once_and_then_names_its_line(void **state)
{
    (void)state;
    enum { IDS = 20000 };
    pr_id_set set = {0};
    int64_t earlier;
    char id[32];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < IDS; i++) {
            snprintf(id, sizeof id, "request-%d", i);
            assert_int_equal(add(&set, id, 1 + i + round * IDS, &earlier), PR_OK);
            assert_int_equal(earlier, round == 0 ? 0 : 1 + i);
        }
    }
    assert_int_equal(set.ids, IDS);
    assert_true(set.ids * 4 <= set.places * 3 && set.places <= set.ids * 3);
    pr_id_set_clear(&set);
}

static void a_prefix_of_an_id_is_another_id(void **state)
{
    (void)state;
    pr_id_set set = {0};
    int64_t earlier;
    static const char *const ids[] = {"r", "r1", "r11", "R1", " r1", "é", "e"};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        assert_int_equal(add(&set, ids[i], 7, &earlier), PR_OK);
        assert_int_equal(earlier, 0);
    }
    pr_id_set_clear(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_new_once_and_then_names_its_line),
        cmocka_unit_test(a_prefix_of_an_id_is_another_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
