// SPDX-License-Identifier: BSD-3-Clause
// The face of `polyreme serve`: between the controller and the gateway. Requests and cancels come out of one mailbox,
// tokens go into the other; the gateway is woken once a round, not once a token.
// Threads: the controller's; create and destroy before and after it runs.
#ifndef PR_LAUNCHER_SERVE_SERVE_FACE_H
#define PR_LAUNCHER_SERVE_SERVE_FACE_H

#include "k8s-adapter/kv_events.h"
#include "launcher/controller.h"
#include "launcher/http/http_server.h"
#include "launcher/serve/mailbox.h"

typedef struct pr_serve_face pr_serve_face;

typedef struct pr_serve_face_params {
    pr_mailbox *commands, *events;
    pr_http_server *server;  // woken when there are events
    const pr_layout *layout;
    pr_kv_events *kv_events;  // flushed once a round, or NULL
    // The run is lost and the process ends after this: tell the clients, and remove what says that we serve.
    void (*lost)(void *context);
    void *context;
} pr_serve_face_params;

pr_status
pr_serve_face_create(const pr_serve_face_params *params, pr_serve_face **face) PR_MUST_CHECK;
void pr_serve_face_destroy(pr_serve_face *face);
pr_face pr_serve_face_face(pr_serve_face *face);

#endif
