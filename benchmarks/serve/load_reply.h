// SPDX-License-Identifier: BSD-3-Clause
// Reads HTTP/1.1 replies out of bytes, however they are cut. Not the server's own reader: what checks it shares
// nothing with it.
//
//   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"  ->  status 200, body piece "hi", complete
//
// Source: RFC 9112. Threads: none of its own.
#ifndef PR_BENCHMARKS_SERVE_LOAD_REPLY_H
#define PR_BENCHMARKS_SERVE_LOAD_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum pr_load_progress {
    PR_LOAD_MORE,      // all bytes were taken, the reply goes on
    PR_LOAD_COMPLETE,  // the bytes behind `taken` are of the next reply
    PR_LOAD_BROKEN     // this is not a reply
} pr_load_progress;

typedef enum pr_load_part {
    PR_LOAD_HEAD,  // before anything else: begins as zero
    PR_LOAD_LENGTH,
    PR_LOAD_CHUNK_SIZE,
    PR_LOAD_CHUNK,
    PR_LOAD_CHUNK_END,
    PR_LOAD_TRAILER,
    PR_LOAD_TO_CLOSE
} pr_load_part;

enum { PR_LOAD_LINE_BYTES = 1024 };

typedef struct pr_load_reply {
    pr_load_part part;
    int32_t status;         // 0 until the first line is whole
    int32_t retry_after_s;  // -1: not told
    bool chunked, closes;   // closes: the connection is of no use afterwards
    int64_t left_bytes;     // of the body or chunk; -1: up to the close
    char line[PR_LOAD_LINE_BYTES];
    size_t line_bytes;
} pr_load_reply;

typedef void pr_load_body(void *context, const char *bytes, size_t size_bytes);

void pr_load_reply_begin(pr_load_reply *reply);
pr_load_progress pr_load_reply_feed(
    pr_load_reply *reply,
    const char *bytes,
    size_t size_bytes,
    size_t *taken,
    pr_load_body *body,
    void *context);
// Whether a close by the server, now, ends the reply as it should.
bool pr_load_reply_may_close(const pr_load_reply *reply);

#endif
