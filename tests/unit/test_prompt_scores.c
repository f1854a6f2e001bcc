// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/openai/reply.h"

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

// The request of a body, which is good.
static pr_completion_request *parse(const char *text)
{
    pr_completion_context context = {
        .model = model, .tokenizer = tokenizer, .served_name = "tiny", .max_model_len = 64};
    pr_completion_request *request;
    pr_refusal refusal;
    json_t *body = json_loads(text, 0, NULL);
    assert_non_null(body);
    assert_int_equal(pr_completion_request_parse(&context, body, &request, &refusal), PR_OK);
    json_decref(body);
    return request;
}

static float logprob_of(int32_t index) { return -0.1f * (float)index; }

// What a worker reports of token `index` of a prompt.
static void report(pr_reply *reply, uint64_t id, const pr_prompt *prompt, int32_t index)
{
    int32_t own = prompt->token[index];
    pr_logprob top[2] = {{own == 65 ? 66 : 65, logprob_of(index) + 0.01f}, {67, -9}};
    pr_prompt_logprob entry = {
        .id = id,
        .index = index,
        .token = own,
        .logprob = logprob_of(index),
        .tops = reply->request->sampling.prompt_logprobs,
        .top = top,
    };
    pr_reply_prompt_logprob(reply, &entry);
}

static void begin(pr_reply *reply, const char *body)
{
    assert_int_equal(pr_reply_begin(parse(body), tokenizer, reply), PR_OK);
    reply->first_id = 40;
}

static void finish(pr_reply *reply, int32_t index, int32_t token)
{
    pr_token_report last = {.token = token, .finish = PR_FINISH_LENGTH, .logprob = -0.5f};
    bool cancel;
    assert_int_equal(pr_answer_add(&reply->answer[index], model, &last, &cancel), PR_OK);
    assert_true(reply->answer[index].done && !cancel);
}

// The body as a client reads it.
static json_t *read_body(const pr_reply *reply)
{
    pr_reply_names names = {.id = "x", .model = "tiny"};
    json_t *body = pr_reply_body(reply, tokenizer, &names);
    char *text = json_dumps(body, JSON_REAL_PRECISION(9));
    json_t *again = json_loads(text, 0, NULL);
    assert_non_null(again);
    free(text);
    json_decref(body);
    return again;
}

static const json_t *list_of(const json_t *body, size_t choice, const char *name)
{
    const json_t *chosen = json_array_get(json_object_get(body, "choices"), choice);
    return json_object_get(json_object_get(chosen, "logprobs"), name);
}

static void the_prompt_stands_before_the_answer_with_the_same_bits_in_both_lists(void **state)
{
    (void)state;
    pr_reply reply;
    begin(&reply, "{\"prompt\":\"h\\u00e9y\",\"echo\":true,\"logprobs\":2,\"max_tokens\":1}");
    const pr_prompt *prompt = &reply.request->prompt[0];
    int32_t n = prompt->tokens;
    assert_int_equal(reply.request->sampling.prompt_logprobs, 2);
    for (int32_t i = n - 1; i > 0; i--)  // the order of reports does not matter
        report(&reply, 40, prompt, i);
    finish(&reply, 0, 'Q');
    json_t *body = read_body(&reply);
    const json_t *tokens = list_of(body, 0, "tokens"), *values = list_of(body, 0, "token_logprobs");
    const json_t *tops = list_of(body, 0, "top_logprobs");
    const json_t *offsets = list_of(body, 0, "text_offset");
    size_t all = (size_t)n + 1;
    assert_true(json_array_size(tokens) == all && json_array_size(values) == all);
    assert_true(json_array_size(tops) == all && json_array_size(offsets) == all);
    assert_true(json_is_null(json_array_get(values, 0)));
    assert_true(json_is_null(json_array_get(tops, 0)));
    for (int32_t i = 1; i < n; i++) {
        const char *key = json_string_value(json_array_get(tokens, (size_t)i));
        const json_t *value = json_array_get(values, (size_t)i);
        const json_t *own = json_object_get(json_array_get(tops, (size_t)i), key);
        assert_true((float)json_real_value(value) == logprob_of(i));
        assert_true(json_real_value(own) == json_real_value(value));
    }
    const json_t *choice = json_array_get(json_object_get(body, "choices"), 0);
    const char *text = json_string_value(json_object_get(choice, "text"));
    assert_memory_equal(text, "h\xc3\xa9y", 4);
    assert_int_equal(json_integer_value(json_array_get(offsets, 0)), 0);
    assert_int_equal(json_integer_value(json_array_get(offsets, (size_t)n - 1)), 2);  // "y"
    assert_int_equal(json_integer_value(json_array_get(offsets, (size_t)n)), 3);
    assert_true((float)json_real_value(json_array_get(values, (size_t)n)) == -0.5f);
    json_decref(body);
    pr_reply_end(&reply);
}

static void all_choices_show_what_choice_0_computed(void **state)
{
    (void)state;
    pr_reply reply;
    begin(
        &reply,
        "{\"prompt\":[\"ab\",\"xyz\"],\"n\":2,\"echo\":true,\"logprobs\":1,\"max_tokens\":1}");
    for (int32_t p = 0; p < 2; p++) {
        for (int32_t i = 1; i < reply.request->prompt[p].tokens; i++)
            report(&reply, 40 + 2 * (uint64_t)p, &reply.request->prompt[p], i);
    }
    for (int32_t i = 0; i < 4; i++)
        finish(&reply, i, 'A' + i);
    json_t *body = read_body(&reply);
    for (size_t c = 0; c < 4; c++) {
        const json_t *values = list_of(body, c, "token_logprobs");
        size_t n = (size_t)reply.request->prompt[c / 2].tokens;
        assert_int_equal(json_array_size(values), n + 1);
        for (size_t i = 1; i < n; i++)
            assert_true(
                (float)json_real_value(json_array_get(values, i)) == logprob_of((int32_t)i));
    }
    json_decref(body);
    pr_reply_end(&reply);
}

static void only_choice_0_asks_and_no_other_request_has_its_salt(void **state)
{
    (void)state;
    pr_reply reply, plain;
    pr_request *sequence[4], *other;
    begin(
        &reply,
        "{\"prompt\":[\"ab\",\"ab\"],\"n\":2,\"echo\":true,\"logprobs\":1,\"max_tokens\":1}");
    begin(&plain, "{\"prompt\":\"ab\",\"logprobs\":1,\"max_tokens\":1}");
    for (int32_t i = 0; i < 4; i++)
        assert_int_equal(pr_reply_sequence(&reply, i, 7, &sequence[i]), PR_OK);
    assert_int_equal(pr_reply_sequence(&plain, 0, 7, &other), PR_OK);
    for (int32_t i = 0; i < 4; i++) {
        assert_int_equal(sequence[i]->sampling.prompt_logprobs, i % 2 == 0 ? 1 : -1);
        assert_true(sequence[i]->salt == sequence[i - i % 2]->salt);
        assert_true(sequence[i]->salt != 7);
    }
    assert_true(sequence[0]->salt != sequence[2]->salt);
    assert_true(other->salt == 7 && other->sampling.prompt_logprobs == -1);
    for (int32_t i = 0; i < 4; i++)
        pr_request_destroy(sequence[i]);
    pr_request_destroy(other);
    pr_reply_end(&reply);
    pr_reply_end(&plain);
}

static void max_tokens_0_scores_and_answers_nothing(void **state)
{
    (void)state;
    pr_reply reply;
    begin(&reply, "{\"prompt\":\"abc\",\"echo\":true,\"logprobs\":0,\"max_tokens\":0}");
    assert_int_equal(reply.request->sampling.max_tokens, 1);
    for (int32_t i = 1; i < 3; i++)
        report(&reply, 40, &reply.request->prompt[0], i);
    finish(&reply, 0, 'Q');
    json_t *body = read_body(&reply);
    const json_t *choice = json_array_get(json_object_get(body, "choices"), 0);
    assert_string_equal(json_string_value(json_object_get(choice, "text")), "abc");
    assert_string_equal(json_string_value(json_object_get(choice, "finish_reason")), "length");
    assert_int_equal(json_array_size(list_of(body, 0, "tokens")), 3);
    assert_int_equal(json_object_size(json_array_get(list_of(body, 0, "top_logprobs"), 1)), 1);
    const json_t *usage = json_object_get(body, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "prompt_tokens")), 3);
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 0);
    json_decref(body);
    pr_reply_end(&reply);
}

static void an_entry_that_does_not_fit_the_prompt_is_ignored(void **state)
{
    (void)state;
    int32_t token[3] = {1, 2, 3};
    pr_prompt prompt = {.token = token, .tokens = 3};
    pr_logprob top[3] = {{0, 0}};
    pr_prompt_scores scores;
    assert_int_equal(pr_prompt_scores_begin(&prompt, tokenizer, 2, &scores), PR_OK);
    static const pr_prompt_logprob bad[] = {
        {.index = 0, .token = 1},
        {.index = 3, .token = 3},
        {.index = -1, .token = 3},
        {.index = 1, .token = 3},
        {.index = 2, .token = 3, .tops = 3},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pr_prompt_logprob entry = bad[i];
        entry.top = top;
        pr_prompt_scores_add(&scores, &entry);
        for (int k = 0; k < 3; k++)
            assert_false(scores.score[k].known);
    }
    pr_prompt_logprob good = {.index = 2, .token = 3, .logprob = -INFINITY, .tops = 2, .top = top};
    pr_prompt_scores_add(&scores, &good);
    assert_true(scores.score[2].known && !scores.score[1].known);
    pr_prompt_scores_end(&scores);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_prompt_stands_before_the_answer_with_the_same_bits_in_both_lists),
        cmocka_unit_test(all_choices_show_what_choice_0_computed),
        cmocka_unit_test(only_choice_0_asks_and_no_other_request_has_its_salt),
        cmocka_unit_test(max_tokens_0_scores_and_answers_nothing),
        cmocka_unit_test(an_entry_that_does_not_fit_the_prompt_is_ignored),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
