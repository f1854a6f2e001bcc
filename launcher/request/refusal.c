// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/refusal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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

static const char *type_of(int32_t http_status)
{
    switch (http_status) {
    case 400:
    case 405:
        return "invalid_request_error";
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    default:
        return "server_error";
    }
}

void pr_refusal_set_status(pr_refusal *refusal, int32_t http_status)
{
    refusal->http_status = http_status;
    refusal->type = type_of(http_status);
}

json_t *pr_refusal_body(const pr_refusal *refusal)
{
    return json_pack(
        "{s:{s:s, s:s, s:s?, s:s?}}", "error", "message", refusal->message, "type", refusal->type,
        "param", refusal->parameter[0] ? refusal->parameter : NULL, "code", refusal->code);
}
