// SPDX-License-Identifier: BSD-3-Clause
// Values of a render: Python's, as far as templates can make and look at them. Lists, dicts and strings never change
// once made; a namespace does. All live in the render's heap.
//   value ── kind, marked ──┬─ text | truth | integer | real
//                           └─ list | dict | macro | loop | method
// `marked` of a number, a list or a dict says that it came from the caller: printed, all of it is marked.
// Threads: one render, one thread.
// Source: Python 3 language reference, data model; Jinja's `Undefined`.
#ifndef PR_RUNTIME_VALUE_TEMPLATE_VALUE_H
#define PR_RUNTIME_VALUE_TEMPLATE_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/value/template_heap.h"
#include "runtime/value/template_text.h"

// Lists in lists, dicts in dicts: the deepest that is read, compared or printed.
enum { PR_TEMPLATE_VALUE_MAX_DEPTH = 128 };

typedef enum pr_template_kind {
    PR_TEMPLATE_UNDEFINED,
    PR_TEMPLATE_NONE,
    PR_TEMPLATE_BOOL,
    PR_TEMPLATE_INTEGER,
    PR_TEMPLATE_FLOAT,
    PR_TEMPLATE_STRING,
    PR_TEMPLATE_LIST,
    PR_TEMPLATE_TUPLE,
    PR_TEMPLATE_RANGE,      // list
    PR_TEMPLATE_VIEW,       // list; dict.items() and its like: can be counted, not indexed
    PR_TEMPLATE_GENERATOR,  // list; a filter's result, which can be walked once
    PR_TEMPLATE_DICT,
    PR_TEMPLATE_NAMESPACE,  // dict
    PR_TEMPLATE_LOOP,
    PR_TEMPLATE_MACRO,
    PR_TEMPLATE_FUNCTION,  // method without a self
    PR_TEMPLATE_METHOD,
    PR_TEMPLATE_ABSENT,  // an argument that was not given; never a variable's value
} pr_template_kind;

typedef struct pr_template_value {
    pr_template_kind kind;
    bool marked;
    union {
        const char *name;  // UNDEFINED: what is not there, for messages
        bool truth;
        int64_t integer;
        double real;
        pr_template_text text;
        struct pr_template_list *list;
        struct pr_template_dict *dict;
        struct pr_template_loop *loop;
        struct pr_template_macro *macro;
        struct pr_template_method *method;
    };
} pr_template_value;

typedef struct pr_template_list {
    pr_template_value *item;
    size_t size;
    size_t walked;      // GENERATOR: items that are gone
    const char *label;  // VIEW, GENERATOR: how Python names it when printed
} pr_template_list;

typedef struct pr_template_entry {
    pr_template_value key, value;
    uint64_t hash;
} pr_template_entry;

// In order of insertion; beyond a few entries with an open-addressing index.
typedef struct pr_template_dict {
    pr_template_entry *entry;
    size_t size, capacity;
    int32_t *index;  // [slots] of entry, or -1
    size_t slots;    // a power of two
} pr_template_dict;

typedef struct pr_template_loop {
    const pr_template_list *list;
    size_t at;
    bool changed_known;
    pr_template_value changed;  // what loop.changed() was told last
} pr_template_loop;

typedef struct pr_template_method {
    const struct pr_template_builtin *builtin;
    pr_template_value self;
} pr_template_method;

// Of a call: f(1, x=2).
typedef struct pr_template_keyword {
    pr_template_text name;
    pr_template_value value;
} pr_template_keyword;

typedef struct pr_template_arguments {
    const pr_template_value *positional;
    size_t positionals;
    const pr_template_keyword *keyword;
    size_t keywords;
} pr_template_arguments;

static inline pr_template_value pr_template_value_none(void)
{
    return (pr_template_value){.kind = PR_TEMPLATE_NONE};
}
static inline pr_template_value pr_template_value_undefined(const char *name)
{
    return (pr_template_value){.kind = PR_TEMPLATE_UNDEFINED, .name = name};
}
static inline pr_template_value pr_template_value_bool(bool truth)
{
    return (pr_template_value){.kind = PR_TEMPLATE_BOOL, .truth = truth};
}
static inline pr_template_value pr_template_value_integer(int64_t integer)
{
    return (pr_template_value){.kind = PR_TEMPLATE_INTEGER, .integer = integer};
}
static inline pr_template_value pr_template_value_float(double real)
{
    return (pr_template_value){.kind = PR_TEMPLATE_FLOAT, .real = real};
}
static inline pr_template_value pr_template_value_string(pr_template_text text)
{
    return (pr_template_value){.kind = PR_TEMPLATE_STRING, .text = text};
}
// From a word that outlives the render.
pr_template_value pr_template_value_word(const char *word);

// A list of `size` items that the caller sets. kind: one of those with a list.
pr_status pr_template_value_list(
    pr_template_heap *heap, pr_template_kind kind, size_t size, pr_template_value *value)
    PR_MUST_CHECK;
// Appends while it is being made; *capacity starts at the list's size.
pr_status pr_template_value_push(
    pr_template_heap *heap, pr_template_list *list, size_t *capacity, pr_template_value item)
    PR_MUST_CHECK;

// kind: DICT or NAMESPACE.
pr_status pr_template_value_dict(
    pr_template_heap *heap, pr_template_kind kind, pr_template_value *value) PR_MUST_CHECK;

// json as a value, marked all through or not at all. Its strings stay json's and must outlive the value.
pr_status pr_template_value_read(
    pr_template_heap *heap, const json_t *json, bool marked, pr_template_value *value)
    PR_MUST_CHECK;

bool pr_template_value_is_list(const pr_template_value *value);    // any kind with a list
bool pr_template_value_is_number(const pr_template_value *value);  // bool, integer, float
bool pr_template_value_is_true(const pr_template_value *value);
double pr_template_value_as_real(const pr_template_value *number);
// bool and integer.
static inline int64_t pr_template_value_as_integer(const pr_template_value *value)
{
    return value->kind == PR_TEMPLATE_BOOL ? value->truth : value->integer;
}
// "str", "int", "dict", ...: Python's word.
const char *pr_template_value_kind_name(const pr_template_value *value);

// What `for` walks over, as a list: a list itself, the keys of a dict, the characters of a string, nothing of an
// undefined value. What a generator has left is gone afterwards.
pr_status pr_template_value_walk(
    pr_template_heap *heap, const pr_template_value *value, pr_template_list *list) PR_MUST_CHECK;
// len(value).
pr_status pr_template_value_length(
    pr_template_heap *heap, const pr_template_value *value, size_t *length) PR_MUST_CHECK;

pr_status pr_template_value_equal(
    pr_template_heap *heap,
    const pr_template_value *left,
    const pr_template_value *right,
    bool *equal) PR_MUST_CHECK;
// -1, 0, 1. PR_ERR_REQUEST when the two have no order.
pr_status pr_template_value_compare(
    pr_template_heap *heap,
    const pr_template_value *left,
    const pr_template_value *right,
    int *order) PR_MUST_CHECK;

#endif
