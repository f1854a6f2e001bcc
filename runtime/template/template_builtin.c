// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/template/template_builtin.h"

#include <string.h>

#include "runtime/template/template_render.h"

const pr_template_builtin *
pr_template_builtin_find(const pr_template_builtin *table, const pr_template_text *name)
{
    for (; table->name; table++) {
        if (pr_template_text_equals(name, table->name))
            return table;
    }
    return NULL;
}

static int parameters_of(const pr_template_builtin *builtin)
{
    int count = 0;
    while (count < PR_TEMPLATE_BUILTIN_MAX_PARAMETERS && builtin->parameter[count])
        count++;
    return count;
}

static pr_status bind_keyword(
    pr_template_heap *heap,
    const pr_template_builtin *builtin,
    const pr_template_keyword *keyword,
    pr_template_call *call)
{
    for (int i = 0; i < parameters_of(builtin); i++) {
        if (!pr_template_text_equals(&keyword->name, builtin->parameter[i]))
            continue;
        if (pr_template_builtin_has(call, i))
            return pr_template_heap_fail(
                heap, "%s got two values for '%s'", builtin->name, builtin->parameter[i]);
        call->argument[i] = keyword->value;
        return PR_OK;
    }
    return pr_template_heap_fail(
        heap, "%s has no parameter '%.*s'", builtin->name,
        (int)(keyword->name.size_bytes < 60 ? keyword->name.size_bytes : 60), keyword->name.data);
}

static pr_status
bind(pr_template_heap *heap, const pr_template_builtin *builtin, pr_template_call *call)
{
    int parameters = parameters_of(builtin);
    if (call->raw.positionals > (size_t)parameters)
        return pr_template_heap_fail(
            heap, "%s takes at most %d arguments, got %zu", builtin->name, parameters,
            call->raw.positionals);
    for (int i = 0; i < PR_TEMPLATE_BUILTIN_MAX_PARAMETERS; i++) {
        bool given = (size_t)i < call->raw.positionals;
        call->argument[i] =
            given ? call->raw.positional[i] : (pr_template_value){.kind = PR_TEMPLATE_ABSENT};
    }
    for (size_t i = 0; i < call->raw.keywords; i++)
        PR_TRY(bind_keyword(heap, builtin, &call->raw.keyword[i], call));
    for (int i = 0; i < builtin->required; i++) {
        if (!pr_template_builtin_has(call, i))
            return pr_template_heap_fail(
                heap, "%s lacks its argument '%s'", builtin->name, builtin->parameter[i]);
    }
    return PR_OK;
}

pr_status pr_template_builtin_call(
    const pr_template_builtin *builtin,
    pr_template_render *render,
    const pr_template_value *self,
    const pr_template_arguments *arguments,
    pr_template_value *result)
{
    pr_template_call call = {
        .heap = &render->heap,
        .render = render,
        .name = builtin->name,
        .self = self ? *self : (pr_template_value){.kind = PR_TEMPLATE_ABSENT},
        .raw = *arguments,
    };
    PR_TRY(pr_template_heap_charge(&render->heap, 1));
    if (!builtin->any_number)
        PR_TRY(bind(&render->heap, builtin, &call));
    *result = pr_template_value_none();
    return builtin->run(&call, result);
}

// ---- arguments

pr_status pr_template_builtin_integer(
    const pr_template_call *call, int parameter, int64_t fallback, int64_t *value)
{
    const pr_template_value *argument = &call->argument[parameter];
    *value = fallback;
    if (!pr_template_builtin_has(call, parameter))
        return PR_OK;
    if (argument->kind != PR_TEMPLATE_INTEGER && argument->kind != PR_TEMPLATE_BOOL)
        return pr_template_heap_fail(
            call->heap, "%s needs an integer, not %s", call->name,
            pr_template_value_kind_name(argument));
    *value = pr_template_value_as_integer(argument);
    return PR_OK;
}

bool pr_template_builtin_truth(const pr_template_call *call, int parameter, bool fallback)
{
    return pr_template_builtin_has(call, parameter)
               ? pr_template_value_is_true(&call->argument[parameter])
               : fallback;
}

pr_status pr_template_builtin_text(
    const pr_template_call *call, int parameter, const char *fallback, pr_template_text *text)
{
    const pr_template_value *argument = &call->argument[parameter];
    if (!pr_template_builtin_has(call, parameter)) {
        *text = pr_template_text_of(fallback, strlen(fallback), false);
        return PR_OK;
    }
    if (argument->kind != PR_TEMPLATE_STRING)
        return pr_template_heap_fail(
            call->heap, "%s needs a string, not %s", call->name,
            pr_template_value_kind_name(argument));
    *text = argument->text;
    return PR_OK;
}
