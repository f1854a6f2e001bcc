// SPDX-License-Identifier: BSD-3-Clause
// The lines of a JSONL file, one by one, in file order or in an order shuffled by a seed (then the
// file is read whole first). Empty lines are skipped.
#ifndef PR_LAUNCHER_BATCH_INPUT_H
#define PR_LAUNCHER_BATCH_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_batch_input pr_batch_input;

typedef struct pr_input_line {
    const char *text;  // valid until the next call
    size_t size_bytes;
    int64_t number;    // 1-based line of the file
    int64_t position;  // 0-based among the non-empty lines
} pr_input_line;

// "-" is standard input. shuffle_seed 0 = file order.
pr_status
pr_batch_input_open(const char *path, uint64_t shuffle_seed, pr_batch_input **input) PR_MUST_CHECK;
void pr_batch_input_close(pr_batch_input *input);

// *found is false at the end.
pr_status
pr_batch_input_next(pr_batch_input *input, pr_input_line *line, bool *found) PR_MUST_CHECK;

#endif
