// SPDX-License-Identifier: BSD-3-Clause
// The fields `tools`, `tool_choice` and `parallel_tool_calls` of a chat request: checked, and turned into what the
// other rooms need.
//
//   tool_choice    mode       the template sees tools   the output is held to            read as
//   none, absent   NONE       no                        nothing                          PR_TOOL_FORMAT_NONE
//   auto           AUTO       yes                       nothing                          the model's own format
//   required       REQUIRED   yes                       a list of calls (schema)         PR_TOOL_FORMAT_LIST
//   {name}         NAMED      yes                       that function's arguments        PR_TOOL_FORMAT_NAMED
//
// Absent is `auto` when there are tools. Threads: none of its own.
// Source: OpenAI API reference (chat completions); the constrained forms as vLLM has them.
#ifndef PR_LAUNCHER_REQUEST_TOOL_CHOICE_H
#define PR_LAUNCHER_REQUEST_TOOL_CHOICE_H

#include <stdbool.h>

#include "launcher/request/refusal.h"

enum { PR_MAX_TOOLS = 128, PR_MAX_TOOL_NAME_BYTES = 64 };

typedef enum pr_tool_mode {
    PR_TOOL_MODE_NONE,
    PR_TOOL_MODE_AUTO,
    PR_TOOL_MODE_REQUIRED,
    PR_TOOL_MODE_NAMED,
} pr_tool_mode;

typedef struct pr_tool_choice {
    pr_tool_mode mode;
    bool parallel;  // more than one call may be made
    json_t *tools;  // as the request has them, for the template; NULL in mode NONE
    char name[PR_MAX_TOOL_NAME_BYTES + 1];  // mode NAMED; else ""
    char *schema;  // REQUIRED, NAMED: a JSON Schema of the output, compact; else NULL
} pr_tool_choice;

// PR_OK, or PR_ERR_REQUEST with *refusal filled and nothing to free.
pr_status
pr_tool_choice_parse(const json_t *body, pr_tool_choice *choice, pr_refusal *refusal) PR_MUST_CHECK;
void pr_tool_choice_free(pr_tool_choice *choice);

#endif
