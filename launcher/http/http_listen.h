// SPDX-License-Identifier: BSD-3-Clause
// The listening socket: TCP over IPv4 or IPv6, or a Unix socket. A name with both kinds of address gets the
// IPv4 one (clients that try IPv6 first fall back); "::" takes both. A Unix socket that nobody listens on any
// more is replaced, a live one is not; it can be opened by its owner only.
// Threads: the caller's.
#ifndef PR_LAUNCHER_HTTP_HTTP_LISTEN_H
#define PR_LAUNCHER_HTTP_HTTP_LISTEN_H

#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/status.h"

typedef struct pr_http_listen {
    int descriptor;  // -1: closed
    int32_t port;    // 0 for a Unix socket
    char *path;      // of the Unix socket, or NULL
    dev_t device;    // the path is removed at close only if it is still this file
    ino_t inode;
} pr_http_listen;

pr_status pr_http_listen_open(
    const char *host, int32_t port, const char *uds, pr_http_listen *listening) PR_MUST_CHECK;
void pr_http_listen_close(pr_http_listen *listening);

#endif
