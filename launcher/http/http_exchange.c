// SPDX-License-Identifier: BSD-3-Clause
// The exchange as http_server.h shows it to the user: the request's parts, and the reply's bytes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "launcher/http/http_connection.h"

pr_http_exchange *pr_http_exchange_begin(pr_http_connection *connection)
{
    pr_http_exchange *exchange = calloc(1, sizeof *exchange);
    if (!exchange)
        return NULL;
    exchange->connection = connection;
    pr_http_message_begin(&exchange->message, &connection->hub->limits);
    return exchange;
}

void pr_http_exchange_free(pr_http_exchange *exchange)
{
    pr_http_connection *connection = exchange->connection;
    connection->hub->held_bytes -= pr_http_message_held_bytes(&exchange->message);
    connection->exchange = NULL;
    pr_http_message_end(&exchange->message);
    free(exchange->fields);
    free(exchange);
}

// ---- The request ----

const char *pr_http_method(const pr_http_exchange *exchange)
{
    return pr_http_message_method(&exchange->message);
}

const char *pr_http_path(const pr_http_exchange *exchange)
{
    return pr_http_message_path(&exchange->message);
}

const char *pr_http_query(const pr_http_exchange *exchange)
{
    return pr_http_message_query(&exchange->message);
}

const char *pr_http_header(const pr_http_exchange *exchange, const char *name)
{
    return pr_http_message_field(&exchange->message, name);
}

const char *pr_http_body(const pr_http_exchange *exchange, size_t *size_bytes)
{
    *size_bytes = exchange->message.body_bytes;
    return exchange->message.body ? exchange->message.body : "";
}

void pr_http_drop_body(pr_http_exchange *exchange)
{
    pr_http_hub *hub = exchange->connection->hub;
    hub->held_bytes -= pr_http_message_held_bytes(&exchange->message);
    pr_http_message_drop_body(&exchange->message);
    hub->held_bytes += pr_http_message_held_bytes(&exchange->message);
}

void *pr_http_user(const pr_http_exchange *exchange) { return exchange->user; }

void pr_http_set_user(pr_http_exchange *exchange, void *user) { exchange->user = user; }

// ---- The reply's head ----

static const char *status_text(int32_t status)
{
    static const struct {
        int32_t status;
        const char *text;
    } table[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].status == status)
            return table[i].text;
    }
    return "Status";
}

static bool is_own_field(const char *name)
{
    static const char *const own[] = {"content-length", "transfer-encoding", "connection", "date"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (strcasecmp(name, own[i]) == 0)
            return true;
    }
    return false;
}

// Takes out a field that was set before.
static void remove_field(pr_http_exchange *exchange, const char *name)
{
    size_t length = strlen(name);
    for (char *line = exchange->fields, *next; line && *line; line = next) {
        next = strstr(line, "\r\n") + 2;
        if (strncasecmp(line, name, length) != 0 || line[length] != ':')
            continue;
        size_t behind = exchange->fields_bytes - (size_t)(next - exchange->fields);
        exchange->fields_bytes -= (size_t)(next - line);
        memmove(line, next, behind + 1);
        next = line;
    }
}

void pr_http_set_header(pr_http_exchange *exchange, const char *name, const char *value)
{
    if (!*name || is_own_field(name))
        return;
    for (const char *at = name; *at; at++) {
        if (*at <= ' ' || *at >= 0x7f || *at == ':')
            return;
    }
    for (const char *at = value; *at; at++) {
        if (((unsigned char)*at < ' ' && *at != '\t') || *at == 0x7f)
            return;
    }
    remove_field(exchange, name);
    size_t bytes = strlen(name) + strlen(value) + 4;
    char *grown = realloc(exchange->fields, exchange->fields_bytes + bytes + 1);
    if (!grown)
        return;
    exchange->fields = grown;
    exchange->fields_bytes +=
        (size_t)snprintf(grown + exchange->fields_bytes, bytes + 1, "%s: %s\r\n", name, value);
}

static const char *date_now(pr_http_hub *hub)
{
    time_t now = time(NULL);
    struct tm parts;
    if (now != hub->date_s && gmtime_r(&now, &parts)) {
        strftime(hub->date, sizeof hub->date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
        hub->date_s = now;
    }
    return hub->date;
}

static void add_cors(const pr_http_hub *hub, struct evbuffer *output)
{
    const char *origin = hub->params.cors_origin;
    if (!origin)
        return;
    evbuffer_add_printf(
        output, "Access-Control-Allow-Origin: %s\r\nAccess-Control-Expose-Headers: *\r\n%s", origin,
        strcmp(origin, "*") == 0 ? "" : "Vary: Origin\r\n");
}

// length_bytes -1: not known.
static void
add_head(pr_http_exchange *exchange, int32_t status, const char *content_type, int64_t length_bytes)
{
    pr_http_connection *connection = exchange->connection;
    struct evbuffer *output = bufferevent_get_output(connection->wire);
    pr_http_message *message = &exchange->message;
    bool no_content = status == 204 || status == 304;
    message->close |= connection->hub->stopping;
    exchange->silent = no_content || (message->target && strcmp(message->text, "HEAD") == 0);
    evbuffer_add_printf(
        output, "HTTP/1.1 %d %s\r\nDate: %s\r\n", (int)status, status_text(status),
        date_now(connection->hub));
    if (content_type)
        evbuffer_add_printf(output, "Content-Type: %s\r\n", content_type);
    if (exchange->chunked)
        evbuffer_add_printf(output, "Transfer-Encoding: chunked\r\n");
    else if (length_bytes >= 0 && !no_content)
        evbuffer_add_printf(output, "Content-Length: %lld\r\n", (long long)length_bytes);
    if (!pr_http_message_keeps_alive(message))
        evbuffer_add_printf(output, "Connection: close\r\n");
    else if (message->minor == 0)
        evbuffer_add_printf(output, "Connection: keep-alive\r\n");
    add_cors(connection->hub, output);
    evbuffer_add(output, exchange->fields, exchange->fields_bytes);
    evbuffer_add(output, "\r\n", 2);
    if (connection->hub->params.replied)
        connection->hub->params.replied(
            connection->hub->params.context, message->target ? pr_http_path(exchange) : "", status);
}

// The reply is complete; the exchange is freed.
static void finish(pr_http_exchange *exchange)
{
    pr_http_connection *connection = exchange->connection;
    bool keep = pr_http_message_keeps_alive(&exchange->message);
    connection->gone |= exchange->cut;
    connection->phase = keep ? PR_HTTP_IDLE : PR_HTTP_CLOSING;
    pr_http_exchange_free(exchange);
    pr_http_connection_touch(connection);
}

// ---- The reply ----

void pr_http_reply(
    pr_http_exchange *exchange,
    int32_t status,
    const char *content_type,
    const void *body,
    size_t size_bytes)
{
    pr_http_connection *connection = exchange->connection;
    if (!connection->gone) {
        add_head(exchange, status, content_type, (int64_t)size_bytes);
        if (!exchange->silent && size_bytes > 0)
            evbuffer_add(bufferevent_get_output(connection->wire), body, size_bytes);
    }
    finish(exchange);
}

void pr_http_stream_begin(pr_http_exchange *exchange, int32_t status, const char *content_type)
{
    pr_http_connection *connection = exchange->connection;
    exchange->streaming = true;
    exchange->chunked = exchange->message.minor == 1;
    exchange->message.close |= !exchange->chunked;
    if (!connection->gone)
        add_head(exchange, status, content_type, -1);
    pr_http_connection_touch(connection);
}

// One copy, and one call of libevent, for size line, data and line end.
static void add_chunk(struct evbuffer *output, const void *data, size_t size_bytes)
{
    struct evbuffer_iovec space;
    char line[24];
    size_t line_bytes = (size_t)snprintf(line, sizeof line, "%zx\r\n", size_bytes);
    size_t bytes = line_bytes + size_bytes + 2;
    if (evbuffer_reserve_space(output, (ev_ssize_t)bytes, &space, 1) < 1)
        return;
    char *at = space.iov_base;
    memcpy(at, line, line_bytes);
    memcpy(at + line_bytes, data, size_bytes);
    memcpy(at + line_bytes + size_bytes, "\r\n", 2);
    space.iov_len = bytes;
    evbuffer_commit_space(output, &space, 1);
}

void pr_http_stream_write(pr_http_exchange *exchange, const void *data, size_t size_bytes)
{
    pr_http_connection *connection = exchange->connection;
    struct evbuffer *output = bufferevent_get_output(connection->wire);
    size_t most = connection->hub->params.most_output_bytes;
    if (connection->gone || exchange->cut || exchange->silent || size_bytes == 0)
        return;
    // A burst is not a slow reader's fault: what counts is what it has left of earlier passes of the loop.
    if (!connection->unsettled)
        exchange->cut = evbuffer_get_length(output) > most;
    pr_http_connection_touch(connection);
    if (exchange->cut)
        return;
    if (exchange->chunked)
        add_chunk(output, data, size_bytes);
    else
        evbuffer_add(output, data, size_bytes);
}

void pr_http_stream_end(pr_http_exchange *exchange)
{
    pr_http_connection *connection = exchange->connection;
    if (!connection->gone && exchange->chunked && !exchange->silent && !exchange->cut)
        evbuffer_add(bufferevent_get_output(connection->wire), "0\r\n\r\n", 5);
    finish(exchange);
}

// ---- Replies of the server itself ----

void pr_http_exchange_refuse(pr_http_exchange *exchange, int32_t status, const char *reason)
{
    char body[256];
    int bytes = snprintf(
        body, sizeof body,
        "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":null}}", reason,
        status == 503 ? "server_error" : "invalid_request_error");
    exchange->message.close = true;
    if (status == 503)
        pr_http_set_header(exchange, "Retry-After", "1");
    pr_http_reply(exchange, status, "application/json", body, (size_t)bytes);
}

void pr_http_exchange_preflight(pr_http_exchange *exchange)
{
    const char *headers = pr_http_header(exchange, "Access-Control-Request-Headers");
    pr_http_set_header(exchange, "Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
    pr_http_set_header(
        exchange, "Access-Control-Allow-Headers",
        headers ? headers : "Authorization, Content-Type");
    pr_http_set_header(exchange, "Access-Control-Max-Age", "600");
    pr_http_reply(exchange, 204, NULL, NULL, 0);
}
