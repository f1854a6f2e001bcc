// SPDX-License-Identifier: BSD-3-Clause
// The server over real sockets: requests, replies, streams, limits, times, stopping.
#include <poll.h>
#include <sys/resource.h>

#include "http_harness.h"

#define HOST "Host: a\r\n"
#define EXPECTING "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

static void connections_are_kept(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    for (int i = 0; i < 3; i++) {
        client_send(&c, GET("/hello"));
        expect_reply(&c, 200, "hello");
    }
    client_send(&c, GET("/nowhere"));
    expect_reply(&c, 404, "not found");
    client_send(&c, GET("/none"));
    expect_reply(&c, 204, "");
    client_send(&c, "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    reply r = client_read(&c, false);
    assert_string_equal(reply_field(&r, "Connection"), "close");
    assert_non_null(reply_field(&r, "Date"));
    assert_string_equal(reply_field(&r, "X-Method"), "GET");
    assert_string_equal(reply_field(&r, "Content-Length"), "5");
    assert_null(reply_field(&r, "X-Injected"));
    assert_null(reply_field(&r, "X-Bad"));
    assert_true(client_at_end(&c));
    reply_free(&r);
    client_close(&c);
    harness_end(h);
}

static void http_1_0_is_closed_unless_asked(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    reply r = client_read(&c, false);
    assert_string_equal(reply_field(&r, "Connection"), "keep-alive");
    assert_string_equal(r.body, "hello");
    reply_free(&r);
    client_send(&c, "GET /hello HTTP/1.0\r\n\r\n");
    expect_reply(&c, 200, "hello");
    assert_true(client_at_end(&c));
    client_close(&c);
    // A stream has no length and no chunks then: it ends with the connection.
    client_open(&c, h);
    atomic_store(&h->step, 3);
    client_send(&c, "GET /events?3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_true(wait_for(&h->open, 1));
    pr_http_server_wake(h->server);
    r = client_read(&c, false);
    assert_null(reply_field(&r, "Transfer-Encoding"));
    assert_string_equal(
        r.body, "data: stream 0 event 0\n\ndata: stream 0 event 1\n\ndata: stream 0 event 2\n\n");
    reply_free(&r);
    client_close(&c);
    harness_end(h);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, GET("/later") GET("/hello") GET("/later"));
    client_send(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc" GET("/hello"));
    assert_true(wait_for(&h->open, 1));
    usleep(20000);
    assert_int_equal(atomic_load(&h->requests), 1);
    pr_http_server_wake(h->server);
    expect_reply(&c, 200, "later");
    expect_reply(&c, 200, "hello");
    assert_true(wait_for(&h->open, 1));
    pr_http_server_wake(h->server);
    expect_reply(&c, 200, "later");
    expect_reply(&c, 200, "abc");
    expect_reply(&c, 200, "hello");
    client_close(&c);
    harness_end(h);
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

static void bodies_arrive_by_length_and_by_chunks(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    const char *pieces[] = {
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r", "\nhel",
        "lo\r\n6;x", "\r\n world\r\n0\r\nT: x\r\n", "\r\n"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        client_send(&c, pieces[i]);
        usleep(2000);
    }
    expect_reply(&c, 200, "hello world");
    enum { BIG = 3000000 };
    char head[128], *body = malloc(BIG);
    for (size_t i = 0; i < BIG; i++)
        body[i] = pattern(i * 7);
    snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n", BIG);
    client_send(&c, head);
    client_send_bytes(&c, body, BIG);
    reply r = client_read(&c, false);
    assert_int_equal(r.bytes, BIG);
    assert_memory_equal(r.body, body, BIG);
    reply_free(&r);
    free(body);
    client_close(&c);
    harness_end(h);
}

static void a_client_may_wait_for_100_continue(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.most_body_bytes = 10});
    client c;
    client_open(&c, h);
    client_send(&c, EXPECTING "Content-Length: 3\r\n\r\n");
    expect_reply(&c, 100, "");
    client_send(&c, "abc");
    expect_reply(&c, 200, "abc");
    client_send(&c, EXPECTING "Content-Length: 11\r\n\r\n");
    expect_refusal(&c, 413);
    client_close(&c);
    client_open(&c, h);
    client_send(&c, "POST /echo HTTP/1.1\r\n" HOST "Expect: a-miracle\r\n\r\n");
    expect_refusal(&c, 417);
    client_close(&c);
    harness_end(h);
}

static void head_has_the_length_and_no_body(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, "HEAD /hello HTTP/1.1\r\n" HOST "\r\n");
    reply r = client_read(&c, true);
    assert_int_equal(r.status, 200);
    assert_string_equal(reply_field(&r, "Content-Length"), "5");
    reply_free(&r);
    atomic_store(&h->step, 2);
    client_send(&c, "HEAD /events?2 HTTP/1.1\r\n" HOST "\r\n");
    assert_true(wait_for(&h->open, 1));
    pr_http_server_wake(h->server);
    r = client_read(&c, true);
    assert_int_equal(r.status, 200);
    reply_free(&r);
    client_send(&c, GET("/hello"));
    expect_reply(&c, 200, "hello");
    client_close(&c);
    harness_end(h);
}

static void preflights_are_answered_by_the_server(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.cors_origin = "https://a.example"});
    client c;
    client_open(&c, h);
    client_send(
        &c, "OPTIONS /v1/models HTTP/1.1\r\n" HOST "Origin: https://a.example\r\n"
            "Access-Control-Request-Headers: authorization, x-custom\r\n\r\n");
    reply r = client_read(&c, false);
    assert_int_equal(r.status, 204);
    assert_string_equal(reply_field(&r, "Access-Control-Allow-Origin"), "https://a.example");
    assert_string_equal(reply_field(&r, "Access-Control-Allow-Headers"), "authorization, x-custom");
    assert_string_equal(reply_field(&r, "Vary"), "Origin");
    assert_non_null(strstr(reply_field(&r, "Access-Control-Allow-Methods"), "POST"));
    assert_null(reply_field(&r, "Content-Length"));
    reply_free(&r);
    assert_int_equal(atomic_load(&h->requests), 0);
    client_send(&c, GET("/hello"));
    r = client_read(&c, false);
    assert_string_equal(reply_field(&r, "Access-Control-Allow-Origin"), "https://a.example");
    reply_free(&r);
    client_close(&c);
    harness_end(h);
    h = harness_begin((pr_http_params){0});
    client_open(&c, h);
    client_send(&c, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
    expect_reply(&c, 404, "not found");
    client_close(&c);
    harness_end(h);
}

static void limits_are_refused_with_an_error_object(void **state)
{
    static const struct {
        const char *text;
        int status;
    } table[] = {
        {"GET /hello HTTP/1.1\r\n\r\n", 400},
        {"nonsense\r\n\r\n", 400},
        {"\x16\x03\x01\x02\x03", 400},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 101\r\n\r\n", 413},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n65\r\n", 413},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 501},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"GET /hello HTTP/1.1\r\n" HOST "A: "
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aa\r\n",
         431},
        {"GET "
         "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaa"
         "aaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\n",
         414},
    };
    (void)state;
    harness *h = harness_begin((pr_http_params){.most_body_bytes = 100, .most_head_bytes = 200});
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        client c;
        client_open(&c, h);
        client_send(&c, table[i].text);
        expect_refusal(&c, table[i].status);
        client_close(&c);
    }
    assert_int_equal(atomic_load(&h->requests), 0);
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

static void slow_requests_get_408_and_idle_connections_end(void **state)
{
    static const char *const begun[] = {
        "GET /hello HTTP/1.1\r\nHo", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nab",
        "G"};
    (void)state;
    harness *h = harness_begin((pr_http_params){.read_timeout_ms = 150, .idle_timeout_ms = 300});
    client c;
    for (size_t i = 0; i < sizeof begun / sizeof *begun; i++) {
        client_open(&c, h);
        client_send(&c, begun[i]);
        int64_t from_ns = pr_clock_now_ns();
        expect_refusal(&c, 408);
        assert_true(pr_clock_now_ns() - from_ns > 100000000);
        client_close(&c);
    }
    client_open(&c, h);
    int64_t from_ns = pr_clock_now_ns();
    assert_true(client_at_end(&c));
    assert_true(pr_clock_now_ns() - from_ns > 250000000);
    client_close(&c);
    // Bytes that drip do not give a head more time, but each piece of a body does.
    client_open(&c, h);
    client_send(&c, "GET /hello HTTP/1.1\r\nA: ");
    for (int i = 0; i < 6; i++) {
        usleep(40000);
        if (send(c.descriptor, "a", 1, MSG_NOSIGNAL) < 0)
            break;
    }
    expect_refusal(&c, 408);
    client_close(&c);
    client_open(&c, h);
    client_send(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n");
    for (int i = 0; i < 5; i++) {
        usleep(60000);
        client_send(&c, "x");
    }
    expect_reply(&c, 200, "xxxxx");
    client_close(&c);
    harness_end(h);
}

static void waiting_for_a_reply_has_no_limit(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.read_timeout_ms = 50, .idle_timeout_ms = 50});
    client c;
    client_open(&c, h);
    client_send(&c, GET("/later"));
    usleep(200000);
    pr_http_server_wake(h->server);
    expect_reply(&c, 200, "later");
    assert_true(client_at_end(&c));
    client_close(&c);
    harness_end(h);
}

static void who_goes_away_is_aborted(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, GET("/hold"));
    assert_true(wait_for(&h->open, 1));
    client_close(&c);
    assert_true(wait_for(&h->aborted, 1));
    client_open(&c, h);
    client_send(&c, GET("/events?5"));
    assert_true(wait_for(&h->open, 1));
    client_close(&c);
    assert_true(wait_for(&h->aborted, 2));
    // Half a close counts as one.
    client_open(&c, h);
    client_send(&c, GET("/hold"));
    shutdown(c.descriptor, SHUT_WR);
    assert_true(wait_for(&h->aborted, 3));
    assert_true(client_at_end(&c));
    client_close(&c);
    // A reset too.
    client_open(&c, h);
    client_send(&c, GET("/hold"));
    assert_true(wait_for(&h->open, 1));
    const struct linger at_once = {.l_onoff = 1};
    setsockopt(c.descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    client_close(&c);
    assert_true(wait_for(&h->aborted, 4));
    harness_end(h);
}

static void a_complete_reply_is_sent_to_a_half_closed_client(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, GET("/hello") GET("/size?5000000"));
    shutdown(c.descriptor, SHUT_WR);
    usleep(50000);
    expect_reply(&c, 200, "hello");
    reply r = client_read(&c, false);
    assert_int_equal(r.bytes, 5000000);
    for (size_t i = 0; i < r.bytes; i += 997)
        assert_int_equal(r.body[i], pattern(i));
    reply_free(&r);
    assert_true(client_at_end(&c));
    assert_int_equal(atomic_load(&h->aborted), 0);
    client_close(&c);
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

static void a_burst_is_not_taken_for_a_slow_reader(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, GET("/burst"));
    reply r = client_read(&c, false);
    assert_int_equal(r.bytes, OUTPUT_LIMIT / 8 * 12);
    reply_free(&r);
    client_close(&c);
    harness_end(h);
}

static void ticks_come_and_wakes_are_merged(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.tick_ms = 5});
    assert_true(wait_for(&h->ticks, 5));
    for (int i = 0; i < 1000; i++)
        pr_http_server_wake(h->server);
    assert_true(wait_for(&h->wakes, 1));
    assert_true(atomic_load(&h->wakes) <= 1000);
    harness_end(h);
}

static void stopping_ends_idle_connections_and_finishes_replies(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client idle, busy;
    client_open(&idle, h);
    client_send(&idle, GET("/hello"));
    expect_reply(&idle, 200, "hello");
    client_open(&busy, h);
    client_send(&busy, GET("/later"));
    assert_true(wait_for(&h->open, 1));
    pr_http_server_stop(h->server, 10000);
    assert_true(client_at_end(&idle));
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)pr_http_server_port(h->server)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int late = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(late, (struct sockaddr *)&address, sizeof address), -1);
    assert_int_equal(errno, ECONNREFUSED);
    close(late);
    pr_http_server_wake(h->server);
    reply r = client_read(&busy, false);
    assert_string_equal(r.body, "later");
    assert_string_equal(reply_field(&r, "Connection"), "close");
    reply_free(&r);
    assert_true(client_at_end(&busy));
    client_close(&idle);
    client_close(&busy);
    harness_join(h);
}

static void after_the_grace_time_replies_are_cut(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, GET("/hold"));
    assert_true(wait_for(&h->open, 1));
    int64_t from_ns = pr_clock_now_ns();
    pr_http_server_stop(h->server, 200);
    assert_true(client_at_end(&c));
    assert_true(pr_clock_now_ns() - from_ns > 150000000);
    assert_int_equal(atomic_load(&h->aborted), 1);
    client_close(&c);
    harness_join(h);
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
        cmocka_unit_test(connections_are_kept),
        cmocka_unit_test(http_1_0_is_closed_unless_asked),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(a_client_that_asks_and_never_reads_is_held_back),
        cmocka_unit_test(bodies_arrive_by_length_and_by_chunks),
        cmocka_unit_test(a_client_may_wait_for_100_continue),
        cmocka_unit_test(head_has_the_length_and_no_body),
        cmocka_unit_test(preflights_are_answered_by_the_server),
        cmocka_unit_test(limits_are_refused_with_an_error_object),
        cmocka_unit_test(a_refusal_is_read_by_a_client_that_still_sends),
        cmocka_unit_test(requests_together_have_a_limit),
        cmocka_unit_test(connections_beyond_the_limit_get_503),
        cmocka_unit_test(slow_requests_get_408_and_idle_connections_end),
        cmocka_unit_test(waiting_for_a_reply_has_no_limit),
        cmocka_unit_test(who_goes_away_is_aborted),
        cmocka_unit_test(a_complete_reply_is_sent_to_a_half_closed_client),
        cmocka_unit_test(a_reader_that_stops_is_aborted),
        cmocka_unit_test(a_burst_is_not_taken_for_a_slow_reader),
        cmocka_unit_test(ticks_come_and_wakes_are_merged),
        cmocka_unit_test(stopping_ends_idle_connections_and_finishes_replies),
        cmocka_unit_test(after_the_grace_time_replies_are_cut),
        cmocka_unit_test(two_thousand_streams_keep_their_bytes_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
