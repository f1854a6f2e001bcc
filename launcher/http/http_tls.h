// SPDX-License-Identifier: BSD-3-Clause
// TLS for accepted connections, by OpenSSL: 1.2 and 1.3, HTTP/1.1 by ALPN. Built without OpenSSL, open says so.
// Threads: the server's.
#ifndef PR_LAUNCHER_HTTP_HTTP_TLS_H
#define PR_LAUNCHER_HTTP_HTTP_TLS_H

#include "runtime/base/status.h"

typedef struct pr_http_tls pr_http_tls;
struct bufferevent;
struct event_base;

// PEM files: the certificate with its chain, and its key, not encrypted. Both are read now.
pr_status
pr_http_tls_open(const char *certificate, const char *key, pr_http_tls **tls) PR_MUST_CHECK;
void pr_http_tls_close(pr_http_tls *tls);

// Takes the descriptor, unless it returns NULL.
struct bufferevent *
pr_http_tls_accept(const pr_http_tls *tls, struct event_base *base, int descriptor);
// Tells the other side that no more will be sent.
void pr_http_tls_say_end(struct bufferevent *wire);

#endif
