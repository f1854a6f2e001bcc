// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/completion_context.h"

pr_status pr_completion_context_open(const pr_engine *engine, pr_completion_context *context)
{
    const pr_options *options = engine->options;
    *context = (pr_completion_context){
        .model = engine->model,
        .tokenizer = engine->tokenizer,
        .served_name = engine->model_name,
        .max_model_len = engine->max_model_len,
        .trusts_template = options->trust_request_chat_template,
        .allow_special = options->allow_special_in_content,
    };
    PR_TRY(pr_chat_template_open(options->model, options->chat_template, &context->chat_template));
    const char *text =
        context->chat_template ? pr_chat_template_text(context->chat_template) : NULL;
    pr_status status = pr_message_format_choose(
        options->tool_call_parser, options->reasoning_parser, text, &context->format);
    if (status != PR_OK)
        pr_completion_context_close(context);
    return status;
}

void pr_completion_context_close(pr_completion_context *context)
{
    pr_chat_template_close(context->chat_template);
    *context = (pr_completion_context){0};
}
