// SPDX-License-Identifier: BSD-3-Clause
// `polyreme serve`: listens on rank 0, opens the engine on every rank, answers until it is told to end.
#include <stdio.h>
#include <stdlib.h>

#include "launcher/commands.h"
#include "launcher/engine/engine.h"
#include "launcher/serve/gateway.h"
#include "launcher/serve/serve_face.h"
#include "runtime/base/log.h"

// After a fault, for the last words to the clients; at the end, for replies already written.
enum { LAST_WORDS_MS = 1000, LAST_BYTES_MS = 5000 };

typedef struct serve_run {
    const pr_options *options;
    pr_gateway *gateway;
    pr_serve_face *face;
    pr_kv_events *kv_events;  // NULL: nobody is told
} serve_run;

// The port is taken, and probes are answered, before the model is loaded.
static pr_status prepare(void *context)
{
    serve_run *run = context;
    PR_TRY(pr_gateway_create(run->options, &run->gateway));
    return pr_gateway_start(run->gateway);
}

static void tell_clients(void *context)
{
    serve_run *run = context;
    pr_gateway_join(run->gateway, LAST_WORDS_MS);
}

enum { KV_REPLAY_MESSAGES = 10000, KV_HIGH_WATER = 100000 };  // vLLM's

static pr_status open_kv_events(serve_run *run, pr_engine *engine)
{
    const pr_options *options = run->options;
    if (!options->kv_events)
        return PR_OK;
    pr_kv_events_params params = {
        .endpoint = options->kv_events,
        .replay_endpoint = options->kv_events_replay,
        .address = pr_gateway_address(run->gateway),
        .port = pr_http_server_port(pr_gateway_server(run->gateway)),
        .model = engine->model_name,
        .layout = &engine->layout,
        .block_tokens = options->block_size,
        .replay_messages = KV_REPLAY_MESSAGES,
        .high_water = KV_HIGH_WATER,
    };
    PR_TRY(pr_kv_events_open(&params, &run->kv_events));
    engine->scheduler.listener = pr_kv_events_listener(run->kv_events);
    return PR_OK;
}

static pr_status serve(serve_run *run, pr_engine *engine, pr_controller **controller)
{
    PR_TRY(open_kv_events(run, engine));
    pr_serve_face_params params = {
        .commands = pr_gateway_commands(run->gateway),
        .events = pr_gateway_events(run->gateway),
        .server = pr_gateway_server(run->gateway),
        .layout = &engine->layout,
        .kv_events = run->kv_events,
        .lost = tell_clients,
        .context = run,
    };
    PR_TRY(pr_serve_face_create(&params, &run->face));
    PR_TRY(pr_gateway_attach(run->gateway, engine));
    pr_face face = pr_serve_face_face(run->face);
    pr_status status = pr_engine_run(engine, &face, controller);
    pr_gateway_join(run->gateway, LAST_BYTES_MS);
    if (status == PR_OK)
        pr_log(PR_LOG_INFO, "drained: all replies are out");
    return status;
}

int pr_serve_command(const pr_options *options)
{
    serve_run run = {.options = options};
    pr_engine_prepare preparation = {.call = prepare, .context = &run};
    pr_engine *engine;
    pr_controller *controller = NULL;
    pr_status status = pr_engine_open(options, &preparation, &engine);
    if (status != PR_OK) {
        pr_gateway_join(run.gateway, 0);
        pr_gateway_destroy(run.gateway);
        return status == PR_ERR_INTERRUPTED ? PR_EXIT_OK : pr_exit_code(status);
    }
    if (engine->rank == 0)
        status = serve(&run, engine, &controller);
    else
        status = pr_engine_run(engine, NULL, &controller);
    pr_gateway_join(run.gateway, 0);  // still to do where it failed before it ran
    pr_gateway_destroy(run.gateway);
    pr_serve_face_destroy(run.face);
    if (run.kv_events)
        pr_kv_events_close(run.kv_events);
    pr_engine_close(engine, controller, status);
    return pr_exit_code(status);
}
