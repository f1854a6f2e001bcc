// SPDX-License-Identifier: BSD-3-Clause
// Builds the star of TCP connections. Rank 0 listens, its addresses and a random cookie go around
// over MPI, the others try the addresses in order. Each side proves to be of this job: the caller
// sends {cookie, rank}, rank 0 answers with a mix of both. Strangers are closed.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm/control_link.h"
#include "comm/recovery.h"
#include "runtime/base/clock.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

enum {
    MAX_ADDRESSES = 16,
    ADDRESS_BYTES = 64,
    HOST_BYTES = 64,
    CONNECT_MS = 3000,  // one attempt
    HELLO_MS = 2000,    // a caller's silence at rank 0
    ANSWER_MS = 5000,   // rank 0 may be busy with other callers
    JOIN_MS = 30000,    // all of it
};

typedef struct tcp_invitation {
    int32_t good;  // rank 0 listens
    int32_t addresses;
    uint64_t cookie;
    char port[8];
    char address[MAX_ADDRESSES][ADDRESS_BYTES];  // numeric, as text
} tcp_invitation;

typedef struct tcp_hello {
    uint64_t cookie;
    uint64_t rank;
} tcp_hello;

static uint64_t answer_to(uint64_t cookie, uint64_t rank)
{
    return pr_hash_mix(cookie + 0x9e3779b97f4a7c15u * (rank + 1));
}

static int32_t left_ms(int64_t deadline_ns)
{
    int64_t left = (deadline_ns - pr_clock_now_ns()) / 1000000;
    return left < 0 ? 0 : (int32_t)left;
}

static pr_status is_single_host(pr_world *world, bool *single)
{
    char mine[HOST_BYTES] = "";
    char *all = calloc((size_t)pr_world_ranks(world), HOST_BYTES);
    if (!all)
        return pr_fail(PR_ERR_RESOURCE, "no memory for host names");
    gethostname(mine, sizeof mine - 1);
    pr_status status = pr_world_gather_all(world, mine, all, HOST_BYTES);
    *single = true;
    for (int32_t i = 0; i < pr_world_ranks(world); i++)
        *single = *single && memcmp(all, all + (size_t)i * HOST_BYTES, HOST_BYTES) == 0;
    free(all);
    return status;
}

static void add_address(tcp_invitation *invitation, const char *text)
{
    if (invitation->addresses < MAX_ADDRESSES)
        snprintf(invitation->address[invitation->addresses++], ADDRESS_BYTES, "%s", text);
}

// This host's addresses that others may reach: IPv4 first.
static void list_addresses(tcp_invitation *invitation)
{
    static const int families[] = {AF_INET, AF_INET6};
    struct ifaddrs *interfaces = NULL;
    if (getifaddrs(&interfaces) != 0)
        interfaces = NULL;
    for (size_t f = 0; f < 2; f++) {
        for (struct ifaddrs *i = interfaces; i; i = i->ifa_next) {
            char text[ADDRESS_BYTES];
            if (!i->ifa_addr || i->ifa_addr->sa_family != families[f] || !(i->ifa_flags & IFF_UP) ||
                (i->ifa_flags & IFF_LOOPBACK))
                continue;
            const void *address =
                families[f] == AF_INET
                    ? (const void *)&((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr
                    : &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr;
            if (families[f] == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)address))
                continue;
            if (inet_ntop(families[f], address, text, sizeof text))
                add_address(invitation, text);
        }
    }
    if (interfaces)
        freeifaddrs(interfaces);
    if (invitation->addresses == 0)
        add_address(invitation, "127.0.0.1");
}

// Opens a listening socket: on the loopback, or on all IPv4 and IPv6 addresses. -1 with errno.
static int open_listener(bool loopback, int family)
{
    struct sockaddr_in any4 = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY)};
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), off = 0;
    if (fd < 0)
        return -1;
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    const struct sockaddr *address =
        family == AF_INET ? (struct sockaddr *)&any4 : (struct sockaddr *)&any6;
    socklen_t length = family == AF_INET ? sizeof any4 : sizeof any6;
    if (bind(fd, address, length) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

static int invite(bool single_host, tcp_invitation *invitation)
{
    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    int fd = single_host ? -1 : open_listener(false, AF_INET6);
    if (fd < 0)
        fd = open_listener(single_host, AF_INET);
    if (fd < 0 || getsockname(fd, (struct sockaddr *)&bound, &length) != 0 ||
        getrandom(&invitation->cookie, sizeof invitation->cookie, 0) !=
            (ssize_t)sizeof invitation->cookie) {
        pr_log(PR_LOG_ERROR, "cannot listen for control connections: %s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    in_port_t port = bound.ss_family == AF_INET
                         ? ((struct sockaddr_in *)(void *)&bound)->sin_port
                         : ((struct sockaddr_in6 *)(void *)&bound)->sin6_port;
    snprintf(invitation->port, sizeof invitation->port, "%u", (unsigned)ntohs(port));
    if (single_host)
        add_address(invitation, "127.0.0.1");
    else
        list_addresses(invitation);
    invitation->good = 1;
    return fd;
}

static void set_blocking(int fd, bool blocking)
{
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

static void limit_read(int fd, int32_t limit_ms)
{
    struct timeval limit = {.tv_sec = limit_ms / 1000, .tv_usec = limit_ms % 1000 * 1000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

// Connected, blocking; -1 if the address does not answer.
static int connect_to(const char *address, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *found;
    if (getaddrinfo(address, port, &hints, &found) != 0)
        return -1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool connected = fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0;
    if (fd >= 0 && !connected && errno == EINPROGRESS) {
        struct pollfd watched = {.fd = fd, .events = POLLOUT};
        int fault = 0;
        socklen_t length = sizeof fault;
        connected = poll(&watched, 1, CONNECT_MS) == 1 &&
                    getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &length) == 0 && fault == 0;
    }
    freeaddrinfo(found);
    if (connected) {
        set_blocking(fd, true);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

// One address: -1 unless rank 0 of this job answers there.
static int join_at(const tcp_invitation *invitation, const char *address, int32_t rank)
{
    int fd = connect_to(address, invitation->port);
    if (fd < 0)
        return -1;
    tcp_hello hello = {.cookie = invitation->cookie, .rank = (uint64_t)rank};
    uint64_t answer = 0;
    limit_read(fd, ANSWER_MS);
    if (send(fd, &hello, sizeof hello, MSG_NOSIGNAL) == (ssize_t)sizeof hello &&
        recv(fd, &answer, sizeof answer, MSG_WAITALL) == (ssize_t)sizeof answer &&
        answer == answer_to(invitation->cookie, hello.rank))
        return fd;
    close(fd);
    return -1;
}

static pr_status join(const tcp_invitation *invitation, int32_t rank, int *socket)
{
    int64_t deadline_ns = pr_clock_now_ns() + (int64_t)JOIN_MS * 1000000;
    do {
        for (int32_t i = 0; i < invitation->addresses; i++) {
            *socket = join_at(invitation, invitation->address[i], rank);
            if (*socket >= 0)
                return PR_OK;
        }
        poll(NULL, 0, 50);
    } while (left_ms(deadline_ns) > 0);
    return pr_fail(
        PR_ERR_PEER, "cannot reach rank 0 at %s port %s (%d addresses tried for %d s)",
        invitation->address[0], invitation->port, invitation->addresses, JOIN_MS / 1000);
}

// Accepts one caller; a second call of a rank replaces its first, which it has given up.
static void accept_one(const tcp_invitation *invitation, int listener, int32_t ranks, int *sockets)
{
    tcp_hello hello;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    limit_read(fd, HELLO_MS);
    bool known = recv(fd, &hello, sizeof hello, MSG_WAITALL) == (ssize_t)sizeof hello &&
                 hello.cookie == invitation->cookie && hello.rank > 0 &&
                 hello.rank < (uint64_t)ranks;
    uint64_t answer = known ? answer_to(hello.cookie, hello.rank) : 0;
    if (!known || send(fd, &answer, sizeof answer, MSG_NOSIGNAL) != (ssize_t)sizeof answer) {
        close(fd);
        return;
    }
    if (sockets[hello.rank] >= 0)
        close(sockets[hello.rank]);
    sockets[hello.rank] = fd;
}

static pr_status
accept_all(const tcp_invitation *invitation, int listener, int32_t ranks, int *sockets)
{
    int64_t deadline_ns = pr_clock_now_ns() + (int64_t)JOIN_MS * 1000000;
    for (;;) {
        int32_t missing = -1;
        for (int32_t i = 1; i < ranks && missing < 0; i++)
            missing = sockets[i] < 0 ? i : -1;
        if (missing < 0)
            return PR_OK;
        struct pollfd watched = {.fd = listener, .events = POLLIN};
        if (left_ms(deadline_ns) == 0)
            return pr_fail(
                PR_ERR_TIMEOUT, "rank %d did not connect to the control plane within %d s", missing,
                JOIN_MS / 1000);
        if (poll(&watched, 1, left_ms(deadline_ns)) > 0)
            accept_one(invitation, listener, ranks, sockets);
    }
}

static void finish_sockets(int32_t ranks, const int *sockets)
{
    for (int32_t i = 0; i < ranks; i++) {
        int on = 1;
        if (sockets[i] < 0)
            continue;
        limit_read(sockets[i], 0);
        set_blocking(sockets[i], false);
        setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
}

struct pr_tcp_door {
    int listener;
    int32_t ranks;
    tcp_invitation invitation;
};

// Takes the listener.
static pr_status
keep_door(const tcp_invitation *invitation, int listener, int32_t ranks, pr_tcp_door **door)
{
    pr_tcp_door *kept = calloc(1, sizeof *kept);
    if (!kept) {
        close(listener);
        return pr_fail(PR_ERR_RESOURCE, "no memory to go on listening");
    }
    *kept = (pr_tcp_door){.listener = listener, .ranks = ranks, .invitation = *invitation};
    *door = kept;
    return PR_OK;
}

void pr_control_tcp_door_close(pr_tcp_door *door)
{
    if (!door)
        return;
    close(door->listener);
    free(door);
}

int pr_control_tcp_door_fd(const pr_tcp_door *door) { return door->listener; }

size_t pr_control_tcp_door_invite(const pr_tcp_door *door, void *buffer, size_t capacity_bytes)
{
    if (capacity_bytes < sizeof door->invitation)
        return 0;
    memcpy(buffer, &door->invitation, sizeof door->invitation);
    return sizeof door->invitation;
}

int pr_control_tcp_door_accept(const pr_tcp_door *door, int32_t *rank)
{
    int *sockets = malloc((size_t)door->ranks * sizeof *sockets), found = -1;
    for (int32_t i = 0; sockets && i < door->ranks; i++)
        sockets[i] = -1;
    if (sockets)
        accept_one(&door->invitation, door->listener, door->ranks, sockets);
    for (int32_t i = 0; sockets && i < door->ranks; i++) {
        if (sockets[i] < 0)
            continue;
        found = sockets[i];
        *rank = i;
    }
    if (found >= 0)
        finish_sockets(door->ranks, sockets);
    free(sockets);
    return found;
}

pr_status
pr_control_tcp_door_enter(pr_world *world, const void *invitation, size_t size_bytes, int **sockets)
{
    int32_t ranks = pr_world_ranks(world);
    tcp_invitation invited;
    if (size_bytes != sizeof invited)
        return pr_fail(PR_ERR_INTERNAL, "an invitation of %zu bytes", size_bytes);
    memcpy(&invited, invitation, sizeof invited);
    int *created = malloc((size_t)ranks * sizeof *created);
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for control connections");
    for (int32_t i = 0; i < ranks; i++)
        created[i] = -1;
    pr_status status = join(&invited, pr_world_rank(world), &created[0]);
    if (status != PR_OK) {
        free(created);
        return status;
    }
    finish_sockets(ranks, created);
    *sockets = created;
    return PR_OK;
}

static pr_status connect_star(pr_world *world, int *sockets, pr_tcp_door **door)
{
    int32_t rank = pr_world_rank(world), ranks = pr_world_ranks(world);
    bool single_host = false;
    tcp_invitation invitation = {0};
    int listener = -1;
    PR_TRY(is_single_host(world, &single_host));
    if (rank == 0)
        listener = invite(single_host, &invitation);
    pr_status status = pr_world_broadcast(world, &invitation, sizeof invitation);
    if (status == PR_OK && !invitation.good)
        status = PR_ERR_IO;
    else if (status == PR_OK && rank == 0)
        status = accept_all(&invitation, listener, ranks, sockets);
    else if (status == PR_OK)
        status = join(&invitation, rank, &sockets[0]);
    if (listener >= 0 && status == PR_OK && pr_recovery_is_possible())
        status = keep_door(&invitation, listener, ranks, door);
    else if (listener >= 0)
        close(listener);
    int64_t failed = status != PR_OK;
    PR_TRY(pr_world_max(world, &failed));
    return status == PR_OK && failed ? PR_ERR_PEER : status;
}

pr_status pr_control_tcp_connect(pr_world *world, int **sockets, pr_tcp_door **door)
{
    int32_t ranks = pr_world_ranks(world);
    int *created = malloc((size_t)ranks * sizeof *created);
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for control connections");
    for (int32_t i = 0; i < ranks; i++)
        created[i] = -1;
    *door = NULL;
    pr_status status = connect_star(world, created, door);
    if (status == PR_OK) {
        finish_sockets(ranks, created);
        *sockets = created;
        return PR_OK;
    }
    for (int32_t i = 0; i < ranks; i++) {
        if (created[i] >= 0)
            close(created[i]);
    }
    free(created);
    return status;
}
