// SPDX-License-Identifier: BSD-3-Clause
// Frames over nonblocking TCP sockets: one connection between rank 0 and each other rank, one epoll
// set per endpoint. What the kernel does not take at once waits in the connection's out buffer.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "comm/control_link.h"
#include "runtime/base/log.h"

enum {
    IN_BYTES = 64 * 1024,
    READS_PER_TURN = 16,  // so that one busy peer does not starve the others
    EVENTS_PER_TURN = 64,
    OUT_KEPT_BYTES = 1024 * 1024,
};

typedef struct tcp_connection {
    int fd;  // -1: none
    int32_t peer;
    bool waits_for_room;  // EPOLLOUT is asked for
    bool deaf;            // writing failed: what was sent to us before may still be read
    char *out;            // [out_capacity], unsent bytes are [out_begin, out_end)
    size_t out_begin, out_end, out_capacity;
    char in[IN_BYTES];
    size_t in_end;
    pr_letter *letter;    // whose data is arriving
    size_t letter_bytes;  // of it arrived
} tcp_connection;

typedef struct tcp_state {
    pr_control *control;
    int32_t ranks;
    tcp_connection **connection;  // [ranks], NULL where there is none
    pr_tcp_door *door;            // rank 0, or NULL
} tcp_state;

static void close_connection(pr_control_link *link, tcp_connection *connection)
{
    if (connection->fd < 0)
        return;
    epoll_ctl(link->fd, EPOLL_CTL_DEL, connection->fd, NULL);
    close(connection->fd);
    connection->fd = -1;
    free(connection->letter);
    connection->letter = NULL;
}

static void watch(pr_control_link *link, tcp_connection *connection, bool waits_for_room)
{
    if (connection->waits_for_room == waits_for_room)
        return;
    connection->waits_for_room = waits_for_room;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (waits_for_room)
        event.events |= EPOLLOUT;
    epoll_ctl(link->fd, EPOLL_CTL_MOD, connection->fd, &event);
}

// Writing fails when the peer is gone; reading will say so after its last words.
static void become_deaf(pr_control_link *link, tcp_connection *connection)
{
    connection->deaf = true;
    connection->out_begin = connection->out_end = 0;
    watch(link, connection, false);
}

// Returns the bytes the kernel took, 0 if none now.
static size_t
write_some(pr_control_link *link, tcp_connection *connection, struct iovec *part, size_t parts)
{
    struct msghdr message = {.msg_iov = part, .msg_iovlen = parts};
    ssize_t sent;
    do
        sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return (size_t)sent;
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        become_deaf(link, connection);
    return 0;
}

static bool keep(tcp_connection *connection, const void *data, size_t size_bytes)
{
    if (connection->out_begin > 0) {
        memmove(
            connection->out, connection->out + connection->out_begin,
            connection->out_end - connection->out_begin);
        connection->out_end -= connection->out_begin;
        connection->out_begin = 0;
    }
    size_t need = connection->out_end + size_bytes;
    if (need > connection->out_capacity) {
        size_t capacity = need < 4096 ? 4096 : need + need / 2;
        char *grown = realloc(connection->out, capacity);
        if (!grown)
            return false;
        connection->out = grown;
        connection->out_capacity = capacity;
    }
    if (size_bytes)
        memcpy(connection->out + connection->out_end, data, size_bytes);
    connection->out_end += size_bytes;
    return true;
}

static void tcp_send(pr_control_link *link, int32_t to, const pr_frame *frame, const void *data)
{
    tcp_state *state = link->state;
    tcp_connection *connection = state->connection[to];
    if (!connection || connection->fd < 0 || connection->deaf)
        return;
    size_t size_bytes = frame->size_bytes, sent = 0;
    if (connection->out_begin == connection->out_end) {
        struct iovec part[2] = {
            {.iov_base = (void *)(uintptr_t)frame, .iov_len = sizeof *frame},
            {.iov_base = (void *)(uintptr_t)data, .iov_len = size_bytes}};
        sent = write_some(link, connection, part, size_bytes ? 2 : 1);
        if (connection->deaf || sent == sizeof *frame + size_bytes)
            return;
    }
    size_t of_frame = sent < sizeof *frame ? sent : sizeof *frame, of_data = sent - of_frame;
    bool kept =
        keep(connection, (const char *)frame + of_frame, sizeof *frame - of_frame) &&
        (size_bytes == 0 || keep(connection, (const char *)data + of_data, size_bytes - of_data));
    if (kept)
        watch(link, connection, true);
    else
        pr_control_lose(state->control, to, "cannot be sent to: out of memory");
}

static size_t tcp_queued_bytes(const pr_control_link *link, int32_t to)
{
    const tcp_state *state = link->state;
    const tcp_connection *connection = state->connection[to];
    return connection ? connection->out_end - connection->out_begin : 0;
}

static void write_out(pr_control_link *link, tcp_connection *connection)
{
    struct iovec part = {
        .iov_base = connection->out + connection->out_begin,
        .iov_len = connection->out_end - connection->out_begin};
    if (part.iov_len > 0)
        connection->out_begin += write_some(link, connection, &part, 1);
    if (connection->deaf || connection->out_begin < connection->out_end)
        return;
    connection->out_begin = connection->out_end = 0;
    if (connection->out_capacity > OUT_KEPT_BYTES) {
        free(connection->out);
        connection->out = NULL;
        connection->out_capacity = 0;
    }
    watch(link, connection, false);
}

static void finish_letter(pr_control_link *link, tcp_connection *connection)
{
    const tcp_state *state = link->state;
    pr_letter *letter = connection->letter;
    if (!letter || connection->letter_bytes < letter->frame.size_bytes)
        return;
    connection->letter = NULL;
    pr_control_deliver(state->control, connection->peer, letter);
}

// Takes whole frames, and the beginning of an incomplete one, out of the in buffer.
static const char *parse(pr_control_link *link, tcp_connection *connection)
{
    size_t at = 0;
    for (;;) {
        size_t left = connection->in_end - at;
        if (!connection->letter) {
            pr_frame frame;
            if (left < sizeof frame)
                break;
            memcpy(&frame, connection->in + at, sizeof frame);
            at += sizeof frame;
            left -= sizeof frame;
            const char *fault = pr_frame_fault(&frame);
            if (fault)
                return fault;
            connection->letter = pr_letter_create(&frame);
            connection->letter_bytes = 0;
            if (!connection->letter)
                return "cannot be heard: out of memory";
        }
        pr_letter *letter = connection->letter;
        size_t need = letter->frame.size_bytes - connection->letter_bytes;
        size_t taken = need < left ? need : left;
        memcpy((char *)letter->data + connection->letter_bytes, connection->in + at, taken);
        connection->letter_bytes += taken;
        at += taken;
        finish_letter(link, connection);
        if (connection->letter)
            break;
    }
    memmove(connection->in, connection->in + at, connection->in_end - at);
    connection->in_end -= at;
    return NULL;
}

// One recv: the rest of a large letter goes straight to its place. Returns what recv returned.
static ssize_t read_some(pr_control_link *link, tcp_connection *connection, const char **fault)
{
    pr_letter *letter = connection->letter;
    size_t need = letter ? letter->frame.size_bytes - connection->letter_bytes : 0;
    bool straight = need >= IN_BYTES && connection->in_end == 0;
    char *to = straight ? (char *)letter->data + connection->letter_bytes
                        : connection->in + connection->in_end;
    size_t room = straight ? need : IN_BYTES - connection->in_end;
    ssize_t got = recv(connection->fd, to, room, MSG_DONTWAIT);
    if (got <= 0)
        return got;
    if (straight) {
        connection->letter_bytes += (size_t)got;
        finish_letter(link, connection);
    } else {
        connection->in_end += (size_t)got;
        *fault = parse(link, connection);
    }
    return got;
}

static void read_in(pr_control_link *link, tcp_connection *connection)
{
    tcp_state *state = link->state;
    for (int32_t turn = 0; turn < READS_PER_TURN; turn++) {
        const char *fault = NULL;
        char reason[96];
        ssize_t got = read_some(link, connection, &fault);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (got == 0)
            fault = "closed its control connection";
        if (got < 0) {
            snprintf(reason, sizeof reason, "lost its control connection: %s", strerror(errno));
            fault = reason;
        }
        if (!fault)
            continue;
        pr_control_lose(state->control, connection->peer, fault);
        close_connection(link, connection);
        return;
    }
}

static bool adopt_socket(pr_control_link *link, int32_t peer, int fd)
{
    tcp_state *state = link->state;
    tcp_connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return false;
    connection->fd = fd;
    connection->peer = peer;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(link->fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        free(connection);
        return false;
    }
    state->connection[peer] = connection;
    return true;
}

// A process that replaces a lost rank; anyone else is sent away.
static void answer_door(pr_control_link *link)
{
    tcp_state *state = link->state;
    int32_t peer = 0;
    int fd = pr_control_tcp_door_accept(state->door, &peer);
    if (fd < 0)
        return;
    tcp_connection *old = state->connection[peer];
    bool free_place = !old || old->fd < 0;
    if (free_place && pr_control_welcome(state->control, peer)) {
        if (old)
            free(old->out);
        free(old);
        state->connection[peer] = NULL;
        if (adopt_socket(link, peer, fd))
            return;
        pr_control_lose(state->control, peer, "cannot be heard: out of memory");
    }
    close(fd);
}

static void tcp_progress(pr_control_link *link)
{
    struct epoll_event event[EVENTS_PER_TURN];
    int events = epoll_wait(link->fd, event, EVENTS_PER_TURN, 0);
    bool knocked = false;
    for (int i = 0; i < events; i++) {
        tcp_connection *connection = event[i].data.ptr;
        knocked = knocked || !connection;
        if (!connection)
            continue;
        if (connection->fd >= 0 && (event[i].events & EPOLLOUT))
            write_out(link, connection);
        if (connection->fd >= 0 && (event[i].events & ~(uint32_t)EPOLLOUT))
            read_in(link, connection);
    }
    if (knocked)  // last: it frees a connection
        answer_door(link);
}

static size_t tcp_invite(pr_control_link *link, void *buffer, size_t capacity_bytes)
{
    const tcp_state *state = link->state;
    return state->door ? pr_control_tcp_door_invite(state->door, buffer, capacity_bytes) : 0;
}

static bool tcp_arm(pr_control_link *link)
{
    (void)link;  // the epoll set is level-triggered: it stays readable until everything is read
    return true;
}

static void tcp_drop(pr_control_link *link, int32_t peer)
{
    tcp_state *state = link->state;
    if (state->connection[peer])
        close_connection(link, state->connection[peer]);
}

static void tcp_destroy(pr_control_link *link)
{
    tcp_state *state = link->state;
    for (int32_t i = 0; i < state->ranks; i++) {
        if (!state->connection[i])
            continue;
        close_connection(link, state->connection[i]);
        free(state->connection[i]->out);
        free(state->connection[i]);
    }
    close(link->fd);
    pr_control_tcp_door_close(state->door);
    free(state->connection);
    free(state);
    free(link);
}

static pr_status adopt_sockets(pr_control_link *link, const int *sockets)
{
    const tcp_state *state = link->state;
    for (int32_t i = 0; i < state->ranks; i++) {
        if (sockets[i] >= 0 && !adopt_socket(link, i, sockets[i]))
            return pr_fail(
                PR_ERR_RESOURCE, "no memory or no watch for control connections: %s",
                strerror(errno));
    }
    struct epoll_event event = {.events = EPOLLIN};
    if (state->door &&
        epoll_ctl(link->fd, EPOLL_CTL_ADD, pr_control_tcp_door_fd(state->door), &event) != 0)
        return pr_fail(PR_ERR_IO, "cannot watch for callers: %s", strerror(errno));
    return PR_OK;
}

// Takes the sockets and the door.
static pr_status create_link(
    int32_t ranks, pr_control *control, int *sockets, pr_tcp_door *door, pr_control_link **link)
{
    pr_control_link *created = calloc(1, sizeof *created);
    tcp_state *state = calloc(1, sizeof *state);
    tcp_connection **connections = calloc((size_t)ranks, sizeof(tcp_connection *));
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (!created || !state || !connections || fd < 0) {
        if (fd >= 0)
            close(fd);
        free(connections);
        free(state);
        free(created);
        free(sockets);
        pr_control_tcp_door_close(door);
        return pr_fail(PR_ERR_RESOURCE, "no memory or descriptor for the control connections");
    }
    *state =
        (tcp_state){.control = control, .ranks = ranks, .connection = connections, .door = door};
    *created = (pr_control_link){
        .name = "tcp",
        .fd = fd,
        .state = state,
        .send = tcp_send,
        .queued_bytes = tcp_queued_bytes,
        .progress = tcp_progress,
        .arm = tcp_arm,
        .drop = tcp_drop,
        .invite = tcp_invite,
        .destroy = tcp_destroy};
    pr_status status = adopt_sockets(created, sockets);
    free(sockets);
    if (status == PR_OK)
        *link = created;
    else
        tcp_destroy(created);
    return status;
}

pr_status pr_control_tcp_create(pr_world *world, pr_control *control, pr_control_link **link)
{
    int *sockets = NULL;
    pr_tcp_door *door = NULL;
    PR_TRY(pr_control_tcp_connect(world, &sockets, &door));
    return create_link(pr_world_ranks(world), control, sockets, door, link);
}

pr_status pr_control_tcp_join(
    pr_world *world,
    pr_control *control,
    const void *invitation,
    size_t size_bytes,
    pr_control_link **link)
{
    int *sockets = NULL;
    PR_TRY(pr_control_tcp_door_enter(world, invitation, size_bytes, &sockets));
    return create_link(pr_world_ranks(world), control, sockets, NULL, link);
}
