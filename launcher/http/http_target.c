// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/http/http_target.h"

#include <string.h>
#include <strings.h>

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 32;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

// In place. False: a percent sign without two digits, or a control byte.
static bool decode(char *text)
{
    char *out = text;
    for (const char *at = text; *at; at++) {
        int byte = (unsigned char)*at;
        if (byte == '%') {
            int high = digit_value(at[1]), low = high < 0 ? -1 : digit_value(at[2]);
            if (low < 0)
                return false;
            byte = high * 16 + low;
            at += 2;
        }
        if (byte < ' ' || byte == 0x7f)
            return false;
        *out++ = (char)byte;
    }
    *out = '\0';
    return true;
}

// Of an absolute form: where its path begins, or 0 if it is none.
static size_t skip_authority(const char *text)
{
    size_t scheme = strncasecmp(text, "http://", 7) == 0    ? 7
                    : strncasecmp(text, "https://", 8) == 0 ? 8
                                                            : 0;
    size_t host = scheme ? strcspn(text + scheme, "/?") : 0;
    return host ? scheme + host : 0;
}

const char *pr_http_target_split(char *text, pr_http_target *target)
{
    target->path = 0;
    if (strcmp(text, "*") == 0 && target->options) {
        target->query = 1;
        return NULL;
    }
    if (strchr(text, '#'))
        return "A request target has no fragment.";
    if (text[0] != '/') {
        target->path = skip_authority(text);
        if (target->path == 0)
            return "The request target must be a path.";
    }
    size_t end = target->path + strcspn(text + target->path, "?");
    target->query = text[end] ? end + 1 : end;
    text[end] = '\0';
    // `http://host?query`: the path is "/", written over the host's last byte.
    if (end == target->path)
        text[--target->path] = '/';
    return decode(text + target->path) ? NULL : "The request path is malformed.";
}
