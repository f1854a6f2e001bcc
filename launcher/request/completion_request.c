// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/completion_request.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/request/request_field.h"
#include "launcher/request/sampling_field.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

// ---- Fields that are not offered: refusing beats a silently different answer ----

static pr_status refuse_unsupported(const json_t *body, pr_refusal *refusal)
{
    static const char *const names[] = {
        "suffix",         "prompt_logprobs", "use_beam_search",
        "length_penalty", "prompt_embeds",   "logits_processors",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = pr_request_field(body, names[i]);
        if (value && !json_is_false(value))
            return pr_refuse(refusal, names[i], "'%s' is not supported: leave it out", names[i]);
    }
    return PR_OK;
}

static pr_status take_stream(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    const json_t *options = pr_request_field(body, "stream_options");
    PR_TRY(pr_request_field_bool(body, "stream", &request->stream, refusal));
    if (request->stream && !context->streams)
        return pr_refuse(
            refusal, "stream", "a batch answers whole requests: set 'stream' to false");
    if (!options)
        return PR_OK;
    if (!json_is_object(options))
        return pr_refuse(refusal, "stream_options", "'stream_options' must be an object");
    if (!request->stream)
        return pr_refuse(refusal, "stream_options", "'stream_options' needs 'stream': true");
    PR_TRY(pr_request_field_bool(options, "include_usage", &request->stream_usage, refusal));
    return pr_request_field_bool(
        options, "continuous_usage_stats", &request->continuous_usage, refusal);
}

static pr_status
check_model_name(const pr_completion_context *context, const json_t *body, pr_refusal *refusal)
{
    const json_t *model = pr_request_field(body, "model");
    if (!model)
        return PR_OK;
    if (!pr_request_field_plain(model))
        return pr_refuse(refusal, "model", "'model' must be a string");
    if (strcmp(json_string_value(model), context->served_name) == 0)
        return PR_OK;
    pr_status status = pr_refuse(
        refusal, "model",
        "model '%.100s' is not served here, '%.100s' is: change the request, or start with "
        "--served-model-name",
        json_string_value(model), context->served_name);
    pr_refusal_set_status(refusal, 404);
    refusal->code = "model_not_found";
    return status;
}

// ---- Prompts ----

pr_status pr_completion_request_check_prompt(
    const pr_completion_context *context,
    const char *parameter,
    const pr_prompt *prompt,
    pr_refusal *refusal)
{
    if (prompt->tokens == 0)
        return pr_refuse(refusal, parameter, "the prompt is empty: give at least one token");
    if (prompt->tokens < context->max_model_len)
        return PR_OK;
    pr_status status = pr_refuse(
        refusal, parameter,
        "the prompt has %d tokens, the context holds %d with at least one to generate: shorten the "
        "prompt or raise --max-model-len",
        prompt->tokens, context->max_model_len);
    refusal->code = "context_length_exceeded";
    return status;
}

static pr_status take_text_prompt(
    const pr_completion_context *context,
    const json_t *text,
    bool add_special,
    pr_prompt *prompt,
    pr_refusal *refusal)
{
    pr_status status = pr_tokenizer_encode(
        context->tokenizer, json_string_value(text), json_string_length(text), add_special, true,
        &prompt->token, &prompt->tokens);
    if (status != PR_OK)
        return pr_refuse(refusal, "prompt", "the prompt cannot be tokenised: %s", pr_error_text());
    return PR_OK;
}

static pr_status take_token_prompt(
    const pr_completion_context *context,
    const json_t *list,
    pr_prompt *prompt,
    pr_refusal *refusal)
{
    size_t count = json_array_size(list);
    if (count > PR_MAX_PROMPT_TOKENS)
        return pr_refuse(refusal, "prompt", "at most %d tokens a prompt", PR_MAX_PROMPT_TOKENS);
    prompt->token = malloc((count + 1) * sizeof *prompt->token);
    if (!prompt->token)
        return pr_refuse(refusal, "prompt", "no memory for the prompt");
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(list, i);
        if (!pr_request_field_token(id, context->model->vocabulary, &prompt->token[i]))
            return pr_refuse(
                refusal, "prompt", "prompt token %zu is not an id between 0 and %d", i,
                context->model->vocabulary - 1);
    }
    prompt->tokens = (int32_t)count;
    return PR_OK;
}

static pr_status take_one_prompt(
    const pr_completion_context *context,
    const json_t *value,
    bool add_special,
    pr_prompt *prompt,
    pr_refusal *refusal)
{
    if (json_is_string(value))
        return take_text_prompt(context, value, add_special, prompt, refusal);
    if (json_is_array(value))
        return take_token_prompt(context, value, prompt, refusal);
    return pr_refuse(
        refusal, "prompt",
        "'prompt' must be a string, a list of strings, a list of token ids, or a list of such "
        "lists");
}

// truncate_prompt_tokens: only the last so many tokens of each prompt; -1: what leaves room for the output.
static pr_status
take_truncation(const json_t *body, int32_t most, int32_t *tokens, pr_refusal *refusal)
{
    PR_TRY(
        pr_request_field_integer(body, "truncate_prompt_tokens", -1, INT32_MAX, tokens, refusal));
    if (pr_request_field(body, "truncate_prompt_tokens") && *tokens == 0)
        return pr_refuse(
            refusal, "truncate_prompt_tokens",
            "'truncate_prompt_tokens' is 0: give 1 or more, or -1 for what fits");
    if (*tokens < 0)
        *tokens = most > 0 ? most : 1;
    return PR_OK;
}

static void truncate_prompt(pr_prompt *prompt, int32_t tokens)
{
    if (tokens == 0 || prompt->tokens <= tokens)
        return;
    memmove(
        prompt->token, prompt->token + prompt->tokens - tokens,
        (size_t)tokens * sizeof *prompt->token);
    prompt->tokens = tokens;
}

static pr_status take_prompts(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    const json_t *value = pr_request_field(body, "prompt");
    bool add_special = true;
    int32_t last_tokens = 0;
    PR_TRY(pr_request_field_bool(body, "add_special_tokens", &add_special, refusal));
    PR_TRY(take_truncation(
        body, context->max_model_len - request->sampling.max_tokens, &last_tokens, refusal));
    if (!value)
        return pr_refuse(refusal, "prompt", "'prompt' is missing");
    const json_t *first = json_array_get(value, 0);
    bool many = json_is_array(value) && (json_is_string(first) || json_is_array(first));
    size_t count = many ? json_array_size(value) : 1;
    if (count > PR_MAX_PROMPTS)
        return pr_refuse(refusal, "prompt", "at most %d prompts a request", PR_MAX_PROMPTS);
    request->prompt = calloc(count, sizeof *request->prompt);
    if (!request->prompt)
        return pr_refuse(refusal, "prompt", "no memory for %zu prompts", count);
    request->prompts = (int32_t)count;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = many ? json_array_get(value, i) : value;
        if (many && json_typeof(item) != json_typeof(first))
            return pr_refuse(refusal, "prompt", "'prompt' mixes texts and lists of token ids");
        pr_prompt *prompt = &request->prompt[i];
        PR_TRY(take_one_prompt(context, item, add_special, prompt, refusal));
        truncate_prompt(prompt, last_tokens);
        PR_TRY(pr_completion_request_check_prompt(context, "prompt", prompt, refusal));
    }
    return PR_OK;
}

// ---- Stops ----

static pr_status
take_stop_strings(const json_t *body, pr_completion_request *request, pr_refusal *refusal)
{
    const json_t *value = pr_request_field(body, "stop");
    if (!value)
        return PR_OK;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count > PR_MAX_STOP_STRINGS)
        return pr_refuse(refusal, "stop", "at most %d stop strings", PR_MAX_STOP_STRINGS);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!pr_request_field_plain(item) || json_string_length(item) == 0)
            return pr_refuse(
                refusal, "stop",
                "'stop' must be a non-empty string without NUL, or a list of such");
        request->stop[request->stops] = strdup(json_string_value(item));
        if (!request->stop[request->stops])
            return pr_refuse(refusal, "stop", "no memory for the stop strings");
        request->stops++;
    }
    return PR_OK;
}

// ---- Whose it is and how soon it is wanted ----

pr_status pr_completion_request_set_target(
    pr_completion_request *request,
    pr_target target,
    const char *parameter,
    int64_t milliseconds,
    pr_refusal *refusal)
{
    if (milliseconds < 0 || milliseconds > PR_MAX_TARGET_MS)
        return pr_refuse(
            refusal, parameter, "'%s' is %lld: give 1 to %d milliseconds, or 0 for no target",
            parameter, (long long)milliseconds, PR_MAX_TARGET_MS);
    if (target == PR_TARGET_TTFT)
        request->ttft_target_ms = (int32_t)milliseconds;
    else
        request->tpot_target_ms = (int32_t)milliseconds;
    return PR_OK;
}

uint64_t pr_completion_request_seed(const char *name)
{
    return pr_hash_bytes(0x706f6c7972656d65u, name, strlen(name));
}

uint64_t pr_completion_request_tenant(const char *user, size_t size_bytes)
{
    if (size_bytes == 0)
        return 0;
    uint64_t hash = pr_hash_bytes(0, user, size_bytes);
    return hash ? hash : 1;
}

static pr_status take_target(
    const json_t *body,
    const char *name,
    pr_target target,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    const json_t *found = pr_request_field(body, name);
    if (!found)
        return PR_OK;
    if (!json_is_integer(found))
        return pr_refuse(refusal, name, "'%s' must be an integer: milliseconds", name);
    return pr_completion_request_set_target(
        request, target, name, json_integer_value(found), refusal);
}

static pr_status
take_service(const json_t *body, pr_completion_request *request, pr_refusal *refusal)
{
    const json_t *user = pr_request_field(body, "user");
    if (user && !json_is_string(user))
        return pr_refuse(refusal, "user", "'user' must be a string");
    if (user)
        request->tenant =
            pr_completion_request_tenant(json_string_value(user), json_string_length(user));
    PR_TRY(take_target(body, "slo_ttft_ms", PR_TARGET_TTFT, request, refusal));
    PR_TRY(take_target(body, "slo_tpot_ms", PR_TARGET_TPOT, request, refusal));
    return pr_request_field_integer(
        body, "priority", INT32_MIN, INT32_MAX, &request->priority, refusal);
}

// max_tokens beyond the context is refused, as OpenAI's servers do; one that nobody has set is the rest of it.
pr_status pr_completion_request_check_context(
    const pr_completion_context *context, pr_completion_request *request, pr_refusal *refusal)
{
    if (request->sampling.max_tokens == PR_MAX_TOKENS_OPEN)
        request->sampling.max_tokens = context->max_model_len - request->prompt[0].tokens;
    for (int32_t i = 0; i < request->prompts; i++) {
        int64_t total = (int64_t)request->prompt[i].tokens + request->sampling.max_tokens;
        if (total <= context->max_model_len)
            continue;
        pr_status status = pr_refuse(
            refusal, "max_tokens",
            "%d prompt tokens and max_tokens %d exceed the context of %d: set max_tokens to at "
            "most %d",
            request->prompt[i].tokens, request->sampling.max_tokens, context->max_model_len,
            context->max_model_len - request->prompt[i].tokens);
        refusal->code = "context_length_exceeded";
        return status;
    }
    return PR_OK;
}

pr_status pr_completion_request_take_common(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    if (!json_is_object(body))
        return pr_refuse(refusal, "body", "the body must be a JSON object");
    PR_TRY(check_model_name(context, body, refusal));
    PR_TRY(refuse_unsupported(body, refusal));
    PR_TRY(pr_sampling_field_take(context, body, request->chat, &request->sampling, refusal));
    PR_TRY(take_stop_strings(body, request, refusal));
    PR_TRY(pr_request_field_integer(body, "n", 1, PR_MAX_CHOICES, &request->n, refusal));
    PR_TRY(
        pr_request_field_bool(body, "include_stop_str_in_output", &request->include_stop, refusal));
    PR_TRY(pr_request_field_bool(body, "skip_special_tokens", &request->skip_special, refusal));
    PR_TRY(take_stream(context, body, request, refusal));
    return take_service(body, request, refusal);
}

// An echo has logprobs as the answer has them, and may be all that is wanted.
static pr_status take_echo(const json_t *body, pr_completion_request *request, pr_refusal *refusal)
{
    pr_sampling *sampling = &request->sampling;
    PR_TRY(pr_request_field_bool(body, "echo", &request->echo, refusal));
    if (request->echo)
        sampling->prompt_logprobs = sampling->top_logprobs;
    if (sampling->max_tokens > 0)
        return PR_OK;
    if (!request->echo)
        return pr_refuse(
            refusal, "max_tokens", "'max_tokens' is 0: it must be at least 1 without 'echo'");
    request->no_output = true;
    sampling->max_tokens = 1;
    return PR_OK;
}

static pr_status parse(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    int32_t best_of = 0;
    PR_TRY(pr_completion_request_take_common(context, body, request, refusal));
    PR_TRY(pr_request_field_integer(body, "best_of", 1, PR_MAX_CHOICES, &best_of, refusal));
    if (best_of > request->n)
        return pr_refuse(refusal, "best_of", "'best_of' above 'n' is not supported: use 'n'");
    PR_TRY(take_echo(body, request, refusal));
    PR_TRY(take_prompts(context, body, request, refusal));
    return pr_completion_request_check_context(context, request, refusal);
}

pr_status pr_completion_request_make(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request_reader *read,
    pr_completion_request **request,
    pr_refusal *refusal)
{
    pr_completion_request *made = calloc(1, sizeof *made);
    if (!made)
        return pr_refuse(refusal, NULL, "no memory for the request");
    made->n = 1;
    made->skip_special = true;
    pr_error_capture_begin();
    pr_status status = read(context, body, made, refusal);
    pr_error_capture_end();
    if (status != PR_OK) {
        pr_completion_request_destroy(made);
        return status;
    }
    *request = made;
    return PR_OK;
}

pr_status pr_completion_request_parse(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request **request,
    pr_refusal *refusal)
{
    return pr_completion_request_make(context, body, parse, request, refusal);
}

int64_t pr_completion_request_prompt_tokens(const pr_completion_request *request)
{
    int64_t tokens = 0;
    for (int32_t i = 0; i < request->prompts; i++)
        tokens += request->prompt[i].tokens;
    return tokens;
}

void pr_completion_request_destroy(pr_completion_request *request)
{
    if (!request)
        return;
    for (int32_t i = 0; i < request->prompts; i++)
        free(request->prompt[i].token);
    for (int32_t i = 0; i < request->stops; i++)
        free(request->stop[i]);
    free(request->prompt);
    free(request->named_tool);
    pr_sampling_free(&request->sampling);
    free(request);
}
