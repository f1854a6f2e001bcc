// SPDX-License-Identifier: BSD-3-Clause
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/grammar/regex.h"
#include "runtime/text/utf8.h"

typedef struct parser {
    const char *what, *text;
    size_t size_bytes, at;
    pr_regex *regex;
} parser;

static pr_status refuse(const parser *p, size_t at, const char *reason)
{
    return pr_fail(
        PR_ERR_REQUEST, "%s: at byte %zu of the regular expression: %s", p->what, at, reason);
}

void pr_regex_free(pr_regex *regex)
{
    pr_code_points *set = regex->set.data;
    for (size_t i = 0; i < regex->set.size_bytes / sizeof *set; i++)
        pr_code_points_free(&set[i]);
    pr_byte_buffer_free(&regex->set);
    pr_byte_buffer_free(&regex->node);
}

static pr_regex_node *node_at(const parser *p, int32_t index)
{
    return (pr_regex_node *)p->regex->node.data + index;
}

static pr_status add_node(parser *p, pr_regex_node node, int32_t *index)
{
    *index = (int32_t)(p->regex->node.size_bytes / sizeof node);
    node.next = -1;
    pr_byte_buffer_append(&p->regex->node, &node, sizeof node);
    return pr_byte_buffer_check(&p->regex->node);
}

// The set is given away, also after an error.
static pr_status add_set(parser *p, pr_code_points *set, int32_t *index)
{
    pr_regex_node node = {.op = PR_REGEX_SET, .child = -1};
    node.set = (int32_t)(p->regex->set.size_bytes / sizeof *set);
    bool failed = set->range.failed;
    pr_code_points *place = failed ? NULL : pr_byte_buffer_extend(&p->regex->set, sizeof *set);
    if (!place) {
        pr_code_points_free(set);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a regular expression");
    }
    *place = *set;
    return add_node(p, node, index);
}

static int peek(const parser *p)
{
    return p->at < p->size_bytes ? (unsigned char)p->text[p->at] : -1;
}

static bool take(parser *p, char byte)
{
    if (peek(p) != (unsigned char)byte)
        return false;
    p->at++;
    return true;
}

// ---- Escapes

static void add_digits(pr_code_points *set) { pr_code_points_add(set, '0', '9'); }

static void add_word(pr_code_points *set)
{
    add_digits(set);
    pr_code_points_add(set, 'A', 'Z');
    pr_code_points_add(set, '_', '_');
    pr_code_points_add(set, 'a', 'z');
}

static void add_space(pr_code_points *set)
{
    pr_code_points_add(set, '\t', '\r');
    pr_code_points_add(set, ' ', ' ');
}

// \d \w \s and their opposites; false for another letter.
static bool add_class(char letter, pr_code_points *set)
{
    pr_code_points fresh = {0};
    switch (letter | 0x20) {
    case 'd':
        add_digits(&fresh);
        break;
    case 'w':
        add_word(&fresh);
        break;
    case 's':
        add_space(&fresh);
        break;
    default:
        return false;
    }
    pr_code_points_normalise(&fresh);
    if (letter < 'a')
        pr_code_points_negate(&fresh);
    pr_code_points_add_all(set, &fresh);
    set->range.failed |= fresh.range.failed;
    pr_code_points_free(&fresh);
    return true;
}

static pr_status take_hex(parser *p, int digits, uint32_t *code_point)
{
    *code_point = 0;
    for (int i = 0; i < digits; i++) {
        int byte = peek(p);
        int value = byte >= '0' && byte <= '9'   ? byte - '0'
                    : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10
                    : byte >= 'A' && byte <= 'F' ? byte - 'A' + 10
                                                 : -1;
        if (value < 0)
            return refuse(p, p->at, "hexadecimal digits are missing");
        *code_point = *code_point * 16 + (uint32_t)value;
        p->at++;
    }
    return PR_OK;
}

static pr_status refuse_escape(const parser *p, size_t at, int letter)
{
    switch (letter) {
    case -1:
        return refuse(p, at, "'\\' is the last character");
    case 'b':
    case 'B':
        return refuse(p, at, "word boundaries (\\b, \\B) are not supported");
    case 'p':
    case 'P':
        return refuse(p, at, "Unicode properties (\\p, \\P) are not supported: list the ranges");
    case 'k':
        return refuse(p, at, "back references (\\k) are not supported");
    default:
        if (letter >= '0' && letter <= '9')
            return refuse(p, at, "back references and octal escapes (\\1, \\0) are not supported");
        return refuse(p, at, "an unknown escape");
    }
}

static pr_status take_unicode(parser *p, uint32_t *code_point)
{
    uint32_t low;
    PR_TRY(take_hex(p, 4, code_point));
    if (*code_point < 0xd800 || *code_point > 0xdfff)
        return PR_OK;
    size_t at = p->at;
    if (*code_point > 0xdbff || !take(p, '\\') || !take(p, 'u'))
        return refuse(p, at, "a lone surrogate is no character");
    PR_TRY(take_hex(p, 4, &low));
    if (low < 0xdc00 || low > 0xdfff)
        return refuse(p, at, "a lone surrogate is no character");
    *code_point = 0x10000 + ((*code_point - 0xd800) << 10) + (low - 0xdc00);
    return PR_OK;
}

// After the backslash: a class into the set, with *single = UINT32_MAX, or one code point.
static pr_status take_escape(parser *p, bool in_class, pr_code_points *set, uint32_t *single)
{
    static const char letters[] = "nrtfv", values[] = "\n\r\t\f\v";
    size_t at = p->at - 1;
    int letter = peek(p);
    *single = UINT32_MAX;
    if (letter < 0)
        return refuse_escape(p, at, letter);
    if (letter >= 0x80) {
        *single = pr_utf8_next(p->text, &p->at);
        return PR_OK;
    }
    p->at++;
    if (add_class((char)letter, set))
        return PR_OK;
    const char *known = strchr(letters, letter);
    bool is_letter = (letter | 0x20) >= 'a' && (letter | 0x20) <= 'z';
    if (known)
        *single = (uint32_t)values[known - letters];
    else if (letter == 'x')
        return take_hex(p, 2, single);
    else if (letter == 'u')
        return take_unicode(p, single);
    else if (letter == 'b' && in_class)
        *single = '\b';
    else if (is_letter || (letter >= '0' && letter <= '9'))
        return refuse_escape(p, at, letter);
    else
        *single = (uint32_t)letter;
    return PR_OK;
}

// ---- Sets

static pr_status take_class_item(parser *p, pr_code_points *set, uint32_t *single)
{
    if (take(p, '\\'))
        return take_escape(p, true, set, single);
    *single = pr_utf8_next(p->text, &p->at);
    return PR_OK;
}

// After '['.
static pr_status take_class_items(parser *p, size_t opened, pr_code_points *set)
{
    if (peek(p) == ']')
        return refuse(p, opened, "an empty class: write \\] for a bracket");
    while (!take(p, ']')) {
        uint32_t low, high;
        size_t at = p->at;
        if (peek(p) < 0)
            return refuse(p, opened, "']' is missing");
        PR_TRY(take_class_item(p, set, &low));
        high = low;
        bool is_range = peek(p) == '-' && p->at + 1 < p->size_bytes && p->text[p->at + 1] != ']';
        if (is_range && low == UINT32_MAX)
            return refuse(p, at, "a range that begins with a class");
        if (is_range) {
            p->at++;
            PR_TRY(take_class_item(p, set, &high));
            if (high == UINT32_MAX || high < low)
                return refuse(p, at, "a range that ends before it begins");
        }
        if (low != UINT32_MAX)
            pr_code_points_add(set, low, high);
    }
    return PR_OK;
}

static pr_status take_class(parser *p, int32_t *index)
{
    pr_code_points set = {0};
    size_t opened = p->at - 1;
    bool negated = take(p, '^');
    pr_status status = take_class_items(p, opened, &set);
    if (status != PR_OK) {
        pr_code_points_free(&set);
        return status;
    }
    pr_code_points_normalise(&set);
    if (negated)
        pr_code_points_negate(&set);
    return add_set(p, &set, index);
}

// Any character but those that end a line: in ECMA 262 they are four, in Python one.
static pr_status add_dot(parser *p, int32_t *index)
{
    pr_code_points set = {0};
    pr_code_points_add(&set, '\n', '\n');
    pr_code_points_add(&set, '\r', '\r');
    pr_code_points_add(&set, 0x2028, 0x2029);
    pr_code_points_normalise(&set);
    pr_code_points_negate(&set);
    return add_set(p, &set, index);
}

static pr_status take_single(parser *p, int32_t *index)
{
    pr_code_points set = {0};
    uint32_t single;
    pr_status status = PR_OK;
    if (take(p, '\\'))
        status = take_escape(p, false, &set, &single);
    else
        single = pr_utf8_next(p->text, &p->at);
    if (status != PR_OK) {
        pr_code_points_free(&set);
        return status;
    }
    if (single != UINT32_MAX)
        pr_code_points_add(&set, single, single);
    pr_code_points_normalise(&set);
    return add_set(p, &set, index);
}

// ---- Groups and repetitions

static pr_status take_alternatives(parser *p, int depth, int32_t *index);

// After "(?": names are skipped, everything else that is not a plain group is refused.
static pr_status take_group_kind(parser *p, size_t opened)
{
    if (take(p, ':'))
        return PR_OK;
    take(p, 'P');
    if (!take(p, '<') || peek(p) == '=' || peek(p) == '!') {
        int kind = peek(p);
        if (kind == '=' || kind == '!')
            return refuse(p, opened, "look-around ((?=, (?!, (?<=, (?<!) is not supported");
        return refuse(p, opened, "a group of this kind is not supported: use (...) or (?:...)");
    }
    while (peek(p) >= 0 && !take(p, '>'))
        p->at++;
    return PR_OK;
}

static pr_status take_group(parser *p, int depth, int32_t *index)
{
    size_t opened = p->at - 1;
    if (depth == PR_GRAMMAR_MAX_NESTING)
        return refuse(p, opened, "groups are nested too deep");
    if (take(p, '?'))
        PR_TRY(take_group_kind(p, opened));
    PR_TRY(take_alternatives(p, depth + 1, index));
    return take(p, ')') ? PR_OK : refuse(p, opened, "')' is missing");
}

static pr_status take_atom(parser *p, int depth, int32_t *index)
{
    switch (peek(p)) {
    case '(':
        p->at++;
        return take_group(p, depth, index);
    case '[':
        p->at++;
        return take_class(p, index);
    case '.':
        p->at++;
        return add_dot(p, index);
    case '^':
        p->at++;
        return add_node(p, (pr_regex_node){.op = PR_REGEX_BEGIN, .child = -1}, index);
    case '$':
        p->at++;
        return add_node(p, (pr_regex_node){.op = PR_REGEX_END, .child = -1}, index);
    case '*':
    case '+':
    case '?':
    case '{':
        return refuse(
            p, p->at, "there is nothing to repeat: escape it with '\\' for the character");
    default:
        return take_single(p, index);
    }
}

static pr_status take_number(parser *p, int32_t *number)
{
    size_t at = p->at;
    *number = 0;
    while (peek(p) >= '0' && peek(p) <= '9') {
        *number = *number * 10 + (peek(p) - '0');
        p->at++;
        if (*number > PR_GRAMMAR_MAX_REPEAT)
            return refuse(p, at, "a repetition of more than 65536 times");
    }
    return p->at > at ? PR_OK : refuse(p, at, "a number is missing: escape '{' for the character");
}

static pr_status take_counts(parser *p, int32_t *min, int32_t *max)
{
    size_t at = p->at - 1;
    PR_TRY(take_number(p, min));
    *max = *min;
    if (take(p, ',')) {
        *max = PR_GRAMMAR_NO_LIMIT;
        if (peek(p) != '}')
            PR_TRY(take_number(p, max));
    }
    if (!take(p, '}'))
        return refuse(p, at, "'}' is missing: escape '{' for the character");
    if (*max != PR_GRAMMAR_NO_LIMIT && *max < *min)
        return refuse(p, at, "a repetition whose limits are in the wrong order");
    return PR_OK;
}

static pr_status take_repeats(parser *p, int32_t *index)
{
    size_t at = p->at;
    int32_t min, max;
    if (take(p, '*'))
        min = 0, max = PR_GRAMMAR_NO_LIMIT;
    else if (take(p, '+'))
        min = 1, max = PR_GRAMMAR_NO_LIMIT;
    else if (take(p, '?'))
        min = 0, max = 1;
    else if (take(p, '{'))
        PR_TRY(take_counts(p, &min, &max));
    else
        return PR_OK;
    pr_regex_op op = node_at(p, *index)->op;
    if (op == PR_REGEX_BEGIN || op == PR_REGEX_END)
        return refuse(p, at, "an anchor cannot be repeated");
    take(p, '?');  // lazy: the same texts match
    int next = peek(p);
    if (next == '*' || next == '+' || next == '?' || next == '{')
        return refuse(p, p->at, "a repetition of a repetition: put a group around the inner one");
    return add_node(
        p, (pr_regex_node){.op = PR_REGEX_REPEAT, .child = *index, .min = min, .max = max}, index);
}

static pr_status take_sequence(parser *p, int depth, int32_t *index)
{
    int32_t last = -1, item;
    PR_TRY(add_node(p, (pr_regex_node){.op = PR_REGEX_CONCAT, .child = -1}, index));
    while (peek(p) >= 0 && peek(p) != '|' && peek(p) != ')') {
        PR_TRY(take_atom(p, depth, &item));
        PR_TRY(take_repeats(p, &item));
        if (last < 0)
            node_at(p, *index)->child = item;
        else
            node_at(p, last)->next = item;
        last = item;
    }
    return PR_OK;
}

static pr_status take_alternatives(parser *p, int depth, int32_t *index)
{
    int32_t last = -1, item;
    PR_TRY(add_node(p, (pr_regex_node){.op = PR_REGEX_ALT, .child = -1}, index));
    do {
        PR_TRY(take_sequence(p, depth, &item));
        if (last < 0)
            node_at(p, *index)->child = item;
        else
            node_at(p, last)->next = item;
        last = item;
    } while (take(p, '|'));
    return PR_OK;
}

static pr_status check_text(const parser *p)
{
    pr_byte_buffer repaired = {0};
    (void)pr_utf8_repair(p->text, p->size_bytes, true, &repaired);
    bool same = repaired.size_bytes == p->size_bytes &&
                (p->size_bytes == 0 || memcmp(repaired.data, p->text, p->size_bytes) == 0);
    pr_byte_buffer_free(&repaired);
    return same ? PR_OK : refuse(p, 0, "it is not UTF-8");
}

pr_status pr_regex_parse(const char *what, const char *text, size_t size_bytes, pr_regex *regex)
{
    parser p = {.what = what, .text = text, .size_bytes = size_bytes, .regex = regex};
    *regex = (pr_regex){0};
    PR_TRY(check_text(&p));
    PR_TRY(take_alternatives(&p, 0, &regex->root));
    return peek(&p) < 0 ? PR_OK : refuse(&p, p.at, "')' without '('");
}
