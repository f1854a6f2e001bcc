// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/parallel.h"

static void dispatch_sorts_rows_by_expert_and_keeps_token_order(void **state)
{
    (void)state;
    pr_parallel *alone;
    assert_int_equal(pr_parallel_alone_create(4, 2, 3, 5, &alone), PR_OK);
    static const float x[3][3] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};
    static const int32_t expert[3][2] = {{3, 1}, {1, 0}, {3, 1}};
    pr_dispatch_args args = {
        .tokens = 3, .chosen = 2, .hidden = 3, .x = &x[0][0], .expert = &expert[0][0]};
    assert_int_equal(alone->expert_dispatch(alone, &args), PR_OK);
    static const int32_t count[4] = {1, 3, 0, 2};
    static const int32_t token[6] = {1, 0, 1, 2, 0, 2};
    assert_int_equal(args.received, 6);
    assert_memory_equal(args.count, count, sizeof(count));
    for (int row = 0; row < 6; row++)
        assert_memory_equal(args.rows + 3 * row, x[token[row]], sizeof(x[0]));

    float result[6][3];
    const float *slot[3][2];
    for (int row = 0; row < 6; row++) {
        for (int i = 0; i < 3; i++)
            result[row][i] = (float)row;
    }
    pr_return_args back = {.rows = &result[0][0], .slot = &slot[0][0]};
    assert_int_equal(alone->expert_combine(alone, &back), PR_OK);
    static const float slot_row[3][2] = {{4, 1}, {2, 0}, {5, 3}};
    for (int t = 0; t < 3; t++) {
        for (int k = 0; k < 2; k++)
            assert_true(slot[t][k][0] == slot_row[t][k] && slot[t][k][2] == slot_row[t][k]);
    }
    pr_parallel_alone_destroy(alone);
}

static void a_step_without_tokens_dispatches_nothing(void **state)
{
    (void)state;
    pr_parallel *alone;
    assert_int_equal(pr_parallel_alone_create(4, 2, 3, 5, &alone), PR_OK);
    pr_dispatch_args args = {.tokens = 0, .chosen = 2, .hidden = 3};
    assert_int_equal(alone->expert_dispatch(alone, &args), PR_OK);
    assert_int_equal(args.received, 0);
    for (int e = 0; e < 4; e++)
        assert_int_equal(args.count[e], 0);
    pr_return_args back = {.rows = NULL, .slot = NULL};
    assert_int_equal(alone->expert_combine(alone, &back), PR_OK);
    pr_parallel_alone_destroy(alone);
}

static void too_many_tokens_are_refused(void **state)
{
    (void)state;
    pr_parallel *alone;
    assert_int_equal(pr_parallel_alone_create(4, 2, 3, 5, &alone), PR_OK);
    float x[6 * 3] = {0};
    int32_t expert[12] = {0};
    pr_dispatch_args args = {.tokens = 6, .chosen = 2, .hidden = 3, .x = x, .expert = expert};
    pr_error_capture_begin();
    assert_int_equal(alone->expert_dispatch(alone, &args), PR_ERR_INTERNAL);
    pr_error_capture_end();
    pr_parallel_alone_destroy(alone);
}

static void alone_is_one_rank_and_reduces_to_itself(void **state)
{
    (void)state;
    pr_parallel *alone;
    assert_int_equal(pr_parallel_alone_create(0, 0, 3, 5, &alone), PR_OK);
    assert_int_equal(alone->tp, 1);
    assert_int_equal(alone->lanes, 1);
    assert_int_equal(alone->ranks, 1);
    float x[4] = {1, 2, 3, 4}, whole[4], sum[4];
    assert_null(alone->tensor_room(alone));
    assert_int_equal(alone->tensor_reduce(alone, x, x, 2, 2), PR_OK);
    assert_int_equal(alone->tensor_reduce(alone, x, sum, 2, 2), PR_OK);
    assert_memory_equal(sum, x, sizeof(x));
    assert_int_equal(alone->tensor_gather(alone, x, whole, 2, 2), PR_OK);
    assert_memory_equal(whole, x, sizeof(x));
    pr_parallel_alone_destroy(alone);
    pr_error_capture_begin();
    assert_int_equal(pr_parallel_alone_create(2, 3, 3, 5, &alone), PR_ERR_ARGUMENT);
    pr_error_capture_end();
}

static void shares_cover_everything_once(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 40; n++) {
        for (int64_t ranks = 1; ranks < 9; ranks++) {
            assert_int_equal(pr_share_begin(n, 0, ranks), 0);
            assert_int_equal(pr_share_begin(n, ranks, ranks), n);
            for (int64_t r = 0; r < ranks; r++) {
                int64_t share = pr_share_begin(n, r + 1, ranks) - pr_share_begin(n, r, ranks);
                assert_true(share == n / ranks || share == (n + ranks - 1) / ranks);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dispatch_sorts_rows_by_expert_and_keeps_token_order),
        cmocka_unit_test(a_step_without_tokens_dispatches_nothing),
        cmocka_unit_test(too_many_tokens_are_refused),
        cmocka_unit_test(alone_is_one_rank_and_reduces_to_itself),
        cmocka_unit_test(shares_cover_everything_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
