// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/completion_context.h"

#include "runtime/base/log.h"

// A template that the user names must be good; the model's own, if it is not understood, costs the chats only.
static pr_status open_template(const pr_options *options, pr_chat_template **chat_template)
{
    if (options->chat_template)
        return pr_chat_template_open(options->model, options->chat_template, chat_template);
    *chat_template = NULL;
    pr_error_capture_begin();
    pr_status status = pr_chat_template_open(options->model, NULL, chat_template);
    pr_error_capture_end();
    if (status != PR_OK && status != PR_ERR_RESOURCE) {
        pr_log(PR_LOG_WARN, "%s: chats will be refused", pr_error_text());
        return PR_OK;
    }
    return status;
}

pr_status pr_completion_context_open(const pr_options *options, pr_completion_context *context)
{
    *context = (pr_completion_context){
        .trusts_template = options->trust_request_chat_template,
        .allow_special = options->allow_special_in_content,
    };
    PR_TRY(open_template(options, &context->chat_template));
    const char *text =
        context->chat_template ? pr_chat_template_text(context->chat_template) : NULL;
    pr_status status = pr_message_format_choose(
        options->tool_call_parser, options->reasoning_parser, text, &context->format);
    if (status != PR_OK)
        pr_completion_context_close(context);
    return status;
}

void pr_completion_context_attach(pr_completion_context *context, const pr_engine *engine)
{
    context->model = engine->model;
    context->tokenizer = engine->tokenizer;
    context->served_name = engine->model_name;
    context->max_model_len = engine->max_model_len;
}

void pr_completion_context_close(pr_completion_context *context)
{
    pr_chat_template_close(context->chat_template);
    *context = (pr_completion_context){0};
}
