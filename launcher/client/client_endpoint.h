// SPDX-License-Identifier: BSD-3-Clause
// Which server a client talks to: from --url, from the file that `polyreme serve --endpoint-file` writes, or the
// usual address of a server on this machine.
//
//   http://node7:8000      -> http://node7:8000/v1
//   unix:/run/p.sock       -> http://localhost/v1 through that socket
//   --endpoint-file F  -> what endpoint_file.h reads there, with its key
//
// The file is read again whenever a client asks: a run that takes over from another is found that way.
// Threads: any; nothing is kept but what is handed out.
#ifndef PR_LAUNCHER_CLIENT_CLIENT_ENDPOINT_H
#define PR_LAUNCHER_CLIENT_CLIENT_ENDPOINT_H

#include <stdbool.h>

#include "launcher/options.h"
#include "runtime/base/status.h"

typedef struct pr_client_endpoint {
    char *url;          // up to and with "/v1"
    char *unix_socket;  // or NULL
    char *key;          // or NULL
    bool draining;      // takes no new requests; only a file says so
    bool from_file;
} pr_client_endpoint;

// On failure nothing is left to clear.
pr_status
pr_client_endpoint_read(const pr_options *options, pr_client_endpoint *endpoint) PR_MUST_CHECK;
void pr_client_endpoint_clear(pr_client_endpoint *endpoint);

// Whether both name the same server and key.
bool pr_client_endpoint_same(const pr_client_endpoint *a, const pr_client_endpoint *b);

#endif
