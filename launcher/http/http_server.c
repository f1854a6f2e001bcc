// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/http/http_server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launcher/http/http_connection.h"
#include "launcher/http/http_listen.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum {
    MOST_TARGET_BYTES = 8192,
    LEAST_HELD_BYTES = 64 << 20,  // unless given
    LINGER_MS = 1000,
    ACCEPT_PAUSE_MS = 100,
    ACCEPTS_PER_PASS = 64,
    WARNING_PAUSE_S = 60,
    SPARE_DESCRIPTORS = 256,  // of the process, besides connections
};

struct pr_http_server {
    pr_http_hub hub;
    pr_http_listen listening;
    int wake_descriptor;
    struct event *accept_event, *wake_event, *tick_event, *pause_event, *grace_event;
    atomic_bool woken;
    atomic_int grace_ms;  // -1 until stopped
    bool cut;             // the grace time is over
    int64_t warned_ns;
};

static struct timeval time_of(int32_t ms)
{
    return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

// ---- Accepting ----

// Without a bound and without reading, since this client is not to cost anything.
static void refuse_connection(const pr_http_hub *hub, int descriptor)
{
    static const char reply[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        "Retry-After: 1\r\nConnection: close\r\n\r\n"
        "{\"error\":{\"message\":\"The server has too many connections: try later.\","
        "\"type\":\"server_error\",\"param\":null,\"code\":null}}";
    char rest[4096];
    if (!hub->tls) {
        send(descriptor, reply, sizeof reply - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        shutdown(descriptor, SHUT_WR);
        // Unread bytes would turn the close into a reset, and the reply might be lost.
        while (recv(descriptor, rest, sizeof rest, MSG_DONTWAIT) == sizeof rest)
            continue;
    }
    close(descriptor);
}

static void pause_accepting(pr_http_server *server, int reason)
{
    struct timeval pause = time_of(ACCEPT_PAUSE_MS);
    int64_t now_ns = pr_clock_now_ns();
    event_del(server->accept_event);
    event_add(server->pause_event, &pause);
    if (server->warned_ns && now_ns - server->warned_ns < WARNING_PAUSE_S * INT64_C(1000000000))
        return;
    server->warned_ns = now_ns;
    pr_log(
        PR_LOG_WARN, "connections wait, %d are open: %s (more descriptors: ulimit -n)",
        atomic_load(&server->hub.connections), strerror(reason));
}

static void on_connection(evutil_socket_t listener, short what, void *user)
{
    (void)what;
    pr_http_server *server = user;
    pr_http_hub *hub = &server->hub;
    for (int i = 0; i < ACCEPTS_PER_PASS; i++) {
        int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                pause_accepting(server, errno);
            return;
        }
        if (atomic_load(&hub->connections) >= hub->params.most_connections)
            refuse_connection(hub, descriptor);
        else
            pr_http_connection_accept(hub, descriptor);
    }
}

static void on_pause_over(evutil_socket_t descriptor, short what, void *user)
{
    (void)descriptor, (void)what;
    pr_http_server *server = user;
    if (!server->hub.stopping)
        event_add(server->accept_event, NULL);
}

// ---- Stopping ----

static void on_grace_over(evutil_socket_t descriptor, short what, void *user)
{
    (void)descriptor, (void)what;
    pr_http_server *server = user;
    server->cut = true;
}

static void begin_stop(pr_http_server *server)
{
    struct timeval grace = time_of(atomic_load(&server->grace_ms));
    server->hub.stopping = true;
    event_del(server->accept_event);
    pr_http_listen_close(&server->listening);
    event_add(server->grace_event, &grace);
    for (pr_http_connection *at = server->hub.all; at; at = at->next)
        pr_http_connection_touch(at);
}

// ---- The loop ----

static void on_wake(evutil_socket_t descriptor, short what, void *user)
{
    (void)what;
    pr_http_server *server = user;
    pr_http_hub *hub = &server->hub;
    uint64_t count;
    if (read(descriptor, &count, sizeof count) < 0)
        return;
    if (atomic_exchange(&server->woken, false) && hub->params.woken)
        hub->params.woken(hub->params.context);
    if (atomic_load(&server->grace_ms) >= 0 && !hub->stopping)
        begin_stop(server);
}

static void on_tick(evutil_socket_t descriptor, short what, void *user)
{
    (void)descriptor, (void)what;
    pr_http_server *server = user;
    server->hub.params.tick(server->hub.params.context);
}

static void ring(pr_http_server *server)
{
    const uint64_t one = 1;
    int kept = errno;
    // Fails only when the counter is full, and then the loop is awake anyway.
    ssize_t written = write(server->wake_descriptor, &one, sizeof one);
    (void)written;
    errno = kept;
}

void pr_http_server_wake(pr_http_server *server)
{
    if (!atomic_exchange(&server->woken, true))
        ring(server);
}

void pr_http_server_stop(pr_http_server *server, int32_t grace_ms)
{
    atomic_store(&server->grace_ms, grace_ms > 0 ? grace_ms : 0);
    ring(server);
}

// libevent writes with writev, which raises SIGPIPE. It goes to the thread that wrote, so it is kept from
// this thread, and what came is taken away before the mask is restored.
static void hold_sigpipe(bool hold, sigset_t *before)
{
    const struct timespec no_time = {0};
    sigset_t pipe_only;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    if (hold) {
        pthread_sigmask(SIG_BLOCK, &pipe_only, before);
        return;
    }
    if (!sigismember(before, SIGPIPE))
        sigtimedwait(&pipe_only, NULL, &no_time);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

pr_status pr_http_server_run(pr_http_server *server)
{
    pr_http_hub *hub = &server->hub;
    pr_status status = PR_OK;
    sigset_t before;
    hold_sigpipe(true, &before);
    while (status == PR_OK && !server->cut && !(hub->stopping && !hub->all)) {
        if (event_base_loop(hub->base, EVLOOP_ONCE) < 0)
            status = pr_fail(PR_ERR_IO, "the HTTP server's event loop failed: %s", strerror(errno));
        pr_http_connection_settle_all(hub);
    }
    pr_http_connection_cut_all(hub);
    event_base_loop(hub->base, EVLOOP_NONBLOCK);  // libevent closes freed sockets in its loop
    hold_sigpipe(false, &before);
    return status;
}

// ---- Create and destroy ----

static void set_defaults(pr_http_params *params)
{
    params->most_head_bytes = params->most_head_bytes ? params->most_head_bytes : 32 << 10;
    params->most_body_bytes = params->most_body_bytes ? params->most_body_bytes : 64 << 20;
    if (params->most_held_bytes == 0)
        params->most_held_bytes = params->most_body_bytes > LEAST_HELD_BYTES / 8
                                      ? 8 * params->most_body_bytes
                                      : LEAST_HELD_BYTES;
    params->most_output_bytes = params->most_output_bytes ? params->most_output_bytes : 1 << 20;
    params->most_connections = params->most_connections ? params->most_connections : 20000;
    params->read_timeout_ms = params->read_timeout_ms ? params->read_timeout_ms : 30000;
    params->idle_timeout_ms = params->idle_timeout_ms ? params->idle_timeout_ms : 75000;
}

// As many connections as descriptors allow, after asking for more of them.
static void fit_descriptors(int32_t *most_connections)
{
    struct rlimit limit;
    rlim_t needed = (rlim_t)*most_connections + SPARE_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed)
        return;
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max < needed ? limit.rlim_max : needed;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        limit.rlim_cur = before;
    if (limit.rlim_cur < needed && limit.rlim_cur > 2 * SPARE_DESCRIPTORS)
        *most_connections = (int32_t)limit.rlim_cur - SPARE_DESCRIPTORS;
}

static const struct timeval *queue_of(struct event_base *base, int32_t ms)
{
    struct timeval duration = time_of(ms);
    return event_base_init_common_timeout(base, &duration);
}

static pr_status make_events(pr_http_server *server)
{
    pr_http_hub *hub = &server->hub;
    struct event_config *config = event_config_new();
    if (config) {
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        hub->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    if (!hub->base)
        return pr_fail(PR_ERR_RESOURCE, "cannot make an event loop: %s", strerror(errno));
    hub->read_time = queue_of(hub->base, hub->params.read_timeout_ms);
    hub->idle_time = queue_of(hub->base, hub->params.idle_timeout_ms);
    hub->linger_time = queue_of(hub->base, LINGER_MS);
    server->wake_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (server->wake_descriptor < 0)
        return pr_fail(PR_ERR_RESOURCE, "cannot make an eventfd: %s", strerror(errno));
    const short again = EV_READ | EV_PERSIST;
    server->accept_event =
        event_new(hub->base, server->listening.descriptor, again, on_connection, server);
    server->wake_event = event_new(hub->base, server->wake_descriptor, again, on_wake, server);
    server->tick_event = event_new(hub->base, -1, EV_PERSIST, on_tick, server);
    server->pause_event = event_new(hub->base, -1, 0, on_pause_over, server);
    server->grace_event = event_new(hub->base, -1, 0, on_grace_over, server);
    if (!server->accept_event || !server->wake_event || !server->tick_event ||
        !server->pause_event || !server->grace_event || !hub->read_time || !hub->idle_time ||
        !hub->linger_time)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the HTTP server's events");
    struct timeval tick = time_of(hub->params.tick_ms);
    if (event_add(server->accept_event, NULL) != 0 || event_add(server->wake_event, NULL) != 0 ||
        (hub->params.tick && hub->params.tick_ms > 0 && event_add(server->tick_event, &tick) != 0))
        return pr_fail(PR_ERR_RESOURCE, "cannot watch the HTTP server's socket");
    return PR_OK;
}

pr_status pr_http_server_create(const pr_http_params *params, pr_http_server **server)
{
    pr_status status;
    pr_http_server *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the HTTP server");
    made->wake_descriptor = made->listening.descriptor = -1;
    atomic_init(&made->grace_ms, -1);
    made->hub.params = *params;
    set_defaults(&made->hub.params);
    made->hub.limits = (pr_http_limits){
        .most_head_bytes = made->hub.params.most_head_bytes,
        .most_target_bytes = MOST_TARGET_BYTES,
        .most_body_bytes = made->hub.params.most_body_bytes};
    fit_descriptors(&made->hub.params.most_connections);
    if (params->certificate || params->key)
        PR_TRY_GOTO(pr_http_tls_open(params->certificate, params->key, &made->hub.tls), undo);
    PR_TRY_GOTO(
        pr_http_listen_open(params->host, params->port, params->uds, &made->listening), undo);
    PR_TRY_GOTO(make_events(made), undo);
    *server = made;
    return PR_OK;
undo:
    pr_http_server_destroy(made);
    return status;
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

void pr_http_server_destroy(pr_http_server *server)
{
    if (!server)
        return;
    free_event(server->accept_event);
    free_event(server->wake_event);
    free_event(server->tick_event);
    free_event(server->pause_event);
    free_event(server->grace_event);
    pr_http_listen_close(&server->listening);
    if (server->hub.base)
        event_base_free(server->hub.base);
    pr_http_tls_close(server->hub.tls);
    if (server->wake_descriptor >= 0)
        close(server->wake_descriptor);
    free(server);
}

int32_t pr_http_server_port(const pr_http_server *server) { return server->listening.port; }

int32_t pr_http_server_connections(const pr_http_server *server)
{
    return atomic_load(&server->hub.connections);
}
