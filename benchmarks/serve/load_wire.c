// SPDX-License-Identifier: BSD-3-Clause
#include "benchmarks/serve/load_wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/log.h"

enum { EVENTS_PER_TURN = 512, READ_BYTES = 64 << 10 };

pr_status pr_load_loop_open(int32_t port, pr_load_loop *loop)
{
    *loop = (pr_load_loop){.epoll = epoll_create1(EPOLL_CLOEXEC), .port = port};
    if (loop->epoll < 0)
        return pr_fail(PR_ERR_IO, "no epoll: %s", strerror(errno));
    return PR_OK;
}

void pr_load_loop_close(pr_load_loop *loop) { close(loop->epoll); }

static void watch(pr_load_wire *wire, int operation)
{
    bool sends = wire->sent_bytes < wire->out.size_bytes;
    struct epoll_event event = {
        .events = EPOLLRDHUP | (wire->reads ? EPOLLIN : 0u) | (sends ? EPOLLOUT : 0u),
        .data.ptr = wire,
    };
    epoll_ctl(wire->loop->epoll, operation, wire->descriptor, &event);
}

pr_status pr_load_wire_open(
    pr_load_loop *loop,
    const pr_load_user *user,
    void *context,
    int receive_bytes,
    pr_load_wire **wire)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)loop->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int on = 1;
    pr_load_wire *made = calloc(1, sizeof *made);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!made || descriptor < 0) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no more connections: %s (ulimit -n)", strerror(errno));
    }
    if (receive_bytes > 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        int reason = errno;
        close(descriptor);
        free(made);
        return pr_fail(PR_ERR_PEER, "cannot connect to port %d: %s", loop->port, strerror(reason));
    }
    *made = (pr_load_wire){
        .loop = loop, .descriptor = descriptor, .user = user, .context = context, .reads = true};
    pr_load_reply_begin(&made->reply);
    watch(made, EPOLL_CTL_ADD);
    loop->open++;
    *wire = made;
    return PR_OK;
}

void pr_load_wire_close(pr_load_wire *wire, bool reset)
{
    const struct linger at_once = {.l_onoff = 1};
    wire->doomed = true;
    wire->resets |= reset;
    if (wire->busy)
        return;
    if (wire->resets)
        setsockopt(wire->descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(wire->descriptor);
    wire->loop->open--;
    pr_byte_buffer_free(&wire->out);
    free(wire);
}

static void send_out(pr_load_wire *wire)
{
    while (wire->sent_bytes < wire->out.size_bytes) {
        ssize_t sent = send(
            wire->descriptor, (const char *)wire->out.data + wire->sent_bytes,
            wire->out.size_bytes - wire->sent_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0)
            break;  // full; or broken, and reading will tell
        wire->sent_bytes += (size_t)sent;
    }
    if (wire->sent_bytes == wire->out.size_bytes) {
        pr_byte_buffer_clear(&wire->out);
        wire->sent_bytes = 0;
    }
}

void pr_load_wire_send(pr_load_wire *wire, const void *bytes, size_t size_bytes)
{
    bool waited = wire->out.size_bytes > 0;
    pr_byte_buffer_append(&wire->out, bytes, size_bytes);
    wire->waiting = true;
    send_out(wire);
    if (waited != (wire->out.size_bytes > 0))
        watch(wire, EPOLL_CTL_MOD);
}

void pr_load_wire_read(pr_load_wire *wire, bool reads)
{
    wire->reads = reads;
    watch(wire, EPOLL_CTL_MOD);
}

void pr_load_wire_end_sending(pr_load_wire *wire) { shutdown(wire->descriptor, SHUT_WR); }

static void tell_closed(pr_load_wire *wire, bool clean)
{
    wire->doomed = true;
    wire->user->closed(wire->context, wire, clean);
}

static void take_bytes(pr_load_wire *wire, const char *bytes, size_t size_bytes)
{
    wire->received_bytes += (int64_t)size_bytes;
    while (size_bytes > 0 && !wire->doomed) {
        size_t taken;
        pr_load_progress progress = pr_load_reply_feed(
            &wire->reply, bytes, size_bytes, &taken, wire->user->body, wire->context);
        if (progress == PR_LOAD_BROKEN) {
            wire->broken = true;
            tell_closed(wire, false);
            return;
        }
        bytes += taken;
        size_bytes -= taken;
        if (progress == PR_LOAD_MORE)
            continue;
        bool closes = wire->reply.closes;
        wire->waiting = false;
        wire->user->replied(wire->context, wire);
        pr_load_reply_begin(&wire->reply);
        wire->reply.closes = closes;
    }
}

static void receive(pr_load_wire *wire, size_t most_bytes)
{
    static char bytes[READ_BYTES];
    size_t asked = most_bytes < sizeof bytes ? most_bytes : sizeof bytes;
    ssize_t got = recv(wire->descriptor, bytes, asked, MSG_DONTWAIT);
    if (got > 0)
        take_bytes(wire, bytes, (size_t)got);
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        tell_closed(wire, got == 0 && (!wire->waiting || pr_load_reply_may_close(&wire->reply)));
}

void pr_load_wire_sip(pr_load_wire *wire, size_t size_bytes)
{
    wire->busy = true;
    receive(wire, size_bytes);
    wire->busy = false;
    if (wire->doomed)
        pr_load_wire_close(wire, false);
}

static void serve_wire(pr_load_wire *wire, uint32_t events)
{
    wire->busy = true;
    if (events & EPOLLOUT) {
        send_out(wire);
        watch(wire, EPOLL_CTL_MOD);
    }
    // A wire that does not read learns only that all is over.
    if (!wire->reads && (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)))
        tell_closed(wire, false);
    else if (wire->reads && (events & ~(uint32_t)EPOLLOUT))
        receive(wire, SIZE_MAX);
    wire->busy = false;
    if (wire->doomed)
        pr_load_wire_close(wire, false);
}

void pr_load_loop_turn(pr_load_loop *loop, int32_t timeout_ms)
{
    struct epoll_event event[EVENTS_PER_TURN];
    int events = epoll_wait(loop->epoll, event, EVENTS_PER_TURN, timeout_ms);
    for (int i = 0; i < events; i++)
        serve_wire(event[i].data.ptr, event[i].events);
}
