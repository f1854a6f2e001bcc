// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int current_rank = -1;
static atomic_int current_level = PR_LOG_INFO;
static _Thread_local char error_text[1024];
static _Thread_local int capture_depth;

static const char *const level_names[] = {"ERROR", "WARN", "INFO", "DEBUG"};

const char *pr_status_name(pr_status status)
{
    switch (status) {
    case PR_OK:
        return "ok";
    case PR_ERR_ARGUMENT:
        return "wrong argument";
    case PR_ERR_FORMAT:
        return "malformed input";
    case PR_ERR_UNSUPPORTED:
        return "unsupported";
    case PR_ERR_NOT_FOUND:
        return "not found";
    case PR_ERR_RESOURCE:
        return "out of resource";
    case PR_ERR_IO:
        return "input/output error";
    case PR_ERR_REQUEST:
        return "request failed";
    case PR_ERR_TIMEOUT:
        return "timed out";
    case PR_ERR_PEER:
        return "peer lost";
    case PR_ERR_INTERNAL:
        return "internal error";
    }
    return "unknown status";
}

void pr_log_set_rank(int rank) { atomic_store(&current_rank, rank); }

void pr_log_set_level(pr_log_level level) { atomic_store(&current_level, (int)level); }

pr_status pr_log_parse_level(const char *text, pr_log_level *level)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            *level = (pr_log_level)i;
            return PR_OK;
        }
    }
    return pr_fail(
        PR_ERR_ARGUMENT, "log level '%s' is unknown: use error, warn, info or debug", text);
}

// One write per line, so that lines of several ranks do not mix.
static void write_line(pr_log_level level, const char *text)
{
    struct timespec now;
    struct tm utc;
    char line[1280], rank_text[16] = "";
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    int rank = atomic_load(&current_rank);
    if (rank >= 0)
        snprintf(rank_text, sizeof rank_text, " [r%02d]", rank);
    char stamp[32];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    int length = snprintf(
        line, sizeof line, "%s.%03ldZ %s%s %s\n", stamp, now.tv_nsec / 1000000, level_names[level],
        rank_text, text);
    if (length >= (int)sizeof line) {
        length = (int)sizeof line - 1;
        line[length - 1] = '\n';
    }
    ssize_t written = write(STDERR_FILENO, line, (size_t)length);
    (void)written;  // nothing sensible is left to do when stderr is gone
}

void pr_log(pr_log_level level, const char *format, ...)
{
    if ((int)level > atomic_load(&current_level))
        return;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    write_line(level, text);
}

pr_status pr_fail(pr_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
    if (capture_depth == 0)
        write_line(PR_LOG_ERROR, error_text);
    return status;
}

const char *pr_error_text(void) { return error_text; }

void pr_error_capture_begin(void) { capture_depth++; }

void pr_error_capture_end(void) { capture_depth--; }
