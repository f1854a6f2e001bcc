// SPDX-License-Identifier: BSD-3-Clause
// Tokens to a tree. template_parser.c has the statements, template_expression.c the expressions.
// Recursion follows the nesting of the text and stops at PR_TEMPLATE_PARSER_MAX_DEPTH.
// Threads: one parse, one thread.
// Source: Jinja 3.1 template designer documentation, "Expressions" and "List of Control Structures".
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_PARSER_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_PARSER_H

#include <stdbool.h>

#include "runtime/template/template_ast.h"
#include "runtime/template/template_lexer.h"

enum { PR_TEMPLATE_PARSER_MAX_DEPTH = 100 };

// Into a zeroed program; whatever comes of it, its heap is the caller's to clear.
pr_status pr_template_parser_run(pr_template_program *program, const char *text, size_t size_bytes)
    PR_MUST_CHECK;

// ---- for the two files

typedef struct pr_template_parser {
    pr_template_program *program;
    pr_template_heap *heap;
    const pr_template_token *token;      // the current one
    pr_template_dict *known;             // name to symbol
    pr_template_definition *definition;  // of the macro around, or NULL
    int depth, loops;
    size_t symbols_capacity;
} pr_template_parser;

bool pr_template_parser_at_operator(const pr_template_parser *parser, const char *word);
bool pr_template_parser_at_name(const pr_template_parser *parser, const char *word);
// Takes it if it is the current token.
bool pr_template_parser_skip_operator(pr_template_parser *parser, const char *word);
bool pr_template_parser_skip_name(pr_template_parser *parser, const char *word);
pr_status
pr_template_parser_expect_operator(pr_template_parser *parser, const char *word) PR_MUST_CHECK;
// "expected X, got Y" at the current token.
pr_status pr_template_parser_unexpected(const pr_template_parser *parser, const char *expected);
pr_status pr_template_parser_enter(pr_template_parser *parser) PR_MUST_CHECK;
static inline void pr_template_parser_leave(pr_template_parser *parser) { parser->depth--; }

pr_status pr_template_parser_node(
    pr_template_parser *parser, pr_template_node_kind kind, pr_template_node **node) PR_MUST_CHECK;
pr_status pr_template_parser_add(
    pr_template_parser *parser, pr_template_nodes *nodes, pr_template_node *node) PR_MUST_CHECK;
// A NAME node from the current token.
pr_status
pr_template_parser_name(pr_template_parser *parser, pr_template_node **node) PR_MUST_CHECK;

// Any expression; without_condition: `a if b` ends at the `if`.
pr_status pr_template_expression(
    pr_template_parser *parser, bool without_condition, pr_template_node **node) PR_MUST_CHECK;
// An expression, or a tuple without its brackets.
pr_status pr_template_expression_tuple(
    pr_template_parser *parser, bool without_condition, pr_template_node **node) PR_MUST_CHECK;
// What follows a value without a sign: attributes, subscripts, calls.
pr_status
pr_template_expression_postfix(pr_template_parser *parser, pr_template_node **node) PR_MUST_CHECK;
// Filters on *node; first: the leading | is not there.
pr_status pr_template_expression_filters(
    pr_template_parser *parser, bool first, pr_template_node **node) PR_MUST_CHECK;
pr_status
pr_template_expression_primary(pr_template_parser *parser, pr_template_node **node) PR_MUST_CHECK;

#endif
