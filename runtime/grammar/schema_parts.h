// SPDX-License-Identifier: BSD-3-Clause
// What the files of the schema compiler share; for schema*.c only.
// Every pr_schema_*_build writes what matches the schema, followed by `next`, to *start.
#ifndef PR_RUNTIME_GRAMMAR_SCHEMA_PARTS_H
#define PR_RUNTIME_GRAMMAR_SCHEMA_PARTS_H

#include "runtime/grammar/json_rules.h"

// Where a schema stands in the document: a JSON pointer, innermost part first.
typedef struct pr_schema_place {
    const struct pr_schema_place *outer;
    const char *key;  // NULL: `index` counts
    size_t index;
    int depth;
} pr_schema_place;

typedef struct pr_schema {
    pr_json_rules *rules;
    const json_t *document;
    pr_byte_buffer reference;  // schema_reference[], see schema.c
} pr_schema;

typedef enum pr_schema_type {
    PR_SCHEMA_NULL = 1,
    PR_SCHEMA_BOOLEAN = 2,
    PR_SCHEMA_INTEGER = 4,
    PR_SCHEMA_NUMBER = 8,
    PR_SCHEMA_STRING = 16,
    PR_SCHEMA_ARRAY = 32,
    PR_SCHEMA_OBJECT = 64,
    PR_SCHEMA_ANY = 1 | 2 | 8 | 16 | 32 | 64,
} pr_schema_type;

pr_schema_place pr_schema_inside(const pr_schema_place *outer, const char *key);
pr_schema_place pr_schema_item(const pr_schema_place *outer, size_t index);

// "json schema at /a/b"; long pointers keep their end.
enum { PR_SCHEMA_PLACE_BYTES = 200 };
void pr_schema_describe(const pr_schema_place *place, char *text, size_t capacity);
// PR_ERR_REQUEST: the place and what is wrong there.
pr_status pr_schema_refuse(const pr_schema_place *place, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// Keywords with one kind of value. Absent: *value stays.
pr_status pr_schema_count(
    const json_t *json, const pr_schema_place *place, const char *keyword, int32_t *value)
    PR_MUST_CHECK;
pr_status pr_schema_string(
    const json_t *json, const pr_schema_place *place, const char *keyword, const char **value)
    PR_MUST_CHECK;

// schema.c
pr_status pr_schema_any_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start) PR_MUST_CHECK;
// What a $ref points to, or NULL.
const json_t *pr_schema_find(const pr_schema *schema, const char *pointer);

// schema_choice.c: enum, const, anyOf, oneOf
pr_status pr_schema_values_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start) PR_MUST_CHECK;
pr_status pr_schema_branches_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start) PR_MUST_CHECK;
// Types that "type" lists, or that the other keywords tell; PR_SCHEMA_ANY if nothing does.
pr_status
pr_schema_types(const json_t *json, const pr_schema_place *place, unsigned *types) PR_MUST_CHECK;

// schema_object.c, schema_array.c, schema_scalar.c
pr_status pr_schema_object_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start) PR_MUST_CHECK;
pr_status pr_schema_array_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start) PR_MUST_CHECK;
pr_status pr_schema_string_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    int32_t next,
    int32_t *start) PR_MUST_CHECK;
pr_status pr_schema_number_build(
    pr_schema *schema,
    const json_t *json,
    const pr_schema_place *place,
    bool integer,
    int32_t next,
    int32_t *start) PR_MUST_CHECK;

#endif
