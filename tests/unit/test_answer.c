// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>
#include <string.h>

#include "launcher/openai/answer.h"

static char stop_rows[] = "rows", stop_wer[] = "wer", stop_ow[] = "ow", stop_a[] = "a",
            stop_x[] = "x";
static pr_model *model;
static pr_tokenizer *tokenizer;

static int open_model(void **state)
{
    (void)state;
    const char *path = PR_SOURCE_DIR "/tests/data/models/llama-tiny";
    return pr_model_open(path, &model) != PR_OK || pr_tokenizer_open(path, &tokenizer) != PR_OK;
}

static int close_model(void **state)
{
    (void)state;
    pr_tokenizer_close(tokenizer);
    pr_model_close(model);
    return 0;
}

// Feeds text as tokens until the answer is done; returns how many tokens went in.
static int feed_text(pr_answer *answer, const char *text, bool *cancelled)
{
    int32_t *token, tokens;
    assert_int_equal(
        pr_tokenizer_encode(tokenizer, text, strlen(text), false, false, &token, &tokens), PR_OK);
    int fed = 0;
    *cancelled = false;
    while (fed < tokens && !*cancelled) {
        pr_token_report report = {
            .token = token[fed],
            .index = fed,
            .finish = fed == tokens - 1 ? PR_FINISH_LENGTH : PR_FINISH_NONE,
        };
        assert_int_equal(pr_answer_add(answer, model, &report, cancelled), PR_OK);
        fed++;
    }
    free(token);
    return fed;
}

static void a_stop_string_is_found_across_token_borders(void **state)
{
    (void)state;
    pr_completion_request request = {
        .stops = 2, .stop = {stop_rows, stop_wer}, .skip_special = true};
    pr_answer answer;
    bool cancelled;
    assert_int_equal(pr_answer_begin(&request, tokenizer, &answer), PR_OK);
    int fed = feed_text(&answer, "the rowers come", &cancelled);
    assert_true(cancelled);
    assert_true(answer.done);
    assert_int_equal(answer.finish, PR_FINISH_STOP);
    assert_string_equal(answer.text, "the ro");
    assert_string_equal(answer.stop_string, "wer");
    assert_int_equal(fed, 9);
    pr_answer_end(&answer);
}

static void the_stop_string_is_kept_when_asked(void **state)
{
    (void)state;
    pr_completion_request request = {.stops = 1, .stop = {stop_ow}, .include_stop = true};
    pr_answer answer;
    bool cancelled;
    assert_int_equal(pr_answer_begin(&request, tokenizer, &answer), PR_OK);
    feed_text(&answer, "rower", &cancelled);
    assert_string_equal(answer.text, "row");
    pr_answer_end(&answer);
}

// At every token: what was settled before still stands at the end, and at the end all is settled.
static void settled_text_is_never_taken_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"the rowers come", "roroww ow", "rowr", "a row of rows"};
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
        pr_completion_request request = {.stops = 2, .stop = {stop_rows, stop_wer}};
        pr_answer answer;
        int32_t *token, tokens;
        size_t settled[64] = {0};
        char kept[64][64] = {{0}};
        bool cancelled = false;
        assert_int_equal(pr_answer_begin(&request, tokenizer, &answer), PR_OK);
        assert_int_equal(
            pr_tokenizer_encode(
                tokenizer, texts[t], strlen(texts[t]), false, false, &token, &tokens),
            PR_OK);
        for (int32_t i = 0; i < tokens && !cancelled; i++) {
            pr_token_report report = {
                .token = token[i],
                .finish = i == tokens - 1 ? PR_FINISH_LENGTH : PR_FINISH_NONE,
            };
            assert_int_equal(pr_answer_add(&answer, model, &report, &cancelled), PR_OK);
            settled[i] = pr_answer_settled(&answer);
            memcpy(kept[i], answer.text, settled[i]);
        }
        assert_int_equal(pr_answer_settled(&answer), answer.text_bytes);
        for (int32_t i = 0; i < tokens; i++) {
            assert_true(settled[i] <= answer.text_bytes);
            assert_memory_equal(kept[i], answer.text, settled[i]);
        }
        free(token);
        pr_answer_end(&answer);
    }
}

static void only_the_beginning_of_a_stop_string_is_held(void **state)
{
    (void)state;
    pr_completion_request request = {.stops = 1, .stop = {stop_rows}};
    pr_answer answer = {.request = &request};
    static char text[] = "a crow";
    answer.text = text;
    answer.text_bytes = 6;
    assert_int_equal(pr_answer_settled(&answer), 3);
    answer.text_bytes = 4;
    assert_int_equal(pr_answer_settled(&answer), 3);
    answer.text_bytes = 3;
    assert_int_equal(pr_answer_settled(&answer), 3);
    answer.text_bytes = 0;
    assert_int_equal(pr_answer_settled(&answer), 0);
}

static void tokens_that_a_cut_may_move_are_not_settled(void **state)
{
    (void)state;
    pr_completion_request request = {.stops = 1, .stop = {stop_rows}};
    pr_answer_token token[] = {{.text_offset = 0}, {.text_offset = 3}, {.text_offset = 4}};
    static char text[] = "a crow";
    pr_answer answer = {
        .request = &request, .text = text, .text_bytes = 6, .token = token, .tokens = 3};
    assert_int_equal(pr_answer_settled_tokens(&answer, 2), 1);
    assert_int_equal(pr_answer_settled_tokens(&answer, 3), 2);
    assert_int_equal(pr_answer_settled_tokens(&answer, 4), 3);
    answer.done = true;
    assert_int_equal(pr_answer_settled_tokens(&answer, 0), 3);
    answer = (pr_answer){.request = &request};
    assert_int_equal(pr_answer_settled_tokens(&answer, 0), 0);
}

static void a_stop_string_counts_only_after_min_tokens(void **state)
{
    (void)state;
    pr_completion_request request = {.stops = 1, .stop = {stop_a}};
    request.sampling.min_tokens = 4;
    pr_answer answer;
    bool cancelled;
    assert_int_equal(pr_answer_begin(&request, tokenizer, &answer), PR_OK);
    feed_text(&answer, "banana", &cancelled);
    assert_string_equal(answer.text, "ban");
    pr_answer_end(&answer);
}

static void tokens_after_the_stop_change_nothing(void **state)
{
    (void)state;
    pr_completion_request request = {.stops = 1, .stop = {stop_x}};
    pr_answer answer;
    bool cancelled;
    assert_int_equal(pr_answer_begin(&request, tokenizer, &answer), PR_OK);
    feed_text(&answer, "abxcd", &cancelled);
    pr_token_report late = {.token = 99, .index = 3};
    assert_int_equal(pr_answer_add(&answer, model, &late, &cancelled), PR_OK);
    assert_false(cancelled);
    assert_string_equal(answer.text, "ab");
    assert_int_equal(answer.tokens, 3);
    pr_answer_end(&answer);
}

static void split_characters_come_out_whole_and_logprobs_keep_their_bits(void **state)
{
    (void)state;
    pr_completion_request request = {.sampling = {.top_logprobs = 1}};
    pr_answer answer;
    bool cancelled;
    assert_int_equal(pr_answer_begin(&request, tokenizer, &answer), PR_OK);
    feed_text(&answer, "\xc3\xa9\xe2\x82\xac", &cancelled);
    assert_string_equal(answer.text, "\xc3\xa9\xe2\x82\xac");
    answer.token[0].logprob = -0.1f;
    json_t *choice = pr_answer_choice(&answer, tokenizer, 0, NULL, 0);
    char *text = json_dumps(choice, JSON_REAL_PRECISION(9));
    json_t *again = json_loads(text, 0, NULL);
    const json_t *values = json_object_get(json_object_get(again, "logprobs"), "token_logprobs");
    assert_true((float)json_real_value(json_array_get(values, 0)) == -0.1f);
    assert_int_equal(json_array_size(values), answer.tokens);
    json_decref(again);
    json_decref(choice);
    free(text);
    pr_answer_end(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_string_is_found_across_token_borders),
        cmocka_unit_test(the_stop_string_is_kept_when_asked),
        cmocka_unit_test(a_stop_string_counts_only_after_min_tokens),
        cmocka_unit_test(settled_text_is_never_taken_back),
        cmocka_unit_test(only_the_beginning_of_a_stop_string_is_held),
        cmocka_unit_test(tokens_that_a_cut_may_move_are_not_settled),
        cmocka_unit_test(tokens_after_the_stop_change_nothing),
        cmocka_unit_test(split_characters_come_out_whole_and_logprobs_keep_their_bits),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
