// SPDX-License-Identifier: BSD-3-Clause
// The `messages` of a chat request, checked and put into the form that chat templates expect.
//
//   {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}   content "a\nb"
//   {"role":"assistant","tool_calls":[{..."arguments":"{\"x\":1}"}]}                  arguments {"x":1}, an object
//
// Fields that are not known are kept: templates read more than OpenAI's API has. Fields that are null are dropped;
// `content` is always there: null beside calls, else "".
// Threads: none of its own. Source: OpenAI API reference (chat completions); joining as vLLM does it.
#ifndef PR_LAUNCHER_REQUEST_CHAT_MESSAGES_H
#define PR_LAUNCHER_REQUEST_CHAT_MESSAGES_H

#include <stdbool.h>

#include "launcher/request/refusal.h"

enum { PR_MAX_MESSAGES = 10000, PR_MAX_MESSAGE_PARTS = 10000, PR_MAX_MESSAGE_CALLS = 1024 };

// From the body's field `messages`: *messages is new. keep_parts: a list of parts stays one, for templates that
// walk over it (pr_chat_template_takes_parts); else its texts are joined by line breaks.
// PR_OK, or PR_ERR_REQUEST with *refusal filled.
pr_status pr_chat_messages_parse(
    const json_t *body, bool keep_parts, json_t **messages, pr_refusal *refusal) PR_MUST_CHECK;

typedef struct pr_chat_ending {
    bool add_generation_prompt;   // the prompt ends where the assistant's answer begins
    bool continue_final_message;  // the answer goes on where the last message ends
} pr_chat_ending;

// The body's fields of these names; both true is refused. Unless given, the first is what the second is not.
pr_status pr_chat_messages_ending(const json_t *body, pr_chat_ending *ending, pr_refusal *refusal)
    PR_MUST_CHECK;

#endif
