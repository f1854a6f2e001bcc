// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/request/response_format.h"

static pr_status take(const char *body, pr_sampling *sampling, pr_refusal *refusal)
{
    json_t *json = json_loads(body, 0, NULL);
    assert_non_null(json);
    pr_sampling_defaults(sampling);
    *refusal = (pr_refusal){0};
    pr_status status = pr_response_format_take(json, sampling, refusal);
    json_decref(json);
    return status;
}

static void every_spelling_becomes_its_grammar(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        pr_grammar_kind kind;
        const char *text;
    } cases[] = {
        {"{}", PR_GRAMMAR_NONE, ""},
        {"{\"response_format\":null,\"guided_json\":null}", PR_GRAMMAR_NONE, ""},
        {"{\"response_format\":{\"type\":\"text\"}}", PR_GRAMMAR_NONE, ""},
        {"{\"response_format\":{\"type\":\"json_object\"}}", PR_GRAMMAR_JSON_OBJECT, ""},
        {"{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\","
         "\"strict\":true,"
         "\"schema\":{\"type\":\"object\",\"properties\":{\"b\":{},\"a\":{}}}}}}",
         PR_GRAMMAR_JSON_SCHEMA, "{\"type\":\"object\",\"properties\":{\"b\":{},\"a\":{}}}"},
        {"{\"structured_outputs\":{}}", PR_GRAMMAR_NONE, ""},
        {"{\"structured_outputs\":{\"json\":{\"const\":1}}}", PR_GRAMMAR_JSON_SCHEMA,
         "{\"const\":1}"},
        {"{\"structured_outputs\":{\"json\":\"{\\\"const\\\": 1}\"}}", PR_GRAMMAR_JSON_SCHEMA,
         "{\"const\": 1}"},
        {"{\"structured_outputs\":{\"regex\":\"a+\"}}", PR_GRAMMAR_REGEX, "a+"},
        {"{\"structured_outputs\":{\"choice\":[\"a\",\"b\"]}}", PR_GRAMMAR_CHOICE, "[\"a\",\"b\"]"},
        {"{\"structured_outputs\":{\"json_object\":true}}", PR_GRAMMAR_JSON_OBJECT, ""},
        {"{\"structured_outputs\":{\"json_object\":false}}", PR_GRAMMAR_NONE, ""},
        {"{\"guided_json\":{\"const\":1}}", PR_GRAMMAR_JSON_SCHEMA, "{\"const\":1}"},
        {"{\"guided_regex\":\"\"}", PR_GRAMMAR_REGEX, ""},
        {"{\"guided_choice\":[\"\"]}", PR_GRAMMAR_CHOICE, "[\"\"]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_sampling sampling;
        pr_refusal refusal;
        if (take(cases[i].body, &sampling, &refusal) != PR_OK)
            fail_msg("%s: %s", cases[i].body, refusal.message);
        assert_int_equal(sampling.grammar.kind, cases[i].kind);
        assert_int_equal(sampling.grammar.size_bytes, strlen(cases[i].text));
        if (sampling.grammar.size_bytes > 0)
            assert_memory_equal(sampling.grammar.text, cases[i].text, strlen(cases[i].text));
        pr_sampling_free(&sampling);
    }
}

static void what_is_wrong_is_refused_by_field_and_keyword(void **state)
{
    (void)state;
    static const struct {
        const char *body, *parameter, *says;
    } cases[] = {
        {"{\"response_format\":1}", "response_format", "must be an object"},
        {"{\"response_format\":{\"type\":\"xml\"}}", "response_format", "json_schema"},
        {"{\"response_format\":{\"type\":\"structural_tag\"}}", "response_format",
         "structural_tag is not supported"},
        {"{\"response_format\":{\"type\":\"json_schema\"}}", "response_format.json_schema",
         "'schema'"},
        {"{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\"}}}",
         "response_format.json_schema", "no 'schema'"},
        {"{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{"
         "\"properties\":"
         "{\"a\":{\"multipleOf\":3}}}}}}",
         "response_format", "at /properties/a: the keyword 'multipleOf'"},
        {"{\"structured_outputs\":[]}", "structured_outputs", "must be an object"},
        {"{\"structured_outputs\":{\"grammar\":\"root ::= x\"}}", "structured_outputs.grammar",
         "not supported"},
        {"{\"structured_outputs\":{\"structural_tag\":{}}}", "structured_outputs.structural_tag",
         "not supported"},
        {"{\"structured_outputs\":{\"regex\":\"(?=a)\"}}", "structured_outputs", "look-around"},
        {"{\"structured_outputs\":{\"regex\":1}}", "structured_outputs.regex", "string"},
        {"{\"structured_outputs\":{\"json\":1}}", "structured_outputs.json", "JSON schema"},
        {"{\"structured_outputs\":{\"json\":\"{\"}}", "structured_outputs", "not valid JSON"},
        {"{\"structured_outputs\":{\"json_object\":1}}", "structured_outputs.json_object",
         "true or false"},
        {"{\"structured_outputs\":{\"json\":{},\"regex\":\"a\"}}", "structured_outputs.regex",
         "one form"},
        {"{\"response_format\":{\"type\":\"json_object\"},\"guided_regex\":\"a\"}", "guided_regex",
         "one form"},
        {"{\"guided_grammar\":\"x\"}", "guided_grammar", "not supported"},
        {"{\"structural_tag\":{}}", "structural_tag", "not supported"},
        {"{\"guided_choice\":\"a\"}", "guided_choice", "list of strings"},
        {"{\"guided_choice\":[1]}", "guided_choice", "choice 0"},
        {"{\"guided_choice\":[]}", "guided_choice", "at least one"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pr_sampling sampling;
        pr_refusal refusal;
        if (take(cases[i].body, &sampling, &refusal) != PR_ERR_REQUEST)
            fail_msg("%s is taken", cases[i].body);
        assert_int_equal(refusal.http_status, 400);
        assert_string_equal(refusal.type, "invalid_request_error");
        if (strcmp(refusal.parameter, cases[i].parameter) != 0 ||
            !strstr(refusal.message, cases[i].says))
            fail_msg("%s: %s: %s", cases[i].body, refusal.parameter, refusal.message);
        pr_sampling_free(&sampling);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_spelling_becomes_its_grammar),
        cmocka_unit_test(what_is_wrong_is_refused_by_field_and_keyword),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
