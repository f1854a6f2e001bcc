// SPDX-License-Identifier: BSD-3-Clause
// The request parser: what it takes, what it refuses, and that it does not matter how bytes are cut.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "launcher/http/http_message.h"

static const pr_http_limits limits = {
    .most_head_bytes = 1024, .most_target_bytes = 200, .most_body_bytes = 100};

// Everything at once. The caller ends the message.
static pr_http_progress
feed_all(pr_http_message *message, const char *data, size_t bytes, size_t *taken)
{
    pr_http_progress progress;
    *taken = 0;
    pr_http_message_begin(message, &limits);
    do {
        size_t more;
        progress = pr_http_message_feed(message, data + *taken, bytes - *taken, &more);
        *taken += more;
    } while (progress == PR_HTTP_HEAD);
    return progress;
}

// In pieces of `piece` bytes, or of random sizes if it is 0.
static pr_http_progress
feed_pieces(pr_http_message *message, const char *data, size_t bytes, size_t piece, size_t *taken)
{
    pr_http_progress progress = PR_HTTP_MORE;
    *taken = 0;
    pr_http_message_begin(message, &limits);
    while (*taken < bytes && (progress == PR_HTTP_MORE || progress == PR_HTTP_HEAD)) {
        size_t size = piece ? piece : 1 + (size_t)rand() % 9, more;
        if (size > bytes - *taken)
            size = bytes - *taken;
        progress = pr_http_message_feed(message, data + *taken, size, &more);
        assert_true(more == size || progress != PR_HTTP_MORE);
        *taken += more;
    }
    return progress == PR_HTTP_HEAD ? PR_HTTP_MORE : progress;
}

static void check_same(const pr_http_message *one, const pr_http_message *other)
{
    assert_int_equal(one->status, other->status);
    assert_true(one->reason == other->reason);
    assert_int_equal(one->text_bytes, other->text_bytes);
    if (one->text_bytes > 0)
        assert_memory_equal(one->text, other->text, one->text_bytes);
    assert_int_equal(one->body_bytes, other->body_bytes);
    if (one->body_bytes > 0)
        assert_memory_equal(one->body, other->body, one->body_bytes);
    assert_int_equal(one->fields, other->fields);
    assert_int_equal(one->path, other->path);
    assert_int_equal(one->query, other->query);
}

// Parses at once and compares with byte by byte and with random cuts.
static pr_http_progress
parse_bytes(pr_http_message *message, const char *data, size_t bytes, size_t *taken)
{
    pr_http_progress progress = feed_all(message, data, bytes, taken);
    for (size_t round = 0; round < 12; round++) {
        pr_http_message other;
        size_t other_taken;
        size_t piece = round == 0 ? 1 : round == 1 ? 2 : 0;
        assert_int_equal(feed_pieces(&other, data, bytes, piece, &other_taken), progress);
        assert_int_equal(other_taken, *taken);
        check_same(message, &other);
        pr_http_message_end(&other);
    }
    return progress;
}

static void parse(pr_http_message *message, const char *text)
{
    size_t taken;
    assert_int_equal(parse_bytes(message, text, strlen(text), &taken), PR_HTTP_COMPLETE);
    assert_int_equal(taken, strlen(text));
}

static void refused_bytes(const char *data, size_t bytes, int32_t status)
{
    pr_http_message message;
    size_t taken;
    if (parse_bytes(&message, data, bytes, &taken) != PR_HTTP_REFUSED || message.status != status)
        fail_msg("%.60s: %d instead of %d", data, (int)message.status, (int)status);
    assert_non_null(message.reason);
    pr_http_message_end(&message);
}

static void refused(const char *text, int32_t status) { refused_bytes(text, strlen(text), status); }

#define HEAD_1_1 "POST /x HTTP/1.1\r\nHost: a\r\n"

static void a_request_has_its_parts(void **state)
{
    (void)state;
    pr_http_message message;
    parse(
        &message, "GET /v1/models?limit=1&x=%20 HTTP/1.1\r\nHost: h:80\r\nX-One:  a b \t\r\n"
                  "x-one: second\r\nEmpty:\r\nUtf: \xc3\xa9\r\n\r\n");
    assert_string_equal(pr_http_message_method(&message), "GET");
    assert_string_equal(pr_http_message_path(&message), "/v1/models");
    assert_string_equal(pr_http_message_query(&message), "limit=1&x=%20");
    assert_string_equal(pr_http_message_field(&message, "X-ONE"), "a b");
    assert_string_equal(pr_http_message_field(&message, "empty"), "");
    assert_string_equal(pr_http_message_field(&message, "UTF"), "\xc3\xa9");
    assert_null(pr_http_message_field(&message, "x-on"));
    assert_true(pr_http_message_keeps_alive(&message));
    assert_int_equal(message.body_bytes, 0);
    pr_http_message_end(&message);
}

static void paths_are_decoded_and_absolute_forms_are_cut(void **state)
{
    static const struct {
        const char *target, *path, *query;
    } table[] = {
        {"/", "/", ""},
        {"/a%20b%2Fc%c3%A9", "/a b/c\xc3\xa9", ""},
        {"/?", "/", ""},
        {"/a?b?c", "/a", "b?c"},
        {"http://host:80/a/b?c=d", "/a/b", "c=d"},
        {"HTTPS://host", "/", ""},
        {"http://h?q", "/", "q"},
        {"//double", "//double", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[256];
        pr_http_message message;
        snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", table[i].target);
        parse(&message, text);
        assert_string_equal(pr_http_message_path(&message), table[i].path);
        assert_string_equal(pr_http_message_query(&message), table[i].query);
        assert_string_equal(pr_http_message_field(&message, "host"), "a");
        pr_http_message_end(&message);
    }
    pr_http_message message;
    parse(&message, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_string_equal(pr_http_message_path(&message), "*");
    assert_string_equal(pr_http_message_query(&message), "");
    pr_http_message_end(&message);
}

static void malformed_targets_are_refused(void **state)
{
    (void)state;
    refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET /%0 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET /% HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET /%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400);
}

static void a_body_has_the_declared_length(void **state)
{
    (void)state;
    pr_http_message message;
    size_t taken;
    const char *text = HEAD_1_1 "Content-Length: 5\r\n\r\nhelloGET";
    assert_int_equal(parse_bytes(&message, text, strlen(text), &taken), PR_HTTP_COMPLETE);
    assert_int_equal(taken, strlen(text) - 3);
    assert_string_equal(message.body, "hello");
    pr_http_message_end(&message);
    parse(&message, HEAD_1_1 "Content-Length: 0\r\n\r\n");
    assert_int_equal(message.body_bytes, 0);
    pr_http_message_end(&message);
    parse(&message, HEAD_1_1 "Content-Length: 2, 2\r\nContent-Length: 02\r\n\r\nab");
    assert_int_equal(message.body_bytes, 2);
    pr_http_message_end(&message);
}

static void chunks_are_joined_and_their_extras_dropped(void **state)
{
    (void)state;
    pr_http_message message;
    parse(
        &message, HEAD_1_1 "Transfer-Encoding: Chunked\r\n\r\n"
                           "5\r\nhello\r\n0001;name=\"v\";x\r\n \r\nA\r\n0123456789\r\n"
                           "0;last\r\nTrailer: dropped\r\nX: y\r\n\r\n");
    assert_string_equal(message.body, "hello 0123456789");
    assert_null(pr_http_message_field(&message, "trailer"));
    assert_string_equal(pr_http_message_field(&message, "host"), "a");
    pr_http_message_end(&message);
    parse(&message, HEAD_1_1 "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_int_equal(message.body_bytes, 0);
    pr_http_message_end(&message);
}

static void ambiguous_framing_is_refused(void **state)
{
    (void)state;
    refused(HEAD_1_1 "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    refused(HEAD_1_1 "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", 400);
    refused(HEAD_1_1 "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400);
    refused(HEAD_1_1 "Content-Length: 5, 6\r\n\r\n", 400);
    refused(HEAD_1_1 "Content-Length: 5,\r\n\r\n", 400);
    refused(HEAD_1_1 "Content-Length:\r\n\r\n", 400);
    refused(HEAD_1_1 "Content-Length: +5\r\n\r\n", 400);
    refused(HEAD_1_1 "Content-Length: -5\r\n\r\n", 400);
    refused(HEAD_1_1 "Content-Length: 0x5\r\n\r\n", 400);
    refused(HEAD_1_1 "Content-Length: 5 5\r\n\r\n", 400);
    refused(HEAD_1_1 "Transfer-Encoding: gzip, chunked\r\n\r\n", 501);
    refused(HEAD_1_1 "Transfer-Encoding: identity\r\n\r\n", 501);
    refused(HEAD_1_1 "Transfer-Encoding: chunked, chunked\r\n\r\n", 501);
    refused(HEAD_1_1 "Transfer-Encoding: xchunked\r\n\r\n", 501);
    refused(HEAD_1_1 "Transfer-Encoding:\r\n\r\n", 501);
    refused(HEAD_1_1 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
}

static void malformed_chunks_are_refused(void **state)
{
    static const char *const table[] = {
        "g\r\n",
        ";x\r\n",
        "\r\n",
        " 5\r\n",
        "5 \r\n",
        "0x5\r\n",
        "-1\r\n",
        "5\nhello\r\n",
        "5\r\nhello\n",
        "5\r\nhelloo\r\n",
        "5\r\rhello",
        "5;\x01\r\n",
        "00000000000000005\r\n",
        "10000000000000005\r\n",
        "0\r\nno colon\r\n",
        "0\r\n folded: x\r\n",
        "0\r\nx: \x01\r\n",
        "0\r\n\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[256];
        snprintf(text, sizeof text, "%sTransfer-Encoding: chunked\r\n\r\n%s", HEAD_1_1, table[i]);
        refused(text, 400);
    }
    refused(HEAD_1_1 "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413);
}

static void malformed_heads_are_refused(void **state)
{
    (void)state;
    refused(HEAD_1_1 "A: b\r\n c\r\n\r\n", 400);
    refused(HEAD_1_1 "A: b\r\n\tc\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400);
    refused("GET / HTTP/1.1\nHost: a\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\r\n\n", 400);
    refused(HEAD_1_1 "A: b\rC: d\r\n\r\n", 400);
    refused(HEAD_1_1 "A : b\r\n\r\n", 400);
    refused(HEAD_1_1 ": b\r\n\r\n", 400);
    refused(HEAD_1_1 "A\r\n\r\n", 400);
    refused(HEAD_1_1 "A(b): c\r\n\r\n", 400);
    refused(HEAD_1_1 "A: \x01\r\n\r\n", 400);
    refused(HEAD_1_1 "A: b\x7f\r\n\r\n", 400);
    refused_bytes("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 29, 400);
    refused_bytes("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 28, 400);
    refused_bytes("GE\0 / HTTP/1.1\r\n", 16, 400);
    refused_bytes("GET / HTTP/1.1\r\nHo\0st: a\r\n\r\n", 29, 400);
}

static void malformed_request_lines_are_refused(void **state)
{
    (void)state;
    refused("GET  / HTTP/1.1\r\n", 400);
    refused("GET /  HTTP/1.1\r\n", 400);
    refused("GET / HTTP/1.1 \r\n", 400);
    refused(" GET / HTTP/1.1\r\n", 400);
    refused("GET /\r\n", 400);
    refused("GET / http/1.1\r\n", 400);
    refused("GET / HTTP/1\r\n", 400);
    refused("GET / HTTP/1.10\r\n", 400);
    refused("GET / HTTP/x.1\r\n", 400);
    refused("GET\t/ HTTP/1.1\r\n", 400);
    refused("G@T / HTTP/1.1\r\n", 400);
    refused("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ / HTTP/1.1\r\n", 400);
    refused("\x16\x03\x01\x02", 400);
    refused("\r\n\r\nGET / HTTP/1.1\r\n", 400);
    refused("\nGET / HTTP/1.1\r\n", 400);
}

static void other_versions_are_refused(void **state)
{
    (void)state;
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    refused("GET / HTTP/1.2\r\n", 505);
    refused("GET / HTTP/0.9\r\n", 505);
    refused("GET / HTTP/3.0\r\n", 505);
}

static void hosts_are_checked(void **state)
{
    (void)state;
    pr_http_message message;
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    refused("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: me@a\r\n\r\n", 400);
    parse(&message, "GET / HTTP/1.0\r\n\r\n");
    pr_http_message_end(&message);
    parse(&message, "GET / HTTP/1.1\r\nHost:\r\n\r\n");
    pr_http_message_end(&message);
    parse(&message, "GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n");
    pr_http_message_end(&message);
}

static void connections_are_kept_as_asked(void **state)
{
    static const struct {
        const char *text;
        bool keeps;
    } table[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: TE , Close\r\n\r\n", false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false},
        {"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        pr_http_message message;
        parse(&message, table[i].text);
        assert_int_equal(pr_http_message_keeps_alive(&message), table[i].keeps);
        pr_http_message_end(&message);
    }
}

static void expectations_are_seen(void **state)
{
    (void)state;
    pr_http_message message;
    size_t taken;
    const char *head = HEAD_1_1 "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n";
    pr_http_message_begin(&message, &limits);
    assert_int_equal(pr_http_message_feed(&message, head, strlen(head), &taken), PR_HTTP_HEAD);
    assert_int_equal(taken, strlen(head));
    assert_true(message.expects);
    assert_int_equal(pr_http_message_feed(&message, "x", 1, &taken), PR_HTTP_COMPLETE);
    pr_http_message_end(&message);
    refused(HEAD_1_1 "Expect: payment\r\n\r\n", 417);
    parse(&message, "POST / HTTP/1.0\r\nExpect: anything\r\n\r\n");
    assert_false(message.expects);
    pr_http_message_end(&message);
}

// "GET /aaa... HTTP/1.1" with a target of so many bytes.
static char *with_target(size_t bytes)
{
    char *text = malloc(bytes + 64);
    assert_non_null(text);
    memcpy(text, "GET /", 5);
    memset(text + 5, 'a', bytes - 1);
    strcpy(text + 4 + bytes, " HTTP/1.1\r\nHost: a\r\n\r\n");
    return text;
}

static void limits_hold_to_the_byte(void **state)
{
    (void)state;
    pr_http_message message;
    char text[2048], filler[1400];
    char *target = with_target(200);
    parse(&message, target);
    pr_http_message_end(&message);
    free(target);
    target = with_target(201);
    refused(target, 414);
    free(target);

    const char *line = "GET / HTTP/1.1\r\nHost: a\r\nA: ";
    size_t room = limits.most_head_bytes - strlen(line) - 4;
    memset(filler, 'f', sizeof filler);
    snprintf(text, sizeof text, "%s%.*s\r\n\r\n", line, (int)room, filler);
    parse(&message, text);
    pr_http_message_end(&message);
    snprintf(text, sizeof text, "%s%.*s\r\n\r\n", line, (int)room + 1, filler);
    refused(text, 431);

    snprintf(text, sizeof text, "%sContent-Length: 100\r\n\r\n%.100s", HEAD_1_1, filler);
    parse(&message, text);
    assert_int_equal(message.body_bytes, 100);
    pr_http_message_end(&message);
    refused(HEAD_1_1 "Content-Length: 101\r\n\r\n", 413);
    refused(HEAD_1_1 "Content-Length: 99999999999999999999999999\r\n\r\n", 413);
    const char *chunked = HEAD_1_1 "Transfer-Encoding: chunked\r\n\r\n";
    snprintf(
        text, sizeof text, "%s32\r\n%.50s\r\n32\r\n%.50s\r\n0\r\n\r\n", chunked, filler, filler);
    parse(&message, text);
    assert_int_equal(message.body_bytes, 100);
    pr_http_message_end(&message);
    snprintf(text, sizeof text, "%s32\r\n%.50s\r\n33\r\n", chunked, filler);
    refused(text, 413);
    snprintf(text, sizeof text, "%s1;%.1000s\r\n", chunked, filler);
    refused(text, 431);
    snprintf(text, sizeof text, "%s0\r\nX: %.1000s\r\n", chunked, filler);
    refused(text, 431);
}

static void too_many_fields_are_refused(void **state)
{
    (void)state;
    char text[1024];
    int at = snprintf(text, sizeof text, "GET / HTTP/1.0\r\n");
    for (int i = 0; i < 128; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "a:\r\n");
    pr_http_message message;
    snprintf(text + at, sizeof text - (size_t)at, "\r\n");
    parse(&message, text);
    assert_int_equal(message.fields, 128);
    pr_http_message_end(&message);
    snprintf(text + at, sizeof text - (size_t)at, "a:\r\n\r\n");
    refused(text, 431);
}

static void every_beginning_asks_for_more(void **state)
{
    (void)state;
    const char *text = "\r\nPOST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "3;x\r\nabc\r\n0\r\nT: u\r\n\r\n";
    for (size_t bytes = 0; bytes < strlen(text); bytes++) {
        pr_http_message message;
        size_t taken;
        assert_int_equal(parse_bytes(&message, text, bytes, &taken), PR_HTTP_MORE);
        assert_int_equal(taken, bytes);
        pr_http_message_end(&message);
    }
}

static void a_dropped_body_gives_its_memory_back(void **state)
{
    (void)state;
    pr_http_message message;
    parse(&message, HEAD_1_1 "Content-Length: 5\r\n\r\nhello");
    size_t held = pr_http_message_held_bytes(&message);
    pr_http_message_drop_body(&message);
    assert_true(pr_http_message_held_bytes(&message) < held);
    assert_null(message.body);
    assert_int_equal(message.body_bytes, 0);
    assert_string_equal(pr_http_message_path(&message), "/x");
    pr_http_message_end(&message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_has_its_parts),
        cmocka_unit_test(paths_are_decoded_and_absolute_forms_are_cut),
        cmocka_unit_test(malformed_targets_are_refused),
        cmocka_unit_test(a_body_has_the_declared_length),
        cmocka_unit_test(chunks_are_joined_and_their_extras_dropped),
        cmocka_unit_test(ambiguous_framing_is_refused),
        cmocka_unit_test(malformed_chunks_are_refused),
        cmocka_unit_test(malformed_heads_are_refused),
        cmocka_unit_test(malformed_request_lines_are_refused),
        cmocka_unit_test(other_versions_are_refused),
        cmocka_unit_test(hosts_are_checked),
        cmocka_unit_test(connections_are_kept_as_asked),
        cmocka_unit_test(expectations_are_seen),
        cmocka_unit_test(limits_hold_to_the_byte),
        cmocka_unit_test(too_many_fields_are_refused),
        cmocka_unit_test(every_beginning_asks_for_more),
        cmocka_unit_test(a_dropped_body_gives_its_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
