// SPDX-License-Identifier: BSD-3-Clause
#include <string.h>

#include "runtime/template/template_filter.h"
#include "runtime/template/template_parser.h"
#include "runtime/template/template_test.h"
#include "runtime/value/template_builder.h"

static pr_status parse_operand(pr_template_parser *p, bool with_filters, pr_template_node **node);

// ---- lists

// Items up to the closing bracket; *comma: there was one.
static pr_status
parse_items(pr_template_parser *p, const char *close, pr_template_nodes *items, bool *comma)
{
    *comma = false;
    while (!pr_template_parser_at_operator(p, close)) {
        pr_template_node *item;
        if (items->size > 0) {
            PR_TRY(pr_template_parser_expect_operator(p, ","));
            *comma = true;
        }
        if (pr_template_parser_at_operator(p, close))
            break;
        PR_TRY(pr_template_expression(p, false, &item));
        PR_TRY(pr_template_parser_add(p, items, item));
    }
    return pr_template_parser_expect_operator(p, close);
}

static pr_status parse_brackets(pr_template_parser *p, pr_template_node **node)
{
    pr_template_node *tuple;
    bool comma;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_TUPLE, &tuple));
    p->token++;
    PR_TRY(parse_items(p, ")", &tuple->item, &comma));
    *node = tuple->item.size == 1 && !comma ? tuple->item.node[0] : tuple;
    return PR_OK;
}

static pr_status parse_list(pr_template_parser *p, pr_template_node **node)
{
    bool comma;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_LIST, node));
    p->token++;
    return parse_items(p, "]", &(*node)->item, &comma);
}

static pr_status parse_dict(pr_template_parser *p, pr_template_node **node)
{
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_DICT, node));
    p->token++;
    while (!pr_template_parser_at_operator(p, "}")) {
        pr_template_node *key, *value;
        if ((*node)->item.size > 0)
            PR_TRY(pr_template_parser_expect_operator(p, ","));
        if (pr_template_parser_at_operator(p, "}"))
            break;
        PR_TRY(pr_template_expression(p, false, &key));
        PR_TRY(pr_template_parser_expect_operator(p, ":"));
        PR_TRY(pr_template_expression(p, false, &value));
        PR_TRY(pr_template_parser_add(p, &(*node)->item, key));
        PR_TRY(pr_template_parser_add(p, &(*node)->item, value));
    }
    return pr_template_parser_expect_operator(p, "}");
}

// ---- primaries

static pr_status parse_strings(pr_template_parser *p, pr_template_node **node)
{
    pr_template_builder builder = pr_template_builder_of(p->heap);
    pr_template_text text = p->token->text;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_LITERAL, node));
    p->token++;
    if (p->token->kind == PR_TEMPLATE_TOKEN_STRING) {  // "a" "b" is "ab"
        pr_template_builder_append(&builder, text);
        for (; p->token->kind == PR_TEMPLATE_TOKEN_STRING; p->token++)
            pr_template_builder_append(&builder, p->token->text);
        PR_TRY(pr_template_builder_finish(&builder, &text));
    }
    (*node)->value = pr_template_value_string(text);
    return PR_OK;
}

static pr_status parse_word(pr_template_parser *p, pr_template_node **node)
{
    static const struct {
        const char *word;
        pr_template_value value;
    } constants[] = {
        {"true", {.kind = PR_TEMPLATE_BOOL, .truth = true}},
        {"True", {.kind = PR_TEMPLATE_BOOL, .truth = true}},
        {"false", {.kind = PR_TEMPLATE_BOOL, .truth = false}},
        {"False", {.kind = PR_TEMPLATE_BOOL, .truth = false}},
        {"none", {.kind = PR_TEMPLATE_NONE}},
        {"None", {.kind = PR_TEMPLATE_NONE}},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (pr_template_parser_at_name(p, constants[i].word)) {
            PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_LITERAL, node));
            (*node)->value = constants[i].value;
            p->token++;
            return PR_OK;
        }
    }
    return pr_template_parser_name(p, node);
}

pr_status pr_template_expression_primary(pr_template_parser *p, pr_template_node **node)
{
    const pr_template_token *token = p->token;
    switch (token->kind) {
    case PR_TEMPLATE_TOKEN_NAME:
        return parse_word(p, node);
    case PR_TEMPLATE_TOKEN_STRING:
        return parse_strings(p, node);
    case PR_TEMPLATE_TOKEN_INTEGER:
    case PR_TEMPLATE_TOKEN_FLOAT:
        PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_LITERAL, node));
        (*node)->value = token->kind == PR_TEMPLATE_TOKEN_INTEGER
                             ? pr_template_value_integer(token->integer)
                             : pr_template_value_float(token->real);
        p->token++;
        return PR_OK;
    default:
        break;
    }
    if (pr_template_parser_at_operator(p, "("))
        return parse_brackets(p, node);
    if (pr_template_parser_at_operator(p, "["))
        return parse_list(p, node);
    if (pr_template_parser_at_operator(p, "{"))
        return parse_dict(p, node);
    return pr_template_parser_unexpected(p, "an expression");
}

// ---- what follows a value

static pr_status parse_arguments(pr_template_parser *p, pr_template_call_arguments *arguments)
{
    PR_TRY(pr_template_parser_expect_operator(p, "("));
    while (!pr_template_parser_at_operator(p, ")")) {
        pr_template_node *value, *keyword;
        if (arguments->positional.size + arguments->keyword.size > 0)
            PR_TRY(pr_template_parser_expect_operator(p, ","));
        if (pr_template_parser_at_operator(p, ")"))
            break;
        if (pr_template_parser_at_operator(p, "*") || pr_template_parser_at_operator(p, "**"))
            return pr_template_heap_fail(p->heap, "* and ** in a call are not supported");
        if (p->token->kind == PR_TEMPLATE_TOKEN_NAME &&
            p->token[1].kind == PR_TEMPLATE_TOKEN_OPERATOR &&
            pr_template_text_equals(&p->token[1].text, "=")) {
            PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_NAME, &keyword));
            keyword->text = p->token->text;
            p->token += 2;
            PR_TRY(pr_template_expression(p, false, &keyword->left));
            PR_TRY(pr_template_parser_add(p, &arguments->keyword, keyword));
            continue;
        }
        if (arguments->keyword.size > 0)
            return pr_template_heap_fail(p->heap, "an argument without a name follows a named one");
        PR_TRY(pr_template_expression(p, false, &value));
        PR_TRY(pr_template_parser_add(p, &arguments->positional, value));
    }
    return pr_template_parser_expect_operator(p, ")");
}

// The inside of [ ], which may be a slice.
static pr_status
parse_index(pr_template_parser *p, pr_template_node *object, pr_template_node **node)
{
    pr_template_node *part[3] = {NULL, NULL, NULL};
    int colons = 0;
    if (!pr_template_parser_at_operator(p, ":")) {
        PR_TRY(pr_template_expression_tuple(p, false, &part[0]));
        if (!pr_template_parser_at_operator(p, ":")) {
            PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_SUBSCRIPT, node));
            (*node)->left = object;
            (*node)->right = part[0];
            return pr_template_parser_expect_operator(p, "]");
        }
    }
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_SLICE, node));
    (*node)->left = object;
    while (colons < 2 && pr_template_parser_skip_operator(p, ":")) {
        colons++;
        if (!pr_template_parser_at_operator(p, ":") && !pr_template_parser_at_operator(p, "]"))
            PR_TRY(pr_template_expression(p, false, &part[colons]));
    }
    for (int i = 0; i < 3; i++)
        PR_TRY(pr_template_parser_add(p, &(*node)->item, part[i]));
    return pr_template_parser_expect_operator(p, "]");
}

static pr_status
parse_attribute(pr_template_parser *p, pr_template_node *object, pr_template_node **node)
{
    if (p->token->kind == PR_TEMPLATE_TOKEN_INTEGER) {
        PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_SUBSCRIPT, node));
        (*node)->left = object;
        return pr_template_expression_primary(p, &(*node)->right);
    }
    if (p->token->kind != PR_TEMPLATE_TOKEN_NAME)
        return pr_template_parser_unexpected(p, "a name or a number behind the dot");
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_ATTRIBUTE, node));
    (*node)->left = object;
    (*node)->text = p->token->text;
    p->token++;
    return PR_OK;
}

static pr_status parse_call(pr_template_parser *p, pr_template_node **node)
{
    pr_template_node *callee = *node;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_CALL, node));
    (*node)->left = callee;
    return parse_arguments(p, &(*node)->arguments);
}

pr_status pr_template_expression_postfix(pr_template_parser *p, pr_template_node **node)
{
    for (;;) {
        if (pr_template_parser_skip_operator(p, "."))
            PR_TRY(parse_attribute(p, *node, node));
        else if (pr_template_parser_skip_operator(p, "["))
            PR_TRY(parse_index(p, *node, node));
        else if (pr_template_parser_at_operator(p, "("))
            PR_TRY(parse_call(p, node));
        else
            return PR_OK;
    }
}

static pr_status parse_filter(pr_template_parser *p, pr_template_node **node)
{
    pr_template_node *operand = *node;
    if (p->token->kind != PR_TEMPLATE_TOKEN_NAME)
        return pr_template_parser_unexpected(p, "the name of a filter");
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_FILTER, node));
    (*node)->left = operand;
    (*node)->text = p->token->text;
    (*node)->builtin = pr_template_builtin_find(pr_template_filters, &p->token->text);
    p->token++;
    return pr_template_parser_at_operator(p, "(") ? parse_arguments(p, &(*node)->arguments) : PR_OK;
}

pr_status pr_template_expression_filters(pr_template_parser *p, bool first, pr_template_node **node)
{
    while (first || pr_template_parser_skip_operator(p, "|")) {
        first = false;
        PR_TRY(parse_filter(p, node));
    }
    return PR_OK;
}

// A test may have one argument without brackets: x is divisibleby 3.
static bool starts_argument(const pr_template_parser *p)
{
    switch (p->token->kind) {
    case PR_TEMPLATE_TOKEN_NAME:
        return !pr_template_parser_at_name(p, "else") && !pr_template_parser_at_name(p, "or") &&
               !pr_template_parser_at_name(p, "and");
    case PR_TEMPLATE_TOKEN_STRING:
    case PR_TEMPLATE_TOKEN_INTEGER:
    case PR_TEMPLATE_TOKEN_FLOAT:
        return true;
    default:
        return pr_template_parser_at_operator(p, "[") || pr_template_parser_at_operator(p, "{");
    }
}

static pr_status parse_test(pr_template_parser *p, pr_template_node **node)
{
    pr_template_node *operand = *node, *test, *argument;
    bool negated = pr_template_parser_skip_name(p, "not");
    if (p->token->kind != PR_TEMPLATE_TOKEN_NAME)
        return pr_template_parser_unexpected(p, "the name of a test");
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_TEST, &test));
    test->left = operand;
    test->text = p->token->text;
    test->builtin = pr_template_builtin_find(pr_template_tests, &p->token->text);
    p->token++;
    if (pr_template_parser_at_operator(p, "(")) {
        PR_TRY(parse_arguments(p, &test->arguments));
    } else if (starts_argument(p)) {
        if (pr_template_parser_at_name(p, "is"))
            return pr_template_heap_fail(p->heap, "tests cannot be chained: use `and`");
        PR_TRY(pr_template_expression_primary(p, &argument));
        PR_TRY(pr_template_expression_postfix(p, &argument));
        PR_TRY(pr_template_parser_add(p, &test->arguments.positional, argument));
    }
    *node = test;
    if (!negated)
        return PR_OK;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_NOT, node));
    (*node)->left = test;
    return PR_OK;
}

static pr_status parse_filters_and_tests(pr_template_parser *p, pr_template_node **node)
{
    for (;;) {
        if (pr_template_parser_skip_operator(p, "|"))
            PR_TRY(parse_filter(p, node));
        else if (pr_template_parser_skip_name(p, "is"))
            PR_TRY(parse_test(p, node));
        else if (pr_template_parser_at_operator(p, "("))
            PR_TRY(parse_call(p, node));
        else
            return PR_OK;
    }
}

// ---- operators, from those that bind tightest

static pr_status parse_signed(pr_template_parser *p, bool with_filters, pr_template_node **node)
{
    bool minus = pr_template_parser_at_operator(p, "-");
    if (minus || pr_template_parser_at_operator(p, "+")) {
        PR_TRY(pr_template_parser_node(
            p, minus ? PR_TEMPLATE_NODE_NEGATE : PR_TEMPLATE_NODE_PLUS, node));
        p->token++;
        PR_TRY(parse_operand(p, false, &(*node)->left));
    } else {
        PR_TRY(pr_template_expression_primary(p, node));
    }
    PR_TRY(pr_template_expression_postfix(p, node));
    return with_filters ? parse_filters_and_tests(p, node) : PR_OK;
}

static pr_status parse_operand(pr_template_parser *p, bool with_filters, pr_template_node **node)
{
    PR_TRY(pr_template_parser_enter(p));
    PR_TRY(parse_signed(p, with_filters, node));
    pr_template_parser_leave(p);
    return PR_OK;
}

typedef struct level {
    const char *word[5];
    pr_template_operation operation[5];
} level;

static const level power = {{"**"}, {PR_TEMPLATE_POWER}};
static const level product = {
    {"*", "/", "//", "%"},
    {PR_TEMPLATE_MULTIPLY, PR_TEMPLATE_DIVIDE, PR_TEMPLATE_FLOOR_DIVIDE, PR_TEMPLATE_REMAINDER}};
static const level sum = {{"+", "-"}, {PR_TEMPLATE_ADD, PR_TEMPLATE_SUBTRACT}};

static bool skip_operation(pr_template_parser *p, const level *of, pr_template_operation *operation)
{
    for (int i = 0; i < 5 && of->word[i]; i++) {
        if (pr_template_parser_skip_operator(p, of->word[i])) {
            *operation = of->operation[i];
            return true;
        }
    }
    return false;
}

static pr_status join(
    pr_template_parser *p,
    pr_template_operation operation,
    pr_template_node *left,
    pr_template_node **node)
{
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_BINARY, node));
    (*node)->operation = operation;
    (*node)->left = left;
    return PR_OK;
}

static pr_status parse_power(pr_template_parser *p, pr_template_node **node)
{
    pr_template_operation operation;
    PR_TRY(parse_operand(p, true, node));
    while (skip_operation(p, &power, &operation)) {
        PR_TRY(join(p, operation, *node, node));
        PR_TRY(parse_operand(p, true, &(*node)->right));
    }
    return PR_OK;
}

static pr_status parse_product(pr_template_parser *p, pr_template_node **node)
{
    pr_template_operation operation;
    PR_TRY(parse_power(p, node));
    while (skip_operation(p, &product, &operation)) {
        PR_TRY(join(p, operation, *node, node));
        PR_TRY(parse_power(p, &(*node)->right));
    }
    return PR_OK;
}

static pr_status parse_concatenation(pr_template_parser *p, pr_template_node **node)
{
    pr_template_node *part, *whole;
    PR_TRY(parse_product(p, node));
    if (!pr_template_parser_at_operator(p, "~"))
        return PR_OK;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_CONCATENATE, &whole));
    PR_TRY(pr_template_parser_add(p, &whole->item, *node));
    while (pr_template_parser_skip_operator(p, "~")) {
        PR_TRY(parse_product(p, &part));
        PR_TRY(pr_template_parser_add(p, &whole->item, part));
    }
    *node = whole;
    return PR_OK;
}

static pr_status parse_sum(pr_template_parser *p, pr_template_node **node)
{
    pr_template_operation operation;
    PR_TRY(parse_concatenation(p, node));
    while (skip_operation(p, &sum, &operation)) {
        PR_TRY(join(p, operation, *node, node));
        PR_TRY(parse_concatenation(p, &(*node)->right));
    }
    return PR_OK;
}

static bool skip_comparison(pr_template_parser *p, pr_template_operation *operation)
{
    static const level order = {
        {"==", "!=", "<", "<=", ">"},
        {PR_TEMPLATE_EQUAL, PR_TEMPLATE_UNEQUAL, PR_TEMPLATE_LESS, PR_TEMPLATE_LESS_EQUAL,
         PR_TEMPLATE_GREATER}};
    static const level rest = {{">="}, {PR_TEMPLATE_GREATER_EQUAL}};
    if (skip_operation(p, &order, operation) || skip_operation(p, &rest, operation))
        return true;
    *operation = PR_TEMPLATE_IN;
    if (pr_template_parser_skip_name(p, "in"))
        return true;
    *operation = PR_TEMPLATE_NOT_IN;
    if (!pr_template_parser_at_name(p, "not") || p->token[1].kind != PR_TEMPLATE_TOKEN_NAME ||
        !pr_template_text_equals(&p->token[1].text, "in"))
        return false;
    p->token += 2;
    return true;
}

static pr_status parse_comparison(pr_template_parser *p, pr_template_node **node)
{
    pr_template_operation operation;
    pr_template_node *first, *step;
    PR_TRY(parse_sum(p, &first));
    *node = first;
    while (skip_comparison(p, &operation)) {
        if (*node == first) {
            PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_COMPARE, node));
            (*node)->left = first;
        }
        PR_TRY(join(p, operation, NULL, &step));
        PR_TRY(parse_sum(p, &step->left));
        PR_TRY(pr_template_parser_add(p, &(*node)->item, step));
    }
    return PR_OK;
}

static pr_status parse_not(pr_template_parser *p, pr_template_node **node)
{
    if (!pr_template_parser_at_name(p, "not"))
        return parse_comparison(p, node);
    PR_TRY(pr_template_parser_enter(p));
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_NOT, node));
    p->token++;
    PR_TRY(parse_not(p, &(*node)->left));
    pr_template_parser_leave(p);
    return PR_OK;
}

static pr_status parse_and(pr_template_parser *p, pr_template_node **node)
{
    PR_TRY(parse_not(p, node));
    while (pr_template_parser_skip_name(p, "and")) {
        pr_template_node *left = *node;
        PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_AND, node));
        (*node)->left = left;
        PR_TRY(parse_not(p, &(*node)->right));
    }
    return PR_OK;
}

static pr_status parse_or(pr_template_parser *p, pr_template_node **node)
{
    PR_TRY(parse_and(p, node));
    while (pr_template_parser_skip_name(p, "or")) {
        pr_template_node *left = *node;
        PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_OR, node));
        (*node)->left = left;
        PR_TRY(parse_and(p, &(*node)->right));
    }
    return PR_OK;
}

static pr_status parse_condition(pr_template_parser *p, pr_template_node **node)
{
    PR_TRY(parse_or(p, node));
    while (pr_template_parser_skip_name(p, "if")) {
        pr_template_node *left = *node;
        PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_CONDITION, node));
        (*node)->left = left;
        PR_TRY(parse_or(p, &(*node)->right));
        if (pr_template_parser_skip_name(p, "else")) {
            PR_TRY(pr_template_parser_enter(p));
            PR_TRY(parse_condition(p, &(*node)->third));
            pr_template_parser_leave(p);
        }
    }
    return PR_OK;
}

pr_status
pr_template_expression(pr_template_parser *p, bool without_condition, pr_template_node **node)
{
    return without_condition ? parse_or(p, node) : parse_condition(p, node);
}

// Where a tuple without brackets may stop behind a comma.
static bool ends_tuple(const pr_template_parser *p)
{
    return p->token->kind == PR_TEMPLATE_TOKEN_VARIABLE_END ||
           p->token->kind == PR_TEMPLATE_TOKEN_BLOCK_END ||
           pr_template_parser_at_operator(p, ")") || pr_template_parser_at_operator(p, "]") ||
           pr_template_parser_at_operator(p, "=") || pr_template_parser_at_name(p, "in");
}

pr_status
pr_template_expression_tuple(pr_template_parser *p, bool without_condition, pr_template_node **node)
{
    pr_template_node *item;
    PR_TRY(pr_template_expression(p, without_condition, &item));
    *node = item;
    if (!pr_template_parser_at_operator(p, ","))
        return PR_OK;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_TUPLE, node));
    PR_TRY(pr_template_parser_add(p, &(*node)->item, item));
    while (pr_template_parser_skip_operator(p, ",") && !ends_tuple(p)) {
        PR_TRY(pr_template_expression(p, without_condition, &item));
        PR_TRY(pr_template_parser_add(p, &(*node)->item, item));
    }
    return PR_OK;
}
