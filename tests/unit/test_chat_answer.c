// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/openai/chat_answer.h"

static const pr_chat_calls ids = {.request_id = "chatcmpl-1"};
static pr_tokenizer *tokenizer;

static int open_tokenizer(void **state)
{
    (void)state;
    return pr_tokenizer_open(PR_SOURCE_DIR "/tests/data/models/llama-tiny", &tokenizer) != PR_OK;
}

static int close_tokenizer(void **state)
{
    (void)state;
    pr_tokenizer_close(tokenizer);
    return 0;
}

static pr_delta delta_of(pr_delta_kind kind, int32_t tool, const char *text)
{
    return (pr_delta){.kind = kind, .tool = tool, .text = text, .size_bytes = strlen(text)};
}

// Written with ' for "; ID0, ID1 stand for the calls' ids.
static void assert_json(json_t *got, const char *expected)
{
    json_t *calls = json_object_get(got, "tool_calls"), *call;
    size_t i;
    json_array_foreach(calls, i, call)
    {
        json_t *index = json_object_get(call, "index");
        if (json_object_get(call, "id"))
            json_object_set_new(
                call, "id", json_sprintf("ID%d", index ? (int)json_integer_value(index) : (int)i));
    }
    char *text = json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY);
    for (char *c = text; *c; c++)
        *c = *c == '"' ? '\'' : *c;
    assert_string_equal(text, expected);
    free(text);
    json_decref(got);
}

static json_t *message_of(const pr_delta *delta, int32_t deltas)
{
    pr_chat_answer chat = {0};
    assert_int_equal(pr_chat_answer_add(&chat, delta, deltas), PR_OK);
    json_t *message = pr_chat_answer_message(&chat, &ids);
    pr_chat_answer_free(&chat);
    return message;
}

static void a_message_has_content_or_null(void **state)
{
    (void)state;
    const pr_delta deltas[] = {
        delta_of(PR_DELTA_CONTENT, 0, "Hm"), delta_of(PR_DELTA_CONTENT, 0, ".\n\xc3\xa9")};
    assert_json(
        message_of(deltas, 2), "{'role':'assistant','content':'Hm.\\n\xc3\xa9','refusal':null}");
    assert_json(message_of(NULL, 0), "{'role':'assistant','content':'','refusal':null}");
    const pr_delta thought = delta_of(PR_DELTA_REASONING, 0, "so");
    assert_json(
        message_of(&thought, 1), "{'role':'assistant','content':null,'refusal':null,"
                                 "'reasoning_content':'so','reasoning':'so'}");
}

static void a_message_has_its_calls(void **state)
{
    (void)state;
    const pr_delta deltas[] = {
        delta_of(PR_DELTA_TOOL_BEGIN, 0, "f"), delta_of(PR_DELTA_TOOL_ARGUMENTS, 0, "{"),
        delta_of(PR_DELTA_TOOL_ARGUMENTS, 0, "}"), delta_of(PR_DELTA_TOOL_BEGIN, 1, "g")};
    assert_json(
        message_of(deltas, 4),
        "{'role':'assistant','content':null,'refusal':null,'tool_calls':["
        "{'id':'ID0','type':'function','function':{'name':'f','arguments':'{}'}},"
        "{'id':'ID1','type':'function','function':{'name':'g','arguments':''}}]}");
}

static void the_first_delta_has_the_role(void **state)
{
    (void)state;
    const pr_delta text = delta_of(PR_DELTA_CONTENT, 0, "Hm");
    const pr_delta thought = delta_of(PR_DELTA_REASONING, 0, "so");
    assert_json(pr_chat_answer_delta(&ids, &text, 1, true), "{'role':'assistant','content':'Hm'}");
    assert_json(pr_chat_answer_delta(&ids, &text, 1, false), "{'content':'Hm'}");
    assert_json(pr_chat_answer_delta(&ids, NULL, 0, true), "{'role':'assistant','content':''}");
    assert_json(pr_chat_answer_delta(&ids, NULL, 0, false), "{}");
    assert_json(
        pr_chat_answer_delta(&ids, &thought, 1, true),
        "{'role':'assistant','reasoning_content':'so','reasoning':'so'}");
}

static void a_delta_says_a_calls_name_once(void **state)
{
    (void)state;
    const pr_delta deltas[] = {
        delta_of(PR_DELTA_TOOL_ARGUMENTS, 0, "1}"), delta_of(PR_DELTA_TOOL_BEGIN, 1, "g"),
        delta_of(PR_DELTA_TOOL_ARGUMENTS, 1, "{\""), delta_of(PR_DELTA_CONTENT, 0, "x")};
    assert_json(
        pr_chat_answer_delta(&ids, deltas, 4, false),
        "{'content':'x','tool_calls':[{'index':0,'function':{'arguments':'1}'}},"
        "{'index':1,'id':'ID1','type':'function','function':{'name':'g','arguments':'{\\''}}]}");
    assert_json(
        pr_chat_answer_delta(&ids, deltas + 1, 1, true),
        "{'role':'assistant','tool_calls':["
        "{'index':1,'id':'ID1','type':'function','function':{'name':'g','arguments':''}}]}");
}

static char *id_of(const pr_chat_calls *calls, int32_t index, bool stream)
{
    const pr_delta deltas[] = {
        delta_of(PR_DELTA_TOOL_BEGIN, 0, "f"), delta_of(PR_DELTA_TOOL_BEGIN, 1, "f")};
    pr_chat_answer chat = {0};
    json_t *object;
    if (stream) {
        object = pr_chat_answer_delta(calls, deltas, 2, false);
    } else {
        assert_int_equal(pr_chat_answer_add(&chat, deltas, 2), PR_OK);
        object = pr_chat_answer_message(&chat, calls);
        pr_chat_answer_free(&chat);
    }
    json_t *call = json_array_get(json_object_get(object, "tool_calls"), (size_t)index);
    char *id = strdup(json_string_value(json_object_get(call, "id")));
    json_decref(object);
    return id;
}

static void ids_are_the_same_streamed_or_whole_and_never_twice(void **state)
{
    (void)state;
    const pr_chat_calls kinds[] = {
        {.request_id = "a"},
        {.request_id = "b"},
        {.request_id = "a", .choice = 1},
        {.request_id = "a", .short_ids = true},
    };
    char *id[8];
    for (int32_t i = 0; i < 8; i++) {
        id[i] = id_of(&kinds[i / 2], i % 2, false);
        char *streamed = id_of(&kinds[i / 2], i % 2, true);
        assert_string_equal(id[i], streamed);
        free(streamed);
        for (int32_t j = 0; j < i; j++)
            assert_string_not_equal(id[i], id[j]);
        assert_int_equal(strlen(id[i]), i < 6 ? 29 : 9);
        assert_int_equal(strncmp(id[i], "call_", 5) == 0, i < 6);
        assert_int_equal(strspn(id[i] + (i < 6 ? 5 : 0), "0123456789abcdef"), i < 6 ? 24 : 9);
    }
    for (int32_t i = 0; i < 8; i++)
        free(id[i]);
}

static void logprobs_have_bytes_and_tops(void **state)
{
    (void)state;
    int32_t *token, tokens;
    assert_int_equal(
        pr_tokenizer_encode(tokenizer, "a\xc3\xa9", 3, false, false, &token, &tokens), PR_OK);
    assert_true(tokens >= 2);
    pr_logprob tops[] = {
        {.token = token[1], .logprob = -0.5f}, {.token = token[0], .logprob = -INFINITY}};
    pr_answer_token kept[] = {
        {.token = token[0], .logprob = -0.25f},
        {.token = token[0], .logprob = -INFINITY, .tops = 2, .top = tops}};
    pr_completion_request request = {.sampling.top_logprobs = 2};
    pr_answer answer = {.request = &request, .tokens = 2, .token = kept, .stop_token = -1};
    assert_json(
        pr_chat_answer_logprobs(&answer, tokenizer, 0, 1),
        "{'content':[{'token':'a','logprob':-0.25,'bytes':[97],'top_logprobs':[]}],"
        "'refusal':null}");
    json_t *object = pr_chat_answer_logprobs(&answer, tokenizer, 1, 2), *first, *second;
    double logprob, floor;
    assert_int_equal(
        json_unpack(
            object, "{s:[{s:F, s:[o, o]}]}", "content", "logprob", &logprob, "top_logprobs", &first,
            &second),
        0);
    assert_true(logprob == -9999.0);
    assert_int_equal(json_unpack(second, "{s:F}", "logprob", &floor), 0);
    assert_true(floor == -9999.0);
    // Half a character: its text cannot say which, its bytes do.
    json_t *bytes = json_object_get(first, "bytes");
    assert_int_equal(tokens, 3);
    assert_string_equal(json_string_value(json_object_get(first, "token")), "\xef\xbf\xbd");
    assert_int_equal(json_array_size(bytes), 1);
    assert_int_equal(json_integer_value(json_array_get(bytes, 0)), 0xc3);
    json_decref(object);
    request.sampling.top_logprobs = -1;
    assert_json(pr_chat_answer_logprobs(&answer, tokenizer, 0, 2), "null");
    free(token);
}

static void assert_reason(const pr_answer *answer, int32_t calls, const char *expected)
{
    json_t *reason = pr_chat_answer_finish_reason(answer, calls);
    if (expected)
        assert_string_equal(json_string_value(reason), expected);
    else
        assert_true(json_is_null(reason));
    json_decref(reason);
}

static void calls_are_a_reason_to_finish_unless_cut(void **state)
{
    (void)state;
    pr_answer answer = {.stop_token = -1};
    assert_reason(&answer, 1, NULL);
    answer = (pr_answer){.done = true, .finish = PR_FINISH_STOP, .stop_token = -1};
    assert_reason(&answer, 0, "stop");
    assert_reason(&answer, 1, "tool_calls");
    answer.finish = PR_FINISH_LENGTH;
    assert_reason(&answer, 1, "length");
}

static void a_choice_has_all_its_parts(void **state)
{
    (void)state;
    pr_completion_request request = {.sampling.top_logprobs = -1};
    pr_answer answer = {
        .request = &request, .done = true, .finish = PR_FINISH_STOP, .stop_token = 7};
    pr_chat_answer chat = {0};
    const pr_delta text = delta_of(PR_DELTA_CONTENT, 0, "Hm");
    const pr_chat_calls calls = {.request_id = "r", .choice = 3};
    assert_int_equal(pr_chat_answer_add(&chat, &text, 1), PR_OK);
    assert_json(
        pr_chat_answer_choice(&chat, &calls, &answer, tokenizer),
        "{'index':3,'message':{'role':'assistant','content':'Hm','refusal':null},"
        "'logprobs':null,'finish_reason':'stop','stop_reason':7}");
    pr_chat_answer_free(&chat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_has_content_or_null),
        cmocka_unit_test(a_message_has_its_calls),
        cmocka_unit_test(the_first_delta_has_the_role),
        cmocka_unit_test(a_delta_says_a_calls_name_once),
        cmocka_unit_test(ids_are_the_same_streamed_or_whole_and_never_twice),
        cmocka_unit_test(logprobs_have_bytes_and_tops),
        cmocka_unit_test(calls_are_a_reason_to_finish_unless_cut),
        cmocka_unit_test(a_choice_has_all_its_parts),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
