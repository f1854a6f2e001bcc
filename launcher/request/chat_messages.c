// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/chat_messages.h"

#include <stdio.h>
#include <string.h>

#include "launcher/request/request_field.h"
#include "runtime/text/byte_buffer.h"

// Where in the request something is wrong, as refusals name it.
typedef struct place {
    char name[48];
} place;

static bool is_word(const json_t *value, const char *word)
{
    return json_is_string(value) && strcmp(json_string_value(value), word) == 0;
}

// ---- Content ----

// The text of one part, borrowed.
static pr_status read_part(
    const json_t *part, size_t index, const place *at, const json_t **text, pr_refusal *refusal)
{
    const json_t *type = json_object_get(part, "type");
    *text = part;
    if (json_is_string(part))
        return PR_OK;
    if (!json_is_object(part) || !json_is_string(type))
        return pr_refuse(
            refusal, at->name, "'%s.content[%zu]' must be {\"type\": \"text\", \"text\": ...}",
            at->name, index);
    if (is_word(type, "text"))
        *text = json_object_get(part, "text");
    else if (is_word(type, "refusal"))
        *text = json_object_get(part, "refusal");
    else
        return pr_refuse(
            refusal, at->name,
            "'%s.content[%zu]' is of type '%.40s', which this server does not take: only text is",
            at->name, index, json_string_value(type));
    if (!json_is_string(*text))
        return pr_refuse(
            refusal, at->name, "'%s.content[%zu].%s' must be a string", at->name, index,
            json_string_value(type));
    return PR_OK;
}

static json_t *joined(const pr_byte_buffer *text)
{
    if (text->failed)
        return NULL;
    return json_stringn(text->size_bytes > 0 ? text->data : "", text->size_bytes);
}

static pr_status
take_parts(json_t *message, json_t *parts, bool keep, const place *at, pr_refusal *refusal)
{
    pr_status status = PR_OK;
    pr_byte_buffer text = {0};
    json_t *list = json_array(), *part;
    size_t i;
    json_array_foreach(parts, i, part)
    {
        const json_t *piece;
        PR_TRY_GOTO(read_part(part, i, at, &piece, refusal), done);
        if (i > 0)
            pr_byte_buffer_append(&text, "\n", 1);
        pr_byte_buffer_append(&text, json_string_value(piece), json_string_length(piece));
        if (is_word(json_object_get(part, "type"), "text"))
            json_array_append(list, part);
        else
            json_array_append_new(list, json_pack("{s:s, s:O}", "type", "text", "text", piece));
    }
    if (json_object_set_new(message, "content", keep ? json_incref(list) : joined(&text)) != 0)
        status = pr_refuse(refusal, at->name, "no memory for '%s'", at->name);
done:
    json_decref(list);
    pr_byte_buffer_free(&text);
    return status;
}

static pr_status take_content(json_t *message, bool keep, const place *at, pr_refusal *refusal)
{
    json_t *content = json_object_get(message, "content");
    if (json_is_string(content))
        return PR_OK;
    if (!content || json_is_null(content)) {
        // Templates tell a turn of calls alone by its missing content; any other they put into text.
        bool calls = json_object_get(message, "tool_calls") != NULL;
        json_object_set_new(message, "content", calls ? json_null() : json_string(""));
        return PR_OK;
    }
    if (!json_is_array(content))
        return pr_refuse(
            refusal, at->name, "'%s.content' must be a string, a list of parts or null", at->name);
    if (json_array_size(content) > PR_MAX_MESSAGE_PARTS)
        return pr_refuse(
            refusal, at->name, "'%s.content' has more than %d parts", at->name,
            PR_MAX_MESSAGE_PARTS);
    return take_parts(message, content, keep, at, refusal);
}

// ---- Tool calls ----

// Templates write arguments with tojson, so they are to be an object; what is none stays a string.
static void parse_arguments(json_t *function)
{
    const json_t *arguments = pr_request_field(function, "arguments");
    json_t *parsed = NULL;
    if (!arguments || (json_is_string(arguments) && json_string_length(arguments) == 0))
        parsed = json_object();
    else if (json_is_string(arguments))
        parsed = json_loadb(
            json_string_value(arguments), json_string_length(arguments), JSON_ALLOW_NUL, NULL);
    if (json_is_object(parsed))
        json_object_set(function, "arguments", parsed);
    json_decref(parsed);
}

static pr_status take_call(json_t *call, size_t index, const place *at, pr_refusal *refusal)
{
    json_t *function = json_object_get(call, "function");
    const json_t *name = json_object_get(function, "name");
    const json_t *type = pr_request_field(call, "type");
    const json_t *arguments = pr_request_field(function, "arguments");
    if (type && !is_word(type, "function"))
        return pr_refuse(
            refusal, at->name, "'%s.tool_calls[%zu].type' must be \"function\"", at->name, index);
    if (!json_is_string(name) || json_string_length(name) == 0)
        return pr_refuse(
            refusal, at->name, "'%s.tool_calls[%zu].function.name' must be a string, not empty",
            at->name, index);
    if (arguments && !json_is_string(arguments) && !json_is_object(arguments))
        return pr_refuse(
            refusal, at->name,
            "'%s.tool_calls[%zu].function.arguments' must be a string that holds JSON", at->name,
            index);
    parse_arguments(function);
    return PR_OK;
}

static pr_status take_calls(json_t *message, const place *at, pr_refusal *refusal)
{
    json_t *calls = json_object_get(message, "tool_calls"), *call;
    size_t i;
    if (!calls)
        return PR_OK;
    if (!json_is_array(calls) || json_array_size(calls) > PR_MAX_MESSAGE_CALLS)
        return pr_refuse(
            refusal, at->name, "'%s.tool_calls' must be a list of at most %d calls", at->name,
            PR_MAX_MESSAGE_CALLS);
    json_array_foreach(calls, i, call) PR_TRY(take_call(call, i, at, refusal));
    if (json_array_size(calls) == 0)  // templates ask whether the field is there
        json_object_del(message, "tool_calls");
    return PR_OK;
}

// ---- One message ----

static void drop_nulls(json_t *message)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(message, next, key, value)
    {
        if (json_is_null(value) && strcmp(key, "content") != 0)
            json_object_del(message, key);
    }
}

static pr_status check_strings(const json_t *message, const place *at, pr_refusal *refusal)
{
    static const char *const names[] = {"name", "tool_call_id", "reasoning_content", "reasoning"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = json_object_get(message, names[i]);
        if (value && !json_is_string(value))
            return pr_refuse(refusal, at->name, "'%s.%s' must be a string", at->name, names[i]);
    }
    return PR_OK;
}

static pr_status
take_message(json_t *message, bool keep_parts, const place *at, pr_refusal *refusal)
{
    const json_t *role = json_object_get(message, "role");
    if (!json_is_string(role) || json_string_length(role) == 0)
        return pr_refuse(
            refusal, at->name, "'%s.role' must be a string: system, user, assistant or tool",
            at->name);
    drop_nulls(message);
    if (is_word(role, "function") || json_object_get(message, "function_call"))
        return pr_refuse(
            refusal, at->name,
            "'%s' is of the old form with functions: use 'tool_calls' and role 'tool'", at->name);
    PR_TRY(check_strings(message, at, refusal));
    PR_TRY(take_calls(message, at, refusal));
    PR_TRY(take_content(message, keep_parts, at, refusal));
    json_t *reasoning = json_object_get(message, "reasoning");
    if (reasoning && !json_object_get(message, "reasoning_content"))  // the name in templates
        json_object_set(message, "reasoning_content", reasoning);
    return PR_OK;
}

pr_status
pr_chat_messages_parse(const json_t *body, bool keep_parts, json_t **messages, pr_refusal *refusal)
{
    const json_t *given = pr_request_field(body, "messages");
    size_t count = json_array_size(given);
    if (!json_is_array(given) || count == 0)
        return pr_refuse(refusal, "messages", "'messages' must be a list with a message");
    if (count > PR_MAX_MESSAGES)
        return pr_refuse(refusal, "messages", "at most %d messages a request", PR_MAX_MESSAGES);
    json_t *made = json_deep_copy(given);
    if (!made)
        return pr_refuse(refusal, "messages", "no memory for 'messages'");
    for (size_t i = 0; i < count; i++) {
        place at;
        snprintf(at.name, sizeof at.name, "messages[%zu]", i);
        pr_status status = take_message(json_array_get(made, i), keep_parts, &at, refusal);
        if (status != PR_OK) {
            json_decref(made);
            return status;
        }
    }
    *messages = made;
    return PR_OK;
}

pr_status pr_chat_messages_ending(const json_t *body, pr_chat_ending *ending, pr_refusal *refusal)
{
    pr_chat_ending made = {0};
    PR_TRY(pr_request_field_bool(
        body, "continue_final_message", &made.continue_final_message, refusal));
    made.add_generation_prompt = !made.continue_final_message;
    PR_TRY(
        pr_request_field_bool(body, "add_generation_prompt", &made.add_generation_prompt, refusal));
    if (made.add_generation_prompt && made.continue_final_message)
        return pr_refuse(
            refusal, "continue_final_message",
            "'continue_final_message' and 'add_generation_prompt' cannot both be true: the answer "
            "goes on or begins");
    *ending = made;
    return PR_OK;
}
