// SPDX-License-Identifier: BSD-3-Clause
// Tool calls and content told apart, byte by byte, behind the reasoning.
//
//   Sure.\n<tool_call>\n{"name": "f", "arg   ...   uments": {     "x": 1}}\n</tool_call>
//   content held ------------------------------------- BEGIN f    arguments  dropped
//
// Space beside a call is dropped, space within content is not: so it waits until it is known what follows. What is held
// is bounded (PR_MAX_HELD_BYTES, PR_MAX_SPACE_BYTES): a call that has not begun by then is content.
// Threads: none of its own. Source: ours; the formats as the models' chat templates teach them.
#ifndef PR_LAUNCHER_PARSE_TOOL_SCAN_H
#define PR_LAUNCHER_PARSE_TOOL_SCAN_H

#include "launcher/parse/call_scan.h"
#include "launcher/parse/delta_list.h"

enum { PR_MAX_HELD_BYTES = 64 * 1024, PR_MAX_SPACE_BYTES = 1024 };

typedef struct pr_tool_scan {
    const struct pr_call_syntax *syntax;
    const char *named;    // borrowed; the function of PR_TOOL_FORMAT_NAMED
    pr_delta_list *list;  // borrowed: where deltas go
    int state;
    int alive;  // marks that the held bytes may become
    int32_t calls;
    bool announced;   // the current call's BEGIN was given
    bool after_call;  // no content since the last call
    bool has_content;
    bool trim;             // space before the first content is dropped
    pr_byte_buffer held;   // a mark and what follows it, until a call has begun
    pr_byte_buffer space;  // between content or a call and what comes
    pr_call_scan call;
} pr_tool_scan;

void pr_tool_scan_begin(
    pr_tool_scan *scan, pr_tool_format format, const char *named, pr_delta_list *list);
void pr_tool_scan_free(pr_tool_scan *scan);
void pr_tool_scan_feed(pr_tool_scan *scan, char byte);
// Nothing follows: what is still held is content.
void pr_tool_scan_finish(pr_tool_scan *scan);
// PR_ERR_RESOURCE when some bytes found no memory.
pr_status pr_tool_scan_check_memory(const pr_tool_scan *scan) PR_MUST_CHECK;

#endif
