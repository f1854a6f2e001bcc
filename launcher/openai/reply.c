// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/reply.h"

#include <stdlib.h>

#include "runtime/base/log.h"

static pr_status begin_scores(pr_reply *reply, const pr_tokenizer *tokenizer)
{
    const pr_completion_request *request = reply->request;
    if (request->sampling.prompt_logprobs < 0)
        return PR_OK;
    reply->scores = calloc((size_t)request->prompts, sizeof *reply->scores);
    if (!reply->scores)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for the logprobs of %d prompts", request->prompts);
    for (int32_t i = 0; i < request->prompts; i++)
        PR_TRY(pr_prompt_scores_begin(
            &request->prompt[i], tokenizer, request->sampling.prompt_logprobs, &reply->scores[i]));
    for (int32_t i = 0; i < reply->answers; i++)
        reply->answer[i].scores = &reply->scores[i / request->n];
    return PR_OK;
}

pr_status
pr_reply_begin(pr_completion_request *request, const pr_tokenizer *tokenizer, pr_reply *reply)
{
    pr_status status = PR_OK;
    int32_t answers = request->prompts * request->n;
    *reply = (pr_reply){.request = request, .answers = answers, .unfinished = answers};
    reply->answer = calloc((size_t)answers, sizeof *reply->answer);
    if (!reply->answer)
        status = pr_fail(PR_ERR_RESOURCE, "no memory for %d answers", answers);
    for (int32_t i = 0; status == PR_OK && i < answers; i++)
        status = pr_answer_begin(request, tokenizer, &reply->answer[i]);
    if (status == PR_OK)
        status = begin_scores(reply, tokenizer);
    if (status != PR_OK)
        pr_reply_end(reply);
    return status;
}

void pr_reply_end(pr_reply *reply)
{
    for (int32_t i = 0; reply->answer && i < reply->answers; i++)
        pr_answer_end(&reply->answer[i]);
    free(reply->answer);
    for (int32_t i = 0; reply->scores && i < reply->request->prompts; i++)
        pr_prompt_scores_end(&reply->scores[i]);
    free(reply->scores);
    pr_completion_request_destroy(reply->request);
    *reply = (pr_reply){0};
}

pr_status pr_reply_number(pr_reply *reply, pr_sequence_owners *owners, void *owner)
{
    return pr_sequence_owners_add(owners, owner, reply->answers, &reply->first_id);
}

// The first sequence of the prompt that is still to be computed: the others wait for its prefill.
static int32_t first_open(const pr_reply *reply, int32_t index)
{
    int32_t first = index - index % reply->request->n;
    while (first < index && reply->answer[first].done)
        first++;
    return first;
}

static pr_status add_outputs(const pr_answer *answer, pr_request *request)
{
    if (answer->tokens == 0)
        return PR_OK;
    request->output = malloc((size_t)answer->tokens * sizeof *request->output);
    if (!request->output)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %d tokens of an answer", answer->tokens);
    request->outputs = answer->tokens;
    for (int32_t i = 0; i < answer->tokens; i++)
        request->output[i] = answer->token[i].token;
    return PR_OK;
}

pr_status
pr_reply_sequence(const pr_reply *reply, int32_t index, uint64_t salt, pr_request **request)
{
    const pr_completion_request *from = reply->request;
    const pr_prompt *prompt = &from->prompt[index / from->n];
    pr_request plain = {
        .id = reply->first_id + (uint64_t)index,
        .prompt_tokens = prompt->tokens,
        .prompt = prompt->token,
        .sampling = from->sampling,
        .priority = from->priority,
        .salt = salt,
        .tenant = from->tenant,
        .ttft_target_ms = from->ttft_target_ms,
        .tpot_target_ms = from->tpot_target_ms,
        .sibling_of = reply->first_id + (uint64_t)first_open(reply, index),
    };
    plain.sampling.choice = index % from->n;
    pr_prompt_scores_prepare(&plain);
    pr_request *made;
    PR_TRY(pr_request_copy(&plain, &made));
    pr_status status = add_outputs(&reply->answer[index], made);
    if (status != PR_OK) {
        pr_request_destroy(made);
        return status;
    }
    *request = made;
    return PR_OK;
}

void pr_reply_prompt_logprob(pr_reply *reply, const pr_prompt_logprob *entry)
{
    int32_t index = (int32_t)(entry->id - reply->first_id);
    if (reply->scores)
        pr_prompt_scores_add(&reply->scores[index / reply->request->n], entry);
}

int64_t pr_reply_prompt_tokens(const pr_reply *reply)
{
    return pr_completion_request_prompt_tokens(reply->request);
}

int64_t pr_reply_output_tokens(const pr_reply *reply)
{
    int64_t tokens = 0;
    for (int32_t i = 0; i < reply->answers; i++)
        tokens += reply->answer[i].tokens;
    return tokens;
}

json_t *pr_reply_usage(const pr_reply *reply, bool tells_cached)
{
    int64_t prompt = pr_reply_prompt_tokens(reply), output = pr_reply_output_tokens(reply);
    json_t *usage = json_pack(
        "{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)prompt, "completion_tokens",
        (json_int_t)output, "total_tokens", (json_int_t)(prompt + output));
    if (tells_cached)
        json_object_set_new(
            usage, "prompt_tokens_details",
            json_pack("{s:i}", "cached_tokens", (int)reply->cached_tokens));
    return usage;
}

char *pr_reply_echo(
    const pr_reply *reply, const pr_tokenizer *tokenizer, int32_t index, size_t *size_bytes)
{
    const pr_prompt *prompt = &reply->request->prompt[index / reply->request->n];
    char *text = NULL;
    *size_bytes = 0;
    if (!reply->request->echo ||
        pr_tokenizer_decode(tokenizer, prompt->token, prompt->tokens, true, &text, size_bytes) !=
            PR_OK)
        return NULL;
    return text;
}

pr_chat_calls pr_reply_calls(const pr_reply *reply, int32_t index, const char *id)
{
    return (pr_chat_calls){
        .request_id = id,
        .choice = index,
        .short_ids = reply->request->format.tools == PR_TOOL_FORMAT_MISTRAL,
    };
}

static json_t *
completion_choice(const pr_reply *reply, const pr_tokenizer *tokenizer, int32_t index)
{
    size_t prefix_bytes;
    char *prefix = pr_reply_echo(reply, tokenizer, index, &prefix_bytes);
    json_t *choice =
        pr_answer_choice(&reply->answer[index], tokenizer, index, prefix, prefix_bytes);
    free(prefix);
    return choice;
}

// All of the text at once, through the parser that a stream feeds piece by piece.
static json_t *
chat_choice(const pr_reply *reply, const pr_tokenizer *tokenizer, int32_t index, const char *id)
{
    const pr_answer *answer = &reply->answer[index];
    const pr_completion_request *request = reply->request;
    pr_message_parser *parser;
    pr_chat_answer chat = {0};
    const pr_delta *delta;
    int32_t deltas;
    json_t *choice = NULL;
    pr_chat_calls calls = pr_reply_calls(reply, index, id);
    if (pr_message_parser_create(&request->format, request->named_tool, &parser) != PR_OK)
        return NULL;
    if (pr_message_parser_feed(parser, answer->text, answer->text_bytes, true, &delta, &deltas) ==
            PR_OK &&
        pr_chat_answer_add(&chat, delta, deltas) == PR_OK)
        choice = pr_chat_answer_choice(&chat, &calls, answer, tokenizer);
    pr_chat_answer_free(&chat);
    pr_message_parser_destroy(parser);
    return choice;
}

json_t *
pr_reply_body(const pr_reply *reply, const pr_tokenizer *tokenizer, const pr_reply_names *names)
{
    json_t *choices = json_array();
    for (int32_t i = 0; i < reply->answers; i++)
        json_array_append_new(
            choices, reply->request->chat ? chat_choice(reply, tokenizer, i, names->id)
                                          : completion_choice(reply, tokenizer, i));
    if (json_array_size(choices) != (size_t)reply->answers) {
        json_decref(choices);
        return NULL;
    }
    return json_pack(
        "{s:s, s:s, s:I, s:s, s:o, s:o}", "id", names->id, "object",
        reply->request->chat ? "chat.completion" : "text_completion", "created",
        (json_int_t)names->created, "model", names->model, "choices", choices, "usage",
        pr_reply_usage(reply, names->tells_cached));
}
