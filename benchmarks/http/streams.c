// SPDX-License-Identifier: BSD-3-Clause
// What serving costs: CPU of the server's thread per streamed event, or per plain request, with the client in
// the same process. Prints one JSON object; benchmarks/http/run makes a table of them.
//
//   streams streams N STEPS [PERIOD_MS]   N streams, one event for each of them every period
//   streams requests N COUNT              N connections that ask GET /health again and again
// An event is 230 bytes, as a chat.completion.chunk. The client checks how many bytes came.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "launcher/http/http_server.h"
#include "runtime/base/clock.h"

enum { EVENT_BYTES = 230, CHUNK_BYTES = EVENT_BYTES + 6, MOST_STREAMS = 16384 };

static struct {
    pr_http_server *server;
    pr_http_exchange *stream[MOST_STREAMS];
    int32_t streams, sent_steps, steps;
    atomic_int step, open;
    atomic_llong requests;
    char event[EVENT_BYTES];
} bench;

static void give_up(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

// ---- The server's side ----

static void on_request(void *context, pr_http_exchange *exchange)
{
    (void)context;
    if (strcmp(pr_http_path(exchange), "/health") == 0) {
        atomic_fetch_add(&bench.requests, 1);
        pr_http_reply(exchange, 200, "text/plain", "ok", 2);
        return;
    }
    pr_http_stream_begin(exchange, 200, "text/event-stream");
    bench.stream[bench.streams++] = exchange;
    atomic_fetch_add(&bench.open, 1);
}

static void on_aborted(void *context, pr_http_exchange *exchange)
{
    (void)context, (void)exchange;
    fprintf(stderr, "a stream was lost\n");
    exit(1);
}

static void on_woken(void *context)
{
    (void)context;
    int32_t step = atomic_load(&bench.step);
    for (; bench.sent_steps < step; bench.sent_steps++) {
        for (int32_t i = 0; i < bench.streams; i++)
            pr_http_stream_write(bench.stream[i], bench.event, EVENT_BYTES);
    }
    if (bench.sent_steps < bench.steps)
        return;
    for (int32_t i = 0; i < bench.streams; i++)
        pr_http_stream_end(bench.stream[i]);
    bench.streams = 0;
}

static void *serve(void *user)
{
    (void)user;
    if (pr_http_server_run(bench.server) != PR_OK)
        exit(1);
    return NULL;
}

static void *step_on(void *user)
{
    const int64_t period_ns = *(int *)user * INT64_C(1000000);
    int64_t next_ns = pr_clock_now_ns();
    for (int step = 1; step <= bench.steps; step++) {
        next_ns += period_ns;
        int64_t left_ns = next_ns - pr_clock_now_ns();
        if (left_ns > 0)
            usleep((useconds_t)(left_ns / 1000));
        atomic_store(&bench.step, step);
        pr_http_server_wake(bench.server);
    }
    return NULL;
}

static double cpu_us(pthread_t thread)
{
    clockid_t clock;
    struct timespec used;
    if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &used) != 0)
        give_up("CPU time");
    return (double)used.tv_sec * 1e6 + (double)used.tv_nsec * 1e-3;
}

// ---- The client's side ----

static void connect_all(int poll, int *client, int count)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)pr_http_server_port(bench.server)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < count; i++) {
        const int on = 1;
        client[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (client[i] < 0 || connect(client[i], (struct sockaddr *)&address, sizeof address) != 0)
            give_up("connect");
        setsockopt(client[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = client[i]};
        epoll_ctl(poll, EPOLL_CTL_ADD, client[i], &event);
    }
}

static void ask(int client, const char *path)
{
    char text[128];
    int bytes = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    if (send(client, text, (size_t)bytes, MSG_NOSIGNAL) != bytes)
        give_up("send");
}

// Reads until so many bytes of events have come on all streams together. Heads are counted apart.
static void read_streams(int poll, int64_t bytes)
{
    static char data[1 << 16];
    struct epoll_event ready[256];
    while (bytes > 0) {
        int count = epoll_wait(poll, ready, 256, 10000);
        if (count <= 0)
            give_up("nothing came for ten seconds");
        for (int i = 0; i < count; i++) {
            ssize_t got = recv(ready[i].data.fd, data, sizeof data, 0);
            if (got <= 0)
                give_up("recv");
            bytes -= got;
        }
    }
}

static void answer_requests(int poll, int64_t count)
{
    static char data[4096];
    struct epoll_event ready[256];
    for (int64_t done = 0; done < count;) {
        int events = epoll_wait(poll, ready, 256, 10000);
        if (events <= 0)
            give_up("nothing came for ten seconds");
        for (int i = 0; i < events; i++, done++) {
            // A reply is one send of the server, so it comes as one piece.
            if (recv(ready[i].data.fd, data, sizeof data, 0) <= 0)
                give_up("recv");
            ask(ready[i].data.fd, "/health");
        }
    }
}

// ---- Two measurements ----

static void measure_streams(pthread_t server, int count, int steps, int period_ms)
{
    static int client[MOST_STREAMS];
    static char head[4096];
    int poll = epoll_create1(0);
    bench.steps = steps;
    memset(bench.event, 'x', EVENT_BYTES);
    connect_all(poll, client, count);
    for (int i = 0; i < count; i++) {
        ask(client[i], "/stream");
        if (recv(client[i], head, sizeof head, 0) <= 0)
            give_up("recv");
    }
    pthread_t stepper;
    double from_us = cpu_us(server);
    int64_t from_ns = pr_clock_now_ns();
    pthread_create(&stepper, NULL, step_on, &period_ms);
    read_streams(poll, (int64_t)count * (steps * CHUNK_BYTES + 5));
    double events = (double)count * steps, used_us = cpu_us(server) - from_us;
    double wall_s = (double)(pr_clock_now_ns() - from_ns) * 1e-9;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    pthread_join(stepper, NULL);
    printf(
        "{\"what\":\"streams\",\"streams\":%d,\"steps\":%d,\"period_ms\":%d,\"cpu_us_per_event\":%."
        "3f,"
        "\"wall_s\":%.3f,\"traffic_s\":%.3f,\"most_rss_mib\":%.1f}\n",
        count, steps, period_ms, used_us / events, wall_s, steps * period_ms * 1e-3,
        (double)usage.ru_maxrss / 1024);
    for (int i = 0; i < count; i++)
        close(client[i]);
}

static void measure_requests(pthread_t server, int connections, int64_t count)
{
    static int client[MOST_STREAMS];
    int poll = epoll_create1(0);
    connect_all(poll, client, connections);
    for (int i = 0; i < connections; i++)
        ask(client[i], "/health");
    answer_requests(poll, count / 10);
    double from_us = cpu_us(server);
    int64_t from_ns = pr_clock_now_ns(), from = atomic_load(&bench.requests);
    answer_requests(poll, count);
    double done = (double)(atomic_load(&bench.requests) - from);
    printf(
        "{\"what\":\"requests\",\"connections\":%d,\"cpu_us_per_request\":%.3f,\"requests_per_s\":%"
        ".0f}\n",
        connections, (cpu_us(server) - from_us) / done,
        done / ((double)(pr_clock_now_ns() - from_ns) * 1e-9));
    for (int i = 0; i < connections; i++)
        close(client[i]);
}

int main(int argc, char **argv)
{
    int count = argc > 3 ? atoi(argv[2]) : 0, amount = argc > 3 ? atoi(argv[3]) : 0;
    if (count < 1 || count > MOST_STREAMS || amount < 1) {
        fprintf(stderr, "usage: streams streams|requests N STEPS|COUNT [PERIOD_MS]\n");
        return 2;
    }
    pr_http_params params = {.request = on_request, .aborted = on_aborted, .woken = on_woken};
    params.most_output_bytes = 64 << 20;
    pthread_t server;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (pr_http_server_create(&params, &bench.server) != PR_OK)
        return 1;
    pthread_create(&server, NULL, serve, NULL);
    if (strcmp(argv[1], "requests") == 0)
        measure_requests(server, count, amount);
    else
        measure_streams(server, count, amount, argc > 4 ? atoi(argv[4]) : 20);
    pr_http_server_stop(bench.server, 0);
    pthread_join(server, NULL);
    pr_http_server_destroy(bench.server);
    return 0;
}
