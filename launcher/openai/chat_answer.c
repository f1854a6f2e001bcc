// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/chat_answer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/openai/logprob_lists.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

typedef struct pr_chat_call {
    int32_t index;
    pr_byte_buffer name;  // empty: it was said in an earlier chunk
    pr_byte_buffer arguments;
} pr_chat_call;

// ---- Adding up ----

static pr_chat_call *take_call(pr_chat_answer *chat, int32_t index)
{
    if (chat->calls > 0 && chat->call[chat->calls - 1].index == index)
        return &chat->call[chat->calls - 1];
    if (chat->calls == chat->capacity) {
        int32_t capacity = chat->capacity > 0 ? chat->capacity * 2 : 4;
        pr_chat_call *grown = realloc(chat->call, (size_t)capacity * sizeof *grown);
        if (!grown)
            return NULL;
        chat->call = grown;
        chat->capacity = capacity;
    }
    chat->call[chat->calls] = (pr_chat_call){.index = index};
    return &chat->call[chat->calls++];
}

static pr_byte_buffer *place_of(pr_chat_answer *chat, const pr_delta *delta)
{
    if (delta->kind == PR_DELTA_CONTENT)
        return &chat->content;
    if (delta->kind == PR_DELTA_REASONING)
        return &chat->reasoning;
    pr_chat_call *call = take_call(chat, delta->tool);
    if (!call)
        return NULL;
    return delta->kind == PR_DELTA_TOOL_BEGIN ? &call->name : &call->arguments;
}

pr_status pr_chat_answer_add(pr_chat_answer *chat, const pr_delta *delta, int32_t deltas)
{
    for (int32_t i = 0; i < deltas; i++) {
        pr_byte_buffer *place = place_of(chat, &delta[i]);
        if (!place)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d tool calls", chat->calls + 1);
        pr_byte_buffer_append(place, delta[i].text, delta[i].size_bytes);
        PR_TRY(pr_byte_buffer_check(place));
    }
    return PR_OK;
}

void pr_chat_answer_free(pr_chat_answer *chat)
{
    for (int32_t i = 0; i < chat->calls; i++) {
        pr_byte_buffer_free(&chat->call[i].name);
        pr_byte_buffer_free(&chat->call[i].arguments);
    }
    free(chat->call);
    pr_byte_buffer_free(&chat->content);
    pr_byte_buffer_free(&chat->reasoning);
    *chat = (pr_chat_answer){0};
}

// ---- The message ----

static json_t *string_of(const pr_byte_buffer *text)
{
    return json_stringn(text->size_bytes > 0 ? text->data : "", text->size_bytes);
}

static json_t *call_id(const pr_chat_calls *calls, int32_t index)
{
    char id[32];
    uint64_t place = (uint64_t)(uint32_t)calls->choice << 32 | (uint32_t)index;
    uint64_t first = pr_hash_bytes(place, calls->request_id, strlen(calls->request_id));
    if (calls->short_ids)
        snprintf(id, sizeof id, "%09" PRIx64, first >> 28);
    else
        snprintf(
            id, sizeof id, "call_%016" PRIx64 "%08" PRIx64, first, pr_hash_mix(first + 1) >> 32);
    return json_string(id);
}

static json_t *call_object(const pr_chat_call *call, const pr_chat_calls *calls)
{
    return json_pack(
        "{s:o, s:s, s:{s:o, s:o}}", "id", call_id(calls, call->index), "type", "function",
        "function", "name", string_of(&call->name), "arguments", string_of(&call->arguments));
}

// A call's part of a chunk; what was said before is left out.
static json_t *call_delta(const pr_chat_call *call, const pr_chat_calls *calls)
{
    json_t *object;
    if (call->name.size_bytes == 0)
        return json_pack(
            "{s:i, s:{s:o}}", "index", (int)call->index, "function", "arguments",
            string_of(&call->arguments));
    object = json_pack("{s:i}", "index", (int)call->index);
    json_t *whole = call_object(call, calls);
    if (!whole || json_object_update(object, whole) != 0) {
        json_decref(object);
        object = NULL;
    }
    json_decref(whole);
    return object;
}

typedef json_t *call_builder(const pr_chat_call *call, const pr_chat_calls *calls);

// Puts reasoning and calls, if there are any, behind what the message already has.
static json_t *add_parts(
    json_t *message, const pr_chat_answer *chat, const pr_chat_calls *calls, call_builder *build)
{
    bool fine = message != NULL;
    if (chat->reasoning.size_bytes > 0) {
        fine = fine &&
               json_object_set_new(message, "reasoning_content", string_of(&chat->reasoning)) == 0;
        fine = fine && json_object_set_new(message, "reasoning", string_of(&chat->reasoning)) == 0;
    }
    json_t *list = json_array();
    for (int32_t i = 0; i < chat->calls; i++)
        fine = fine && json_array_append_new(list, build(&chat->call[i], calls)) == 0;
    if (chat->calls > 0)
        fine = fine && json_object_set(message, "tool_calls", list) == 0;
    json_decref(list);
    if (fine)
        return message;
    json_decref(message);
    return NULL;
}

json_t *pr_chat_answer_message(const pr_chat_answer *chat, const pr_chat_calls *calls)
{
    // No content beside calls or reasoning is null; a model that said nothing at all said "".
    bool has_none =
        chat->content.size_bytes == 0 && (chat->calls > 0 || chat->reasoning.size_bytes > 0);
    json_t *message = json_pack(
        "{s:s, s:o, s:n}", "role", "assistant", "content",
        has_none ? json_null() : string_of(&chat->content), "refusal");
    return add_parts(message, chat, calls, call_object);
}

json_t *
pr_chat_answer_delta(const pr_chat_calls *calls, const pr_delta *delta, int32_t deltas, bool first)
{
    pr_chat_answer chat = {0};
    json_t *object = first ? json_pack("{s:s}", "role", "assistant") : json_object();
    if (pr_chat_answer_add(&chat, delta, deltas) != PR_OK) {
        json_decref(object);
        pr_chat_answer_free(&chat);
        return NULL;
    }
    bool has_other = chat.calls > 0 || chat.reasoning.size_bytes > 0;
    if (chat.content.size_bytes > 0 || (first && !has_other))
        json_object_set_new(object, "content", string_of(&chat.content));
    object = add_parts(object, &chat, calls, call_delta);
    pr_chat_answer_free(&chat);
    return object;
}

// ---- The choice ----

json_t *pr_chat_answer_finish_reason(const pr_answer *answer, int32_t calls)
{
    if (answer->done && answer->finish == PR_FINISH_STOP && calls > 0)
        return json_string("tool_calls");
    return pr_answer_finish_reason(answer);
}

// The token's own bytes, which may be part of a character; of one without, those of its text.
static json_t *bytes_of(const pr_tokenizer *tokenizer, int32_t token, const json_t *text)
{
    json_t *list = json_array();
    pr_byte_buffer raw = {0};
    bool has_raw = pr_tokenizer_raw_bytes(tokenizer, token, &raw) == PR_OK && raw.size_bytes > 0;
    const char *bytes = has_raw ? raw.data : json_string_value(text);
    size_t size_bytes = has_raw ? raw.size_bytes : json_string_length(text);
    for (size_t i = 0; i < size_bytes; i++)
        json_array_append_new(list, json_integer((uint8_t)bytes[i]));
    pr_byte_buffer_free(&raw);
    return list;
}

static json_t *logprob_object(const pr_tokenizer *tokenizer, int32_t token, float logprob)
{
    json_t *text = pr_logprob_lists_text(tokenizer, token);
    json_t *bytes = bytes_of(tokenizer, token, text);
    return json_pack(
        "{s:o, s:o, s:o}", "token", text, "logprob", pr_logprob_lists_value(logprob), "bytes",
        bytes);
}

static json_t *token_object(const pr_answer_token *token, const pr_tokenizer *tokenizer)
{
    json_t *object = logprob_object(tokenizer, token->token, token->logprob), *tops = json_array();
    for (int32_t i = 0; i < token->tops; i++)
        json_array_append_new(
            tops, logprob_object(tokenizer, token->top[i].token, token->top[i].logprob));
    json_object_set_new(object, "top_logprobs", tops);
    return object;
}

json_t *pr_chat_answer_logprobs(
    const pr_answer *answer, const pr_tokenizer *tokenizer, int32_t from, int32_t to)
{
    if (answer->request->sampling.top_logprobs < 0)
        return json_null();
    json_t *list = json_array();
    for (int32_t i = from; i < to; i++)
        json_array_append_new(list, token_object(&answer->token[i], tokenizer));
    return json_pack("{s:o, s:n}", "content", list, "refusal");
}

json_t *pr_chat_answer_choice(
    const pr_chat_answer *chat,
    const pr_chat_calls *calls,
    const pr_answer *answer,
    const pr_tokenizer *tokenizer)
{
    return json_pack(
        "{s:i, s:o, s:o, s:o, s:o}", "index", (int)calls->choice, "message",
        pr_chat_answer_message(chat, calls), "logprobs",
        pr_chat_answer_logprobs(answer, tokenizer, 0, answer->tokens), "finish_reason",
        pr_chat_answer_finish_reason(answer, chat->calls), "stop_reason",
        pr_answer_stop_reason(answer));
}
