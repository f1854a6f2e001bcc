// SPDX-License-Identifier: BSD-3-Clause
// One line of an OpenAI batch file, and one line of its results. Shapes: docs/formats.md.
// Source: OpenAI Batch API (input and output objects).
#ifndef PR_LAUNCHER_BATCH_BATCH_LINE_H
#define PR_LAUNCHER_BATCH_BATCH_LINE_H

#include "launcher/request/completion_request.h"

typedef struct pr_batch_line {
    json_t *root;           // owns what the others point into; NULL if it was not even JSON
    const char *custom_id;  // NULL if it is missing or no string
    const json_t *body;
    bool chat;  // else a completion
} pr_batch_line;

// Reads a line up to its body. PR_ERR_REQUEST with *refusal (line->custom_id is set if it could be
// read, so that the error line can carry it).
pr_status pr_batch_line_parse(
    const char *text, size_t size_bytes, int64_t number, pr_batch_line *line, pr_refusal *refusal)
    PR_MUST_CHECK;
void pr_batch_line_clear(pr_batch_line *line);

// The id of the reply to a line, in id[size].
void pr_batch_line_name(const char *custom_id, int64_t number, bool chat, char *id, size_t size);

// A result line (with its newline), malloc'ed, given to the caller; NULL without memory. The ids in
// it are derived from custom_id and line number, so that a run can be repeated byte by byte.
char *pr_batch_line_answer(const char *custom_id, int64_t number, json_t *body_taken);
char *pr_batch_line_refusal(
    const char *custom_id, int64_t number, const pr_refusal *refusal, bool readable);

#endif
