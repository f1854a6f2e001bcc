// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/parse/json_scan.h"

#include <string.h>

#include "runtime/text/utf8.h"

// Of numbers, true, false and null; letters that they have not are left to the reader of the value.
static bool is_scalar_byte(char byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || byte == 'E' ||
           byte == '-' || byte == '+' || byte == '.';
}

static pr_json_place feed_string(pr_json_value *value, char byte)
{
    if (value->escaped)
        value->escaped = false;
    else if (byte == '\\')
        value->escaped = true;
    else if (byte == '"')
        value->in_string = false;
    return !value->in_string && value->depth == 0 ? PR_JSON_LAST : PR_JSON_PART;
}

static pr_json_place feed_first(pr_json_value *value, char byte)
{
    value->begun = true;
    if (byte == '{' || byte == '[')
        value->depth = 1;
    else if (byte == '"')
        value->in_string = true;
    else if (is_scalar_byte(byte))
        value->scalar = true;
    else
        return PR_JSON_BAD;
    return PR_JSON_PART;
}

pr_json_place pr_json_scan_value(pr_json_value *value, char byte)
{
    if (!value->begun)
        return feed_first(value, byte);
    if (value->in_string)
        return feed_string(value, byte);
    if (value->scalar)
        return is_scalar_byte(byte) ? PR_JSON_PART : PR_JSON_AFTER;
    if (byte == '{' || byte == '[')
        value->depth++;
    else if (byte == '}' || byte == ']')
        value->depth--;
    else if (byte == '"')
        value->in_string = true;
    else if (byte != ':' && byte != ',' && !pr_json_scan_is_space(byte) && !is_scalar_byte(byte))
        return PR_JSON_BAD;
    return value->depth == 0 ? PR_JSON_LAST : PR_JSON_PART;
}

// ---- Strings ----

static int32_t hex_value(char byte)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = byte ? strchr(digits, byte >= 'A' && byte <= 'F' ? byte + 32 : byte) : NULL;
    return found ? (int32_t)(found - digits) : -1;
}

static void end_lone_surrogate(pr_json_string *string, pr_byte_buffer *decoded)
{
    if (string->high)
        pr_utf8_append(decoded, 0xfffd);
    string->high = 0;
}

static void take_unit(pr_json_string *string, pr_byte_buffer *decoded)
{
    uint32_t unit = string->unit;
    if (unit >= 0xdc00 && unit < 0xe000 && string->high) {
        pr_utf8_append(decoded, 0x10000 + ((string->high - 0xd800) << 10) + (unit - 0xdc00));
        string->high = 0;
        return;
    }
    end_lone_surrogate(string, decoded);
    if (unit >= 0xd800 && unit < 0xdc00)
        string->high = unit;
    else
        pr_utf8_append(decoded, unit >= 0xdc00 && unit < 0xe000 ? 0xfffd : unit);
}

static pr_json_place feed_digit(pr_json_string *string, char byte, pr_byte_buffer *decoded)
{
    int32_t digit = hex_value(byte);
    if (digit < 0)
        return PR_JSON_BAD;
    string->unit = string->unit << 4 | (uint32_t)digit;
    if (--string->digits == 0)
        take_unit(string, decoded);
    return PR_JSON_PART;
}

static void feed_escape(pr_json_string *string, char byte, pr_byte_buffer *decoded)
{
    static const char names[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    string->escaped = false;
    if (byte == 'u') {
        string->digits = 4;
        string->unit = 0;
        return;
    }
    end_lone_surrogate(string, decoded);
    const char *found = byte ? strchr(names, byte) : NULL;
    pr_byte_buffer_append(decoded, found ? &meanings[found - names] : &byte, 1);
}

pr_json_place pr_json_scan_string(pr_json_string *string, char byte, pr_byte_buffer *decoded)
{
    if (string->digits > 0)
        return feed_digit(string, byte, decoded);
    if (string->escaped) {
        feed_escape(string, byte, decoded);
        return PR_JSON_PART;
    }
    if (byte == '\\') {
        string->escaped = true;
        return PR_JSON_PART;
    }
    end_lone_surrogate(string, decoded);
    if (byte == '"')
        return PR_JSON_LAST;
    pr_byte_buffer_append(decoded, &byte, 1);
    return PR_JSON_PART;
}
