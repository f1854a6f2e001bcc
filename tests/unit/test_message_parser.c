// SPDX-License-Identifier: BSD-3-Clause
// Every text is parsed whole, byte by byte, and cut in all or many ways; all must say the same.
// A reply is written as R[reasoning] C[content] T0[name of call 0] A0[its arguments].
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

#include "launcher/openai/message_parser.h"
#include "launcher/parse/tool_scan.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/text/byte_buffer.h"
#include "runtime/text/utf8.h"

static const pr_message_format hermes = {.tools = PR_TOOL_FORMAT_HERMES};
static const pr_message_format llama = {.tools = PR_TOOL_FORMAT_LLAMA3};
static const pr_message_format mistral = {.tools = PR_TOOL_FORMAT_MISTRAL};
static const pr_message_format list = {.tools = PR_TOOL_FORMAT_LIST};
static const pr_message_format named = {.tools = PR_TOOL_FORMAT_NAMED};
static const pr_message_format thinker = {.tools = PR_TOOL_FORMAT_HERMES, .reasoning = true};
static const pr_message_format thinking = {
    .tools = PR_TOOL_FORMAT_HERMES, .reasoning = true, .thinks_already = true};
static const pr_message_format plain = {.tools = PR_TOOL_FORMAT_NONE};

typedef struct reply {
    pr_byte_buffer text;
    int32_t kind, tool;
} reply;

static void assert_whole_characters(const char *text, size_t size_bytes)
{
    pr_byte_buffer repaired = {0};
    pr_utf8_repair(text, size_bytes, true, &repaired);
    assert_int_equal(repaired.size_bytes, size_bytes);
    assert_memory_equal(repaired.data, text, size_bytes);
    pr_byte_buffer_free(&repaired);
}

static void note(reply *record, const pr_delta *delta)
{
    static const char letters[] = "CRTA";
    assert_true(delta->size_bytes > 0);
    assert_whole_characters(delta->text, delta->size_bytes);
    if (record->kind != (int32_t)delta->kind || record->tool != delta->tool ||
        delta->kind == PR_DELTA_TOOL_BEGIN) {
        char head[16];
        bool call = delta->kind == PR_DELTA_TOOL_BEGIN || delta->kind == PR_DELTA_TOOL_ARGUMENTS;
        int length = call ? snprintf(head, sizeof head, "%c%d[", letters[delta->kind], delta->tool)
                          : snprintf(head, sizeof head, "%c[", letters[delta->kind]);
        if (record->kind >= 0)
            pr_byte_buffer_append(&record->text, "] ", 2);
        pr_byte_buffer_append(&record->text, head, (size_t)length);
        record->kind = (int32_t)delta->kind;
        record->tool = delta->tool;
    }
    pr_byte_buffer_append(&record->text, delta->text, delta->size_bytes);
}

static void feed(pr_message_parser *parser, reply *record, const char *text, size_t size, bool last)
{
    const pr_delta *delta;
    int32_t deltas;
    assert_int_equal(pr_message_parser_feed(parser, text, size, last, &delta, &deltas), PR_OK);
    for (int32_t i = 0; i < deltas; i++)
        note(record, &delta[i]);
}

// A cut is behind byte i if cuts(i, key).
typedef bool (*cuts)(size_t i, uint64_t key);
static bool cut_nowhere(size_t i, uint64_t key) { return (void)i, (void)key, false; }
static bool cut_everywhere(size_t i, uint64_t key) { return (void)i, (void)key, true; }
static bool cut_at_bits(size_t i, uint64_t key) { return i < 64 && (key >> i & 1); }
static bool cut_at_random(size_t i, uint64_t key)
{
    return pr_hash_mix(key * 1000003 + i) % (key % 7 + 1) == 0;
}

// The last piece may be empty, as where the engine tells the end after the last token.
static char *
parse(const pr_message_format *format, const char *text, size_t size, cuts cut, uint64_t key)
{
    pr_message_parser *parser;
    reply record = {.kind = -1};
    const char *name = format->tools == PR_TOOL_FORMAT_NAMED ? "f" : NULL;
    assert_int_equal(pr_message_parser_create(format, name, &parser), PR_OK);
    size_t from = 0;
    for (size_t i = 0; i < size; i++) {
        if (!cut(i, key))
            continue;
        feed(parser, &record, text + from, i + 1 - from, false);
        from = i + 1;
    }
    feed(parser, &record, text + from, size - from, true);
    pr_message_parser_destroy(parser);
    pr_byte_buffer_append(&record.text, record.kind >= 0 ? "]" : "", record.kind >= 0 ? 2 : 1);
    assert_int_equal(pr_byte_buffer_check(&record.text), PR_OK);
    return record.text.data;
}

static void check_cut(
    const pr_message_format *format,
    const char *text,
    size_t size,
    const char *expected,
    cuts cut,
    uint64_t key)
{
    char *got = parse(format, text, size, cut, key);
    assert_string_equal(got, expected);
    free(got);
}

static void
check_bytes(const pr_message_format *format, const char *text, size_t size, const char *expected)
{
    check_cut(format, text, size, expected, cut_nowhere, 0);
    check_cut(format, text, size, expected, cut_everywhere, 0);
    for (size_t i = 0; i < size && i < 64; i++)
        check_cut(format, text, size, expected, cut_at_bits, (uint64_t)1 << i);
    for (uint64_t key = 1; key <= 200; key++)
        check_cut(format, text, size, expected, cut_at_random, key);
}

static void check(const pr_message_format *format, const char *text, const char *expected)
{
    check_bytes(format, text, strlen(text), expected);
}

static void content_of_a_plain_format_passes_byte_for_byte(void **state)
{
    (void)state;
    check(&plain, "", "");
    check(&plain, " a <tool_call> [TOOL_CALLS] \n", "C[ a <tool_call> [TOOL_CALLS] \n]");
    check(&plain, "<think>x</think>", "C[<think>x</think>]");
}

static void all_cuts_of_a_short_text_say_the_same(void **state)
{
    (void)state;
    static const struct {
        const pr_message_format *format;
        const char *text;
    } shorts[] = {
        {&thinker, "<think>a</thi"},     {&thinking, "\xc3\xa9</think>\nb"},
        {&hermes, "a \n<tool_cal"},      {&hermes, "<<tool_call> "},
        {&llama, " {\"name\":\"f\""},    {&list, "[ {\"a\":1}]"},
        {&named, "{\"a\":[1]} \n"},      {&mistral, "[TOOL_CALLS]["},
        {&named, "{\"\xe2\x82\xac\"}x"},
    };
    for (size_t i = 0; i < sizeof shorts / sizeof *shorts; i++) {
        size_t size = strlen(shorts[i].text);
        char *whole = parse(shorts[i].format, shorts[i].text, size, cut_nowhere, 0);
        for (uint64_t bits = 0; bits < (uint64_t)1 << size; bits++)
            check_cut(shorts[i].format, shorts[i].text, size, whole, cut_at_bits, bits);
        free(whole);
    }
}

static void hermes_calls_stand_beside_content(void **state)
{
    (void)state;
    check(
        &hermes,
        "Sure.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1, \"y\": \"}\\\"\"}}\n"
        "</tool_call>",
        "C[Sure.] T0[f] A0[{\"x\": 1, \"y\": \"}\\\"\"}]");
    check(
        &hermes,
        "\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>\n"
        "{\"name\":\"g\",\"arguments\":{\"a\":{\"b\":[]}}}\n</tool_call>\n",
        "T0[f] A0[{}] T1[g] A1[{\"a\":{\"b\":[]}}]");
    check(
        &hermes, "A <tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n\nB \n",
        "C[A] T0[f] A0[{}] C[\n\nB \n]");
    check(
        &hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n\nB",
        "T0[f] A0[{}] C[B]");
}

static void space_behind_the_last_call_is_dropped(void **state)
{
    (void)state;
    check(
        &hermes, "A\n<tool_call>{\"name\":\"f\",\"arguments\":{}}\n</tool_call>\n \n",
        "C[A] T0[f] A0[{}]");
}

static void the_arguments_are_the_models_bytes(void **state)
{
    (void)state;
    check(
        &hermes,
        "<tool_call>{ \"name\" : \"f\" , \"arguments\" :  { \"x\" "
        ":1.50e+01,\n\"y\":\"\\u00e9\xc3\xa9\" } } "
        "</tool_call>",
        "T0[f] A0[{ \"x\" :1.50e+01,\n\"y\":\"\\u00e9\xc3\xa9\" }]");
}

static void arguments_in_a_string_are_decoded(void **state)
{
    (void)state;
    check(
        &hermes,
        "<tool_call>{\"name\":\"f\",\"arguments\":\" {\\\"x\\\":\\\"a\\\\nb "
        "\\u00e9\\ud83d\\ude00\\\"}\"}"
        "</tool_call>",
        "T0[f] A0[{\"x\":\"a\\nb \xc3\xa9\xf0\x9f\x98\x80\"}]");
    check(
        &hermes, "<tool_call>{\"name\":\"f\",\"arguments\":\"{\\ud83d}\"}</tool_call>",
        "T0[f] A0[{\xef\xbf\xbd}]");
    check(
        &hermes, "<tool_call>{\"name\":\"f\",\"arguments\":\"x\"}</tool_call>",
        "C[<tool_call>{\"name\":\"f\",\"arguments\":\"x\"}</tool_call>]");
}

static void a_call_may_name_its_arguments_first(void **state)
{
    (void)state;
    check(
        &hermes, "<tool_call>{\"arguments\": {\"x\": [1]}, \"name\": \"f\"}</tool_call>",
        "T0[f] A0[{\"x\": [1]}]");
    check(&llama, "{\"parameters\": \"{\\\"x\\\":1}\", \"name\": \"f\"}", "T0[f] A0[{\"x\":1}]");
    check(&llama, "{\"arguments\": {\"x\": 1}, \"nam", "C[{\"arguments\": {\"x\": 1}, \"nam]");
}

static void what_is_no_call_is_content_to_the_byte(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "a \n <tool_call> {\"name\": \"f\"} </tool_call> b",
        "<tool_call>",
        "x\n<tool_call>\n",
        "<tool_call> \n{\"name\": 1, \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": null}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"name\": \"g\", \"arguments\": {}}</tool_call>",
        "<tool_call>{\"other\": {\"name\": \"f\", \"arguments\": {}}}</tool_call>",
        "<tool_call>{\"name\": \"f\\u00zz\", \"arguments\": {}}</tool_call>",
        "<tool_call>f(x)</tool_call> \n",
        "a < b <t <tool_cal </tool_call> \xe2\x82\xac <",
        "\n\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char expected[256];
        snprintf(expected, sizeof expected, "C[%s]", texts[i]);
        check(&hermes, texts[i], expected);
    }
}

static void a_call_after_one_that_failed_is_found(void **state)
{
    (void)state;
    check(
        &hermes, "<tool_call>oops<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>",
        "C[<tool_call>oops] T0[f] A0[{}]");
}

static void a_call_that_breaks_after_it_began_ends_there(void **state)
{
    (void)state;
    check(
        &hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1}</tool_call>",
        "T0[f] A0[{\"x\":1}]");
    check(
        &hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1</tool_call>",
        "T0[f] A0[{\"x\":1]");
    check(
        &hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}}} </tool_call>",
        "T0[f] A0[{}] C[} </tool_call>]");
    check(
        &hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}} </tool> x",
        "T0[f] A0[{}] C[</tool> x]");
}

static void members_beside_a_call_are_skipped(void **state)
{
    (void)state;
    check(
        &hermes,
        "<tool_call>{\"id\":7,\"type\":\"function\",\"name\":\"f\",\"arguments\":{},"
        "\"and a very long name\":{\"}\":[\"]\"]}, \"z\":null}</tool_call>",
        "T0[f] A0[{}]");
}

static void an_unfinished_call_keeps_what_was_streamed(void **state)
{
    (void)state;
    check(
        &hermes, "Hm. <tool_call>{\"name\":\"f\",\"arguments\":{\"x\": \"ab",
        "C[Hm.] T0[f] A0[{\"x\": \"ab]");
    check(
        &hermes, "Hm. <tool_call>{\"name\":\"f\",\"arguments\":",
        "C[Hm. <tool_call>{\"name\":\"f\",\"arguments\":]");
    check(&hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", "T0[f] A0[{}]");
    check(
        &hermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}}\n</tool_",
        "T0[f] A0[{}] C[</tool_]");
}

static void reasoning_comes_without_its_marks_and_space(void **state)
{
    (void)state;
    check(&thinker, "<think>\nhm,\n\nso\n</think>\n\nYes.\n", "R[hm,\n\nso] C[Yes.\n]");
    check(&thinker, "\n<think>\n\n</think>\n\nYes", "C[Yes]");
    check(&thinker, " Yes<think>no</think>", "C[ Yes<think>no</think>]");
    check(&thinker, "<thinking>", "C[<thinking>]");
    check(&thinker, "<think>a</thin </think>b", "R[a</thin] C[b]");
    check(&thinker, "<think>a<</think> \n", "R[a<]");
    check(&thinker, "<think>a </thi", "R[a </thi]");
    check(&thinker, " <thi", "C[ <thi]");
    check(&thinker, "<think>never ends \n", "R[never ends]");
    check(
        &thinker,
        "<think>hm</think>\n\n<tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</tool_call>",
        "R[hm] T0[f] A0[{}]");
    check(
        &thinker, "<think><tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call></think>x",
        "R[<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>] C[x]");
}

static void a_prompt_that_opened_the_reasoning_leaves_its_end(void **state)
{
    (void)state;
    check(&thinking, "\nhm</think>Yes", "R[hm] C[Yes]");
    check(&thinking, "<think>hm</think>Yes", "R[hm] C[Yes]");
    check(&thinking, "<thinly</think>", "R[<thinly]");
    check(&thinking, "</think>\n\nYes", "C[Yes]");
    check(&thinking, "<thi", "R[<thi]");
    check(&thinking, " ", "");
}

static void llama_calls_are_the_whole_text(void **state)
{
    (void)state;
    check(&llama, "{\"name\": \"f\", \"parameters\": {\"x\": 1}}", "T0[f] A0[{\"x\": 1}]");
    check(
        &llama,
        "<|python_tag|>{\"type\": \"function\", \"name\": \"f\", \"parameters\": {}}; "
        "{\"name\": \"g\", \"arguments\": {\"a\": \"b;\"}};",
        "T0[f] A0[{}] T1[g] A1[{\"a\": \"b;\"}]");
    check(
        &llama, "\n{\"name\":\"f\",\"parameters\":{}}\n{\"name\":\"g\",\"parameters\":{}}\n",
        "T0[f] A0[{}] T1[g] A1[{}]");
    check(
        &llama,
        "{\"name\":\"f\",\"parameters\":{}}; <|python_tag|>{\"name\":\"g\",\"parameters\":{}}",
        "T0[f] A0[{}] T1[g] A1[{}]");
    check(&llama, "{\"name\":\"f\",\"parameters\":{}} so.", "T0[f] A0[{}] C[so.]");
}

static void llama_json_that_is_no_call_is_content(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"name\": \"Bob\", \"age\": 3}",
        "{\"city\": \"Paris\"} \n",
        " {} ",
        "<|python_tag|>search.call(query=\"x\")",
        "Well: {\"name\": \"f\", \"parameters\": {}}",
        "{",
        "{\"name\": \"f\", \"parameters\": ",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char expected[256];
        snprintf(expected, sizeof expected, "C[%s]", texts[i]);
        check(&llama, texts[i], expected);
    }
}

static void mistral_calls_are_a_list_or_have_heads(void **state)
{
    (void)state;
    check(
        &mistral,
        "I look. [TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\", "
        "\"arguments\": {}, \"id\": \"abc\"}] done",
        "C[I look.] T0[f] A0[{\"x\": 1}] T1[g] A1[{}] C[ done]");
    check(
        &mistral, "[TOOL_CALLS]f[ARGS]{\"x\": 1}[TOOL_CALLS]g[CALL_ID]a1[ARGS]{}[TOOL_CALLS] h{}",
        "T0[f] A0[{\"x\": 1}] T1[g] A1[{}] T2[h] A2[{}]");
    check(&mistral, "[TOOL_CALLS][]", "C[[TOOL_CALLS][]]");
    check(&mistral, "[TOOL_CALLS] is a mark", "C[[TOOL_CALLS] is a mark]");
    check(&mistral, "[TOOL_CALLS]f[X]{}", "C[[TOOL_CALLS]f[X]{}]");
    check(&mistral, "[TOOL_CALLS]f]{}", "C[[TOOL_CALLS]f]{}]");
    check(&mistral, "[1, 2] [TOOL", "C[[1, 2] [TOOL]");
    check(
        &mistral, "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{}}, {\"a\":1}]",
        "T0[f] A0[{}] C[{\"a\":1}]]");
}

static void a_constrained_list_is_calls(void **state)
{
    (void)state;
    check(
        &list,
        " [{\"name\": \"f\", \"parameters\": {\"x\": [1, {}]}}, {\"name\": \"g\", \"parameters\": "
        "{}} ] \n",
        "T0[f] A0[{\"x\": [1, {}]}] T1[g] A1[{}]");
    check(&list, "[{\"name\": \"f\", \"parameters\": {\"x\":", "T0[f] A0[{\"x\":]");
    check(&list, "[1]", "C[[1]]");
    check(&list, "no", "C[no]");
}

static void a_named_function_takes_the_whole_text(void **state)
{
    (void)state;
    check(&named, " {\"x\": {\"y\": \"}\"}} \n", "T0[f] A0[{\"x\": {\"y\": \"}\"}}]");
    check(&named, "{\"x\"", "T0[f] A0[{\"x\"]");
    check(&named, "{} then", "T0[f] A0[{}] C[then]");
    check(&named, "text", "C[text]");
    check(&named, "", "");
}

static void broken_characters_are_replaced(void **state)
{
    (void)state;
    check(&hermes, "a\xe2\x82", "C[a\xef\xbf\xbd]");
    check(&hermes, "\xe2\x82\xc3\xa9\xff", "C[\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd]");
    check(&plain, "\xf0\x9f\x98\x80", "C[\xf0\x9f\x98\x80]");
}

static void a_nul_is_text_as_any_other(void **state)
{
    (void)state;
    static const char text[] = "a\0<tool_call>{\"name\":\"f\",\"arguments\":{\"\\u0000\":1\0";
    reply record = {.kind = -1};
    pr_message_parser *parser;
    assert_int_equal(pr_message_parser_create(&hermes, NULL, &parser), PR_OK);
    feed(parser, &record, text, sizeof text - 1, true);
    static const char expected[] = "C[a\0] T0[f] A0[{\"\\u0000\":1] C[\0";
    assert_int_equal(record.text.size_bytes, sizeof expected - 1);
    assert_memory_equal(record.text.data, expected, sizeof expected - 1);
    assert_int_equal(pr_message_parser_calls(parser), 1);
    pr_message_parser_destroy(parser);
    pr_byte_buffer_free(&record.text);
}

static char *repeated(const char *head, const char *body, size_t times, const char *tail)
{
    pr_byte_buffer text = {0};
    pr_byte_buffer_append(&text, head, strlen(head));
    for (size_t i = 0; i < times; i++)
        pr_byte_buffer_append(&text, body, strlen(body));
    pr_byte_buffer_append(&text, tail, strlen(tail) + 1);
    return text.data;
}

static void what_is_held_has_a_bound(void **state)
{
    (void)state;
    char *text = repeated("<tool_call>{\"arguments\":{\"x\":\"", "\xc3\xa9", PR_MAX_HELD_BYTES, "");
    pr_message_parser *parser;
    reply record = {.kind = -1};
    assert_int_equal(pr_message_parser_create(&hermes, NULL, &parser), PR_OK);
    feed(parser, &record, text, PR_MAX_HELD_BYTES - 2, false);
    assert_int_equal(record.text.size_bytes, 0);
    feed(parser, &record, text + PR_MAX_HELD_BYTES - 2, 4, false);
    assert_in_range(record.text.size_bytes, PR_MAX_HELD_BYTES, PR_MAX_HELD_BYTES + 8);
    pr_message_parser_destroy(parser);
    pr_byte_buffer_free(&record.text);
    char *expected = repeated("C[", text, 1, "]");
    check_cut(&hermes, text, strlen(text), expected, cut_at_random, 3);
    free(expected);
    free(text);
}

static void long_space_within_content_stays(void **state)
{
    (void)state;
    static const size_t sizes[] = {
        PR_MAX_SPACE_BYTES - 1, PR_MAX_SPACE_BYTES, PR_MAX_SPACE_BYTES + 1, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *inner = repeated("a", "\n", sizes[i], "b");
        char *expected = repeated("C[", inner, 1, "]");
        check_cut(&hermes, inner, strlen(inner), expected, cut_at_random, 2);
        check_cut(&thinker, inner, strlen(inner), expected, cut_everywhere, 0);
        free(expected);
        char *thought = repeated("<think>", inner, 1, "</think>");
        expected = repeated("R[", inner, 1, "]");
        check_cut(&thinker, thought, strlen(thought), expected, cut_at_random, 2);
        free(expected);
        free(thought);
        free(inner);
        char *front = repeated("", " ", sizes[i], "<tool_call>{\"name\":\"f\",\"arguments\":{}}");
        char *cut = parse(&hermes, front, strlen(front), cut_nowhere, 0);
        check_cut(&hermes, front, strlen(front), cut, cut_everywhere, 0);
        free(cut);
        free(front);
    }
}

static void deltas_are_given_as_soon_as_they_are_known(void **state)
{
    (void)state;
    static const struct {
        const char *piece, *sofar;
    } steps[] = {
        {"Sure", "C[Sure"},
        {".\n<tool", "C[Sure."},
        {" no", "C[Sure.\n<tool no"},
        {"<tool_call>{\"name\":\"f\"", "C[Sure.\n<tool no"},
        {", \"arguments\": {\"x", "C[Sure.\n<tool no] T0[f] A0[{\"x"},
        {"\": 1", "C[Sure.\n<tool no] T0[f] A0[{\"x\": 1"},
        {"}}", "C[Sure.\n<tool no] T0[f] A0[{\"x\": 1}"},
    };
    pr_message_parser *parser;
    reply record = {.kind = -1};
    assert_int_equal(pr_message_parser_create(&hermes, NULL, &parser), PR_OK);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        feed(parser, &record, steps[i].piece, strlen(steps[i].piece), false);
        assert_int_equal(record.text.size_bytes, strlen(steps[i].sofar));
        assert_memory_equal(record.text.data, steps[i].sofar, record.text.size_bytes);
    }
    pr_message_parser_destroy(parser);
    pr_byte_buffer_free(&record.text);
}

static void assert_choice(
    const char *tools, const char *reasoning, const char *text, pr_tool_format format, bool thinks)
{
    pr_message_format got = {.thinks_already = true};
    assert_int_equal(pr_message_format_choose(tools, reasoning, text, &got), PR_OK);
    assert_int_equal(got.tools, format);
    assert_int_equal(got.reasoning, thinks);
    assert_false(got.thinks_already);
}

static void the_template_tells_the_formats(void **state)
{
    (void)state;
    assert_choice("auto", "auto", NULL, PR_TOOL_FORMAT_NONE, false);
    assert_choice(NULL, NULL, "", PR_TOOL_FORMAT_NONE, false);
    assert_choice("auto", "auto", "..<tool_call>..<think>..", PR_TOOL_FORMAT_HERMES, true);
    assert_choice("auto", "auto", "..<tool_call>\n<function=..", PR_TOOL_FORMAT_NONE, false);
    assert_choice("auto", "auto", "..<tool_call>f<arg_key>..", PR_TOOL_FORMAT_NONE, false);
    assert_choice("auto", "none", "[TOOL_CALLS] </think>", PR_TOOL_FORMAT_MISTRAL, false);
    assert_choice("auto", "auto", "</think>", PR_TOOL_FORMAT_NONE, true);
    assert_choice("auto", "auto", "\"parameters\" <|eot_id|>", PR_TOOL_FORMAT_LLAMA3, false);
    assert_choice("auto", "auto", "\"parameters\"", PR_TOOL_FORMAT_NONE, false);
    assert_choice("auto", "auto", "<|python_tag|>", PR_TOOL_FORMAT_LLAMA3, false);
    assert_choice("hermes", "qwen3", NULL, PR_TOOL_FORMAT_HERMES, true);
    assert_choice("llama3_json", "deepseek_r1", NULL, PR_TOOL_FORMAT_LLAMA3, true);
    assert_choice("mistral", "none", "<think>", PR_TOOL_FORMAT_MISTRAL, false);
    assert_choice("none", "none", "<tool_call>", PR_TOOL_FORMAT_NONE, false);
}

static void an_unknown_parser_is_refused_with_the_known_ones(void **state)
{
    (void)state;
    pr_message_format format;
    pr_error_capture_begin();
    assert_int_equal(pr_message_format_choose("qwen3_coder", "auto", "", &format), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "'qwen3_coder'"));
    assert_non_null(strstr(pr_error_text(), "llama3_json"));
    assert_int_equal(pr_message_format_choose("auto", "gpt", "", &format), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "deepseek_r1"));
    pr_error_capture_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_of_a_plain_format_passes_byte_for_byte),
        cmocka_unit_test(all_cuts_of_a_short_text_say_the_same),
        cmocka_unit_test(hermes_calls_stand_beside_content),
        cmocka_unit_test(space_behind_the_last_call_is_dropped),
        cmocka_unit_test(the_arguments_are_the_models_bytes),
        cmocka_unit_test(arguments_in_a_string_are_decoded),
        cmocka_unit_test(a_call_may_name_its_arguments_first),
        cmocka_unit_test(what_is_no_call_is_content_to_the_byte),
        cmocka_unit_test(a_call_after_one_that_failed_is_found),
        cmocka_unit_test(a_call_that_breaks_after_it_began_ends_there),
        cmocka_unit_test(members_beside_a_call_are_skipped),
        cmocka_unit_test(an_unfinished_call_keeps_what_was_streamed),
        cmocka_unit_test(reasoning_comes_without_its_marks_and_space),
        cmocka_unit_test(a_prompt_that_opened_the_reasoning_leaves_its_end),
        cmocka_unit_test(llama_calls_are_the_whole_text),
        cmocka_unit_test(llama_json_that_is_no_call_is_content),
        cmocka_unit_test(mistral_calls_are_a_list_or_have_heads),
        cmocka_unit_test(a_constrained_list_is_calls),
        cmocka_unit_test(a_named_function_takes_the_whole_text),
        cmocka_unit_test(broken_characters_are_replaced),
        cmocka_unit_test(a_nul_is_text_as_any_other),
        cmocka_unit_test(what_is_held_has_a_bound),
        cmocka_unit_test(long_space_within_content_stays),
        cmocka_unit_test(deltas_are_given_as_soon_as_they_are_known),
        cmocka_unit_test(the_template_tells_the_formats),
        cmocka_unit_test(an_unknown_parser_is_refused_with_the_known_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
