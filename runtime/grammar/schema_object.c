// SPDX-License-Identifier: BSD-3-Clause
// Properties come in the schema's order. Between them two nodes are kept, from the last property to the
// first: `empty`, when nothing has been written yet, and `more`, after a member.
//
//     { --empty--> "a": .. --more--> , "b": .. --more--> , other keys .. --> }
#include <stdlib.h>
#include <string.h>

#include "runtime/grammar/schema_parts.h"

enum { MOST_OPTIONAL_RUN = 128, MOST_KEY_BYTES = 256 };

typedef struct object_plan {
    const json_t *required;  // array or NULL
    int32_t close;           // "}" and on
    int32_t extra;  // rule of a member that is not among the properties; -1: there are none
    // After the properties from some one on:
    int32_t empty, more;
    int32_t member;  // a member has to come
    bool may_end;
    int32_t optional_run;
} object_plan;

static bool is_required(const object_plan *plan, const char *key)
{
    for (size_t i = 0; i < json_array_size(plan->required); i++) {
        const char *name = json_string_value(json_array_get(plan->required, i));
        if (name && strcmp(name, key) == 0)
            return true;
    }
    return false;
}

static pr_status check_shape(
    const json_t *json, const pr_schema_place *place, const json_t *properties, object_plan *plan)
{
    plan->required = json_object_get(json, "required");
    if (properties && !json_is_object(properties))
        return pr_schema_refuse(place, "'properties' must be an object");
    if (plan->required && !json_is_array(plan->required))
        return pr_schema_refuse(place, "'required' must be a list of names");
    for (size_t i = 0; i < json_array_size(plan->required); i++) {
        const char *name = json_string_value(json_array_get(plan->required, i));
        if (!name)
            return pr_schema_refuse(place, "'required' must be a list of names");
        if (!json_object_get(properties, name))
            return pr_schema_refuse(
                place, "'required' names '%.64s', which is not among the properties", name);
    }
    return PR_OK;
}

// ---- Members that are not among the properties

static bool has_nothing_to_escape(const char *key)
{
    for (; *key; key++) {
        if ((unsigned char)*key < ' ' || *key == '"' || *key == '\\')
            return false;
    }
    return true;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const pr_grammar_text *)a)->data, ((const pr_grammar_text *)b)->data);
}

static pr_status
list_keys(const json_t *properties, const pr_schema_place *place, pr_byte_buffer *list)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)properties, key, value)
    {
        pr_grammar_text text = {key, strlen(key)};
        if (text.size_bytes > MOST_KEY_BYTES)
            return pr_schema_refuse(
                place, "'additionalProperties' beside a property whose name has more than %d bytes",
                MOST_KEY_BYTES);
        if (has_nothing_to_escape(key))  // a key without escapes cannot be one with them
            pr_byte_buffer_append(list, &text, sizeof text);
    }
    PR_TRY(pr_byte_buffer_check(list));
    if (list->size_bytes > 0)
        qsort(
            list->data, list->size_bytes / sizeof(pr_grammar_text), sizeof(pr_grammar_text),
            compare_keys);
    return PR_OK;
}

static pr_status build_extra_member(
    pr_schema *schema,
    const json_t *additional,
    const json_t *properties,
    const pr_schema_place *place,
    int32_t *start)
{
    pr_grammar_builder *builder = schema->rules->builder;
    pr_schema_place inside = pr_schema_inside(place, "additionalProperties");
    pr_byte_buffer list = {0};
    int32_t node = pr_grammar_builder_return(builder);
    if (additional)
        PR_TRY(pr_schema_any_build(schema, additional, &inside, node, &node));
    else
        node = pr_json_rules_value(schema->rules, node);
    node = pr_grammar_builder_bytes(builder, ':', ':', pr_json_rules_space(schema->rules, node));
    pr_status status = list_keys(properties, place, &list);
    if (status == PR_OK)
        *start = pr_json_rules_other_key(
            schema->rules, list.data, (int32_t)(list.size_bytes / sizeof(pr_grammar_text)), node);
    pr_byte_buffer_free(&list);
    return status;
}

// Absent beside properties, there are none; absent without properties, anything goes.
static pr_status build_extra_rule(
    pr_schema *schema,
    const json_t *json,
    const json_t *properties,
    const pr_schema_place *place,
    object_plan *plan)
{
    const json_t *additional = json_object_get(json, "additionalProperties");
    int32_t start = PR_GRAMMAR_NOWHERE;
    plan->extra = -1;
    if (json_is_false(additional) || (!additional && properties))
        return PR_OK;
    if (additional && !json_is_true(additional) && !json_is_object(additional))
        return pr_schema_refuse(place, "'additionalProperties' must be true, false or a schema");
    PR_TRY(build_extra_member(schema, additional, properties, place, &start));
    plan->extra = pr_grammar_builder_rule(schema->rules->builder);
    pr_grammar_builder_set_rule(schema->rules->builder, plan->extra, start);
    return PR_OK;
}

// ---- From the end to the beginning

static int32_t comma(pr_schema *schema, int32_t next)
{
    return pr_grammar_builder_bytes(
        schema->rules->builder, ',', ',', pr_json_rules_space(schema->rules, next));
}

static void begin_at_end(pr_schema *schema, object_plan *plan)
{
    pr_grammar_builder *builder = schema->rules->builder;
    plan->empty = plan->more = plan->close;
    plan->member = PR_GRAMMAR_NOWHERE;
    plan->may_end = true;
    if (plan->extra < 0)
        return;
    int32_t end = pr_grammar_builder_return(builder);
    int32_t body = comma(schema, pr_grammar_builder_call(builder, plan->extra, end));
    plan->more = pr_grammar_builder_repeat(builder, body, 0, PR_GRAMMAR_NO_LIMIT, plan->close);
    plan->member = pr_grammar_builder_call(builder, plan->extra, plan->more);
    plan->empty = pr_grammar_builder_split(builder, plan->close, plan->member);
}

static int32_t build_key(pr_schema *schema, const char *key, int32_t next)
{
    int32_t node = pr_json_rules_space(schema->rules, next);
    node = pr_grammar_builder_bytes(schema->rules->builder, ':', ':', node);
    json_t *name = json_string(key);
    char *text = name ? pr_json_rules_write(name) : NULL;
    if (text)
        node = pr_grammar_builder_text(schema->rules->builder, text, strlen(text), node);
    else
        schema->rules->builder->node.failed = true;
    json_decref(name);
    free(text);
    return node;
}

// A property is put before those that the plan holds.
static pr_status add_property(
    pr_schema *schema,
    const char *key,
    const json_t *value,
    const pr_schema_place *place,
    object_plan *plan)
{
    pr_grammar_builder *builder = schema->rules->builder;
    pr_schema_place list = pr_schema_inside(place, "properties");
    pr_schema_place inside = pr_schema_inside(&list, key);
    bool required = is_required(plan, key);
    int32_t node;
    PR_TRY(pr_schema_any_build(schema, value, &inside, plan->more, &node));
    node = build_key(schema, key, node);
    plan->optional_run = required ? 0 : plan->optional_run + 1;
    if (plan->optional_run > MOST_OPTIONAL_RUN)
        return pr_schema_refuse(
            place, "'properties' has more than %d optional ones in a row: put some into 'required'",
            MOST_OPTIONAL_RUN);
    plan->may_end = plan->may_end && !required;
    plan->member = required ? node : pr_grammar_builder_split(builder, node, plan->member);
    plan->empty = required ? node : pr_grammar_builder_split(builder, node, plan->empty);
    plan->more = comma(schema, plan->member);
    if (plan->may_end)
        plan->more = pr_grammar_builder_split(builder, plan->more, plan->close);
    return PR_OK;
}

pr_status pr_schema_object_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    pr_grammar_builder *builder = schema->rules->builder;
    const json_t *properties = json_object_get(json, "properties");
    object_plan plan = {.close = pr_grammar_builder_bytes(builder, '}', '}', next)};
    size_t count = json_object_size(properties);
    PR_TRY(check_shape(json, place, properties, &plan));
    PR_TRY(build_extra_rule(schema, json, properties, place, &plan));
    begin_at_end(schema, &plan);
    const char **key = calloc(count + 1, sizeof *key), *name;
    pr_status status = PR_OK;
    json_t *value;
    if (!key)
        return pr_schema_refuse(place, "no memory for %zu properties", count);
    size_t listed = 0;
    json_object_foreach((json_t *)(uintptr_t)properties, name, value) key[listed++] = name;
    for (size_t i = count; i > 0 && status == PR_OK; i--)
        status =
            add_property(schema, key[i - 1], json_object_get(properties, key[i - 1]), place, &plan);
    free(key);
    *start = pr_grammar_builder_bytes(builder, '{', '{', plan.empty);
    return status;
}
