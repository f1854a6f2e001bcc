// SPDX-License-Identifier: BSD-3-Clause
// Where a JSON value ends and what a JSON string says, byte by byte, for text that is still being written.
//
//   {"x": [1, "}"]}, "id"        a value: every byte PART, the closing } LAST
//   12, "id"                     a scalar ends before the byte that is not its own: AFTER
//
// Not a validator: brackets are counted, not matched, and a raw line break in a string is taken, because models
// write such and what was sent cannot be taken back. Bytes that no JSON has outside of strings are BAD.
// Source: RFC 8259. Threads: none of its own. Cost: O(1) a byte and in memory.
#ifndef PR_LAUNCHER_PARSE_JSON_SCAN_H
#define PR_LAUNCHER_PARSE_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/text/byte_buffer.h"

typedef enum pr_json_place { PR_JSON_PART, PR_JSON_LAST, PR_JSON_AFTER, PR_JSON_BAD } pr_json_place;

typedef struct pr_json_value {  // all zero: before the first byte
    int32_t depth;
    bool begun, scalar, in_string, escaped;
} pr_json_value;

// Space before the value is not skipped: the first byte fed is the value's own. AFTER and BAD leave the byte to the
// caller.
pr_json_place pr_json_scan_value(pr_json_value *value, char byte);

typedef struct pr_json_string {  // all zero: behind the opening quote
    bool escaped;
    int32_t digits;  // of a \u escape that are still to come
    uint32_t unit;   // of that escape, so far
    uint32_t high;   // a high surrogate that waits for its other half, or 0
} pr_json_string;

// Appends what the byte decodes to. LAST: it was the closing quote. A lone surrogate becomes U+FFFD; an unknown escape
// stands for the character itself; BAD for a \u without four hex digits.
pr_json_place pr_json_scan_string(pr_json_string *string, char byte, pr_byte_buffer *decoded);

static inline bool pr_json_scan_is_space(char byte)
{
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

#endif
