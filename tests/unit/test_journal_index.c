// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "launcher/journal/journal_index.h"

typedef struct record_data {
    _Alignas(8) unsigned char data[4096];
    size_t size_bytes;
} record_data;

static void put(record_data *record, const void *data, size_t size_bytes)
{
    memcpy(record->data + record->size_bytes, data, size_bytes);
    record->size_bytes += size_bytes;
}

static void
put_token(record_data *record, int64_t position, int32_t answer, int32_t index, int32_t tops)
{
    const pr_journal_token token = {
        .position = position, .answer = answer, .index = index, .token = 10 + index, .tops = tops};
    put(record, &token, sizeof token);
    for (int32_t i = 0; i < tops; i++)
        put(record, &(pr_logprob){.token = i, .logprob = -(float)i}, sizeof(pr_logprob));
}

static void
add(pr_journal_index *index,
    pr_journal_kind kind,
    const void *data,
    size_t size_bytes,
    int64_t offset)
{
    const pr_journal_record record = {
        .kind = kind, .data = data, .size_bytes = size_bytes, .offset = offset};
    assert_int_equal(pr_journal_index_add(index, 2, &record), PR_OK);
}

static void add_tokens(pr_journal_index *index, const record_data *record)
{
    add(index, PR_JOURNAL_TOKENS, record->data, record->size_bytes, 0);
}

static void claim(pr_journal_index *index, int64_t position, uint64_t line_hash)
{
    const pr_journal_claim made = {.position = position, .line_hash = line_hash};
    add(index, PR_JOURNAL_CLAIM, &made, sizeof made, 0);
}

static void finish(pr_journal_index *index, int64_t position, int64_t refused, int64_t offset)
{
    record_data record = {.size_bytes = 0};
    const pr_journal_result result = {
        .position = position, .prompt_tokens = 5, .output_tokens = 7, .refused = refused};
    put(&record, &result, sizeof result);
    put(&record, "a line\n", 7);
    add(index, PR_JOURNAL_RESULT, record.data, record.size_bytes, offset);
}

static int32_t known_tokens(const pr_journal_index *index, int64_t position, int32_t answer)
{
    const pr_journal_entry *entry = pr_journal_index_find(index, position);
    assert_non_null(entry);
    for (int32_t i = 0; i < entry->answers; i++) {
        const pr_journal_answer *found = &entry->answer[i];
        for (int32_t t = 0; t < found->tokens; t++)
            assert_int_equal(found->token[t].token, 10 + t);
        if (found->answer == answer)
            return found->tokens;
    }
    return 0;
}

static void tokens_count_once_and_without_a_gap(void **state)
{
    (void)state;
    static const int32_t order[] = {0, 0, 2, 1, 0, 1, 2, 9, 3, 2};  // 0 1 2 3 come to fit in turn
    static const int32_t known[] = {1, 1, 1, 2, 2, 2, 3, 3, 4, 4};
    pr_journal_index index = {0};
    claim(&index, 3, 1);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        record_data record = {.size_bytes = 0};
        put_token(&record, 3, 1, order[i], (int32_t)i % 3);
        put_token(&record, 3, 0, -1, 0);
        add_tokens(&index, &record);
        assert_int_equal(known_tokens(&index, 3, 1), known[i]);
        assert_int_equal(known_tokens(&index, 3, 0), 0);
    }
    pr_journal_index_clear(&index);
}

static void tokens_of_lines_that_nobody_claimed_are_left_out(void **state)
{
    (void)state;
    pr_journal_index index = {0};
    record_data record = {.size_bytes = 0};
    put_token(&record, 2, 0, 0, 1);
    put_token(&record, -1, 0, 0, 1);
    put_token(&record, INT64_MAX, 0, 0, 1);
    put_token(&record, 4, 0, 0, 1);
    claim(&index, 4, 1);
    claim(&index, -1, 1);
    claim(&index, INT64_MAX, 1);
    claim(&index, INT64_MIN, 1);
    add_tokens(&index, &record);
    assert_int_equal(known_tokens(&index, 4, 0), 1);
    assert_null(pr_journal_index_find(&index, 2));
    assert_null(pr_journal_index_find(&index, -1));
    assert_null(pr_journal_index_find(&index, 5));
    assert_null(pr_journal_index_find(&index, INT64_MAX));
    assert_int_equal(index.totals.claimed, 1);
    pr_journal_index_clear(&index);
}

// The list of tokens ends at the first that cannot be.
static void tokens_that_cannot_be_end_their_record(void **state)
{
    (void)state;
    static const int32_t tops[] = {-1, INT32_MIN, INT32_MAX, PR_MAX_TOP_LOGPROBS + 1, 3};
    for (size_t i = 0; i < sizeof tops / sizeof *tops; i++) {
        pr_journal_index index = {0};
        record_data record = {.size_bytes = 0};
        claim(&index, 0, 1);
        put_token(&record, 0, 0, 0, 2);
        const pr_journal_token odd = {.index = 1, .token = 11, .tops = tops[i]};
        put(&record, &odd, sizeof odd);
        put(&record, "only 15 bytes..", 15);  // not what 3 tops take
        add_tokens(&index, &record);
        assert_int_equal(known_tokens(&index, 0, 0), 1);
        pr_journal_index_clear(&index);
    }
}

static void the_first_claim_and_the_first_result_stay(void **state)
{
    (void)state;
    pr_journal_index index = {0};
    finish(&index, 1, 0, 100);  // of nothing that was claimed
    assert_null(pr_journal_index_find(&index, 1));
    claim(&index, 1, 11);
    claim(&index, 1, 12);
    finish(&index, 1, 0, 200);
    finish(&index, 1, 1, 300);
    const pr_journal_entry *entry = pr_journal_index_find(&index, 1);
    assert_int_equal(entry->claim.line_hash, 11);
    assert_true(entry->done && !entry->refused);
    assert_int_equal(entry->file, 2);
    assert_int_equal(entry->result_offset, 200 + (int64_t)sizeof(pr_journal_result));
    assert_int_equal(entry->result_bytes, 7);
    claim(&index, 5000, 1);
    finish(&index, 5000, 1, 400);
    assert_int_equal(index.totals.claimed, 2);
    assert_int_equal(index.totals.answered, 1);
    assert_int_equal(index.totals.refused, 1);
    assert_int_equal(index.totals.output_tokens, 14);
    pr_journal_index_clear(&index);
}

static void a_result_makes_its_tokens_needless(void **state)
{
    (void)state;
    pr_journal_index index = {0};
    record_data record = {.size_bytes = 0};
    claim(&index, 0, 1);
    put_token(&record, 0, 0, 0, 2);
    put_token(&record, 0, 1, 0, 2);
    add_tokens(&index, &record);
    assert_int_equal(pr_journal_index_find(&index, 0)->answers, 2);
    finish(&index, 0, 0, 0);
    add_tokens(&index, &record);
    assert_int_equal(pr_journal_index_find(&index, 0)->answers, 0);
    pr_journal_index_clear(&index);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(tokens_count_once_and_without_a_gap),
    cmocka_unit_test(tokens_of_lines_that_nobody_claimed_are_left_out),
    cmocka_unit_test(tokens_that_cannot_be_end_their_record),
    cmocka_unit_test(the_first_claim_and_the_first_result_stay),
    cmocka_unit_test(a_result_makes_its_tokens_needless),
};

int main(void) { return cmocka_run_group_tests(tests, NULL, NULL); }
