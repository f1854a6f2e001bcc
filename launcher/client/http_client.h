// SPDX-License-Identifier: BSD-3-Clause
// HTTP as the clients need it: a JSON document, or a stream of events, from one server. On libcurl; a build
// without it has only pr_http_client_create, which says so.
//
//   get "/models"                  -> JSON
//   stream "/chat/completions" {}  -> event, event, ... "[DONE]"
//
// A fault is one line that says what to do: no server, a missing key, a certificate that is not trusted, or the
// message of the server's own error object. Redirects are not followed: the key stays with the server named.
// Threads: one at a time. Memory: a reply of at most PR_HTTP_CLIENT_MAX_REPLY_BYTES; a stream is not kept.
#ifndef PR_LAUNCHER_CLIENT_HTTP_CLIENT_H
#define PR_LAUNCHER_CLIENT_HTTP_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "launcher/client/sse_reader.h"

enum { PR_HTTP_CLIENT_MAX_REPLY_BYTES = 16 << 20 };

typedef struct pr_http_client pr_http_client;

typedef struct pr_http_client_params {
    const char *url;          // before the paths, no slash at its end: "http://127.0.0.1:8000/v1"
    const char *unix_socket;  // connect to this instead of the url's host, or NULL
    const char *key;          // bearer, or NULL
    const char *ca_file;      // PEM certificates to trust instead of the system's, or NULL
    bool insecure;            // trust every certificate
    bool direct;              // no proxy, whatever the environment says
    void *context;            // of stopped
    bool (*stopped)(void *context);  // asked ten times a second; true ends the transfer
} pr_http_client_params;

// The params' strings are copied, except that context and stopped must outlive the client.
pr_status
pr_http_client_create(const pr_http_client_params *params, pr_http_client **client) PR_MUST_CHECK;
void pr_http_client_destroy(pr_http_client *client);

// *reply is new, or NULL when it was stopped. PR_ERR_PEER: nobody there, or the connection broke;
// PR_ERR_TIMEOUT; PR_ERR_REQUEST: refused, see pr_http_client_code.
pr_status pr_http_client_get(
    pr_http_client *client, const char *path, int32_t timeout_ms, json_t **reply) PR_MUST_CHECK;

// Posts the body and gives each event's data as it comes. No limit on time: a request may wait its turn.
// PR_OK also when it was stopped.
pr_status pr_http_client_stream(
    pr_http_client *client, const char *path, const json_t *body, pr_sse_event event, void *context)
    PR_MUST_CHECK;

long pr_http_client_code(const pr_http_client *client);  // of the last reply; 0 = there was none

#endif
