// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/template/template_parser.h"
#include "runtime/value/template_dict.h"

#include <stdio.h>
#include <string.h>

// ---- tokens

static bool is_word(const pr_template_parser *p, pr_template_token_kind kind, const char *word)
{
    return p->token->kind == kind && pr_template_text_equals(&p->token->text, word);
}

bool pr_template_parser_at_operator(const pr_template_parser *p, const char *word)
{
    return is_word(p, PR_TEMPLATE_TOKEN_OPERATOR, word);
}

bool pr_template_parser_at_name(const pr_template_parser *p, const char *word)
{
    return is_word(p, PR_TEMPLATE_TOKEN_NAME, word);
}

bool pr_template_parser_skip_operator(pr_template_parser *p, const char *word)
{
    bool here = pr_template_parser_at_operator(p, word);
    p->token += here;
    return here;
}

bool pr_template_parser_skip_name(pr_template_parser *p, const char *word)
{
    bool here = pr_template_parser_at_name(p, word);
    p->token += here;
    return here;
}

pr_status pr_template_parser_unexpected(const pr_template_parser *p, const char *expected)
{
    static const char *const names[] = {
        [PR_TEMPLATE_TOKEN_DATA] = "text",
        [PR_TEMPLATE_TOKEN_VARIABLE_BEGIN] = "{{",
        [PR_TEMPLATE_TOKEN_VARIABLE_END] = "}}",
        [PR_TEMPLATE_TOKEN_BLOCK_BEGIN] = "{%",
        [PR_TEMPLATE_TOKEN_BLOCK_END] = "%}",
        [PR_TEMPLATE_TOKEN_STRING] = "a string",
        [PR_TEMPLATE_TOKEN_INTEGER] = "a number",
        [PR_TEMPLATE_TOKEN_FLOAT] = "a number",
        [PR_TEMPLATE_TOKEN_END] = "the end of the template",
    };
    p->heap->line = p->token->line;
    const char *name = names[p->token->kind];
    if (name)
        return pr_template_heap_fail(p->heap, "expected %s, got %s", expected, name);
    return pr_template_heap_fail(
        p->heap, "expected %s, got '%.*s'", expected,
        (int)(p->token->text.size_bytes < 40 ? p->token->text.size_bytes : 40),
        p->token->text.data);
}

pr_status pr_template_parser_expect_operator(pr_template_parser *p, const char *word)
{
    char quoted[8];
    snprintf(quoted, sizeof quoted, "'%s'", word);
    return pr_template_parser_skip_operator(p, word) ? PR_OK
                                                     : pr_template_parser_unexpected(p, quoted);
}

static pr_status expect_block_end(pr_template_parser *p)
{
    if (p->token->kind != PR_TEMPLATE_TOKEN_BLOCK_END)
        return pr_template_parser_unexpected(p, "%}");
    p->token++;
    return PR_OK;
}

pr_status pr_template_parser_enter(pr_template_parser *p)
{
    if (++p->depth > PR_TEMPLATE_PARSER_MAX_DEPTH)
        return pr_template_heap_fail(
            p->heap, "the template is nested more than %d deep", PR_TEMPLATE_PARSER_MAX_DEPTH);
    return PR_OK;
}

// ---- nodes

pr_status
pr_template_parser_node(pr_template_parser *p, pr_template_node_kind kind, pr_template_node **node)
{
    pr_template_node *fresh = pr_template_heap_take_zeroed(p->heap, sizeof *fresh);
    if (!fresh)
        return PR_ERR_REQUEST;
    fresh->kind = kind;
    fresh->line = p->heap->line = p->token->line;
    *node = fresh;
    return PR_OK;
}

pr_status
pr_template_parser_add(pr_template_parser *p, pr_template_nodes *nodes, pr_template_node *node)
{
    if (nodes->size == nodes->capacity) {
        size_t wanted = nodes->capacity < 4 ? 4 : nodes->capacity * 2;
        pr_template_node **fresh = pr_template_heap_take(p->heap, wanted * sizeof *fresh);
        if (!fresh)
            return PR_ERR_REQUEST;
        if (nodes->size > 0)
            memcpy(fresh, nodes->node, nodes->size * sizeof *fresh);
        nodes->node = fresh;
        nodes->capacity = wanted;
    }
    nodes->node[nodes->size++] = node;
    return PR_OK;
}

static pr_status find_symbol(pr_template_parser *p, pr_template_text name, int32_t *symbol)
{
    pr_template_program *program = p->program;
    const pr_template_value *known =
        pr_template_dict_find_text(p->known, name.data, name.size_bytes);
    if (known) {
        *symbol = (int32_t)known->integer;
        return PR_OK;
    }
    if (program->symbols == p->symbols_capacity) {
        size_t wanted = p->symbols_capacity < 16 ? 16 : p->symbols_capacity * 2;
        pr_template_text *fresh = pr_template_heap_take(p->heap, wanted * sizeof *fresh);
        if (!fresh)
            return PR_ERR_REQUEST;
        if (program->symbols > 0)
            memcpy(fresh, program->symbol, program->symbols * sizeof *fresh);
        program->symbol = fresh;
        p->symbols_capacity = wanted;
    }
    char *copy = pr_template_heap_take(p->heap, name.size_bytes + 1);
    if (!copy)
        return PR_ERR_REQUEST;
    memcpy(copy, name.data, name.size_bytes);
    copy[name.size_bytes] = 0;
    name.data = copy;
    *symbol = (int32_t)program->symbols;
    program->symbol[program->symbols++] = name;
    return pr_template_dict_set(
        p->heap, p->known, pr_template_value_string(name), pr_template_value_integer(*symbol));
}

pr_status pr_template_parser_name(pr_template_parser *p, pr_template_node **node)
{
    if (p->token->kind != PR_TEMPLATE_TOKEN_NAME)
        return pr_template_parser_unexpected(p, "a name");
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_NAME, node));
    PR_TRY(find_symbol(p, p->token->text, &(*node)->symbol));
    (*node)->text = p->program->symbol[(*node)->symbol];
    p->token++;
    if (p->definition) {
        p->definition->uses_varargs |= (*node)->symbol == PR_TEMPLATE_SYMBOL_VARARGS;
        p->definition->uses_kwargs |= (*node)->symbol == PR_TEMPLATE_SYMBOL_KWARGS;
        p->definition->uses_caller |= (*node)->symbol == PR_TEMPLATE_SYMBOL_CALLER;
    }
    return PR_OK;
}

// ---- statements

static pr_status
parse_block(pr_template_parser *p, const char *const *ends, pr_template_nodes *block);

// A block up to its one end, which is taken with the rest of its tag.
static pr_status parse_body(pr_template_parser *p, const char *end, pr_template_nodes *block)
{
    PR_TRY(expect_block_end(p));
    PR_TRY(parse_block(p, (const char *[]){end, NULL}, block));
    p->token++;
    return expect_block_end(p);
}

static pr_status add_block(pr_template_parser *p, pr_template_node *node, pr_template_nodes block)
{
    size_t blocks = node->blocks;
    if ((blocks & (blocks - 1)) == 0) {  // full: room is for the next power of two
        size_t wanted = blocks > 0 ? 2 * blocks : 1;
        pr_template_nodes *fresh = pr_template_heap_take(p->heap, wanted * sizeof *fresh);
        if (!fresh)
            return PR_ERR_REQUEST;
        if (blocks > 0)
            memcpy(fresh, node->block, blocks * sizeof *fresh);
        node->block = fresh;
    }
    node->block[node->blocks++] = block;
    return PR_OK;
}

static pr_status parse_one_body(pr_template_parser *p, const char *end, pr_template_node *node)
{
    pr_template_nodes body = {0};
    PR_TRY(parse_body(p, end, &body));
    return add_block(p, node, body);
}

static pr_status parse_target(pr_template_parser *p, pr_template_node **target);

static pr_status parse_target_item(pr_template_parser *p, pr_template_node **target)
{
    if (!pr_template_parser_skip_operator(p, "("))
        return pr_template_parser_name(p, target);
    PR_TRY(pr_template_parser_enter(p));
    PR_TRY(parse_target(p, target));
    pr_template_parser_leave(p);
    return pr_template_parser_expect_operator(p, ")");
}

// a, or a, b, or (a, (b, c))
static pr_status parse_target(pr_template_parser *p, pr_template_node **target)
{
    pr_template_node *item;
    PR_TRY(parse_target_item(p, target));
    if (!pr_template_parser_at_operator(p, ","))
        return PR_OK;
    item = *target;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_TUPLE, target));
    PR_TRY(pr_template_parser_add(p, &(*target)->item, item));
    while (pr_template_parser_skip_operator(p, ",") && !pr_template_parser_at_name(p, "in") &&
           !pr_template_parser_at_operator(p, "=")) {
        PR_TRY(parse_target_item(p, &item));
        PR_TRY(pr_template_parser_add(p, &(*target)->item, item));
    }
    return PR_OK;
}

static pr_status parse_if(pr_template_parser *p, pr_template_node **node)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_IF, node));
    bool more = true, seen_else = false;
    while (more) {
        pr_template_node *test;
        pr_template_nodes block = {0};
        if (!seen_else) {
            PR_TRY(pr_template_expression_tuple(p, true, &test));
            PR_TRY(pr_template_parser_add(p, &(*node)->item, test));
        }
        PR_TRY(expect_block_end(p));
        PR_TRY(parse_block(p, seen_else ? ends + 2 : ends, &block));
        PR_TRY(add_block(p, *node, block));
        more = !pr_template_parser_at_name(p, "endif");
        seen_else = pr_template_parser_at_name(p, "else");
        p->token++;
    }
    return expect_block_end(p);
}

static pr_status parse_for(pr_template_parser *p, pr_template_node **node)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    pr_template_nodes body = {0}, otherwise = {0};
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_FOR, node));
    PR_TRY(parse_target(p, &(*node)->left));
    if (!pr_template_parser_skip_name(p, "in"))
        return pr_template_parser_unexpected(p, "'in'");
    PR_TRY(pr_template_expression_tuple(p, true, &(*node)->right));
    if (pr_template_parser_skip_name(p, "if"))
        PR_TRY(pr_template_expression(p, false, &(*node)->third));
    if (pr_template_parser_at_name(p, "recursive"))
        return pr_template_heap_fail(p->heap, "recursive loops are not supported: use a macro");
    PR_TRY(expect_block_end(p));
    p->loops++;
    PR_TRY(parse_block(p, ends, &body));
    p->loops--;
    if (pr_template_parser_skip_name(p, "else"))
        PR_TRY(parse_body(p, "endfor", &otherwise));
    else {
        p->token++;
        PR_TRY(expect_block_end(p));
    }
    PR_TRY(add_block(p, *node, body));
    return add_block(p, *node, otherwise);
}

static pr_status new_filter_operand(pr_template_parser *p, pr_template_node **node)
{
    return pr_template_parser_node(p, PR_TEMPLATE_NODE_BODY, node);
}

static pr_status parse_set(pr_template_parser *p, pr_template_node **node)
{
    pr_template_node *set, *target;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_SET, &set));
    *node = set;
    PR_TRY(parse_target(p, &target));
    if (target->kind == PR_TEMPLATE_NODE_NAME && pr_template_parser_skip_operator(p, ".")) {
        PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_ATTRIBUTE, &set->left));
        set->left->left = target;
        if (p->token->kind != PR_TEMPLATE_TOKEN_NAME)
            return pr_template_parser_unexpected(p, "a name behind the dot");
        set->left->text = p->token->text;
        p->token++;
    } else {
        set->left = target;
    }
    if (pr_template_parser_skip_operator(p, "=")) {
        PR_TRY(pr_template_expression_tuple(p, false, &set->right));
        return expect_block_end(p);
    }
    set->kind = PR_TEMPLATE_NODE_SET_BLOCK;
    PR_TRY(new_filter_operand(p, &set->right));
    PR_TRY(pr_template_expression_filters(p, false, &set->right));
    return parse_one_body(p, "endset", set);
}

static pr_status parse_filter_block(pr_template_parser *p, pr_template_node **node)
{
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_FILTER_BLOCK, node));
    PR_TRY(new_filter_operand(p, &(*node)->left));
    PR_TRY(pr_template_expression_filters(p, true, &(*node)->left));
    return parse_one_body(p, "endfilter", *node);
}

static pr_status parse_with(pr_template_parser *p, pr_template_node **node)
{
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_WITH, node));
    while (p->token->kind != PR_TEMPLATE_TOKEN_BLOCK_END) {
        pr_template_node *target, *value;
        if ((*node)->item.size > 0)
            PR_TRY(pr_template_parser_expect_operator(p, ","));
        PR_TRY(parse_target_item(p, &target));
        PR_TRY(pr_template_parser_expect_operator(p, "="));
        PR_TRY(pr_template_expression(p, false, &value));
        PR_TRY(pr_template_parser_add(p, &(*node)->item, target));
        PR_TRY(pr_template_parser_add(p, &(*node)->item, value));
    }
    return parse_one_body(p, "endwith", *node);
}

// ---- macros

static pr_status parse_parameters(pr_template_parser *p, pr_template_nodes *parameters)
{
    pr_template_node *parameter;
    PR_TRY(pr_template_parser_expect_operator(p, "("));
    while (!pr_template_parser_at_operator(p, ")")) {
        bool needs_default =
            parameters->size > 0 && parameters->node[parameters->size - 1]->left != NULL;
        if (parameters->size > 0)
            PR_TRY(pr_template_parser_expect_operator(p, ","));
        PR_TRY(pr_template_parser_name(p, &parameter));
        if (pr_template_parser_skip_operator(p, "="))
            PR_TRY(pr_template_expression(p, false, &parameter->left));
        else if (needs_default)
            return pr_template_heap_fail(
                p->heap, "a parameter without a default follows one with a default");
        PR_TRY(pr_template_parser_add(p, parameters, parameter));
    }
    return pr_template_parser_expect_operator(p, ")");
}

static pr_status begin_definition(pr_template_parser *p, pr_template_node *node)
{
    node->definition = pr_template_heap_take_zeroed(p->heap, sizeof *node->definition);
    return node->definition ? PR_OK : PR_ERR_REQUEST;
}

// The body is a function: what is around is seen, but no loop of it can be left.
static pr_status
parse_definition_body(pr_template_parser *p, const char *end, pr_template_definition *definition)
{
    pr_template_definition *around = p->definition;
    int loops = p->loops;
    p->definition = definition;
    p->loops = 0;
    PR_TRY(parse_body(p, end, &definition->body));
    p->definition = around;
    p->loops = loops;
    return PR_OK;
}

static pr_status parse_macro(pr_template_parser *p, pr_template_node **node)
{
    pr_template_node *name;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_MACRO, node));
    PR_TRY(begin_definition(p, *node));
    PR_TRY(pr_template_parser_name(p, &name));
    (*node)->definition->name = name->text;
    (*node)->definition->symbol = name->symbol;
    PR_TRY(parse_parameters(p, &(*node)->definition->parameter));
    return parse_definition_body(p, "endmacro", (*node)->definition);
}

static pr_status parse_call_block(pr_template_parser *p, pr_template_node **node)
{
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_CALL_BLOCK, node));
    PR_TRY(begin_definition(p, *node));
    (*node)->definition->name = pr_template_text_of("caller", 6, false);
    if (pr_template_parser_at_operator(p, "("))
        PR_TRY(parse_parameters(p, &(*node)->definition->parameter));
    PR_TRY(pr_template_expression(p, false, &(*node)->left));
    if ((*node)->left->kind != PR_TEMPLATE_NODE_CALL)
        return pr_template_heap_fail(p->heap, "{%% call %%} needs a call");
    return parse_definition_body(p, "endcall", (*node)->definition);
}

// ---- the rest

static pr_status parse_generation(pr_template_parser *p, pr_template_node **node)
{
    int loops = p->loops;
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_SCOPE, node));
    p->loops = 0;
    PR_TRY(parse_one_body(p, "endgeneration", *node));
    p->loops = loops;
    return PR_OK;
}

static pr_status parse_jump(pr_template_parser *p, pr_template_node **node)
{
    bool is_break = pr_template_text_equals(&p->token[-1].text, "break");
    PR_TRY(pr_template_parser_node(
        p, is_break ? PR_TEMPLATE_NODE_BREAK : PR_TEMPLATE_NODE_CONTINUE, node));
    if (p->loops == 0)
        return pr_template_heap_fail(p->heap, "break and continue belong into a for loop");
    return expect_block_end(p);
}

static pr_status parse_statement(pr_template_parser *p, pr_template_node **node)
{
    static const struct {
        const char *word;
        pr_status (*parse)(pr_template_parser *p, pr_template_node **node);
    } statements[] = {
        {"if", parse_if},           {"for", parse_for},
        {"set", parse_set},         {"macro", parse_macro},
        {"call", parse_call_block}, {"filter", parse_filter_block},
        {"with", parse_with},       {"generation", parse_generation},
        {"break", parse_jump},      {"continue", parse_jump},
    };
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        if (pr_template_parser_skip_name(p, statements[i].word))
            return statements[i].parse(p, node);
    }
    return pr_template_parser_unexpected(
        p, "if, for, set, macro, call, filter, with, generation, break, continue or the end of "
           "an open block");
}

static pr_status parse_print(pr_template_parser *p, pr_template_node **node)
{
    PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_PRINT, node));
    PR_TRY(pr_template_expression_tuple(p, false, &(*node)->left));
    if (p->token->kind != PR_TEMPLATE_TOKEN_VARIABLE_END)
        return pr_template_parser_unexpected(p, "}}");
    p->token++;
    return PR_OK;
}

static bool at_one_of(const pr_template_parser *p, const char *const *words)
{
    for (; *words; words++) {
        if (pr_template_parser_at_name(p, *words))
            return true;
    }
    return false;
}

// Statements up to a tag that begins with one of `ends`, whose word is then the current token; without
// ends, to the end of the template.
static pr_status
parse_block(pr_template_parser *p, const char *const *ends, pr_template_nodes *block)
{
    PR_TRY(pr_template_parser_enter(p));
    for (;;) {
        pr_template_node *node;
        const pr_template_token *token = p->token++;
        if (token->kind == PR_TEMPLATE_TOKEN_DATA) {
            p->token = token;
            PR_TRY(pr_template_parser_node(p, PR_TEMPLATE_NODE_DATA, &node));
            node->text = token->text;
            p->token++;
        } else if (token->kind == PR_TEMPLATE_TOKEN_VARIABLE_BEGIN) {
            PR_TRY(parse_print(p, &node));
        } else if (token->kind == PR_TEMPLATE_TOKEN_BLOCK_BEGIN) {
            if (at_one_of(p, ends))
                break;
            PR_TRY(parse_statement(p, &node));
        } else if (!*ends) {
            break;
        } else {
            p->token = token;
            return pr_template_parser_unexpected(p, *ends);
        }
        PR_TRY(pr_template_parser_add(p, block, node));
    }
    pr_template_parser_leave(p);
    return PR_OK;
}

static pr_status name_known_symbols(pr_template_parser *p)
{
    static const char *const names[PR_TEMPLATE_SYMBOLS_KNOWN] = {
        [PR_TEMPLATE_SYMBOL_LOOP] = "loop",
        [PR_TEMPLATE_SYMBOL_CALLER] = "caller",
        [PR_TEMPLATE_SYMBOL_VARARGS] = "varargs",
        [PR_TEMPLATE_SYMBOL_KWARGS] = "kwargs",
    };
    int32_t symbol;
    for (int i = 0; i < PR_TEMPLATE_SYMBOLS_KNOWN; i++)
        PR_TRY(find_symbol(p, pr_template_text_of(names[i], strlen(names[i]), false), &symbol));
    return PR_OK;
}

pr_status pr_template_parser_run(pr_template_program *program, const char *text, size_t size_bytes)
{
    pr_template_parser p = {.program = program, .heap = &program->heap};
    pr_template_token *token;
    pr_template_value known;
    PR_TRY(pr_template_lexer_run(p.heap, text, size_bytes, &token));
    PR_TRY(pr_template_value_dict(p.heap, PR_TEMPLATE_DICT, &known));
    p.known = known.dict;
    p.token = token;
    p.heap->line = 1;
    PR_TRY(name_known_symbols(&p));
    return parse_block(&p, (const char *[]){NULL}, &program->body);
}
