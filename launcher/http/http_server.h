// SPDX-License-Identifier: BSD-3-Clause
// HTTP/1.1 for the endpoint: connections, requests, replies and event streams, on one thread of its own.
// libevent moves the bytes (bufferevents: sockets, TLS, timeouts), http_message.h reads requests strictly.
//
//   bytes in -> head -> body (length or chunks) -> params.request(exchange) -> reply | stream, write, write, end
//
// One request at a time per connection; pipelined bytes wait. Writes to a stream go to its connection's
// output buffer and leave in one send per pass of the loop, however many there were: a wake that brings
// tokens for a thousand streams costs a thousand sends, not one per token.
//
// Limits, all in pr_http_params: head (431), body (413), time for head and body (408), idle keep-alive,
// number of connections (503 at once), bytes waiting in a stream's output (the exchange is aborted: a reader
// that stops reading is cancelled), bytes of all requests together (503). Ambiguous framing is refused with
// 400 and the connection closed (http_message.h). Every refusal has an OpenAI error object as its body.
// A client that ends its sending half while it waits for a reply is taken as gone: half a close cannot
// be told from a whole one. (Replies that are complete by then are still sent.) While more than 64 KiB of
// pipelined requests wait, nothing is read, so that such a client's going away is noticed when it is sent to.
// Source: RFC 9110, RFC 9112.
// Threads: create, run and destroy from one thread each; everything about exchanges from the server's thread
// (inside callbacks). pr_http_server_wake and pr_http_server_stop may come from anywhere.
#ifndef PR_LAUNCHER_HTTP_HTTP_SERVER_H
#define PR_LAUNCHER_HTTP_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_http_server pr_http_server;
typedef struct pr_http_exchange pr_http_exchange;  // one request and its reply

typedef struct pr_http_params {  // the texts are borrowed until the server is destroyed
    const char *host;            // address to listen on, or a name; NULL: 127.0.0.1
    int32_t port;                // 0: any free one
    const char *uds;             // listen on this Unix socket instead (mode 0600), or NULL
    const char *certificate;     // PEM files for TLS, or NULL both
    const char *key;
    const char *cors_origin;  // "*", one origin, or NULL: no CORS headers
    // Limits: 0 stands for the default behind it.
    size_t most_head_bytes;  // 32 KiB
    size_t most_body_bytes;  // 64 MiB
    size_t most_held_bytes;  // 8 bodies, at least 64 MiB: all requests not yet answered or dropped
    size_t most_output_bytes;  // 1 MiB: of one stream, not yet taken by its reader
    int32_t most_connections;  // 20,000; fewer where the system allows fewer descriptors
    // 30 s: for a whole head, between two pieces of a body, and for a reader that takes nothing
    int32_t read_timeout_ms;
    int32_t idle_timeout_ms;  // 75 s: keep-alive
    int32_t tick_ms;          // how often `tick` is called; 0: never
    void *context;            // of the callbacks below, all on the server's thread
    // The head of a request whose body is still to come. False: it was replied to, and the body is not taken (the
    // connection closes). NULL: all bodies are.
    bool (*head)(void *context, pr_http_exchange *exchange);
    // The request is complete. Reply now or later, but exactly once. Not called for OPTIONS with CORS.
    void (*request)(void *context, pr_http_exchange *exchange);
    // The client is gone (or stopped reading) before the reply was complete: the exchange is invalid after
    // this. Not called after a reply that was completed.
    void (*aborted)(void *context, pr_http_exchange *exchange);
    // A reply has begun; `path` is "" where the request had none. NULL: nobody counts.
    void (*replied)(void *context, const char *path, int32_t status);
    // After pr_http_server_wake; several wakes may be one call. It and tick may be NULL.
    void (*woken)(void *context);
    void (*tick)(void *context);
} pr_http_params;

// Listens at once (so the port is known); serves when run.
pr_status
pr_http_server_create(const pr_http_params *params, pr_http_server **server) PR_MUST_CHECK;
void pr_http_server_destroy(pr_http_server *server);

int32_t pr_http_server_port(const pr_http_server *server);  // 0 for a Unix socket
int32_t pr_http_server_connections(const pr_http_server *server);

// Serves until stopped and all replies begun are out, or the grace time after the stop is over.
pr_status pr_http_server_run(pr_http_server *server) PR_MUST_CHECK;
// Wakes the loop: `woken` is called on its thread. Async-signal-safe.
void pr_http_server_wake(pr_http_server *server);
// Stops accepting, closes idle connections, lets replies finish for at most grace_ms. Async-signal-safe.
void pr_http_server_stop(pr_http_server *server, int32_t grace_ms);

// ---- The request: all text is NUL-terminated and valid until the exchange ends ----

const char *pr_http_method(const pr_http_exchange *exchange);
const char *pr_http_path(const pr_http_exchange *exchange);   // percent-decoded, without the query
const char *pr_http_query(const pr_http_exchange *exchange);  // raw, "" if none
// The field's value, or NULL. The name in any case. Of several, the first.
const char *pr_http_header(const pr_http_exchange *exchange, const char *name);
const char *pr_http_body(const pr_http_exchange *exchange, size_t *size_bytes);  // may hold NULs
// Frees the body early; pr_http_body gives "" afterwards.
void pr_http_drop_body(pr_http_exchange *exchange);
void *pr_http_user(const pr_http_exchange *exchange);  // NULL until set
void pr_http_set_user(pr_http_exchange *exchange, void *user);

// ---- The reply ----

// A header field of the reply to come, in place of an earlier one of its name; copied. Dropped: a value with control bytes (CR and LF above all), a
// malformed name, and the server's own Content-Length, Transfer-Encoding, Connection and Date.
void pr_http_set_header(pr_http_exchange *exchange, const char *name, const char *value);

// The whole reply. The exchange is over (invalid) after it.
void pr_http_reply(
    pr_http_exchange *exchange,
    int32_t status,
    const char *content_type,  // NULL: none
    const void *body,
    size_t size_bytes);

// A reply in pieces: chunked for HTTP/1.1, until the close for HTTP/1.0.
void pr_http_stream_begin(pr_http_exchange *exchange, int32_t status, const char *content_type);
// Appends; one call is one chunk, and nothing is written for size 0. If the reader is too slow, `aborted` is
// called from the loop later and further writes have no effect.
void pr_http_stream_write(pr_http_exchange *exchange, const void *data, size_t size_bytes);
void pr_http_stream_end(pr_http_exchange *exchange);  // the exchange is over (invalid) after it

#endif
