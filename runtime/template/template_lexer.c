// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/template/template_lexer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/utf8.h"
#include "runtime/value/template_builder.h"

enum { MAX_BRACKETS = 256 };

typedef struct lexer {
    pr_template_heap *heap;
    const char *text;
    size_t size, at;
    bool line_starting;  // what was taken last ended with a line break
    pr_template_token *token;
    size_t tokens, capacity;
} lexer;

static pr_status push(lexer *x, pr_template_token token)
{
    if (x->tokens == x->capacity) {
        size_t wanted = x->capacity < 64 ? 64 : x->capacity * 2;
        pr_template_token *fresh = pr_template_heap_take(x->heap, wanted * sizeof *fresh);
        if (!fresh)
            return PR_ERR_REQUEST;
        if (x->tokens > 0)
            memcpy(fresh, x->token, x->tokens * sizeof *fresh);
        x->token = fresh;
        x->capacity = wanted;
    }
    token.line = x->heap->line;
    x->token[x->tokens++] = token;
    return PR_OK;
}

static pr_status push_text(lexer *x, pr_template_token_kind kind, const char *data, size_t size)
{
    return push(
        x, (pr_template_token){.kind = kind, .text = pr_template_text_of(data, size, false)});
}

static bool looking_at(const lexer *x, size_t at, const char *word)
{
    size_t size = strlen(word);
    return at <= x->size && size <= x->size - at && memcmp(x->text + at, word, size) == 0;
}

static size_t find(const lexer *x, size_t from, const char *word)
{
    pr_template_text whole = pr_template_text_of(x->text, x->size, false);
    pr_template_text part = pr_template_text_of(word, strlen(word), false);
    return pr_template_text_find(&whole, &part, from);
}

static size_t skip_space(const lexer *x, size_t at)
{
    while (at < x->size) {
        size_t next = at;
        if (!pr_template_text_is_space(pr_utf8_next(x->text, &next)))
            break;
        at = next;
    }
    return at;
}

// Moves on to `at`, counting lines.
static void advance(lexer *x, size_t at)
{
    for (size_t i = x->at; i < at; i++)
        x->heap->line += x->text[i] == '\n';
    if (at > x->at)
        x->line_starting = x->text[at - 1] == '\n';
    x->at = at;
}

// ---- data

// Data up to a tag at `end`, without what the tag takes away on its left.
static pr_status push_data(lexer *x, size_t end, char sign, bool is_variable)
{
    size_t begin = x->at, stop = end;
    if (sign == '-') {
        pr_template_text data = pr_template_text_of(x->text + begin, end - begin, false);
        stop = begin + pr_template_text_strip(data, NULL, false, true).size_bytes;
    } else if (sign != '+' && !is_variable) {
        size_t line = end;
        while (line > begin && (x->text[line - 1] == ' ' || x->text[line - 1] == '\t'))
            line--;
        if (line > begin ? x->text[line - 1] == '\n' : x->line_starting)
            stop = line;
    }
    return stop > begin ? push_text(x, PR_TEMPLATE_TOKEN_DATA, x->text + begin, stop - begin)
                        : PR_OK;
}

// The sign in front of a closing tag at `end`, none if the tag's beginning has it.
static size_t after_closing(const lexer *x, size_t begin, size_t end)
{
    char sign = end > begin ? x->text[end - 1] : 0;
    size_t after = end + 2;
    if (sign == '-')
        return skip_space(x, after);
    return sign != '+' && looking_at(x, after, "\n") ? after + 1 : after;
}

static pr_status lex_comment(lexer *x, size_t begin)
{
    size_t end = find(x, begin, "#}");
    if (end == SIZE_MAX)
        return pr_template_heap_fail(x->heap, "a comment {# has no end #}");
    advance(x, after_closing(x, begin, end));
    return PR_OK;
}

// Whether `at` is behind {% and its sign, and the tag is just this word. *end is at its %}.
static bool is_bare_tag(const lexer *x, size_t at, const char *word, size_t *end)
{
    at = skip_space(x, at);
    if (!looking_at(x, at, word))
        return false;
    at = skip_space(x, at + strlen(word));
    if (looking_at(x, at, "-%}") || looking_at(x, at, "+%}"))
        at++;
    *end = at;
    return looking_at(x, at, "%}");
}

static pr_status lex_raw(lexer *x, size_t end)
{
    advance(x, x->text[end - 1] == '-' ? skip_space(x, end + 2) : end + 2);
    for (size_t tag = find(x, x->at, "{%"); tag != SIZE_MAX; tag = find(x, tag + 2, "{%")) {
        char sign = tag + 2 < x->size ? x->text[tag + 2] : 0;
        bool has_sign = sign == '-' || sign == '+';
        size_t close;
        if (!is_bare_tag(x, tag + 2 + has_sign, "endraw", &close))
            continue;
        PR_TRY(push_data(x, tag, sign, false));
        advance(x, after_closing(x, tag + 2, close));
        return PR_OK;
    }
    return pr_template_heap_fail(x->heap, "{%% raw %%} has no {%% endraw %%}");
}

// ---- inside of tags

static bool is_name_byte(char byte, bool first)
{
    uint8_t b = (uint8_t)byte;
    return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || b == '_' || b >= 0x80 ||
           (!first && b >= '0' && b <= '9');
}

static bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

static size_t skip_digits(const lexer *x, size_t at)
{
    while (at < x->size && (is_digit(x->text[at]) ||
                            (x->text[at] == '_' && at + 1 < x->size && is_digit(x->text[at + 1]))))
        at++;
    return at;
}

static size_t skip_fraction(const lexer *x, size_t at)
{
    return at + 1 < x->size && x->text[at] == '.' && is_digit(x->text[at + 1])
               ? skip_digits(x, at + 1)
               : at;
}

static size_t skip_exponent(const lexer *x, size_t at)
{
    size_t digits = at + 1;
    if (at >= x->size || (x->text[at] | 0x20) != 'e')
        return at;
    if (digits < x->size && (x->text[digits] == '+' || x->text[digits] == '-'))
        digits++;
    return digits < x->size && is_digit(x->text[digits]) ? skip_digits(x, digits) : at;
}

static pr_status lex_number(lexer *x)
{
    char digits[320];
    size_t begin = x->at, whole, end, used = 0;
    int base = 10;
    if (x->text[begin] == '0' && begin + 2 < x->size && strchr("xXoObB", x->text[begin + 1])) {
        char letter = (char)(x->text[begin + 1] | 0x20);
        base = letter == 'x' ? 16 : letter == 'o' ? 8 : 2;
        begin += 2;
        for (whole = begin; whole < x->size && is_name_byte(x->text[whole], false);)
            whole++;
        end = whole;
    } else {
        whole = skip_digits(x, begin);
        bool after_dot = begin > 0 && x->text[begin - 1] == '.';
        end = after_dot ? whole : skip_exponent(x, skip_fraction(x, whole));
    }
    for (size_t i = begin; i < end && used + 1 < sizeof digits; i++) {
        if (x->text[i] != '_')
            digits[used++] = x->text[i];
    }
    digits[used] = 0;
    pr_template_token token = {
        .kind = end == whole ? PR_TEMPLATE_TOKEN_INTEGER : PR_TEMPLATE_TOKEN_FLOAT};
    char *stop = digits;
    errno = 0;
    if (end == whole)
        token.integer = strtoll(digits, &stop, base);
    else
        token.real = strtod(digits, &stop);
    if (*stop || used == 0 || (end == whole && errno))
        return pr_template_heap_fail(x->heap, "%.40s is not a number, or beyond 64 bits", digits);
    advance(x, end);
    return push(x, token);
}

static bool parse_digits(const lexer *x, size_t at, size_t digits, int base, uint32_t *value)
{
    char copy[16] = {0}, *end;
    if (digits > x->size - at || digits >= sizeof copy)
        return false;
    memcpy(copy, x->text + at, digits);
    if (!is_digit(copy[0]) && !((copy[0] | 0x20) >= 'a' && (copy[0] | 0x20) <= 'f'))
        return false;
    *value = (uint32_t)strtoul(copy, &end, base);
    return end == copy + digits;
}

// One escape, *at behind its backslash.
static pr_status lex_escape(const lexer *x, size_t *at, pr_template_builder *builder)
{
    static const char letters[] = "abfnrtv\\'\"", meanings[] = "\a\b\f\n\r\t\v\\'\"";
    char letter = x->text[(*at)++];
    const char *known = letter ? strchr(letters, letter) : NULL;
    size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
    uint32_t code = 0;
    if (letter == '\n')
        return PR_OK;
    if (known) {
        pr_template_builder_put(builder, &meanings[known - letters], 1, false);
    } else if (digits > 0) {
        if (!parse_digits(x, *at, digits, 16, &code) || code > 0x10ffff)
            return pr_template_heap_fail(x->heap, "a \\%c in a string lacks its digits", letter);
        *at += digits;
        bool surrogate = code >= 0xd800 && code <= 0xdfff;
        pr_template_builder_put_character(builder, surrogate ? 0xfffd : code, false);
    } else if (letter >= '0' && letter <= '7') {
        size_t end = *at;
        while (end < *at + 2 && x->text[end] >= '0' && x->text[end] <= '7')
            end++;
        for (*at -= 1; *at < end; ++*at)
            code = code * 8 + (uint32_t)(x->text[*at] - '0');
        pr_template_builder_put_character(builder, code, false);
    } else {  // Python leaves an unknown escape as it is
        pr_template_builder_put(builder, "\\", 1, false);
        --*at;
        size_t next = *at;
        pr_template_builder_put_character(builder, pr_utf8_next(x->text, &next), false);
        *at = next;
    }
    return PR_OK;
}

static pr_status lex_string(lexer *x)
{
    char quote = x->text[x->at];
    size_t at = x->at + 1, copied = at;
    pr_template_builder builder = pr_template_builder_of(x->heap);
    pr_template_token token = {.kind = PR_TEMPLATE_TOKEN_STRING};
    while (at < x->size && x->text[at] != quote) {
        if (x->text[at++] != '\\')
            continue;
        if (at == x->size)
            break;
        pr_template_builder_put(&builder, x->text + copied, at - 1 - copied, false);
        PR_TRY(lex_escape(x, &at, &builder));
        copied = at;
    }
    if (at >= x->size)
        return pr_template_heap_fail(x->heap, "a string has no closing %c", quote);
    pr_template_builder_put(&builder, x->text + copied, at - copied, false);
    PR_TRY(pr_template_builder_finish(&builder, &token.text));
    PR_TRY(push(x, token));
    advance(x, at + 1);
    return PR_OK;
}

typedef struct brackets {
    char open[MAX_BRACKETS];
    size_t depth;
} brackets;

static pr_status track_bracket(const lexer *x, char byte, brackets *b)
{
    static const char opening[] = "([{", closing[] = ")]}";
    if (strchr(opening, byte)) {
        if (b->depth == MAX_BRACKETS)
            return pr_template_heap_fail(x->heap, "brackets are nested too deep");
        b->open[b->depth++] = byte;
    } else if (strchr(closing, byte)) {
        if (b->depth == 0 || b->open[--b->depth] != opening[strchr(closing, byte) - closing])
            return pr_template_heap_fail(x->heap, "unexpected '%c'", byte);
    }
    return PR_OK;
}

static pr_status lex_operator(lexer *x, brackets *b)
{
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    size_t size = 1;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        size = looking_at(x, x->at, two[i]) ? 2 : size;
    char byte = x->text[x->at];
    if (!byte || (size == 1 && !strchr("+-/*%~[](){}><=.:|,;", byte)))
        return pr_template_heap_fail(x->heap, "unexpected character '%c'", byte ? byte : '?');
    if (size == 1)
        PR_TRY(track_bracket(x, byte, b));
    PR_TRY(push_text(x, PR_TEMPLATE_TOKEN_OPERATOR, x->text + x->at, size));
    advance(x, x->at + size);
    return PR_OK;
}

static pr_status lex_one(lexer *x, brackets *b)
{
    char byte = x->text[x->at];
    if (is_digit(byte))
        return lex_number(x);
    if (byte == '"' || byte == '\'')
        return lex_string(x);
    if (!is_name_byte(byte, true))
        return lex_operator(x, b);
    size_t end = x->at + 1;
    while (end < x->size && is_name_byte(x->text[end], false))
        end++;
    PR_TRY(push_text(x, PR_TEMPLATE_TOKEN_NAME, x->text + x->at, end - x->at));
    advance(x, end);
    return PR_OK;
}

// Takes the tag's end if it is here.
static pr_status lex_closing(lexer *x, bool is_variable, bool *closed)
{
    size_t at = x->at;
    char sign = x->text[at];
    if (sign == '-' || (sign == '+' && !is_variable))
        at++;
    *closed = looking_at(x, at, is_variable ? "}}" : "%}");
    if (!*closed)
        return PR_OK;
    PR_TRY(push_text(
        x, is_variable ? PR_TEMPLATE_TOKEN_VARIABLE_END : PR_TEMPLATE_TOKEN_BLOCK_END, "", 0));
    if (is_variable)
        advance(x, sign == '-' ? skip_space(x, at + 2) : at + 2);
    else
        advance(x, after_closing(x, x->at, at));
    return PR_OK;
}

static pr_status lex_tag(lexer *x, bool is_variable)
{
    brackets b = {.depth = 0};
    int32_t line = x->heap->line;
    PR_TRY(push_text(
        x, is_variable ? PR_TEMPLATE_TOKEN_VARIABLE_BEGIN : PR_TEMPLATE_TOKEN_BLOCK_BEGIN, "", 0));
    for (;;) {
        bool closed = false;
        advance(x, skip_space(x, x->at));
        if (x->at == x->size) {
            x->heap->line = line;
            return pr_template_heap_fail(x->heap, "a tag has no end %s", is_variable ? "}}" : "%}");
        }
        if (b.depth == 0)
            PR_TRY(lex_closing(x, is_variable, &closed));
        if (closed)
            return PR_OK;
        PR_TRY(lex_one(x, &b));
    }
}

// ---- the whole

static size_t next_tag(const lexer *x)
{
    for (size_t at = x->at; at + 1 < x->size; at++) {
        char second = x->text[at + 1];
        if (x->text[at] == '{' && (second == '%' || second == '{' || second == '#'))
            return at;
    }
    return SIZE_MAX;
}

static pr_status lex(lexer *x)
{
    for (size_t tag = next_tag(x); tag != SIZE_MAX; tag = next_tag(x)) {
        char kind = x->text[tag + 1], sign = tag + 2 < x->size ? x->text[tag + 2] : 0;
        size_t inside = tag + 2 + (sign == '-' || sign == '+'), raw_end;
        PR_TRY(push_data(x, tag, sign, kind == '{'));
        advance(x, tag);
        if (kind == '#')
            PR_TRY(lex_comment(x, inside));
        else if (kind == '%' && is_bare_tag(x, inside, "raw", &raw_end))
            PR_TRY(lex_raw(x, raw_end));
        else {
            advance(x, inside);
            PR_TRY(lex_tag(x, kind == '{'));
        }
    }
    if (x->at < x->size)
        PR_TRY(push_text(x, PR_TEMPLATE_TOKEN_DATA, x->text + x->at, x->size - x->at));
    advance(x, x->size);
    return push_text(x, PR_TEMPLATE_TOKEN_END, "", 0);
}

// All line breaks as \n, and without the last one.
static pr_status copy_text(lexer *x, const char *text, size_t size_bytes)
{
    char *copy = pr_template_heap_take(x->heap, size_bytes + 1);
    if (!copy)
        return PR_ERR_REQUEST;
    for (size_t i = 0; i < size_bytes; i++) {
        if (text[i] == '\r' && i + 1 < size_bytes && text[i + 1] == '\n')
            continue;
        copy[x->size++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (x->size > 0 && copy[x->size - 1] == '\n')
        x->size--;
    copy[x->size] = 0;
    x->text = copy;
    return PR_OK;
}

pr_status pr_template_lexer_run(
    pr_template_heap *heap, const char *text, size_t size_bytes, pr_template_token **token)
{
    lexer x = {.heap = heap, .line_starting = true};
    heap->line = 1;
    PR_TRY(copy_text(&x, text, size_bytes));
    PR_TRY(lex(&x));
    *token = x.token;
    return PR_OK;
}
