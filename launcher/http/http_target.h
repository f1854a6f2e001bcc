// SPDX-License-Identifier: BSD-3-Clause
// What a request line asks for: path (percent-decoded) and query (raw), of `/path?query`, of
// `http://host/path?query`, or `*` for OPTIONS. Source: RFC 9112 section 3.2, RFC 3986 section 2.1.
// Threads: any.
#ifndef PR_LAUNCHER_HTTP_HTTP_TARGET_H
#define PR_LAUNCHER_HTTP_HTTP_TARGET_H

#include <stdbool.h>
#include <stddef.h>

typedef struct pr_http_target {
    bool options;        // in: the method is OPTIONS
    size_t path, query;  // out: where they begin in the text
} pr_http_target;

// Works in the text: path and query end with a NUL afterwards. Returns NULL, or why it is refused. A path
// that holds a control byte after decoding is refused, so it is safe to compare and to log.
const char *pr_http_target_split(char *text, pr_http_target *target);

#endif
