// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/stream.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/openai/json_text.h"
#include "runtime/base/clock.h"

static void raw(pr_call *call, const char *text) { pr_json_text_append_raw(&call->chunk, text); }

// All events of a call begin alike.
static void write_prefix(pr_call *call)
{
    raw(call, "data: {\"id\":");
    pr_json_text_append_string(&call->chunk, call->id, strlen(call->id));
    raw(call, call->reply.request->chat ? ",\"object\":\"chat.completion.chunk\",\"created\":"
                                        : ",\"object\":\"text_completion\",\"created\":");
    pr_json_text_append(&call->chunk, json_integer((json_int_t)call->created_s));
    raw(call, ",\"model\":");
    pr_json_text_append_string(&call->chunk, call->model, strlen(call->model));
    raw(call, ",\"choices\":[");
    call->chunk_prefix_bytes = call->chunk.size_bytes;
}

static void begin_event(pr_call *call)
{
    if (call->chunk_prefix_bytes == 0)
        write_prefix(call);
    call->chunk.size_bytes = call->chunk_prefix_bytes;
}

static void begin_stream(pr_call *call)
{
    if (call->streaming)
        return;
    call->streaming = true;
    pr_http_set_header(call->exchange, "Cache-Control", "no-cache");
    pr_http_set_header(call->exchange, "X-Accel-Buffering", "no");
    pr_http_stream_begin(call->exchange, 200, "text/event-stream; charset=utf-8");
}

static void write_stream(pr_call *call, const void *data, size_t size_bytes)
{
    begin_stream(call);
    pr_http_stream_write(call->exchange, data, size_bytes);
    call->written_ns = pr_clock_now_ns();
}

static pr_status send_event(pr_call *call, bool usage)
{
    const pr_completion_request *request = call->reply.request;
    raw(call, "]");
    if (usage) {
        raw(call, ",\"usage\":");
        pr_json_text_append(&call->chunk, pr_reply_usage(&call->reply, true));
    } else if (request->stream_usage) {
        raw(call, ",\"usage\":null");
    }
    raw(call, "}\n\n");
    PR_TRY(pr_byte_buffer_check(&call->chunk));
    write_stream(call, call->chunk.data, call->chunk.size_bytes);
    return PR_OK;
}

static void write_echo(pr_call *call, const pr_tokenizer *tokenizer, int32_t index)
{
    size_t size_bytes;
    char *echo = pr_reply_echo(&call->reply, tokenizer, index, &size_bytes);
    if (echo)
        pr_json_text_append_string(&call->chunk, echo, size_bytes);
    free(echo);
}

// A string literal may be made of two: the quotes between them go.
static void join_strings(pr_byte_buffer *buffer, size_t border)
{
    char *text = buffer->data;
    if (buffer->failed || border == 0)
        return;
    memmove(text + border - 1, text + border + 1, buffer->size_bytes - border - 1);
    buffer->size_bytes -= 2;
}

static void write_text(
    pr_call *call, const pr_tokenizer *tokenizer, int32_t index, const char *text, size_t size)
{
    size_t border = 0, before = call->chunk.size_bytes;
    if (!call->answer[index].begun)
        write_echo(call, tokenizer, index);
    if (call->chunk.size_bytes > before)
        border = call->chunk.size_bytes;
    pr_json_text_append_string(&call->chunk, text, size);
    join_strings(&call->chunk, border);
}

static void write_index(pr_call *call, int32_t index)
{
    raw(call, "{\"index\":");
    pr_json_text_append(&call->chunk, json_integer(index));
}

static void write_end(pr_call *call, json_t *finish_reason, json_t *stop_reason)
{
    raw(call, ",\"finish_reason\":");
    pr_json_text_append(&call->chunk, finish_reason);
    raw(call, ",\"stop_reason\":");
    pr_json_text_append(&call->chunk, stop_reason);
    raw(call, "}");
}

static void write_completion(
    pr_call *call,
    const pr_tokenizer *tokenizer,
    int32_t index,
    size_t settled_bytes,
    int32_t settled_tokens)
{
    const pr_answer *answer = &call->reply.answer[index];
    pr_call_answer *sent = &call->answer[index];
    write_index(call, index);
    raw(call, ",\"text\":");
    write_text(
        call, tokenizer, index, answer->text + sent->sent_bytes, settled_bytes - sent->sent_bytes);
    raw(call, ",\"logprobs\":");
    pr_json_text_append(
        &call->chunk, pr_answer_logprobs(answer, tokenizer, sent->sent_tokens, settled_tokens));
    write_end(call, pr_answer_finish_reason(answer), pr_answer_stop_reason(answer));
}

static void write_chat(
    pr_call *call,
    const pr_tokenizer *tokenizer,
    int32_t index,
    int32_t settled_tokens,
    const pr_delta *delta,
    int32_t deltas)
{
    const pr_answer *answer = &call->reply.answer[index];
    pr_call_answer *sent = &call->answer[index];
    pr_chat_calls calls = pr_reply_calls(&call->reply, index, call->id);
    write_index(call, index);
    raw(call, ",\"delta\":");
    pr_json_text_append(&call->chunk, pr_chat_answer_delta(&calls, delta, deltas, !sent->begun));
    raw(call, ",\"logprobs\":");
    pr_json_text_append(
        &call->chunk,
        pr_chat_answer_logprobs(answer, tokenizer, sent->sent_tokens, settled_tokens));
    write_end(
        call, pr_chat_answer_finish_reason(answer, pr_message_parser_calls(sent->parser)),
        pr_answer_stop_reason(answer));
}

// The new text in the parser, and what comes out of it.
static pr_status feed_parser(
    pr_call *call, int32_t index, size_t settled_bytes, const pr_delta **delta, int32_t *deltas)
{
    const pr_answer *answer = &call->reply.answer[index];
    const pr_completion_request *request = call->reply.request;
    pr_call_answer *sent = &call->answer[index];
    if (!sent->parser)
        PR_TRY(pr_message_parser_create(&request->format, request->named_tool, &sent->parser));
    return pr_message_parser_feed(
        sent->parser, answer->text + sent->sent_bytes, settled_bytes - sent->sent_bytes,
        answer->done, delta, deltas);
}

pr_status pr_stream_send(pr_call *call, const pr_tokenizer *tokenizer, int32_t index)
{
    const pr_answer *answer = &call->reply.answer[index];
    pr_call_answer *sent = &call->answer[index];
    size_t settled_bytes = pr_answer_settled(answer);
    int32_t settled_tokens = pr_answer_settled_tokens(answer, settled_bytes);
    bool chat = call->reply.request->chat;
    const pr_delta *delta = NULL;
    int32_t deltas = 0;
    if (settled_bytes == sent->sent_bytes && !answer->done)
        return PR_OK;
    if (chat)
        PR_TRY(feed_parser(call, index, settled_bytes, &delta, &deltas));
    if (!chat || deltas > 0 || answer->done) {
        begin_event(call);
        if (chat)
            write_chat(call, tokenizer, index, settled_tokens, delta, deltas);
        else
            write_completion(call, tokenizer, index, settled_bytes, settled_tokens);
        PR_TRY(send_event(call, call->reply.request->continuous_usage));
        sent->sent_tokens = settled_tokens;
        sent->begun = true;
    }
    sent->sent_bytes = settled_bytes;
    return PR_OK;
}

static void end_stream(pr_call *call)
{
    static const char done[] = "data: [DONE]\n\n";
    write_stream(call, done, sizeof done - 1);
    pr_http_stream_end(call->exchange);
    call->exchange = NULL;
}

pr_status pr_stream_end(pr_call *call)
{
    if (call->reply.request->stream_usage) {
        begin_event(call);
        PR_TRY(send_event(call, true));
    }
    end_stream(call);
    return PR_OK;
}

void pr_stream_fail(pr_call *call, const pr_refusal *refusal)
{
    pr_byte_buffer_clear(&call->chunk);
    raw(call, "data: ");
    pr_json_text_append(&call->chunk, pr_refusal_body(refusal));
    raw(call, "\n\n");
    if (!call->chunk.failed)
        write_stream(call, call->chunk.data, call->chunk.size_bytes);
    end_stream(call);
}

void pr_stream_ping(pr_call *call)
{
    static const char ping[] = ": ping\n\n";
    write_stream(call, ping, sizeof ping - 1);
}
