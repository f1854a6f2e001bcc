// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/template/template_function.h"

#include <string.h>
#include <time.h>

#include "runtime/base/log.h"
#include "runtime/template/template_render.h"
#include "runtime/value/template_builder.h"
#include "runtime/value/template_dict.h"
#include "runtime/value/template_print.h"

// As the sandbox has it.
enum { MAX_RANGE = 100000 };

static pr_status raise_exception(pr_template_call *call, pr_template_value *result)
{
    char line[1000];
    pr_template_text text;
    (void)result;
    PR_TRY(pr_template_print_to_text(call->heap, &call->argument[0], &text));
    size_t size = text.size_bytes < sizeof line ? text.size_bytes : sizeof line;
    while (size < text.size_bytes && size > 0 && ((uint8_t)text.data[size] & 0xc0) == 0x80)
        size--;
    for (size_t i = 0; i < size; i++)
        line[i] = (uint8_t)text.data[i] < 0x20 ? ' ' : text.data[i];
    return pr_fail(PR_ERR_REQUEST, "%.*s", (int)size, line);
}

// Of the variable `now` in UTC if it is given, else of the clock in local time.
static pr_status strftime_now(pr_template_call *call, pr_template_value *result)
{
    char format[128], text[512];
    pr_template_text given;
    struct tm parts;
    PR_TRY(pr_template_builtin_text(call, 0, "", &given));
    if (given.size_bytes >= sizeof format || memchr(given.data, 0, given.size_bytes))
        return pr_template_heap_fail(call->heap, "strftime_now: the format is too long");
    memcpy(format, given.data, given.size_bytes);
    format[given.size_bytes] = 0;
    time_t now = call->render->has_now ? (time_t)call->render->now_s : time(NULL);
    if (!(call->render->has_now ? gmtime_r(&now, &parts) : localtime_r(&now, &parts)))
        return pr_template_heap_fail(call->heap, "strftime_now: the time is out of range");
// The format is the template's; a strftime format cannot do what a printf format can.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t size = strftime(text, sizeof text, format, &parts);
#pragma GCC diagnostic pop
    pr_template_builder builder = pr_template_builder_of(call->heap);
    pr_template_builder_put(&builder, text, size, given.shade != PR_TEMPLATE_PLAIN);
    *result = pr_template_value_string((pr_template_text){0});
    return pr_template_builder_finish(&builder, &result->text);
}

// range(stop), range(start, stop), range(start, stop, step)
static pr_status range(pr_template_call *call, pr_template_value *result)
{
    int64_t first, second, step;
    PR_TRY(pr_template_builtin_integer(call, 0, 0, &first));
    PR_TRY(pr_template_builtin_integer(call, 1, 0, &second));
    PR_TRY(pr_template_builtin_integer(call, 2, 1, &step));
    int64_t start = pr_template_builtin_has(call, 1) ? first : 0;
    int64_t stop = pr_template_builtin_has(call, 1) ? second : first;
    if (step == 0)
        return pr_template_heap_fail(call->heap, "range() needs a step that is not zero");
    bool forward = step > 0 && start < stop, backward = step < 0 && start > stop;
    uint64_t span = forward    ? (uint64_t)stop - (uint64_t)start
                    : backward ? (uint64_t)start - (uint64_t)stop
                               : 0;
    uint64_t stride = step > 0 ? (uint64_t)step : -(uint64_t)step;
    uint64_t count = span > 0 ? (span - 1) / stride + 1 : 0;
    if (count > MAX_RANGE)
        return pr_template_heap_fail(
            call->heap, "range() has more than %d numbers, the limit", MAX_RANGE);
    PR_TRY(pr_template_value_list(call->heap, PR_TEMPLATE_RANGE, (size_t)count, result));
    for (size_t i = 0; i < (size_t)count; i++)
        result->list->item[i] = pr_template_value_integer(start + (int64_t)i * step);
    return pr_template_heap_charge(call->heap, (size_t)count);
}

// A dict or a namespace from keywords, and from a dict in front of them.
static pr_status collect(pr_template_call *call, pr_template_kind kind, pr_template_value *result)
{
    PR_TRY(pr_template_value_dict(call->heap, kind, result));
    if (call->raw.positionals > 1 ||
        (call->raw.positionals == 1 && call->raw.positional[0].kind != PR_TEMPLATE_DICT))
        return pr_template_heap_fail(call->heap, "%s takes one dict and names", call->name);
    if (call->raw.positionals == 1) {
        const pr_template_dict *from = call->raw.positional[0].dict;
        for (size_t i = 0; i < from->size; i++)
            PR_TRY(pr_template_dict_set(
                call->heap, result->dict, from->entry[i].key, from->entry[i].value));
    }
    for (size_t i = 0; i < call->raw.keywords; i++)
        PR_TRY(pr_template_dict_set(
            call->heap, result->dict, pr_template_value_string(call->raw.keyword[i].name),
            call->raw.keyword[i].value));
    return PR_OK;
}

static pr_status new_namespace(pr_template_call *call, pr_template_value *result)
{
    return collect(call, PR_TEMPLATE_NAMESPACE, result);
}

static pr_status new_dict(pr_template_call *call, pr_template_value *result)
{
    return collect(call, PR_TEMPLATE_DICT, result);
}

const pr_template_builtin pr_template_functions[] = {
    {"dict", new_dict, 0, {NULL}, true},
    {"namespace", new_namespace, 0, {NULL}, true},
    {"raise_exception", raise_exception, 1, {"message"}, false},
    {"range", range, 1, {"start", "stop", "step"}, false},
    {"strftime_now", strftime_now, 1, {"format"}, false},
    {NULL, NULL, 0, {NULL}, false},
};
