// SPDX-License-Identifier: BSD-3-Clause
// What the two threads of a serving rank 0 tell each other, through mailboxes: the gateway (HTTP) brings requests, the
// controller brings what became of them.
#ifndef PR_LAUNCHER_SERVE_SERVE_MESSAGE_H
#define PR_LAUNCHER_SERVE_SERVE_MESSAGE_H

#include "launcher/serve/snapshot.h"
#include "runtime/batch/plan.h"

// Gateway -> controller.
typedef enum pr_serve_command_kind {
    PR_SERVE_SUBMIT,  // request: given
    PR_SERVE_CANCEL,  // id: nobody wants more of it
    PR_SERVE_LEAVE,   // nothing more will come: end when all is answered
} pr_serve_command_kind;

typedef struct pr_serve_command {
    pr_serve_command_kind kind;
    uint64_t id;
    pr_request *request;
} pr_serve_command;

// Controller -> gateway.
typedef enum pr_serve_event_kind {
    PR_SERVE_SCHEDULED,  // its first chunk is planned; tokens: of its prompt were cached
    PR_SERVE_TOKEN,      // token.top is malloc'ed if there is any: given
    PR_SERVE_PROMPT,  // logprob of a prompt's token, before the first PR_SERVE_TOKEN; top as above
    PR_SERVE_REJECTED,  // text, http_status
    PR_SERVE_SNAPSHOT,  // snapshot: given
    PR_SERVE_DRAIN,     // a signal asks for the end, or the run's time is over
    PR_SERVE_FAILED,    // the run is lost: text
} pr_serve_event_kind;

typedef struct pr_serve_event {
    pr_serve_event_kind kind;
    uint64_t id;
    int64_t time_ns;
    union {
        int32_t tokens;
        pr_token_report token;
        pr_prompt_logprob prompt;
        pr_snapshot *snapshot;
        struct {
            char *text;  // malloc'ed: given. NULL: there was no memory for it
            int32_t http_status;
        };
    };
} pr_serve_event;

#endif
