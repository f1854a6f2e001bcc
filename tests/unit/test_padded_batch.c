// SPDX-License-Identifier: BSD-3-Clause
// Decode steps made longer: which can be, and what the further rows are.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/model/padded_batch.h"

enum { ROWS = 3, MOST = 8 };

static const int32_t token[ROWS] = {7, 8, 9}, position[ROWS] = {4, 0, 20};
static const int32_t first_blocks[] = {5}, second_blocks[] = {6}, third_blocks[] = {1, 2};
static const pr_segment segment[ROWS] = {
    {.first_row = 0, .rows = 1, .start_position = 4, .block = first_blocks},
    {.first_row = 1, .rows = 1, .start_position = 0, .block = second_blocks},
    {.first_row = 2, .rows = 1, .start_position = 20, .block = third_blocks},
};
static const int32_t output_row[ROWS] = {0, 1, 2};

static void told(void *context, int32_t layer)
{
    (void)context;
    (void)layer;
}

static pr_forward_batch decode_step(void)
{
    return (pr_forward_batch){
        .tokens = ROWS,
        .token = token,
        .position = position,
        .segments = ROWS,
        .segment = segment,
        .outputs = ROWS,
        .output_row = output_row,
        .layer_done = told,
    };
}

static void further_rows_are_the_first_row_again(void **state)
{
    (void)state;
    pr_padded_batch *padded;
    assert_int_equal(pr_padded_batch_create(MOST, &padded), PR_OK);
    const pr_forward_batch batch = decode_step();
    const pr_forward_batch *longer = pr_padded_batch_fill(padded, &batch, MOST);
    assert_int_equal(longer->tokens, MOST);
    assert_int_equal(longer->segments, MOST);
    assert_int_equal(longer->outputs, MOST);
    assert_true(longer->layer_done == told);
    for (int32_t t = 0; t < MOST; t++) {
        int32_t from = t < ROWS ? t : 0;
        assert_int_equal(longer->token[t], token[from]);
        assert_int_equal(longer->position[t], position[from]);
        assert_int_equal(longer->output_row[t], t);
        assert_int_equal(longer->segment[t].first_row, t);
        assert_int_equal(longer->segment[t].rows, 1);
        assert_int_equal(longer->segment[t].start_position, position[from]);
        assert_ptr_equal(longer->segment[t].block, segment[from].block);
    }
    pr_padded_batch_destroy(padded);
}

static void a_step_that_is_long_enough_stays_as_it_is(void **state)
{
    (void)state;
    pr_padded_batch *padded;
    assert_int_equal(pr_padded_batch_create(ROWS, &padded), PR_OK);
    const pr_forward_batch batch = decode_step();
    const pr_forward_batch *same = pr_padded_batch_fill(padded, &batch, ROWS);
    assert_int_equal(same->tokens, ROWS);
    assert_memory_equal(same->token, token, sizeof token);
    assert_memory_equal(same->segment, segment, sizeof segment);
    pr_padded_batch_destroy(padded);
}

static void prompts_silent_rows_and_empty_steps_are_not_padded(void **state)
{
    (void)state;
    pr_forward_batch batch = decode_step();
    assert_true(pr_padded_batch_can(&batch));
    batch.segments = 2;  // one of them has two rows
    assert_false(pr_padded_batch_can(&batch));
    batch = decode_step();
    batch.outputs = 2;
    assert_false(pr_padded_batch_can(&batch));
    assert_false(pr_padded_batch_can(&(pr_forward_batch){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(further_rows_are_the_first_row_again),
        cmocka_unit_test(a_step_that_is_long_enough_stays_as_it_is),
        cmocka_unit_test(prompts_silent_rows_and_empty_steps_are_not_padded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
