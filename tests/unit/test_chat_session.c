// SPDX-License-Identifier: BSD-3-Clause
// The HTTP client and a conversation over it, against servers that are threads of the test: each request is answered
// by the bytes that its path has in a script.
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launcher/client/chat_session.h"
#include "launcher/client/http_client.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

#ifdef PR_HAVE_CURL

#define JSON_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
#define STREAM_HEAD                                                                                \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: "            \
    "close\r\n\r\n"
#define PIECE(text) "data: {\"choices\":[{\"delta\":{\"content\":\"" text "\"}}]}\n\n"
#define MODELS JSON_HEAD "{\"data\":[{\"id\":\"demo\"}]}"

enum { REQUEST_BYTES = 16384 };

typedef struct server {
    int listener;
    int port;
    pthread_t thread;
    const char *models, *chat;            // replies; chat is read when a request comes
    bool hangs;                           // the chat reply is not ended until the client leaves
    const char *write_path, *write_text;  // a file to write before a chat reply, or NULL
    char request[REQUEST_BYTES];          // the last chat request
    int chats;
} server;

static size_t body_length(const char *head)
{
    const char *field = strcasestr(head, "content-length:");
    return field ? strtoul(field + 15, NULL, 10) : 0;
}

static void read_request(int connection, char *text)
{
    size_t used = 0;
    for (;;) {
        ssize_t got = read(connection, text + used, REQUEST_BYTES - 1 - used);
        if (got <= 0)
            return;
        used += (size_t)got;
        text[used] = '\0';
        const char *end = strstr(text, "\r\n\r\n");
        if (end && used >= (size_t)(end - text) + 4 + body_length(text))
            return;
    }
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
}

static void answer(server *self, int connection)
{
    char text[REQUEST_BYTES] = "";
    read_request(connection, text);
    bool chat = strstr(text, " /v1/chat/completions ") != NULL;
    if (chat) {
        memcpy(self->request, text, sizeof text);
        self->chats++;
        if (self->write_path)
            write_file(self->write_path, self->write_text);
    }
    const char *reply = chat ? self->chat : self->models;
    if (send(connection, reply, strlen(reply), MSG_NOSIGNAL) < 0)
        return;
    char byte;
    while (chat && self->hangs && read(connection, &byte, 1) > 0)
        continue;
}

static void *serve(void *context)
{
    server *self = context;
    for (;;) {
        int connection = accept(self->listener, NULL, NULL);
        if (connection < 0)
            return NULL;
        answer(self, connection);
        close(connection);
    }
}

static void start(server *self, const char *models, const char *chat)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *self = (server){.models = models, .chat = chat};
    self->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(self->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(self->listener, 16), 0);
    assert_int_equal(getsockname(self->listener, (struct sockaddr *)&address, &size), 0);
    self->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&self->thread, NULL, serve, self), 0);
}

static void stop(server *self)
{
    shutdown(self->listener, SHUT_RDWR);
    pthread_join(self->thread, NULL);
    close(self->listener);
}

// ---- the HTTP client ----

static pr_http_client *connect_to(const server *to, const char *key)
{
    char url[64];
    pr_http_client *client;
    snprintf(url, sizeof url, "http://127.0.0.1:%d/v1", to->port);
    pr_http_client_params params = {.url = url, .key = key, .direct = true};
    assert_int_equal(pr_http_client_create(&params, &client), PR_OK);
    return client;
}

static void
assert_get_fails(const char *reply, const char *key, pr_status expected, const char *says)
{
    server from;
    json_t *got = NULL;
    start(&from, reply, "");
    pr_http_client *client = connect_to(&from, key);
    pr_error_capture_begin();
    pr_status status = pr_http_client_get(client, "/models", 5000, &got);
    pr_error_capture_end();
    stop(&from);
    pr_http_client_destroy(client);
    assert_int_equal(status, expected);
    assert_null(got);
    if (!strstr(pr_error_text(), says))
        assert_string_equal(pr_error_text(), says);
}

static void a_refusal_is_one_line_that_says_what_to_do(void **state)
{
    (void)state;
    static const char no_key[] = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    assert_get_fails(
        no_key, NULL, PR_ERR_ARGUMENT, "wants an API key: give it with --api-key-file");
    assert_get_fails(no_key, "k", PR_ERR_ARGUMENT, "wants another API key");
    assert_get_fails(
        "HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n{\"error\":{\"message\":\"n must \\u001b be "
        "1\"}}",
        NULL, PR_ERR_REQUEST, "the server refused (400): n must  be 1");
    assert_get_fails(
        "HTTP/1.1 404 No\r\nConnection: close\r\n\r\n<html>", NULL, PR_ERR_REQUEST,
        "/v1/models answered 404 without a reason: is it an OpenAI endpoint?");
    assert_get_fails(JSON_HEAD "<html>", NULL, PR_ERR_FORMAT, "did not answer with JSON");
    assert_get_fails(JSON_HEAD, NULL, PR_ERR_FORMAT, "did not answer with JSON");
    assert_get_fails("", NULL, PR_ERR_PEER, "the connection to http://127.0.0.1");
    assert_get_fails(
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", NULL,
        PR_ERR_REQUEST, "answered 302");
}

static void a_server_that_is_not_there_is_told_with_its_address(void **state)
{
    (void)state;
    server from;
    json_t *got = NULL;
    start(&from, MODELS, "");
    pr_http_client *client = connect_to(&from, NULL);
    stop(&from);
    pr_error_capture_begin();
    assert_int_equal(pr_http_client_get(client, "/models", 5000, &got), PR_ERR_PEER);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "no server at http://127.0.0.1:"));
    assert_non_null(strstr(pr_error_text(), "is it running?"));
    pr_http_client_destroy(client);
}

static void a_reply_that_never_ends_is_refused(void **state)
{
    (void)state;
    size_t size_bytes = PR_HTTP_CLIENT_MAX_REPLY_BYTES + 1024;
    char *reply = malloc(size_bytes + 1);
    assert_non_null(reply);
    memset(reply, ' ', size_bytes);
    memcpy(reply, JSON_HEAD, sizeof JSON_HEAD - 1);
    reply[size_bytes] = '\0';
    assert_get_fails(reply, NULL, PR_ERR_FORMAT, "answered with more than 16777216 bytes");
    free(reply);
}

// ---- the conversation ----

typedef struct person {
    char shown[1024];
    char notices[1024];
    bool stop_at_text;
    bool stopped;
} person;

static void on_show(void *context, bool reasoning, const char *text, size_t size_bytes)
{
    person *self = context;
    assert_false(reasoning);
    strncat(self->shown, text, size_bytes);
    self->stopped = self->stop_at_text;
}

static void on_notice(void *context, const char *text)
{
    person *self = context;
    strcat(strcat(self->notices, text), "\n");
}

static bool on_stopped(void *context) { return ((person *)context)->stopped; }

static pr_chat_session *new_session(const pr_options *options, person *who)
{
    pr_chat_session *session;
    pr_chat_session_params params = {
        .options = options,
        .context = who,
        .show = on_show,
        .notice = on_notice,
        .stopped = on_stopped,
    };
    assert_int_equal(pr_chat_session_create(&params, &session), PR_OK);
    return session;
}

static pr_status say(pr_chat_session *session, const char *text, pr_chat_turn *turn)
{
    pr_error_capture_begin();
    pr_status status = pr_chat_session_say(session, text, strlen(text), turn);
    pr_error_capture_end();
    return status;
}

// The messages of the server's last request, as JSON text.
static void assert_messages(const server *at, const char *expected)
{
    const char *messages = strstr(at->request, "\"messages\":");
    assert_non_null(messages);
    const char *end = strstr(messages, ",\"stream\"");
    assert_non_null(end);
    char text[2048];
    snprintf(text, sizeof text, "%.*s", (int)(end - messages) - 11, messages + 11);
    assert_string_equal(text, expected);
}

#define SYSTEM "{\"role\":\"system\",\"content\":\"brief\"}"
#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define ASSISTANT(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"

static void a_turn_that_failed_leaves_the_conversation_as_it_was(void **state)
{
    (void)state;
    server at;
    char url[64];
    person who = {0};
    pr_chat_turn turn;
    start(&at, MODELS, STREAM_HEAD PIECE("Hi") PIECE(" you") "data: [DONE]\n\n");
    snprintf(url, sizeof url, "http://127.0.0.1:%d", at.port);
    pr_options options = {.url = url, .system = "brief", .api_key = {.count = 1, .text = {"k"}}};
    pr_chat_session *session = new_session(&options, &who);

    assert_int_equal(say(session, "one", &turn), PR_OK);
    assert_string_equal(who.shown, "Hi you");
    assert_messages(&at, "[" SYSTEM "," USER("one") "]");
    assert_non_null(strstr(at.request, "\r\nAuthorization: Bearer k\r\n"));
    assert_non_null(strstr(at.request, "\"model\":\"demo\""));
    assert_null(strstr(at.request, "max_tokens"));
    assert_int_equal(turn.pieces, 2);
    assert_int_equal(turn.output_tokens, -1);
    assert_true(turn.first_s >= 0 && turn.first_s <= turn.total_s && !turn.stopped);

    at.chat = "HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n{\"error\":{\"message\":\"too long\"}}";
    assert_int_equal(say(session, "two", &turn), PR_ERR_REQUEST);
    at.chat = STREAM_HEAD PIECE("cut");
    assert_int_equal(say(session, "three", &turn), PR_ERR_PEER);
    assert_non_null(strstr(pr_error_text(), "in the middle of the answer"));
    assert_int_equal(say(session, "\xff", &turn), PR_ERR_ARGUMENT);
    at.chat = JSON_HEAD "{}";
    assert_int_equal(say(session, "four", &turn), PR_ERR_FORMAT);

    at.chat = STREAM_HEAD PIECE("Yes") "data: [DONE]\n\n";
    assert_int_equal(say(session, "five", &turn), PR_OK);
    assert_messages(&at, "[" SYSTEM "," USER("one") "," ASSISTANT("Hi you") "," USER("five") "]");
    assert_int_equal(pr_chat_session_set_system(session, ""), PR_OK);
    assert_int_equal(say(session, "six", &turn), PR_OK);
    assert_messages(&at, "[" USER("six") "]");
    assert_int_equal(pr_chat_session_reset(session), PR_OK);
    assert_int_equal(say(session, "seven", &turn), PR_OK);
    assert_messages(&at, "[" USER("seven") "]");
    at.chat = STREAM_HEAD "data: [DONE]\n\n";
    assert_int_equal(say(session, "eight", &turn), PR_OK);
    assert_int_equal(say(session, "nine", &turn), PR_OK);
    assert_non_null(strstr(at.request, USER("eight") "," ASSISTANT("") "," USER("nine") "]"));
    stop(&at);
    pr_chat_session_destroy(session);
}

static void an_answer_that_is_stopped_keeps_what_was_said(void **state)
{
    (void)state;
    server at;
    char url[64];
    person who = {.stop_at_text = true};
    pr_chat_turn turn;
    start(&at, MODELS, STREAM_HEAD PIECE("Hi"));
    at.hangs = true;
    snprintf(url, sizeof url, "http://127.0.0.1:%d", at.port);
    pr_options options = {.url = url};
    pr_chat_session *session = new_session(&options, &who);
    int64_t begin_ns = pr_clock_now_ns();
    assert_int_equal(say(session, "one", &turn), PR_OK);
    assert_true(pr_clock_now_ns() - begin_ns < 3000000000);
    assert_true(turn.stopped);
    who = (person){.stopped = true};
    assert_int_equal(say(session, "unheard", &turn), PR_OK);
    who = (person){0};
    at.hangs = false;
    at.chat = STREAM_HEAD PIECE("Yes") "data: [DONE]\n\n";
    assert_int_equal(say(session, "two", &turn), PR_OK);
    assert_messages(&at, "[" USER("one") "," ASSISTANT("Hi") "," USER("two") "]");
    stop(&at);
    pr_chat_session_destroy(session);
}

static void a_run_that_takes_over_is_found_through_the_file(void **state)
{
    (void)state;
    server first, second;
    char path[] = "/tmp/pr_follow_XXXXXX", text[2][160];
    person who = {0};
    pr_chat_turn turn;
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    start(&first, MODELS, STREAM_HEAD PIECE("A") "data: [DONE]\n\n");
    start(
        &second, JSON_HEAD "{\"data\":[{\"id\":\"next\"}]}",
        STREAM_HEAD PIECE("B") "data: [DONE]\n\n");
    for (int i = 0; i < 2; i++) {
        int port = i == 0 ? first.port : second.port;
        snprintf(
            text[i], sizeof text[i],
            "{\"url\":\"http://127.0.0.1:%d/v1\",\"host\":\"127.0.0.1\",\"port\":%d,"
            "\"model\":\"m\",\"state\":\"%s\"}",
            port, port, i == 0 ? "draining" : "ready");
    }
    write_file(path, text[0]);
    pr_options options = {.endpoint_file = path};
    pr_chat_session *session = new_session(&options, &who);
    assert_int_equal(say(session, "one", &turn), PR_OK);
    assert_non_null(strstr(who.notices, "draining"));

    // Refused while nobody has taken over: the server's own words. Then the file changes under the request.
    first.chat =
        "HTTP/1.1 503 No\r\nConnection: close\r\n\r\n{\"error\":{\"message\":\"draining\"}}";
    assert_int_equal(say(session, "two", &turn), PR_ERR_REQUEST);
    assert_string_equal(pr_error_text(), "the server refused (503): draining");
    first.write_text = text[1];
    first.write_path = path;
    assert_int_equal(say(session, "three", &turn), PR_OK);
    assert_string_equal(who.shown, "AB");
    assert_non_null(strstr(who.notices, "another server has taken over: http://127.0.0.1"));
    assert_non_null(strstr(second.request, "\"model\":\"next\""));
    assert_messages(&second, "[" USER("one") "," ASSISTANT("A") "," USER("three") "]");

    // A broken connection before any text looks into the file as well, and asks once more only there.
    second.chat = "";
    int chats = second.chats;
    assert_int_equal(say(session, "four", &turn), PR_ERR_PEER);
    assert_int_equal(second.chats, chats + 1);
    stop(&first);
    stop(&second);
    pr_chat_session_destroy(session);
    remove(path);
}

static void a_list_without_models_asks_for_a_name(void **state)
{
    (void)state;
    server at;
    char url[64];
    person who = {0};
    pr_chat_turn turn;
    start(&at, JSON_HEAD "{\"data\":[]}", "");
    snprintf(url, sizeof url, "http://127.0.0.1:%d", at.port);
    pr_options options = {.url = url};
    pr_chat_session *session = new_session(&options, &who);
    assert_int_equal(say(session, "one", &turn), PR_ERR_FORMAT);
    assert_non_null(strstr(pr_error_text(), "lists no model: name one with --model"));
    stop(&at);
    pr_chat_session_destroy(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_is_one_line_that_says_what_to_do),
        cmocka_unit_test(a_server_that_is_not_there_is_told_with_its_address),
        cmocka_unit_test(a_reply_that_never_ends_is_refused),
        cmocka_unit_test(a_turn_that_failed_leaves_the_conversation_as_it_was),
        cmocka_unit_test(an_answer_that_is_stopped_keeps_what_was_said),
        cmocka_unit_test(a_run_that_takes_over_is_found_through_the_file),
        cmocka_unit_test(a_list_without_models_asks_for_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void a_build_without_libcurl_says_what_to_install(void **state)
{
    (void)state;
    pr_http_client_params params = {.url = "http://h/v1"};
    pr_http_client *client = NULL;
    pr_error_capture_begin();
    assert_int_equal(pr_http_client_create(&params, &client), PR_ERR_UNSUPPORTED);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "libcurl4-openssl-dev"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_build_without_libcurl_says_what_to_install),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
