// SPDX-License-Identifier: BSD-3-Clause
// Log lines on stderr and the text of the last error of a thread.
// One fault, one line: pr_fail logs where an error is decided; everyone else passes the status on.
// A caller that turns errors into an answer (a JSONL error line, an HTTP error object) captures
// them: between pr_error_capture_begin and _end, pr_fail keeps the message and logs nothing.
// Threads: all functions may be called from any thread; the last error is per thread.
#ifndef PR_RUNTIME_BASE_LOG_H
#define PR_RUNTIME_BASE_LOG_H

#include <stdbool.h>

#include "runtime/base/status.h"

typedef enum pr_log_level { PR_LOG_ERROR, PR_LOG_WARN, PR_LOG_INFO, PR_LOG_DEBUG } pr_log_level;

// Who speaks: rank -1 (no prefix) until set. Lines: "2026-01-01T00:00:00.123Z INFO [r03] text".
void pr_log_set_rank(int rank);
void pr_log_set_level(pr_log_level level);
// Each line one object instead: {"time":"2026-...Z","level":"INFO","rank":3,"text":"..."}; rank null until set.
void pr_log_set_json(bool json);
pr_status pr_log_parse_level(const char *text, pr_log_level *level) PR_MUST_CHECK;

void pr_log(pr_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Logs (unless captured) and returns the status, so that one line decides and reports:
//     return pr_fail(PR_ERR_FORMAT, "%s: header length %llu is beyond the file", path, length);
pr_status pr_fail(pr_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The calling thread's last error text ("" if none). Valid until its next pr_fail.
const char *pr_error_text(void);
void pr_error_capture_begin(void);
void pr_error_capture_end(void);

#endif
