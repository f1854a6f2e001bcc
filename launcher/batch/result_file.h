// SPDX-License-Identifier: BSD-3-Clause
// The output of a batch: whole lines only, in input order (later lines wait in memory for earlier
// ones) or in the order of completion. A line that cannot be written whole is taken back where the
// file allows it, so what is on disk is never half a line.
#ifndef PR_LAUNCHER_BATCH_RESULT_FILE_H
#define PR_LAUNCHER_BATCH_RESULT_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_result_file pr_result_file;

// "-" is standard output. A file that is there keeps its content until begin. Errors: PR_ERR_IO,
// with the path and the system's reason.
pr_status
pr_result_file_open(const char *path, bool input_order, pr_result_file **file) PR_MUST_CHECK;
// Empties the file.
pr_status pr_result_file_begin(pr_result_file *file) PR_MUST_CHECK;
// Lines still held back because an earlier one is missing are written too, unless a write failed.
pr_status pr_result_file_close(pr_result_file *file) PR_MUST_CHECK;

// Takes the line (malloc'ed, ends in a newline) for input position 0, 1, 2, ... After an error only
// close is left.
pr_status pr_result_file_put(pr_result_file *file, int64_t position, char *line) PR_MUST_CHECK;

int64_t pr_result_file_held(const pr_result_file *file);  // lines that wait for an earlier one

#endif
