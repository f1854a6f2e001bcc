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
static atomic_bool in_json;
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
    case PR_ERR_INTERRUPTED:
        return "interrupted";
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

void pr_log_set_json(bool json) { atomic_store(&in_json, json); }

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

enum { LINE_BYTES = 1280, JSON_LINE_BYTES = 6400 };

// Bytes of the UTF-8 character that begins here; 0: none does (Unicode 3.9, table 3-7).
static int character_bytes(const unsigned char *text)
{
    int length = text[0] < 0x80                     ? 1
                 : text[0] < 0xc2 || text[0] > 0xf4 ? 0
                 : text[0] < 0xe0                   ? 2
                 : text[0] < 0xf0                   ? 3
                                                    : 4;
    for (int i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    bool longer = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xf0 && text[1] < 0x90);
    bool surrogate = text[0] == 0xed && text[1] >= 0xa0;
    bool beyond = text[0] == 0xf4 && text[1] >= 0x90;
    return longer || surrogate || beyond ? 0 : length;
}

// The text as the inside of a JSON string, at most six bytes for each; room for it is there. Bytes that are no
// UTF-8 become U+FFFD: every line is JSON, whatever names it quotes.
static size_t quote(const char *text, char *quoted)
{
    char *at = quoted;
    for (const unsigned char *byte = (const unsigned char *)text; *byte;) {
        int length = character_bytes(byte);
        if (length == 0)
            at += sprintf(at, "\\ufffd");
        else if (*byte == '"' || *byte == '\\')
            at += sprintf(at, "\\%c", *byte);
        else if (*byte < ' ' || *byte == 0x7f)
            at += sprintf(at, "\\u%04x", *byte);
        else
            at += sprintf(at, "%.*s", length, (const char *)byte);
        byte += length > 0 ? length : 1;
    }
    *at = '\0';
    return (size_t)(at - quoted);
}

static size_t
format_json(const char *stamp, pr_log_level level, int rank, const char *text, char *line)
{
    char rank_text[16] = "null";
    if (rank >= 0)
        snprintf(rank_text, sizeof rank_text, "%d", rank);
    int begin = sprintf(
        line, "{\"time\":\"%s\",\"level\":\"%s\",\"rank\":%s,\"text\":\"", stamp,
        level_names[level], rank_text);
    size_t length = (size_t)begin + quote(text, line + begin);
    return length + (size_t)sprintf(line + length, "\"}\n");
}

static size_t
format_text(const char *stamp, pr_log_level level, int rank, const char *text, char *line)
{
    char rank_text[16] = "";
    if (rank >= 0)
        snprintf(rank_text, sizeof rank_text, " [r%02d]", rank);
    int length =
        snprintf(line, LINE_BYTES, "%s %s%s %s\n", stamp, level_names[level], rank_text, text);
    if (length >= LINE_BYTES) {
        length = LINE_BYTES - 1;
        line[length - 1] = '\n';
    }
    return (size_t)length;
}

// One write per line, so that lines of several ranks do not mix.
static void write_line(pr_log_level level, const char *text)
{
    struct timespec now;
    struct tm utc;
    char line[JSON_LINE_BYTES], second[32], stamp[48];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(second, sizeof second, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp, sizeof stamp, "%s.%03ldZ", second, now.tv_nsec / 1000000);
    int rank = atomic_load(&current_rank);
    size_t length = atomic_load(&in_json) ? format_json(stamp, level, rank, text, line)
                                          : format_text(stamp, level, rank, text, line);
    ssize_t written = write(STDERR_FILENO, line, length);
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
