// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/grammar/json_rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/grammar/decimal_range.h"
#include "runtime/text/utf8.h"

int32_t pr_json_rules_space(pr_json_rules *rules, int32_t next)
{
    return pr_grammar_builder_split(
        rules->builder, pr_grammar_builder_bytes(rules->builder, ' ', ' ', next), next);
}

// ---- Strings

static int32_t byte_of(pr_json_rules *rules, char byte, int32_t next)
{
    return pr_grammar_builder_bytes(rules->builder, (unsigned char)byte, (unsigned char)byte, next);
}

static int32_t hex_digit(pr_json_rules *rules, int32_t next)
{
    pr_grammar_edge edge[] = {{'0', '9', next}, {'A', 'F', next}, {'a', 'f', next}};
    return pr_grammar_builder_edges(rules->builder, edge, 3);
}

// "D8".."DB", then two digits, backslash, u, "DC".."DF", two digits.
static int32_t after_surrogate_d(pr_json_rules *rules, int32_t two_digits)
{
    pr_grammar_edge low[] = {{'C', 'F', two_digits}, {'c', 'f', two_digits}};
    int32_t second = pr_grammar_builder_edges(rules->builder, low, 2);
    pr_grammar_edge d[] = {{'D', 'D', second}, {'d', 'd', second}};
    second = pr_grammar_builder_edges(rules->builder, d, 2);
    second = pr_grammar_builder_text(rules->builder, "\\u", 2, second);
    int32_t first = hex_digit(rules, hex_digit(rules, second));
    pr_grammar_edge high[] = {
        {'8', '9', first}, {'A', 'B', first}, {'a', 'b', first}, {'0', '7', two_digits}};
    return pr_grammar_builder_edges(rules->builder, high, 4);
}

// Four digits of a code point that is not U+0000 and no lone surrogate.
static int32_t after_u(pr_json_rules *rules, int32_t next)
{
    pr_grammar_edge not_zero[] = {{'1', '9', next}, {'A', 'F', next}, {'a', 'f', next}};
    int32_t one = hex_digit(rules, next), two = hex_digit(rules, one),
            three = hex_digit(rules, two);
    int32_t last = pr_grammar_builder_edges(rules->builder, not_zero, 3);
    for (int i = 0; i < 2; i++) {  // zeros so far: either one more, or any other digit
        int32_t rest = i == 0 ? one : two;
        pr_grammar_edge edge[] = {
            {'0', '0', last}, {'1', '9', rest}, {'A', 'F', rest}, {'a', 'f', rest}};
        last = pr_grammar_builder_edges(rules->builder, edge, 4);
    }
    int32_t d = after_surrogate_d(rules, two);
    pr_grammar_edge edge[] = {{'0', '0', last},  {'1', '9', three}, {'A', 'C', three},
                              {'a', 'c', three}, {'E', 'F', three}, {'e', 'f', three},
                              {'D', 'D', d},     {'d', 'd', d}};
    return pr_grammar_builder_edges(rules->builder, edge, 8);
}

static void add_plain_characters(pr_code_points *set)
{
    pr_code_points_add(set, ' ', 0x10ffff);
    pr_code_points quoted = {0};
    pr_code_points_add(&quoted, '"', '"');
    pr_code_points_add(&quoted, '\\', '\\');
    pr_code_points_normalise(&quoted);
    pr_code_points_normalise(set);
    pr_code_points_subtract(set, &quoted);
    pr_code_points_free(&quoted);
}

static int32_t build_character(pr_json_rules *rules)
{
    pr_code_points plain = {0};
    int32_t end = pr_grammar_builder_return(rules->builder);
    add_plain_characters(&plain);
    int32_t node = pr_grammar_builder_code_point(rules->builder, &plain, end);
    pr_code_points_free(&plain);
    pr_grammar_edge escape[9] = {{'u', 'u', after_u(rules, end)}};
    for (int i = 0; i < 8; i++)
        escape[i + 1] =
            (pr_grammar_edge){(uint8_t) "\"\\/bfnrt"[i], (uint8_t) "\"\\/bfnrt"[i], end};
    int32_t escaped = pr_grammar_builder_edges(rules->builder, escape, 9);
    return pr_grammar_builder_split(rules->builder, node, byte_of(rules, '\\', escaped));
}

// The rule of *index, built now if this is its first use.
static int32_t rule_of(pr_json_rules *rules, int32_t *index, int32_t (*build)(pr_json_rules *))
{
    if (*index == 0) {
        int32_t rule = pr_grammar_builder_rule(rules->builder);
        *index = rule + 1;
        pr_grammar_builder_set_rule(rules->builder, rule, build(rules));
    }
    return *index - 1;
}

static int32_t
call_rule(pr_json_rules *rules, int32_t *index, int32_t (*build)(pr_json_rules *), int32_t next)
{
    return pr_grammar_builder_call(rules->builder, rule_of(rules, index, build), next);
}

int32_t pr_json_rules_string(pr_json_rules *rules, int32_t min, int32_t max, int32_t next)
{
    int32_t end = pr_grammar_builder_return(rules->builder);
    int32_t body = call_rule(rules, &rules->character, build_character, end);
    int32_t node = byte_of(rules, '"', next);
    node = pr_grammar_builder_repeat(rules->builder, body, min, max, node);
    return byte_of(rules, '"', node);
}

// U+0001..U+001F: the short form where there is one.
static int32_t control_character(pr_json_rules *rules, uint32_t code_point, int32_t next)
{
    static const char short_form[] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    char text[8];
    if (code_point < sizeof short_form && short_form[code_point])
        snprintf(text, sizeof text, "\\%c", short_form[code_point]);
    else
        snprintf(text, sizeof text, "\\u%04x", (unsigned)code_point & 0xffff);
    return pr_grammar_builder_text(rules->builder, text, strlen(text), next);
}

int32_t pr_json_rules_character(pr_json_rules *rules, const pr_code_points *set, int32_t next)
{
    pr_code_points plain = {0}, escaped = {0};
    pr_code_points_add_all(&escaped, set);
    pr_code_points_normalise(&escaped);
    add_plain_characters(&plain);
    pr_code_points_subtract(&escaped, &plain);  // what may not stand for itself
    pr_code_points_free(&plain);
    pr_code_points_add_all(&plain, set);
    pr_code_points_normalise(&plain);
    pr_code_points_subtract(&plain, &escaped);
    int32_t node = pr_grammar_builder_code_point(rules->builder, &plain, next);
    for (int32_t i = 0; i < pr_code_points_count(&escaped); i++) {
        pr_code_range range = pr_code_points_ranges(&escaped)[i];
        for (uint32_t c = range.low; c <= range.high; c++) {
            char quoted[] = {'\\', (char)c};
            int32_t each = c < ' ' ? control_character(rules, c, next)
                                   : pr_grammar_builder_text(rules->builder, quoted, 2, next);
            node = pr_grammar_builder_split(rules->builder, node, each);
        }
    }
    rules->builder->node.failed |= plain.range.failed || escaped.range.failed;
    pr_code_points_free(&plain);
    pr_code_points_free(&escaped);
    return node;
}

// ---- Keys that are none of a list: a tree of the list's characters, left at any other character

typedef struct key_tree {
    pr_json_rules *rules;
    const pr_grammar_text *key;
    int32_t rest;   // any characters, the quote, next
    int32_t quote;  // the quote, next
} key_tree;

static size_t character_bytes(const pr_grammar_text *key, size_t at, uint32_t *character)
{
    size_t end = at;
    *character = pr_utf8_next(key->data, &end);
    return end - at;
}

// Keys [first, end) are sorted, agree up to `at` and have nothing to escape. As deep as a key is long.
static int32_t part_from(const key_tree *tree, int32_t first, int32_t end, size_t at)
{
    pr_grammar_builder *builder = tree->rules->builder;
    pr_code_points leaves = {0}, stays = {0};
    bool is_key = tree->key[first].size_bytes == at;
    int32_t node = is_key ? PR_GRAMMAR_NOWHERE : tree->quote;
    for (int32_t i = first + is_key, group; i < end; i = group) {
        uint32_t character;
        const char *text = tree->key[i].data + at;
        size_t size = character_bytes(&tree->key[i], at, &character);
        for (group = i + 1; group < end && memcmp(tree->key[group].data + at, text, size) == 0;)
            group++;
        int32_t branch = part_from(tree, i, group, at + size);
        branch = pr_grammar_builder_text(builder, text, size, branch);
        node = pr_grammar_builder_split(builder, node, branch);
        pr_code_points_add(&stays, character, character);
    }
    add_plain_characters(&leaves);
    pr_code_points_normalise(&stays);
    pr_code_points_subtract(&leaves, &stays);
    int32_t leave = pr_grammar_builder_code_point(builder, &leaves, tree->rest);
    builder->node.failed |= leaves.range.failed || stays.range.failed;
    pr_code_points_free(&leaves);
    pr_code_points_free(&stays);
    return pr_grammar_builder_split(builder, node, leave);
}

static int32_t build_plain_character(pr_json_rules *rules)
{
    pr_code_points plain = {0};
    add_plain_characters(&plain);
    int32_t end = pr_grammar_builder_return(rules->builder);
    int32_t node = pr_grammar_builder_code_point(rules->builder, &plain, end);
    pr_code_points_free(&plain);
    return node;
}

int32_t pr_json_rules_other_key(
    pr_json_rules *rules, const pr_grammar_text *key, int32_t keys, int32_t next)
{
    key_tree tree = {.rules = rules, .key = key, .quote = byte_of(rules, '"', next)};
    int32_t any = build_plain_character(rules);
    tree.rest =
        pr_grammar_builder_repeat(rules->builder, any, 0, PR_JSON_KEY_CHARACTERS, tree.quote);
    int32_t node = keys > 0 ? part_from(&tree, 0, keys, 0) : tree.rest;
    return byte_of(rules, '"', node);
}

// ---- Numbers and values

int32_t pr_json_rules_number(pr_json_rules *rules, int32_t next)
{
    pr_grammar_builder *b = rules->builder;
    int32_t exponent = pr_grammar_builder_bytes(
        b, '0', '9',
        pr_grammar_builder_split(b, pr_grammar_builder_bytes(b, '0', '9', next), next));
    pr_grammar_edge sign[] = {{'+', '+', exponent}, {'-', '-', exponent}};
    exponent = pr_grammar_builder_split(b, exponent, pr_grammar_builder_edges(b, sign, 2));
    pr_grammar_edge mark[] = {{'E', 'E', exponent}, {'e', 'e', exponent}};
    int32_t rest = pr_grammar_builder_split(b, pr_grammar_builder_edges(b, mark, 2), next);
    int32_t digit = pr_grammar_builder_bytes(b, '0', '9', pr_grammar_builder_return(b));
    int32_t fraction = pr_grammar_builder_repeat(b, digit, 1, PR_DECIMAL_DIGITS, rest);
    rest = pr_grammar_builder_split(b, pr_grammar_builder_bytes(b, '.', '.', fraction), rest);
    int32_t size = pr_decimal_range_integers(b, 0, PR_DECIMAL_LARGEST, rest);
    return pr_grammar_builder_split(b, pr_grammar_builder_bytes(b, '-', '-', size), size);
}

// open, any number of items with commas between, close.
static int32_t list_of(
    pr_json_rules *rules,
    char open,
    int32_t (*item)(pr_json_rules *, int32_t),
    char close,
    int32_t next)
{
    int32_t end = pr_grammar_builder_return(rules->builder);
    int32_t body = byte_of(rules, ',', pr_json_rules_space(rules, item(rules, end)));
    int32_t closing = byte_of(rules, close, next);
    int32_t more = pr_grammar_builder_repeat(rules->builder, body, 0, PR_GRAMMAR_NO_LIMIT, closing);
    int32_t inside = pr_grammar_builder_split(rules->builder, closing, item(rules, more));
    return byte_of(rules, open, inside);
}

static int32_t member(pr_json_rules *rules, int32_t next)
{
    int32_t value = pr_json_rules_space(rules, pr_json_rules_value(rules, next));
    return pr_json_rules_string(rules, 0, PR_JSON_KEY_CHARACTERS, byte_of(rules, ':', value));
}

static int32_t build_object(pr_json_rules *rules)
{
    return list_of(rules, '{', member, '}', pr_grammar_builder_return(rules->builder));
}

static int32_t build_array(pr_json_rules *rules)
{
    return list_of(rules, '[', pr_json_rules_value, ']', pr_grammar_builder_return(rules->builder));
}

int32_t pr_json_rules_object(pr_json_rules *rules, int32_t next)
{
    return call_rule(rules, &rules->object, build_object, next);
}

int32_t pr_json_rules_array(pr_json_rules *rules, int32_t next)
{
    return call_rule(rules, &rules->array, build_array, next);
}

static int32_t build_value(pr_json_rules *rules)
{
    pr_grammar_builder *b = rules->builder;
    int32_t end = pr_grammar_builder_return(b);
    int32_t node = pr_grammar_builder_text(b, "null", 4, end);
    node = pr_grammar_builder_split(b, node, pr_grammar_builder_text(b, "true", 4, end));
    node = pr_grammar_builder_split(b, node, pr_grammar_builder_text(b, "false", 5, end));
    node = pr_grammar_builder_split(b, node, pr_json_rules_number(rules, end));
    node =
        pr_grammar_builder_split(b, node, pr_json_rules_string(rules, 0, PR_GRAMMAR_NO_LIMIT, end));
    node = pr_grammar_builder_split(b, node, pr_json_rules_array(rules, end));
    return pr_grammar_builder_split(b, node, pr_json_rules_object(rules, end));
}

int32_t pr_json_rules_value(pr_json_rules *rules, int32_t next)
{
    return call_rule(rules, &rules->value, build_value, next);
}

// ---- Given values

// The shortest decimal form that reads back as the same number.
static char *write_real(double value)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return strdup(text);
}

char *pr_json_rules_write(const json_t *value)
{
    if (json_is_real(value))
        return write_real(json_real_value(value));
    return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
}
