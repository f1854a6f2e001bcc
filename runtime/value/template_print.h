// SPDX-License-Identifier: BSD-3-Clause
// Values as text: str() and repr() of Python, and json.dumps.
//   value            str           repr           json
//   "it's"           it's          "it's"         "it's"
//   [true, null]     [True, None]  [True, None]   [true, null]
//   1e16             1e+16         1e+16          1e+16
// Text of a marked value is marked; inside a list that the template made, each item for itself.
// Threads: one render, one thread.
// Source: Python 3 library reference: str(), repr(), json.
#ifndef PR_RUNTIME_VALUE_TEMPLATE_PRINT_H
#define PR_RUNTIME_VALUE_TEMPLATE_PRINT_H

#include "runtime/value/template_builder.h"
#include "runtime/value/template_text.h"
#include "runtime/value/template_value.h"

// What {{ }} prints: str(value), and nothing for an undefined value.
pr_status
pr_template_print_str(pr_template_builder *builder, const pr_template_value *value) PR_MUST_CHECK;
pr_status
pr_template_print_repr(pr_template_builder *builder, const pr_template_value *value) PR_MUST_CHECK;
// str(value) as a value; a string is itself.
pr_status pr_template_print_to_text(
    pr_template_heap *heap, const pr_template_value *value, pr_template_text *text) PR_MUST_CHECK;

typedef struct pr_template_json_style {
    bool ascii;     // everything else as \uXXXX
    bool sorted;    // by key
    bool indented;  // one item a line, each level behind `indent` more
    pr_template_text indent;
    pr_template_text between;  // ", "
    pr_template_text colon;    // ": "
} pr_template_json_style;

pr_status pr_template_print_json(
    pr_template_builder *builder,
    const pr_template_value *value,
    const pr_template_json_style *style) PR_MUST_CHECK;

#endif
