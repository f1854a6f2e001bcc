// SPDX-License-Identifier: BSD-3-Clause
// The body of an OpenAI chat completions request: messages and tools go through the model's chat template and become
// the one prompt of a completion; what tool_choice asks for constrains the output. Fields: docs/chat.md.
// Text of the client's can never become a special token, unless the context allows it.
// Source: OpenAI API reference (chat); chat_template_kwargs, continue_final_message and others as vLLM names them.
#ifndef PR_LAUNCHER_REQUEST_CHAT_REQUEST_H
#define PR_LAUNCHER_REQUEST_CHAT_REQUEST_H

#include "launcher/request/completion_request.h"

// As pr_completion_request_parse.
pr_status pr_chat_request_parse(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request **request,
    pr_refusal *refusal) PR_MUST_CHECK;

// Only the prompt that the body's messages and tools make: its text (freed with pr_rendered_free) and tokens (freed by
// the caller).
pr_status pr_chat_request_prompt(
    const pr_completion_context *context,
    const json_t *body,
    pr_rendered *rendered,
    pr_prompt *prompt,
    pr_refusal *refusal) PR_MUST_CHECK;

#endif
