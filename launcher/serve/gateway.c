// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/gateway.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "launcher/engine/layout_choice.h"
#include "launcher/leave/stop_signals.h"
#include "launcher/serve/gateway_state.h"
#include "launcher/serve/route.h"
#include "launcher/serve/serve_calls.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { TICK_MS = 250 };

pr_status pr_gateway_command(pr_gateway *gateway, const pr_serve_command *command)
{
    pr_status status = pr_mailbox_put(gateway->commands, command);
    if (status != PR_OK && command->kind == PR_SERVE_SUBMIT)
        pr_request_destroy(command->request);
    return status;
}

void pr_gateway_wake_controller(pr_gateway *gateway)
{
    pr_control_wake(gateway->engine->controller_control);
}

int32_t pr_gateway_left_s(const pr_gateway *gateway)
{
    int64_t left_s = gateway->end_unix_s - (int64_t)time(NULL);
    return left_s > 0 && left_s <= INT32_MAX ? (int32_t)left_s : 0;
}

// ---- Events of the controller ----

static void free_event(const pr_serve_event *event)
{
    if (event->kind == PR_SERVE_SNAPSHOT)
        free(event->snapshot);
    if (event->kind == PR_SERVE_TOKEN)
        free((void *)(uintptr_t)event->token.top);
    else if (event->kind == PR_SERVE_PROMPT)
        free((void *)(uintptr_t)event->prompt.top);
    else if (event->kind == PR_SERVE_REJECTED || event->kind == PR_SERVE_FAILED)
        free(event->text);
}

static void lose(pr_gateway *gateway, const char *text)
{
    pr_refusal refusal;
    if (gateway->failure)
        return;
    gateway->failure = strdup(text ? text : "the run is lost");
    (void)pr_refuse(&refusal, NULL, "%s", gateway->failure ? gateway->failure : "the run is lost");
    pr_refusal_set_status(&refusal, 500);
    pr_serve_calls_refuse_all(gateway, &refusal);
}

// The endpoint file follows the job's end, and says that it drains when the time runs out; a job whose end
// is moved takes that back.
static void follow_end(pr_gateway *gateway, const pr_snapshot *snapshot)
{
    bool changed = snapshot->end_unix_s != gateway->end_unix_s ||
                   snapshot->walltime.drains != gateway->runs_out;
    if (!changed || pr_gateway_get_phase(gateway) != PR_GATEWAY_READY)
        return;
    if (snapshot->walltime.drains && !gateway->runs_out)
        pr_log(
            PR_LOG_INFO,
            "walltime: the time runs out, what cannot end in it is refused from now on");
    gateway->end_unix_s = snapshot->end_unix_s;
    gateway->runs_out = snapshot->walltime.drains;
    pr_advertiser_set_end(gateway->advertiser, gateway->end_unix_s, gateway->runs_out);
}

static void take_snapshot(pr_gateway *gateway, const pr_snapshot *snapshot)
{
    pr_metrics_snapshot(gateway->metrics, snapshot);
    follow_end(gateway, snapshot);
}

static void take_events(pr_gateway *gateway)
{
    size_t events;
    pr_serve_event *event = pr_mailbox_take(gateway->events, &events);
    for (size_t i = 0; i < events; i++) {
        if (event[i].kind == PR_SERVE_DRAIN)
            pr_gateway_drain(gateway);
        else if (event[i].kind == PR_SERVE_FAILED)
            lose(gateway, event[i].text);
        else if (event[i].kind == PR_SERVE_SNAPSHOT)
            take_snapshot(gateway, event[i].snapshot);
        else
            pr_serve_calls_event(gateway, &event[i]);
        free_event(&event[i]);
    }
}

// ---- The end ----

// The controller is told once that nothing more will come.
static void leave_when_empty(pr_gateway *gateway)
{
    if (pr_gateway_get_phase(gateway) != PR_GATEWAY_DRAINING || gateway->call || gateway->left)
        return;
    pr_serve_command command = {.kind = PR_SERVE_LEAVE};
    gateway->left = pr_gateway_command(gateway, &command) == PR_OK;
    pr_gateway_wake_controller(gateway);
}

static void cut_when_late(pr_gateway *gateway, int64_t now_ns)
{
    if (pr_gateway_get_phase(gateway) != PR_GATEWAY_DRAINING || now_ns < gateway->drain_end_ns ||
        !gateway->call)
        return;
    pr_refusal refusal;
    (void)pr_refuse(
        &refusal, NULL, "the server ends: the answer was not complete within --drain-timeout");
    pr_refusal_set_status(&refusal, 503);
    refusal.code = "rejected-shutting-down";
    pr_log(PR_LOG_WARN, "drain: --drain-timeout is over, open requests are cut");
    pr_serve_calls_refuse_all(gateway, &refusal);
}

void pr_gateway_drain(pr_gateway *gateway)
{
    if (pr_gateway_get_phase(gateway) != PR_GATEWAY_READY)
        return;
    atomic_store(&gateway->phase, PR_GATEWAY_DRAINING);
    gateway->drain_end_ns = pr_clock_now_ns() + (int64_t)(gateway->options->drain_timeout * 1e9);
    pr_log(
        PR_LOG_INFO,
        "drain: no new requests are taken; %d sequences are under way, for at most %g s",
        gateway->sequences, gateway->options->drain_timeout);
    pr_advertiser_drain(gateway->advertiser);
    leave_when_empty(gateway);
}

// ---- Callbacks of the server ----

static bool on_head(void *context, pr_http_exchange *exchange)
{
    return pr_route_admit(context, exchange);
}

static void on_request(void *context, pr_http_exchange *exchange)
{
    pr_gateway *gateway = context;
    pr_route_answer(gateway, exchange);
    leave_when_empty(gateway);
}

static void on_aborted(void *context, pr_http_exchange *exchange)
{
    pr_gateway *gateway = context;
    pr_call *call = pr_http_user(exchange);
    if (call)
        pr_serve_calls_abandon(gateway, call);
    leave_when_empty(gateway);
}

static void on_replied(void *context, const char *path, int32_t status)
{
    pr_gateway *gateway = context;
    if (pr_gateway_get_phase(gateway) != PR_GATEWAY_LOADING)
        pr_metrics_http(gateway->metrics, path, status);
}

static void on_woken(void *context)
{
    take_events(context);
    leave_when_empty(context);
}

static void on_tick(void *context)
{
    pr_gateway *gateway = context;
    int64_t now_ns = pr_clock_now_ns();
    pr_serve_calls_tick(gateway, now_ns);
    cut_when_late(gateway, now_ns);
    leave_when_empty(gateway);
}

// ---- Life ----

static pr_status listen_for(pr_gateway *gateway)
{
    const pr_options *options = gateway->options;
    pr_http_params params = {
        .host = options->host,
        .port = options->port,
        .uds = options->uds,
        .certificate = options->ssl_certfile,
        .key = options->ssl_keyfile,
        .cors_origin = options->cors_origin,
        .most_head_bytes = 32 << 10,
        .most_body_bytes = (size_t)options->max_body,
        .most_output_bytes = (size_t)options->stream_buffer,
        .most_connections = options->max_connections,
        .read_timeout_ms = (int32_t)(options->read_timeout * 1e3),
        .idle_timeout_ms = (int32_t)(options->idle_timeout * 1e3),
        .tick_ms = TICK_MS,
        .context = gateway,
        .head = on_head,
        .request = on_request,
        .aborted = on_aborted,
        .replied = on_replied,
        .woken = on_woken,
        .tick = on_tick,
    };
    return pr_http_server_create(&params, &gateway->server);
}

static pr_status draw_secrets(pr_gateway *gateway)
{
    uint64_t drawn[2];
    if (getrandom(drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn)
        return pr_fail(PR_ERR_IO, "the system gives no random numbers");
    snprintf(gateway->instance, sizeof gateway->instance, "%016llx", (unsigned long long)drawn[0]);
    gateway->secret = drawn[1];
    return PR_OK;
}

pr_status pr_gateway_create(const pr_options *options, pr_gateway **gateway)
{
    pr_status status;
    pr_gateway *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory to serve");
    made->options = options;
    pr_sequence_owners_begin(&made->owners);
    PR_TRY_GOTO(draw_secrets(made), failed);
    PR_TRY_GOTO(pr_mailbox_create(sizeof(pr_serve_command), &made->commands), failed);
    PR_TRY_GOTO(pr_mailbox_create(sizeof(pr_serve_event), &made->events), failed);
    PR_TRY_GOTO(pr_completion_context_open(options, &made->context), failed);
    made->context.streams = true;
    PR_TRY_GOTO(pr_api_keys_create(&made->keys), failed);
    PR_TRY_GOTO(pr_advertiser_create(options, made->keys, &made->advertiser), failed);
    PR_TRY_GOTO(listen_for(made), failed);
    *gateway = made;
    return PR_OK;
failed:
    pr_gateway_destroy(made);
    return status;
}

static void empty_commands(pr_gateway *gateway)
{
    size_t commands = 0;
    pr_serve_command *command =
        gateway->commands ? pr_mailbox_take(gateway->commands, &commands) : NULL;
    for (size_t i = 0; i < commands; i++) {
        if (command[i].kind == PR_SERVE_SUBMIT)
            pr_request_destroy(command[i].request);
    }
}

static void empty_events(pr_gateway *gateway)
{
    size_t events = 0;
    pr_serve_event *event = gateway->events ? pr_mailbox_take(gateway->events, &events) : NULL;
    for (size_t i = 0; i < events; i++)
        free_event(&event[i]);
}

void pr_gateway_destroy(pr_gateway *gateway)
{
    if (!gateway)
        return;
    pr_http_server_destroy(gateway->server);
    pr_advertiser_end(gateway->advertiser);
    pr_advertiser_destroy(gateway->advertiser);
    pr_api_keys_destroy(gateway->keys);
    empty_commands(gateway);
    empty_events(gateway);
    pr_mailbox_destroy(gateway->commands);
    pr_mailbox_destroy(gateway->events);
    pr_sequence_owners_end(&gateway->owners);
    pr_metrics_destroy(gateway->metrics);
    pr_completion_context_close(&gateway->context);
    free(gateway->failure);
    free(gateway);
}

static int32_t count_decode_blocks(const pr_engine *engine)
{
    int32_t lanes = 0;
    for (int32_t g = 0; g < engine->layout.groups; g++) {
        if (engine->layout.group[g].role != PR_ROLE_PREFILL)
            lanes += pr_layout_lanes(&engine->layout, g);
    }
    return lanes * engine->kv_blocks;
}

static pr_status create_metrics(pr_gateway *gateway, const pr_engine *engine)
{
    char text[PR_LAYOUT_TEXT_BYTES];
    pr_layout_describe(&engine->layout, text);
    pr_metrics_params params = {
        .model_name = engine->model_name,
        .version = PR_VERSION,
        .layout_text = text,
        .job_id = pr_advertiser_job(),
        .max_model_len = engine->max_model_len,
        .block_tokens = engine->options->block_size,
        .kv_blocks = count_decode_blocks(engine),
        .begin_ns = pr_clock_now_ns(),
        .layout = &engine->layout,
    };
    return pr_metrics_create(&params, &gateway->metrics);
}

pr_status pr_gateway_attach(pr_gateway *gateway, const pr_engine *engine)
{
    pr_completion_context_attach(&gateway->context, engine);
    PR_TRY(create_metrics(gateway, engine));
    gateway->engine = engine;
    gateway->loaded_s = (int64_t)time(NULL);
    atomic_store(&gateway->phase, PR_GATEWAY_READY);
    return pr_advertiser_ready(
        gateway->advertiser, engine->model_name, pr_http_server_port(gateway->server));
}

static void *serve(void *argument)
{
    pr_gateway *gateway = argument;
    if (pr_http_server_run(gateway->server) != PR_OK)
        pr_stop_signals_note(SIGTERM);  // told; nobody is served any more, so the run ends
    return NULL;
}

pr_status pr_gateway_start(pr_gateway *gateway)
{
    if (pthread_create(&gateway->thread, NULL, serve, gateway) != 0)
        return pr_fail(PR_ERR_RESOURCE, "cannot start the HTTP thread");
    pthread_setname_np(gateway->thread, "http");  // for who looks at CPU time by thread
    gateway->started = true;
    return PR_OK;
}

void pr_gateway_join(pr_gateway *gateway, int32_t grace_ms)
{
    if (!gateway || !gateway->started)
        return;
    pr_http_server_stop(gateway->server, grace_ms);
    pthread_join(gateway->thread, NULL);
    pr_advertiser_end(gateway->advertiser);
    gateway->started = false;
}

const char *pr_gateway_address(const pr_gateway *gateway)
{
    return pr_advertiser_address(gateway->advertiser);
}

pr_http_server *pr_gateway_server(const pr_gateway *gateway) { return gateway->server; }
pr_mailbox *pr_gateway_commands(const pr_gateway *gateway) { return gateway->commands; }
pr_mailbox *pr_gateway_events(const pr_gateway *gateway) { return gateway->events; }
