// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/tool_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/request/request_field.h"

enum { PATH_BYTES = 64 };

// ---- Checks ----

static bool is_tool_name(const json_t *value)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    if (!pr_request_field_plain(value))
        return false;
    size_t length = json_string_length(value);
    return length >= 1 && length <= PR_MAX_TOOL_NAME_BYTES &&
           strspn(json_string_value(value), allowed) == length;
}

static const char *name_of(const json_t *tool)
{
    return json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
}

static const json_t *find_tool(const json_t *tools, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *tool = json_array_get(tools, i);
        if (strcmp(name_of(tool), name) == 0)
            return tool;
    }
    return NULL;
}

static bool is_word(const json_t *value, const char *word)
{
    return json_is_string(value) && strcmp(json_string_value(value), word) == 0;
}

static pr_status check_function(const json_t *function, const char *at, pr_refusal *refusal)
{
    bool strict = false;
    const json_t *name = json_object_get(function, "name");
    const json_t *description = pr_request_field(function, "description");
    const json_t *parameters = pr_request_field(function, "parameters");
    if (!is_tool_name(name))
        return pr_refuse(
            refusal, at,
            "'%s.function.name' must be 1 to %d letters, digits, underscores and hyphens", at,
            PR_MAX_TOOL_NAME_BYTES);
    if (description && !json_is_string(description))
        return pr_refuse(refusal, at, "'%s.function.description' must be a string", at);
    if (parameters && !json_is_object(parameters))
        return pr_refuse(
            refusal, at, "'%s.function.parameters' must be an object: a JSON Schema", at);
    const json_t *kind = json_object_get(parameters, "type");
    if (kind && !is_word(kind, "object"))
        return pr_refuse(
            refusal, at, "'%s.function.parameters.type' must be \"object\": arguments have names",
            at);
    return pr_request_field_bool(function, "strict", &strict, refusal);
}

static pr_status check_tool(const json_t *tools, size_t i, pr_refusal *refusal)
{
    char at[64];
    const json_t *tool = json_array_get(tools, i);
    const json_t *function = json_object_get(tool, "function");
    snprintf(at, sizeof at, "tools[%zu]", i);
    if (!json_is_object(tool))
        return pr_refuse(refusal, at, "'%s' must be an object", at);
    if (!is_word(json_object_get(tool, "type"), "function"))
        return pr_refuse(
            refusal, at, "'%s.type' must be \"function\": no other tools are offered", at);
    if (!json_is_object(function))
        return pr_refuse(refusal, at, "'%s.function' must be an object", at);
    PR_TRY(check_function(function, at, refusal));
    if (find_tool(tools, i, name_of(tool)))
        return pr_refuse(
            refusal, at, "'%s.function.name' is '%s', which another tool has", at, name_of(tool));
    return PR_OK;
}

static pr_status take_tools(const json_t *body, json_t **tools, pr_refusal *refusal)
{
    json_t *found = pr_request_field(body, "tools");
    if (!found)
        return PR_OK;
    if (!json_is_array(found))
        return pr_refuse(refusal, "tools", "'tools' must be a list");
    if (json_array_size(found) > PR_MAX_TOOLS)
        return pr_refuse(refusal, "tools", "at most %d tools a request", PR_MAX_TOOLS);
    for (size_t i = 0; i < json_array_size(found); i++)
        PR_TRY(check_tool(found, i, refusal));
    *tools = json_array_size(found) > 0 ? found : NULL;
    return PR_OK;
}

static pr_status refuse_old_form(const json_t *body, pr_refusal *refusal)
{
    static const char *const names[][2] = {
        {"functions", "tools"}, {"function_call", "tool_choice"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (pr_request_field(body, names[i][0]))
            return pr_refuse(
                refusal, names[i][0], "'%s' is the old form: use '%s'", names[i][0], names[i][1]);
    }
    return PR_OK;
}

// ---- The choice ----

static pr_status
take_named(const json_t *value, const json_t *tools, pr_tool_choice *choice, pr_refusal *refusal)
{
    const json_t *name = json_object_get(json_object_get(value, "function"), "name");
    if (!is_word(json_object_get(value, "type"), "function") || !json_is_string(name))
        return pr_refuse(
            refusal, "tool_choice",
            "'tool_choice' must be none, auto, required or "
            "{\"type\": \"function\", \"function\": {\"name\": ...}}");
    if (!is_tool_name(name) || !find_tool(tools, json_array_size(tools), json_string_value(name)))
        return pr_refuse(
            refusal, "tool_choice", "'tool_choice' names '%.64s', which is not among 'tools'",
            json_string_value(name));
    choice->mode = PR_TOOL_MODE_NAMED;
    snprintf(choice->name, sizeof choice->name, "%s", json_string_value(name));
    return PR_OK;
}

static pr_status
take_choice(const json_t *body, const json_t *tools, pr_tool_choice *choice, pr_refusal *refusal)
{
    const json_t *value = pr_request_field(body, "tool_choice");
    const char *word = json_string_value(value);
    choice->mode = tools ? PR_TOOL_MODE_AUTO : PR_TOOL_MODE_NONE;
    if (!value || (word && strcmp(word, "auto") == 0))
        return PR_OK;
    if (word && strcmp(word, "none") == 0) {
        choice->mode = PR_TOOL_MODE_NONE;
        return PR_OK;
    }
    if (word && strcmp(word, "required") != 0)
        return pr_refuse(
            refusal, "tool_choice",
            "'tool_choice' is '%.64s': it must be none, auto, required or an object that names a "
            "function",
            word);
    if (!tools)
        return pr_refuse(refusal, "tool_choice", "'tool_choice' needs 'tools': give some");
    if (!word)
        return take_named(value, tools, choice, refusal);
    choice->mode = PR_TOOL_MODE_REQUIRED;
    return PR_OK;
}

// ---- Schemas ----

// The function's own schema, a copy. Arguments are an object, also where the schema leaves that open.
static json_t *parameters_of(const json_t *tool)
{
    static const char *const kinds[] = {"type", "$ref", "anyOf", "oneOf", "allOf"};
    const json_t *found = pr_request_field(json_object_get(tool, "function"), "parameters");
    if (!found)
        return json_pack("{s:s, s:{}}", "type", "object", "properties");
    json_t *copy = json_deep_copy(found);
    bool open = true;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        open = open && !json_object_get(copy, kinds[i]);
    if (open)
        json_object_set_new(copy, "type", json_string("object"));
    return copy;
}

static bool is_among(const char *key, const char *const *names)
{
    for (; *names; names++) {
        if (strcmp(key, *names) == 0)
            return true;
    }
    return false;
}

static bool append_schemas(json_t *list, json_t *value)
{
    const char *key;
    json_t *inner;
    size_t i;
    bool fine = true;
    json_object_foreach(value, key, inner) fine = fine && json_array_append(list, inner) == 0;
    json_array_foreach(value, i, inner) fine = fine && json_array_append(list, inner) == 0;
    return fine;
}

// One level of a schema: its own "$ref"; the schemas in it are appended to `rest`.
static bool move_reference(json_t *schema, const char *path, json_t *rest)
{
    static const char *const data[] = {"const", "enum", "default", "examples", NULL};
    static const char *const maps[] = {"properties", "patternProperties", "dependentSchemas",
                                       "$defs",      "definitions",       NULL};
    const char *reference = json_string_value(json_object_get(schema, "$ref")), *key;
    json_t *value;
    bool fine = true;
    if (reference && reference[0] == '#' && (reference[1] == '/' || !reference[1]))
        fine = json_object_set_new(schema, "$ref", json_sprintf("#%s%s", path, reference + 1)) == 0;
    json_object_foreach(schema, key, value)
    {
        if (is_among(key, data))
            continue;
        bool spread = is_among(key, maps) || json_is_array(value);
        fine = fine && (spread ? append_schemas(rest, value) : json_array_append(rest, value) == 0);
    }
    return fine;
}

// A schema that is put deeper into another one keeps its references to itself.
static bool move_references(json_t *schema, const char *path)
{
    json_t *rest = json_array();
    bool fine = rest && json_array_append(rest, schema) == 0;
    while (fine && json_array_size(rest) > 0) {
        size_t last = json_array_size(rest) - 1;
        json_t *next = json_incref(json_array_get(rest, last));
        json_array_remove(rest, last);
        fine = move_reference(next, path, rest);
        json_decref(next);
    }
    json_decref(rest);
    return fine;
}

static json_t *call_schema(const json_t *tool, size_t i)
{
    char path[PATH_BYTES];
    json_t *parameters = parameters_of(tool);
    snprintf(path, sizeof path, "/items/anyOf/%zu/properties/parameters", i);
    if (!move_references(parameters, path)) {
        json_decref(parameters);
        return NULL;
    }
    return json_pack(
        "{s:s, s:{s:{s:s}, s:o}, s:[s, s], s:b}", "type", "object", "properties", "name", "const",
        name_of(tool), "parameters", parameters, "required", "name", "parameters",
        "additionalProperties", 0);
}

static json_t *list_schema(const json_t *tools, bool parallel)
{
    json_t *any = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++) {
        if (json_array_append_new(any, call_schema(json_array_get(tools, i), i)) != 0) {
            json_decref(any);
            return NULL;
        }
    }
    json_t *schema =
        json_pack("{s:s, s:i, s:{s:o}}", "type", "array", "minItems", 1, "items", "anyOf", any);
    if (schema && !parallel)
        json_object_set_new(schema, "maxItems", json_integer(1));
    return schema;
}

static pr_status make_schema(const json_t *tools, pr_tool_choice *choice, pr_refusal *refusal)
{
    json_t *schema;
    if (choice->mode == PR_TOOL_MODE_REQUIRED)
        schema = list_schema(tools, choice->parallel);
    else if (choice->mode == PR_TOOL_MODE_NAMED)
        schema = parameters_of(find_tool(tools, json_array_size(tools), choice->name));
    else
        return PR_OK;
    choice->schema = schema ? json_dumps(schema, JSON_COMPACT) : NULL;
    json_decref(schema);
    if (!choice->schema)
        return pr_refuse(refusal, "tools", "no memory for the schemas of 'tools'");
    return PR_OK;
}

pr_status pr_tool_choice_parse(const json_t *body, pr_tool_choice *choice, pr_refusal *refusal)
{
    json_t *tools = NULL;
    pr_tool_choice made = {.parallel = true};
    PR_TRY(refuse_old_form(body, refusal));
    PR_TRY(take_tools(body, &tools, refusal));
    PR_TRY(pr_request_field_bool(body, "parallel_tool_calls", &made.parallel, refusal));
    PR_TRY(take_choice(body, tools, &made, refusal));
    PR_TRY(make_schema(tools, &made, refusal));
    if (made.mode != PR_TOOL_MODE_NONE)
        made.tools = json_incref(tools);
    *choice = made;
    return PR_OK;
}

void pr_tool_choice_free(pr_tool_choice *choice)
{
    json_decref(choice->tools);
    free(choice->schema);
    *choice = (pr_tool_choice){0};
}
