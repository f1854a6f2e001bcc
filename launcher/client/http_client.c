// SPDX-License-Identifier: BSD-3-Clause
// One easy handle driven through a multi handle: only that way a wait can be ended from outside within a tenth of a
// second. Connections stay open between requests.
#include "launcher/client/http_client.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "launcher/client/plain_text.h"
#include "runtime/base/log.h"

#ifdef PR_HAVE_CURL

#include <curl/curl.h>

enum { CONNECT_TIMEOUT_MS = 10000, SLICE_MS = 100, KEEPALIVE_S = 30 };

struct pr_http_client {
    pr_http_client_params params;
    char *url, *unix_socket, *key, *ca_file;
    CURL *easy;
    CURLM *multi;
    long code;
    char fault[CURL_ERROR_SIZE];
};

// One request and what its reply becomes.
typedef struct transfer {
    pr_http_client *client;
    char *url;
    struct curl_slist *header;
    pr_byte_buffer body;  // what is not a stream of events
    pr_sse_reader reader;
    pr_sse_event event;  // NULL: the whole reply is wanted
    void *context;
    pr_status status;  // why writing was refused
} transfer;

static char *copy(const char *text) { return text ? strdup(text) : NULL; }

pr_status pr_http_client_create(const pr_http_client_params *params, pr_http_client **client)
{
    static bool started;
    if (!started && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return pr_fail(PR_ERR_RESOURCE, "libcurl did not start");
    started = true;
    pr_http_client *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for an HTTP client");
    *made = (pr_http_client){
        .params = *params,
        .url = copy(params->url),
        .unix_socket = copy(params->unix_socket),
        .key = copy(params->key),
        .ca_file = copy(params->ca_file),
        .easy = curl_easy_init(),
        .multi = curl_multi_init(),
    };
    bool whole = made->easy && made->multi && made->url &&
                 !made->unix_socket == !params->unix_socket && !made->key == !params->key &&
                 !made->ca_file == !params->ca_file;
    if (!whole) {
        pr_http_client_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for an HTTP client");
    }
    *client = made;
    return PR_OK;
}

void pr_http_client_destroy(pr_http_client *client)
{
    if (!client)
        return;
    curl_easy_cleanup(client->easy);
    curl_multi_cleanup(client->multi);
    free(client->url);
    free(client->unix_socket);
    free(client->key);
    free(client->ca_file);
    free(client);
}

long pr_http_client_code(const pr_http_client *client) { return client->code; }

// ---- bytes that come ----

static bool is_event_stream(const transfer *t)
{
    static const char wanted[] = "text/event-stream";
    const char *type = NULL;
    long code = 0;
    curl_easy_getinfo(t->client->easy, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_getinfo(t->client->easy, CURLINFO_CONTENT_TYPE, &type);
    return t->event && code == 200 && type && strncasecmp(type, wanted, sizeof wanted - 1) == 0;
}

static size_t on_bytes(char *bytes, size_t one, size_t size_bytes, void *context)
{
    (void)one;
    transfer *t = context;
    if (is_event_stream(t)) {
        t->status = pr_sse_reader_feed(&t->reader, bytes, size_bytes, t->event, t->context);
    } else if (t->body.size_bytes + size_bytes > PR_HTTP_CLIENT_MAX_REPLY_BYTES) {
        t->status = pr_fail(
            PR_ERR_FORMAT, "%s answered with more than %d bytes", t->url,
            PR_HTTP_CLIENT_MAX_REPLY_BYTES);
    } else {
        pr_byte_buffer_append(&t->body, bytes, size_bytes);
        t->status = pr_byte_buffer_check(&t->body);
    }
    return t->status == PR_OK ? size_bytes : 0;
}

// ---- what went wrong ----

static pr_status fail_transport(const transfer *t, CURLcode result)
{
    const pr_http_client *client = t->client;
    const char *why = client->fault[0] ? client->fault : curl_easy_strerror(result);
    const char *where = client->unix_socket ? client->unix_socket : client->url;
    switch (result) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return pr_fail(
            PR_ERR_PEER,
            "no server at %s: is it running? start one with polyreme serve, or name another with "
            "--url or --endpoint-file (%s)",
            where, why);
    case CURLE_OPERATION_TIMEDOUT:
        return pr_fail(PR_ERR_TIMEOUT, "the server at %s does not answer (%s)", where, why);
    case CURLE_PEER_FAILED_VERIFICATION:
        return pr_fail(
            PR_ERR_PEER,
            "the certificate of %s is not trusted (%s): give the one that signed it with "
            "--ssl-ca FILE",
            where, why);
    case CURLE_SSL_CACERT_BADFILE:
        return pr_fail(
            PR_ERR_IO, "--ssl-ca %s has no certificates that can be read", client->ca_file);
    case CURLE_SSL_CONNECT_ERROR:
        return pr_fail(
            PR_ERR_PEER, "%s does not speak TLS as expected (%s): is it an http:// address?", where,
            why);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return pr_fail(PR_ERR_ARGUMENT, "%s is not an address of a server (%s)", client->url, why);
    default:
        return pr_fail(PR_ERR_PEER, "the connection to %s broke: %s", where, why);
    }
}

// The message of an error object, else NULL.
static const char *error_message(const json_t *reply)
{
    const json_t *error = json_object_get(reply, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    if (!message)
        message = json_string_value(error);
    return message ? message : json_string_value(json_object_get(reply, "message"));
}

static pr_status fail_refused(const transfer *t)
{
    const pr_http_client *client = t->client;
    json_t *reply = json_loadb(t->body.data, t->body.size_bytes, 0, NULL);
    const char *message = error_message(reply);
    char text[768];
    pr_plain_text_copy(message ? message : "", message ? strlen(message) : 0, text, sizeof text);
    json_decref(reply);
    if (client->code == 401 || client->code == 403)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%s wants %s API key: give it with --api-key-file FILE or --api-key KEY, or let "
            "--endpoint-file name it",
            client->url, client->key ? "another" : "an");
    if (text[0])
        return pr_fail(PR_ERR_REQUEST, "the server refused (%ld): %s", client->code, text);
    return pr_fail(
        PR_ERR_REQUEST, "%s answered %ld without a reason: is it an OpenAI endpoint?", t->url,
        client->code);
}

// ---- one transfer ----

static void set_options(transfer *t)
{
    pr_http_client *client = t->client;
    CURL *easy = client->easy;
    curl_easy_reset(easy);
    curl_easy_setopt(easy, CURLOPT_URL, t->url);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, client->fault);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "polyreme/" PR_VERSION);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
    if (client->unix_socket)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, client->unix_socket);
    if (client->params.direct)
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    if (client->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
    if (client->params.insecure) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

static pr_status add_header(transfer *t, const char *name, const char *value)
{
    size_t size_bytes = strlen(name) + strlen(value) + 1;
    char *line = malloc(size_bytes);
    struct curl_slist *longer = NULL;
    if (line) {
        snprintf(line, size_bytes, "%s%s", name, value);
        longer = curl_slist_append(t->header, line);
        free(line);
    }
    if (!longer)
        return pr_fail(PR_ERR_RESOURCE, "no memory for an HTTP request");
    t->header = longer;
    return PR_OK;
}

static pr_status add_headers(transfer *t)
{
    if (t->client->key)
        PR_TRY(add_header(t, "Authorization: Bearer ", t->client->key));
    PR_TRY(add_header(t, "Accept: ", t->event ? "text/event-stream" : "application/json"));
    PR_TRY(add_header(t, "Content-Type: application/json", ""));
    PR_TRY(add_header(t, "Expect:", ""));  // libcurl would wait for 100 Continue with long bodies
    curl_easy_setopt(t->client->easy, CURLOPT_HTTPHEADER, t->header);
    return PR_OK;
}

static bool is_stopped(const pr_http_client *client)
{
    return client->params.stopped && client->params.stopped(client->params.context);
}

// *result is of the transfer; *stopped says that it was given up.
static pr_status drive(pr_http_client *client, CURLcode *result, bool *stopped)
{
    int running = 1, left;
    *stopped = false;
    *result = CURLE_OK;
    CURLMcode code = curl_multi_add_handle(client->multi, client->easy);
    while (code == CURLM_OK && running) {
        code = curl_multi_perform(client->multi, &running);
        if (code == CURLM_OK && running && (*stopped = is_stopped(client)))
            break;
        if (code == CURLM_OK && running)
            code = curl_multi_poll(client->multi, NULL, 0, SLICE_MS, NULL);
    }
    for (CURLMsg *message; (message = curl_multi_info_read(client->multi, &left));) {
        if (message->msg == CURLMSG_DONE)
            *result = message->data.result;
    }
    curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &client->code);
    curl_multi_remove_handle(client->multi, client->easy);
    return code == CURLM_OK ? PR_OK
                            : pr_fail(PR_ERR_INTERNAL, "libcurl: %s", curl_multi_strerror(code));
}

static pr_status run_transfer(transfer *t, bool *stopped)
{
    pr_http_client *client = t->client;
    CURLcode result;
    client->code = 0;
    client->fault[0] = '\0';
    PR_TRY(add_headers(t));
    PR_TRY(drive(client, &result, stopped));
    if (*stopped)
        return PR_OK;
    if (t->status != PR_OK)
        return t->status;
    if (result != CURLE_OK)
        return fail_transport(t, result);
    return client->code == 200 ? PR_OK : fail_refused(t);
}

static pr_status begin_transfer(pr_http_client *client, const char *path, transfer *t)
{
    size_t size_bytes = strlen(client->url) + strlen(path) + 1;
    *t = (transfer){.client = client, .url = malloc(size_bytes)};
    if (!t->url)
        return pr_fail(PR_ERR_RESOURCE, "no memory for an HTTP request");
    snprintf(t->url, size_bytes, "%s%s", client->url, path);
    return PR_OK;
}

static void end_transfer(transfer *t)
{
    curl_easy_reset(t->client->easy);
    curl_slist_free_all(t->header);
    pr_byte_buffer_free(&t->body);
    pr_sse_reader_clear(&t->reader);
    free(t->url);
}

pr_status
pr_http_client_get(pr_http_client *client, const char *path, int32_t timeout_ms, json_t **reply)
{
    transfer t;
    bool stopped;
    PR_TRY(begin_transfer(client, path, &t));
    set_options(&t);
    curl_easy_setopt(client->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    pr_status status = run_transfer(&t, &stopped);
    json_t *made = NULL;
    if (status == PR_OK && !stopped) {
        made = json_loadb(t.body.data ? t.body.data : "", t.body.size_bytes, 0, NULL);
        if (!made)
            status = pr_fail(
                PR_ERR_FORMAT, "%s did not answer with JSON: is it an OpenAI endpoint?", t.url);
    }
    end_transfer(&t);
    if (status == PR_OK)
        *reply = made;
    return status;
}

pr_status pr_http_client_stream(
    pr_http_client *client, const char *path, const json_t *body, pr_sse_event event, void *context)
{
    transfer t;
    bool stopped;
    char *text = json_dumps(body, JSON_COMPACT);
    if (!text)
        return pr_fail(PR_ERR_RESOURCE, "no memory for an HTTP request");
    pr_status status = begin_transfer(client, path, &t);
    if (status != PR_OK) {
        free(text);
        return status;
    }
    t.event = event;
    t.context = context;
    set_options(&t);
    curl_easy_setopt(client->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(text));
    curl_easy_setopt(client->easy, CURLOPT_POSTFIELDS, text);
    status = run_transfer(&t, &stopped);
    if (status == PR_OK && !stopped && t.body.size_bytes > 0)
        status = pr_fail(
            PR_ERR_FORMAT, "%s did not answer with a stream of events: is it an OpenAI endpoint?",
            t.url);
    end_transfer(&t);
    free(text);
    return status;
}

#else

pr_status pr_http_client_create(const pr_http_client_params *params, pr_http_client **client)
{
    (void)params;
    (void)client;
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "this polyreme was built without libcurl, which chat and top need: install it (Debian, "
        "Ubuntu: apt-get install libcurl4-openssl-dev) and build again");
}

// No client can exist, so nothing below is ever reached with one.
void pr_http_client_destroy(pr_http_client *client) { (void)client; }

pr_status
pr_http_client_get(pr_http_client *client, const char *path, int32_t timeout_ms, json_t **reply)
{
    (void)client;
    (void)timeout_ms;
    (void)reply;
    return pr_fail(PR_ERR_UNSUPPORTED, "%s: this polyreme was built without libcurl", path);
}

pr_status pr_http_client_stream(
    pr_http_client *client, const char *path, const json_t *body, pr_sse_event event, void *context)
{
    (void)client;
    (void)body;
    (void)event;
    (void)context;
    return pr_fail(PR_ERR_UNSUPPORTED, "%s: this polyreme was built without libcurl", path);
}

long pr_http_client_code(const pr_http_client *client)
{
    (void)client;
    return 0;
}

#endif
