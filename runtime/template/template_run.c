// SPDX-License-Identifier: BSD-3-Clause
#include <string.h>

#include "runtime/template/template_render.h"
#include "runtime/value/template_builder.h"
#include "runtime/value/template_dict.h"
#include "runtime/value/template_print.h"

// ---- scopes

static pr_status push_scope(pr_template_render *render, pr_template_scope *outer)
{
    pr_template_scope *fresh = pr_template_heap_take_zeroed(&render->heap, sizeof *fresh);
    if (!fresh)
        return PR_ERR_REQUEST;
    fresh->outer = outer;
    render->scope = fresh;
    return PR_OK;
}

static pr_status bind(pr_template_render *render, int32_t symbol, const pr_template_value *value)
{
    pr_template_scope *scope = render->scope;
    PR_TRY(pr_template_heap_charge(&render->heap, scope->size / 8));
    for (size_t i = 0; i < scope->size; i++) {
        if (scope->binding[i].symbol == symbol) {
            scope->binding[i].value = *value;
            return PR_OK;
        }
    }
    if (scope->size == scope->capacity) {
        size_t wanted = scope->capacity < 4 ? 4 : scope->capacity * 2;
        pr_template_binding *fresh = pr_template_heap_take(&render->heap, wanted * sizeof *fresh);
        if (!fresh)
            return PR_ERR_REQUEST;
        if (scope->size > 0)
            memcpy(fresh, scope->binding, scope->size * sizeof *fresh);
        scope->binding = fresh;
        scope->capacity = wanted;
    }
    scope->binding[scope->size++] = (pr_template_binding){.symbol = symbol, .value = *value};
    return PR_OK;
}

static pr_status set_in_namespace(
    pr_template_render *render, const pr_template_node *target, const pr_template_value *value)
{
    pr_template_value object;
    PR_TRY(pr_template_eval(render, target->left, &object));
    if (object.kind != PR_TEMPLATE_NAMESPACE)
        return pr_template_heap_fail(
            &render->heap, "only attributes of a namespace() can be set, '%s' is none",
            target->left->text.data ? pr_template_value_kind_name(&object) : "");
    return pr_template_dict_set(
        &render->heap, object.dict, pr_template_value_string(target->text), *value);
}

static pr_status
assign(pr_template_render *render, const pr_template_node *target, const pr_template_value *value)
{
    pr_template_list list;
    if (target->kind == PR_TEMPLATE_NODE_NAME)
        return bind(render, target->symbol, value);
    if (target->kind == PR_TEMPLATE_NODE_ATTRIBUTE)
        return set_in_namespace(render, target, value);
    if (value->kind == PR_TEMPLATE_UNDEFINED && target->item.size > 0)
        return pr_template_heap_fail(
            &render->heap, "not enough values to unpack: '%s' is undefined", value->name);
    PR_TRY(pr_template_value_walk(&render->heap, value, &list));
    if (list.size != target->item.size)
        return pr_template_heap_fail(
            &render->heap, "%zu values for %zu names", list.size, target->item.size);
    PR_TRY(pr_template_eval_enter(render));
    for (size_t i = 0; i < list.size; i++)
        PR_TRY(assign(render, target->item.node[i], &list.item[i]));
    pr_template_eval_leave(render);
    return PR_OK;
}

// ---- blocks with an inside of their own

static pr_status
run_scoped(pr_template_render *render, const pr_template_nodes *block, pr_template_signal *signal)
{
    pr_template_scope *around = render->scope;
    PR_TRY(push_scope(render, around));
    PR_TRY(pr_template_run(render, block, signal));
    render->scope = around;
    return PR_OK;
}

// What the block prints becomes *text.
static pr_status run_captured(
    pr_template_render *render,
    const pr_template_nodes *block,
    pr_template_signal *signal,
    pr_template_value *text)
{
    pr_template_builder *around = render->output;
    pr_template_builder inside = pr_template_builder_of(&render->heap);
    render->output = &inside;
    pr_status status = run_scoped(render, block, signal);
    render->output = around;
    PR_TRY(status);
    *text = pr_template_value_string((pr_template_text){0});
    return pr_template_builder_finish(&inside, &text->text);
}

// The block's output through the filters of `expression`.
static pr_status run_filtered(
    pr_template_render *render,
    const pr_template_node *expression,
    const pr_template_nodes *block,
    pr_template_signal *signal,
    pr_template_value *value)
{
    pr_template_value around = render->body, inside;
    PR_TRY(run_captured(render, block, signal, &inside));
    render->body = inside;
    PR_TRY(pr_template_eval(render, expression, value));
    render->body = around;
    return PR_OK;
}

static pr_status
run_set_block(pr_template_render *render, const pr_template_node *node, pr_template_signal *signal)
{
    pr_template_value value;
    PR_TRY(run_filtered(render, node->right, &node->block[0], signal, &value));
    return assign(render, node->left, &value);
}

static pr_status run_filter_block(
    pr_template_render *render, const pr_template_node *node, pr_template_signal *signal)
{
    pr_template_value value;
    PR_TRY(run_filtered(render, node->left, &node->block[0], signal, &value));
    return pr_template_print_str(render->output, &value);
}

static pr_status
run_with(pr_template_render *render, const pr_template_node *node, pr_template_signal *signal)
{
    pr_template_scope *around = render->scope, *inside;
    PR_TRY(push_scope(render, around));
    inside = render->scope;
    for (size_t i = 0; i < node->item.size; i += 2) {
        pr_template_value value;
        render->scope = around;
        PR_TRY(pr_template_eval(render, node->item.node[i + 1], &value));
        render->scope = inside;
        PR_TRY(assign(render, node->item.node[i], &value));
    }
    PR_TRY(pr_template_run(render, &node->block[0], signal));
    render->scope = around;
    return PR_OK;
}

// ---- if and for

static pr_status
run_if(pr_template_render *render, const pr_template_node *node, pr_template_signal *signal)
{
    size_t branch = 0;
    for (; branch < node->item.size; branch++) {
        pr_template_value test;
        PR_TRY(pr_template_eval(render, node->item.node[branch], &test));
        if (pr_template_value_is_true(&test))
            break;
    }
    return branch < node->blocks ? pr_template_run(render, &node->block[branch], signal) : PR_OK;
}

static pr_status count_turn(pr_template_render *render)
{
    if (++render->turns > PR_TEMPLATE_RENDER_MAX_TURNS)
        return pr_template_heap_fail(
            &render->heap, "loops take more than %d turns", PR_TEMPLATE_RENDER_MAX_TURNS);
    return PR_OK;
}

// A fresh scope for a turn; the last one's again, if no macro holds on to it.
static pr_status begin_turn(pr_template_render *render, pr_template_scope *around)
{
    PR_TRY(count_turn(render));
    if (render->scope == around || render->scope->captured)
        return push_scope(render, around);
    render->scope->size = 0;
    return PR_OK;
}

// The items for which the loop's own `if` holds.
static pr_status
select_items(pr_template_render *render, const pr_template_node *node, pr_template_list *list)
{
    pr_template_scope *around = render->scope;
    pr_template_list kept = {0};
    size_t capacity = 0;
    for (size_t i = 0; i < list->size; i++) {
        pr_template_value test;
        PR_TRY(begin_turn(render, around));
        PR_TRY(assign(render, node->left, &list->item[i]));
        PR_TRY(pr_template_eval(render, node->third, &test));
        if (pr_template_value_is_true(&test))
            PR_TRY(pr_template_value_push(&render->heap, &kept, &capacity, list->item[i]));
    }
    render->scope = around;
    *list = kept;
    return PR_OK;
}

static pr_status
run_turns(pr_template_render *render, const pr_template_node *node, pr_template_loop *loop)
{
    pr_template_scope *around = render->scope;
    pr_template_signal signal = PR_TEMPLATE_GO_ON;
    pr_template_value self = {.kind = PR_TEMPLATE_LOOP, .loop = loop};
    for (; loop->at < loop->list->size && signal != PR_TEMPLATE_BREAK; loop->at++) {
        PR_TRY(begin_turn(render, around));
        PR_TRY(bind(render, PR_TEMPLATE_SYMBOL_LOOP, &self));
        PR_TRY(assign(render, node->left, &loop->list->item[loop->at]));
        signal = PR_TEMPLATE_GO_ON;
        PR_TRY(pr_template_run(render, &node->block[0], &signal));
    }
    render->scope = around;
    return PR_OK;
}

static pr_status
run_for(pr_template_render *render, const pr_template_node *node, pr_template_signal *signal)
{
    pr_template_value over;
    pr_template_list *list = pr_template_heap_take(&render->heap, sizeof *list);
    pr_template_loop *loop = pr_template_heap_take_zeroed(&render->heap, sizeof *loop);
    if (!list || !loop)
        return PR_ERR_REQUEST;
    PR_TRY(pr_template_eval(render, node->right, &over));
    PR_TRY(pr_template_value_walk(&render->heap, &over, list));
    if (node->third)
        PR_TRY(select_items(render, node, list));
    if (list->size == 0)
        return run_scoped(render, &node->block[1], signal);
    loop->list = list;
    return run_turns(render, node, loop);
}

// ---- macros

static pr_status new_macro(
    pr_template_render *render, const pr_template_definition *definition, pr_template_value *value)
{
    pr_template_macro *macro = pr_template_heap_take(&render->heap, sizeof *macro);
    if (!macro)
        return PR_ERR_REQUEST;
    *macro = (pr_template_macro){.definition = definition, .scope = render->scope};
    for (pr_template_scope *scope = render->scope; scope && !scope->captured; scope = scope->outer)
        scope->captured = true;
    *value = (pr_template_value){.kind = PR_TEMPLATE_MACRO, .macro = macro};
    return PR_OK;
}

static pr_status
fail_argument(pr_template_render *render, const pr_template_definition *definition, const char *why)
{
    return pr_template_heap_fail(
        &render->heap, "macro '%.*s' %s",
        (int)(definition->name.size_bytes < 60 ? definition->name.size_bytes : 60),
        definition->name.data, why);
}

static const pr_template_keyword *
find_keyword(const pr_template_arguments *arguments, const pr_template_text *name, bool *used)
{
    for (size_t i = 0; i < arguments->keywords; i++) {
        if (pr_template_text_compare(&arguments->keyword[i].name, name) == 0) {
            used[i] = true;
            return &arguments->keyword[i];
        }
    }
    return NULL;
}

static pr_status bind_parameter(
    pr_template_render *render,
    const pr_template_definition *definition,
    size_t at,
    const pr_template_arguments *arguments,
    bool *used)
{
    const pr_template_node *parameter = definition->parameter.node[at];
    pr_template_value value = pr_template_value_undefined(parameter->text.data);
    const pr_template_keyword *keyword = find_keyword(arguments, &parameter->text, used);
    if (keyword && at < arguments->positionals)
        return fail_argument(render, definition, "got two values for one parameter");
    if (keyword)
        value = keyword->value;
    else if (at < arguments->positionals)
        value = arguments->positional[at];
    else if (parameter->left)
        PR_TRY(pr_template_eval(render, parameter->left, &value));
    return bind(render, parameter->symbol, &value);
}

static pr_status bind_rest(
    pr_template_render *render,
    const pr_template_definition *definition,
    const pr_template_arguments *arguments,
    const bool *used)
{
    size_t taken = definition->parameter.size, given = arguments->positionals;
    size_t rest = given > taken ? given - taken : 0;
    pr_template_value varargs, kwargs;
    if (rest > 0 && !definition->uses_varargs)
        return fail_argument(render, definition, "got too many arguments");
    PR_TRY(pr_template_value_list(&render->heap, PR_TEMPLATE_TUPLE, rest, &varargs));
    for (size_t i = 0; i < rest; i++)
        varargs.list->item[i] = arguments->positional[taken + i];
    PR_TRY(pr_template_value_dict(&render->heap, PR_TEMPLATE_DICT, &kwargs));
    for (size_t i = 0; i < arguments->keywords; i++) {
        if (used[i])
            continue;
        if (!definition->uses_kwargs)
            return fail_argument(render, definition, "got an argument that it has no name for");
        PR_TRY(pr_template_dict_set(
            &render->heap, kwargs.dict, pr_template_value_string(arguments->keyword[i].name),
            arguments->keyword[i].value));
    }
    if (definition->uses_varargs)
        PR_TRY(bind(render, PR_TEMPLATE_SYMBOL_VARARGS, &varargs));
    return definition->uses_kwargs ? bind(render, PR_TEMPLATE_SYMBOL_KWARGS, &kwargs) : PR_OK;
}

static pr_status bind_arguments(
    pr_template_render *render,
    const pr_template_definition *definition,
    const pr_template_arguments *arguments)
{
    static const pr_template_text caller_name = {.data = "caller", .size_bytes = 6};
    bool *used =
        pr_template_heap_take_zeroed(&render->heap, (arguments->keywords + 1) * sizeof *used);
    if (!used)
        return PR_ERR_REQUEST;
    if (definition->uses_caller) {
        const pr_template_keyword *caller = find_keyword(arguments, &caller_name, used);
        pr_template_value none = pr_template_value_undefined("caller");
        PR_TRY(bind(render, PR_TEMPLATE_SYMBOL_CALLER, caller ? &caller->value : &none));
    }
    for (size_t i = 0; i < definition->parameter.size; i++)
        PR_TRY(bind_parameter(render, definition, i, arguments, used));
    return bind_rest(render, definition, arguments, used);
}

pr_status pr_template_run_macro(
    pr_template_render *render,
    const pr_template_macro *macro,
    const pr_template_arguments *arguments,
    pr_template_value *result)
{
    pr_template_scope *around = render->scope;
    pr_template_signal signal = PR_TEMPLATE_GO_ON;
    PR_TRY(pr_template_eval_enter(render));
    PR_TRY(push_scope(render, macro->scope));
    PR_TRY(bind_arguments(render, macro->definition, arguments));
    PR_TRY(run_captured(render, &macro->definition->body, &signal, result));
    render->scope = around;
    pr_template_eval_leave(render);
    return PR_OK;
}

static pr_status run_call_block(pr_template_render *render, const pr_template_node *node)
{
    pr_template_value callee, caller, result;
    pr_template_arguments arguments;
    PR_TRY(new_macro(render, node->definition, &caller));
    PR_TRY(pr_template_eval(render, node->left->left, &callee));
    PR_TRY(pr_template_eval_arguments(render, &node->left->arguments, &caller, &arguments));
    PR_TRY(pr_template_eval_call(render, &callee, &arguments, &result));
    return pr_template_print_str(render->output, &result);
}

// ---- all statements

static pr_status run_simple(pr_template_render *render, const pr_template_node *node)
{
    pr_template_value value;
    switch (node->kind) {
    case PR_TEMPLATE_NODE_DATA:
        pr_template_builder_append(render->output, node->text);
        return render->output->status;
    case PR_TEMPLATE_NODE_PRINT:
        PR_TRY(pr_template_eval(render, node->left, &value));
        return pr_template_print_str(render->output, &value);
    case PR_TEMPLATE_NODE_SET:
        PR_TRY(pr_template_eval(render, node->right, &value));
        return assign(render, node->left, &value);
    case PR_TEMPLATE_NODE_MACRO:
        PR_TRY(new_macro(render, node->definition, &value));
        return bind(render, node->definition->symbol, &value);
    default:
        return run_call_block(render, node);
    }
}

static pr_status
run_statement(pr_template_render *render, const pr_template_node *node, pr_template_signal *signal)
{
    switch (node->kind) {
    case PR_TEMPLATE_NODE_IF:
        return run_if(render, node, signal);
    case PR_TEMPLATE_NODE_FOR:
        return run_for(render, node, signal);
    case PR_TEMPLATE_NODE_SET_BLOCK:
        return run_set_block(render, node, signal);
    case PR_TEMPLATE_NODE_FILTER_BLOCK:
        return run_filter_block(render, node, signal);
    case PR_TEMPLATE_NODE_WITH:
        return run_with(render, node, signal);
    case PR_TEMPLATE_NODE_SCOPE:
        return run_scoped(render, &node->block[0], signal);
    case PR_TEMPLATE_NODE_BREAK:
        *signal = PR_TEMPLATE_BREAK;
        return PR_OK;
    case PR_TEMPLATE_NODE_CONTINUE:
        *signal = PR_TEMPLATE_CONTINUE;
        return PR_OK;
    default:
        return run_simple(render, node);
    }
}

pr_status pr_template_run(
    pr_template_render *render, const pr_template_nodes *block, pr_template_signal *signal)
{
    PR_TRY(pr_template_eval_enter(render));
    for (size_t i = 0; i < block->size && *signal == PR_TEMPLATE_GO_ON; i++) {
        render->heap.line = block->node[i]->line;
        PR_TRY(pr_template_heap_charge(&render->heap, 1));
        PR_TRY(run_statement(render, block->node[i], signal));
    }
    pr_template_eval_leave(render);
    return PR_OK;
}
