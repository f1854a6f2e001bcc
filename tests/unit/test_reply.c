// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
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

static void begin(pr_reply *reply, const char *text)
{
    pr_completion_context context = {
        .model = model, .tokenizer = tokenizer, .served_name = "tiny", .max_model_len = 64};
    pr_completion_request *request;
    pr_refusal refusal;
    json_t *body = json_loads(text, 0, NULL);
    assert_non_null(body);
    assert_int_equal(pr_completion_request_parse(&context, body, &request, &refusal), PR_OK);
    json_decref(body);
    assert_int_equal(pr_reply_begin(request, tokenizer, reply), PR_OK);
    reply->first_id = 40;
}

// Token `index` of an answer. Returns whether the answer is done.
static bool add(pr_reply *reply, int32_t answer, int32_t index, int32_t token, pr_finish finish)
{
    const pr_token_report report = {.token = token, .index = index, .finish = finish};
    bool cancel;
    assert_int_equal(pr_answer_add(&reply->answer[answer], model, &report, &cancel), PR_OK);
    return reply->answer[answer].done;
}

static pr_request *sequence(const pr_reply *reply, int32_t index)
{
    pr_request *made;
    assert_int_equal(pr_reply_sequence(reply, index, 0, &made), PR_OK);
    assert_int_equal(made->id, 40 + (uint64_t)index);
    return made;
}

static void an_answer_that_was_begun_goes_on_after_its_tokens(void **state)
{
    (void)state;
    pr_reply reply;
    begin(&reply, "{\"prompt\":\"hey\",\"max_tokens\":5}");
    pr_request *fresh = sequence(&reply, 0);
    assert_int_equal(fresh->outputs, 0);
    assert_false(add(&reply, 0, 0, 'a', PR_FINISH_NONE));
    assert_false(add(&reply, 0, 1, 'b', PR_FINISH_NONE));
    pr_request *begun = sequence(&reply, 0);
    assert_int_equal(begun->outputs, 2);
    assert_int_equal(begun->output[0], 'a');
    assert_int_equal(begun->output[1], 'b');
    assert_int_equal(begun->prompt_tokens, fresh->prompt_tokens);
    assert_int_equal(begun->sampling.max_tokens, fresh->sampling.max_tokens);
    pr_request_destroy(fresh);
    pr_request_destroy(begun);
    pr_reply_end(&reply);
}

static void siblings_wait_for_the_first_choice_that_is_still_computed(void **state)
{
    (void)state;
    pr_reply reply;
    begin(&reply, "{\"prompt\":[\"hey\",\"you\"],\"n\":3,\"max_tokens\":4}");
    assert_int_equal(reply.answers, 6);
    for (int32_t done = 0; done < 3; done++) {  // choices 0..done-1 of the second prompt
        for (int32_t i = 0; i < 3; i++) {
            pr_request *of_first = sequence(&reply, i), *of_second = sequence(&reply, 3 + i);
            assert_int_equal(of_first->sibling_of, 40);
            if (i >= done)
                assert_int_equal(of_second->sibling_of, 43 + done);
            assert_int_equal(of_second->sampling.choice, i);
            pr_request_destroy(of_first);
            pr_request_destroy(of_second);
        }
        assert_true(add(&reply, 3 + done, 0, 'x', PR_FINISH_LENGTH));
    }
    pr_reply_end(&reply);
}

// However many of its tokens an earlier run had, and in which order the choices come.
static void the_body_is_the_same_wherever_an_earlier_run_was_cut(void **state)
{
    (void)state;
    enum { TOKENS = 6 };
    static const char request[] =
        "{\"prompt\":\"hey\",\"n\":2,\"max_tokens\":6,\"logprobs\":0,\"stop\":[\"ef\"]}";
    const pr_reply_names names = {.id = "x", .model = "tiny"};
    char *expected = NULL;
    for (int32_t cut = 0; cut <= TOKENS; cut++) {
        pr_reply reply;
        begin(&reply, request);
        for (int32_t part = 0; part < 2; part++) {
            int32_t from = part ? cut : 0, to = part ? TOKENS : cut;
            for (int32_t c = 0; c < 2; c++) {
                int32_t answer = part ? 1 - c : c;
                for (int32_t i = from; i < to && !reply.answer[answer].done; i++)
                    add(&reply, answer, i, 'a' + answer + i,
                        i == TOKENS - 1 ? PR_FINISH_LENGTH : PR_FINISH_NONE);
            }
        }
        json_t *body = pr_reply_body(&reply, tokenizer, &names);
        char *text = json_dumps(body, JSON_COMPACT);
        json_decref(body);
        pr_reply_end(&reply);
        assert_non_null(strstr(text, "\"stop\""));
        if (expected)
            assert_string_equal(text, expected);
        free(expected);
        expected = text;
    }
    free(expected);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(an_answer_that_was_begun_goes_on_after_its_tokens),
    cmocka_unit_test(siblings_wait_for_the_first_choice_that_is_still_computed),
    cmocka_unit_test(the_body_is_the_same_wherever_an_earlier_run_was_cut),
};

int main(void) { return cmocka_run_group_tests(tests, open_model, close_model); }
