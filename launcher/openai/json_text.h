// SPDX-License-Identifier: BSD-3-Clause
// JSON values as text, appended to what is being written. Nine significant digits name a float32 exactly, so log
// probabilities survive bit for bit.
#ifndef PR_LAUNCHER_OPENAI_JSON_TEXT_H
#define PR_LAUNCHER_OPENAI_JSON_TEXT_H

#include <jansson.h>

#include "runtime/text/byte_buffer.h"

#define PR_JSON_DUMP_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9))

// The value is taken; NULL marks the buffer as failed.
void pr_json_text_append(pr_byte_buffer *buffer, json_t *value);
// A string of valid UTF-8, with its quotes.
void pr_json_text_append_string(pr_byte_buffer *buffer, const char *text, size_t size_bytes);
// What stands in the code: JSON already.
void pr_json_text_append_raw(pr_byte_buffer *buffer, const char *text);

#endif
