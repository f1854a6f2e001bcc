// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/message_parser.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/parse/delta_list.h"
#include "launcher/parse/tool_scan.h"
#include "runtime/base/log.h"
#include "runtime/text/utf8.h"

static const char think_open[] = "<think>", think_close[] = "</think>";

typedef enum thinking {
    BEFORE_THINKING,  // perhaps in <think>
    IN_THINKING,      // perhaps in </think>
    BEHIND_THINKING
} thinking;

struct pr_message_parser {
    thinking thinking;
    bool thinks_already;
    bool has_reasoning;
    bool finished;
    pr_byte_buffer held;   // space and the front of <think>
    size_t matched;        // bytes of the mark so far
    pr_byte_buffer space;  // after reasoning: dropped if </think> follows
    pr_byte_buffer input;  // whole characters of the current piece
    char open[4];          // bytes of a character that the last piece cut
    size_t open_bytes;
    char *named;
    pr_tool_scan tools;
    pr_delta_list list;
};

pr_status pr_message_parser_create(
    const pr_message_format *format, const char *named, pr_message_parser **parser)
{
    assert((format->tools == PR_TOOL_FORMAT_NAMED) == (named != NULL));
    pr_message_parser *made = calloc(1, sizeof *made);
    char *copy = strdup(named ? named : "");
    if (!made || !copy) {
        free(made);
        free(copy);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a message parser");
    }
    made->named = copy;
    made->thinks_already = format->thinks_already;
    made->thinking = format->reasoning ? BEFORE_THINKING : BEHIND_THINKING;
    pr_tool_scan_begin(&made->tools, format->tools, copy, &made->list);
    *parser = made;
    return PR_OK;
}

void pr_message_parser_destroy(pr_message_parser *parser)
{
    if (!parser)
        return;
    pr_byte_buffer_free(&parser->held);
    pr_byte_buffer_free(&parser->space);
    pr_byte_buffer_free(&parser->input);
    pr_tool_scan_free(&parser->tools);
    pr_delta_list_free(&parser->list);
    free(parser->named);
    free(parser);
}

int32_t pr_message_parser_calls(const pr_message_parser *parser) { return parser->tools.calls; }

// ---- Reasoning ----

// Reasoning begins and ends without space.
static void put_inner_space(pr_message_parser *parser)
{
    if (parser->has_reasoning)
        pr_delta_list_add(
            &parser->list, PR_DELTA_REASONING, 0, parser->space.data, parser->space.size_bytes);
    pr_byte_buffer_clear(&parser->space);
}

static void put_reasoning(pr_message_parser *parser, const char *text, size_t size_bytes)
{
    put_inner_space(parser);
    pr_delta_list_add(&parser->list, PR_DELTA_REASONING, 0, text, size_bytes);
    parser->has_reasoning = true;
}

static void feed_thinking(pr_message_parser *parser, char byte)
{
    if (parser->matched > 0 && byte == think_close[parser->matched]) {
        if (think_close[++parser->matched])
            return;
        pr_byte_buffer_clear(&parser->space);
        parser->thinking = BEHIND_THINKING;
        parser->tools.trim = true;
        return;
    }
    if (parser->matched > 0)
        put_reasoning(parser, think_close, parser->matched);
    parser->matched = byte == think_close[0];
    if (parser->matched)
        return;
    if (!pr_json_scan_is_space(byte)) {
        put_reasoning(parser, &byte, 1);
        return;
    }
    if (parser->space.size_bytes == PR_MAX_SPACE_BYTES)
        put_inner_space(parser);
    pr_byte_buffer_append(&parser->space, &byte, 1);
}

// The text does not begin with <think>.
static void leave_start(pr_message_parser *parser)
{
    const char *held = parser->held.data;
    parser->thinking = parser->thinks_already ? IN_THINKING : BEHIND_THINKING;
    parser->matched = 0;
    for (size_t i = 0; i < parser->held.size_bytes; i++) {
        if (parser->thinks_already)
            feed_thinking(parser, held[i]);
        else
            pr_tool_scan_feed(&parser->tools, held[i]);
    }
}

// False when the byte is not part of the start and is to be fed again.
static bool feed_start(pr_message_parser *parser, char byte)
{
    bool fits = byte == think_open[parser->matched] ||
                (parser->matched == 0 && pr_json_scan_is_space(byte));
    if (!fits || parser->held.size_bytes == PR_MAX_SPACE_BYTES) {
        leave_start(parser);
        return false;
    }
    pr_byte_buffer_append(&parser->held, &byte, 1);
    parser->matched += !pr_json_scan_is_space(byte);
    if (!think_open[parser->matched]) {
        parser->thinking = IN_THINKING;
        parser->matched = 0;
    }
    return true;
}

static void feed_byte(pr_message_parser *parser, char byte)
{
    if (parser->thinking == BEFORE_THINKING && feed_start(parser, byte))
        return;
    if (parser->thinking == IN_THINKING)
        feed_thinking(parser, byte);
    else
        pr_tool_scan_feed(&parser->tools, byte);
}

static void finish(pr_message_parser *parser)
{
    if (parser->thinking == BEFORE_THINKING)
        leave_start(parser);
    if (parser->thinking == IN_THINKING && parser->matched > 0)
        put_reasoning(parser, think_close, parser->matched);
    pr_tool_scan_finish(&parser->tools);
    parser->finished = true;
}

// ---- Pieces ----

// Puts the piece into `input`, with the character before it that was cut, without one at its end that is.
static void
take_characters(pr_message_parser *parser, const char *text, size_t size_bytes, bool last)
{
    pr_byte_buffer_clear(&parser->input);
    while (parser->open_bytes > 0 && (size_bytes > 0 || last)) {
        if (size_bytes > 0) {
            parser->open[parser->open_bytes++] = *text++;
            size_bytes--;
        }
        bool final = last && size_bytes == 0;
        size_t used = pr_utf8_repair(parser->open, parser->open_bytes, final, &parser->input);
        parser->open_bytes -= used;
        memmove(parser->open, parser->open + used, parser->open_bytes);
    }
    if (size_bytes == 0)
        return;
    size_t used = pr_utf8_repair(text, size_bytes, last, &parser->input);
    parser->open_bytes = size_bytes - used;
    memcpy(parser->open, text + used, parser->open_bytes);
}

pr_status pr_message_parser_feed(
    pr_message_parser *parser,
    const char *text,
    size_t size_bytes,
    bool last,
    const pr_delta **delta,
    int32_t *deltas)
{
    assert(!parser->finished);
    pr_delta_list_clear(&parser->list);
    take_characters(parser, text, size_bytes, last);
    PR_TRY(pr_byte_buffer_check(&parser->input));
    const char *input = parser->input.data;
    for (size_t i = 0; i < parser->input.size_bytes; i++)
        feed_byte(parser, input[i]);
    if (last)
        finish(parser);
    PR_TRY(pr_byte_buffer_check(&parser->held));
    PR_TRY(pr_byte_buffer_check(&parser->space));
    PR_TRY(pr_tool_scan_check_memory(&parser->tools));
    return pr_delta_list_finish(&parser->list, delta, deltas);
}

// ---- Names of formats ----

// Also models that write <tool_call> teach something else than JSON in it: Qwen3-Coder and GLM.
static pr_tool_format taught_tools(const char *text)
{
    if (strstr(text, "<tool_call>") && !strstr(text, "<function=") && !strstr(text, "<arg_key>"))
        return PR_TOOL_FORMAT_HERMES;
    if (strstr(text, "[TOOL_CALLS]"))
        return PR_TOOL_FORMAT_MISTRAL;
    if (strstr(text, "<|python_tag|>") ||
        (strstr(text, "\"parameters\"") && strstr(text, "<|eot_id|>")))
        return PR_TOOL_FORMAT_LLAMA3;
    return PR_TOOL_FORMAT_NONE;
}

static bool is_name(const char *given, const char *name) { return strcmp(given, name) == 0; }

pr_status pr_message_format_choose(
    const char *tool_parser,
    const char *reasoning_parser,
    const char *template_text,
    pr_message_format *format)
{
    const char *tools = tool_parser ? tool_parser : "auto";
    const char *reasoning = reasoning_parser ? reasoning_parser : "auto";
    const char *text = template_text ? template_text : "";
    pr_message_format chosen = {0};
    if (is_name(tools, "auto"))
        chosen.tools = taught_tools(text);
    else if (is_name(tools, "hermes"))
        chosen.tools = PR_TOOL_FORMAT_HERMES;
    else if (is_name(tools, "llama3_json"))
        chosen.tools = PR_TOOL_FORMAT_LLAMA3;
    else if (is_name(tools, "mistral"))
        chosen.tools = PR_TOOL_FORMAT_MISTRAL;
    else if (!is_name(tools, "none"))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--tool-call-parser '%s' is not known: give auto, hermes, llama3_json, mistral or none",
            tools);
    if (is_name(reasoning, "auto"))
        chosen.reasoning = strstr(text, think_open) != NULL || strstr(text, think_close) != NULL;
    else if (is_name(reasoning, "qwen3") || is_name(reasoning, "deepseek_r1"))
        chosen.reasoning = true;
    else if (!is_name(reasoning, "none"))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--reasoning-parser '%s' is not known: give auto, qwen3, deepseek_r1 or none",
            reasoning);
    *format = chosen;
    return PR_OK;
}
