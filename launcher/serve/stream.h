// SPDX-License-Identifier: BSD-3-Clause
// Server-sent events of a call: one event for each token that brings settled text, one chunk for each event.
//   data: {"id":...,"object":"text_completion","created":...,"model":...,"choices":[{"index":0,"text":" Hi",...}]}
//   data: [DONE]
// The events of an answer put together say what the whole reply says. Source: OpenAI API reference (streaming),
// HTML standard (server-sent events).
// Threads: the gateway's.
#ifndef PR_LAUNCHER_SERVE_STREAM_H
#define PR_LAUNCHER_SERVE_STREAM_H

#include "launcher/serve/call.h"

// Sends what answer `index` has that was not sent; its end too. The head of the stream goes before the first event.
pr_status pr_stream_send(pr_call *call, const pr_tokenizer *tokenizer, int32_t index) PR_MUST_CHECK;
// Usage if it was asked for, and the end. The exchange is over.
pr_status pr_stream_end(pr_call *call) PR_MUST_CHECK;
// An error within the stream, and the end.
void pr_stream_fail(pr_call *call, const pr_refusal *refusal);
// A comment, which clients pass over.
void pr_stream_ping(pr_call *call);

#endif
