// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/client/chat_reply.h"

#include <jansson.h>
#include <string.h>

#include "launcher/client/plain_text.h"
#include "runtime/base/log.h"

static pr_status fail_with_error(const json_t *error)
{
    const char *message = json_string_value(json_object_get(error, "message"));
    char text[768];
    if (!message)
        message = json_is_string(error) ? json_string_value(error) : "no reason given";
    pr_plain_text_copy(message, strlen(message), text, sizeof text);
    return pr_fail(PR_ERR_REQUEST, "the server gave up this answer: %s", text);
}

static void take_usage(pr_chat_reply *reply, const json_t *usage)
{
    const json_t *prompt = json_object_get(usage, "prompt_tokens");
    const json_t *output = json_object_get(usage, "completion_tokens");
    if (json_is_integer(prompt))
        reply->prompt_tokens = json_integer_value(prompt);
    if (json_is_integer(output))
        reply->output_tokens = json_integer_value(output);
}

static pr_status take_text(pr_chat_reply *reply, bool reasoning, const json_t *text)
{
    size_t size_bytes = json_string_length(text);
    if (size_bytes == 0)
        return PR_OK;
    reply->pieces++;
    if (!reasoning) {
        if (reply->content.size_bytes + size_bytes > PR_CHAT_REPLY_MAX_BYTES)
            return pr_fail(
                PR_ERR_REQUEST, "the answer is longer than %d bytes", PR_CHAT_REPLY_MAX_BYTES);
        pr_byte_buffer_append(&reply->content, json_string_value(text), size_bytes);
        PR_TRY(pr_byte_buffer_check(&reply->content));
    }
    reply->show(reply->context, reasoning, json_string_value(text), size_bytes);
    return PR_OK;
}

static pr_status take_choice(pr_chat_reply *reply, const json_t *choice)
{
    const json_t *delta = json_object_get(choice, "delta");
    const json_t *reasoning = json_object_get(delta, "reasoning_content");
    const json_t *finish = json_object_get(choice, "finish_reason");
    if (!json_is_string(reasoning))
        reasoning = json_object_get(delta, "reasoning");
    PR_TRY(take_text(reply, true, reasoning));
    PR_TRY(take_text(reply, false, json_object_get(delta, "content")));
    if (json_is_string(finish))
        pr_plain_text_copy(
            json_string_value(finish), json_string_length(finish), reply->finish,
            sizeof reply->finish);
    return PR_OK;
}

pr_status pr_chat_reply_event(void *reply, const char *data, size_t size_bytes)
{
    pr_chat_reply *self = reply;
    if (size_bytes == 6 && memcmp(data, "[DONE]", 6) == 0) {
        self->done = true;
        return PR_OK;
    }
    if (size_bytes == 0)
        return PR_OK;
    json_t *chunk = json_loadb(data, size_bytes, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(chunk)) {
        json_decref(chunk);
        return pr_fail(PR_ERR_FORMAT, "the server sent an event that is not a JSON object");
    }
    const json_t *error = json_object_get(chunk, "error");
    pr_status status;
    if (error && !json_is_null(error)) {
        status = fail_with_error(error);
    } else {
        take_usage(self, json_object_get(chunk, "usage"));
        status = take_choice(self, json_array_get(json_object_get(chunk, "choices"), 0));
    }
    json_decref(chunk);
    return status;
}

void pr_chat_reply_clear(pr_chat_reply *reply) { pr_byte_buffer_free(&reply->content); }
