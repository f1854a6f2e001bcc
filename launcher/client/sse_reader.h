// SPDX-License-Identifier: BSD-3-Clause
// Server-sent events out of a stream of bytes, however it is cut into pieces.
//
//   ": note\ndata: {\"a\":1}\n\ndata: x\ndata: y\n\n"  ->  {"a":1}   "x\ny"
//
// Lines end with LF, CR LF or CR. Only the field `data` is of use here; comments and other fields are
// skipped, and so is an event that the end of the stream cut off.
// Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
// Threads: none of its own. Memory: one event, at most PR_SSE_MAX_EVENT_BYTES.
#ifndef PR_LAUNCHER_CLIENT_SSE_READER_H
#define PR_LAUNCHER_CLIENT_SSE_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"

enum { PR_SSE_MAX_EVENT_BYTES = 4 << 20 };

// data is NUL-terminated and valid during the call; it may hold NULs. A failure ends the feed with it.
typedef pr_status (*pr_sse_event)(void *context, const char *data, size_t size_bytes);

// Begins as zero.
typedef struct pr_sse_reader {
    pr_byte_buffer line;  // begun and not ended
    pr_byte_buffer data;  // of the event so far, each line followed by LF
    bool begun;           // a byte order mark is no longer possible
    bool after_cr;        // an LF that comes next belongs to the line that ended
} pr_sse_reader;

// PR_ERR_FORMAT when a line or an event is too long. After a failure only clear is left to do.
pr_status pr_sse_reader_feed(
    pr_sse_reader *reader, const char *bytes, size_t size_bytes, pr_sse_event event, void *context)
    PR_MUST_CHECK;
void pr_sse_reader_clear(pr_sse_reader *reader);  // as at the beginning; memory freed

#endif
