// SPDX-License-Identifier: BSD-3-Clause
// One of several: listed values, types, branches.
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/grammar/schema_parts.h"

enum { MOST_BRANCHES = 128, MOST_HOPS = 16 };

// ---- Types

static const struct type_name {
    const char *name;
    unsigned type;
} type_names[] = {
    {"null", PR_SCHEMA_NULL},     {"boolean", PR_SCHEMA_BOOLEAN}, {"integer", PR_SCHEMA_INTEGER},
    {"number", PR_SCHEMA_NUMBER}, {"string", PR_SCHEMA_STRING},   {"array", PR_SCHEMA_ARRAY},
    {"object", PR_SCHEMA_OBJECT},
};

// Keywords that tell a type where "type" is absent.
static const struct type_keyword {
    const char *keyword;
    unsigned type;
} type_keywords[] = {
    {"properties", PR_SCHEMA_OBJECT},
    {"required", PR_SCHEMA_OBJECT},
    {"additionalProperties", PR_SCHEMA_OBJECT},
    {"items", PR_SCHEMA_ARRAY},
    {"prefixItems", PR_SCHEMA_ARRAY},
    {"minItems", PR_SCHEMA_ARRAY},
    {"maxItems", PR_SCHEMA_ARRAY},
    {"minLength", PR_SCHEMA_STRING},
    {"maxLength", PR_SCHEMA_STRING},
    {"pattern", PR_SCHEMA_STRING},
    {"format", PR_SCHEMA_STRING},
    {"minimum", PR_SCHEMA_NUMBER},
    {"maximum", PR_SCHEMA_NUMBER},
    {"exclusiveMinimum", PR_SCHEMA_NUMBER},
    {"exclusiveMaximum", PR_SCHEMA_NUMBER},
};

static pr_status add_type(const json_t *name, const pr_schema_place *place, unsigned *types)
{
    for (size_t i = 0; i < sizeof type_names / sizeof *type_names; i++) {
        if (json_is_string(name) && strcmp(json_string_value(name), type_names[i].name) == 0) {
            *types |= type_names[i].type;
            return PR_OK;
        }
    }
    return pr_schema_refuse(
        place, "'type' must be null, boolean, integer, number, string, array or object, or a list "
               "of these");
}

pr_status pr_schema_types(const json_t *json, const pr_schema_place *place, unsigned *types)
{
    const json_t *type = json_object_get(json, "type");
    *types = 0;
    if (json_is_array(type)) {
        for (size_t i = 0; i < json_array_size(type); i++)
            PR_TRY(add_type(json_array_get(type, i), place, types));
        return PR_OK;
    }
    if (type)
        return add_type(type, place, types);
    for (size_t i = 0; i < sizeof type_keywords / sizeof *type_keywords; i++) {
        if (json_object_get(json, type_keywords[i].keyword))
            *types |= type_keywords[i].type;
    }
    if (*types == 0)
        *types = PR_SCHEMA_ANY;
    return PR_OK;
}

static unsigned type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return PR_SCHEMA_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return PR_SCHEMA_BOOLEAN;
    case JSON_INTEGER:
        return PR_SCHEMA_INTEGER | PR_SCHEMA_NUMBER;
    case JSON_REAL:
        return PR_SCHEMA_NUMBER;
    case JSON_STRING:
        return PR_SCHEMA_STRING;
    case JSON_ARRAY:
        return PR_SCHEMA_ARRAY;
    default:
        return PR_SCHEMA_OBJECT;
    }
}

// ---- Listed values

typedef struct value_list {
    pr_byte_buffer text;  // pr_grammar_text[], malloc'ed data
} value_list;

static void free_values(value_list *list)
{
    pr_grammar_text *text = list->text.data;
    for (size_t i = 0; i < list->text.size_bytes / sizeof *text; i++)
        free((char *)(uintptr_t)text[i].data);
    pr_byte_buffer_free(&list->text);
}

static pr_status add_value(value_list *list, const json_t *value, unsigned types)
{
    if ((type_of(value) & types) == 0)
        return PR_OK;
    char *written = pr_json_rules_write(value);
    if (!written)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the values of a schema");
    pr_grammar_text text = {written, strlen(written)};
    pr_byte_buffer_append(&list->text, &text, sizeof text);
    if (list->text.failed)
        free(written);
    return pr_byte_buffer_check(&list->text);
}

// The values of a schema with "enum" or "const".
static pr_status add_values(value_list *list, const json_t *json, const pr_schema_place *place)
{
    const json_t *constant = json_object_get(json, "const"),
                 *values = json_object_get(json, "enum");
    unsigned types = PR_SCHEMA_ANY;
    if (json_object_get(json, "type"))
        PR_TRY(pr_schema_types(json, place, &types));
    if (constant)
        return add_value(list, constant, types);
    if (!json_is_array(values))
        return pr_schema_refuse(place, "'enum' must be a list of values");
    for (size_t i = 0; i < json_array_size(values); i++)
        PR_TRY(add_value(list, json_array_get(values, i), types));
    return PR_OK;
}

static int32_t build_list(pr_schema *schema, value_list *list, int32_t next)
{
    pr_grammar_text *text = list->text.data;
    return pr_grammar_builder_texts(
        schema->rules->builder, text, (int32_t)(list->text.size_bytes / sizeof *text), next);
}

pr_status pr_schema_values_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    value_list list = {0};
    pr_status status = add_values(&list, json, place);
    if (status == PR_OK)
        *start = build_list(schema, &list, next);
    free_values(&list);
    return status;
}

// ---- Branches

static bool has_values(const json_t *json)
{
    return json_object_get(json, "const") || json_object_get(json, "enum");
}

static bool all_have_values(const json_t *branches)
{
    for (size_t i = 0; i < json_array_size(branches); i++) {
        if (!has_values(json_array_get(branches, i)))
            return false;
    }
    return true;
}

// Branches that list values are one tree, however many they are.
static pr_status build_value_branches(
    pr_schema *schema,
    const json_t *branches,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    value_list list = {0};
    pr_status status = PR_OK;
    for (size_t i = 0; i < json_array_size(branches) && status == PR_OK; i++) {
        pr_schema_place inside = pr_schema_item(place, i);
        int32_t checked;
        status = pr_schema_any_build(
            schema, json_array_get(branches, i), &inside, PR_GRAMMAR_NOWHERE, &checked);
        if (status == PR_OK)
            status = add_values(&list, json_array_get(branches, i), &inside);
    }
    if (status == PR_OK)
        *start = build_list(schema, &list, next);
    free_values(&list);
    return status;
}

static pr_status build_branches(
    pr_schema *schema,
    const json_t *branches,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    size_t count = json_array_size(branches);
    if (all_have_values(branches))
        return build_value_branches(schema, branches, place, next, start);
    if (count > MOST_BRANCHES)
        return pr_schema_refuse(place, "more than %d branches", MOST_BRANCHES);
    *start = PR_GRAMMAR_NOWHERE;
    for (size_t i = 0; i < count; i++) {
        pr_schema_place inside = pr_schema_item(place, i);
        int32_t branch;
        PR_TRY(pr_schema_any_build(schema, json_array_get(branches, i), &inside, next, &branch));
        *start = pr_grammar_builder_split(schema->rules->builder, *start, branch);
    }
    return PR_OK;
}

// ---- oneOf: only where no value can fit two branches

static const json_t *follow_references(const pr_schema *schema, const json_t *json)
{
    for (int hops = 0; hops < MOST_HOPS && json_object_get(json, "$ref"); hops++) {
        const char *pointer = json_string_value(json_object_get(json, "$ref"));
        json = pointer ? pr_schema_find(schema, pointer) : NULL;
    }
    return json;
}

// Whether two lists of values ("enum", or "const" as one of them) have one in common.
static bool share_value(const json_t *a, const json_t *b)
{
    const json_t *left = json_object_get(a, "enum"), *right = json_object_get(b, "enum");
    size_t lefts = left ? json_array_size(left) : 1, rights = right ? json_array_size(right) : 1;
    for (size_t i = 0; i < lefts; i++) {
        for (size_t k = 0; k < rights; k++) {
            const json_t *one = left ? json_array_get(left, i) : json_object_get(a, "const");
            const json_t *other = right ? json_array_get(right, k) : json_object_get(b, "const");
            bool equal_numbers = json_is_number(one) && json_is_number(other) &&
                                 json_number_value(one) == json_number_value(other);
            if (equal_numbers || json_equal(one, other))
                return true;
        }
    }
    return false;
}

static bool is_required(const json_t *json, const char *name)
{
    const json_t *required = json_object_get(json, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *each = json_string_value(json_array_get(required, i));
        if (each && strcmp(each, name) == 0)
            return true;
    }
    return false;
}

// A property that both require, with values that differ.
static bool have_discriminator(const pr_schema *schema, const json_t *a, const json_t *b)
{
    const char *name;
    json_t *value;
    const json_t *others = json_object_get(b, "properties");
    json_object_foreach(json_object_get(a, "properties"), name, value)
    {
        const json_t *one = follow_references(schema, value);
        const json_t *other = follow_references(schema, json_object_get(others, name));
        if (one && other && has_values(one) && has_values(other) && is_required(a, name) &&
            is_required(b, name) && !share_value(one, other))
            return true;
    }
    return false;
}

static bool are_apart(const pr_schema *schema, const json_t *a, const json_t *b)
{
    unsigned left, right;
    pr_schema_place nowhere = {0};
    a = follow_references(schema, a);
    b = follow_references(schema, b);
    if (!json_is_object(a) || !json_is_object(b))
        return false;
    if (has_values(a) && has_values(b))
        return !share_value(a, b);
    if (!json_object_get(a, "type") || !json_object_get(b, "type") ||
        pr_schema_types(a, &nowhere, &left) != PR_OK ||
        pr_schema_types(b, &nowhere, &right) != PR_OK)
        return false;
    left |= left & PR_SCHEMA_NUMBER ? PR_SCHEMA_INTEGER : 0;
    right |= right & PR_SCHEMA_NUMBER ? PR_SCHEMA_INTEGER : 0;
    if ((left & right) == 0)
        return true;
    return left == PR_SCHEMA_OBJECT && right == PR_SCHEMA_OBJECT &&
           have_discriminator(schema, a, b);
}

static pr_status
check_one_of(const pr_schema *schema, const json_t *branches, const pr_schema_place *place)
{
    size_t count = json_array_size(branches);
    for (size_t i = 0; i < count && count <= MOST_BRANCHES; i++) {
        for (size_t k = i + 1; k < count; k++) {
            if (!are_apart(schema, json_array_get(branches, i), json_array_get(branches, k)))
                return pr_schema_refuse(
                    place,
                    "'oneOf' is supported where no value can fit two branches: %zu and %zu differ "
                    "neither in 'type' nor in a required property with 'const'; use 'anyOf'",
                    i, k);
        }
    }
    return PR_OK;
}

pr_status pr_schema_branches_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    static const char *const keywords[] = {"anyOf", "oneOf", "allOf"};
    int which = 0;
    while (!json_object_get(json, keywords[which]))
        which++;
    const json_t *branches = json_object_get(json, keywords[which]);
    pr_schema_place inside = pr_schema_inside(place, keywords[which]);
    if (!json_is_array(branches) || json_array_size(branches) == 0)
        return pr_schema_refuse(place, "'%s' must be a list of schemas", keywords[which]);
    if (which == 2 && json_array_size(branches) > 1)
        return pr_schema_refuse(
            place, "'allOf' with more than one entry is not supported: merge them");
    if (which == 1)
        PR_TRY(check_one_of(schema, branches, place));
    return build_branches(schema, branches, &inside, next, start);
}
