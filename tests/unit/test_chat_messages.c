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

#include "launcher/request/chat_messages.h"

// Written with ' for ".
static json_t *read_json(const char *text)
{
    char *copy = strdup(text);
    for (char *c = copy; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_error_t error;
    json_t *value = json_loads(copy, JSON_DECODE_ANY, &error);
    if (!value)
        fail_msg("%s: %s", error.text, copy);
    free(copy);
    return value;
}

static void check_kept(const char *messages, const char *expected, bool keep_parts)
{
    json_t *body = json_pack("{s:o}", "messages", read_json(messages)), *made = NULL;
    json_t *before = json_deep_copy(body), *wanted = read_json(expected);
    pr_refusal refusal = {0};
    if (pr_chat_messages_parse(body, keep_parts, &made, &refusal) != PR_OK)
        fail_msg("%s", refusal.message);
    char *got = json_dumps(made, JSON_COMPACT), *want = json_dumps(wanted, JSON_COMPACT);
    assert_string_equal(got, want);
    assert_true(json_equal(body, before));
    free(got);
    free(want);
    json_decref(wanted);
    json_decref(before);
    json_decref(made);
    json_decref(body);
}

static void check(const char *messages, const char *expected)
{
    check_kept(messages, expected, false);
}

static void assert_refused(const char *messages, const char *parameter, const char *word)
{
    json_t *body = json_pack("{s:o}", "messages", read_json(messages)), *made = NULL;
    pr_refusal refusal = {0};
    assert_int_equal(pr_chat_messages_parse(body, false, &made, &refusal), PR_ERR_REQUEST);
    assert_null(made);
    assert_int_equal(refusal.http_status, 400);
    assert_string_equal(refusal.parameter, parameter);
    if (!strstr(refusal.message, word))
        fail_msg("'%s' is not in: %s", word, refusal.message);
    json_decref(body);
}

static void plain_messages_stay_as_they_are(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[{'role':'user','content':''}]",
        "[{'role':'developer','content':'a'},{'role':'system','content':'b'},"
        "{'role':'user','content':'c','name':'Ann'},{'role':'ipython','content':'d','x':[1.5]},"
        "{'role':'assistant','content':'e','reasoning_content':'f'},"
        "{'role':'tool','content':'g','tool_call_id':'call_1'}]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        check(texts[i], texts[i]);
        check_kept(texts[i], texts[i], true);
    }
}

static void parts_are_joined_by_line_breaks(void **state)
{
    (void)state;
    check(
        "[{'role':'user','content':[{'type':'text','text':'a'},{'type':'text','text':''},'b']}]",
        "[{'role':'user','content':'a\\n\\nb'}]");
    check("[{'role':'user','content':[]}]", "[{'role':'user','content':''}]");
    check(
        "[{'role':'assistant','content':[{'type':'refusal','refusal':'no'}]}]",
        "[{'role':'assistant','content':'no'}]");
}

static void parts_are_kept_for_templates_that_walk_them(void **state)
{
    (void)state;
    check_kept(
        "[{'role':'user','content':[{'type':'text','text':'a','cache':1},'b']},"
        "{'role':'assistant','content':[{'type':'refusal','refusal':'no'}]}]",
        "[{'role':'user','content':[{'type':'text','text':'a','cache':1},{'type':'text',"
        "'text':'b'}]},{'role':'assistant','content':[{'type':'text','text':'no'}]}]",
        true);
}

static void other_parts_are_refused_by_type_and_index(void **state)
{
    (void)state;
    assert_refused(
        "[{'role':'user','content':'x'},{'role':'user','content':[{'type':'text','text':'a'},"
        "{'type':'image_url','image_url':{'url':'data:'}}]}]",
        "messages[1]", "'messages[1].content[1]' is of type 'image_url'");
    assert_refused(
        "[{'role':'user','content':[{'type':'input_audio'}]}]", "messages[0]", "'input_audio'");
    assert_refused("[{'role':'user','content':[3]}]", "messages[0]", "content[0]");
    assert_refused("[{'role':'user','content':[{}]}]", "messages[0]", "content[0]");
    assert_refused(
        "[{'role':'user','content':[{'type':'text'}]}]", "messages[0]", "content[0].text");
    assert_refused("[{'role':'user','content':{}}]", "messages[0]", "content");
    assert_refused("[{'role':'user','content':3}]", "messages[0]", "content");
}

static void arguments_become_an_object(void **state)
{
    (void)state;
    check(
        "[{'role':'assistant','content':null,'tool_calls':[{'id':'c','type':'function','function':"
        "{'name':'f','arguments':'{\\'x\\': [1, 2.50, {}]}'}},{'function':{'name':'g','arguments':"
        "{'y':null}}}]}]",
        "[{'role':'assistant','content':null,'tool_calls':[{'id':'c','type':'function','function':"
        "{'name':'f','arguments':{'x':[1,2.5,{}]}}},{'function':{'name':'g','arguments':"
        "{'y':null}}}]}]");
    check(
        "[{'role':'assistant','tool_calls':[{'function':{'name':'f','arguments':'oops'}},"
        "{'function':{'name':'f','arguments':'[1]'}},{'function':{'name':'f','arguments':''}},"
        "{'function':{'name':'f'}}]}]",
        "[{'role':'assistant','tool_calls':[{'function':{'name':'f','arguments':'oops'}},"
        "{'function':{'name':'f','arguments':'[1]'}},{'function':{'name':'f','arguments':{}}},"
        "{'function':{'name':'f','arguments':{}}}],'content':null}]");
}

static void nulls_and_empty_calls_are_dropped(void **state)
{
    (void)state;
    check(
        "[{'role':'assistant','content':'a','refusal':null,'tool_calls':null,"
        "'function_call':null,'name':null}]",
        "[{'role':'assistant','content':'a'}]");
    check(
        "[{'role':'assistant','content':null,'tool_calls':[]}]",
        "[{'role':'assistant','content':''}]");
    check("[{'role':'user'}]", "[{'role':'user','content':''}]");
}

static void reasoning_has_the_name_that_templates_read(void **state)
{
    (void)state;
    check(
        "[{'role':'assistant','content':'a','reasoning':'r'}]",
        "[{'role':'assistant','content':'a','reasoning':'r','reasoning_content':'r'}]");
    check(
        "[{'role':'assistant','content':'a','reasoning':'r','reasoning_content':'s'}]",
        "[{'role':'assistant','content':'a','reasoning':'r','reasoning_content':'s'}]");
}

static void wrong_messages_are_refused_by_their_place(void **state)
{
    (void)state;
    assert_refused("null", "messages", "list");
    assert_refused("{}", "messages", "list");
    assert_refused("[]", "messages", "list");
    assert_refused("[3]", "messages[0]", "role");
    assert_refused("[{'content':'a'}]", "messages[0]", "role");
    assert_refused("[{'role':'','content':'a'}]", "messages[0]", "role");
    assert_refused("[{'role':'user','content':'a'},{'role':1}]", "messages[1]", "role");
    assert_refused("[{'role':'user','content':'a','name':1}]", "messages[0]", "name");
    assert_refused(
        "[{'role':'tool','content':'a','tool_call_id':1}]", "messages[0]", "tool_call_id");
    assert_refused("[{'role':'assistant','reasoning':1}]", "messages[0]", "reasoning");
}

static void wrong_calls_are_refused_by_their_index(void **state)
{
    (void)state;
    assert_refused("[{'role':'assistant','tool_calls':{}}]", "messages[0]", "tool_calls");
    assert_refused("[{'role':'assistant','tool_calls':[1]}]", "messages[0]", "tool_calls[0]");
    assert_refused(
        "[{'role':'assistant','tool_calls':[{'function':{'name':'f'}},{'function':{'name':''}}]}]",
        "messages[0]", "tool_calls[1].function.name");
    assert_refused(
        "[{'role':'assistant','tool_calls':[{'type':'custom','function':{'name':'f'}}]}]",
        "messages[0]", "tool_calls[0].type");
    assert_refused(
        "[{'role':'assistant','tool_calls':[{'function':{'name':'f','arguments':[]}}]}]",
        "messages[0]", "tool_calls[0].function.arguments");
}

static void the_old_form_is_refused(void **state)
{
    (void)state;
    assert_refused("[{'role':'function','name':'f','content':'a'}]", "messages[0]", "'tool_calls'");
    assert_refused(
        "[{'role':'assistant','function_call':{'name':'f','arguments':''}}]", "messages[0]",
        "'tool_calls'");
}

static void messages_have_a_limit(void **state)
{
    (void)state;
    json_t *list = json_array(), *body = json_pack("{s:O}", "messages", list), *made;
    pr_refusal refusal;
    for (int i = 0; i < PR_MAX_MESSAGES; i++)
        json_array_append_new(list, json_pack("{s:s}", "role", "user"));
    assert_int_equal(pr_chat_messages_parse(body, false, &made, &refusal), PR_OK);
    assert_int_equal(json_array_size(made), PR_MAX_MESSAGES);
    json_decref(made);
    json_array_append_new(list, json_pack("{s:s}", "role", "user"));
    assert_int_equal(pr_chat_messages_parse(body, false, &made, &refusal), PR_ERR_REQUEST);
    json_decref(list);
    json_decref(body);
}

static void assert_ending(const char *text, bool add, bool go_on)
{
    json_t *body = read_json(text);
    pr_chat_ending ending;
    pr_refusal refusal;
    assert_int_equal(pr_chat_messages_ending(body, &ending, &refusal), PR_OK);
    assert_int_equal(ending.add_generation_prompt, add);
    assert_int_equal(ending.continue_final_message, go_on);
    json_decref(body);
}

static void an_answer_begins_or_goes_on(void **state)
{
    (void)state;
    pr_chat_ending ending;
    pr_refusal refusal;
    assert_ending("{}", true, false);
    assert_ending("{'add_generation_prompt':false}", false, false);
    assert_ending("{'continue_final_message':true}", false, true);
    assert_ending("{'continue_final_message':true,'add_generation_prompt':false}", false, true);
    json_t *body = read_json("{'continue_final_message':true,'add_generation_prompt':true}");
    assert_int_equal(pr_chat_messages_ending(body, &ending, &refusal), PR_ERR_REQUEST);
    assert_string_equal(refusal.parameter, "continue_final_message");
    json_decref(body);
    body = read_json("{'add_generation_prompt':1}");
    assert_int_equal(pr_chat_messages_ending(body, &ending, &refusal), PR_ERR_REQUEST);
    assert_string_equal(refusal.parameter, "add_generation_prompt");
    json_decref(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_messages_stay_as_they_are),
        cmocka_unit_test(parts_are_joined_by_line_breaks),
        cmocka_unit_test(parts_are_kept_for_templates_that_walk_them),
        cmocka_unit_test(other_parts_are_refused_by_type_and_index),
        cmocka_unit_test(arguments_become_an_object),
        cmocka_unit_test(nulls_and_empty_calls_are_dropped),
        cmocka_unit_test(reasoning_has_the_name_that_templates_read),
        cmocka_unit_test(wrong_messages_are_refused_by_their_place),
        cmocka_unit_test(wrong_calls_are_refused_by_their_index),
        cmocka_unit_test(the_old_form_is_refused),
        cmocka_unit_test(messages_have_a_limit),
        cmocka_unit_test(an_answer_begins_or_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
