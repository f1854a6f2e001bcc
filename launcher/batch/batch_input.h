// SPDX-License-Identifier: BSD-3-Clause
// The lines of a JSONL file or pipe, one by one, in file order or in an order shuffled by a seed (then
// all is read first). Empty lines are skipped. A pipe without data does not hold up its reader. A line
// that is too long to keep is given out without its text. Of a part of the input the lines before it are given
// out too, as elsewhere: their ids are taken.
#ifndef PR_LAUNCHER_BATCH_BATCH_INPUT_H
#define PR_LAUNCHER_BATCH_BATCH_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_MAX_LINE_BYTES = 64 << 20 };

typedef struct pr_batch_input pr_batch_input;

typedef struct pr_input_line {
    const char *text;  // valid until the next call; not NUL-terminated
    size_t size_bytes;
    bool too_long;     // for PR_MAX_LINE_BYTES: there is no text
    int64_t number;    // 1-based line of the file
    int64_t position;  // 0-based among the non-empty lines, of the part
    bool elsewhere;    // in an earlier part: it has no position here
} pr_input_line;

typedef enum pr_input_state {
    PR_INPUT_LINE,
    PR_INPUT_LATER,  // nothing yet: ask again
    PR_INPUT_END,
} pr_input_state;

// "-" is standard input. shuffle_seed 0 = file order. part: "I/N", or NULL for all.
pr_status pr_batch_input_open(
    const char *path, uint64_t shuffle_seed, const char *part, pr_batch_input **input)
    PR_MUST_CHECK;
void pr_batch_input_close(pr_batch_input *input);

// *line is filled if *state says so. Errors: PR_ERR_IO.
pr_status pr_batch_input_next(pr_batch_input *input, pr_input_line *line, pr_input_state *state)
    PR_MUST_CHECK;

#endif
