// SPDX-License-Identifier: BSD-3-Clause
// What a model writes in a chat, taken apart as it comes: reasoning, content, tool calls. A whole reply is
// the sum of the same deltas that a stream sends, so both say the same, however the text was cut into pieces.
//
//   <think>hm</think>Sure.<tool_call>{"name":"f","arguments":{"x":1}}</tool_call>
//   REASONING "hm"    CONTENT "Sure."   TOOL_BEGIN f   TOOL_ARGUMENTS "{\"x\":1}"
//
// Text that may still become a mark or a call is held until it is known, and no longer than a bound (launcher/parse/tool_scan.h). A
// call begins when its name and the { of its arguments are there; what was not a call by then is content. Dropped are
// only the marks, the JSON around name and arguments, and space beside marks.
// Formats: docs/chat.md. Threads: none of its own. Cost: O(1) a byte.
#ifndef PR_LAUNCHER_OPENAI_MESSAGE_PARSER_H
#define PR_LAUNCHER_OPENAI_MESSAGE_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef enum pr_tool_format {
    PR_TOOL_FORMAT_NONE,    // tool calls are not looked for
    PR_TOOL_FORMAT_HERMES,  // <tool_call>{"name":..., "arguments":{...}}</tool_call> (Qwen, Hermes)
    PR_TOOL_FORMAT_LLAMA3,  // {"name":..., "parameters":{...}}, perhaps after <|python_tag|>; several by ';'
    PR_TOOL_FORMAT_MISTRAL,  // [TOOL_CALLS][{"name":..., "arguments":{...}}, ...], [TOOL_CALLS]name[ARGS]{...}
    PR_TOOL_FORMAT_LIST,  // [{"name":..., "parameters":{...}}, ...]: what tool_choice constrains the output to
    PR_TOOL_FORMAT_NAMED,  // the whole output is the arguments of one known function
} pr_tool_format;

typedef struct pr_message_format {
    pr_tool_format tools;
    bool reasoning;       // the model writes <think>...</think> before its answer
    bool thinks_already;  // the prompt ended inside of it: what comes first is reasoning
} pr_message_format;

// `auto` (or NULL) looks for the formats that the template's text (or NULL) teaches; other names select one.
// thinks_already is left false: only the prompt tells. PR_ERR_ARGUMENT lists the names there are.
pr_status pr_message_format_choose(
    const char *tool_parser,
    const char *reasoning_parser,
    const char *template_text,
    pr_message_format *format) PR_MUST_CHECK;

typedef enum pr_delta_kind {
    PR_DELTA_CONTENT,
    PR_DELTA_REASONING,
    PR_DELTA_TOOL_BEGIN,
    PR_DELTA_TOOL_ARGUMENTS
} pr_delta_kind;

typedef struct pr_delta {
    pr_delta_kind kind;
    int32_t tool;  // TOOL_*: index of the call; else 0
    const char *
        text;  // BEGIN: the function's name; else a piece, not empty, of whole UTF-8 characters. No NUL
    size_t size_bytes;
} pr_delta;

typedef struct pr_message_parser pr_message_parser;

// named: the function of PR_TOOL_FORMAT_NAMED, else NULL (copied).
pr_status pr_message_parser_create(
    const pr_message_format *format, const char *named, pr_message_parser **parser) PR_MUST_CHECK;
void pr_message_parser_destroy(pr_message_parser *parser);

// Takes the next piece of the text; `last`: nothing follows, what was held is given. *delta[*deltas] is owned by the
// parser and valid until its next call. Bytes that are no UTF-8 become U+FFFD.
pr_status pr_message_parser_feed(
    pr_message_parser *parser,
    const char *text,
    size_t size_bytes,
    bool last,
    const pr_delta **delta,
    int32_t *deltas) PR_MUST_CHECK;

// Tool calls so far: above 0, finish_reason "stop" is "tool_calls".
int32_t pr_message_parser_calls(const pr_message_parser *parser);

#endif
