// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/serve_calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "launcher/openai/json_text.h"
#include "launcher/serve/stream.h"
#include "runtime/base/clock.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

static const int64_t ping_ns = 15000000000;

// ---- Errors ----

static const char *dropped_reason(const pr_refusal *refusal)
{
    switch (refusal->http_status) {
    case 429:
        return "rejected-saturated";
    case 503:
        return refusal->code ? refusal->code : "rejected-ttl-expired";
    default:
        return NULL;
    }
}

void pr_serve_calls_reply_error(pr_http_exchange *exchange, const pr_refusal *refusal)
{
    pr_byte_buffer text = {0};
    const char *reason = dropped_reason(refusal);
    char seconds[16];
    if (refusal->http_status == 429 || refusal->http_status == 503) {
        snprintf(
            seconds, sizeof seconds, "%d",
            refusal->retry_after_s > 1 ? (int)refusal->retry_after_s : 1);
        pr_http_set_header(exchange, "Retry-After", seconds);
    }
    if (reason)
        pr_http_set_header(exchange, "x-llm-d-request-dropped-reason", reason);
    if (refusal->http_status == 401)
        pr_http_set_header(exchange, "WWW-Authenticate", "Bearer");
    pr_json_text_append(&text, pr_refusal_body(refusal));
    pr_http_reply(
        exchange, refusal->http_status, "application/json", text.failed ? "" : text.data,
        text.failed ? 0 : text.size_bytes);
    pr_byte_buffer_free(&text);
}

// ---- Begin and end ----

static void link_call(pr_gateway *gateway, pr_call *call)
{
    call->next = gateway->call;
    if (gateway->call)
        gateway->call->prev = call;
    gateway->call = call;
    gateway->sequences += call->reply.answers;
    gateway->prompt_tokens += pr_reply_prompt_tokens(&call->reply) * call->reply.request->n;
}

// Whether all of its sequences have ended, and the most tokens of one of them.
static bool has_ended(const pr_call *call, int32_t *most_tokens)
{
    *most_tokens = 0;
    for (int32_t i = 0; i < call->reply.answers; i++) {
        const pr_request_life *life = &call->answer[i].life;
        if (life->end == PR_REQUEST_ENDS)
            return false;
        *most_tokens = life->output_tokens > *most_tokens ? life->output_tokens : *most_tokens;
    }
    return true;
}

static void end_life(pr_gateway *gateway, pr_call *call, int32_t index, pr_request_end end)
{
    int32_t most_tokens;
    pr_request_life *life = &call->answer[index].life;
    if (life->end != PR_REQUEST_ENDS)
        return;
    life->end = end;
    life->output_tokens = call->reply.answer[index].tokens;
    if (has_ended(call, &most_tokens)) {
        life->n = call->reply.request->n;
        life->most_output_tokens = most_tokens;
    }
    pr_metrics_request_ended(gateway->metrics, pr_clock_now_ns(), life);
}

static void destroy_call(pr_gateway *gateway, pr_call *call, pr_request_end end)
{
    for (int32_t i = 0; i < call->reply.answers; i++)
        end_life(gateway, call, i, end);
    if (call->prev)
        call->prev->next = call->next;
    else
        gateway->call = call->next;
    if (call->next)
        call->next->prev = call->prev;
    gateway->sequences -= call->reply.answers;
    gateway->prompt_tokens -= pr_reply_prompt_tokens(&call->reply) * call->reply.request->n;
    pr_sequence_owners_remove(&gateway->owners, call->reply.first_id, call->reply.answers);
    for (int32_t i = 0; i < call->reply.answers; i++)
        pr_message_parser_destroy(call->answer[i].parser);
    pr_reply_end(&call->reply);
    pr_byte_buffer_free(&call->chunk);
    free(call->answer);
    free(call);
}

// An id that can stand in JSON, and in the room for it.
static bool is_plain_id(const char *id)
{
    size_t length = id ? strlen(id) : 0;
    for (size_t i = 0; i < length; i++) {
        if (id[i] <= ' ' || id[i] > '~')
            return false;
    }
    return length > 0 && length < PR_CALL_ID_BYTES - 10;
}

// Who chose an id gets it back; others get one that no other call of any run has.
static void name_call(pr_gateway *gateway, pr_call *call)
{
    const char *given = pr_http_header(call->exchange, "x-request-id");
    const char *kind = call->reply.request->chat ? "chatcmpl" : "cmpl";
    gateway->made++;
    if (is_plain_id(given))
        snprintf(call->id, sizeof call->id, "%s-%s", kind, given);
    else
        snprintf(
            call->id, sizeof call->id, "%s-%s%016llx", kind, gateway->instance,
            (unsigned long long)gateway->made);
    if (!given || !given[0])  // route.c gave it back already
        pr_http_set_header(call->exchange, "X-Request-Id", call->id);
}

static pr_status make_call(
    pr_gateway *gateway, pr_http_exchange *exchange, pr_completion_request *request, pr_call **call)
{
    pr_call *made = calloc(1, sizeof *made);
    if (!made) {
        pr_completion_request_destroy(request);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a request");
    }
    pr_status status = pr_reply_begin(request, gateway->context.tokenizer, &made->reply);
    if (status == PR_OK) {
        made->answer = calloc((size_t)made->reply.answers, sizeof *made->answer);
        if (!made->answer)
            status = pr_fail(PR_ERR_RESOURCE, "no memory for %d answers", made->reply.answers);
    }
    if (status == PR_OK)
        status = pr_reply_number(&made->reply, &gateway->owners, made);
    if (status != PR_OK) {
        pr_reply_end(&made->reply);
        free(made->answer);
        free(made);
        return status;
    }
    made->exchange = exchange;
    made->model = gateway->context.served_name;
    made->created_s = (int64_t)time(NULL);
    made->written_ns = pr_clock_now_ns();
    for (int32_t i = 0; i < made->reply.answers; i++)
        made->answer[i].life = (pr_request_life){
            .arrived_ns = made->written_ns,
            .prompt_tokens = request->prompt[i / request->n].tokens,
            .max_tokens = request->sampling.max_tokens,
            .end = PR_REQUEST_ENDS,
        };
    name_call(gateway, made);
    pr_http_set_user(exchange, made);
    link_call(gateway, made);
    *call = made;
    return PR_OK;
}

static pr_status submit_call(pr_gateway *gateway, const pr_call *call, uint64_t salt)
{
    pr_status status = PR_OK;
    for (int32_t i = 0; status == PR_OK && i < call->reply.answers; i++) {
        pr_serve_command command = {.kind = PR_SERVE_SUBMIT};
        status = pr_reply_sequence(&call->reply, i, salt, &command.request);
        if (status == PR_OK)
            status = pr_gateway_command(gateway, &command);
    }
    pr_gateway_wake_controller(gateway);
    return status;
}

static void cancel_call(pr_gateway *gateway, const pr_call *call)
{
    for (int32_t i = 0; i < call->reply.answers; i++) {
        pr_serve_command command = {
            .kind = PR_SERVE_CANCEL,
            .id = call->reply.first_id + (uint64_t)i,
        };
        if (!call->reply.answer[i].done && pr_gateway_command(gateway, &command) != PR_OK)
            break;  // no memory: they run to their end, unheard
    }
    pr_gateway_wake_controller(gateway);
}

static void refuse_call(pr_gateway *gateway, pr_call *call, const pr_refusal *refusal)
{
    cancel_call(gateway, call);
    if (call->streaming)
        pr_stream_fail(call, refusal);
    else
        pr_serve_calls_reply_error(call->exchange, refusal);
    destroy_call(gateway, call, PR_REQUEST_ERROR);
}

// Our fault: the last error's text.
static void blame_ourselves(pr_refusal *refusal)
{
    (void)pr_refuse(refusal, NULL, "%s", pr_error_text());
    pr_refusal_set_status(refusal, 500);
}

static void fail_call(pr_gateway *gateway, pr_call *call)
{
    pr_refusal refusal;
    blame_ourselves(&refusal);
    refuse_call(gateway, call, &refusal);
}

static pr_status reply_whole(const pr_gateway *gateway, pr_call *call)
{
    pr_byte_buffer text = {0};
    pr_reply_names names = {
        .id = call->id,
        .created = call->created_s,
        .model = call->model,
        .tells_cached = true,
    };
    pr_json_text_append(&text, pr_reply_body(&call->reply, gateway->context.tokenizer, &names));
    pr_status status = pr_byte_buffer_check(&text);
    if (status == PR_OK)
        pr_http_reply(call->exchange, 200, "application/json", text.data, text.size_bytes);
    pr_byte_buffer_free(&text);
    return status;
}

static void finish_call(pr_gateway *gateway, pr_call *call)
{
    pr_status status = call->streaming ? pr_stream_end(call) : reply_whole(gateway, call);
    if (status == PR_OK)
        destroy_call(gateway, call, PR_REQUEST_STOP);
    else
        fail_call(gateway, call);
}

void pr_serve_calls_begin(
    pr_gateway *gateway, pr_http_exchange *exchange, pr_completion_request *request, uint64_t salt)
{
    pr_call *call = NULL;
    pr_error_capture_begin();
    pr_status status = make_call(gateway, exchange, request, &call);
    if (status != PR_OK) {
        pr_refusal refusal;
        blame_ourselves(&refusal);
        pr_serve_calls_reply_error(exchange, &refusal);
    } else if (submit_call(gateway, call, salt) != PR_OK) {
        fail_call(gateway, call);
    }
    pr_error_capture_end();
}

// ---- Events ----

static void note_time(pr_gateway *gateway, pr_request_life *life, int64_t now_ns)
{
    bool first = life->first_token_ns == 0;
    int64_t gap_ns = first ? -1 : now_ns - life->last_token_ns;
    pr_metrics_token(gateway->metrics, now_ns, first ? now_ns - life->arrived_ns : 0, gap_ns);
    if (first)
        life->first_token_ns = now_ns;
    life->last_token_ns = now_ns;
}

static pr_status note_token(pr_gateway *gateway, pr_call *call, const pr_serve_event *event)
{
    int32_t index = (int32_t)(event->id - call->reply.first_id);
    pr_answer *answer = &call->reply.answer[index];
    pr_call_answer *sent = &call->answer[index];
    bool cancel = false;
    if (answer->done)
        return PR_OK;
    PR_TRY(pr_answer_add(answer, gateway->context.model, &event->token, &cancel));
    note_time(gateway, &sent->life, event->time_ns);
    if (cancel) {
        pr_serve_command command = {.kind = PR_SERVE_CANCEL, .id = event->id};
        PR_TRY(pr_gateway_command(gateway, &command));
        pr_gateway_wake_controller(gateway);
    }
    if (call->reply.request->stream)
        PR_TRY(pr_stream_send(call, gateway->context.tokenizer, index));
    if (answer->done) {
        end_life(
            gateway, call, index,
            answer->finish == PR_FINISH_STOP ? PR_REQUEST_STOP : PR_REQUEST_LENGTH);
        call->reply.unfinished--;
    }
    return PR_OK;
}

static void take_token(pr_gateway *gateway, pr_call *call, const pr_serve_event *event)
{
    if (note_token(gateway, call, event) != PR_OK)
        fail_call(gateway, call);
    else if (call->reply.unfinished == 0)
        finish_call(gateway, call);
}

static void take_rejection(pr_gateway *gateway, pr_call *call, const pr_serve_event *event)
{
    pr_refusal refusal;
    const char *text = event->text ? event->text : "rejected";
    static const char no_time[] = "rejected-walltime";
    (void)pr_refuse(&refusal, NULL, "%s", text);
    pr_refusal_set_status(&refusal, event->http_status);
    if (strncmp(text, no_time, strlen(no_time)) == 0) {
        refusal.code = no_time;
        refusal.retry_after_s = pr_gateway_left_s(gateway);
    }
    refuse_call(gateway, call, &refusal);
}

static void take_schedule(pr_gateway *gateway, pr_call *call, const pr_serve_event *event)
{
    int32_t index = (int32_t)(event->id - call->reply.first_id);
    pr_request_life *life = &call->answer[index].life;
    if (life->scheduled_ns != 0)  // preempted, and back
        return;
    life->scheduled_ns = event->time_ns;
    life->cached_tokens = event->tokens;
    pr_metrics_scheduled(gateway->metrics, event->time_ns, life->prompt_tokens, event->tokens);
    if (index % call->reply.request->n == 0)  // choices share the prompt of the first
        call->reply.cached_tokens += event->tokens;
}

void pr_serve_calls_event(pr_gateway *gateway, pr_serve_event *event)
{
    pr_call *call = pr_sequence_owners_find(&gateway->owners, event->id);
    pr_error_capture_begin();
    if (call && event->kind == PR_SERVE_TOKEN)
        take_token(gateway, call, event);
    else if (call && event->kind == PR_SERVE_PROMPT)
        pr_reply_prompt_logprob(&call->reply, &event->prompt);
    else if (call && event->kind == PR_SERVE_REJECTED)
        take_rejection(gateway, call, event);
    else if (call && event->kind == PR_SERVE_SCHEDULED)
        take_schedule(gateway, call, event);
    pr_error_capture_end();
}

void pr_serve_calls_abandon(pr_gateway *gateway, pr_call *call)
{
    cancel_call(gateway, call);
    destroy_call(gateway, call, PR_REQUEST_ABORT);
}

void pr_serve_calls_refuse_all(pr_gateway *gateway, const pr_refusal *refusal)
{
    while (gateway->call)
        refuse_call(gateway, gateway->call, refusal);
}

void pr_serve_calls_tick(pr_gateway *gateway, int64_t now_ns)
{
    for (pr_call *call = gateway->call; call; call = call->next) {
        if (call->reply.request->stream && now_ns - call->written_ns >= ping_ns)
            pr_stream_ping(call);
    }
}
