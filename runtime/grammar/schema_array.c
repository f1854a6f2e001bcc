// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/grammar/schema_parts.h"

// What follows an item: "]" if there may be no more, and "," with more.
typedef struct array_plan {
    const json_t *prefix;  // array or NULL
    int32_t prefixes, min, max;
    int32_t item;  // rule of the items after the prefix; -1: there are none
    int32_t close;
} array_plan;

static pr_status read_limits(const json_t *json, const pr_schema_place *place, array_plan *plan)
{
    plan->max = PR_GRAMMAR_NO_LIMIT;
    PR_TRY(pr_schema_count(json, place, "minItems", &plan->min));
    PR_TRY(pr_schema_count(json, place, "maxItems", &plan->max));
    plan->prefix = json_object_get(json, "prefixItems");
    if (plan->prefix && !json_is_array(plan->prefix))
        return pr_schema_refuse(place, "'prefixItems' must be a list of schemas");
    if (json_is_array(json_object_get(json, "items")))
        return pr_schema_refuse(place, "'items' as a list is not supported: use 'prefixItems'");
    plan->prefixes = (int32_t)json_array_size(plan->prefix);
    return PR_OK;
}

// Absent, items are any value, but after a prefix there are none.
static pr_status build_item_rule(
    pr_schema *schema, const json_t *json, const pr_schema_place *place, array_plan *plan)
{
    pr_grammar_builder *builder = schema->rules->builder;
    const json_t *items = json_object_get(json, "items");
    int32_t end = pr_grammar_builder_return(builder), start;
    plan->item = -1;
    if (plan->max == 0 || json_is_false(items) || (!items && plan->prefixes > 0))
        return PR_OK;
    pr_schema_place inside = pr_schema_inside(place, "items");
    if (items)
        PR_TRY(pr_schema_any_build(schema, items, &inside, end, &start));
    else
        start = pr_json_rules_value(schema->rules, end);
    plan->item = pr_grammar_builder_rule(builder);
    pr_grammar_builder_set_rule(builder, plan->item, start);
    return PR_OK;
}

static int32_t comma(pr_schema *schema, int32_t next)
{
    return pr_grammar_builder_bytes(
        schema->rules->builder, ',', ',', pr_json_rules_space(schema->rules, next));
}

// After `before` items, all of the prefix among them.
static int32_t more_items(pr_schema *schema, const array_plan *plan, int32_t before)
{
    pr_grammar_builder *builder = schema->rules->builder;
    int32_t min = plan->min > before ? plan->min - before : 0;
    int32_t max = plan->max < 0 ? plan->max : plan->max - before;
    int32_t end = pr_grammar_builder_return(builder), body = PR_GRAMMAR_NOWHERE;
    if (max != PR_GRAMMAR_NO_LIMIT && max < min)
        return PR_GRAMMAR_NOWHERE;
    if (plan->item >= 0)
        body = comma(schema, pr_grammar_builder_call(builder, plan->item, end));
    return pr_grammar_builder_repeat(builder, body, min, max, plan->close);
}

static pr_status build_prefix(
    pr_schema *schema, const array_plan *plan, const pr_schema_place *place, int32_t *start)
{
    pr_grammar_builder *builder = schema->rules->builder;
    pr_schema_place list = pr_schema_inside(place, "prefixItems");
    int32_t count = plan->prefixes, node = PR_GRAMMAR_NOWHERE;
    if (plan->max >= 0 && plan->max < count)
        count = plan->max;
    else
        node = more_items(schema, plan, count);
    for (int32_t i = count - 1; i >= 0; i--) {
        pr_schema_place inside = pr_schema_item(&list, (size_t)i);
        if (i + 1 >= plan->min && i + 1 < plan->prefixes)
            node = pr_grammar_builder_split(builder, node, plan->close);
        PR_TRY(pr_schema_any_build(
            schema, json_array_get(plan->prefix, (size_t)i), &inside, node, &node));
        if (i > 0)
            node = comma(schema, node);
    }
    *start = node;
    return PR_OK;
}

pr_status pr_schema_array_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start)
{
    pr_grammar_builder *builder = schema->rules->builder;
    array_plan plan = {.close = pr_grammar_builder_bytes(builder, ']', ']', next)};
    int32_t first = PR_GRAMMAR_NOWHERE;
    PR_TRY(read_limits(json, place, &plan));
    PR_TRY(build_item_rule(schema, json, place, &plan));
    if (plan.prefixes > 0 && plan.max != 0)
        PR_TRY(build_prefix(schema, &plan, place, &first));
    else if (plan.item >= 0)
        first = pr_grammar_builder_call(builder, plan.item, more_items(schema, &plan, 1));
    if (plan.min == 0)
        first = pr_grammar_builder_split(builder, plan.close, first);
    *start = pr_grammar_builder_bytes(builder, '[', '[', first);
    return PR_OK;
}
