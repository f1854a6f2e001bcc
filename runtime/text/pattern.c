// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/text/pattern.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "runtime/base/log.h"
#include "runtime/text/json_field.h"
#include "runtime/text/utf8.h"

struct pr_pattern {
    pcre2_code *code;  // NULL: literal
    char *text;        // the literal
    size_t size_bytes;
};

static pr_status allocate(pr_pattern **pattern)
{
    *pattern = calloc(1, sizeof **pattern);
    return *pattern ? PR_OK : pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a pattern");
}

void pr_pattern_destroy(pr_pattern *pattern)
{
    if (!pattern)
        return;
    pcre2_code_free(pattern->code);
    free(pattern->text);
    free(pattern);
}

pr_status pr_pattern_create_literal(const char *text, size_t size_bytes, pr_pattern **pattern)
{
    if (size_bytes == 0)
        return pr_fail(PR_ERR_FORMAT, "tokenizer: a pattern is the empty string");
    pr_pattern *fresh;
    PR_TRY(allocate(&fresh));
    fresh->text = malloc(size_bytes);
    if (!fresh->text) {
        pr_pattern_destroy(fresh);
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a pattern");
    }
    memcpy(fresh->text, text, size_bytes);
    fresh->size_bytes = size_bytes;
    *pattern = fresh;
    return PR_OK;
}

// Constructs with another meaning in Oniguruma than in PCRE2: [a&&b], [a[b]], \h, \H and (?m).
static const char *foreign_construct(const char *regex, size_t size)
{
    bool in_class = false;
    for (size_t i = 0; i < size; i++) {
        char c = regex[i], next = i + 1 < size ? regex[i + 1] : '\0';
        if (c == '\\') {
            if (next == 'h' || next == 'H')
                return "\\h";
            i++;
        } else if (in_class && c == '&' && next == '&') {
            return "&& in a character class";
        } else if (in_class && c == '[' && next != ':') {
            return "a character class in a character class";
        } else if (in_class && c == '[') {  // [:name:]
            const char *close = memchr(regex + i, ']', size - i);
            i = close ? (size_t)(close - regex) : i;
        } else if (c == '[') {
            in_class = true;
            i += next == '^';
        } else if (c == ']') {
            in_class = false;
        } else if (c == '(' && next == '?' && i + 2 < size && regex[i + 2] == 'm') {
            return "(?m)";
        }
    }
    return NULL;
}

static pr_status compile(const char *regex, size_t size_bytes, pcre2_code **code)
{
    int error;
    PCRE2_SIZE offset;
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    *code = pcre2_compile((PCRE2_SPTR)regex, size_bytes, options, &error, &offset, context);
    pcre2_compile_context_free(context);
    if (!*code) {
        PCRE2_UCHAR reason[128];
        pcre2_get_error_message(error, reason, sizeof reason);
        return pr_fail(
            PR_ERR_UNSUPPORTED, "tokenizer: regular expression '%.300s': %s at byte %zu", regex,
            (const char *)reason, offset);
    }
    // Without executable memory the interpreter does the same, about five times slower.
    (void)pcre2_jit_compile(*code, PCRE2_JIT_COMPLETE);
    return PR_OK;
}

pr_status pr_pattern_create_regex(const char *regex, size_t size_bytes, pr_pattern **pattern)
{
    const char *foreign = foreign_construct(regex, size_bytes);
    if (foreign)
        return pr_fail(
            PR_ERR_UNSUPPORTED, "tokenizer: regular expression '%.300s' uses %s, not supported",
            regex, foreign);
    pr_pattern *fresh;
    PR_TRY(allocate(&fresh));
    pr_status status = compile(regex, size_bytes, &fresh->code);
    if (status != PR_OK) {
        pr_pattern_destroy(fresh);
        return status;
    }
    *pattern = fresh;
    return PR_OK;
}

pr_status pr_pattern_parse(const json_t *object, const char *where, pr_pattern **pattern)
{
    const json_t *field = json_object_get(object, "pattern");
    const char *text;
    size_t size_bytes;
    if (json_object_get(field, "String")) {
        PR_TRY(pr_json_field_string(field, where, "String", &text, &size_bytes));
        return pr_pattern_create_literal(text, size_bytes, pattern);
    }
    if (json_object_get(field, "Regex")) {
        PR_TRY(pr_json_field_string(field, where, "Regex", &text, &size_bytes));
        return pr_pattern_create_regex(text, size_bytes, pattern);
    }
    return pr_fail(
        PR_ERR_FORMAT, "tokenizer: %s: field \"pattern\" has neither \"String\" nor \"Regex\"",
        where);
}

pr_status pr_pattern_search_begin(const pr_pattern *pattern, pr_pattern_search *search)
{
    *search = (pr_pattern_search){.pattern = pattern};
    if (pattern->code) {
        search->match_data = pcre2_match_data_create(1, NULL);
        if (!search->match_data)
            return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a search");
    }
    return PR_OK;
}

void pr_pattern_search_end(pr_pattern_search *search)
{
    pcre2_match_data_free(search->match_data);
    search->match_data = NULL;
}

void pr_pattern_search_set(pr_pattern_search *search, const char *text, size_t size_bytes)
{
    search->text = text;
    search->size_bytes = size_bytes;
    search->position = search->last_end = 0;
    search->matched_before = false;
}

static bool find_literal(const pr_pattern_search *search, size_t *start, size_t *end)
{
    const char *found = memmem(
        search->text + search->position, search->size_bytes - search->position,
        search->pattern->text, search->pattern->size_bytes);
    if (!found)
        return false;
    *start = (size_t)(found - search->text);
    *end = *start + search->pattern->size_bytes;
    return true;
}

static pr_status
find_regex(const pr_pattern_search *search, bool *found, size_t *start, size_t *end)
{
    const pcre2_code *code = search->pattern->code;
    PCRE2_SPTR text = (PCRE2_SPTR)search->text;
    int rc = pcre2_match(
        code, text, search->size_bytes, search->position, PCRE2_NO_UTF_CHECK, search->match_data,
        NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(
            code, text, search->size_bytes, search->position, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
            search->match_data, NULL);
    *found = rc >= 0;
    if (rc >= 0) {
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(search->match_data);
        *start = range[0];
        *end = range[1];
        return PR_OK;
    }
    if (rc == PCRE2_ERROR_NOMATCH)
        return PR_OK;
    return pr_fail(
        PR_ERR_REQUEST, "tokenizer: a regular expression gave up on a text of %zu bytes (PCRE2 %d)",
        search->size_bytes, rc);
}

pr_status pr_pattern_search_next(pr_pattern_search *search, bool *found, size_t *start, size_t *end)
{
    *found = false;
    while (search->position <= search->size_bytes) {
        if (search->pattern->code)
            PR_TRY(find_regex(search, found, start, end));
        else
            *found = find_literal(search, start, end);
        if (!*found) {
            search->position = search->size_bytes + 1;
            return PR_OK;
        }
        if (*start != *end || !search->matched_before || search->last_end != *end) {
            search->position = search->last_end = *end;
            search->matched_before = true;
            return PR_OK;
        }
        *found = false;  // an empty match where the last one ended: step over one character
        if (search->position < search->size_bytes)
            (void)pr_utf8_next(search->text, &search->position);
        else
            search->position++;
    }
    return PR_OK;
}
