// SPDX-License-Identifier: BSD-3-Clause
// Text that came from elsewhere (a server, a model, a file), made fit for a terminal: what could move the cursor,
// change colours or hide text is dropped: control characters, and those that turn the direction of writing.
//
//   "\033]0;x\aReady"  ->  "]0;xReady"
//
// Bytes that are not UTF-8 become U+FFFD. Widths are in columns of a terminal: wide characters are two.
// Threads: any; nothing is kept.
#ifndef PR_LAUNCHER_CLIENT_PLAIN_TEXT_H
#define PR_LAUNCHER_CLIENT_PLAIN_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/text/byte_buffer.h"

// Appends at most `columns` columns, without line breaks (they become spaces). Returns the columns used.
int32_t
pr_plain_text_line(const char *text, size_t size_bytes, int32_t columns, pr_byte_buffer *out);
// Appends all of it, line breaks and tabs kept.
void pr_plain_text_stream(const char *text, size_t size_bytes, pr_byte_buffer *out);
// As line, into an array of capacity bytes, always terminated; cut between two characters.
void pr_plain_text_copy(const char *text, size_t size_bytes, char *out, size_t capacity);

#endif
