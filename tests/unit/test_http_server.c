// SPDX-License-Identifier: BSD-3-Clause
// The server over real sockets: requests, replies, streams, limits, times, stopping.
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
    client_send(&c, EXPECTING "Content-Length: 3\r\n\r\nabc");
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

static bool take_short_bodies(void *context, pr_http_exchange *exchange)
{
    (void)context;
    const char *length = pr_http_header(exchange, "content-length");
    if (length && strlen(length) < 4)
        return true;
    pr_http_reply(exchange, 403, "text/plain", "no", 2);
    return false;
}

// Refused at the head: the reply comes before the body, and neither 100 Continue nor a second request after it.
static void a_body_that_is_not_wanted_is_not_read(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.head = take_short_bodies});
    client c;
    client_open(&c, h);
    client_send(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
    expect_reply(&c, 200, "abc");
    client_send(&c, GET("/hello"));
    expect_reply(&c, 200, "hello");
    client_send(&c, EXPECTING "Content-Length: 99999\r\n\r\n");
    expect_reply(&c, 403, "no");
    assert_true(client_at_end(&c));
    client_close(&c);
    client_open(&c, h);
    client_send(&c, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 4000\r\n\r\n" GET("/hello"));
    expect_reply(&c, 403, "no");
    assert_true(client_at_end(&c));
    assert_int_equal(atomic_load(&h->requests), 2);
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

static void each_pipelined_head_has_its_own_time(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){.read_timeout_ms = 200});
    client c;
    client_open(&c, h);
    client_send(&c, "GET /hello HTTP/1.1\r\n");
    for (int i = 0; i < 6; i++) {
        usleep(60000);
        client_send(&c, HOST "\r\nGET /hello HTTP/1.1\r\n");
        expect_reply(&c, 200, "hello");
    }
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

static void a_stream_that_began_before_the_stop_is_finished(void **state)
{
    (void)state;
    harness *h = harness_begin((pr_http_params){0});
    client c;
    client_open(&c, h);
    client_send(&c, GET("/events?2"));
    assert_true(wait_for(&h->open, 1));
    pr_http_server_stop(h->server, 10000);
    usleep(20000);
    atomic_store(&h->step, 2);
    pr_http_server_wake(h->server);
    expect_reply(&c, 200, "data: stream 0 event 0\n\ndata: stream 0 event 1\n\n");
    assert_true(client_at_end(&c));
    assert_int_equal(atomic_load(&h->aborted), 0);
    client_close(&c);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_kept),
        cmocka_unit_test(http_1_0_is_closed_unless_asked),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(bodies_arrive_by_length_and_by_chunks),
        cmocka_unit_test(a_client_may_wait_for_100_continue),
        cmocka_unit_test(a_body_that_is_not_wanted_is_not_read),
        cmocka_unit_test(head_has_the_length_and_no_body),
        cmocka_unit_test(preflights_are_answered_by_the_server),
        cmocka_unit_test(limits_are_refused_with_an_error_object),
        cmocka_unit_test(slow_requests_get_408_and_idle_connections_end),
        cmocka_unit_test(each_pipelined_head_has_its_own_time),
        cmocka_unit_test(waiting_for_a_reply_has_no_limit),
        cmocka_unit_test(who_goes_away_is_aborted),
        cmocka_unit_test(a_complete_reply_is_sent_to_a_half_closed_client),
        cmocka_unit_test(a_burst_is_not_taken_for_a_slow_reader),
        cmocka_unit_test(ticks_come_and_wakes_are_merged),
        cmocka_unit_test(stopping_ends_idle_connections_and_finishes_replies),
        cmocka_unit_test(a_stream_that_began_before_the_stop_is_finished),
        cmocka_unit_test(after_the_grace_time_replies_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
