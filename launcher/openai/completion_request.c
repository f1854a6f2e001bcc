// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/completion_request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/openai/response_format.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/text/utf8.h"

// A message quotes what the client sent, cut to a length: its end may be half a character, and then it
// could not be put into JSON.
static void repair_text(char *text, size_t capacity)
{
    pr_byte_buffer repaired = {0};
    pr_utf8_repair(text, strlen(text), true, &repaired);
    const char *from = repaired.failed ? "" : repaired.data;
    size_t size_bytes = repaired.failed ? 0 : repaired.size_bytes;
    if (size_bytes >= capacity) {
        size_bytes = capacity - 1;
        while (size_bytes > 0 && (from[size_bytes] & 0xc0) == 0x80)
            size_bytes--;
    }
    if (size_bytes > 0)
        memcpy(text, from, size_bytes);
    text[size_bytes] = '\0';
    pr_byte_buffer_free(&repaired);
}

pr_status pr_refuse(pr_refusal *refusal, const char *parameter, const char *format, ...)
{
    va_list arguments;
    *refusal = (pr_refusal){.http_status = 400, .type = "invalid_request_error"};
    snprintf(refusal->parameter, sizeof refusal->parameter, "%s", parameter ? parameter : "");
    va_start(arguments, format);
    vsnprintf(refusal->message, sizeof refusal->message, format, arguments);
    va_end(arguments);
    repair_text(refusal->message, sizeof refusal->message);
    return PR_ERR_REQUEST;
}

const char *pr_refusal_type(int32_t http_status)
{
    switch (http_status) {
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    default:
        return "server_error";
    }
}

// ---- Typed access: absent and null are the same, a wrong type is refused ----

static json_t *field(const json_t *body, const char *name)
{
    json_t *value = json_object_get(body, name);
    return json_is_null(value) ? NULL : value;
}

static pr_status take_number(
    const json_t *body,
    const char *name,
    double low,
    double high,
    double *value,
    pr_refusal *refusal)
{
    const json_t *found = field(body, name);
    if (!found)
        return PR_OK;
    if (!json_is_number(found))
        return pr_refuse(refusal, name, "'%s' must be a number", name);
    double number = json_number_value(found);
    if (!(number >= low && number <= high))
        return pr_refuse(
            refusal, name, "'%s' is %g: it must lie between %g and %g", name, number, low, high);
    *value = number;
    return PR_OK;
}

static pr_status take_float(
    const json_t *body,
    const char *name,
    double low,
    double high,
    float *value,
    pr_refusal *refusal)
{
    double number = (double)*value;
    PR_TRY(take_number(body, name, low, high, &number, refusal));
    *value = (float)number;
    return PR_OK;
}

static pr_status take_integer(
    const json_t *body,
    const char *name,
    int32_t low,
    int32_t high,
    int32_t *value,
    pr_refusal *refusal)
{
    const json_t *found = field(body, name);
    if (!found)
        return PR_OK;
    if (!json_is_integer(found))
        return pr_refuse(refusal, name, "'%s' must be an integer", name);
    json_int_t number = json_integer_value(found);
    if (number < low || number > high)
        return pr_refuse(
            refusal, name, "'%s' is %lld: it must lie between %d and %d", name, (long long)number,
            low, high);
    *value = (int32_t)number;
    return PR_OK;
}

static pr_status take_bool(const json_t *body, const char *name, bool *value, pr_refusal *refusal)
{
    const json_t *found = field(body, name);
    if (!found)
        return PR_OK;
    if (!json_is_boolean(found))
        return pr_refuse(refusal, name, "'%s' must be true or false", name);
    *value = json_is_true(found);
    return PR_OK;
}

static bool read_token_id(const pr_completion_context *context, const json_t *value, int32_t *token)
{
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= context->model->vocabulary)
        return false;
    *token = (int32_t)id;
    return true;
}

// A string that C can hold: JSON allows a NUL inside.
static bool is_plain_string(const json_t *value)
{
    return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
}

// ---- Fields that are not offered: refusing beats a silently different answer ----

static pr_status refuse_unsupported(const json_t *body, pr_refusal *refusal)
{
    static const char *const names[] = {
        "suffix",        "prompt_logprobs",        "use_beam_search",   "length_penalty",
        "prompt_embeds", "truncate_prompt_tokens", "logits_processors",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = field(body, names[i]);
        if (value && !json_is_false(value))
            return pr_refuse(refusal, names[i], "'%s' is not supported: leave it out", names[i]);
    }
    bool stream = false;
    PR_TRY(take_bool(body, "stream", &stream, refusal));
    if (stream)
        return pr_refuse(
            refusal, "stream", "a batch answers whole requests: set 'stream' to false");
    return PR_OK;
}

static pr_status
check_model_name(const pr_completion_context *context, const json_t *body, pr_refusal *refusal)
{
    const json_t *model = field(body, "model");
    if (!model)
        return PR_OK;
    if (!is_plain_string(model))
        return pr_refuse(refusal, "model", "'model' must be a string");
    if (strcmp(json_string_value(model), context->served_name) == 0)
        return PR_OK;
    pr_status status = pr_refuse(
        refusal, "model",
        "model '%.100s' is not served here, '%.100s' is: change the request, or start with "
        "--served-model-name",
        json_string_value(model), context->served_name);
    refusal->http_status = 404;
    refusal->type = "not_found_error";
    refusal->code = "model_not_found";
    return status;
}

// ---- Prompts ----

static pr_status check_prompt_length(
    const pr_completion_context *context, const pr_prompt *prompt, pr_refusal *refusal)
{
    if (prompt->tokens == 0)
        return pr_refuse(refusal, "prompt", "the prompt is empty: give at least one token");
    if (prompt->tokens < context->max_model_len)
        return PR_OK;
    pr_status status = pr_refuse(
        refusal, "prompt",
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
    return check_prompt_length(context, prompt, refusal);
}

static pr_status take_token_prompt(
    const pr_completion_context *context,
    const json_t *list,
    pr_prompt *prompt,
    pr_refusal *refusal)
{
    size_t count = json_array_size(list);
    if (count > (size_t)context->max_model_len)
        count = (size_t)context->max_model_len;  // refused below, without taking the memory
    prompt->token = malloc((count + 1) * sizeof *prompt->token);
    if (!prompt->token)
        return pr_refuse(refusal, "prompt", "no memory for the prompt");
    for (size_t i = 0; i < count; i++) {
        if (!read_token_id(context, json_array_get(list, i), &prompt->token[i]))
            return pr_refuse(
                refusal, "prompt", "prompt token %zu is not an id between 0 and %d", i,
                context->model->vocabulary - 1);
    }
    prompt->tokens = (int32_t)count;
    return check_prompt_length(context, prompt, refusal);
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

static pr_status take_prompts(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    const json_t *value = field(body, "prompt");
    bool add_special = true;
    PR_TRY(take_bool(body, "add_special_tokens", &add_special, refusal));
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
        PR_TRY(take_one_prompt(context, item, add_special, &request->prompt[i], refusal));
    }
    return PR_OK;
}

// ---- Stops ----

static pr_status
take_stop_strings(const json_t *body, pr_completion_request *request, pr_refusal *refusal)
{
    const json_t *value = field(body, "stop");
    if (!value)
        return PR_OK;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count > PR_MAX_STOP_STRINGS)
        return pr_refuse(refusal, "stop", "at most %d stop strings", PR_MAX_STOP_STRINGS);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!is_plain_string(item) || json_string_length(item) == 0)
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

static pr_status take_stop_tokens(
    const pr_completion_context *context,
    const json_t *body,
    pr_sampling *sampling,
    pr_refusal *refusal)
{
    const json_t *list = field(body, "stop_token_ids");
    // With a grammar the end is where the grammar has one: ignore_eos cannot move it.
    bool eos = !sampling->ignore_eos || sampling->grammar.kind != PR_GRAMMAR_NONE;
    for (int32_t i = 0; eos && i < context->model->eos_count; i++)
        sampling->stop_token[sampling->stop_tokens++] = context->model->eos[i];
    if (!list)
        return PR_OK;
    if (!json_is_array(list) ||
        json_array_size(list) + (size_t)sampling->stop_tokens > PR_MAX_STOP_TOKENS)
        return pr_refuse(
            refusal, "stop_token_ids", "'stop_token_ids' must be a list of at most %d token ids",
            PR_MAX_STOP_TOKENS - sampling->stop_tokens);
    for (size_t i = 0; i < json_array_size(list); i++) {
        int32_t *token = &sampling->stop_token[sampling->stop_tokens++];
        if (!read_token_id(context, json_array_get(list, i), token))
            return pr_refuse(
                refusal, "stop_token_ids", "'stop_token_ids' holds no token id at %zu", i);
    }
    return PR_OK;
}

// ---- Sampling ----

static int compare_bias(const void *a, const void *b)
{
    int32_t left = ((const pr_logit_bias *)a)->token, right = ((const pr_logit_bias *)b)->token;
    return (left > right) - (left < right);
}

static bool read_bias(
    const pr_completion_context *context, const char *key, const json_t *value, pr_logit_bias *bias)
{
    char *end;
    long token = strtol(key, &end, 10);
    double number = json_is_number(value) ? json_number_value(value) : 1000;
    if (*end || end == key || token < 0 || token >= context->model->vocabulary ||
        !(number >= -100 && number <= 100))
        return false;
    *bias = (pr_logit_bias){.token = (int32_t)token, .bias = (float)number};
    return true;
}

static pr_status take_logit_bias(
    const pr_completion_context *context,
    const json_t *body,
    pr_sampling *sampling,
    pr_refusal *refusal)
{
    json_t *map = field(body, "logit_bias");
    if (!map)
        return PR_OK;
    if (!json_is_object(map) || json_object_size(map) > PR_MAX_LOGIT_BIAS)
        return pr_refuse(
            refusal, "logit_bias", "'logit_bias' must map at most %d token ids to numbers",
            PR_MAX_LOGIT_BIAS);
    sampling->bias = calloc(json_object_size(map) + 1, sizeof *sampling->bias);
    if (!sampling->bias)
        return pr_refuse(refusal, "logit_bias", "no memory for 'logit_bias'");
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        if (!read_bias(context, key, value, &sampling->bias[sampling->biases++]))
            return pr_refuse(
                refusal, "logit_bias",
                "'logit_bias' entry '%.40s' must be a token id with -100..100", key);
    }
    qsort(sampling->bias, (size_t)sampling->biases, sizeof *sampling->bias, compare_bias);
    for (int32_t i = 1; i < sampling->biases; i++) {
        if (sampling->bias[i].token == sampling->bias[i - 1].token)  // "7" and "07"
            return pr_refuse(
                refusal, "logit_bias", "'logit_bias' names token %d twice",
                sampling->bias[i].token);
    }
    return PR_OK;
}

static pr_status take_seed(const json_t *body, uint64_t *seed, pr_refusal *refusal)
{
    const json_t *value = field(body, "seed");
    if (!value)
        return PR_OK;
    if (!json_is_integer(value))
        return pr_refuse(refusal, "seed", "'seed' must be an integer");
    *seed = (uint64_t)json_integer_value(value);
    return PR_OK;
}

static pr_status take_sampling(
    const pr_completion_context *context, const json_t *body, pr_sampling *s, pr_refusal *refusal)
{
    const pr_model *model = context->model;
    pr_sampling_defaults(s);
    s->seed = context->default_seed;
    s->temperature = (float)model->default_temperature;
    s->top_p = (float)model->default_top_p;
    s->top_k = model->default_top_k;
    s->repetition_penalty = (float)model->default_repetition_penalty;
    s->max_tokens = 16;  // OpenAI's default for completions
    s->top_logprobs = -1;
    PR_TRY(take_float(body, "temperature", 0, 100, &s->temperature, refusal));
    PR_TRY(take_float(body, "top_p", 0, 1, &s->top_p, refusal));
    PR_TRY(take_float(body, "min_p", 0, 1, &s->min_p, refusal));
    PR_TRY(take_integer(body, "top_k", -1, INT32_MAX, &s->top_k, refusal));
    PR_TRY(take_float(body, "presence_penalty", -2, 2, &s->presence_penalty, refusal));
    PR_TRY(take_float(body, "frequency_penalty", -2, 2, &s->frequency_penalty, refusal));
    PR_TRY(take_float(body, "repetition_penalty", 0, 100, &s->repetition_penalty, refusal));
    PR_TRY(take_integer(body, "max_tokens", 1, INT32_MAX, &s->max_tokens, refusal));
    PR_TRY(take_integer(body, "min_tokens", 0, s->max_tokens, &s->min_tokens, refusal));
    PR_TRY(take_bool(body, "ignore_eos", &s->ignore_eos, refusal));
    PR_TRY(take_integer(body, "logprobs", 0, PR_MAX_TOP_LOGPROBS, &s->top_logprobs, refusal));
    PR_TRY(take_seed(body, &s->seed, refusal));
    if (s->top_p <= 0)
        return pr_refuse(refusal, "top_p", "'top_p' must be above 0: 1 switches it off");
    if (s->repetition_penalty <= 0)
        return pr_refuse(
            refusal, "repetition_penalty",
            "'repetition_penalty' must be above 0: 1 switches it off");
    PR_TRY(pr_response_format_take(body, s, refusal));
    PR_TRY(take_stop_tokens(context, body, s, refusal));
    return take_logit_bias(context, body, s, refusal);
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
    const json_t *found = field(body, name);
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
    const json_t *user = field(body, "user");
    if (user && !json_is_string(user))
        return pr_refuse(refusal, "user", "'user' must be a string");
    if (user)
        request->tenant =
            pr_completion_request_tenant(json_string_value(user), json_string_length(user));
    PR_TRY(take_target(body, "slo_ttft_ms", PR_TARGET_TTFT, request, refusal));
    PR_TRY(take_target(body, "slo_tpot_ms", PR_TARGET_TPOT, request, refusal));
    return take_integer(body, "priority", INT32_MIN, INT32_MAX, &request->priority, refusal);
}

// max_tokens beyond the context is refused, as OpenAI's servers do.
static pr_status check_context(
    const pr_completion_context *context, const pr_completion_request *request, pr_refusal *refusal)
{
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

static pr_status parse(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request *request,
    pr_refusal *refusal)
{
    int32_t best_of = 0;
    if (!json_is_object(body))
        return pr_refuse(refusal, "body", "'body' must be an object");
    PR_TRY(check_model_name(context, body, refusal));
    PR_TRY(refuse_unsupported(body, refusal));
    PR_TRY(take_sampling(context, body, &request->sampling, refusal));
    PR_TRY(take_stop_strings(body, request, refusal));
    PR_TRY(take_integer(body, "n", 1, PR_MAX_CHOICES, &request->n, refusal));
    PR_TRY(take_integer(body, "best_of", 1, PR_MAX_CHOICES, &best_of, refusal));
    if (best_of > request->n)
        return pr_refuse(refusal, "best_of", "'best_of' above 'n' is not supported: use 'n'");
    PR_TRY(take_bool(body, "echo", &request->echo, refusal));
    if (request->echo && request->sampling.top_logprobs >= 0)
        return pr_refuse(
            refusal, "echo", "'echo' together with 'logprobs' is not supported: drop one of them");
    PR_TRY(take_bool(body, "include_stop_str_in_output", &request->include_stop, refusal));
    PR_TRY(take_bool(body, "skip_special_tokens", &request->skip_special, refusal));
    PR_TRY(take_service(body, request, refusal));
    PR_TRY(take_prompts(context, body, request, refusal));
    return check_context(context, request, refusal);
}

pr_status pr_completion_request_parse(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request **request,
    pr_refusal *refusal)
{
    pr_completion_request *made = calloc(1, sizeof *made);
    if (!made)
        return pr_refuse(refusal, NULL, "no memory for the request");
    made->n = 1;
    made->skip_special = true;
    pr_error_capture_begin();
    pr_status status = parse(context, body, made, refusal);
    pr_error_capture_end();
    if (status != PR_OK) {
        pr_completion_request_destroy(made);
        return status;
    }
    *request = made;
    return PR_OK;
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
    pr_sampling_free(&request->sampling);
    free(request);
}
