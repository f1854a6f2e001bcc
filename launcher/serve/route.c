// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/route.h"

#include <stdio.h>
#include <string.h>

#include "launcher/openai/json_text.h"
#include "launcher/serve/admin_api.h"
#include "launcher/serve/completion_api.h"
#include "launcher/serve/serve_calls.h"
#include "launcher/serve/text_api.h"
#include "runtime/base/log.h"

// What a route asks for; a sum of these.
enum { NEEDS_NOTHING = 0, NEEDS_KEY = 1, NEEDS_MODEL = 2, NEEDS_KEY_IF_PROTECTED = 4 };

typedef struct route {
    const char *method, *path;  // a path that ends with '/' stands for all below it
    pr_route_handler *handler;
    int needs;
} route;

static const route routes[] = {
    {"POST", "/v1/completions", pr_completion_api_complete, NEEDS_KEY | NEEDS_MODEL},
    {"POST", "/v1/chat/completions", pr_completion_api_chat, NEEDS_KEY | NEEDS_MODEL},
    {"POST", "/v1/completions/render", pr_text_api_render, NEEDS_KEY | NEEDS_MODEL},
    {"POST", "/v1/chat/completions/render", pr_text_api_render_chat, NEEDS_KEY | NEEDS_MODEL},
    {"POST", "/tokenize", pr_text_api_tokenize, NEEDS_KEY | NEEDS_MODEL},
    {"POST", "/detokenize", pr_text_api_detokenize, NEEDS_KEY | NEEDS_MODEL},
    {"GET", "/tokenizer_info", pr_text_api_info, NEEDS_KEY | NEEDS_MODEL},
    {"GET", "/v1/models", pr_admin_api_models, NEEDS_KEY | NEEDS_MODEL},
    {"GET", "/v1/models/", pr_admin_api_model, NEEDS_KEY | NEEDS_MODEL},
    {"GET", "/health", pr_admin_api_health, NEEDS_NOTHING},
    {"GET", "/ping", pr_admin_api_health, NEEDS_NOTHING},
    {"GET", "/version", pr_admin_api_version, NEEDS_NOTHING},
    {"GET", "/load", pr_admin_api_load, NEEDS_KEY},
    {"GET", "/metrics", pr_admin_api_metrics, NEEDS_MODEL | NEEDS_KEY_IF_PROTECTED},
    {"GET", "/v1/polyreme/status", pr_admin_api_status, NEEDS_KEY | NEEDS_MODEL},
    {"GET", "/", pr_admin_api_page, NEEDS_NOTHING},
    {"POST", "/v1/polyreme/drain", pr_admin_api_drain, NEEDS_KEY},
};

enum { ROUTES = sizeof routes / sizeof routes[0] };

void pr_route_reply(pr_http_exchange *exchange, int32_t status, json_t *value)
{
    pr_byte_buffer text = {0};
    pr_json_text_append(&text, value);
    if (text.failed)
        pr_http_reply(exchange, 500, NULL, "", 0);
    else
        pr_http_reply(exchange, status, "application/json", text.data, text.size_bytes);
    pr_byte_buffer_free(&text);
}

void pr_route_refuse(pr_http_exchange *exchange, int32_t status, const char *code, const char *text)
{
    pr_refusal refusal;
    (void)pr_refuse(&refusal, NULL, "%s", text);
    pr_refusal_set_status(&refusal, status);
    refusal.code = code;
    pr_serve_calls_reply_error(exchange, &refusal);
}

json_t *pr_route_body(pr_http_exchange *exchange)
{
    size_t size_bytes;
    json_error_t error;
    pr_refusal refusal;
    const char *text = pr_http_body(exchange, &size_bytes);
    json_t *body = json_loadb(text, size_bytes, JSON_ALLOW_NUL, &error);
    pr_http_drop_body(exchange);
    if (json_is_object(body))
        return body;
    if (body)
        (void)pr_refuse(&refusal, NULL, "the body must be a JSON object");
    else
        (void)pr_refuse(
            &refusal, NULL, "the body is not JSON: %.160s at line %d, column %d", error.text,
            error.line, error.column);
    json_decref(body);
    pr_serve_calls_reply_error(exchange, &refusal);
    return NULL;
}

static bool matches(const route *candidate, const char *path)
{
    size_t length = strlen(candidate->path);
    if (length > 1 && candidate->path[length - 1] == '/')
        return strncmp(candidate->path, path, length) == 0 && path[length];
    return strcmp(candidate->path, path) == 0;
}

// NULL: replied. A HEAD is answered as a GET; the server leaves the body out.
static const route *find_route(pr_http_exchange *exchange)
{
    const char *method = pr_http_method(exchange), *path = pr_http_path(exchange);
    const char *allowed = NULL;
    char text[256];
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    for (int i = 0; i < ROUTES; i++) {
        if (!matches(&routes[i], path))
            continue;
        if (strcmp(routes[i].method, method) == 0)
            return &routes[i];
        allowed = routes[i].method;
    }
    if (allowed) {
        pr_http_set_header(exchange, "Allow", allowed);
        snprintf(text, sizeof text, "%.160s takes %s", path, allowed);
        pr_route_refuse(exchange, 405, "method_not_allowed", text);
    } else {
        snprintf(text, sizeof text, "there is no %.160s here", path);
        pr_route_refuse(exchange, 404, "unknown_url", text);
    }
    return NULL;
}

// "localhost:8000", "127.0.0.1:8000", "[::1]:8000": no name that somebody's DNS could have turned to this machine.
static bool is_plain_address(const char *authority)
{
    size_t length = strcspn(authority, ":");
    return authority[0] == '[' || strspn(authority, "0123456789.") == length ||
           (length == strlen("localhost") && strncasecmp(authority, "localhost", length) == 0);
}

// A page from elsewhere that a browser shows must not use this server in the name of its user. Where anybody may ask, not
// under another name of this machine either (DNS rebinding).
static bool is_foreign(const pr_gateway *gateway, const pr_http_exchange *exchange)
{
    const char *origin = pr_http_header(exchange, "origin"),
               *host = pr_http_header(exchange, "host");
    const char *allowed = gateway->options->cors_origin;
    if (!origin || (allowed && (strcmp(allowed, "*") == 0 || strcmp(allowed, origin) == 0)))
        return false;
    const char *authority = strstr(origin, "://");
    if (!authority || !host || strcasecmp(authority + 3, host) != 0)
        return true;
    return pr_api_keys_count(gateway->keys) == 0 && !is_plain_address(host);
}

static bool may_ask(
    const pr_gateway *gateway,
    pr_http_exchange *exchange,
    const route *found,
    pr_route_caller *caller)
{
    const char *bearer = pr_http_header(exchange, "authorization");
    const char *plain = pr_http_header(exchange, "x-api-key");
    bool needed = (found->needs & NEEDS_KEY) ||
                  ((found->needs & NEEDS_KEY_IF_PROTECTED) && gateway->options->protect_metrics);
    if (!needed || pr_api_keys_check(gateway->keys, bearer, &caller->salt) ||
        (!bearer && plain && pr_api_keys_check_plain(gateway->keys, plain, &caller->salt))) {
        if (pr_api_keys_count(gateway->keys) == 1)  // one tenant: nobody to keep prefixes from
            caller->salt = 0;
        return true;
    }
    pr_route_refuse(
        exchange, 401, "invalid_api_key",
        bearer || plain ? "the API key is not right"
                        : "an API key is needed: send 'Authorization: Bearer KEY'");
    return false;
}

static bool is_there(pr_gateway *gateway, pr_http_exchange *exchange, const route *found)
{
    if (gateway->failure) {
        pr_route_refuse(exchange, 503, "rank_lost", gateway->failure);
        return false;
    }
    if (!(found->needs & NEEDS_MODEL) || pr_gateway_get_phase(gateway) != PR_GATEWAY_LOADING)
        return true;
    pr_route_refuse(exchange, 503, "loading", "the model is being loaded");
    return false;
}

// NULL: replied.
static const route *admit(pr_gateway *gateway, pr_http_exchange *exchange, pr_route_caller *caller)
{
    const char *id = pr_http_header(exchange, "x-request-id");
    if (id && id[0])
        pr_http_set_header(exchange, "X-Request-Id", id);
    const route *found = find_route(exchange);
    if (!found)
        return NULL;
    if (is_foreign(gateway, exchange)) {
        pr_route_refuse(
            exchange, 403, "foreign_origin",
            "a web page from another origin asks: start with --cors-origin to allow it");
        return NULL;
    }
    return may_ask(gateway, exchange, found, caller) && is_there(gateway, exchange, found) ? found
                                                                                           : NULL;
}

bool pr_route_admit(pr_gateway *gateway, pr_http_exchange *exchange)
{
    pr_route_caller caller = {0};
    return admit(gateway, exchange, &caller) != NULL;
}

void pr_route_answer(pr_gateway *gateway, pr_http_exchange *exchange)
{
    pr_route_caller caller = {0};
    const route *found = admit(gateway, exchange, &caller);
    if (found)
        found->handler(gateway, exchange, &caller);
}
