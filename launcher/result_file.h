// SPDX-License-Identifier: BSD-3-Clause
// The output of a batch: whole lines only, in input order (later lines wait in memory for earlier
// ones) or in the order of completion. Each line is one write, so what is on disk is never half a line.
#ifndef PR_LAUNCHER_RESULT_FILE_H
#define PR_LAUNCHER_RESULT_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_result_file pr_result_file;

// "-" is standard output. Errors: PR_ERR_IO, with the path and the system's reason.
pr_status
pr_result_file_open(const char *path, bool input_order, pr_result_file **file) PR_MUST_CHECK;
// Lines still held back because an earlier one is missing are written too.
pr_status pr_result_file_close(pr_result_file *file) PR_MUST_CHECK;

// Takes the line (malloc'ed, ends in a newline) for input position 0, 1, 2, ...
pr_status pr_result_file_put(pr_result_file *file, int64_t position, char *line) PR_MUST_CHECK;

#endif
