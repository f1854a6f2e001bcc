// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/grammar/matcher.h"

static pr_matcher_scratch *scratch;
static pr_matcher_state state_now;

static pr_grammar *compile(pr_grammar_kind kind, const char *text)
{
    pr_grammar_source source = {
        .kind = kind, .size_bytes = (int32_t)strlen(text), .text = (char *)(uintptr_t)text};
    pr_grammar *grammar = NULL;
    pr_error_capture_begin();
    pr_status status = pr_grammar_compile(&source, &grammar);
    pr_error_capture_end();
    if (status != PR_OK)
        fail_msg("%s: %s", text, pr_error_text());
    return grammar;
}

// 1: the whole text is one of the grammar; 0: only its beginning; -1: not even that.
static int match(const pr_grammar *grammar, const char *text, size_t size_bytes)
{
    pr_matcher_begin(grammar, scratch, &state_now);
    if (!pr_matcher_advance(
            grammar, scratch, &state_now, (const uint8_t *)text, (int32_t)size_bytes))
        return -1;
    return state_now.ends;
}

// Lists end in NULL.
static void check_lists(
    pr_grammar_kind kind, const char *source, const char *const *fits, const char *const *misfits)
{
    pr_grammar *grammar = compile(kind, source);
    for (; *fits; fits++) {
        if (match(grammar, *fits, strlen(*fits)) != 1)
            fail_msg("%s does not take %s", source, *fits);
    }
    for (; *misfits; misfits++) {
        if (match(grammar, *misfits, strlen(*misfits)) == 1)
            fail_msg("%s takes %s", source, *misfits);
    }
    pr_grammar_destroy(grammar);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SCHEMA(source, fits, misfits) check_lists(PR_GRAMMAR_JSON_SCHEMA, source, fits, misfits)
#define REGEX(source, fits, misfits) check_lists(PR_GRAMMAR_REGEX, source, fits, misfits)

static void refuse(pr_grammar_kind kind, const char *text, const char *says)
{
    pr_grammar_source source = {
        .kind = kind, .size_bytes = (int32_t)strlen(text), .text = (char *)(uintptr_t)text};
    pr_grammar *grammar = NULL;
    pr_error_capture_begin();
    pr_status status = pr_grammar_compile(&source, &grammar);
    pr_error_capture_end();
    if (status != PR_ERR_REQUEST || !strstr(pr_error_text(), says))
        fail_msg("%s: status %d, '%s' instead of '%s'", text, status, pr_error_text(), says);
}

// ---- JSON

static void any_object_is_taken_by_json_object(void **state)
{
    (void)state;
    check_lists(
        PR_GRAMMAR_JSON_OBJECT, "",
        LIST(
            "{}", "{\"a\":1}", "{\"a\": [], \"b\":{\"c\": null}}",
            "{\"\":[1,2.5,-0,1e5,true,false]}", "{\"\\u00e4\":\"\\n\\ud83d\\ude00\"}",
            "{\"\xc3\xa4\":\"\xf0\x9f\x98\x80\"}", "{\"a\":{\"a\":{\"a\":{\"a\":[[[[{}]]]]}}}}"),
        LIST(
            "", "[]", "{", "{a:1}", "{\"a\":01}", "{\"a\":1,}", "{ }", "{\"a\"  :1}", "{\"a\":  1}",
            "{\"a\":1} ", "{\"a\":+1}", "{\"a\":.5}", "{\"a\":1.}", "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}", "{\"a\":\"\\u12\"}", "{\"a\":\"\\ud83d\"}", "{\"a\":\"\\ude00\"}",
            "{\"a\":\"\\u0000\"}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xed\xa0\x80\"}",
            "{\"a\":\"\xf4\x90\x80\x80\"}", "{\"a\":\"\x80\"}", "{\"a\":\"\xff\"}", "{\"a\":tru}",
            "{\"a\":1 , \"b\":2}"));
}

static void a_string_holds_every_code_point_once_and_nothing_else(void **state)
{
    (void)state;
    pr_grammar *grammar =
        compile(PR_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"minLength\":1,\"maxLength\":1}");
    int escaped = 0;
    for (unsigned code = 0; code < 0x10000; code++) {
        char text[16];
        snprintf(text, sizeof text, "\"\\u%04x\"", code);
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        int want = code == 0 ? -1 : surrogate ? -1 : 1;
        assert_int_equal(match(grammar, text, 8), want);
        escaped += want == 1;
    }
    assert_int_equal(escaped, 0x10000 - 1 - 0x800);
    for (unsigned first = 0; first < 256; first++) {  // one and two bytes
        char text[] = {'"', (char)first, '"'};
        bool plain = first >= ' ' && first < 0x80 && first != '"' && first != '\\';
        assert_int_equal(match(grammar, text, 3) == 1, plain);
        for (unsigned second = 0; second < 256; second++) {
            char two[] = {'"', (char)first, (char)second, '"'};
            bool valid = first >= 0xc2 && first <= 0xdf && second >= 0x80 && second <= 0xbf;
            valid |= first == '\\' && second && strchr("\"\\/bfnrt", (int)second);
            assert_int_equal(match(grammar, two, 4) == 1, valid);
        }
    }
    pr_grammar_destroy(grammar);
}

static void lengths_count_code_points_however_they_are_written(void **state)
{
    (void)state;
    SCHEMA(
        "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
        LIST("\"ab\"", "\"abc\"", "\"\xc3\xa4\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\\n\\u00e4\""),
        LIST("\"a\"", "\"abcd\"", "\"\"", "\"\\ud83d\\ude00\"", "\"\\n\\n\\n\\n\""));
    SCHEMA("{\"type\":\"string\",\"maxLength\":0}", LIST("\"\""), LIST("\"a\""));
    SCHEMA("{\"minLength\":1}", LIST("\"a\""), LIST("\"\"", "1", "null"));
}

static void numbers_and_literals_follow_their_type(void **state)
{
    (void)state;
    SCHEMA(
        "{\"type\":\"integer\"}", LIST("0", "-1", "123456789012345"),
        LIST("1.0", "01", "1e3", "-", "1234567890123456", "\"1\""));
    SCHEMA(
        "{\"type\":\"number\"}", LIST("0", "-1.5", "1e10", "0.000001", "-12E-3", "-0.5"),
        LIST("1.", ".5", "00", "1e", "1e100", "+1", "--1"));
    SCHEMA("{\"type\":\"boolean\"}", LIST("true", "false"), LIST("null", "True", "0"));
    SCHEMA("{\"type\":\"null\"}", LIST("null"), LIST("nul", "false"));
    SCHEMA(
        "{\"type\":[\"integer\",\"null\",\"string\"]}", LIST("5", "null", "\"x\""),
        LIST("true", "1.5", "[]"));
    SCHEMA("true", LIST("1", "\"a\"", "{}", "[]", "null"), LIST("x"));
}

static void integer_bounds_are_exact(void **state)
{
    (void)state;
    static const int pairs[][2] = {{0, 0},     {0, 9},      {1, 10},    {7, 123},
                                   {-5, 5},    {-120, -17}, {99, 101},  {-1, 0},
                                   {100, 999}, {-10, 10},   {38, 1042}, {-999, -999}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char schema[128], text[16];
        snprintf(
            schema, sizeof schema, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}",
            pairs[i][0], pairs[i][1]);
        pr_grammar *grammar = compile(PR_GRAMMAR_JSON_SCHEMA, schema);
        for (int value = -1200; value <= 1200; value++) {
            int size = snprintf(text, sizeof text, "%d", value);
            bool inside = value >= pairs[i][0] && value <= pairs[i][1];
            if ((match(grammar, text, (size_t)size) == 1) != inside)
                fail_msg("%s and %d", schema, value);
        }
        pr_grammar_destroy(grammar);
    }
    SCHEMA(
        "{\"type\":\"integer\",\"exclusiveMinimum\":3,\"exclusiveMaximum\":6.5}",
        LIST("4", "5", "6"), LIST("3", "7"));
    SCHEMA("{\"type\":\"integer\",\"minimum\":0.5}", LIST("1", "99"), LIST("0", "-1"));
    SCHEMA(
        "{\"type\":\"integer\",\"minimum\":900719925474099267}", LIST("900719925474099267"),
        LIST("900719925474099266"));
    refuse(PR_GRAMMAR_JSON_SCHEMA, "{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", "no text");
}

// Decimals with up to three fraction digits against the bounds as doubles.
static void number_bounds_are_kept(void **state)
{
    (void)state;
    static const struct {
        const char *keywords;
        double low, high;
        bool low_open, high_open;
    } cases[] = {
        {"\"minimum\":-1.5,\"maximum\":2.25", -1.5, 2.25, false, false},
        {"\"exclusiveMinimum\":0,\"maximum\":1", 0, 1, true, false},
        {"\"exclusiveMinimum\":0.125,\"exclusiveMaximum\":0.5", 0.125, 0.5, true, true},
        {"\"minimum\":-2.5,\"exclusiveMaximum\":-1.25", -2.5, -1.25, false, true},
        {"\"minimum\":1.1", 1.1, 1e9, false, false},
        {"\"maximum\":-0.5", -1e9, -0.5, false, false},
        {"\"minimum\":0,\"maximum\":0", 0, 0, false, false},
        {"\"minimum\":1,\"maximum\":3", 1, 3, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char schema[160], text[32];
        snprintf(schema, sizeof schema, "{\"type\":\"number\",%s}", cases[i].keywords);
        pr_grammar *grammar = compile(PR_GRAMMAR_JSON_SCHEMA, schema);
        for (int thousandths = -4000; thousandths <= 4000; thousandths++) {
            int size = snprintf(
                text, sizeof text, "%s%d.%03d", thousandths < 0 ? "-" : "", abs(thousandths) / 1000,
                abs(thousandths) % 1000);
            double value = strtod(text, NULL);
            bool inside = (cases[i].low_open ? value > cases[i].low : value >= cases[i].low) &&
                          (cases[i].high_open ? value < cases[i].high : value <= cases[i].high);
            bool minus_zero = thousandths == 0;
            if (!minus_zero && (match(grammar, text, (size_t)size) == 1) != inside)
                fail_msg("%s and %s", schema, text);
        }
        pr_grammar_destroy(grammar);
    }
    SCHEMA(
        "{\"type\":\"number\",\"exclusiveMaximum\":100,\"minimum\":99}",
        LIST("99", "99.5", "99.9999999999"), LIST("100", "99.99999999999999", "100.0", "9.9e1"));
    SCHEMA(
        "{\"type\":\"number\",\"minimum\":1e-7,\"maximum\":2e-7}", LIST("0.0000001", "0.00000015"),
        LIST("0", "0.0000003"));
}

// ---- Objects and arrays

static void properties_come_in_order_and_optional_ones_may_be_missing(void **state)
{
    (void)state;
    SCHEMA(
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
        "\"boolean\"},"
        "\"c\":{\"type\":\"null\"}},\"required\":[\"b\"],\"additionalProperties\":false}",
        LIST(
            "{\"b\":true}", "{\"a\":1,\"b\":true}", "{\"a\": 1, \"b\": false, \"c\": null}",
            "{\"b\":true,\"c\":null}"),
        LIST(
            "{}", "{\"a\":1}", "{\"b\":true,\"a\":1}", "{\"b\":1}", "{\"b\":true,}",
            "{\"b\":true,\"d\":1}", "{,\"b\":true}", "{\"b\":true,\"b\":true}"));
    SCHEMA(
        "{\"properties\":{\"a\":{},\"b\":{\"const\":2}}}",
        LIST("{}", "{\"a\":[1]}", "{\"b\":2}", "{\"a\":1,\"b\":2}"),
        LIST("{\"c\":1}", "{\"b\":3}"));
    SCHEMA("{\"type\":\"object\"}", LIST("{}", "{\"x\":{\"y\":1}}"), LIST("[]"));
    SCHEMA("{\"type\":\"object\",\"additionalProperties\":false}", LIST("{}"), LIST("{\"a\":1}"));
}

static void other_keys_are_none_of_the_properties(void **state)
{
    (void)state;
    SCHEMA(
        "{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"integer\"},\"abc\":{\"type\":"
        "\"integer\"},"
        "\"\xc3\xa4\":{\"type\":\"integer\"}},\"additionalProperties\":{\"type\":\"boolean\"},"
        "\"required\":[\"ab\"]}",
        LIST(
            "{\"ab\":1}", "{\"ab\":1,\"a\":true}", "{\"ab\":1,\"abc\":2,\"abcd\":false,\"\":true}",
            "{\"ab\":1,\"\xc3\xb6\":true}", "{\"ab\":1,\"\xc3\xa4\":3}",
            "{\"ab\":1,\"\xc3\xa4x\":true}"),
        LIST(
            "{\"a\":true}", "{\"ab\":1,\"abc\":true}", "{\"ab\":1,\"ab\":true}",
            "{\"ab\":1,\"\xc3\xa4\":true}", "{\"ab\":1,\"x\":1}", "{\"ab\":1,\"\\u0061b\":true}"));
    SCHEMA(
        "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}",
        LIST("{}", "{\"q\":1, \"r\":2}"), LIST("{\"q\":true}"));
}

static void arrays_keep_their_limits(void **state)
{
    (void)state;
    SCHEMA(
        "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}",
        LIST("[1]", "[1,2]", "[1, 2, 3]"),
        LIST("[]", "[1,2,3,4]", "[1,]", "[true]", "[ 1]", "[1 ]"));
    SCHEMA("{\"type\":\"array\",\"maxItems\":0}", LIST("[]"), LIST("[1]"));
    SCHEMA("{\"type\":\"array\",\"items\":false}", LIST("[]"), LIST("[1]"));
    SCHEMA("{\"type\":\"array\"}", LIST("[]", "[1,\"a\",[]]"), LIST("{}"));
    SCHEMA(
        "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"boolean\"}]}",
        LIST("[]", "[1]", "[1,true]"), LIST("[true]", "[1,true,1]"));
    SCHEMA(
        "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"boolean\"}],"
        "\"items\":"
        "{\"type\":\"null\"},\"minItems\":2,\"maxItems\":3}",
        LIST("[1,true]", "[1,true,null]"), LIST("[]", "[1]", "[1,true,null,null]", "[1,true,2]"));
    SCHEMA(
        "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"boolean\"}],"
        "\"maxItems\":1}",
        LIST("[]", "[1]"), LIST("[1,true]"));
}

// ---- Choices

static void enum_and_const_are_the_values_themselves(void **state)
{
    (void)state;
    SCHEMA(
        "{\"enum\":[\"red\",\"re\",\"green\",1,1.5,null,true,[1,\"x\"],{\"a\":{}}]}",
        LIST(
            "\"red\"", "\"re\"", "\"green\"", "1", "1.5", "null", "true", "[1,\"x\"]",
            "{\"a\":{}}"),
        LIST("\"r\"", "\"gree\"", "2", "1.", "false", "[1, \"x\"]"));
    SCHEMA("{\"type\":\"string\",\"enum\":[\"a\",1,null]}", LIST("\"a\""), LIST("1", "null"));
    SCHEMA("{\"const\":\"\xc3\xa4\\n\"}", LIST("\"\xc3\xa4\\n\""), LIST("\"\xc3\xa4\""));
    SCHEMA("{\"const\":0.1}", LIST("0.1"), LIST("0.10000000000000001"));
    refuse(PR_GRAMMAR_JSON_SCHEMA, "{\"type\":\"string\",\"enum\":[1]}", "no text");
}

static void branches_are_taken_one_by_one(void **state)
{
    (void)state;
    SCHEMA(
        "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"maxLength\":1}]}",
        LIST("1", "\"a\""), LIST("\"ab\"", "true"));
    SCHEMA("{\"allOf\":[{\"type\":\"integer\"}],\"title\":\"x\"}", LIST("1"), LIST("\"a\""));
    SCHEMA(
        "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}", LIST("1", "\"a\""),
        LIST("1.5"));
    SCHEMA(
        "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"x\"},\"v\":{\"type\":"
        "\"integer\"}},"
        "\"required\":[\"k\"]},{\"$ref\":\"#/$defs/"
        "y\"}],\"$defs\":{\"y\":{\"type\":\"object\",\"properties\":"
        "{\"k\":{\"enum\":[\"y\"]}},\"required\":[\"k\"]}}}",
        LIST("{\"k\":\"x\"}", "{\"k\":\"x\",\"v\":3}", "{\"k\":\"y\"}"),
        LIST("{\"k\":\"y\",\"v\":3}", "{\"k\":\"z\"}"));
    refuse(
        PR_GRAMMAR_JSON_SCHEMA, "{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}",
        "'oneOf'");
    refuse(PR_GRAMMAR_JSON_SCHEMA, "{\"oneOf\":[{\"const\":1},{\"const\":1.0}]}", "'oneOf'");
    refuse(PR_GRAMMAR_JSON_SCHEMA, "{\"allOf\":[{},{}]}", "'allOf'");
}

static void many_values_are_one_tree(void **state)
{
    (void)state;
    char *schema = malloc(1 << 16);
    size_t at = (size_t)sprintf(schema, "{\"anyOf\":[{\"enum\":[");
    for (int i = 0; i < 1000; i++)
        at += (size_t)sprintf(schema + at, "%s\"value %d\"", i ? "," : "", i * 7);
    sprintf(schema + at, "]},{\"const\":\"last\"}]}");
    pr_grammar *grammar = compile(PR_GRAMMAR_JSON_SCHEMA, schema);
    assert_int_equal(match(grammar, "\"value 6993\"", 12), 1);
    assert_int_equal(match(grammar, "\"last\"", 6), 1);
    assert_int_equal(match(grammar, "\"value 6994\"", 12), -1);
    assert_int_equal(match(grammar, "\"value", 6), 0);
    assert_int_equal(state_now.stacks, 1);
    pr_grammar_destroy(grammar);
    free(schema);
}

static void a_choice_is_one_of_its_strings(void **state)
{
    (void)state;
    check_lists(
        PR_GRAMMAR_CHOICE, "[\"yes\",\"no\",\"yes, but\",\"n\\u00f6\",\"yes\"]",
        LIST("yes", "no", "yes, but", "n\xc3\xb6"), LIST("y", "", "yes,", "noo", "\"yes\""));
    check_lists(PR_GRAMMAR_CHOICE, "[\"\",\"a\"]", LIST("", "a"), LIST("aa"));
    refuse(PR_GRAMMAR_CHOICE, "[]", "at least one string");
    refuse(PR_GRAMMAR_CHOICE, "[\"a\",1]", "choice 1");
    refuse(PR_GRAMMAR_CHOICE, "{}", "list of strings");
    refuse(PR_GRAMMAR_CHOICE, "[", "list of strings");
}

// ---- Recursion

static void a_schema_may_refer_to_itself(void **state)
{
    (void)state;
    SCHEMA(
        "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":"
        "{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
        "node\"},{\"type\":\"null\"}]}},"
        "\"required\":[\"v\",\"next\"],\"additionalProperties\":false}}}",
        LIST(
            "{\"v\":1,\"next\":null}",
            "{\"v\":1,\"next\":{\"v\":2,\"next\":{\"v\":3,\"next\":null}}}"),
        LIST("{\"v\":1}", "{\"v\":1,\"next\":{}}"));
    SCHEMA(
        "{\"type\":\"object\",\"properties\":{\"c\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}"
        "}}",
        LIST("{}", "{\"c\":[]}", "{\"c\":[{},{\"c\":[{}]}]}"), LIST("{\"c\":[1]}"));
    SCHEMA(
        "{\"properties\":{\"a/b~\":{\"type\":\"null\"},\"x\":{\"$ref\":\"#/properties/a~1b~0\"}}}",
        LIST("{\"x\":null}"), LIST("{\"x\":1}"));
}

// Nesting is followed as deep as stacks are, and wherever it stops the text can still be finished.
static void depth_is_bounded_and_never_a_dead_end(void **state)
{
    (void)state;
    pr_grammar *grammar = compile(PR_GRAMMAR_JSON_OBJECT, "");
    pr_matcher_begin(grammar, scratch, &state_now);
    int depth = 0;
    while (pr_matcher_advance(
        grammar, scratch, &state_now, (const uint8_t *)(depth ? "[" : "{\"a\":["), depth ? 1 : 6))
        depth++;
    assert_in_range(depth, 32, PR_GRAMMAR_MAX_DEPTH);
    for (int i = 0; i < depth; i++)
        assert_true(pr_matcher_advance(grammar, scratch, &state_now, (const uint8_t *)"]", 1));
    assert_true(pr_matcher_advance(grammar, scratch, &state_now, (const uint8_t *)"}", 1));
    assert_true(state_now.ends && state_now.stacks == 0);
    pr_grammar_destroy(grammar);
}

static void recursion_without_an_end_or_a_byte_is_refused(void **state)
{
    (void)state;
    refuse(
        PR_GRAMMAR_JSON_SCHEMA,
        "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}",
        "no text");
    refuse(
        PR_GRAMMAR_JSON_SCHEMA, "{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}",
        "back to itself");
    refuse(PR_GRAMMAR_JSON_SCHEMA, "{\"$ref\":\"#\"}", "no text");
    refuse(PR_GRAMMAR_JSON_SCHEMA, "{\"$ref\":\"#/$defs/none\"}", "'$ref'");
    refuse(PR_GRAMMAR_JSON_SCHEMA, "{\"$ref\":\"http://x/y\"}", "'$ref'");
    refuse(PR_GRAMMAR_JSON_SCHEMA, "false", "no text");
}

// A branch that cannot end is not entered.
static void impossible_branches_are_left_out(void **state)
{
    (void)state;
    SCHEMA(
        "{\"anyOf\":[{\"$ref\":\"#/$defs/"
        "endless\"},{\"type\":\"null\"},false],\"$defs\":{\"endless\":{\"type\":"
        "\"array\",\"items\":{\"$ref\":\"#/$defs/endless\"},\"minItems\":1}}}",
        LIST("null"), LIST("[]"));
    pr_grammar *grammar = compile(
        PR_GRAMMAR_JSON_SCHEMA,
        "{\"properties\":{\"a\":false,\"b\":{\"type\":\"null\"}},\"additionalProperties\":false}");
    assert_int_equal(match(grammar, "{\"a", 3), -1);
    assert_int_equal(match(grammar, "{\"b\":null}", 10), 1);
    pr_grammar_destroy(grammar);
}

// ---- Patterns and formats

static void patterns_search_and_escape(void **state)
{
    (void)state;
    SCHEMA(
        "{\"pattern\":\"^[a-c]{2,3}$\"}", LIST("\"ab\"", "\"ccc\""),
        LIST("\"a\"", "\"abcd\"", "\"abd\""));
    SCHEMA(
        "{\"pattern\":\"b+\"}", LIST("\"b\"", "\"abba\"", "\"xxb\xc3\xa4\\n\""),
        LIST("\"a\"", "\"\""));
    SCHEMA("{\"pattern\":\"^a|b$\"}", LIST("\"ax\"", "\"xb\"", "\"a\""), LIST("\"ba\"", "\"xax\""));
    SCHEMA(
        "{\"pattern\":\"^[\\\"\\\\\\\\\\\\n\\u0001x]$\"}",
        LIST("\"\\\"\"", "\"\\\\\"", "\"\\n\"", "\"\\u0001\"", "\"x\""),
        LIST("\"\"\"", "\"\\\"", "\"\n\"", "\"\\u0078\"", "\"\\r\""));
    SCHEMA(
        "{\"pattern\":\"^[ab]{2,4}$\",\"minLength\":2,\"maxLength\":4}", LIST("\"ab\""),
        LIST("\"a\""));
    refuse(PR_GRAMMAR_JSON_SCHEMA, "{\"pattern\":\"^a+$\",\"maxLength\":4}", "'pattern' together");
    refuse(
        PR_GRAMMAR_JSON_SCHEMA, "{\"pattern\":\"^a$\",\"format\":\"date\"}", "'pattern' together");
}

static void formats_are_what_their_names_say(void **state)
{
    (void)state;
    SCHEMA(
        "{\"format\":\"date\"}", LIST("\"2024-02-28\"", "\"1999-12-31\"", "\"2023-04-30\""),
        LIST(
            "\"2024-02-30\"", "\"2023-04-31\"", "\"2023-13-01\"", "\"23-01-01\"", "\"2023-1-01\""));
    SCHEMA(
        "{\"format\":\"date-time\"}",
        LIST("\"2024-02-28T23:59:59Z\"", "\"2024-02-28T00:00:00.123+02:00\""),
        LIST("\"2024-02-28\"", "\"2024-02-28T24:00:00Z\"", "\"2024-02-28 00:00:00Z\""));
    SCHEMA("{\"format\":\"time\"}", LIST("\"23:59:59Z\""), LIST("\"23:59\"", "\"23:60:00Z\""));
    SCHEMA(
        "{\"format\":\"uuid\"}", LIST("\"123e4567-e89b-12d3-a456-426614174000\""),
        LIST("\"123e4567e89b12d3a456426614174000\""));
    SCHEMA(
        "{\"format\":\"email\"}", LIST("\"a@b.de\"", "\"x.y+z@mail.example.org\""),
        LIST("\"a@b\"", "\"@b.de\"", "\"a b@c.de\""));
    SCHEMA(
        "{\"format\":\"ipv4\"}", LIST("\"0.0.0.0\"", "\"255.249.199.9\""),
        LIST("\"256.0.0.1\"", "\"1.2.3\"", "\"01.2.3.4\""));
    SCHEMA(
        "{\"format\":\"ipv6\"}",
        LIST(
            "\"::\"", "\"::1\"", "\"1::\"", "\"1:2:3:4:5:6:7:8\"", "\"fe80::1:2\"",
            "\"a:b:c:d:e::f\""),
        LIST("\":\"", "\"1:2:3\"", "\"1::2::3\"", "\"12345::\"", "\"1:2:3:4:5:6:7:8:9\""));
    SCHEMA(
        "{\"format\":\"hostname\"}", LIST("\"a\"", "\"a-b.example\""),
        LIST("\"-a\"", "\"a..b\"", "\"\""));
    SCHEMA(
        "{\"format\":\"uri\"}", LIST("\"https://a.example/b?c=d#e\"", "\"http://x:80\""),
        LIST("\"a\"", "\"ftp://x\""));
    refuse(PR_GRAMMAR_JSON_SCHEMA, "{\"format\":\"regex\"}", "'format'");
}

static void regular_expressions_match_the_whole_text(void **state)
{
    (void)state;
    REGEX("a(b|c)*d?", LIST("a", "abcbcd", "ad"), LIST("", "b", "add", "abx"));
    REGEX("^(?:yes|no)$", LIST("yes", "no"), LIST("ye", "yesno"));
    REGEX("[^a-z]{2}", LIST("AB", "1\xc3\xa4", "\n\n"), LIST("aB", "A"));
    REGEX("\\d{3}-\\w+\\s?", LIST("123-a_Z", "000-x "), LIST("12-a", "123-", "123-\xc3\xa4"));
    REGEX("[\\d.\\-x]+", LIST("1.-x"), LIST("a"));
    REGEX("\\x41\\.\\\\", LIST("A.\\"), LIST("AB\\"));
}

static void regular_expressions_repeat_as_told(void **state)
{
    (void)state;
    REGEX("(ab){2,3}", LIST("abab", "ababab"), LIST("ab", "abababab"));
    REGEX("a{3}", LIST("aaa"), LIST("aa", "aaaa"));
    REGEX("a{2,}", LIST("aa", "aaaaaaaa"), LIST("a"));
    REGEX("a{0}b", LIST("b"), LIST("ab"));
    REGEX("(a*)*b", LIST("b", "aaab"), LIST("a", "ba"));
    REGEX("(a?b?)+c", LIST("c", "abac"), LIST("", "ab"));
    REGEX("(a|aa)+?", LIST("a", "aaaaa"), LIST(""));
    REGEX("(x{2}){3}", LIST("xxxxxx"), LIST("xxxxx", "xxxxxxx"));
    REGEX("((a{1,3}){1,3}b){2}", LIST("abab", "aaaaaaaaabab"), LIST("ab", "aaaaaaaaaabab"));
    REGEX("(?P<n>a)(?<m>b)", LIST("ab"), LIST("a"));
    REGEX("", LIST(""), LIST("a"));
    REGEX("|a", LIST("", "a"), LIST("b"));
}

static void unicode_is_matched_by_code_point(void **state)
{
    (void)state;
    REGEX("\xc3\xa4\\u00f6", LIST("\xc3\xa4\xc3\xb6"), LIST("\xc3\xa4"));
    REGEX("[\xc3\xa0-\xc3\xbf]", LIST("\xc3\xa4"), LIST("\xc3", "a", "\xc3\x80"));
    REGEX("\\ud83d\\ude00", LIST("\xf0\x9f\x98\x80"), LIST("\xf0\x9f\x98\x81"));
    REGEX(
        ".", LIST("a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"),
        LIST("", "\n", "\x80", "\xe2\x80\xa8", "\xf5\x80\x80\x80"));
    pr_grammar *grammar = compile(PR_GRAMMAR_REGEX, "[\\u0080-\\uffff]");
    int taken = 0;
    for (unsigned code = 0x80; code < 0x10000; code++) {
        char text[] = {
            (char)(code < 0x800 ? 0xc0 | code >> 6 : 0xe0 | code >> 12),
            (char)(0x80 | (code >> (code < 0x800 ? 0 : 6) & 63)), (char)(0x80 | (code & 63))};
        taken += match(grammar, text, code < 0x800 ? 2 : 3) == 1;
    }
    assert_int_equal(taken, 0x10000 - 0x80 - 0x800);
    pr_grammar_destroy(grammar);
}

static void what_a_regular_expression_cannot_have_is_named(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"(?=a)b", "look-around"},
        {"(?<!a)b", "look-around"},
        {"(a)\\1", "back references"},
        {"\\bfoo", "word boundaries"},
        {"\\p{L}", "Unicode properties"},
        {"(?i)a", "a group of this kind"},
        {"a**", "a repetition of a repetition"},
        {"*a", "nothing to repeat"},
        {"a{3,1}", "wrong order"},
        {"a{70000}", "65536"},
        {"(a", "')' is missing"},
        {"a)", "without '('"},
        {"[a", "']' is missing"},
        {"[]", "empty class"},
        {"[b-a]", "ends before"},
        {"a^b", "in its middle"},
        {"a$b", "in its middle"},
        {"\\", "last character"},
        {"\\q", "unknown escape"},
        {"a{x}", "number is missing"},
        {"(a?){5}", "may be empty"},
        {"\\ud800", "surrogate"},
        {"\\u12", "hexadecimal"},
        {"\xff", "UTF-8"},
        {"^*", "anchor"},
        {"[\\d-z]", "begins with a class"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(PR_GRAMMAR_REGEX, cases[i][0], cases[i][1]);
}

// ---- Limits and refusals

static void what_a_schema_cannot_have_is_named_with_its_place(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"multipleOf\":2}", "'multipleOf'"},
        {"{\"properties\":{\"a\":{\"items\":{\"not\":{}}}}}",
         "/properties/a/items: the keyword 'not'"},
        {"{\"anyOf\":[{},{\"uniqueItems\":true}]}", "/anyOf/1: the keyword 'uniqueItems'"},
        {"{\"$ref\":\"#/$defs/x\",\"$defs\":{\"x\":{\"if\":{}}}}", "/$defs/x: the keyword 'if'"},
        {"{\"$ref\":\"#/$defs/x\",\"type\":\"object\",\"$defs\":{\"x\":{}}}",
         "'type' together with '$ref'"},
        {"{\"anyOf\":[{}],\"enum\":[1]}", "together"},
        {"{\"enum\":[1],\"minimum\":2}", "'minimum' together with 'enum'"},
        {"{\"anyOf\":[{\"const\":1,\"minimum\":2}]}", "'minimum' together with 'const'"},
        {"{\"patternProperties\":{}}", "'patternProperties'"},
        {"{\"type\":\"thing\"}", "'type' must be"},
        {"{\"type\":\"object\",\"required\":[\"a\"]}", "'required' names 'a'"},
        {"{\"minLength\":-1}", "'minLength'"},
        {"{\"maxItems\":1.5}", "'maxItems'"},
        {"{\"items\":[{}]}", "use 'prefixItems'"},
        {"{\"minimum\":\"1\"}", "'minimum' must be a number"},
        {"{\"exclusiveMinimum\":true}", "'exclusiveMinimum' must be a number"},
        {"{\"pattern\":\"(?=x)\"}", "look-around"},
        {"{\"enum\":1}", "'enum' must be"},
        {"{\"anyOf\":[]}", "'anyOf' must be"},
        {"[1]", "must be an object"},
        {"{\"a\":1,\"a\":2}", "not valid JSON"},
        {"{", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(PR_GRAMMAR_JSON_SCHEMA, cases[i][0], cases[i][1]);
}

static char *
repeated(const char *begin, const char *part, int times, const char *middle, const char *tail)
{
    size_t size =
        strlen(begin) + (size_t)times * (strlen(part) + strlen(tail)) + strlen(middle) + 1;
    char *text = malloc(size);
    strcpy(text, begin);
    char *at = text + strlen(text);
    for (int i = 0; i < times; i++)
        at = stpcpy(at, part);
    at = stpcpy(at, middle);
    for (int i = 0; i < times; i++)
        at = stpcpy(at, tail);
    return text;
}

static void limits_have_a_line_each(void **state)
{
    (void)state;
    char *deep = repeated("", "{\"items\":", 200, "true", "}");
    refuse(PR_GRAMMAR_JSON_SCHEMA, deep, "nested more than");
    free(deep);
    deep = repeated("", "(", 100, "a", ")");
    refuse(PR_GRAMMAR_REGEX, deep, "nested too deep");
    free(deep);
    char *wide = repeated("", "[^abc]", 20000, "", "");
    refuse(PR_GRAMMAR_REGEX, wide, "make it smaller");
    free(wide);
    char *large = repeated("", "a", PR_GRAMMAR_MAX_TEXT_BYTES + 1, "", "");
    refuse(PR_GRAMMAR_REGEX, large, "at most 262144");
    free(large);
}

// However a text is read, the set of stacks is bounded, and what is left of it can end.
static void ambiguity_is_bounded_and_stays_right(void **state)
{
    (void)state;
    pr_grammar *grammar = compile(PR_GRAMMAR_REGEX, "(a|b)*a(a|b){500}c");
    pr_matcher_begin(grammar, scratch, &state_now);
    for (int i = 0; i < 2000; i++) {
        assert_true(pr_matcher_advance(grammar, scratch, &state_now, (const uint8_t *)"a", 1));
        assert_true(state_now.stacks <= PR_MATCHER_MAX_STACKS);
        assert_true(state_now.frames <= PR_MATCHER_MAX_FRAMES);
    }
    pr_grammar_destroy(grammar);
    // Branches upon branches that are all the same: followed once each, not once for each way.
    char text[4096] = "{\"$ref\":\"#/$defs/d0\",\"$defs\":{";
    for (int i = 0; i < 40; i++)
        sprintf(
            text + strlen(text),
            "\"d%d\":{\"anyOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/d%d\"}]},", i,
            i + 1, i + 1);
    strcat(text, "\"d40\":{\"type\":\"null\"}}}");
    grammar = compile(PR_GRAMMAR_JSON_SCHEMA, text);
    assert_int_equal(match(grammar, "null", 4), 1);
    pr_grammar_destroy(grammar);
}

static void the_same_text_compiles_to_the_same_grammar(void **state)
{
    (void)state;
    const char *schema =
        "{\"properties\":{\"a\":{\"pattern\":\"^x[yz]*$\"},\"b\":{\"enum\":[1,\"q\"]}},"
        "\"additionalProperties\":true}";
    pr_grammar *one = compile(PR_GRAMMAR_JSON_SCHEMA, schema),
               *two = compile(PR_GRAMMAR_JSON_SCHEMA, schema);
    assert_int_equal(one->nodes, two->nodes);
    assert_int_equal(one->edges, two->edges);
    for (int32_t i = 0; i < one->nodes; i++)
        assert_true(
            one->node[i].op == two->node[i].op && one->node[i].next == two->node[i].next &&
            one->node[i].other == two->node[i].other && one->node[i].need == two->node[i].need);
    pr_grammar_destroy(one);
    pr_grammar_destroy(two);
}

static int create_scratch(void **state)
{
    (void)state;
    return pr_matcher_scratch_create(&scratch) == PR_OK ? 0 : -1;
}

static int destroy_scratch(void **state)
{
    (void)state;
    pr_matcher_scratch_destroy(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_object_is_taken_by_json_object),
        cmocka_unit_test(a_string_holds_every_code_point_once_and_nothing_else),
        cmocka_unit_test(lengths_count_code_points_however_they_are_written),
        cmocka_unit_test(numbers_and_literals_follow_their_type),
        cmocka_unit_test(integer_bounds_are_exact),
        cmocka_unit_test(number_bounds_are_kept),
        cmocka_unit_test(properties_come_in_order_and_optional_ones_may_be_missing),
        cmocka_unit_test(other_keys_are_none_of_the_properties),
        cmocka_unit_test(arrays_keep_their_limits),
        cmocka_unit_test(enum_and_const_are_the_values_themselves),
        cmocka_unit_test(branches_are_taken_one_by_one),
        cmocka_unit_test(many_values_are_one_tree),
        cmocka_unit_test(a_choice_is_one_of_its_strings),
        cmocka_unit_test(a_schema_may_refer_to_itself),
        cmocka_unit_test(depth_is_bounded_and_never_a_dead_end),
        cmocka_unit_test(recursion_without_an_end_or_a_byte_is_refused),
        cmocka_unit_test(impossible_branches_are_left_out),
        cmocka_unit_test(patterns_search_and_escape),
        cmocka_unit_test(formats_are_what_their_names_say),
        cmocka_unit_test(regular_expressions_match_the_whole_text),
        cmocka_unit_test(regular_expressions_repeat_as_told),
        cmocka_unit_test(unicode_is_matched_by_code_point),
        cmocka_unit_test(what_a_regular_expression_cannot_have_is_named),
        cmocka_unit_test(what_a_schema_cannot_have_is_named_with_its_place),
        cmocka_unit_test(limits_have_a_line_each),
        cmocka_unit_test(ambiguity_is_bounded_and_stays_right),
        cmocka_unit_test(the_same_text_compiles_to_the_same_grammar),
    };
    return cmocka_run_group_tests(tests, create_scratch, destroy_scratch);
}
