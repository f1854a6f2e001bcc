// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/parse/call_scan.h"

#include <string.h>

enum {
    AT_MEMBER,  // a key or the end
    IN_KEY,
    AT_COLON,
    AT_VALUE,
    IN_NAME,
    IN_ARGUMENTS,
    AT_STRING,  // in a string of arguments, before its {
    IN_STRING,
    IN_SKIPPED,
    AT_COMMA  // or the end
};

enum { MEMBER_NAME, MEMBER_ARGUMENTS, MEMBER_OTHER };

enum { MAX_KEY_BYTES = 16 };

static void reset(pr_call_scan *scan)
{
    pr_byte_buffer key = scan->key, name = scan->name, arguments = scan->arguments;
    pr_byte_buffer_clear(&key);
    pr_byte_buffer_clear(&name);
    pr_byte_buffer_clear(&arguments);
    *scan = (pr_call_scan){.key = key, .name = name, .arguments = arguments};
}

void pr_call_scan_begin(pr_call_scan *scan)
{
    reset(scan);
    scan->state = AT_MEMBER;
}

void pr_call_scan_begin_arguments(pr_call_scan *scan, const char *name, size_t size_bytes)
{
    reset(scan);
    pr_byte_buffer_append(&scan->name, name, size_bytes);
    scan->bare = scan->named = scan->argued = scan->begun = true;
    scan->state = IN_ARGUMENTS;
}

void pr_call_scan_free(pr_call_scan *scan)
{
    pr_byte_buffer_free(&scan->key);
    pr_byte_buffer_free(&scan->name);
    pr_byte_buffer_free(&scan->arguments);
}

static bool key_is(const pr_call_scan *scan, const char *word)
{
    return scan->key.size_bytes == strlen(word) &&
           memcmp(scan->key.data, word, scan->key.size_bytes) == 0;
}

// Whether the object may still be a call, seen its new key.
static bool choose_member(pr_call_scan *scan)
{
    scan->member = MEMBER_OTHER;
    if (scan->begun)
        return true;
    if (key_is(scan, "name")) {
        scan->member = MEMBER_NAME;
        return !scan->named;
    }
    if (key_is(scan, "arguments") || key_is(scan, "parameters")) {
        scan->member = MEMBER_ARGUMENTS;
        return !scan->argued;
    }
    return key_is(scan, "id") || key_is(scan, "type");
}

static pr_call_place feed_key(pr_call_scan *scan, char byte)
{
    switch (pr_json_scan_string(&scan->string, byte, &scan->key)) {
    case PR_JSON_LAST:
        scan->state = AT_COLON;
        return choose_member(scan) ? PR_CALL_MORE : PR_CALL_BAD;
    case PR_JSON_PART:
        if (scan->begun)  // its name no longer matters
            pr_byte_buffer_clear(&scan->key);
        return scan->key.size_bytes <= MAX_KEY_BYTES ? PR_CALL_MORE : PR_CALL_BAD;
    default:
        return PR_CALL_BAD;
    }
}

static void note_argued(pr_call_scan *scan)
{
    scan->argued = true;
    scan->begun = scan->named;
}

static pr_call_place feed_arguments(pr_call_scan *scan, char byte)
{
    pr_json_place place = pr_json_scan_value(&scan->value, byte);
    if (place == PR_JSON_AFTER || place == PR_JSON_BAD)
        return PR_CALL_BAD;
    pr_byte_buffer_append(&scan->arguments, &byte, 1);
    if (place == PR_JSON_PART)
        return PR_CALL_MORE;
    scan->state = AT_COMMA;
    return scan->bare ? PR_CALL_DONE : PR_CALL_MORE;
}

static pr_call_place feed_value_start(pr_call_scan *scan, char byte)
{
    if (pr_json_scan_is_space(byte))
        return PR_CALL_MORE;
    scan->value = (pr_json_value){0};
    scan->string = (pr_json_string){0};
    switch (scan->member) {
    case MEMBER_NAME:
        scan->state = IN_NAME;
        return byte == '"' ? PR_CALL_MORE : PR_CALL_BAD;
    case MEMBER_ARGUMENTS:
        if (byte == '"') {
            scan->state = AT_STRING;
            return PR_CALL_MORE;
        }
        if (byte != '{')
            return PR_CALL_BAD;
        scan->state = IN_ARGUMENTS;
        note_argued(scan);
        return feed_arguments(scan, byte);
    default:
        scan->state = IN_SKIPPED;
        return pr_json_scan_value(&scan->value, byte) == PR_JSON_BAD ? PR_CALL_BAD : PR_CALL_MORE;
    }
}

static pr_call_place feed_name(pr_call_scan *scan, char byte)
{
    pr_json_place place = pr_json_scan_string(&scan->string, byte, &scan->name);
    if (place == PR_JSON_PART)
        return PR_CALL_MORE;
    if (place == PR_JSON_BAD || scan->name.size_bytes == 0)
        return PR_CALL_BAD;
    scan->named = true;
    scan->begun = scan->argued;
    scan->state = AT_COMMA;
    return PR_CALL_MORE;
}

static pr_call_place feed_string(pr_call_scan *scan, char byte)
{
    pr_json_place place = pr_json_scan_string(&scan->string, byte, &scan->arguments);
    if (place == PR_JSON_BAD)
        return PR_CALL_BAD;
    if (place == PR_JSON_LAST)
        scan->state = AT_COMMA;
    return PR_CALL_MORE;
}

// Only a string that holds an object is arguments.
static pr_call_place feed_string_start(pr_call_scan *scan, char byte)
{
    pr_json_place place = pr_json_scan_string(&scan->string, byte, &scan->arguments);
    if (place != PR_JSON_PART)
        return PR_CALL_BAD;
    if (scan->arguments.size_bytes == 0)  // within an escape
        return PR_CALL_MORE;
    char first = *(const char *)scan->arguments.data;
    if (pr_json_scan_is_space(first)) {
        pr_byte_buffer_clear(&scan->arguments);
        return PR_CALL_MORE;
    }
    if (first != '{')
        return PR_CALL_BAD;
    scan->state = IN_STRING;
    note_argued(scan);
    return PR_CALL_MORE;
}

static pr_call_place feed_comma(pr_call_scan *scan, char byte)
{
    if (pr_json_scan_is_space(byte))
        return PR_CALL_MORE;
    if (byte == '}')
        return scan->begun ? PR_CALL_DONE : PR_CALL_BAD;
    scan->state = AT_MEMBER;
    return byte == ',' ? PR_CALL_MORE : PR_CALL_BAD;
}

static pr_call_place feed_skipped(pr_call_scan *scan, char byte)
{
    switch (pr_json_scan_value(&scan->value, byte)) {
    case PR_JSON_PART:
        return PR_CALL_MORE;
    case PR_JSON_LAST:
        scan->state = AT_COMMA;
        return PR_CALL_MORE;
    case PR_JSON_AFTER:
        scan->state = AT_COMMA;
        return feed_comma(scan, byte);
    default:
        return PR_CALL_BAD;
    }
}

static pr_call_place feed_member(pr_call_scan *scan, char byte)
{
    if (pr_json_scan_is_space(byte))
        return PR_CALL_MORE;
    if (byte == '}')
        return scan->begun ? PR_CALL_DONE : PR_CALL_BAD;
    pr_byte_buffer_clear(&scan->key);
    scan->string = (pr_json_string){0};
    scan->state = IN_KEY;
    return byte == '"' ? PR_CALL_MORE : PR_CALL_BAD;
}

static pr_call_place feed_colon(pr_call_scan *scan, char byte)
{
    if (pr_json_scan_is_space(byte))
        return PR_CALL_MORE;
    scan->state = AT_VALUE;
    return byte == ':' ? PR_CALL_MORE : PR_CALL_BAD;
}

pr_call_place pr_call_scan_feed(pr_call_scan *scan, char byte)
{
    switch (scan->state) {
    case AT_MEMBER:
        return feed_member(scan, byte);
    case IN_KEY:
        return feed_key(scan, byte);
    case AT_COLON:
        return feed_colon(scan, byte);
    case AT_VALUE:
        return feed_value_start(scan, byte);
    case IN_NAME:
        return feed_name(scan, byte);
    case IN_ARGUMENTS:
        return feed_arguments(scan, byte);
    case AT_STRING:
        return feed_string_start(scan, byte);
    case IN_STRING:
        return feed_string(scan, byte);
    case IN_SKIPPED:
        return feed_skipped(scan, byte);
    default:
        return feed_comma(scan, byte);
    }
}
