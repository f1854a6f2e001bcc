// SPDX-License-Identifier: BSD-3-Clause
// The open calls of a gateway: begun by the completions API, moved on by the controller's events.
// Threads: the gateway's.
#ifndef PR_LAUNCHER_SERVE_SERVE_CALLS_H
#define PR_LAUNCHER_SERVE_SERVE_CALLS_H

#include "launcher/serve/gateway_state.h"

// Takes the request and answers the exchange sooner or later. salt: of whose key it came with.
void pr_serve_calls_begin(
    pr_gateway *gateway, pr_http_exchange *exchange, pr_completion_request *request, uint64_t salt);

void pr_serve_calls_event(pr_gateway *gateway, pr_serve_event *event);

// The client is gone: its sequences are cancelled.
void pr_serve_calls_abandon(pr_gateway *gateway, pr_call *call);
// All that are open get this error.
void pr_serve_calls_refuse_all(pr_gateway *gateway, const pr_refusal *refusal);
// Streams that wait for their first token get a sign of life now and then.
void pr_serve_calls_tick(pr_gateway *gateway, int64_t now_ns);

// An error object as the reply, with the headers that belong to its status. The exchange is over.
void pr_serve_calls_reply_error(pr_http_exchange *exchange, const pr_refusal *refusal);

#endif
