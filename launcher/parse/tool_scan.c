// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/parse/tool_scan.h"

#include <string.h>

// How a format writes calls.
typedef struct pr_call_syntax {
    const char *open, *close;  // marks around a call or a list of calls; NULL: none
    bool anywhere;             // content may stand before and behind; else calls are the whole text
    bool bare;                 // without `open` at the start of the text, too
    bool list;                 // [call, call]
    bool named;                // the text is the arguments
    bool heads;                // name[ARGS]{arguments}, too
    char separator;            // between calls, beside space; 0: none
} pr_call_syntax;

static const pr_call_syntax syntaxes[] = {
    [PR_TOOL_FORMAT_NONE] = {0},
    [PR_TOOL_FORMAT_HERMES] = {.open = "<tool_call>", .close = "</tool_call>", .anywhere = true},
    [PR_TOOL_FORMAT_LLAMA3] = {.open = "<|python_tag|>", .bare = true, .separator = ';'},
    [PR_TOOL_FORMAT_MISTRAL] =
        {.open = "[TOOL_CALLS]", .anywhere = true, .list = true, .heads = true, .separator = ','},
    [PR_TOOL_FORMAT_LIST] = {.bare = true, .list = true, .separator = ','},
    [PR_TOOL_FORMAT_NAMED] = {.named = true},
};

enum {
    SEEKING,  // in content, or before anything
    IN_MARK,  // the held bytes are the front of a mark
    AFTER_MARK,
    IN_HEAD,  // in name[ARGS]
    AT_ITEM,  // behind the [ of a list
    IN_CALL,
    AFTER_CALL,
    IN_PLAIN  // all that comes is content
};

enum { MARK_OPEN = 1, MARK_CLOSE = 2 };

void pr_tool_scan_begin(
    pr_tool_scan *scan, pr_tool_format format, const char *named, pr_delta_list *list)
{
    *scan = (pr_tool_scan){.syntax = &syntaxes[format], .named = named, .list = list};
    scan->state = format == PR_TOOL_FORMAT_NONE ? IN_PLAIN : SEEKING;
}

void pr_tool_scan_free(pr_tool_scan *scan)
{
    pr_byte_buffer_free(&scan->held);
    pr_byte_buffer_free(&scan->space);
    pr_call_scan_free(&scan->call);
}

pr_status pr_tool_scan_check_memory(const pr_tool_scan *scan)
{
    PR_TRY(pr_byte_buffer_check(&scan->held));
    PR_TRY(pr_byte_buffer_check(&scan->space));
    PR_TRY(pr_byte_buffer_check(&scan->call.key));
    PR_TRY(pr_byte_buffer_check(&scan->call.name));
    return pr_byte_buffer_check(&scan->call.arguments);
}

// ---- Content ----

static void put_space(pr_tool_scan *scan)
{
    if (scan->has_content || !scan->trim)
        pr_delta_list_add(
            scan->list, PR_DELTA_CONTENT, 0, scan->space.data, scan->space.size_bytes);
    pr_byte_buffer_clear(&scan->space);
}

static void put_content(pr_tool_scan *scan, const char *text, size_t size_bytes)
{
    if (size_bytes == 0)
        return;
    put_space(scan);
    pr_delta_list_add(scan->list, PR_DELTA_CONTENT, 0, text, size_bytes);
    scan->has_content = true;
    scan->after_call = false;
}

static void hold_space(pr_tool_scan *scan, char byte)
{
    if (scan->space.size_bytes == PR_MAX_SPACE_BYTES)
        put_space(scan);
    pr_byte_buffer_append(&scan->space, &byte, 1);
}

static void hold(pr_tool_scan *scan, char byte) { pr_byte_buffer_append(&scan->held, &byte, 1); }

// What was held is no call.
static void give_up(pr_tool_scan *scan)
{
    put_content(scan, scan->held.data, scan->held.size_bytes);
    pr_byte_buffer_clear(&scan->held);
    scan->state = scan->syntax->anywhere ? SEEKING : IN_PLAIN;
}

// ---- Marks. The first byte of a mark occurs nowhere else in it, so a failed match restarts at the byte that broke it. ----

static int marks_with(const pr_tool_scan *scan, int among, size_t position, char byte)
{
    const char *open = scan->syntax->open, *close = scan->syntax->close;
    int found = 0;
    if ((among & MARK_OPEN) && open && open[position] == byte)
        found |= MARK_OPEN;
    if ((among & MARK_CLOSE) && close && close[position] == byte)
        found |= MARK_CLOSE;
    return found;
}

static bool feed_mark_start(pr_tool_scan *scan, int among, char byte)
{
    scan->alive = marks_with(scan, among, 0, byte);
    if (!scan->alive)
        return false;
    hold(scan, byte);
    scan->state = IN_MARK;
    return true;
}

static bool feed_mark(pr_tool_scan *scan, char byte)
{
    size_t position = scan->held.size_bytes;
    int alive = marks_with(scan, scan->alive, position, byte);
    if (!alive) {
        give_up(scan);
        return false;
    }
    scan->alive = alive;
    hold(scan, byte);
    if (alive == MARK_OPEN && !scan->syntax->open[position + 1])
        scan->state = AFTER_MARK;
    if (alive == MARK_CLOSE && !scan->syntax->close[position + 1]) {
        pr_byte_buffer_clear(&scan->held);
        pr_byte_buffer_clear(&scan->space);
        scan->state = SEEKING;
    }
    return true;
}

// ---- Calls ----

static void begin_call(pr_tool_scan *scan)
{
    pr_call_scan_begin(&scan->call);
    scan->announced = false;
    scan->state = IN_CALL;
}

static void begin_arguments(pr_tool_scan *scan, const char *name, size_t size_bytes)
{
    pr_call_scan_begin_arguments(&scan->call, name, size_bytes);
    scan->announced = false;
    scan->state = IN_CALL;
}

static void give_call(pr_tool_scan *scan)
{
    pr_call_scan *call = &scan->call;
    if (!scan->announced) {
        pr_byte_buffer_clear(&scan->held);
        pr_byte_buffer_clear(&scan->space);
        pr_delta_list_add(
            scan->list, PR_DELTA_TOOL_BEGIN, scan->calls++, call->name.data, call->name.size_bytes);
        scan->announced = scan->trim = true;
    }
    pr_delta_list_add(
        scan->list, PR_DELTA_TOOL_ARGUMENTS, scan->calls - 1, call->arguments.data,
        call->arguments.size_bytes);
    pr_byte_buffer_clear(&call->arguments);
}

static void end_call(pr_tool_scan *scan)
{
    scan->after_call = true;
    if (!scan->call.bare)
        scan->state = AFTER_CALL;
    else
        scan->state = scan->syntax->anywhere ? SEEKING : IN_PLAIN;
}

static bool feed_call(pr_tool_scan *scan, char byte)
{
    pr_call_place place = pr_call_scan_feed(&scan->call, byte);
    if (place == PR_CALL_BAD && scan->announced) {
        end_call(scan);
        return false;
    }
    if (place == PR_CALL_BAD) {
        give_up(scan);
        return false;
    }
    if (scan->call.begun)
        give_call(scan);
    else
        hold(scan, byte);
    if (place == PR_CALL_DONE)
        end_call(scan);
    else if (scan->held.size_bytes >= PR_MAX_HELD_BYTES)
        give_up(scan);
    return true;
}

// ---- name[ARGS]{...}, name[CALL_ID]id[ARGS]{...}, name{...} ----

static bool is_head_byte(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
           (byte >= 'A' && byte <= 'Z') || (byte && strchr("_-.[]", byte));
}

static bool ends_with(const char *text, size_t size_bytes, const char *end)
{
    size_t length = strlen(end);
    return size_bytes >= length && memcmp(text + size_bytes - length, end, length) == 0;
}

static bool feed_head(pr_tool_scan *scan, char byte)
{
    if (is_head_byte(byte) && scan->held.size_bytes < PR_MAX_SPACE_BYTES) {
        hold(scan, byte);
        return true;
    }
    const char *held = scan->held.data;
    const char *head = held + strlen(scan->syntax->open);
    size_t size_bytes = scan->held.size_bytes - (size_t)(head - held);
    while (size_bytes > 0 && pr_json_scan_is_space(*head)) {
        head++;
        size_bytes--;
    }
    const char *bracket = memchr(head, '[', size_bytes);
    size_t name_bytes = bracket ? (size_t)(bracket - head) : size_bytes;
    bool well_formed = !memchr(head, ']', name_bytes) &&
                       (!bracket || ends_with(bracket, size_bytes - name_bytes, "[ARGS]"));
    if (byte == '{' && well_formed)
        begin_arguments(scan, head, name_bytes);
    else
        give_up(scan);
    return false;
}

// ---- Between ----

static bool feed_seeking(pr_tool_scan *scan, char byte)
{
    const pr_call_syntax *syntax = scan->syntax;
    if (pr_json_scan_is_space(byte)) {
        hold_space(scan, byte);
        return true;
    }
    if (feed_mark_start(scan, MARK_OPEN, byte))
        return true;
    if (syntax->named && byte == '{') {
        begin_arguments(scan, scan->named, strlen(scan->named));
        return false;
    }
    if (syntax->bare && byte == (syntax->list ? '[' : '{')) {
        scan->state = AFTER_MARK;
        return false;
    }
    if (!syntax->anywhere) {
        scan->state = IN_PLAIN;
        return false;
    }
    put_content(scan, &byte, 1);
    return true;
}

static bool feed_after_mark(pr_tool_scan *scan, char byte)
{
    const pr_call_syntax *syntax = scan->syntax;
    bool opens = byte == (syntax->list ? '[' : '{');
    if (!opens && syntax->heads && is_head_byte(byte)) {
        scan->state = IN_HEAD;
        return false;
    }
    if ((!opens && !pr_json_scan_is_space(byte)) || scan->held.size_bytes >= PR_MAX_SPACE_BYTES) {
        give_up(scan);
        return false;
    }
    hold(scan, byte);
    if (opens && syntax->list)
        scan->state = AT_ITEM;
    else if (opens)
        begin_call(scan);
    return true;
}

static bool feed_item(pr_tool_scan *scan, char byte)
{
    if ((byte != '{' && !pr_json_scan_is_space(byte)) ||
        scan->held.size_bytes >= PR_MAX_SPACE_BYTES) {
        give_up(scan);
        return false;
    }
    hold(scan, byte);
    if (byte == '{')
        begin_call(scan);
    return true;
}

static bool feed_after_call(pr_tool_scan *scan, char byte)
{
    const pr_call_syntax *syntax = scan->syntax;
    if (pr_json_scan_is_space(byte) || (syntax->separator && byte == syntax->separator)) {
        hold_space(scan, byte);
        return true;
    }
    if (feed_mark_start(scan, MARK_OPEN | MARK_CLOSE, byte))
        return true;
    if (byte == '{') {
        hold(scan, byte);
        begin_call(scan);
        return true;
    }
    bool closes = syntax->list && byte == ']';
    if (closes)
        pr_byte_buffer_clear(&scan->space);
    scan->state = syntax->anywhere ? SEEKING : IN_PLAIN;
    return closes;
}

static bool feed_plain(pr_tool_scan *scan, char byte)
{
    bool dropped = scan->trim && !scan->has_content && pr_json_scan_is_space(byte);
    if (!dropped)
        put_content(scan, &byte, 1);
    return true;
}

// Whether the byte was taken; if not, the state has changed and it is to be fed again.
static bool feed_once(pr_tool_scan *scan, char byte)
{
    switch (scan->state) {
    case SEEKING:
        return feed_seeking(scan, byte);
    case IN_MARK:
        return feed_mark(scan, byte);
    case AFTER_MARK:
        return feed_after_mark(scan, byte);
    case IN_HEAD:
        return feed_head(scan, byte);
    case AT_ITEM:
        return feed_item(scan, byte);
    case IN_CALL:
        return feed_call(scan, byte);
    case AFTER_CALL:
        return feed_after_call(scan, byte);
    default:
        return feed_plain(scan, byte);
    }
}

void pr_tool_scan_feed(pr_tool_scan *scan, char byte)
{
    while (!feed_once(scan, byte)) {
    }
}

void pr_tool_scan_finish(pr_tool_scan *scan)
{
    put_content(scan, scan->held.data, scan->held.size_bytes);
    pr_byte_buffer_clear(&scan->held);
    if (!scan->after_call)
        put_space(scan);
}
