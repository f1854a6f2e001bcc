// SPDX-License-Identifier: BSD-3-Clause
// A conversation with a served model: the messages so far, and where the next one goes.
//
//   say "Hi"  ->  endpoint (read again) -> model (the server's first) -> messages + "Hi" -> pieces shown
//
// A turn that failed leaves the conversation as it was. One that was stopped keeps what was said. When the
// endpoint's file names another server than before, the next turn goes there with all messages; a turn that got no
// answer looks into the file once more before it counts as failed.
// Threads: one. Memory: all messages; the server's context length ends what is useful.
#ifndef PR_LAUNCHER_CLIENT_CHAT_SESSION_H
#define PR_LAUNCHER_CLIENT_CHAT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "launcher/options.h"
#include "runtime/base/status.h"

typedef struct pr_chat_session pr_chat_session;

typedef struct pr_chat_session_params {
    const pr_options *options;  // borrowed
    void *context;              // of the callbacks
    void (*show)(void *context, bool reasoning, const char *text, size_t size_bytes);
    void (*notice)(void *context, const char *text);  // one line for the person, beside the answer
    bool (*stopped)(void *context);                   // true ends the answer under way
} pr_chat_session_params;

// What a turn was. Times are s from sending; tokens -1 if the server did not say.
typedef struct pr_chat_turn {
    int64_t prompt_tokens, output_tokens, pieces;
    double first_s, total_s;  // first_s is NAN when nothing came
    char finish[24];
    bool stopped;
} pr_chat_turn;

pr_status pr_chat_session_create(const pr_chat_session_params *params, pr_chat_session **session)
    PR_MUST_CHECK;
void pr_chat_session_destroy(pr_chat_session *session);

pr_status pr_chat_session_say(
    pr_chat_session *session, const char *text, size_t size_bytes, pr_chat_turn *turn)
    PR_MUST_CHECK;
// Finds the server and the model without saying anything. The name is valid until the next call.
pr_status pr_chat_session_connect(pr_chat_session *session, const char **model) PR_MUST_CHECK;

// Forgets what was said; the system text stays.
pr_status pr_chat_session_reset(pr_chat_session *session) PR_MUST_CHECK;
// Another system text ("" = none), which also resets.
pr_status pr_chat_session_set_system(pr_chat_session *session, const char *text) PR_MUST_CHECK;

#endif
