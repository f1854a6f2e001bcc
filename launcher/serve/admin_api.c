// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/admin_api.h"

#include <stdio.h>
#include <string.h>

#include "launcher/page/page.h"
#include "runtime/base/clock.h"

static json_t *describe_model(const pr_gateway *gateway)
{
    return json_pack(
        "{s:s, s:s, s:I, s:s, s:s, s:n, s:i, s:[]}", "id", gateway->context.served_name, "object",
        "model", "created", (json_int_t)gateway->loaded_s, "owned_by", "polyreme", "root",
        gateway->options->model, "parent", "max_model_len", gateway->context.max_model_len,
        "permission");
}

void pr_admin_api_models(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    pr_route_reply(
        exchange, 200,
        json_pack("{s:s, s:[o]}", "object", "list", "data", describe_model(gateway)));
}

void pr_admin_api_model(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    const char *name = pr_http_path(exchange) + strlen("/v1/models/");
    char text[256];
    if (strcmp(name, gateway->context.served_name) == 0) {
        pr_route_reply(exchange, 200, describe_model(gateway));
        return;
    }
    snprintf(
        text, sizeof text, "model '%.100s' is not served here, '%.100s' is", name,
        gateway->context.served_name);
    pr_route_refuse(exchange, 404, "model_not_found", text);
}

static const char *state_of(const pr_gateway *gateway)
{
    pr_gateway_phase phase = pr_gateway_get_phase(gateway);
    if (phase == PR_GATEWAY_LOADING)
        return "loading";
    return phase == PR_GATEWAY_DRAINING || gateway->runs_out ? "draining" : "ready";
}

// Alive, also while the model is loaded: who asks whether it can answer looks at /v1/models.
void pr_admin_api_health(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    json_t *end = gateway->end_unix_s > 0 ? json_integer(gateway->end_unix_s) : json_null();
    pr_route_reply(
        exchange, 200, json_pack("{s:s, s:o}", "state", state_of(gateway), "end_unix_s", end));
}

void pr_admin_api_version(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)gateway;
    (void)caller;
    pr_route_reply(exchange, 200, json_pack("{s:s}", "version", PR_VERSION));
}

void pr_admin_api_load(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    pr_route_reply(exchange, 200, json_pack("{s:i}", "server_load", gateway->sequences));
}

void pr_admin_api_drain(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    if (pr_gateway_get_phase(gateway) == PR_GATEWAY_LOADING) {
        pr_route_refuse(exchange, 503, "loading", "the model is being loaded: ask again");
        return;
    }
    pr_route_reply(
        exchange, 200, json_pack("{s:s, s:i}", "state", "draining", "open", gateway->sequences));
    pr_gateway_drain(gateway);
}

void pr_admin_api_metrics(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    pr_byte_buffer text = {0};
    pr_metrics_print(
        gateway->metrics, pr_clock_now_ns(), pr_http_server_connections(gateway->server), &text);
    if (text.failed)
        pr_http_reply(exchange, 500, NULL, "", 0);
    else
        pr_http_reply(
            exchange, 200, "text/plain; version=0.0.4; charset=utf-8", text.data, text.size_bytes);
    pr_byte_buffer_free(&text);
}

void pr_admin_api_status(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)caller;
    pr_route_reply(
        exchange, 200,
        pr_metrics_status(
            gateway->metrics, pr_clock_now_ns(), state_of(gateway),
            pr_http_server_connections(gateway->server)));
}

void pr_admin_api_page(
    pr_gateway *gateway, pr_http_exchange *exchange, const pr_route_caller *caller)
{
    (void)gateway;
    (void)caller;
    pr_http_set_header(
        exchange, "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "connect-src 'self'; frame-ancestors 'none'");
    pr_http_set_header(exchange, "X-Content-Type-Options", "nosniff");
    pr_http_reply(exchange, 200, "text/html; charset=utf-8", pr_page, pr_page_bytes);
}
