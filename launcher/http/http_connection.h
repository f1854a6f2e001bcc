// SPDX-License-Identifier: BSD-3-Clause
// One client: its bytes in, one request at a time, its bytes out. Inside of http_server.h; nothing else
// includes it.
//
//   HANDSHAKE -> IDLE -> HEAD -> BODY -> OPEN -> IDLE ... | CLOSING -> LINGER
//                  (the user has the exchange in OPEN only)
//
// Events of libevent and calls of the user only note what happened and put the connection into the list
// of the unsettled; the loop settles each of them once per pass: reads requests, tells who is gone, sends.
// So nothing is freed and no user is called inside a call of the user, and a pass sends once per connection.
// Sending: the bufferevent's own writing is off while it need not wait; what the socket does not take at
// once is left to it, with the read timeout as limit for a reader that takes nothing. Every other wait is
// one timer per connection, in libevent's queues for equal durations.
// After the last reply the connection lingers for a second, so that a client which is still sending
// reads the reply and not a reset.
// Threads: the server's.
#ifndef PR_LAUNCHER_HTTP_HTTP_CONNECTION_H
#define PR_LAUNCHER_HTTP_HTTP_CONNECTION_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdatomic.h>

#include "launcher/http/http_message.h"
#include "launcher/http/http_server.h"
#include "launcher/http/http_tls.h"

typedef struct pr_http_connection pr_http_connection;

typedef enum pr_http_phase {
    PR_HTTP_HANDSHAKE,
    PR_HTTP_IDLE,     // no byte of a request yet
    PR_HTTP_IN_HEAD,  // a request has begun
    PR_HTTP_IN_BODY,
    PR_HTTP_OPEN,     // the user has it
    PR_HTTP_CLOSING,  // the last reply is being sent
    PR_HTTP_LINGER,
    PR_HTTP_UNTIMED,  // of no connection; for `timed`
} pr_http_phase;

struct pr_http_exchange {
    pr_http_connection *connection;
    pr_http_message message;
    void *user;
    char *fields;  // of the reply, as lines, or NULL
    size_t fields_bytes;
    bool streaming, chunked;
    bool silent;  // a reply without body: to HEAD, 204, 304
    bool cut;     // the reader is too slow
};

struct pr_http_connection {
    struct pr_http_hub *hub;
    struct bufferevent *wire;
    struct event timer;
    pr_http_exchange
        *exchange;  // from the first byte of a request to the end of the reply, or NULL
    pr_http_phase phase, timed;  // timed: the phase that the timer runs for
    bool unsettled, sending, full, ended, gone, late, moved;
    pr_http_connection *next_unsettled, *previous, *next;
};

// What connections share.
typedef struct pr_http_hub {
    pr_http_params params;
    pr_http_limits limits;
    pr_http_tls *tls;  // or NULL
    struct event_base *base;
    const struct timeval *read_time, *idle_time, *linger_time;  // libevent's queues
    pr_http_connection *all, *first_unsettled, *last_unsettled;
    size_t held_bytes;  // of all requests
    atomic_int connections;
    bool stopping;
    int64_t date_s;
    char date[40];
} pr_http_hub;

// Takes the descriptor, also when it fails for want of memory.
void pr_http_connection_accept(pr_http_hub *hub, int descriptor);
// Settles all that are unsettled.
void pr_http_connection_settle_all(pr_http_hub *hub);
void pr_http_connection_touch(pr_http_connection *connection);  // unsettled from now on
// Sends what the socket takes now. May find that the client is gone.
void pr_http_connection_flush(pr_http_connection *connection);
void pr_http_connection_cut_all(pr_http_hub *hub);  // at once, with `aborted`

pr_http_exchange *pr_http_exchange_begin(pr_http_connection *connection);
void pr_http_exchange_free(pr_http_exchange *exchange);
// An OpenAI error object, the last reply of its connection.
void pr_http_exchange_refuse(pr_http_exchange *exchange, int32_t status, const char *reason);
void pr_http_exchange_preflight(pr_http_exchange *exchange);

#endif
