// SPDX-License-Identifier: BSD-3-Clause
// One HTTP/1.1 request from bytes, in pieces of any size, strictly. No I/O.
//
//   feed ... feed -> HEAD (a body follows) -> feed ... feed -> COMPLETE     at any point: REFUSED, with a status
//
// The head is kept as   method NUL path NUL query NUL (name NUL value NUL)...   names in lower case, values
// without blanks around them. Chunks are joined; their extensions and the trailers are checked and dropped.
//
// Refused, because two readers could disagree about where the request ends (the connection must be
// closed): both Content-Length and Transfer-Encoding, Content-Lengths that differ or are not digits, any
// coding but chunked (501), Transfer-Encoding in HTTP/1.0, obs-fold, a bare CR or LF, NUL and other control
// bytes, blanks before the colon, a chunk size that is no hexadecimal number. Refused besides: no Host or
// two in HTTP/1.1, versions other than 1.0 and 1.1 (505), authority form, `*` for anything but OPTIONS, and
// what is beyond the limits (414, 431, 413). The result does not depend on how the bytes were cut.
// Source: RFC 9110, RFC 9112. Cost: one look at each byte of the head, one copy of the body.
// Threads: any; the message is the caller's.
#ifndef PR_LAUNCHER_HTTP_HTTP_MESSAGE_H
#define PR_LAUNCHER_HTTP_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pr_http_limits {
    size_t most_head_bytes;    // with chunk extensions and trailers
    size_t most_target_bytes;  // path and query
    size_t most_body_bytes;
} pr_http_limits;

typedef enum pr_http_progress {
    PR_HTTP_MORE,  // everything was taken
    PR_HTTP_HEAD,  // once, if a body follows: the head is fine, what it asks for can be looked at
    PR_HTTP_COMPLETE,  // nothing behind the request was taken
    PR_HTTP_REFUSED,   // `status` and `reason` say why
} pr_http_progress;

typedef struct pr_http_message {
    const pr_http_limits *limits;
    int32_t state;

    char *text;  // the head as drawn above
    size_t text_bytes, text_capacity, head_bytes;
    size_t target, path, query, version, field, value;  // where they begin in `text`
    int32_t fields, hosts, codings;
    int32_t minor;           // of the version: 0 or 1
    int64_t content_length;  // -1: not given
    bool blank_line, close, keep, expects, chunked, trailers;

    char *body;  // NUL-terminated, or NULL
    size_t body_bytes, body_capacity;
    uint64_t remaining_bytes;  // of the body or of the chunk
    int32_t digits;            // of the chunk size

    int32_t status;      // 0: not refused
    const char *reason;  // a sentence
} pr_http_message;

void pr_http_message_begin(pr_http_message *message, const pr_http_limits *limits);  // borrowed
void pr_http_message_end(pr_http_message *message);

pr_http_progress pr_http_message_feed(
    pr_http_message *message, const char *data, size_t size_bytes, size_t *taken_bytes);

// After HEAD or COMPLETE; until then text may be half there.
const char *pr_http_message_method(const pr_http_message *message);
const char *pr_http_message_path(const pr_http_message *message);
const char *pr_http_message_query(const pr_http_message *message);
const char *pr_http_message_field(const pr_http_message *message, const char *name);
bool pr_http_message_keeps_alive(const pr_http_message *message);

// What it holds in memory now.
size_t pr_http_message_held_bytes(const pr_http_message *message);
void pr_http_message_drop_body(pr_http_message *message);

#endif
