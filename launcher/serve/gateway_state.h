// SPDX-License-Identifier: BSD-3-Clause
// What the gateway's rooms share. Nobody outside this folder includes it.
#ifndef PR_LAUNCHER_SERVE_GATEWAY_STATE_H
#define PR_LAUNCHER_SERVE_GATEWAY_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "launcher/serve/advertiser.h"
#include "launcher/serve/call.h"
#include "launcher/serve/gateway.h"
#include "launcher/serve/serve_message.h"

typedef enum pr_gateway_phase {
    PR_GATEWAY_LOADING,
    PR_GATEWAY_READY,
    PR_GATEWAY_DRAINING
} pr_gateway_phase;

struct pr_gateway {
    const pr_options *options;
    const pr_engine *engine;  // from READY on
    atomic_int phase;
    pr_http_server *server;
    pthread_t thread;
    bool started;
    pr_mailbox *commands, *events;
    pr_completion_context context;  // of every request
    pr_api_keys *keys;
    pr_advertiser *advertiser;
    pr_metrics *metrics;        // from READY on
    pr_sequence_owners owners;  // pr_call
    pr_call *call;              // the open ones
    int32_t sequences;          // of open calls
    int64_t prompt_tokens;      // of those sequences, together
    char instance[17];          // in the ids of replies: 16 hex digits
    uint64_t secret;            // of seeds that nobody gave
    uint64_t made;              // calls so far
    int64_t loaded_s;           // when the model was ready, s since 1970
    int64_t drain_end_ns;
    int64_t end_unix_s;  // of the job, as the controller said last; 0: no end is known
    bool runs_out;       // of time: requests as they come do not end in what is left
    bool left;           // the controller was told that no more comes
    char *failure;       // the run is lost, and why
};

static inline pr_gateway_phase pr_gateway_get_phase(const pr_gateway *gateway)
{
    return (pr_gateway_phase)atomic_load(&gateway->phase);
}

// Tells the controller; the request of a SUBMIT is given. Wake it after the last of several.
pr_status pr_gateway_command(pr_gateway *gateway, const pr_serve_command *command) PR_MUST_CHECK;
void pr_gateway_wake_controller(pr_gateway *gateway);

// Whole seconds until the job ends, when the one after it may serve; 0: no end is known, or it is over.
int32_t pr_gateway_left_s(const pr_gateway *gateway);

// No more calls are taken; when the open ones are over, or --drain-timeout is, the run ends.
void pr_gateway_drain(pr_gateway *gateway);

#endif
