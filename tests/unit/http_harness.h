// SPDX-License-Identifier: BSD-3-Clause
// A real server on a thread, with handlers by path, and a blocking client with raw sockets.
//   /hello "hello"; /echo the body; /size?N N bytes of a pattern; /hold waits for the client to go;
//   /later is answered at the next wake; /events?N sends N events, one per step; /flood writes at each
//   wake until it is aborted; /burst writes one and a half times the output limit at once
#ifndef PR_TESTS_HTTP_HARNESS_H
#define PR_TESTS_HTTP_HARNESS_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "launcher/http/http_server.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { MOST_HELD = 4096, OUTPUT_LIMIT = 1 << 20, CLIENT_BYTES = 1 << 16 };

typedef struct held {
    pr_http_exchange *exchange;
    int32_t id, sent, events;  // of /events
    char kind;                 // path[1], or 0: free
} held;

typedef struct harness {
    pr_http_server *server;
    pthread_t thread;
    held held[MOST_HELD];
    int32_t held_count;
    atomic_int requests, aborted, ticks, wakes, step, open;
    pr_status status;
} harness;

// ---- Handlers, on the server's thread ----

static inline char pattern(size_t i) { return (char)('a' + i % 23); }

static inline void reply_text(pr_http_exchange *exchange, int32_t status, const char *text)
{
    pr_http_reply(exchange, status, "text/plain", text, strlen(text));
}

static inline void hold(harness *h, pr_http_exchange *exchange, const char *query)
{
    if (h->held_count == MOST_HELD)
        abort();
    held *slot = &h->held[h->held_count++];
    *slot = (held){
        .exchange = exchange,
        .kind = pr_http_path(exchange)[1],
        .id = h->held_count - 1,
        .events = atoi(query)};
    const char *id = pr_http_header(exchange, "X-Id");
    slot->id = id ? atoi(id) : slot->id;
    pr_http_set_user(exchange, slot);
    atomic_fetch_add(&h->open, 1);
    if (slot->kind == 'e' || slot->kind == 'f')
        pr_http_stream_begin(exchange, 200, "text/event-stream");
}

static inline void reply_size(pr_http_exchange *exchange, size_t size)
{
    char *body = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        body[i] = pattern(i);
    pr_http_reply(exchange, 200, "text/plain", body, size);
    free(body);
}

static inline void write_burst(pr_http_exchange *exchange)
{
    static char piece[OUTPUT_LIMIT / 8];
    memset(piece, 'b', sizeof piece);
    pr_http_stream_begin(exchange, 200, "text/plain");
    for (int i = 0; i < 12; i++)
        pr_http_stream_write(exchange, piece, sizeof piece);
    pr_http_stream_end(exchange);
}

static inline void on_request(void *context, pr_http_exchange *exchange)
{
    harness *h = context;
    const char *path = pr_http_path(exchange), *query = pr_http_query(exchange);
    size_t size;
    const char *body = pr_http_body(exchange, &size);
    atomic_fetch_add(&h->requests, 1);
    pr_http_set_header(exchange, "X-Method", pr_http_method(exchange));
    pr_http_set_header(exchange, "X-Bad", "a\r\nX-Injected: b");
    pr_http_set_header(exchange, "Content-Length", "7");
    if (strcmp(path, "/hello") == 0)
        reply_text(exchange, 200, "hello");
    else if (strcmp(path, "/echo") == 0)
        pr_http_reply(exchange, 200, "application/octet-stream", body, size);
    else if (strcmp(path, "/size") == 0)
        reply_size(exchange, (size_t)atoll(query));
    else if (strcmp(path, "/none") == 0)
        pr_http_reply(exchange, 204, NULL, NULL, 0);
    else if (strcmp(path, "/burst") == 0)
        write_burst(exchange);
    else if (path[1] && strchr("helf", path[1]))
        hold(h, exchange, query);
    else
        reply_text(exchange, 404, "not found");
}

static inline void release(harness *h, held *slot)
{
    slot->kind = 0;
    atomic_fetch_sub(&h->open, 1);
}

static inline void on_aborted(void *context, pr_http_exchange *exchange)
{
    harness *h = context;
    release(h, pr_http_user(exchange));
    atomic_fetch_add(&h->aborted, 1);
}

static inline void send_events(harness *h, held *slot, int32_t step)
{
    for (; slot->sent < slot->events && slot->sent < step; slot->sent++) {
        char text[64];
        int bytes = snprintf(
            text, sizeof text, "data: stream %d event %d\n\n", (int)slot->id, (int)slot->sent);
        pr_http_stream_write(slot->exchange, text, (size_t)bytes);
    }
    if (slot->sent == slot->events) {
        release(h, slot);
        pr_http_stream_end(slot->exchange);
    }
}

static inline void on_woken(void *context)
{
    static char piece[64 << 10];
    harness *h = context;
    int32_t step = atomic_load(&h->step);
    atomic_fetch_add(&h->wakes, 1);
    for (int32_t i = 0; i < h->held_count; i++) {
        held *slot = &h->held[i];
        if (slot->kind == 'e') {
            send_events(h, slot, step);
        } else if (slot->kind == 'f') {
            pr_http_stream_write(slot->exchange, piece, sizeof piece);
        } else if (slot->kind == 'l') {
            release(h, slot);
            reply_text(slot->exchange, 200, "later");
        }
    }
}

static inline void on_tick(void *context)
{
    harness *h = context;
    atomic_fetch_add(&h->ticks, 1);
}

// ---- Begin and end ----

static inline void *serve(void *user)
{
    harness *h = user;
    h->status = pr_http_server_run(h->server);
    return NULL;
}

// A value that is not given is short, so that tests are.
static inline harness *harness_begin(pr_http_params params)
{
    harness *h = calloc(1, sizeof *h);
    params.context = h;
    params.request = on_request;
    params.aborted = on_aborted;
    params.woken = on_woken;
    params.tick = on_tick;
    params.most_output_bytes = params.most_output_bytes ? params.most_output_bytes : OUTPUT_LIMIT;
    assert_int_equal(pr_http_server_create(&params, &h->server), PR_OK);
    assert_int_equal(pthread_create(&h->thread, NULL, serve, h), 0);
    return h;
}

static inline void harness_join(harness *h)
{
    pthread_join(h->thread, NULL);
    assert_int_equal(h->status, PR_OK);
    assert_int_equal(pr_http_server_connections(h->server), 0);
    assert_int_equal(atomic_load(&h->open), 0);
    pr_http_server_destroy(h->server);
    free(h);
}

static inline void harness_end(harness *h)
{
    pr_http_server_stop(h->server, 0);
    harness_join(h);
}

static inline bool wait_for(const atomic_int *value, int least)
{
    for (int i = 0; i < 10000 && atomic_load(value) < least; i++)
        usleep(1000);
    return atomic_load(value) >= least;
}

// ---- The client ----

typedef struct client {
    int descriptor;
    size_t bytes;  // in `data`, of replies not looked at yet
    char data[CLIENT_BYTES];
} client;

typedef struct reply {
    int status;
    char head[4096];
    char *body;
    size_t bytes;
} reply;

static inline void client_open(client *c, const harness *h)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)pr_http_server_port(h->server)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 10};
    c->bytes = 0;
    c->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(c->descriptor >= 0);
    setsockopt(c->descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(c->descriptor, (struct sockaddr *)&address, sizeof address), 0);
}

static inline void client_send_bytes(client *c, const char *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t sent = send(c->descriptor, data + done, bytes - done, MSG_NOSIGNAL);
        assert_true(sent > 0);
        done += (size_t)sent;
    }
}

static inline void client_send(client *c, const char *text)
{
    client_send_bytes(c, text, strlen(text));
}

// More bytes, or false at the end of the connection.
static inline bool client_fill(client *c)
{
    assert_true(c->bytes < sizeof c->data);
    ssize_t got = recv(c->descriptor, c->data + c->bytes, sizeof c->data - c->bytes, 0);
    if (got < 0 && errno != ECONNRESET)
        fail_msg("no answer: %s", strerror(errno));
    c->bytes += got > 0 ? (size_t)got : 0;
    return got > 0;
}

static inline void client_drop(client *c, size_t bytes)
{
    memmove(c->data, c->data + bytes, c->bytes - bytes);
    c->bytes -= bytes;
}

static inline bool client_at_end(client *c) { return c->bytes == 0 && !client_fill(c); }

static inline void client_close(client *c) { close(c->descriptor); }

static inline const char *reply_field(const reply *r, const char *name)
{
    static char value[256];
    char line[128];
    snprintf(line, sizeof line, "\r\n%s: ", name);
    const char *at = strcasestr(r->head, line);
    if (!at)
        return NULL;
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at + strlen(line), "\r"), at + strlen(line));
    return value;
}

static inline void read_head(client *c, reply *r)
{
    char *end;
    while (!(end = memmem(c->data, c->bytes, "\r\n\r\n", 4)))
        assert_true(client_fill(c));
    size_t bytes = (size_t)(end - c->data) + 4;
    assert_true(bytes < sizeof r->head);
    snprintf(r->head, sizeof r->head, "%.*s", (int)bytes, c->data);
    assert_int_equal(sscanf(r->head, "HTTP/1.1 %d", &r->status), 1);
    client_drop(c, bytes);
}

// So many bytes of the body, whatever the client's buffer holds.
static inline void take_body(client *c, reply *r, size_t bytes)
{
    r->body = realloc(r->body, r->bytes + bytes + 1);
    while (bytes > 0) {
        if (c->bytes == 0)
            assert_true(client_fill(c));
        size_t part = bytes < c->bytes ? bytes : c->bytes;
        memcpy(r->body + r->bytes, c->data, part);
        r->bytes += part;
        bytes -= part;
        client_drop(c, part);
    }
    r->body[r->bytes] = '\0';
}

static inline void take_chunks(client *c, reply *r)
{
    size_t size = 1;
    while (size > 0) {
        char *end;
        while (!(end = memmem(c->data, c->bytes, "\r\n", 2)))
            assert_true(client_fill(c));
        size = strtoul(c->data, NULL, 16);
        client_drop(c, (size_t)(end - c->data) + 2);
        take_body(c, r, size + 2);
        r->bytes -= 2;
        assert_memory_equal(r->body + r->bytes, "\r\n", 2);
        r->body[r->bytes] = '\0';
    }
}

// A whole reply, except its body where `head_only`. To be freed with reply_free.
static inline reply client_read(client *c, bool head_only)
{
    reply r = {.body = calloc(1, 1)};
    read_head(c, &r);
    const char *length = reply_field(&r, "Content-Length");
    if (head_only || r.status < 200 || r.status == 204)
        return r;
    if (length) {
        take_body(c, &r, strtoul(length, NULL, 10));
    } else if (reply_field(&r, "Transfer-Encoding")) {
        take_chunks(c, &r);
    } else {
        do
            take_body(c, &r, c->bytes);
        while (client_fill(c));
    }
    return r;
}

static inline void reply_free(reply *r) { free(r->body); }

static inline void expect_reply(client *c, int status, const char *body)
{
    reply r = client_read(c, false);
    assert_int_equal(r.status, status);
    assert_string_equal(r.body, body);
    reply_free(&r);
}

// The next reply is a refusal: an error object, and the end of the connection.
static inline void expect_refusal(client *c, int status)
{
    reply r = client_read(c, false);
    assert_int_equal(r.status, status);
    assert_string_equal(reply_field(&r, "Connection"), "close");
    assert_string_equal(reply_field(&r, "Content-Type"), "application/json");
    assert_memory_equal(r.body, "{\"error\":{\"message\":\"", 21);
    assert_non_null(strstr(r.body, "\"param\":null,\"code\":null}}"));
    assert_true(client_at_end(c));
    reply_free(&r);
}

#endif
