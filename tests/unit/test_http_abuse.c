// SPDX-License-Identifier: BSD-3-Clause
// The server under clients that are many, slow, greedy or mad.
#include <sys/resource.h>

#include "http_harness.h"

#define HOST "Host: a\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

static double cpu_s(const harness *h)
{
    clockid_t clock;
    struct timespec used;
    pthread_getcpuclockid(h->thread, &clock);
    clock_gettime(clock, &used);
    return (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
}

static void is_quiet(const harness *h)
{
    double from_s = cpu_s(h);
    usleep(200000);
    assert_true(cpu_s(h) - from_s < 0.05);
}

static void a_client_that_asks_and_never_reads_is_held_back(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.read_timeout_ms = 300});
    client c;
    client_open(&c, h);
    // 2,000 requests for 1 MB each: a few are answered, then the stuck reader is closed.
    char *many = malloc(2000 * 64);
    size_t bytes = 0;
    for (int i = 0; i < 2000; i++)
        bytes += (size_t)sprintf(many + bytes, "%s", GET("/size?1000000"));
    for (size_t done = 0; done < bytes;) {
        ssize_t sent = send(c.descriptor, many + done, bytes - done, MSG_NOSIGNAL);
        if (sent <= 0)
            break;
        done += (size_t)sent;
    }
    usleep(600000);
    assert_true(atomic_load(&h->requests) < 50);
    assert_int_equal(pr_http_server_connections(h->server), 0);
    free(many);
    client_close(&c);
    harness_end(h);
}

static void a_refusal_is_read_by_a_client_that_still_sends(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.most_body_bytes = 1000});
    for (int round = 0; round < 20; round++) {
        client c;
        char filler[20000];
        memset(filler, 'x', sizeof filler);
        client_open(&c, h);
        client_send(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 500000\r\n\r\n");
        for (int i = 0; i < 25; i++)
            client_send_bytes(&c, filler, sizeof filler);
        expect_refusal(&c, 413);
        client_close(&c);
    }
    harness_end(h);
}

static void a_reader_that_stops_is_aborted(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, GET("/flood"));
    assert_true(wait_for(&h->open, 1));
    for (int i = 0; i < 1000 && atomic_load(&h->aborted) == 0; i++) {
        pr_http_server_wake(h->server);
        usleep(1000);
    }
    assert_int_equal(atomic_load(&h->aborted), 1);
    client_close(&c);
    // One that holds less than the limit is found by time.
    harness_end(h);
    h = harness_begin((pr_http_params){.most_output_bytes = 64 << 20, .read_timeout_ms = 200});
    client_open(&c, h);
    client_send(&c, GET("/flood"));
    assert_true(wait_for(&h->open, 1));
    for (int i = 0; i < 160; i++) {
        pr_http_server_wake(h->server);
        usleep(1000);
    }
    assert_true(wait_for(&h->aborted, 1));
    client_close(&c);
    harness_end(h);
}

static void requests_together_have_a_limit(void **state)
{
    (void)state;
    harness *h =
        harness_begin((pr_http_params){.most_body_bytes = 100000, .most_held_bytes = 200000});
    client first, second;
    char body[90000];
    memset(body, 'x', sizeof body);
    client_open(&first, h);
    client_send(&first, "POST /later HTTP/1.1\r\n" HOST "Content-Length: 90000\r\n\r\n");
    client_send_bytes(&first, body, sizeof body);
    assert_true(wait_for(&h->open, 1));
    client_open(&second, h);
    client_send(&second, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 90000\r\n\r\n");
    client_send_bytes(&second, body, sizeof body);
    expect_refusal(&second, 503);
    client_close(&second);
    pr_http_server_wake(h->server);
    expect_reply(&first, 200, "later");
    client_send(&first, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 90000\r\n\r\n");
    client_send_bytes(&first, body, sizeof body);
    reply r = client_read(&first, false);
    assert_int_equal(r.bytes, sizeof body);
    reply_free(&r);
    client_close(&first);
    harness_end(h);
}

static void connections_beyond_the_limit_get_503(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.most_connections = 2});
    client c[3];
    for (int i = 0; i < 2; i++) {
        client_open(&c[i], h);
        client_send(&c[i], GET("/hello"));
        expect_reply(&c[i], 200, "hello");
    }
    client_open(&c[2], h);
    reply r = client_read(&c[2], false);
    assert_int_equal(r.status, 503);
    assert_string_equal(reply_field(&r, "Retry-After"), "1");
    reply_free(&r);
    client_close(&c[2]);
    client_close(&c[0]);
    for (int i = 0; i < 1000 && pr_http_server_connections(h->server) > 1; i++)
        usleep(1000);
    client_open(&c[0], h);
    client_send(&c[0], GET("/hello"));
    expect_reply(&c[0], 200, "hello");
    client_close(&c[0]);
    client_close(&c[1]);
    harness_end(h);
}

static void a_full_input_waits_quietly(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, GET("/later"));
    assert_true(wait_for(&h->open, 1));
    for (int i = 0; i < 3000; i++)
        client_send(&c, GET("/none"));
    is_quiet(h);
    assert_int_equal(atomic_load(&h->requests), 1);
    pr_http_server_wake(h->server);
    expect_reply(&c, 200, "later");
    for (int i = 0; i < 3000; i++)
        expect_reply(&c, 204, "");
    client_close(&c);
    harness_end(h);
}

static void bytes_that_wait_are_bounded(void **state)
{
    (void)state;
    enum { FAR_TOO_MANY = 64 << 20 };
    harness *h = harness_begin((pr_http_params){0});
    client c;
    static char filler[1 << 16];
    size_t total = 0;
    client_open(&c, h);
    client_send(&c, GET("/hold"));
    assert_true(wait_for(&h->open, 1));
    // Until the sockets' buffers are full and stay so.
    for (int stuck = 0; stuck < 50 && total < FAR_TOO_MANY;) {
        ssize_t sent = send(c.descriptor, filler, sizeof filler, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0)
            total += (size_t)sent;
        else
            usleep(1000);
        stuck = sent > 0 ? 0 : stuck + 1;
    }
    assert_true(total < FAR_TOO_MANY);
    client_close(&c);
    harness_end(h);
}

static void without_descriptors_connections_wait_quietly(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.most_connections = 100});
    client c, late;
    client_open(&c, h);
    client_send(&c, GET("/hello"));
    expect_reply(&c, 200, "hello");
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)pr_http_server_port(h->server)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    late.bytes = 0;
    late.descriptor = socket(AF_INET, SOCK_STREAM, 0);
    struct rlimit limit, none;
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    assert_int_equal(connect(late.descriptor, (struct sockaddr *)&address, sizeof address), 0);
    client_send(&late, GET("/hello"));
    is_quiet(h);
    assert_int_equal(pr_http_server_connections(h->server), 1);
    client_send(&c, GET("/hello"));
    expect_reply(&c, 200, "hello");
    setrlimit(RLIMIT_NOFILE, &limit);
    expect_reply(&late, 200, "hello");
    client_close(&c);
    client_close(&late);
    harness_end(h);
}

// Bytes at random, or a good request with some of them wrong or the end missing.
static size_t make_garbage(char *data, size_t room)
{
    static const char good[] =
        "POST /echo?a=b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        "GET /size?9999 HTTP/1.1\r\nHost: a\r\n\r\nGET /events?3 HTTP/1.1\r\n"
        "Host: a\r\n\r\n";
    size_t bytes = (size_t)rand() % (rand() % 4 ? sizeof good : room);
    if (rand() % 4 == 0 || bytes > sizeof good - 1) {
        for (size_t i = 0; i < bytes; i++)
            data[i] = (char)rand();
        return bytes;
    }
    memcpy(data, good, bytes);
    for (int i = rand() % 4; i > 0 && bytes > 0; i--)
        data[(size_t)rand() % bytes] = "\r\n :;\0\xffzA0"[rand() % 11];
    return bytes;
}

static void garbage_does_no_harm(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.read_timeout_ms = 2000});
    static char data[20000], rest[1 << 16];
    atomic_store(&h->step, 1);
    for (int i = 0; i < 1500; i++) {
        client c;
        client_open(&c, h);
        size_t bytes = make_garbage(data, sizeof data);
        for (size_t at = 0; at < bytes;) {
            size_t piece = 1 + (size_t)rand() % 4000;
            ssize_t sent = send(
                c.descriptor, data + at, piece < bytes - at ? piece : bytes - at, MSG_NOSIGNAL);
            if (sent <= 0)
                break;
            at += (size_t)sent;
        }
        if (rand() % 2) {
            shutdown(c.descriptor, SHUT_WR);
            while (recv(c.descriptor, rest, sizeof rest, 0) > 0)
                continue;
        }
        if (i % 16 == 0)
            pr_http_server_wake(h->server);
        client_close(&c);
    }
    client c;
    client_open(&c, h);
    client_send(&c, GET("/hello"));
    expect_reply(&c, 200, "hello");
    client_close(&c);
    harness_end(h);
}

// ---- Many streams ----

enum { STREAMS = 2000, EVENTS = 40 };

typedef struct many {
    harness *h;
    atomic_bool over;
} many;

static void *wake_steps(void *user)
{
    many *m = user;
    for (int step = 1; step <= EVENTS; step++) {
        atomic_store(&m->h->step, step);
        pr_http_server_wake(m->h->server);
        usleep(2000);
    }
    return NULL;
}

// Chunks of one event each, as the server writes them.
static void expected_stream(int id, char *text, size_t size)
{
    size_t at = 0;
    for (int i = 0; i < EVENTS; i++) {
        char event[64];
        int bytes = snprintf(event, sizeof event, "data: stream %d event %d\n\n", id, i);
        at += (size_t)snprintf(text + at, size - at, "%x\r\n%s\r\n", (unsigned)bytes, event);
    }
    snprintf(text + at, size - at, "0\r\n\r\n");
}

static void two_thousand_streams_keep_their_bytes_apart(void **state)
{
    (void)state;
    struct rlimit limit = {.rlim_cur = 2 * STREAMS + 512};
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    limit.rlim_max = before.rlim_max;
    if (before.rlim_cur < limit.rlim_cur && setrlimit(RLIMIT_NOFILE, &limit) != 0)
        skip();
    many m = {.h = harness_begin((pr_http_params){0})};
    client *c = calloc(STREAMS, sizeof *c);
    for (int i = 0; i < STREAMS; i++) {
        char head[128];
        client_open(&c[i], m.h);
        snprintf(
            head, sizeof head, "GET /events?%d HTTP/1.1\r\n" HOST "X-Id: %d\r\n\r\n", EVENTS, i);
        client_send(&c[i], head);
    }
    assert_true(wait_for(&m.h->open, STREAMS));
    pthread_t waker;
    assert_int_equal(pthread_create(&waker, NULL, wake_steps, &m), 0);
    for (int i = 0; i < STREAMS; i++) {
        static char expected[EVENTS * 64];
        reply r = {0};
        read_head(&c[i], &r);
        expected_stream(i, expected, sizeof expected);
        take_body(&c[i], &r, strlen(expected));
        assert_string_equal(r.body, expected);
        assert_int_equal(c[i].bytes, 0);
        reply_free(&r);
        client_close(&c[i]);
    }
    pthread_join(waker, NULL);
    assert_int_equal(atomic_load(&m.h->aborted), 0);
    free(c);
    harness_end(m.h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_asks_and_never_reads_is_held_back),
        cmocka_unit_test(a_full_input_waits_quietly),
        cmocka_unit_test(a_refusal_is_read_by_a_client_that_still_sends),
        cmocka_unit_test(a_reader_that_stops_is_aborted),
        cmocka_unit_test(requests_together_have_a_limit),
        cmocka_unit_test(connections_beyond_the_limit_get_503),
        cmocka_unit_test(bytes_that_wait_are_bounded),
        cmocka_unit_test(without_descriptors_connections_wait_quietly),
        cmocka_unit_test(garbage_does_no_harm),
        cmocka_unit_test(two_thousand_streams_keep_their_bytes_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
