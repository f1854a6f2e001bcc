// SPDX-License-Identifier: BSD-3-Clause
// One tool call as a JSON object that is still being written: its name, and the text of its arguments as it comes.
//
//   {"name": "f", "arguments": {"x": 1}}        begun at the inner {: name "f", then `{`, `"x": 1`, `}`
//   {"arguments": "{\"x\":1}", "name": "f"}     begun at the name's end: what came before is given at once
//
// `parameters` is another word for `arguments`; `id` and `type` may stand beside them. Until it has begun, anything else
// makes the object no call: its bytes are the caller's to keep. Afterwards unknown members are skipped.
// The arguments are the model's bytes, or, when they were written as a string that holds JSON, what the string says.
// Threads: none of its own. Source: ours.
#ifndef PR_LAUNCHER_PARSE_CALL_SCAN_H
#define PR_LAUNCHER_PARSE_CALL_SCAN_H

#include <stdbool.h>

#include "launcher/parse/json_scan.h"

typedef enum pr_call_place { PR_CALL_MORE, PR_CALL_DONE, PR_CALL_BAD } pr_call_place;

typedef struct pr_call_scan {
    int state, member;
    bool bare;           // arguments without an object around them
    bool named, argued;  // the name is complete, the arguments have their first byte
    bool begun;          // both: it is a call
    pr_json_value value;
    pr_json_string string;
    pr_byte_buffer key, name;
    pr_byte_buffer arguments;  // not yet taken by the user, who clears it
} pr_call_scan;

// The next byte is behind the object's {.
void pr_call_scan_begin(pr_call_scan *scan);
// The next byte is the { of the arguments of a function whose name is known.
void pr_call_scan_begin_arguments(pr_call_scan *scan, const char *name, size_t size_bytes);
void pr_call_scan_free(pr_call_scan *scan);

// DONE: the byte ended the call. BAD: the byte does not belong to it, and was not taken.
pr_call_place pr_call_scan_feed(pr_call_scan *scan, char byte);

#endif
