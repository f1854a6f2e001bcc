// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/batch_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/openai/json_text.h"
#include "runtime/base/hash.h"

static pr_status check_line(int64_t number, pr_batch_line *line, pr_refusal *refusal)
{
    long long n = (long long)number;
    const json_t *id = json_object_get(line->root, "custom_id");
    if (!json_is_object(line->root))
        return pr_refuse(refusal, NULL, "line %lld is not a JSON object", n);
    if (!json_is_string(id) || json_string_length(id) == 0 ||
        strlen(json_string_value(id)) != json_string_length(id))
        return pr_refuse(
            refusal, "custom_id", "line %lld: 'custom_id' must be a non-empty string without NUL",
            n);
    line->custom_id = json_string_value(id);
    const char *method = json_string_value(json_object_get(line->root, "method"));
    const char *url = json_string_value(json_object_get(line->root, "url"));
    if (method && strcmp(method, "POST") != 0)
        return pr_refuse(refusal, "method", "line %lld: 'method' must be POST", n);
    line->chat = url && strcmp(url, "/v1/chat/completions") == 0;
    if (!line->chat && (!url || strcmp(url, "/v1/completions") != 0))
        return pr_refuse(
            refusal, "url", "line %lld: 'url' must be /v1/completions or /v1/chat/completions", n);
    line->body = json_object_get(line->root, "body");
    if (!json_is_object(line->body))
        return pr_refuse(refusal, "body", "line %lld: 'body' must be an object", n);
    return PR_OK;
}

pr_status pr_batch_line_parse(
    const char *text, size_t size_bytes, int64_t number, pr_batch_line *line, pr_refusal *refusal)
{
    json_error_t error;
    *line = (pr_batch_line){0};
    line->root = json_loadb(text, size_bytes, JSON_ALLOW_NUL, &error);
    if (!line->root)
        return pr_refuse(
            refusal, NULL, "line %lld is not JSON: %.160s at column %d", (long long)number,
            error.text, error.column);
    return check_line(number, line, refusal);
}

void pr_batch_line_clear(pr_batch_line *line)
{
    json_decref(line->root);
    *line = (pr_batch_line){0};
}

static uint64_t line_hash(const char *custom_id, int64_t number)
{
    return custom_id ? pr_hash_bytes(1, custom_id, strlen(custom_id))
                     : pr_hash_bytes(2, &number, sizeof number);
}

static char *dump_line(json_t *root_taken)
{
    pr_byte_buffer line = {0};
    pr_json_text_append(&line, root_taken);
    pr_byte_buffer_append(&line, "\n", 2);
    if (line.failed)
        pr_byte_buffer_free(&line);
    return line.data;
}

static char *
result_line(const char *custom_id, int64_t number, int32_t http_status, json_t *body_taken)
{
    char id[64], request_id[64];
    uint64_t hash = line_hash(custom_id, number);
    snprintf(id, sizeof id, "batch_req_%016llx", (unsigned long long)hash);
    snprintf(request_id, sizeof request_id, "req_%016llx", (unsigned long long)hash);
    return dump_line(json_pack(
        "{s:s, s:s?, s:{s:i, s:s, s:o}, s:n}", "id", id, "custom_id", custom_id, "response",
        "status_code", http_status, "request_id", request_id, "body", body_taken, "error"));
}

void pr_batch_line_name(const char *custom_id, int64_t number, bool chat, char *id, size_t size)
{
    snprintf(
        id, size, "%s-%016llx", chat ? "chatcmpl" : "cmpl",
        (unsigned long long)line_hash(custom_id, number));
}

char *pr_batch_line_answer(const char *custom_id, int64_t number, json_t *body_taken)
{
    return result_line(custom_id, number, 200, body_taken);
}

char *pr_batch_line_refusal(
    const char *custom_id, int64_t number, const pr_refusal *refusal, bool readable)
{
    if (readable) {
        return result_line(custom_id, number, refusal->http_status, pr_refusal_body(refusal));
    }
    char id[64];
    snprintf(id, sizeof id, "batch_req_%016llx", (unsigned long long)line_hash(custom_id, number));
    return dump_line(json_pack(
        "{s:s, s:s?, s:n, s:{s:s, s:s}}", "id", id, "custom_id", custom_id, "response", "error",
        "code", refusal->code ? refusal->code : "invalid_line", "message", refusal->message));
}
