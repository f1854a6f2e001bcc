// SPDX-License-Identifier: BSD-3-Clause
// Schemas are built where they stand; what a $ref points to becomes a rule, built once, after the schema
// that names it. So a schema may refer to itself.
#include "runtime/grammar/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/grammar/schema_parts.h"

enum { MOST_REFERENCES = 4096 };

// ---- Places

pr_schema_place pr_schema_inside(const pr_schema_place *outer, const char *key)
{
    return (pr_schema_place){.outer = outer, .key = key, .depth = outer->depth + 1};
}

pr_schema_place pr_schema_item(const pr_schema_place *outer, size_t index)
{
    return (pr_schema_place){.outer = outer, .index = index, .depth = outer->depth + 1};
}

void pr_schema_describe(const pr_schema_place *place, char *text, size_t capacity)
{
    char where[160];
    size_t start = sizeof where - 1;
    where[start] = '\0';
    for (; place->outer; place = place->outer) {
        char part[80];
        if (place->key)
            snprintf(part, sizeof part, "/%.64s", place->key);
        else
            snprintf(part, sizeof part, "/%zu", place->index);
        size_t size = strlen(part);
        if (size > start)
            break;
        start -= size;
        memcpy(where + start, part, size);
    }
    snprintf(text, capacity, "json schema at %s", where[start] ? where + start : "its top level");
}

pr_status pr_schema_refuse(const pr_schema_place *place, const char *format, ...)
{
    char reason[320], where[PR_SCHEMA_PLACE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    pr_schema_describe(place, where, sizeof where);
    return pr_fail(PR_ERR_REQUEST, "%s: %s", where, reason);
}

// ---- Keywords

pr_status pr_schema_count(
    const json_t *json, const pr_schema_place *place, const char *keyword, int32_t *value)
{
    const json_t *found = json_object_get(json, keyword);
    if (!found)
        return PR_OK;
    double number = json_number_value(found);
    if (!json_is_number(found) || !(number >= 0) || number != (double)(int64_t)number)
        return pr_schema_refuse(place, "'%s' must be an integer of at least 0", keyword);
    if (number > INT32_MAX / 2)
        return pr_schema_refuse(place, "'%s' is above %d", keyword, INT32_MAX / 2);
    *value = (int32_t)number;
    return PR_OK;
}

pr_status pr_schema_string(
    const json_t *json, const pr_schema_place *place, const char *keyword, const char **value)
{
    const json_t *found = json_object_get(json, keyword);
    if (!found)
        return PR_OK;
    if (!json_is_string(found))
        return pr_schema_refuse(place, "'%s' must be a string", keyword);
    *value = json_string_value(found);
    return PR_OK;
}

static bool is_in(const char *const *list, const char *name)
{
    for (; *list; list++) {
        if (strcmp(*list, name) == 0)
            return true;
    }
    return false;
}

static const char *const annotations[] = {
    "title", "description", "default",    "examples", "$schema",   "$id",           "$comment",
    "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "discriminator", NULL};
static const char *const assertions[] = {
    "type",      "properties",  "required",         "additionalProperties",
    "items",     "prefixItems", "minItems",         "maxItems",
    "minLength", "maxLength",   "pattern",          "format",
    "minimum",   "maximum",     "exclusiveMinimum", "exclusiveMaximum",
    NULL};
// The first of these that is there decides; none of the assertions may stand beside it.
static const char *const deciders[] = {"$ref", "const", "enum", "anyOf", "oneOf", "allOf", NULL};

static pr_status check_keywords(const json_t *json, const pr_schema_place *place)
{
    const char *key, *decider = NULL;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        if (is_in(annotations, key) || is_in(assertions, key))
            continue;
        if (!is_in(deciders, key))
            return pr_schema_refuse(place, "the keyword '%.64s' is not supported", key);
        if (decider)
            return pr_schema_refuse(
                place, "'%s' together with '%s' is not supported: keep one", decider, key);
        decider = key;
    }
    bool may_have_type = decider && (strcmp(decider, "const") == 0 || strcmp(decider, "enum") == 0);
    json_object_foreach((json_t *)(uintptr_t)json, key, value)
    {
        if (decider && is_in(assertions, key) && !(may_have_type && strcmp(key, "type") == 0))
            return pr_schema_refuse(
                place, "'%s' together with '%s' is not supported: keep one", key, decider);
    }
    return PR_OK;
}

// ---- References

typedef struct schema_reference {
    const json_t *target;
    char *pointer;
    int32_t rule;
} schema_reference;

// The next part of a pointer, unescaped (~1 is '/', ~0 is '~'); false if it does not fit.
static bool take_part(const char **pointer, char *part, size_t capacity)
{
    size_t size = 0;
    for ((*pointer)++; **pointer && **pointer != '/'; (*pointer)++) {
        char byte = **pointer;
        if (byte == '~' && ((*pointer)[1] == '0' || (*pointer)[1] == '1'))
            byte = *++*pointer == '1' ? '/' : '~';
        if (size + 1 >= capacity)
            return false;
        part[size++] = byte;
    }
    part[size] = '\0';
    return true;
}

const json_t *pr_schema_find(const pr_schema *schema, const char *pointer)
{
    const json_t *at = schema->document;
    if (*pointer++ != '#')
        return NULL;
    while (at && *pointer == '/') {
        char part[512], *end;
        if (!take_part(&pointer, part, sizeof part))
            return NULL;
        if (json_is_array(at))
            at = json_array_get(at, strtoul(part, &end, 10));
        else
            at = json_object_get(at, part);
    }
    return *pointer ? NULL : at;
}

static size_t reference_count(const pr_schema *schema)
{
    return schema->reference.size_bytes / sizeof(schema_reference);
}

static pr_status find_rule(
    pr_schema *schema,
    const json_t *target,
    const char *pointer,
    const pr_schema_place *place,
    int32_t *rule)
{
    const schema_reference *reference = schema->reference.data;
    for (size_t i = 0; i < reference_count(schema); i++) {
        if (reference[i].target == target) {
            *rule = reference[i].rule;
            return PR_OK;
        }
    }
    if (reference_count(schema) == MOST_REFERENCES)
        return pr_schema_refuse(place, "'$ref' to more than %d schemas", MOST_REFERENCES);
    schema_reference *fresh = pr_byte_buffer_extend(&schema->reference, sizeof *fresh);
    if (!fresh)
        return pr_byte_buffer_check(&schema->reference);
    *fresh = (schema_reference){.target = target, .pointer = strdup(pointer)};
    *rule = fresh->rule = pr_grammar_builder_rule(schema->rules->builder);
    return fresh->pointer ? PR_OK : pr_fail(PR_ERR_RESOURCE, "no memory for a schema");
}

static pr_status build_reference(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    const char *pointer = "";
    int32_t rule = -1;
    PR_TRY(pr_schema_string(json, place, "$ref", &pointer));
    const json_t *target = pr_schema_find(schema, pointer);
    if (!target)
        return pr_schema_refuse(
            place,
            "'$ref' to '%.64s' is not supported: it must lead to a schema of the document "
            "(#/$defs/NAME)",
            pointer);
    PR_TRY(find_rule(schema, target, pointer, place, &rule));
    *start = pr_grammar_builder_call(schema->rules->builder, rule, next);
    return PR_OK;
}

// Building one may bring more.
static pr_status build_referenced(pr_schema *schema)
{
    for (size_t i = 0; i < reference_count(schema); i++) {
        schema_reference reference = ((schema_reference *)schema->reference.data)[i];
        pr_schema_place top = {0}, place = pr_schema_inside(&top, reference.pointer + 1);
        if (*place.key == '/')
            place.key++;
        int32_t end = pr_grammar_builder_return(schema->rules->builder), start;
        PR_TRY(pr_schema_any_build(schema, reference.target, &place, end, &start));
        pr_grammar_builder_set_rule(schema->rules->builder, reference.rule, start);
    }
    return PR_OK;
}

// ---- One schema

static pr_status build_types(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    pr_grammar_builder *builder = schema->rules->builder;
    unsigned types = 0;
    int32_t node = PR_GRAMMAR_NOWHERE, each = PR_GRAMMAR_NOWHERE;
    PR_TRY(pr_schema_types(json, place, &types));
    if (types & PR_SCHEMA_NULL)
        node = pr_grammar_builder_text(builder, "null", 4, next);
    if (types & PR_SCHEMA_BOOLEAN) {
        pr_grammar_text text[] = {{"true", 4}, {"false", 5}};
        node = pr_grammar_builder_split(
            builder, node, pr_grammar_builder_texts(builder, text, 2, next));
    }
    if (types & (PR_SCHEMA_INTEGER | PR_SCHEMA_NUMBER)) {
        PR_TRY(
            pr_schema_number_build(schema, json, place, !(types & PR_SCHEMA_NUMBER), next, &each));
        node = pr_grammar_builder_split(builder, node, each);
    }
    if (types & PR_SCHEMA_STRING) {
        PR_TRY(pr_schema_string_build(schema, json, place, next, &each));
        node = pr_grammar_builder_split(builder, node, each);
    }
    if (types & PR_SCHEMA_ARRAY) {
        PR_TRY(pr_schema_array_build(schema, json, place, next, &each));
        node = pr_grammar_builder_split(builder, node, each);
    }
    if (types & PR_SCHEMA_OBJECT) {
        PR_TRY(pr_schema_object_build(schema, json, place, next, &each));
        node = pr_grammar_builder_split(builder, node, each);
    }
    *start = node;
    return PR_OK;
}

pr_status pr_schema_any_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    if (place->depth > 2 * PR_GRAMMAR_MAX_NESTING)
        return pr_schema_refuse(
            place, "schemas are nested more than %d deep", PR_GRAMMAR_MAX_NESTING);
    *start = PR_GRAMMAR_NOWHERE;
    if (json_is_false(json))
        return PR_OK;
    if (json_is_true(json) || (json_is_object(json) && json_object_size(json) == 0)) {
        *start = pr_json_rules_value(schema->rules, next);
        return PR_OK;
    }
    if (!json_is_object(json))
        return pr_schema_refuse(place, "a schema must be an object, true or false");
    PR_TRY(check_keywords(json, place));
    if (json_object_get(json, "$ref"))
        return build_reference(schema, json, place, next, start);
    if (json_object_get(json, "const") || json_object_get(json, "enum"))
        return pr_schema_values_build(schema, json, place, next, start);
    if (json_object_get(json, "anyOf") || json_object_get(json, "oneOf") ||
        json_object_get(json, "allOf"))
        return pr_schema_branches_build(schema, json, place, next, start);
    return build_types(schema, json, place, next, start);
}

pr_status pr_schema_build(const json_t *document, pr_json_rules *rules, int32_t *start)
{
    pr_schema schema = {.rules = rules, .document = document};
    pr_schema_place top = {0};
    int32_t end = pr_grammar_builder_return(rules->builder);
    pr_status status = pr_schema_any_build(&schema, document, &top, end, start);
    if (status == PR_OK)
        status = build_referenced(&schema);
    schema_reference *reference = schema.reference.data;
    for (size_t i = 0; i < reference_count(&schema); i++)
        free(reference[i].pointer);
    pr_byte_buffer_free(&schema.reference);
    return status;
}
