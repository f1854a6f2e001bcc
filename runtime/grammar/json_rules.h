// SPDX-License-Identifier: BSD-3-Clause
// The parts of JSON texts as grammar: strings, numbers, literals, any value. White space is one optional
// space after ':' and ',' and none elsewhere, so no text can go on for ever without saying anything.
// Numbers have at most 15 digits before and 15 after the point and two in the exponent, for the same
// reason; keys that a schema does not name have at most PR_JSON_KEY_CHARACTERS. Strings never hold U+0000.
// Source: RFC 8259.
#ifndef PR_RUNTIME_GRAMMAR_JSON_RULES_H
#define PR_RUNTIME_GRAMMAR_JSON_RULES_H

#include <jansson.h>

#include "runtime/grammar/grammar_builder.h"

enum { PR_JSON_KEY_CHARACTERS = 64 };

// Rules that many places call, made when first needed. 0 stands for "not yet": store the index plus one.
typedef struct pr_json_rules {
    pr_grammar_builder *builder;
    int32_t character, value, object, array;
} pr_json_rules;

int32_t pr_json_rules_space(pr_json_rules *rules, int32_t next);
// A string of min..max code points (max -1: no limit), however they are escaped.
int32_t pr_json_rules_string(pr_json_rules *rules, int32_t min, int32_t max, int32_t next);
// One character inside a string out of a normalised set, escaped only where it must be.
int32_t pr_json_rules_character(pr_json_rules *rules, const pr_code_points *set, int32_t next);
int32_t pr_json_rules_number(pr_json_rules *rules, int32_t next);
int32_t pr_json_rules_object(pr_json_rules *rules, int32_t next);
int32_t pr_json_rules_array(pr_json_rules *rules, int32_t next);
int32_t pr_json_rules_value(pr_json_rules *rules, int32_t next);
// A key that is none of the given ones, without escapes.
int32_t pr_json_rules_other_key(
    pr_json_rules *rules, const pr_grammar_text *key, int32_t keys, int32_t next);

// A value written out, without spaces; malloc'ed. NULL when there is no memory.
char *pr_json_rules_write(const json_t *value);

#endif
