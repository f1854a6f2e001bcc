// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/sampling_field.h"

#include <stdlib.h>

#include "launcher/request/request_field.h"
#include "launcher/request/response_format.h"

static pr_status take_stop_tokens(
    const pr_completion_context *context,
    const json_t *body,
    pr_sampling *sampling,
    pr_refusal *refusal)
{
    const json_t *list = pr_request_field(body, "stop_token_ids");
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
        if (!pr_request_field_token(json_array_get(list, i), context->model->vocabulary, token))
            return pr_refuse(
                refusal, "stop_token_ids", "'stop_token_ids' holds no token id at %zu", i);
    }
    return PR_OK;
}

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
    json_t *map = pr_request_field(body, "logit_bias");
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
    const json_t *value = pr_request_field(body, "seed");
    if (!value)
        return PR_OK;
    if (!json_is_integer(value))
        return pr_refuse(refusal, "seed", "'seed' must be an integer");
    *seed = (uint64_t)json_integer_value(value);
    return PR_OK;
}

// Completions ask for the number of likely tokens, chats for logprobs and then for that number.
static pr_status
take_logprobs(const json_t *body, bool chat, pr_sampling *sampling, pr_refusal *refusal)
{
    bool wanted = false;
    int32_t tops = 0;
    sampling->top_logprobs = -1;
    if (!chat)
        return pr_request_field_integer(
            body, "logprobs", 0, PR_MAX_TOP_LOGPROBS, &sampling->top_logprobs, refusal);
    PR_TRY(pr_request_field_bool(body, "logprobs", &wanted, refusal));
    PR_TRY(pr_request_field_integer(body, "top_logprobs", 0, PR_MAX_TOP_LOGPROBS, &tops, refusal));
    if (tops > 0 && !wanted)
        return pr_refuse(refusal, "top_logprobs", "'top_logprobs' needs 'logprobs': true");
    if (wanted)
        sampling->top_logprobs = tops;
    return PR_OK;
}

static pr_status
take_lengths(const json_t *body, bool chat, pr_sampling *sampling, pr_refusal *refusal)
{
    sampling->max_tokens = chat ? PR_MAX_TOKENS_OPEN : 16;  // OpenAI's defaults
    PR_TRY(pr_request_field_integer(
        body, "max_tokens", chat ? 1 : 0, INT32_MAX, &sampling->max_tokens, refusal));
    if (chat)
        PR_TRY(pr_request_field_integer(
            body, "max_completion_tokens", 1, INT32_MAX, &sampling->max_tokens, refusal));
    return pr_request_field_integer(
        body, "min_tokens", 0, sampling->max_tokens, &sampling->min_tokens, refusal);
}

pr_status pr_sampling_field_take(
    const pr_completion_context *context,
    const json_t *body,
    bool chat,
    pr_sampling *s,
    pr_refusal *refusal)
{
    const pr_model *model = context->model;
    pr_sampling_defaults(s);
    s->seed = context->default_seed;
    s->temperature = (float)model->default_temperature;
    s->top_p = (float)model->default_top_p;
    s->top_k = model->default_top_k;
    s->repetition_penalty = (float)model->default_repetition_penalty;
    PR_TRY(pr_request_field_float(body, "temperature", 0, 100, &s->temperature, refusal));
    PR_TRY(pr_request_field_float(body, "top_p", 0, 1, &s->top_p, refusal));
    PR_TRY(pr_request_field_float(body, "min_p", 0, 1, &s->min_p, refusal));
    PR_TRY(pr_request_field_integer(body, "top_k", -1, INT32_MAX, &s->top_k, refusal));
    PR_TRY(pr_request_field_float(body, "presence_penalty", -2, 2, &s->presence_penalty, refusal));
    PR_TRY(
        pr_request_field_float(body, "frequency_penalty", -2, 2, &s->frequency_penalty, refusal));
    PR_TRY(pr_request_field_float(
        body, "repetition_penalty", 0, 100, &s->repetition_penalty, refusal));
    PR_TRY(take_lengths(body, chat, s, refusal));
    PR_TRY(pr_request_field_bool(body, "ignore_eos", &s->ignore_eos, refusal));
    PR_TRY(take_logprobs(body, chat, s, refusal));
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
