// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/text_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/request/chat_request.h"
#include "launcher/request/request_field.h"
#include "launcher/serve/serve_calls.h"
#include "runtime/base/log.h"

// ---- Pieces of replies ----

static json_t *token_list(const pr_prompt *prompt)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < prompt->tokens; i++)
        json_array_append_new(list, json_integer(prompt->token[i]));
    return list;
}

// Each token by itself, as clients show them.
static json_t *token_texts(const pr_tokenizer *tokenizer, const pr_prompt *prompt)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < prompt->tokens; i++) {
        char *text = NULL;
        size_t size_bytes = 0;
        bool readable = pr_tokenizer_decode(
                            tokenizer, &prompt->token[i], 1, false, &text, &size_bytes) == PR_OK;
        json_array_append_new(list, readable ? json_stringn(text, size_bytes) : json_null());
        free(text);
    }
    return list;
}

// ---- /tokenize and /detokenize ----

static pr_status encode_prompt(
    const pr_completion_context *context,
    const json_t *body,
    pr_prompt *prompt,
    pr_refusal *refusal)
{
    const json_t *text = pr_request_field(body, "prompt");
    bool add_special = true;
    PR_TRY(pr_request_field_bool(body, "add_special_tokens", &add_special, refusal));
    if (!json_is_string(text))
        return pr_refuse(refusal, "prompt", "give 'prompt', a string, or 'messages'");
    if (pr_tokenizer_encode(
            context->tokenizer, json_string_value(text), json_string_length(text), add_special,
            true, &prompt->token, &prompt->tokens) != PR_OK)
        return pr_refuse(refusal, "prompt", "the prompt cannot be tokenised: %s", pr_error_text());
    return PR_OK;
}

static pr_status tokenize(
    const pr_completion_context *context, const json_t *body, json_t **reply, pr_refusal *refusal)
{
    pr_prompt prompt = {0};
    pr_rendered rendered = {0};
    bool texts = false;
    PR_TRY(pr_request_field_bool(body, "return_token_strs", &texts, refusal));
    if (pr_request_field(body, "messages"))
        PR_TRY(pr_chat_request_prompt(context, body, &rendered, &prompt, refusal));
    else
        PR_TRY(encode_prompt(context, body, &prompt, refusal));
    *reply = json_pack(
        "{s:i, s:i, s:o, s:o}", "count", prompt.tokens, "max_model_len", context->max_model_len,
        "tokens", token_list(&prompt), "token_strs",
        texts ? token_texts(context->tokenizer, &prompt) : json_null());
    pr_rendered_free(&rendered);
    free(prompt.token);
    return PR_OK;
}

static pr_status detokenize(
    const pr_completion_context *context, const json_t *body, json_t **reply, pr_refusal *refusal)
{
    const json_t *list = pr_request_field(body, "tokens");
    size_t count = json_array_size(list), size_bytes = 0;
    char *text = NULL;
    if (!json_is_array(list))
        return pr_refuse(refusal, "tokens", "'tokens' must be a list of token ids");
    int32_t *token = malloc((count + 1) * sizeof *token);
    pr_status status = token ? PR_OK : pr_refuse(refusal, "tokens", "no memory for the tokens");
    for (size_t i = 0; status == PR_OK && i < count; i++) {
        if (!pr_request_field_token(json_array_get(list, i), context->model->vocabulary, &token[i]))
            status = pr_refuse(refusal, "tokens", "'tokens' holds no token id at %zu", i);
    }
    if (status == PR_OK &&
        pr_tokenizer_decode(context->tokenizer, token, (int32_t)count, false, &text, &size_bytes) !=
            PR_OK)
        status = pr_refuse(refusal, "tokens", "the tokens cannot be read: %s", pr_error_text());
    if (status == PR_OK)
        *reply = json_pack("{s:o}", "prompt", json_stringn(text, size_bytes));
    free(token);
    free(text);
    return status;
}

typedef pr_status maker(
    const pr_completion_context *context, const json_t *body, json_t **reply, pr_refusal *refusal);

static void answer(pr_gateway *gateway, pr_http_exchange *exchange, maker *make)
{
    pr_refusal refusal;
    json_t *reply = NULL, *body = pr_route_body(exchange);
    if (!body)
        return;
    pr_error_capture_begin();
    pr_status status = make(&gateway->context, body, &reply, &refusal);
    pr_error_capture_end();
    json_decref(body);
    if (status == PR_OK)
        pr_route_reply(exchange, 200, reply);
    else
        pr_serve_calls_reply_error(exchange, &refusal);
}

void pr_text_api_tokenize(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    answer(gateway, exchange, tokenize);
}

void pr_text_api_detokenize(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    answer(gateway, exchange, detokenize);
}

// ---- The prompts of a request, as it would be run ----

static json_t *sampling_of(const pr_completion_request *request)
{
    const pr_sampling *s = &request->sampling;
    return json_pack(
        "{s:i, s:f, s:f, s:i, s:f, s:f, s:f, s:f, s:i, s:i}", "n", request->n, "temperature",
        (double)s->temperature, "top_p", (double)s->top_p, "top_k", s->top_k, "min_p",
        (double)s->min_p, "presence_penalty", (double)s->presence_penalty, "frequency_penalty",
        (double)s->frequency_penalty, "repetition_penalty", (double)s->repetition_penalty,
        "max_tokens", s->max_tokens, "min_tokens", s->min_tokens);
}

static json_t *rendered_prompt(
    const pr_completion_context *context, const pr_completion_request *request, int32_t index)
{
    char id[64];
    snprintf(
        id, sizeof id, "%s-%016llx", request->chat ? "chatcmpl" : "cmpl",
        (unsigned long long)context->default_seed);
    return json_pack(
        "{s:s, s:s, s:o, s:o}", "request_id", id, "model", context->served_name, "token_ids",
        token_list(&request->prompt[index]), "sampling_params", sampling_of(request));
}

static pr_status render(
    const pr_completion_context *context, const json_t *body, json_t **reply, pr_refusal *refusal)
{
    pr_completion_request *request;
    PR_TRY(pr_completion_request_parse(context, body, &request, refusal));
    *reply = json_array();
    for (int32_t i = 0; i < request->prompts; i++)
        json_array_append_new(*reply, rendered_prompt(context, request, i));
    pr_completion_request_destroy(request);
    return PR_OK;
}

static pr_status render_chat(
    const pr_completion_context *context, const json_t *body, json_t **reply, pr_refusal *refusal)
{
    pr_completion_request *request;
    pr_rendered rendered = {0};
    pr_prompt prompt = {0};
    PR_TRY(pr_chat_request_parse(context, body, &request, refusal));
    pr_status status = pr_chat_request_prompt(context, body, &rendered, &prompt, refusal);
    if (status == PR_OK) {
        *reply = rendered_prompt(context, request, 0);
        json_object_set_new(*reply, "prompt", json_stringn(rendered.text, rendered.size_bytes));
        pr_rendered_free(&rendered);
        free(prompt.token);
    }
    pr_completion_request_destroy(request);
    return status;
}

void pr_text_api_render(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    answer(gateway, exchange, render);
}

void pr_text_api_render_chat(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    answer(gateway, exchange, render_chat);
}

// ---- /tokenizer_info ----

// A special token stands as a string or as an object with its content: as a string here.
static void flatten_token(json_t *info, const char *name)
{
    const json_t *content = json_object_get(json_object_get(info, name), "content");
    if (content)
        json_object_set_new(info, name, json_string(json_string_value(content)));
    else if (!json_object_get(info, name))
        json_object_set_new(info, name, json_null());
}

void pr_text_api_info(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    char path[4096];
    snprintf(path, sizeof path, "%s/tokenizer_config.json", gateway->options->model);
    json_t *info = json_load_file(path, 0, NULL);
    if (!json_is_object(info)) {
        json_decref(info);
        info = json_object();
    }
    flatten_token(info, "bos_token");
    flatten_token(info, "eos_token");
    flatten_token(info, "pad_token");
    if (!json_object_get(info, "tokenizer_class"))
        json_object_set_new(info, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    if (gateway->context.chat_template)
        json_object_set_new(
            info, "chat_template",
            json_string(pr_chat_template_text(gateway->context.chat_template)));
    pr_route_reply(exchange, 200, info);
}
