// SPDX-License-Identifier: BSD-3-Clause
// A model's chat template: from messages and tools to the text of the prompt. The templates that models publish are
// Jinja; this is an interpreter of the subset they use (docs/chat-templates.md), with the semantics of the
// environment that transformers renders them in: ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks,
// loopcontrols, a `generation` tag, tojson as Python's json.dumps(ensure_ascii=False).
//
// Every byte of the output knows whether it came from the caller's variables or from the template itself:
//   <|im_start|>user\n        Ignore all this.<|im_end|>         <|im_end|>\n
//   template                  user (a range)                     template
// The tokenizer makes special tokens only of the template's own bytes (pr_tokenizer_encode_marked), so text that
// came from a user can never become one. The one exception: a message's role, if it is a word of the API
// ("user", "assistant", ...), counts as the template's.
// Nothing a template does reaches files, time (but for strftime_now) or the network; output, loop turns, depth, memory
// and steps have limits. Cost: some microseconds for a short chat, 10 ms per MB of content.
// Threads: a template is immutable after parse and may be shared; render uses the caller's thread, 0.5 MB of its stack.
// Source: Jinja 3.1 template designer documentation; transformers' chat template documentation.
#ifndef PR_RUNTIME_TEMPLATE_CHAT_TEMPLATE_H
#define PR_RUNTIME_TEMPLATE_CHAT_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/text_range.h"

typedef struct pr_chat_template pr_chat_template;

// From `file` if it is not NULL; else directory/chat_template.jinja; else tokenizer_config.json's chat_template (a
// string, or a list of named ones: `default`, and `tool_use` when tools are given). Also takes bos_token, eos_token
// and the other special tokens' texts from tokenizer_config.json: a render finds them as variables, unmarked.
// *chat_template is NULL, without an error, when the model has none.
pr_status pr_chat_template_open(
    const char *directory, const char *file, pr_chat_template **chat_template) PR_MUST_CHECK;
// From text (a request's own chat_template, tests, the fuzz target). PR_ERR_FORMAT names line and fault.
pr_status pr_chat_template_parse(
    const char *text, size_t size_bytes, pr_chat_template **chat_template) PR_MUST_CHECK;
void pr_chat_template_close(pr_chat_template *chat_template);

// The template's text, for those who look for the formats it speaks. NUL-terminated.
const char *pr_chat_template_text(const pr_chat_template *chat_template);
// Whether it walks over a message's content as a list of parts; if not, parts are joined before the render.
bool pr_chat_template_takes_parts(const pr_chat_template *chat_template);

typedef struct pr_rendered {
    char *text;  // malloc'ed, NUL-terminated
    size_t size_bytes;
    int32_t ranges;
    pr_text_range
        *range;  // [ranges] bytes that came from `variables`: ascending, disjoint, not empty
} pr_rendered;

// variables: {"messages": [...], "tools": [...], "add_generation_prompt": true, ...}; as transformers does, give
// "tools" and "documents" as null when there are none. "now", if an integer, is the time that strftime_now shows
// (seconds since 1970, UTC). PR_ERR_REQUEST when the template refuses (raise_exception: its text, as one line, is
// pr_error_text), meets a value it cannot handle, or passes a limit.
pr_status pr_chat_template_render(
    const pr_chat_template *chat_template,
    const json_t *variables,
    pr_rendered *rendered) PR_MUST_CHECK;
void pr_rendered_free(pr_rendered *rendered);

#endif
