// SPDX-License-Identifier: BSD-3-Clause
// The HTTP side of `polyreme serve` on rank 0: requests become replies (route.h says which path is answered where),
// events of the controller become text, whole or streamed.
//
//   LOADING --ready--> READY --drain--> DRAINING --last reply, or --drain-timeout--> stopped
//
// Threads: create, attach and destroy from the main thread; all else happens on the gateway's own thread, which
// pr_gateway_start begins and pr_gateway_join ends.
#ifndef PR_LAUNCHER_SERVE_GATEWAY_H
#define PR_LAUNCHER_SERVE_GATEWAY_H

#include "launcher/engine/engine.h"
#include "launcher/http/http_server.h"
#include "launcher/serve/mailbox.h"

typedef struct pr_gateway pr_gateway;

// Listens (the port is known and taken) and reads keys; nothing is served before start.
pr_status pr_gateway_create(const pr_options *options, pr_gateway **gateway) PR_MUST_CHECK;
void pr_gateway_destroy(pr_gateway *gateway);  // joined or never started

pr_status pr_gateway_start(pr_gateway *gateway) PR_MUST_CHECK;

// The model is loaded. From now on requests are taken; the engine is borrowed until join, and its controller woken
// when there are commands.
pr_status pr_gateway_attach(pr_gateway *gateway, const pr_engine *engine) PR_MUST_CHECK;

// Stops the server; replies that are under way get at most grace_ms. Afterwards the gateway only waits for destroy.
void pr_gateway_join(pr_gateway *gateway, int32_t grace_ms);

// The IPv4 address and port at which others reach it.
const char *pr_gateway_address(const pr_gateway *gateway);
pr_http_server *pr_gateway_server(const pr_gateway *gateway);
pr_mailbox *pr_gateway_commands(const pr_gateway *gateway);
pr_mailbox *pr_gateway_events(const pr_gateway *gateway);

#endif
