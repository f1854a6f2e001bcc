// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/request/tool_choice.h"

#define TOOL_F                                                                                     \
    "{'type':'function','function':{'name':'f','description':'d','parameters':{'type':'object',"   \
    "'properties':{'x':{'type':'integer'}},'required':['x']},'strict':true}}"
#define TOOL_G "{'type':'function','function':{'name':'g-2_X'}}"

// Bodies are written with ' for ".
static json_t *read_body(const char *text)
{
    char *copy = strdup(text);
    for (char *c = copy; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_error_t error;
    json_t *body = json_loads(copy, 0, &error);
    if (!body)
        fail_msg("%s: %s", error.text, copy);
    free(copy);
    return body;
}

static pr_tool_choice parse(const char *text)
{
    pr_refusal refusal = {0};
    pr_tool_choice choice;
    json_t *body = read_body(text);
    if (pr_tool_choice_parse(body, &choice, &refusal) != PR_OK)
        fail_msg("%s", refusal.message);
    json_decref(body);
    return choice;
}

static void assert_refused(const char *text, const char *parameter, const char *word)
{
    pr_refusal refusal = {0};
    pr_tool_choice choice;
    json_t *body = read_body(text);
    assert_int_equal(pr_tool_choice_parse(body, &choice, &refusal), PR_ERR_REQUEST);
    json_decref(body);
    assert_int_equal(refusal.http_status, 400);
    assert_string_equal(refusal.parameter, parameter);
    if (!strstr(refusal.message, word))
        fail_msg("'%s' is not in: %s", word, refusal.message);
}

static void assert_schema(const pr_tool_choice *choice, const char *expected)
{
    json_t *wanted = read_body(expected), *got = json_loads(choice->schema, 0, NULL);
    char *text = json_dumps(wanted, JSON_COMPACT);
    assert_true(json_equal(wanted, got));
    assert_string_equal(choice->schema, text);
    free(text);
    json_decref(wanted);
    json_decref(got);
}

static void assert_mode(const char *text, pr_tool_mode mode, size_t tools)
{
    pr_tool_choice choice = parse(text);
    assert_int_equal(choice.mode, mode);
    assert_int_equal(json_array_size(choice.tools), tools);
    assert_int_equal(choice.tools != NULL, tools > 0);
    assert_int_equal(
        choice.schema != NULL, mode == PR_TOOL_MODE_REQUIRED || mode == PR_TOOL_MODE_NAMED);
    pr_tool_choice_free(&choice);
}

static void without_tools_there_is_no_choice(void **state)
{
    (void)state;
    assert_mode("{}", PR_TOOL_MODE_NONE, 0);
    assert_mode("{'tools':null,'tool_choice':null}", PR_TOOL_MODE_NONE, 0);
    assert_mode("{'tools':[]}", PR_TOOL_MODE_NONE, 0);
    assert_mode("{'tool_choice':'auto'}", PR_TOOL_MODE_NONE, 0);
    assert_mode("{'tool_choice':'none'}", PR_TOOL_MODE_NONE, 0);
    assert_refused("{'tool_choice':'required'}", "tool_choice", "needs 'tools'");
    assert_refused(
        "{'tools':[],'tool_choice':{'type':'function','function':{'name':'f'}}}", "tool_choice",
        "needs 'tools'");
}

static void tools_are_a_free_choice_unless_told(void **state)
{
    (void)state;
    assert_mode("{'tools':[" TOOL_F "," TOOL_G "]}", PR_TOOL_MODE_AUTO, 2);
    assert_mode("{'tools':[" TOOL_F "],'tool_choice':'auto'}", PR_TOOL_MODE_AUTO, 1);
    assert_mode("{'tools':[" TOOL_F "],'tool_choice':'none'}", PR_TOOL_MODE_NONE, 0);
}

static void a_named_function_is_held_to_its_parameters(void **state)
{
    (void)state;
    pr_tool_choice choice = parse("{'tools':[" TOOL_G "," TOOL_F
                                  "],'tool_choice':{'type':'function','function':{'name':'f'}}}");
    assert_int_equal(choice.mode, PR_TOOL_MODE_NAMED);
    assert_string_equal(choice.name, "f");
    assert_int_equal(json_array_size(choice.tools), 2);
    assert_schema(
        &choice, "{'type':'object','properties':{'x':{'type':'integer'}},'required':['x']}");
    pr_tool_choice_free(&choice);
    choice = parse("{'tools':[" TOOL_G
                   "],'tool_choice':{'type':'function','function':{'name':'g-2_X'}}}");
    assert_schema(&choice, "{'type':'object','properties':{}}");
    pr_tool_choice_free(&choice);
    choice = parse("{'tools':[{'type':'function','function':{'name':'h','parameters':"
                   "{'properties':{'a':{'$ref':'#/$defs/b'}}}}}],"
                   "'tool_choice':{'type':'function','function':{'name':'h'}}}");
    assert_schema(&choice, "{'properties':{'a':{'$ref':'#/$defs/b'}},'type':'object'}");
    pr_tool_choice_free(&choice);
}

static void a_required_call_is_held_to_a_list_of_calls(void **state)
{
    (void)state;
    pr_tool_choice choice = parse("{'tools':[" TOOL_F "," TOOL_G "],'tool_choice':'required'}");
    assert_true(choice.parallel);
    assert_string_equal(choice.name, "");
    assert_schema(
        &choice,
        "{'type':'array','minItems':1,'items':{'anyOf':["
        "{'type':'object','properties':{'name':{'const':'f'},'parameters':{'type':'object',"
        "'properties':{'x':{'type':'integer'}},'required':['x']}},"
        "'required':['name','parameters'],'additionalProperties':false},"
        "{'type':'object','properties':{'name':{'const':'g-2_X'},'parameters':{'type':'object',"
        "'properties':{}}},'required':['name','parameters'],'additionalProperties':false}]}}");
    pr_tool_choice_free(&choice);
}

static void without_parallel_calls_the_list_has_one(void **state)
{
    (void)state;
    pr_tool_choice choice = parse("{'tools':[" TOOL_G "],'tool_choice':'required',"
                                  "'parallel_tool_calls':false}");
    assert_false(choice.parallel);
    json_t *schema = json_loads(choice.schema, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(schema, "maxItems")), 1);
    json_decref(schema);
    pr_tool_choice_free(&choice);
    assert_refused("{'parallel_tool_calls':1}", "parallel_tool_calls", "true or false");
}

static void references_move_with_their_schema(void **state)
{
    (void)state;
    pr_tool_choice choice = parse(
        "{'tool_choice':'required','tools':[" TOOL_G ",{'type':'function','function':{'name':'h',"
        "'parameters':{'type':'object','properties':{'a':{'$ref':'#/$defs/n'},'$ref':{'type':"
        "'string'},'enum':{'anyOf':[{'$ref':'#'},{'const':{'$ref':'#/x'}}]}},"
        "'$defs':{'n':{'items':{'$ref':'#/$defs/n'}},'o':{'$ref':'other'}}}}}]}");
    json_t *schema = json_loads(choice.schema, 0, NULL), *list = NULL, *expected;
    assert_int_equal(json_unpack(schema, "{s:{s:o}}", "items", "anyOf", &list), 0);
    json_t *moved =
        json_object_get(json_object_get(json_array_get(list, 1), "properties"), "parameters");
    expected = read_body(
        "{'type':'object','properties':{'a':{'$ref':'#/items/anyOf/1/properties/parameters/$defs/"
        "n'},'$ref':{'type':'string'},'enum':{'anyOf':[{'$ref':'#/items/anyOf/1/properties/"
        "parameters'},{'const':{'$ref':'#/x'}}]}},'$defs':{'n':{'items':{'$ref':'#/items/anyOf/1/"
        "properties/parameters/$defs/n'}},'o':{'$ref':'other'}}}");
    assert_true(json_equal(moved, expected));
    json_decref(expected);
    json_decref(schema);
    pr_tool_choice_free(&choice);
}

static void the_requests_tools_are_not_changed(void **state)
{
    (void)state;
    const char *text = "{'tools':[{'type':'function','function':{'name':'h','parameters':"
                       "{'properties':{'a':{'$ref':'#/$defs/b'}}}}}],'tool_choice':'required'}";
    json_t *body = read_body(text), *before = read_body(text);
    pr_refusal refusal;
    pr_tool_choice choice;
    assert_int_equal(pr_tool_choice_parse(body, &choice, &refusal), PR_OK);
    assert_true(json_equal(body, before));
    json_decref(body);
    assert_true(json_equal(choice.tools, json_object_get(before, "tools")));
    json_decref(before);
    pr_tool_choice_free(&choice);
}

static void a_wrong_tool_is_refused_by_its_place(void **state)
{
    (void)state;
    assert_refused("{'tools':{}}", "tools", "list");
    assert_refused("{'tools':[3]}", "tools[0]", "object");
    assert_refused("{'tools':[" TOOL_F ",{'type':'retrieval'}]}", "tools[1]", "\"function\"");
    assert_refused("{'tools':[{'type':'function'}]}", "tools[0]", "tools[0].function");
    assert_refused("{'tools':[{'type':'function','function':{}}]}", "tools[0]", "name");
    assert_refused(
        "{'tools':[{'type':'function','function':{'name':'a b'}}]}", "tools[0]", "letters");
    assert_refused("{'tools':[{'type':'function','function':{'name':''}}]}", "tools[0]", "1 to 64");
    assert_refused(
        "{'tools':[{'type':'function','function':{'name':'f','description':1}}]}", "tools[0]",
        "description");
    assert_refused(
        "{'tools':[{'type':'function','function':{'name':'f','parameters':[]}}]}", "tools[0]",
        "parameters");
    assert_refused(
        "{'tools':[{'type':'function','function':{'name':'f','parameters':{'type':'array'}}}]}",
        "tools[0]", "parameters.type");
    assert_refused(
        "{'tools':[{'type':'function','function':{'name':'f','strict':1}}]}", "strict",
        "true or false");
    assert_refused("{'tools':[" TOOL_F "," TOOL_G "," TOOL_F "]}", "tools[2]", "'f'");
}

static void a_name_has_at_most_64_bytes(void **state)
{
    (void)state;
    char text[256], name[66];
    memset(name, 'n', 65);
    name[65] = '\0';
    snprintf(text, sizeof text, "{'tools':[{'type':'function','function':{'name':'%s'}}]}", name);
    assert_refused(text, "tools[0]", "name");
    name[64] = '\0';
    snprintf(text, sizeof text, "{'tools':[{'type':'function','function':{'name':'%s'}}]}", name);
    assert_mode(text, PR_TOOL_MODE_AUTO, 1);
}

static void tools_have_a_limit(void **state)
{
    (void)state;
    json_t *tools = json_array();
    pr_tool_choice choice;
    pr_refusal refusal;
    for (int i = 0; i <= PR_MAX_TOOLS; i++) {
        json_t *body = json_pack("{s:O}", "tools", tools);
        assert_int_equal(pr_tool_choice_parse(body, &choice, &refusal), PR_OK);
        pr_tool_choice_free(&choice);
        json_decref(body);
        json_array_append_new(
            tools,
            json_pack(
                "{s:s, s:{s:o}}", "type", "function", "function", "name", json_sprintf("f%d", i)));
    }
    json_t *body = json_pack("{s:o}", "tools", tools);
    assert_int_equal(pr_tool_choice_parse(body, &choice, &refusal), PR_ERR_REQUEST);
    assert_string_equal(refusal.parameter, "tools");
    json_decref(body);
}

static void a_wrong_choice_is_refused(void **state)
{
    (void)state;
    assert_refused("{'tools':[" TOOL_F "],'tool_choice':'any'}", "tool_choice", "'any'");
    assert_refused("{'tools':[" TOOL_F "],'tool_choice':3}", "tool_choice", "must be");
    assert_refused(
        "{'tools':[" TOOL_F "],'tool_choice':{'type':'x','function':{'name':'f'}}}", "tool_choice",
        "must be");
    assert_refused(
        "{'tools':[" TOOL_F "],'tool_choice':{'type':'function','function':{'name':'g'}}}",
        "tool_choice", "'g'");
}

static void the_old_form_is_refused(void **state)
{
    (void)state;
    assert_refused("{'functions':[]}", "functions", "'tools'");
    assert_refused("{'function_call':'auto'}", "function_call", "'tool_choice'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_tools_there_is_no_choice),
        cmocka_unit_test(tools_are_a_free_choice_unless_told),
        cmocka_unit_test(a_named_function_is_held_to_its_parameters),
        cmocka_unit_test(a_required_call_is_held_to_a_list_of_calls),
        cmocka_unit_test(without_parallel_calls_the_list_has_one),
        cmocka_unit_test(references_move_with_their_schema),
        cmocka_unit_test(the_requests_tools_are_not_changed),
        cmocka_unit_test(a_wrong_tool_is_refused_by_its_place),
        cmocka_unit_test(a_name_has_at_most_64_bytes),
        cmocka_unit_test(tools_have_a_limit),
        cmocka_unit_test(a_wrong_choice_is_refused),
        cmocka_unit_test(the_old_form_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
