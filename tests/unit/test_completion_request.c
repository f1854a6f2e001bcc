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

#include "launcher/batch/batch_line.h"
#include "launcher/request/completion_request.h"
#include "runtime/base/log.h"

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

// Parses a body given as JSON text.
static pr_status parse(const char *text, pr_completion_request **request, pr_refusal *refusal)
{
    pr_completion_context context = {
        .model = model,
        .tokenizer = tokenizer,
        .served_name = "tiny",
        .max_model_len = 64,
        .default_seed = 99,
    };
    json_t *body = json_loads(text, 0, NULL);
    assert_non_null(body);
    pr_status status = pr_completion_request_parse(&context, body, request, refusal);
    json_decref(body);
    return status;
}

static void a_token_may_have_one_bias_only(void **state)
{
    (void)state;
    pr_completion_request *request;
    pr_refusal refusal;
    const char *body = "{\"prompt\":\"a\",\"logit_bias\":{\"7\":1,\"07\":2}}";
    assert_int_equal(parse(body, &request, &refusal), PR_ERR_REQUEST);
    assert_non_null(strstr(refusal.message, "token 7 twice"));
}

static void a_message_cut_within_a_character_is_still_json(void **state)
{
    (void)state;
    pr_completion_request *request;
    pr_refusal refusal;
    for (int shift = 0; shift < 3; shift++) {
        char body[1024] = "{\"prompt\":\"a\",\"model\":\"";
        strcat(body, &"xx"[shift]);
        for (int i = 0; i < 200; i++)
            strcat(body, "\xe2\x82\xac");
        strcat(body, "\"}");
        assert_int_equal(parse(body, &request, &refusal), PR_ERR_REQUEST);
        json_t *text = json_string(refusal.message);
        assert_non_null(text);
        assert_non_null(strstr(refusal.message, "is not served here"));
        json_decref(text);
    }
}

static void a_nul_is_taken_in_prompts_and_refused_in_stops(void **state)
{
    (void)state;
    pr_completion_request *request;
    pr_refusal refusal;
    pr_completion_context context = {
        .model = model, .tokenizer = tokenizer, .served_name = "tiny", .max_model_len = 64};
    json_t *body = json_object();
    json_object_set_new(body, "prompt", json_stringn("a\0b", 3));
    assert_int_equal(pr_completion_request_parse(&context, body, &request, &refusal), PR_OK);
    assert_int_equal(request->prompt[0].tokens, 3);
    pr_completion_request_destroy(request);
    json_object_set_new(body, "stop", json_stringn("a\0b", 3));
    assert_int_equal(
        pr_completion_request_parse(&context, body, &request, &refusal), PR_ERR_REQUEST);
    assert_string_equal(refusal.parameter, "stop");
    json_decref(body);
}

static void a_minimal_body_gets_openai_defaults(void **state)
{
    (void)state;
    pr_completion_request *request;
    pr_refusal refusal;
    assert_int_equal(parse("{\"prompt\":\"abc\"}", &request, &refusal), PR_OK);
    assert_int_equal(request->prompts, 1);
    assert_int_equal(request->prompt[0].tokens, 3);
    assert_int_equal(request->n, 1);
    assert_int_equal(request->sampling.max_tokens, 16);
    assert_true(request->sampling.temperature == 1.0f);
    assert_int_equal(request->sampling.top_logprobs, -1);
    assert_int_equal((int)request->sampling.seed, 99);
    assert_int_equal(request->sampling.stop_tokens, model->eos_count);
    pr_completion_request_destroy(request);
}

static void every_prompt_form_is_taken(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        int prompts, first_tokens;
    } cases[] = {
        {"{\"prompt\":[\"ab\",\"c\"]}", 2, 2},
        {"{\"prompt\":[1,2,3]}", 1, 3},
        {"{\"prompt\":[[1,2],[3],[4,5,6]]}", 3, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_completion_request *request;
        pr_refusal refusal;
        assert_int_equal(parse(cases[i].body, &request, &refusal), PR_OK);
        assert_int_equal(request->prompts, cases[i].prompts);
        assert_int_equal(request->prompt[0].tokens, cases[i].first_tokens);
        pr_completion_request_destroy(request);
    }
}

static void parameters_reach_the_sampling(void **state)
{
    (void)state;
    pr_completion_request *request;
    pr_refusal refusal;
    const char *body =
        "{\"prompt\":\"a\",\"temperature\":0,\"top_k\":5,\"min_p\":0.1,\"seed\":-3,\"n\":2,"
        "\"logprobs\":4,\"ignore_eos\":true,\"stop\":[\"x\",\"yz\"],\"stop_token_ids\":[7],"
        "\"logit_bias\":{\"9\":-1.5,\"3\":2},\"user\":\"ignored\",\"model\":\"tiny\"}";
    assert_int_equal(parse(body, &request, &refusal), PR_OK);
    const pr_sampling *s = &request->sampling;
    assert_true(s->temperature == 0.0f);
    assert_int_equal(s->top_k, 5);
    assert_true(s->seed == (uint64_t)-3);
    assert_int_equal(request->n, 2);
    assert_int_equal(s->top_logprobs, 4);
    assert_int_equal(request->stops, 2);
    assert_int_equal(s->stop_tokens, 1);
    assert_int_equal(s->stop_token[0], 7);
    assert_int_equal(s->biases, 2);
    assert_int_equal(s->bias[0].token, 3);
    assert_true(s->bias[1].bias == -1.5f);
    pr_completion_request_destroy(request);
}

static void wrong_bodies_are_refused_by_field(void **state)
{
    (void)state;
    static const struct {
        const char *body, *parameter, *says;
    } cases[] = {
        {"{}", "prompt", "missing"},
        {"{\"prompt\":\"\"}", "prompt", "empty"},
        {"{\"prompt\":[]}", "prompt", "empty"},
        {"{\"prompt\":7}", "prompt", "must be a string"},
        {"{\"prompt\":[1,99999]}", "prompt", "not an id"},
        {"{\"prompt\":\"a\",\"max_tokens\":0}", "max_tokens", "at least 1 without 'echo'"},
        {"{\"prompt\":\"a\",\"max_tokens\":64}", "max_tokens", "at most 63"},
        {"{\"prompt\":\"a\",\"max_tokens\":1.5}", "max_tokens", "integer"},
        {"{\"prompt\":\"a\",\"temperature\":\"hot\"}", "temperature", "number"},
        {"{\"prompt\":\"a\",\"temperature\":-1}", "temperature", "between 0"},
        {"{\"prompt\":\"a\",\"top_p\":0}", "top_p", "above 0"},
        {"{\"prompt\":\"a\",\"stream\":true}", "stream", "whole requests"},
        {"{\"prompt\":\"a\",\"suffix\":\"b\"}", "suffix", "not supported"},
        {"{\"prompt\":\"a\",\"response_format\":{}}", "response_format", "json_schema"},
        {"{\"prompt\":\"a\",\"best_of\":2}", "best_of", "use 'n'"},
        {"{\"prompt\":\"a\",\"stop\":[1]}", "stop", "string"},
        {"{\"prompt\":\"a\",\"logit_bias\":{\"x\":1}}", "logit_bias", "token id"},
        {"{\"prompt\":\"a\",\"logprobs\":21}", "logprobs", "between 0 and 20"},
        {"{\"prompt\":\"a\",\"model\":\"other\"}", "model", "not served"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_completion_request *request;
        pr_refusal refusal = {0};
        assert_int_equal(parse(cases[i].body, &request, &refusal), PR_ERR_REQUEST);
        assert_string_equal(refusal.parameter, cases[i].parameter);
        if (!strstr(refusal.message, cases[i].says))
            fail_msg("%s: '%s' lacks '%s'", cases[i].body, refusal.message, cases[i].says);
    }
}

static void a_prompt_longer_than_the_context_is_refused_with_openais_code(void **state)
{
    (void)state;
    char body[200] = "{\"prompt\":\"";
    memset(body + 11, 'a', 64);
    strcpy(body + 75, "\",\"max_tokens\":1}");
    pr_completion_request *request;
    pr_refusal refusal;
    assert_int_equal(parse(body, &request, &refusal), PR_ERR_REQUEST);
    assert_string_equal(refusal.code, "context_length_exceeded");
}

static void max_tokens_may_fill_the_context_to_the_last_token(void **state)
{
    (void)state;
    pr_completion_request *request;
    pr_refusal refusal;
    assert_int_equal(
        parse("{\"prompt\":\"a\",\"max_tokens\":63,\"min_tokens\":63}", &request, &refusal), PR_OK);
    assert_int_equal(request->sampling.min_tokens, 63);
    pr_completion_request_destroy(request);
}

static void an_echo_has_the_logprobs_of_the_answer_and_may_be_all(void **state)
{
    (void)state;
    pr_completion_request *request;
    pr_refusal refusal;
    assert_int_equal(
        parse("{\"prompt\":\"a\",\"echo\":true,\"logprobs\":3}", &request, &refusal), PR_OK);
    assert_int_equal(request->sampling.prompt_logprobs, 3);
    assert_false(request->no_output);
    pr_completion_request_destroy(request);
    assert_int_equal(parse("{\"prompt\":\"a\",\"logprobs\":3}", &request, &refusal), PR_OK);
    assert_int_equal(request->sampling.prompt_logprobs, -1);
    pr_completion_request_destroy(request);
    assert_int_equal(
        parse("{\"prompt\":\"a\",\"echo\":true,\"max_tokens\":0}", &request, &refusal), PR_OK);
    assert_true(request->no_output);
    assert_int_equal(request->sampling.max_tokens, 1);
    assert_int_equal(request->sampling.prompt_logprobs, -1);
    pr_completion_request_destroy(request);
}

// ---- Lines ----

static void refused_lines_name_the_line_and_keep_the_custom_id(void **state)
{
    (void)state;
    static const struct {
        const char *line, *custom_id, *says;
    } cases[] = {
        {"{\"custom_id\":", NULL, "line 5 is not JSON"},
        {"[1]", NULL, "not a JSON object"},
        {"{\"url\":\"/v1/completions\"}", NULL, "custom_id"},
        {"{\"custom_id\":\"q\",\"url\":\"/v1/embeddings\",\"body\":{}}", "q", "/v1/completions"},
        {"{\"custom_id\":\"q\",\"url\":\"/v1/chat/completions\"}", "q", "'body'"},
        {"{\"custom_id\":\"q\",\"url\":\"/v1/completions\",\"method\":\"GET\"}", "q", "POST"},
        {"{\"custom_id\":\"q\",\"url\":\"/v1/completions\"}", "q", "'body'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_batch_line line;
        pr_refusal refusal;
        assert_int_equal(
            pr_batch_line_parse(cases[i].line, strlen(cases[i].line), 5, &line, &refusal),
            PR_ERR_REQUEST);
        if (cases[i].custom_id)
            assert_string_equal(line.custom_id, cases[i].custom_id);
        if (!strstr(refusal.message, cases[i].says))
            fail_msg("'%s' lacks '%s'", refusal.message, cases[i].says);
        char *text = pr_batch_line_refusal(line.custom_id, 5, &refusal, false);
        json_t *parsed = json_loads(text, 0, NULL);
        assert_non_null(parsed);
        assert_true(json_is_null(json_object_get(parsed, "response")));
        json_decref(parsed);
        free(text);
        pr_batch_line_clear(&line);
    }
}

static void result_lines_depend_on_nothing_but_their_request(void **state)
{
    (void)state;
    char *one = pr_batch_line_answer("a", 1, json_pack("{s:f}", "x", 0.1));
    char *two = pr_batch_line_answer("a", 9, json_pack("{s:f}", "x", 0.1));
    assert_string_equal(one, two);
    assert_non_null(strstr(one, "\"custom_id\":\"a\""));
    assert_int_equal(one[strlen(one) - 1], '\n');
    free(one);
    free(two);
}

static void tenant_and_targets_are_taken_and_checked(void **state)
{
    (void)state;
    pr_completion_request *one, *other;
    pr_refusal refusal;
    assert_int_equal(
        parse(
            "{\"prompt\":\"a\",\"user\":\"ann\",\"slo_ttft_ms\":1500,\"slo_tpot_ms\":40,"
            "\"priority\":-3}",
            &one, &refusal),
        PR_OK);
    assert_int_equal(one->ttft_target_ms, 1500);
    assert_int_equal(one->tpot_target_ms, 40);
    assert_int_equal(one->priority, -3);
    assert_true(one->tenant != 0 && one->tenant == pr_completion_request_tenant("ann", 3));
    assert_int_equal(parse("{\"prompt\":\"a\",\"user\":\"bob\"}", &other, &refusal), PR_OK);
    assert_true(other->tenant != 0 && other->tenant != one->tenant);
    assert_int_equal(other->ttft_target_ms, 0);
    pr_completion_request_destroy(one);
    pr_completion_request_destroy(other);
    assert_int_equal(
        parse("{\"prompt\":\"a\",\"user\":\"\",\"slo_ttft_ms\":0}", &one, &refusal), PR_OK);
    assert_true(one->tenant == 0 && one->ttft_target_ms == 0);
    assert_int_equal(
        pr_completion_request_set_target(one, PR_TARGET_TPOT, "x-slo-tpot-ms", -1, &refusal),
        PR_ERR_REQUEST);
    assert_string_equal(
        refusal.message,
        "'x-slo-tpot-ms' is -1: give 1 to 86400000 milliseconds, or 0 for no target");
    assert_string_equal(refusal.parameter, "x-slo-tpot-ms");
    pr_completion_request_destroy(one);
    static const char *const wrong[][2] = {
        {"{\"prompt\":\"a\",\"user\":7}", "user"},
        {"{\"prompt\":\"a\",\"slo_ttft_ms\":\"1\"}", "slo_ttft_ms"},
        {"{\"prompt\":\"a\",\"slo_ttft_ms\":1.5}", "slo_ttft_ms"},
        {"{\"prompt\":\"a\",\"slo_tpot_ms\":86400001}", "slo_tpot_ms"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(parse(wrong[i][0], &one, &refusal), PR_ERR_REQUEST);
        assert_string_equal(refusal.parameter, wrong[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_may_have_one_bias_only),
        cmocka_unit_test(a_message_cut_within_a_character_is_still_json),
        cmocka_unit_test(a_nul_is_taken_in_prompts_and_refused_in_stops),
        cmocka_unit_test(a_minimal_body_gets_openai_defaults),
        cmocka_unit_test(every_prompt_form_is_taken),
        cmocka_unit_test(parameters_reach_the_sampling),
        cmocka_unit_test(wrong_bodies_are_refused_by_field),
        cmocka_unit_test(tenant_and_targets_are_taken_and_checked),
        cmocka_unit_test(a_prompt_longer_than_the_context_is_refused_with_openais_code),
        cmocka_unit_test(max_tokens_may_fill_the_context_to_the_last_token),
        cmocka_unit_test(an_echo_has_the_logprobs_of_the_answer_and_may_be_all),
        cmocka_unit_test(refused_lines_name_the_line_and_keep_the_custom_id),
        cmocka_unit_test(result_lines_depend_on_nothing_but_their_request),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
