// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/chat_request.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/request/chat_messages.h"
#include "launcher/request/request_field.h"
#include "launcher/request/response_format.h"
#include "launcher/request/tool_choice.h"
#include "runtime/base/log.h"

// What the final message to be continued is known by in the rendered text, which is cut behind it.
static const char continued_mark[] = "\x1f"
                                     "polyreme:continue"
                                     "\x1f";

// ---- Fields that are not offered ----

static pr_status refuse_unsupported(const json_t *body, pr_refusal *refusal)
{
    static const char *const names[] = {"functions", "function_call",      "prediction",
                                        "audio",     "web_search_options", "echo",
                                        "prompt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = pr_request_field(body, names[i]);
        if (value && !json_is_false(value))
            return pr_refuse(
                refusal, names[i], "'%s' is not supported in a chat: leave it out", names[i]);
    }
    const json_t *modalities = pr_request_field(body, "modalities");
    const char *only = json_string_value(json_array_get(modalities, 0));
    if (modalities && (json_array_size(modalities) != 1 || !only || strcmp(only, "text") != 0))
        return pr_refuse(refusal, "modalities", "only the modality 'text' is supported");
    return PR_OK;
}

// ---- From messages to text ----

static pr_status choose_template(
    const pr_completion_context *context,
    const json_t *body,
    const pr_chat_template **chosen,
    pr_chat_template **own,
    pr_refusal *refusal)
{
    const json_t *text = pr_request_field(body, "chat_template");
    *chosen = context->chat_template;
    if (text && !context->trusts_template)
        return pr_refuse(
            refusal, "chat_template",
            "a request's own 'chat_template' can write special tokens: start with "
            "--trust-request-chat-template to allow it");
    if (text && !json_is_string(text))
        return pr_refuse(refusal, "chat_template", "'chat_template' must be a string");
    if (text &&
        pr_chat_template_parse(json_string_value(text), json_string_length(text), own) != PR_OK)
        return pr_refuse(refusal, "chat_template", "%s", pr_error_text());
    if (*own)
        *chosen = *own;
    if (!*chosen)
        return pr_refuse(
            refusal, "messages",
            "the model has no chat template: use /v1/completions, or start with --chat-template");
    return PR_OK;
}

// The variables of a render: what the request sets, then what it asks for by name.
static pr_status collect_variables(
    const json_t *body,
    const json_t *messages,
    const pr_tool_choice *tools,
    const pr_chat_ending *ending,
    json_t **variables,
    pr_refusal *refusal)
{
    static const char *const passed[] = {"documents", "reasoning_effort"};
    json_t *extra = pr_request_field(body, "chat_template_kwargs");
    if (extra && !json_is_object(extra))
        return pr_refuse(
            refusal, "chat_template_kwargs", "'chat_template_kwargs' must be an object");
    *variables = json_pack(
        "{s:O, s:b, s:O?, s:n}", "messages", messages, "add_generation_prompt",
        (int)ending->add_generation_prompt, "tools", tools->tools, "documents");
    if (!*variables)
        return pr_refuse(refusal, NULL, "no memory for the messages");
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++) {
        json_t *value = pr_request_field(body, passed[i]);
        if (value)
            json_object_set(*variables, passed[i], value);
    }
    if (extra)
        json_object_update_missing(*variables, extra);
    return PR_OK;
}

// The last message's text gets the mark at its end.
static pr_status mark_final_message(json_t *messages, pr_refusal *refusal)
{
    json_t *last = json_array_get(messages, json_array_size(messages) - 1);
    const json_t *content = json_object_get(last, "content");
    if (!json_is_string(content))
        return pr_refuse(
            refusal, "continue_final_message", "the last message has no text to be continued");
    pr_byte_buffer text = {0};
    pr_byte_buffer_append(&text, json_string_value(content), json_string_length(content));
    pr_byte_buffer_append(&text, continued_mark, sizeof continued_mark - 1);
    json_t *marked = text.failed ? NULL : json_stringn(text.data, text.size_bytes);
    pr_byte_buffer_free(&text);
    if (!marked || json_object_set_new(last, "content", marked) != 0)
        return pr_refuse(refusal, "messages", "no memory for the messages");
    return PR_OK;
}

static pr_status cut_behind_final_message(pr_rendered *rendered, pr_refusal *refusal)
{
    size_t length = sizeof continued_mark - 1, end = 0;
    for (size_t from = 0; from + length <= rendered->size_bytes;) {
        const char *place =
            memmem(rendered->text + from, rendered->size_bytes - from, continued_mark, length);
        if (!place)
            break;
        end = (size_t)(place - rendered->text);
        from = end + length;
    }
    if (end == 0)
        return pr_refuse(
            refusal, "continue_final_message",
            "the template does not show the last message's text as it is: it cannot be continued");
    rendered->size_bytes = end;
    rendered->text[end] = '\0';
    while (rendered->ranges > 0 && rendered->range[rendered->ranges - 1].begin >= end)
        rendered->ranges--;
    if (rendered->ranges > 0 && rendered->range[rendered->ranges - 1].end > end)
        rendered->range[rendered->ranges - 1].end = end;
    return PR_OK;
}

static pr_status render(
    const pr_chat_template *chat_template,
    const json_t *body,
    const pr_tool_choice *tools,
    pr_rendered *rendered,
    pr_refusal *refusal)
{
    json_t *messages = NULL, *variables = NULL;
    pr_chat_ending ending;
    PR_TRY(pr_chat_messages_ending(body, &ending, refusal));
    PR_TRY(pr_chat_messages_parse(
        body, pr_chat_template_takes_parts(chat_template), &messages, refusal));
    pr_status status = PR_OK;
    if (ending.continue_final_message)
        status = mark_final_message(messages, refusal);
    if (status == PR_OK)
        status = collect_variables(body, messages, tools, &ending, &variables, refusal);
    if (status == PR_OK && pr_chat_template_render(chat_template, variables, rendered) != PR_OK)
        status = pr_refuse(refusal, "messages", "the chat template refuses: %s", pr_error_text());
    if (status == PR_OK && ending.continue_final_message) {
        status = cut_behind_final_message(rendered, refusal);
        if (status != PR_OK)
            pr_rendered_free(rendered);
    }
    json_decref(messages);
    json_decref(variables);
    return status;
}

static pr_status encode(
    const pr_completion_context *context,
    const json_t *body,
    const pr_rendered *rendered,
    pr_prompt *prompt,
    pr_refusal *refusal)
{
    bool add_special = false;  // a template writes its own
    PR_TRY(pr_request_field_bool(body, "add_special_tokens", &add_special, refusal));
    if (pr_tokenizer_encode_marked(
            context->tokenizer, rendered->text, rendered->size_bytes, add_special, rendered->range,
            context->allow_special ? 0 : rendered->ranges, &prompt->token,
            &prompt->tokens) != PR_OK)
        return pr_refuse(
            refusal, "messages", "the messages cannot be tokenised: %s", pr_error_text());
    return PR_OK;
}

static pr_status make_prompt(
    const pr_completion_context *context,
    const json_t *body,
    const pr_tool_choice *tools,
    pr_rendered *rendered,
    pr_prompt *prompt,
    pr_refusal *refusal)
{
    const pr_chat_template *chat_template;
    pr_chat_template *own = NULL;
    pr_status status = choose_template(context, body, &chat_template, &own, refusal);
    if (status == PR_OK)
        status = render(chat_template, body, tools, rendered, refusal);
    pr_chat_template_close(own);
    PR_TRY(status);
    status = encode(context, body, rendered, prompt, refusal);
    if (status != PR_OK)
        pr_rendered_free(rendered);
    return status;
}

pr_status pr_chat_request_prompt(
    const pr_completion_context *context,
    const json_t *body,
    pr_rendered *rendered,
    pr_prompt *prompt,
    pr_refusal *refusal)
{
    pr_tool_choice tools;
    PR_TRY(pr_tool_choice_parse(body, &tools, refusal));
    pr_status status = make_prompt(context, body, &tools, rendered, prompt, refusal);
    pr_tool_choice_free(&tools);
    return status;
}

// ---- What the answer will look like ----

static bool ends_with(const pr_rendered *rendered, const char *text)
{
    size_t length = strlen(text);
    return rendered->size_bytes >= length &&
           memcmp(rendered->text + rendered->size_bytes - length, text, length) == 0;
}

// Where the template has opened the reasoning itself, the answer begins inside of it.
static void choose_format(
    const pr_completion_context *context,
    const pr_tool_choice *tools,
    const pr_rendered *rendered,
    pr_completion_request *request)
{
    pr_message_format *format = &request->format;
    *format = context->format;
    if (tools->mode == PR_TOOL_MODE_NONE)
        format->tools = PR_TOOL_FORMAT_NONE;
    else if (tools->mode == PR_TOOL_MODE_REQUIRED)
        format->tools = PR_TOOL_FORMAT_LIST;
    else if (tools->mode == PR_TOOL_MODE_NAMED)
        format->tools = PR_TOOL_FORMAT_NAMED;
    // Marks of calls are special tokens there: the parser must see them.
    if (format->tools == PR_TOOL_FORMAT_LLAMA3 || format->tools == PR_TOOL_FORMAT_MISTRAL)
        request->skip_special = false;
    format->thinks_already =
        format->reasoning && (ends_with(rendered, "<think>\n") || ends_with(rendered, "<think>"));
}

// What is held to a grammar from its first byte has no room for reasoning.
static pr_status
constrain(const pr_tool_choice *tools, pr_completion_request *request, pr_refusal *refusal)
{
    if (tools->schema || request->sampling.grammar.kind != PR_GRAMMAR_NONE)
        request->format.reasoning = request->format.thinks_already = false;
    if (!tools->schema)
        return PR_OK;
    if (tools->name[0]) {
        request->named_tool = strdup(tools->name);
        if (!request->named_tool)
            return pr_refuse(refusal, "tool_choice", "no memory for the tool's name");
    }
    return pr_response_format_set_schema(tools->schema, "tool_choice", &request->sampling, refusal);
}

static pr_status take_prompt(
    const pr_completion_context *context,
    const json_t *body,
    const pr_tool_choice *tools,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    pr_rendered rendered;
    request->prompt = calloc(1, sizeof *request->prompt);
    if (!request->prompt)
        return pr_refuse(refusal, "messages", "no memory for the prompt");
    request->prompts = 1;
    PR_TRY(make_prompt(context, body, tools, &rendered, request->prompt, refusal));
    choose_format(context, tools, &rendered, request);
    pr_rendered_free(&rendered);
    PR_TRY(pr_completion_request_check_prompt(context, "messages", request->prompt, refusal));
    return pr_completion_request_check_context(context, request, refusal);
}

static pr_status parse(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    pr_tool_choice tools;
    request->chat = true;
    PR_TRY(pr_completion_request_take_common(context, body, request, refusal));
    PR_TRY(refuse_unsupported(body, refusal));
    PR_TRY(pr_tool_choice_parse(body, &tools, refusal));
    pr_status status = take_prompt(context, body, &tools, request, refusal);
    if (status == PR_OK)
        status = constrain(&tools, request, refusal);
    pr_tool_choice_free(&tools);
    return status;
}

pr_status pr_chat_request_parse(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request **request,
    pr_refusal *refusal)
{
    return pr_completion_request_make(context, body, parse, request, refusal);
}
