// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/http/http_connection.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    // Of pipelined bytes while an exchange is open; beyond it nothing is read.
    MOST_WAITING_BYTES = 64 << 10,
    SEND_PIECES = 32,
    // In the kernel, which would take megabytes for a reader that stopped: the bound on a stream's output is ours.
    MOST_UNSENT_BYTES = 64 << 10,
};

void pr_http_connection_touch(pr_http_connection *connection)
{
    pr_http_hub *hub = connection->hub;
    if (connection->unsettled)
        return;
    connection->unsettled = true;
    connection->next_unsettled = NULL;
    if (hub->last_unsettled)
        hub->last_unsettled->next_unsettled = connection;
    else
        hub->first_unsettled = connection;
    hub->last_unsettled = connection;
}

// ---- What libevent calls ----

static void on_bytes(struct bufferevent *wire, void *user)
{
    (void)wire;
    pr_http_connection_touch(user);
}

static void on_sent(struct bufferevent *wire, void *user)
{
    pr_http_connection *connection = user;
    bufferevent_disable(wire, EV_WRITE);
    connection->sending = false;
    pr_http_connection_touch(connection);
}

static void on_event(struct bufferevent *wire, short what, void *user)
{
    (void)wire;
    pr_http_connection *connection = user;
    if (what & BEV_EVENT_CONNECTED)
        connection->phase = PR_HTTP_IDLE;
    else if (what & BEV_EVENT_EOF)
        connection->ended = true;
    else
        connection->gone = true;
    pr_http_connection_touch(connection);
}

static void on_timer(evutil_socket_t descriptor, short what, void *user)
{
    (void)descriptor, (void)what;
    pr_http_connection *connection = user;
    connection->late = true;
    pr_http_connection_touch(connection);
}

// ---- Begin and end ----

static void set_options(int descriptor)
{
    // A client whose machine vanished is noticed within two minutes.
    const int on = 1, idle_s = 60, interval_s = 10, probes = 6, unsent_bytes = MOST_UNSENT_BYTES;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_bytes, sizeof unsent_bytes);
    setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static struct timeval write_time(const pr_http_hub *hub)
{
    return (struct timeval){
        .tv_sec = hub->params.read_timeout_ms / 1000,
        .tv_usec = hub->params.read_timeout_ms % 1000 * 1000};
}

void pr_http_connection_accept(pr_http_hub *hub, int descriptor)
{
    pr_http_connection *made = calloc(1, sizeof *made);
    struct bufferevent *wire = NULL;
    if (made && hub->tls)
        wire = pr_http_tls_accept(hub->tls, hub->base, descriptor);
    else if (made)
        wire = bufferevent_socket_new(hub->base, descriptor, BEV_OPT_CLOSE_ON_FREE);
    if (!wire) {
        free(made);
        close(descriptor);
        return;
    }
    struct timeval limit = write_time(hub);
    set_options(descriptor);
    made->hub = hub;
    made->wire = wire;
    made->phase = hub->tls ? PR_HTTP_HANDSHAKE : PR_HTTP_IDLE;
    made->timed = PR_HTTP_UNTIMED;
    event_assign(&made->timer, hub->base, -1, 0, on_timer, made);
    bufferevent_setcb(wire, on_bytes, on_sent, on_event, made);
    bufferevent_set_timeouts(wire, NULL, &limit);
    bufferevent_disable(wire, EV_WRITE);
    bufferevent_enable(wire, EV_READ);
    made->next = hub->all;
    if (hub->all)
        hub->all->previous = made;
    hub->all = made;
    atomic_fetch_add(&hub->connections, 1);
    pr_http_connection_touch(made);
}

static size_t waiting_bytes(const pr_http_connection *connection)
{
    return evbuffer_get_length(bufferevent_get_output(connection->wire));
}

static void drop(pr_http_connection *connection)
{
    pr_http_hub *hub = connection->hub;
    connection->gone = true;
    if (connection->phase == PR_HTTP_OPEN && connection->exchange)
        hub->params.aborted(hub->params.context, connection->exchange);
    if (connection->exchange)
        pr_http_exchange_free(connection->exchange);
    if (waiting_bytes(connection) > 0) {
        // What the kernel still holds for this reader is of no use to anyone.
        const struct linger at_once = {.l_onoff = 1};
        setsockopt(
            bufferevent_getfd(connection->wire), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        hub->all = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    event_del(&connection->timer);
    bufferevent_free(connection->wire);
    atomic_fetch_sub(&hub->connections, 1);
    free(connection);
}

// ---- Requests ----

static void dispatch(pr_http_connection *connection)
{
    pr_http_hub *hub = connection->hub;
    pr_http_exchange *exchange = connection->exchange;
    connection->phase = PR_HTTP_OPEN;
    if (hub->params.cors_origin && strcmp(pr_http_method(exchange), "OPTIONS") == 0)
        pr_http_exchange_preflight(exchange);
    else
        hub->params.request(hub->params.context, exchange);
}

// Whether the body is wanted. Whoever does not want it has replied.
static bool wants_body(pr_http_connection *connection)
{
    pr_http_hub *hub = connection->hub;
    pr_http_message *message = &connection->exchange->message;
    bool close = message->close;
    if (!hub->params.head)
        return true;
    message->close = true;
    if (!hub->params.head(hub->params.context, connection->exchange))
        return false;
    message->close = close;
    return true;
}

static void begin_body(pr_http_connection *connection)
{
    struct evbuffer *output = bufferevent_get_output(connection->wire);
    if (!wants_body(connection))
        return;
    connection->phase = PR_HTTP_IN_BODY;
    if (connection->exchange->message.expects &&
        evbuffer_get_length(bufferevent_get_input(connection->wire)) == 0)
        evbuffer_add(output, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

// Feeds one piece of the input.
static void feed(pr_http_connection *connection, struct evbuffer *input)
{
    pr_http_hub *hub = connection->hub;
    pr_http_exchange *exchange = connection->exchange;
    struct evbuffer_iovec piece;
    size_t taken, held = pr_http_message_held_bytes(&exchange->message);
    if (evbuffer_peek(input, -1, NULL, &piece, 1) < 1)
        return;
    pr_http_progress progress =
        pr_http_message_feed(&exchange->message, piece.iov_base, piece.iov_len, &taken);
    evbuffer_drain(input, taken);
    hub->held_bytes += pr_http_message_held_bytes(&exchange->message) - held;
    connection->moved = true;
    if (progress == PR_HTTP_REFUSED)
        pr_http_exchange_refuse(exchange, exchange->message.status, exchange->message.reason);
    else if (hub->held_bytes > hub->params.most_held_bytes)
        pr_http_exchange_refuse(exchange, 503, "The server holds too many requests: try later.");
    else if (progress == PR_HTTP_HEAD)
        begin_body(connection);
    else if (progress == PR_HTTP_COMPLETE)
        dispatch(connection);
}

static void read_requests(pr_http_connection *connection)
{
    struct evbuffer *input = bufferevent_get_input(connection->wire);
    while (!connection->gone && evbuffer_get_length(input) > 0 &&
           (connection->phase == PR_HTTP_IDLE || connection->phase == PR_HTTP_IN_HEAD ||
            connection->phase == PR_HTTP_IN_BODY)) {
        // A client that asks again and again but does not read waits for its replies to leave.
        if (connection->phase == PR_HTTP_IDLE &&
            waiting_bytes(connection) > connection->hub->params.most_output_bytes)
            return;
        if (!connection->exchange) {
            connection->exchange = pr_http_exchange_begin(connection);
            connection->phase = PR_HTTP_IN_HEAD;
            connection->timed = PR_HTTP_UNTIMED;  // the timer starts anew
        }
        if (!connection->exchange)
            connection->gone = true;
        else
            feed(connection, input);
    }
    if (connection->phase >= PR_HTTP_CLOSING)
        evbuffer_drain(input, evbuffer_get_length(input));
}

// ---- Sending ----

// One sendmsg. The bufferevent keeps the front of its output frozen for itself.
static void send_now(pr_http_connection *connection, struct evbuffer *output)
{
    struct evbuffer_iovec piece[SEND_PIECES];
    int pieces = evbuffer_peek(output, -1, NULL, piece, SEND_PIECES);
    struct msghdr message = {
        .msg_iov = piece, .msg_iovlen = (size_t)(pieces < SEND_PIECES ? pieces : SEND_PIECES)};
    ssize_t sent;
    do {
        sent = sendmsg(bufferevent_getfd(connection->wire), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        connection->gone = true;
        return;
    }
    evbuffer_unfreeze(output, 1);
    evbuffer_drain(output, sent > 0 ? (size_t)sent : 0);
    evbuffer_freeze(output, 1);
}

void pr_http_connection_flush(pr_http_connection *connection)
{
    struct evbuffer *output = bufferevent_get_output(connection->wire);
    if (connection->sending || connection->gone || evbuffer_get_length(output) == 0)
        return;
    if (connection->hub->tls)
        bufferevent_enable(connection->wire, EV_WRITE);
    else
        send_now(connection, output);
    connection->sending = !connection->gone && evbuffer_get_length(output) > 0;
    if (connection->sending)
        bufferevent_enable(connection->wire, EV_WRITE);
    else
        bufferevent_disable(connection->wire, EV_WRITE);
}

// ---- Settling ----

static void end_sending(pr_http_connection *connection)
{
    if (connection->ended) {
        connection->gone = true;
        return;
    }
    if (connection->hub->tls)
        pr_http_tls_say_end(connection->wire);
    shutdown(bufferevent_getfd(connection->wire), SHUT_WR);
    connection->phase = PR_HTTP_LINGER;
}

// The client sends no more. That may be half a close, but it cannot be told from a whole one; whoever
// waits for a reply to come is taken as gone. A reply that is complete is still sent.
static void note_end(pr_http_connection *connection)
{
    if (connection->phase == PR_HTTP_CLOSING)
        return;
    if (connection->phase == PR_HTTP_IDLE && waiting_bytes(connection) > 0)
        connection->phase = PR_HTTP_CLOSING;
    else
        connection->gone = true;
}

static void note_late(pr_http_connection *connection)
{
    connection->late = false;
    connection->timed = PR_HTTP_UNTIMED;
    if (connection->phase == PR_HTTP_IN_HEAD || connection->phase == PR_HTTP_IN_BODY)
        pr_http_exchange_refuse(connection->exchange, 408, "The request took too long to arrive.");
    else if (!connection->sending)
        connection->gone = true;
}

// A head has one timer for all of it; each piece of a body starts the timer anew.
static void set_timer(pr_http_connection *connection)
{
    pr_http_phase phase = connection->phase;
    pr_http_hub *hub = connection->hub;
    bool again = connection->moved && (phase == PR_HTTP_IN_BODY || phase == PR_HTTP_IDLE);
    connection->moved = false;
    if (phase == connection->timed && !again)
        return;
    connection->timed = phase;
    event_del(&connection->timer);
    if (phase == PR_HTTP_OPEN || phase == PR_HTTP_CLOSING)
        return;
    event_add(
        &connection->timer, phase == PR_HTTP_IDLE     ? hub->idle_time
                            : phase == PR_HTTP_LINGER ? hub->linger_time
                                                      : hub->read_time);
}

// (The read watermark would do this, but libevent then calls on_bytes again and again.)
static void set_reading(pr_http_connection *connection)
{
    struct evbuffer *input = bufferevent_get_input(connection->wire);
    bool full = evbuffer_get_length(input) >= MOST_WAITING_BYTES;
    if (full && !connection->full)
        bufferevent_disable(connection->wire, EV_READ);
    else if (!full && connection->full && !connection->ended)
        bufferevent_enable(connection->wire, EV_READ);
    connection->full = full;
}

static void settle(pr_http_connection *connection)
{
    if (connection->late)
        note_late(connection);
    read_requests(connection);
    if (connection->ended)
        note_end(connection);
    if (connection->hub->stopping && connection->phase == PR_HTTP_IDLE)
        note_end(connection);
    if (connection->exchange && connection->exchange->cut)
        connection->gone = true;
    pr_http_connection_flush(connection);
    if (!connection->gone && connection->phase == PR_HTTP_CLOSING && waiting_bytes(connection) == 0)
        end_sending(connection);
    if (connection->gone) {
        drop(connection);
        return;
    }
    set_reading(connection);
    set_timer(connection);
    connection->unsettled = false;
    // The output made room for requests that were kept waiting.
    if (connection->phase == PR_HTTP_IDLE && !connection->sending &&
        evbuffer_get_length(bufferevent_get_input(connection->wire)) > 0)
        pr_http_connection_touch(connection);
}

void pr_http_connection_cut_all(pr_http_hub *hub)
{
    for (pr_http_connection *at = hub->all; at; at = at->next) {
        at->gone = true;
        pr_http_connection_touch(at);
    }
    pr_http_connection_settle_all(hub);
}

void pr_http_connection_settle_all(pr_http_hub *hub)
{
    while (hub->first_unsettled) {
        pr_http_connection *first = hub->first_unsettled;
        hub->first_unsettled = first->next_unsettled;
        if (!hub->first_unsettled)
            hub->last_unsettled = NULL;
        settle(first);
    }
}
