// SPDX-License-Identifier: BSD-3-Clause
#include <string.h>

#include "runtime/template/template_method.h"
#include "runtime/template/template_render.h"
#include "runtime/value/template_builder.h"
#include "runtime/value/template_dict.h"
#include "runtime/value/template_operator.h"
#include "runtime/value/template_print.h"

pr_status pr_template_eval_enter(pr_template_render *render)
{
    if (++render->depth > PR_TEMPLATE_RENDER_MAX_DEPTH)
        return pr_template_heap_fail(
            &render->heap, "calls and expressions are nested more than %d deep",
            PR_TEMPLATE_RENDER_MAX_DEPTH);
    return pr_template_heap_charge(&render->heap, 1);
}

// ---- names, attributes, subscripts

static pr_status
find_name(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    size_t looked_at = 0;
    for (const pr_template_scope *scope = render->scope; scope; scope = scope->outer) {
        for (size_t i = scope->size; i-- > 0;) {
            if (scope->binding[i].symbol == node->symbol) {
                *value = scope->binding[i].value;
                return pr_template_heap_charge(&render->heap, looked_at / 8);
            }
        }
        looked_at += scope->size + 1;
    }
    *value = render->global[node->symbol];
    if (value->kind == PR_TEMPLATE_ABSENT)
        *value = pr_template_value_undefined(node->text.data);
    return pr_template_heap_charge(&render->heap, looked_at / 8);
}

// A C string of a name, for the message about what is not there.
static const char *keep_name(pr_template_render *render, const pr_template_text *name)
{
    size_t size = name->size_bytes < 80 ? name->size_bytes : 80;
    char *copy = pr_template_heap_take(&render->heap, size + 1);
    if (!copy)
        return NULL;
    memcpy(copy, name->data, size);
    copy[size] = 0;
    return copy;
}

static pr_status
find_nothing(pr_template_render *render, const pr_template_text *name, pr_template_value *value)
{
    *value = pr_template_value_undefined(keep_name(render, name));
    return value->name ? PR_OK : PR_ERR_REQUEST;
}

static pr_status fail_undefined(pr_template_render *render, const pr_template_value *object)
{
    return pr_template_heap_fail(&render->heap, "'%s' is undefined", object->name);
}

static pr_status bind_method(
    pr_template_render *render,
    const pr_template_builtin *builtin,
    const pr_template_value *object,
    pr_template_value *value)
{
    pr_template_method *method = pr_template_heap_take(&render->heap, sizeof *method);
    if (!method)
        return PR_ERR_REQUEST;
    *method = (pr_template_method){.builtin = builtin, .self = *object};
    *value = (pr_template_value){.kind = PR_TEMPLATE_METHOD, .method = method};
    return PR_OK;
}

static const pr_template_value *
find_entry(const pr_template_value *object, const pr_template_text *name)
{
    return object->kind == PR_TEMPLATE_DICT || object->kind == PR_TEMPLATE_NAMESPACE
               ? pr_template_dict_find_text(object->dict, name->data, name->size_bytes)
               : NULL;
}

// A dict's own attributes come before its keys with a dot, behind them with brackets.
static pr_status find_attribute(
    pr_template_render *render,
    const pr_template_value *object,
    const pr_template_text *name,
    bool keys_first,
    pr_template_value *value)
{
    PR_TRY(pr_template_heap_charge(&render->heap, 2));
    const pr_template_builtin *method = pr_template_method_find(object, name);
    const pr_template_value *entry = keys_first || !method ? find_entry(object, name) : NULL;
    if (entry) {
        *value = *entry;
        return PR_OK;
    }
    if (method)
        return bind_method(render, method, object, value);
    if (object->kind == PR_TEMPLATE_LOOP && pr_template_method_loop(object->loop, name, value))
        return PR_OK;
    return find_nothing(render, name, value);
}

pr_status pr_template_eval_attribute(
    pr_template_render *render,
    const pr_template_value *object,
    pr_template_text name,
    pr_template_value *value)
{
    if (object->kind == PR_TEMPLATE_UNDEFINED)
        return fail_undefined(render, object);
    return find_attribute(render, object, &name, false, value);
}

static bool find_item(const pr_template_value *object, int64_t index, size_t size, size_t *at)
{
    bool indexed = object->kind == PR_TEMPLATE_LIST || object->kind == PR_TEMPLATE_TUPLE ||
                   object->kind == PR_TEMPLATE_RANGE || object->kind == PR_TEMPLATE_STRING;
    *at = (size_t)(index < 0 ? index + (int64_t)size : index);
    return indexed && *at < size;
}

static pr_status subscript_number(
    pr_template_render *render,
    const pr_template_value *object,
    int64_t index,
    pr_template_value *value)
{
    static const char name[] = "an item beyond the end";
    size_t size = 0, at;
    *value = pr_template_value_undefined(name);
    if (object->kind == PR_TEMPLATE_STRING || pr_template_value_is_list(object))
        size = object->kind == PR_TEMPLATE_STRING ? pr_template_text_characters(&object->text)
                                                  : object->list->size;
    if (!find_item(object, index, size, &at))
        return PR_OK;
    if (object->kind != PR_TEMPLATE_STRING) {
        *value = object->list->item[at];
        return PR_OK;
    }
    const pr_template_text *text = &object->text;
    size_t begin = pr_template_text_offset(text, at);
    pr_template_text rest = pr_template_text_slice(*text, begin, text->size_bytes);
    *value = pr_template_value_string(
        pr_template_text_slice(rest, 0, pr_template_text_offset(&rest, 1)));
    return pr_template_heap_charge(&render->heap, text->size_bytes / 16);
}

pr_status pr_template_eval_subscript(
    pr_template_render *render,
    const pr_template_value *object,
    const pr_template_value *index,
    pr_template_value *value)
{
    if (object->kind == PR_TEMPLATE_UNDEFINED)
        return fail_undefined(render, object);
    if (index->kind == PR_TEMPLATE_STRING)
        return find_attribute(render, object, &index->text, true, value);
    bool can_be_key = index->kind >= PR_TEMPLATE_NONE && index->kind <= PR_TEMPLATE_STRING;
    if (object->kind == PR_TEMPLATE_DICT && can_be_key) {
        const pr_template_value *found;
        PR_TRY(pr_template_dict_find(&render->heap, object->dict, index, &found));
        *value = found ? *found : pr_template_value_undefined("a key of a dict");
        return PR_OK;
    }
    if (index->kind == PR_TEMPLATE_INTEGER || index->kind == PR_TEMPLATE_BOOL)
        return subscript_number(render, object, pr_template_value_as_integer(index), value);
    *value = pr_template_value_undefined("an item");
    return PR_OK;
}

static pr_status
eval_subscript(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value object, index;
    PR_TRY(pr_template_eval(render, node->left, &object));
    PR_TRY(pr_template_eval(render, node->right, &index));
    return pr_template_eval_subscript(render, &object, &index, value);
}

static pr_status
eval_slice(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value object, bound[3];
    PR_TRY(pr_template_eval(render, node->left, &object));
    for (int i = 0; i < 3; i++) {
        bound[i] = pr_template_value_none();
        if (node->item.node[i])
            PR_TRY(pr_template_eval(render, node->item.node[i], &bound[i]));
    }
    return pr_template_operator_slice(&render->heap, &object, bound, value);
}

// ---- calls

pr_status pr_template_eval_arguments(
    pr_template_render *render,
    const pr_template_call_arguments *nodes,
    const pr_template_value *caller,
    pr_template_arguments *arguments)
{
    size_t positionals = nodes->positional.size, keywords = nodes->keyword.size;
    pr_template_value *positional =
        pr_template_heap_take(&render->heap, positionals * sizeof *positional);
    pr_template_keyword *keyword =
        pr_template_heap_take(&render->heap, (keywords + 1) * sizeof *keyword);
    if (!positional || !keyword)
        return PR_ERR_REQUEST;
    for (size_t i = 0; i < positionals; i++)
        PR_TRY(pr_template_eval(render, nodes->positional.node[i], &positional[i]));
    for (size_t i = 0; i < keywords; i++) {
        keyword[i].name = nodes->keyword.node[i]->text;
        PR_TRY(pr_template_eval(render, nodes->keyword.node[i]->left, &keyword[i].value));
    }
    if (caller)
        keyword[keywords++] = (pr_template_keyword){
            .name = pr_template_text_of("caller", 6, false), .value = *caller};
    *arguments = (pr_template_arguments){
        .positional = positional,
        .positionals = positionals,
        .keyword = keyword,
        .keywords = keywords,
    };
    return PR_OK;
}

pr_status pr_template_eval_call(
    pr_template_render *render,
    const pr_template_value *callee,
    const pr_template_arguments *arguments,
    pr_template_value *result)
{
    switch (callee->kind) {
    case PR_TEMPLATE_MACRO:
        return pr_template_run_macro(render, callee->macro, arguments, result);
    case PR_TEMPLATE_FUNCTION:
        return pr_template_builtin_call(callee->method->builtin, render, NULL, arguments, result);
    case PR_TEMPLATE_METHOD:
        return pr_template_builtin_call(
            callee->method->builtin, render, &callee->method->self, arguments, result);
    case PR_TEMPLATE_UNDEFINED:
        return pr_template_heap_fail(
            &render->heap, "'%s' is undefined or not supported, so it cannot be called",
            callee->name);
    default:
        return pr_template_heap_fail(
            &render->heap, "'%s' object is not callable", pr_template_value_kind_name(callee));
    }
}

static pr_status
eval_call(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value callee;
    pr_template_arguments arguments;
    PR_TRY(pr_template_eval(render, node->left, &callee));
    PR_TRY(pr_template_eval_arguments(render, &node->arguments, NULL, &arguments));
    return pr_template_eval_call(render, &callee, &arguments, value);
}

static pr_status eval_filter_or_test(
    pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value operand;
    pr_template_arguments arguments;
    if (!node->builtin)
        return pr_template_heap_fail(
            &render->heap, "there is no %s '%.*s'",
            node->kind == PR_TEMPLATE_NODE_FILTER ? "filter" : "test",
            (int)(node->text.size_bytes < 60 ? node->text.size_bytes : 60), node->text.data);
    PR_TRY(pr_template_eval(render, node->left, &operand));
    PR_TRY(pr_template_eval_arguments(render, &node->arguments, NULL, &arguments));
    return pr_template_builtin_call(node->builtin, render, &operand, &arguments, value);
}

// ---- the rest

static pr_status
eval_list(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    bool tuple = node->kind == PR_TEMPLATE_NODE_TUPLE;
    PR_TRY(pr_template_value_list(
        &render->heap, tuple ? PR_TEMPLATE_TUPLE : PR_TEMPLATE_LIST, node->item.size, value));
    for (size_t i = 0; i < node->item.size; i++)
        PR_TRY(pr_template_eval(render, node->item.node[i], &value->list->item[i]));
    return PR_OK;
}

static pr_status
eval_dict(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value key, item;
    PR_TRY(pr_template_value_dict(&render->heap, PR_TEMPLATE_DICT, value));
    for (size_t i = 0; i < node->item.size; i += 2) {
        PR_TRY(pr_template_eval(render, node->item.node[i], &key));
        PR_TRY(pr_template_eval(render, node->item.node[i + 1], &item));
        PR_TRY(pr_template_dict_set(&render->heap, value->dict, key, item));
    }
    return PR_OK;
}

static pr_status eval_concatenation(
    pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_builder builder = pr_template_builder_of(&render->heap);
    pr_template_value part;
    for (size_t i = 0; i < node->item.size; i++) {
        PR_TRY(pr_template_eval(render, node->item.node[i], &part));
        PR_TRY(pr_template_print_str(&builder, &part));
    }
    *value = pr_template_value_string((pr_template_text){0});
    return pr_template_builder_finish(&builder, &value->text);
}

// a < b < c is a < b and b < c with b evaluated once.
static pr_status
eval_comparison(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value left, right;
    PR_TRY(pr_template_eval(render, node->left, &left));
    *value = pr_template_value_bool(true);
    for (size_t i = 0; i < node->item.size && value->truth; i++) {
        const pr_template_node *step = node->item.node[i];
        PR_TRY(pr_template_eval(render, step->left, &right));
        PR_TRY(pr_template_operator_binary(&render->heap, step->operation, &left, &right, value));
        left = right;
    }
    return PR_OK;
}

static pr_status
eval_binary(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value left, right;
    PR_TRY(pr_template_eval(render, node->left, &left));
    PR_TRY(pr_template_eval(render, node->right, &right));
    return pr_template_operator_binary(&render->heap, node->operation, &left, &right, value);
}

static pr_status
eval_logic(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    PR_TRY(pr_template_eval(render, node->left, value));
    if (pr_template_value_is_true(value) == (node->kind == PR_TEMPLATE_NODE_AND))
        PR_TRY(pr_template_eval(render, node->right, value));
    return PR_OK;
}

static pr_status
eval_condition(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value test;
    PR_TRY(pr_template_eval(render, node->right, &test));
    if (pr_template_value_is_true(&test))
        return pr_template_eval(render, node->left, value);
    if (node->third)
        return pr_template_eval(render, node->third, value);
    *value = pr_template_value_undefined("an inline if without else");
    return PR_OK;
}

static pr_status
eval_sign(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value operand;
    PR_TRY(pr_template_eval(render, node->left, &operand));
    if (node->kind == PR_TEMPLATE_NODE_NOT) {
        *value = pr_template_value_bool(!pr_template_value_is_true(&operand));
        return PR_OK;
    }
    PR_TRY(pr_template_operator_negate(&render->heap, &operand, value));
    if (node->kind == PR_TEMPLATE_NODE_NEGATE)
        return PR_OK;
    operand = *value;
    return pr_template_operator_negate(&render->heap, &operand, value);
}

static pr_status
eval_node(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    pr_template_value object;
    switch (node->kind) {
    case PR_TEMPLATE_NODE_LITERAL:
        *value = node->value;
        return PR_OK;
    case PR_TEMPLATE_NODE_NAME:
        return find_name(render, node, value);
    case PR_TEMPLATE_NODE_BODY:
        *value = render->body;
        return PR_OK;
    case PR_TEMPLATE_NODE_LIST:
    case PR_TEMPLATE_NODE_TUPLE:
        return eval_list(render, node, value);
    case PR_TEMPLATE_NODE_DICT:
        return eval_dict(render, node, value);
    case PR_TEMPLATE_NODE_NOT:
    case PR_TEMPLATE_NODE_NEGATE:
    case PR_TEMPLATE_NODE_PLUS:
        return eval_sign(render, node, value);
    case PR_TEMPLATE_NODE_BINARY:
        return eval_binary(render, node, value);
    case PR_TEMPLATE_NODE_AND:
    case PR_TEMPLATE_NODE_OR:
        return eval_logic(render, node, value);
    case PR_TEMPLATE_NODE_CONCATENATE:
        return eval_concatenation(render, node, value);
    case PR_TEMPLATE_NODE_COMPARE:
        return eval_comparison(render, node, value);
    case PR_TEMPLATE_NODE_CONDITION:
        return eval_condition(render, node, value);
    case PR_TEMPLATE_NODE_ATTRIBUTE:
        PR_TRY(pr_template_eval(render, node->left, &object));
        return pr_template_eval_attribute(render, &object, node->text, value);
    case PR_TEMPLATE_NODE_SUBSCRIPT:
        return eval_subscript(render, node, value);
    case PR_TEMPLATE_NODE_SLICE:
        return eval_slice(render, node, value);
    case PR_TEMPLATE_NODE_CALL:
        return eval_call(render, node, value);
    default:
        return eval_filter_or_test(render, node, value);
    }
}

pr_status
pr_template_eval(pr_template_render *render, const pr_template_node *node, pr_template_value *value)
{
    PR_TRY(pr_template_eval_enter(render));
    render->heap.line = node->line;
    PR_TRY(eval_node(render, node, value));
    pr_template_eval_leave(render);
    return PR_OK;
}
