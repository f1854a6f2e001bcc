// SPDX-License-Identifier: BSD-3-Clause
// One line of a trace file: a JSON object in Mooncake's shape, or the values of a CSV row.
// Threads: any; nothing is kept but the columns, which are the caller's.
#ifndef PR_LAUNCHER_SIMULATE_TRACE_LINE_H
#define PR_LAUNCHER_SIMULATE_TRACE_LINE_H

#include <math.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"

typedef struct pr_trace_line {
    double stamp_s;  // NAN: the file has no stamps
    int32_t prompt_tokens, outputs;
    uint64_t tenant;
    int32_t blocks;
} pr_trace_line;

// Where a CSV file has its values: column numbers from 0, -1 = not there.
typedef struct pr_trace_columns {
    int32_t arrived_at, prompt_tokens, outputs, tenant;
} pr_trace_columns;

// From the first line of a CSV file. Line ends are stripped by the caller here and below.
pr_status
pr_trace_columns_read(const char *path, const char *text, pr_trace_columns *columns) PR_MUST_CHECK;

// The ids of the line are appended to `ids` (int64_t). Errors name path and number.
pr_status pr_trace_line_read_json(
    const char *path,
    int64_t number,
    const char *text,
    int32_t block_tokens,
    pr_trace_line *line,
    pr_byte_buffer *ids) PR_MUST_CHECK;

pr_status pr_trace_line_read_csv(
    const char *path,
    int64_t number,
    const char *text,
    const pr_trace_columns *columns,
    pr_trace_line *line) PR_MUST_CHECK;

#endif
