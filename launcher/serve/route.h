// SPDX-License-Identifier: BSD-3-Clause
// Which path is answered where, and what is checked before: that the path and method exist, that no foreign web page
// asks (Origin), that the key is right, that the model is there.
//
//   completion_api   POST /v1/completions, /v1/chat/completions
//   text_api         POST /tokenize, /detokenize, /v1/completions/render, /v1/chat/completions/render; GET /tokenizer_info
//   admin_api        GET /v1/models, /health, /ping, /version, /load, /metrics, /v1/polyreme/status, /; POST /v1/polyreme/drain
// Threads: the gateway's.
#ifndef PR_LAUNCHER_SERVE_ROUTE_H
#define PR_LAUNCHER_SERVE_ROUTE_H

#include "launcher/serve/gateway_state.h"

// What can be said from the head alone: that there is such a path, that the key is right, that the model is there.
// False: replied.
bool pr_route_admit(pr_gateway *gateway, pr_http_exchange *exchange);
// Replies, or begins a call that will.
void pr_route_answer(pr_gateway *gateway, pr_http_exchange *exchange);

// Who asks, as far as it matters to a handler.
typedef struct pr_route_caller {
    uint64_t salt;  // of the key's prefix caches; 0: no keys are asked for
} pr_route_caller;

typedef void
pr_route_handler(pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller);

// ---- For the handlers ----

// The body as an object; otherwise replies 400 and gives NULL.
json_t *pr_route_body(pr_http_exchange *exchange);
// Replies with JSON; the value is taken.
void pr_route_reply(pr_http_exchange *exchange, int32_t status, json_t *value);
void pr_route_refuse(
    pr_http_exchange *exchange, int32_t status, const char *code, const char *text);

#endif
