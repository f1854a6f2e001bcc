// SPDX-License-Identifier: BSD-3-Clause
// Why a request is not answered, as OpenAI's error object says it.
// Source: OpenAI API reference (errors); the types by HTTP status as vLLM gives them.
#ifndef PR_LAUNCHER_REQUEST_REFUSAL_H
#define PR_LAUNCHER_REQUEST_REFUSAL_H

#include <jansson.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_refusal {
    int32_t http_status;    // 400, 401, 404, 429, 500, 503
    const char *type;       // "invalid_request_error", "not_found_error"
    const char *code;       // may be NULL
    int32_t retry_after_s;  // of 429 and 503; 0: at once
    char parameter[64];     // "" if none
    char message[512];
} pr_refusal;

// Fills a refusal (400, invalid_request_error); returns PR_ERR_REQUEST. parameter may be NULL.
pr_status pr_refuse(pr_refusal *refusal, const char *parameter, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Another status, and OpenAI's error type for it.
void pr_refusal_set_status(pr_refusal *refusal, int32_t http_status);

// {"error": {...}}, new; NULL without memory.
json_t *pr_refusal_body(const pr_refusal *refusal);

#endif
