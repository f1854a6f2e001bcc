// SPDX-License-Identifier: BSD-3-Clause
// A parsed template: a tree of nodes in the program's heap.
//   program ─ body: block of statements ─┬─ DATA, PRINT expression
//                                        └─ IF, FOR, SET, MACRO, ...: expressions and blocks
// Names of variables are numbers, so that a look-up compares no text.
// Threads: immutable once parsed.
#ifndef PR_RUNTIME_TEMPLATE_TEMPLATE_AST_H
#define PR_RUNTIME_TEMPLATE_TEMPLATE_AST_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/template/template_builtin.h"
#include "runtime/value/template_heap.h"
#include "runtime/value/template_operator.h"
#include "runtime/value/template_text.h"
#include "runtime/value/template_value.h"

typedef enum pr_template_node_kind {
    // expressions                     left, right, third          item[]
    PR_TEMPLATE_NODE_LITERAL,      // value
    PR_TEMPLATE_NODE_NAME,         // symbol
    PR_TEMPLATE_NODE_BODY,         // what the block around was rendered to
    PR_TEMPLATE_NODE_LIST,         //                             items
    PR_TEMPLATE_NODE_TUPLE,        //                             items
    PR_TEMPLATE_NODE_DICT,         //                             key, value, key, value, ...
    PR_TEMPLATE_NODE_NOT,          // operand
    PR_TEMPLATE_NODE_NEGATE,       // operand
    PR_TEMPLATE_NODE_PLUS,         // operand
    PR_TEMPLATE_NODE_BINARY,       // a, b; by operation
    PR_TEMPLATE_NODE_AND,          // a, b
    PR_TEMPLATE_NODE_OR,           // a, b
    PR_TEMPLATE_NODE_CONCATENATE,  //                             parts
    PR_TEMPLATE_NODE_COMPARE,  // first                       the others, each a BINARY: operation, left
    PR_TEMPLATE_NODE_CONDITION,  // if true, test, else or NULL
    PR_TEMPLATE_NODE_ATTRIBUTE,  // object; text
    PR_TEMPLATE_NODE_SUBSCRIPT,  // object, index
    PR_TEMPLATE_NODE_SLICE,      // object                      start, stop, step; each may be NULL
    PR_TEMPLATE_NODE_CALL,       // callee; arguments
    PR_TEMPLATE_NODE_FILTER,     // operand; text, builtin, arguments
    PR_TEMPLATE_NODE_TEST,       // operand; text, builtin, arguments
    // statements                      expressions                 blocks
    PR_TEMPLATE_NODE_DATA,       // text
    PR_TEMPLATE_NODE_PRINT,      // what
    PR_TEMPLATE_NODE_IF,         // item[]: tests               block[]: one for each test, and else
    PR_TEMPLATE_NODE_FOR,        // target, over, test or NULL  body, else
    PR_TEMPLATE_NODE_SET,        // target, value
    PR_TEMPLATE_NODE_SET_BLOCK,  // target, filters of BODY     body
    PR_TEMPLATE_NODE_FILTER_BLOCK,  // filters of BODY             body
    PR_TEMPLATE_NODE_WITH,          // item[]: target, value, ...  body
    PR_TEMPLATE_NODE_SCOPE,         //                             body
    PR_TEMPLATE_NODE_MACRO,         // definition
    PR_TEMPLATE_NODE_CALL_BLOCK,    // a CALL; definition is its `caller`
    PR_TEMPLATE_NODE_BREAK,
    PR_TEMPLATE_NODE_CONTINUE,
} pr_template_node_kind;

typedef struct pr_template_node pr_template_node;

typedef struct pr_template_nodes {
    pr_template_node **node;
    size_t size, capacity;
} pr_template_nodes;

// Of a call, filter or test.
typedef struct pr_template_call_arguments {
    pr_template_nodes positional;
    pr_template_nodes keyword;  // each a NAME whose text is the keyword and whose left is the value
} pr_template_call_arguments;

typedef struct pr_template_definition {
    pr_template_text name;
    int32_t symbol;
    pr_template_nodes parameter;  // each a NAME; left is the default or NULL
    pr_template_nodes body;
    bool uses_varargs, uses_kwargs, uses_caller;
} pr_template_definition;

struct pr_template_node {
    pr_template_node_kind kind;
    int32_t line;
    int32_t symbol;  // NAME
    pr_template_operation operation;
    pr_template_value value;
    pr_template_text text;
    pr_template_node *left, *right, *third;
    pr_template_nodes item;
    pr_template_nodes *block;  // [blocks]
    size_t blocks;
    pr_template_call_arguments arguments;
    const pr_template_builtin *builtin;  // NULL: unknown, a fault when it is reached
    pr_template_definition *definition;
};

// Variables with a meaning of their own.
enum {
    PR_TEMPLATE_SYMBOL_LOOP,
    PR_TEMPLATE_SYMBOL_CALLER,
    PR_TEMPLATE_SYMBOL_VARARGS,
    PR_TEMPLATE_SYMBOL_KWARGS,
    PR_TEMPLATE_SYMBOLS_KNOWN,
};

typedef struct pr_template_program {
    pr_template_heap heap;
    pr_template_text *symbol;  // [symbols] names, NUL-terminated; the first ones are those above
    size_t symbols;
    pr_template_nodes body;
} pr_template_program;

#endif
