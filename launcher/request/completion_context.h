// SPDX-License-Identifier: BSD-3-Clause
// What a request is read against: the model that serves it and how its chats are spelled.
#ifndef PR_LAUNCHER_REQUEST_COMPLETION_CONTEXT_H
#define PR_LAUNCHER_REQUEST_COMPLETION_CONTEXT_H

#include "launcher/engine/engine.h"
#include "launcher/openai/message_parser.h"
#include "runtime/model/model.h"
#include "runtime/template/chat_template.h"
#include "runtime/text/tokenizer.h"

typedef struct pr_completion_context {
    const pr_model *model;
    const pr_tokenizer *tokenizer;
    const char *served_name;  // what `model` in the body must be, if it is given
    int32_t max_model_len;
    uint64_t default_seed;            // when the body has none
    pr_chat_template *chat_template;  // NULL: the model has none
    pr_message_format format;         // of what the model writes in a chat
    bool trusts_template;             // a request may bring a chat template of its own
    bool allow_special;               // text of messages may become special tokens
    bool streams;                     // the answer can go out in pieces
} pr_completion_context;

// What the options say of chats, before any model is loaded. A model without a chat template is no error: its chats
// are refused one by one.
pr_status
pr_completion_context_open(const pr_options *options, pr_completion_context *context) PR_MUST_CHECK;
// The model and tokenizer of an engine, borrowed.
void pr_completion_context_attach(pr_completion_context *context, const pr_engine *engine);
void pr_completion_context_close(pr_completion_context *context);

#endif
