// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <string.h>

#include "launcher/leave/watch_book.h"

enum { RANKS = 6, LIMIT_S = 10 };
#define SECONDS(n) ((int64_t)((n)*1e9))

// Ranks 0 and 1 prefill, 2 to 5 decode.
static const pr_layout layout = {
    .ranks = RANKS,
    .groups = 2,
    .group =
        {{.role = PR_ROLE_PREFILL, .first_rank = 0, .ranks = 2, .tp = 1},
         {.role = PR_ROLE_DECODE, .first_rank = 2, .ranks = 4, .tp = 2}},
};

typedef struct fixture {
    pr_watch_book *book;
    pr_watch_state state[RANKS];
    char text[PR_WATCH_TEXT_BYTES];
} fixture;

static int set_up(void **state)
{
    static fixture made;
    memset(&made, 0, sizeof made);
    for (int32_t r = 0; r < RANKS; r++) {
        made.state[r] = (pr_watch_state){
            .number = 100, .plan = 12, .step = 3, .layer = 7, .activity = PR_WATCH_COMPUTES};
        strcpy(made.state[r].operation, "expert combine");
    }
    *state = &made;
    if (pr_watch_book_create(RANKS, SECONDS(LIMIT_S), &made.book) != PR_OK)
        return 1;
    pr_watch_book_set_layout(made.book, &layout);
    return 0;
}

static int tear_down(void **state)
{
    pr_watch_book_destroy(((fixture *)*state)->book);
    return 0;
}

static void wait_for(fixture *f, int32_t rank, int32_t peer)
{
    f->state[rank].activity = PR_WATCH_WAITS;
    f->state[rank].peer = peer;
    f->state[rank].number++;
    f->state[rank].changes++;
}

// All but `silent` report at this time.
static void hear(fixture *f, double time_s, int32_t silent)
{
    for (int32_t r = 0; r < RANKS; r++) {
        if (r != silent)
            pr_watch_book_hear(f->book, r, SECONDS(time_s), &f->state[r]);
    }
}

static pr_watch_verdict judge(fixture *f, double time_s)
{
    strcpy(f->text, "nothing");
    return pr_watch_book_judge(f->book, SECONDS(time_s), f->text);
}

static void who_reports_is_not_blamed(void **state)
{
    fixture *f = *state;
    for (int32_t second = 1; second < 100; second++) {
        hear(f, second, -1);
        assert_int_equal(judge(f, second), PR_WATCH_FINE);
    }
}

static void nobody_is_judged_before_the_first_report(void **state)
{
    fixture *f = *state;
    hear(f, 1, 3);
    for (int32_t second = 2; second < 30; second++) {
        hear(f, second, 3);
        assert_int_equal(judge(f, second), PR_WATCH_FINE);
    }
}

static void a_silent_rank_is_warned_of_once_and_then_named(void **state)
{
    fixture *f = *state;
    int32_t warnings = 0, stuck_at = 0;
    hear(f, 1, -1);
    wait_for(f, 2, 3);
    wait_for(f, 4, 3);
    for (int32_t second = 2; second < 30 && stuck_at == 0; second++) {
        hear(f, second, 3);
        pr_watch_verdict verdict = judge(f, second);
        warnings += verdict == PR_WATCH_STRANGE;
        stuck_at = verdict == PR_WATCH_STUCK ? second : 0;
    }
    assert_int_equal(warnings, 1);
    assert_int_equal(stuck_at, 1 + LIMIT_S + 1);
    assert_string_equal(
        f->text, "rank 3 (decode group 1) does not answer since 11.0 s: ranks 2, 4 wait for it "
                 "since 10.0 s in "
                 "expert combine of layer 7, plan 12 step 3 (their number 101; its last was 100, "
                 "expert combine "
                 "of layer 7, plan 12 step 3)");
}

static void who_waits_for_one_that_waits_waits_for_the_silent_one(void **state)
{
    fixture *f = *state;
    hear(f, 1, -1);
    wait_for(f, 5, 4);
    wait_for(f, 4, 3);
    strcpy(f->state[1].wait, "KV transfer");
    wait_for(f, 1, 5);
    hear(f, 2, 3);
    hear(f, 11.5, 3);
    assert_int_equal(judge(f, 11.5), PR_WATCH_STUCK);
    assert_non_null(strstr(f->text, "rank 3 (decode group 1) does not answer"));
    assert_non_null(strstr(f->text, "ranks 1, 4, 5 wait for it since 9.5 s in expert combine"));
}

static void numbers_of_another_group_are_not_compared(void **state)
{
    fixture *f = *state;
    hear(f, 1, -1);
    strcpy(f->state[1].wait, "KV transfer");
    wait_for(f, 1, 3);
    hear(f, 2, 3);
    hear(f, 11.5, 3);
    assert_int_equal(judge(f, 11.5), PR_WATCH_STUCK);
    assert_non_null(strstr(
        f->text, "rank 1 waits for it since 9.5 s in KV transfer after expert combine of layer 7, "
                 "plan 12 step 3 (its last was 100,"));
}

static void an_idle_rank_that_is_silent_is_named_too(void **state)
{
    fixture *f = *state;
    f->state[3].activity = PR_WATCH_IDLE;
    hear(f, 1, -1);
    hear(f, 11.5, 3);
    assert_int_equal(judge(f, 11.5), PR_WATCH_STUCK);
    assert_non_null(strstr(f->text, "nobody waits for it (its last was 100,"));
    assert_non_null(strstr(f->text, ", idle since)"));
}

static void all_silent_ranks_of_a_lost_node_are_named(void **state)
{
    fixture *f = *state;
    hear(f, 1, -1);
    for (int32_t second = 2; second < 12; second++) {
        for (int32_t r = 0; r < 4; r++)
            pr_watch_book_hear(f->book, r, SECONDS(second), &f->state[r]);
    }
    assert_int_equal(judge(f, 11.5), PR_WATCH_STUCK);
    assert_non_null(strstr(f->text, "rank 4 (decode group 1) does not answer"));
    assert_non_null(strstr(f->text, "; nor does rank 5"));
}

static void a_rank_that_computes_for_long_is_mentioned_once_and_not_blamed(void **state)
{
    fixture *f = *state;
    int32_t warnings = 0;
    hear(f, 1, -1);
    wait_for(f, 2, 3);
    for (int32_t second = 2; second < 60; second++) {
        hear(f, second, -1);
        pr_watch_verdict verdict = judge(f, second);
        assert_int_not_equal(verdict, PR_WATCH_STUCK);
        warnings += verdict == PR_WATCH_STRANGE;
        if (verdict == PR_WATCH_STRANGE)
            assert_non_null(strstr(f->text, "rank 3 (decode group 1) computes for long"));
    }
    assert_int_equal(warnings, 1);
}

static void ranks_that_wait_for_each_other_end_the_search(void **state)
{
    fixture *f = *state;
    hear(f, 1, -1);
    wait_for(f, 2, 3);
    wait_for(f, 3, 2);
    hear(f, 2, -1);
    hear(f, 30, -1);
    assert_int_equal(judge(f, 30), PR_WATCH_FINE);
}

static void a_pause_of_the_listener_counts_against_nobody(void **state)
{
    fixture *f = *state;
    hear(f, 1, -1);
    wait_for(f, 2, 3);
    hear(f, 2, -1);
    pr_watch_book_pause(f->book, SECONDS(100));
    assert_int_equal(judge(f, 103), PR_WATCH_FINE);
    assert_int_equal(judge(f, 113), PR_WATCH_STUCK);
}

static void who_has_left_is_not_judged(void **state)
{
    fixture *f = *state;
    hear(f, 1, -1);
    pr_watch_book_leave(f->book, 3);
    hear(f, 20, 3);
    assert_int_equal(judge(f, 20), PR_WATCH_FINE);
}

static void a_lost_rank_is_told_once_after_a_while(void **state)
{
    fixture *f = *state;
    hear(f, 1, -1);
    wait_for(f, 2, 3);
    hear(f, 2, 3);
    pr_watch_book_lose(f->book, 3, SECONDS(2));
    assert_int_equal(judge(f, 3), PR_WATCH_FINE);
    hear(f, 7, 3);
    assert_int_equal(judge(f, 7), PR_WATCH_LOST);
    assert_non_null(strstr(
        f->text, "rank 3 (decode group 1) is lost: rank 2 waits for it since 5.0 s in expert "));
    hear(f, 30, 3);
    assert_int_equal(judge(f, 30), PR_WATCH_FINE);
}

static void without_a_limit_only_lost_ranks_are_told(void **state)
{
    fixture *f = *state;
    pr_watch_book_destroy(f->book);
    assert_int_equal(pr_watch_book_create(RANKS, 0, &f->book), PR_OK);
    hear(f, 1, -1);
    hear(f, 1000, 3);
    assert_int_equal(judge(f, 1000), PR_WATCH_FINE);
    pr_watch_book_lose(f->book, 3, SECONDS(1000));
    assert_int_equal(judge(f, 1010), PR_WATCH_LOST);
    assert_non_null(strstr(f->text, "rank 3 is lost"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_reports_is_not_blamed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            nobody_is_judged_before_the_first_report, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_silent_rank_is_warned_of_once_and_then_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            who_waits_for_one_that_waits_waits_for_the_silent_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            numbers_of_another_group_are_not_compared, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            an_idle_rank_that_is_silent_is_named_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            all_silent_ranks_of_a_lost_node_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_rank_that_computes_for_long_is_mentioned_once_and_not_blamed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            ranks_that_wait_for_each_other_end_the_search, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_pause_of_the_listener_counts_against_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_has_left_is_not_judged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_rank_is_told_once_after_a_while, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            without_a_limit_only_lost_ranks_are_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
