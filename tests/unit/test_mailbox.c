// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <pthread.h>

#include "launcher/serve/mailbox.h"

enum { RECORDS = 200000, SENDERS = 3 };

typedef struct record {
    int32_t sender, number;
} record;

static void records_come_out_in_order_and_once(void **state)
{
    (void)state;
    pr_mailbox *mailbox;
    size_t records;
    assert_int_equal(pr_mailbox_create(sizeof(record), &mailbox), PR_OK);
    pr_mailbox_take(mailbox, &records);
    assert_int_equal(records, 0);
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(pr_mailbox_put(mailbox, &(record){.number = i}), PR_OK);
    const record *taken = pr_mailbox_take(mailbox, &records);
    assert_int_equal(records, 3);
    for (int32_t i = 0; i < 3; i++)
        assert_int_equal(taken[i].number, i);
    pr_mailbox_take(mailbox, &records);
    assert_int_equal(records, 0);
    pr_mailbox_destroy(mailbox);
}

static void what_was_taken_stays_while_more_is_put(void **state)
{
    (void)state;
    pr_mailbox *mailbox;
    size_t records;
    assert_int_equal(pr_mailbox_create(sizeof(record), &mailbox), PR_OK);
    assert_int_equal(pr_mailbox_put(mailbox, &(record){.number = 7}), PR_OK);
    const record *taken = pr_mailbox_take(mailbox, &records);
    for (int32_t i = 0; i < 1000; i++)
        assert_int_equal(pr_mailbox_put(mailbox, &(record){.number = i}), PR_OK);
    assert_int_equal(taken[0].number, 7);
    pr_mailbox_destroy(mailbox);
}

typedef struct sender {
    pr_mailbox *mailbox;
    int32_t number;
} sender;

static void *send_records(void *argument)
{
    const sender *self = argument;
    for (int32_t i = 0; i < RECORDS; i++) {
        if (pr_mailbox_put(self->mailbox, &(record){self->number, i}) != PR_OK)
            return argument;
    }
    return NULL;
}

static void nothing_is_lost_between_threads(void **state)
{
    (void)state;
    pr_mailbox *mailbox;
    pthread_t thread[SENDERS];
    sender self[SENDERS];
    int32_t next[SENDERS] = {0};
    assert_int_equal(pr_mailbox_create(sizeof(record), &mailbox), PR_OK);
    for (int32_t i = 0; i < SENDERS; i++) {
        self[i] = (sender){mailbox, i};
        assert_int_equal(pthread_create(&thread[i], NULL, send_records, &self[i]), 0);
    }
    for (int64_t all = 0; all < (int64_t)RECORDS * SENDERS;) {
        size_t records;
        const record *taken = pr_mailbox_take(mailbox, &records);
        for (size_t i = 0; i < records; i++)
            assert_int_equal(taken[i].number, next[taken[i].sender]++);
        all += (int64_t)records;
    }
    for (int32_t i = 0; i < SENDERS; i++) {
        void *failed;
        pthread_join(thread[i], &failed);
        assert_null(failed);
        assert_int_equal(next[i], RECORDS);
    }
    pr_mailbox_destroy(mailbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_out_in_order_and_once),
        cmocka_unit_test(what_was_taken_stays_while_more_is_put),
        cmocka_unit_test(nothing_is_lost_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
