// SPDX-License-Identifier: BSD-3-Clause
#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/grammar/regex.h"

typedef struct build {
    const char *what;
    const pr_regex *regex;
    pr_json_rules *rules;
    bool json;
} build;

static const pr_regex_node *node_at(const pr_regex *regex, int32_t index)
{
    return (const pr_regex_node *)regex->node.data + index;
}

// ---- Lengths

enum { LONGEST = 1 << 30 };

typedef struct length {
    int64_t min, max;  // max LONGEST: no limit
} length;

static int64_t limited(int64_t value) { return value < LONGEST ? value : LONGEST; }

static length length_of(const pr_regex *regex, int32_t index)
{
    const pr_regex_node *node = node_at(regex, index);
    length sum = {0};
    if (node->op == PR_REGEX_SET)
        return (length){1, 1};
    for (int32_t child = node->child; child >= 0; child = node_at(regex, child)->next) {
        length each = length_of(regex, child);
        if (node->op == PR_REGEX_CONCAT) {
            sum.min = limited(sum.min + each.min);
            sum.max = limited(sum.max + each.max);
        } else if (node->op == PR_REGEX_ALT) {
            bool first = child == node->child;
            sum.min = first || each.min < sum.min ? each.min : sum.min;
            sum.max = each.max > sum.max ? each.max : sum.max;
        } else {
            int64_t most = node->max < 0 ? LONGEST : node->max;
            sum.min = limited(each.min * node->min);
            sum.max = each.max == 0 ? 0 : limited(each.max * most);
            break;
        }
    }
    return sum;
}

void pr_regex_length(const pr_regex *regex, int32_t *min, int32_t *max)
{
    length found = length_of(regex, regex->root);
    *min = (int32_t)found.min;
    *max = found.max == LONGEST ? -1 : (int32_t)found.max;
}

// ---- Building, from the end

static pr_status build_node(build *b, int32_t index, int32_t next, int32_t *start);

static int32_t build_set(build *b, const pr_regex_node *node, int32_t next)
{
    const pr_code_points *set = (const pr_code_points *)b->regex->set.data + node->set;
    return b->json ? pr_json_rules_character(b->rules, set, next)
                   : pr_grammar_builder_code_point(b->rules->builder, set, next);
}

// A body that may be empty makes the lower limit void, and cannot be counted.
static pr_status build_repeat(build *b, const pr_regex_node *node, int32_t next, int32_t *start)
{
    pr_grammar_builder *builder = b->rules->builder;
    bool nullable = length_of(b->regex, node->child).min == 0;
    int32_t body;
    if (node->max == 1) {
        PR_TRY(build_node(b, node->child, next, &body));
        *start = node->min == 1 ? body : pr_grammar_builder_split(builder, body, next);
        return PR_OK;
    }
    if (nullable && node->max > 1)
        return pr_fail(
            PR_ERR_REQUEST,
            "%s: the regular expression counts ({%d,%d}) something that may be empty: make it "
            "match at least one character, or use '*'",
            b->what, node->min, node->max);
    PR_TRY(build_node(b, node->child, pr_grammar_builder_return(builder), &body));
    *start = pr_grammar_builder_repeat(builder, body, nullable ? 0 : node->min, node->max, next);
    return PR_OK;
}

// Children are chained forwards and built backwards.
static pr_status build_sequence(build *b, const pr_regex_node *node, int32_t next, int32_t *start)
{
    pr_byte_buffer list = {0};
    for (int32_t child = node->child; child >= 0; child = node_at(b->regex, child)->next)
        pr_byte_buffer_append(&list, &child, sizeof child);
    pr_status status = pr_byte_buffer_check(&list);
    for (size_t i = list.size_bytes / sizeof(int32_t); i > 0 && status == PR_OK; i--)
        status = build_node(b, ((int32_t *)list.data)[i - 1], next, &next);
    pr_byte_buffer_free(&list);
    *start = next;
    return status;
}

static pr_status
build_alternatives(build *b, const pr_regex_node *node, int32_t next, int32_t *start)
{
    *start = PR_GRAMMAR_NOWHERE;
    for (int32_t child = node->child; child >= 0; child = node_at(b->regex, child)->next) {
        int32_t each;
        PR_TRY(build_node(b, child, next, &each));
        *start = pr_grammar_builder_split(b->rules->builder, *start, each);
    }
    return PR_OK;
}

static pr_status build_node(build *b, int32_t index, int32_t next, int32_t *start)
{
    const pr_regex_node *node = node_at(b->regex, index);
    switch (node->op) {
    case PR_REGEX_SET:
        *start = build_set(b, node, next);
        return PR_OK;
    case PR_REGEX_REPEAT:
        return build_repeat(b, node, next, start);
    case PR_REGEX_CONCAT:
        return build_sequence(b, node, next, start);
    case PR_REGEX_ALT:
        return build_alternatives(b, node, next, start);
    case PR_REGEX_BEGIN:
    case PR_REGEX_END:
        break;
    }
    return pr_fail(
        PR_ERR_REQUEST,
        "%s: the regular expression has '%c' in its middle: anchors are supported at the beginning "
        "and the end of the whole and of its outermost alternatives",
        b->what, node->op == PR_REGEX_BEGIN ? '^' : '$');
}

static int32_t anything(build *b, int32_t next)
{
    pr_code_points all = {0};
    pr_code_points_negate(&all);
    int32_t end = pr_grammar_builder_return(b->rules->builder);
    int32_t body = pr_json_rules_character(b->rules, &all, end);
    pr_code_points_free(&all);
    return pr_grammar_builder_repeat(b->rules->builder, body, 0, PR_GRAMMAR_NO_LIMIT, next);
}

// One outermost alternative: its anchors are taken off, and where there is none a search may go on.
static pr_status
build_outermost(build *b, bool search, const pr_regex_node *concat, int32_t next, int32_t *start)
{
    pr_byte_buffer list = {0};
    for (int32_t child = concat->child; child >= 0; child = node_at(b->regex, child)->next)
        pr_byte_buffer_append(&list, &child, sizeof child);
    pr_status status = pr_byte_buffer_check(&list);
    const int32_t *item = list.data;
    size_t first = 0, end = list.size_bytes / sizeof *item;
    bool begins = end > first && node_at(b->regex, item[first])->op == PR_REGEX_BEGIN;
    first += begins;
    bool ends = end > first && node_at(b->regex, item[end - 1])->op == PR_REGEX_END;
    end -= ends;
    if (search && !ends)
        next = anything(b, next);
    for (size_t i = end; i > first && status == PR_OK; i--)
        status = build_node(b, item[i - 1], next, &next);
    if (search && !begins)
        next = anything(b, next);
    pr_byte_buffer_free(&list);
    *start = next;
    return status;
}

pr_status pr_regex_build(
    const char *what,
    const pr_regex *regex,
    pr_regex_use use,
    pr_json_rules *rules,
    int32_t next,
    int32_t *start)
{
    build b = {.what = what, .regex = regex, .rules = rules, .json = use != PR_REGEX_WHOLE};
    *start = PR_GRAMMAR_NOWHERE;
    for (int32_t child = node_at(regex, regex->root)->child; child >= 0;
         child = node_at(regex, child)->next) {
        int32_t each;
        PR_TRY(
            build_outermost(&b, use == PR_REGEX_JSON_SEARCH, node_at(regex, child), next, &each));
        *start = pr_grammar_builder_split(rules->builder, *start, each);
    }
    return PR_OK;
}
