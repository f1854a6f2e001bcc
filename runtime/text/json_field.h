// SPDX-License-Identifier: BSD-3-Clause
// Typed fields of JSON objects in a tokenizer file; a missing or mistyped one is reported with the
// place it should be in. `where` names the object in messages: "decoder Strip".
// Strings are borrowed from the object.
#ifndef PR_RUNTIME_TEXT_JSON_FIELD_H
#define PR_RUNTIME_TEXT_JSON_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

// A part described by an object with a "type", or by an array of such parts in a Sequence, may be
// nested this deep.
enum { PR_JSON_FIELD_MAX_DEPTH = 8 };

pr_status pr_json_field_string(
    const json_t *object, const char *where, const char *key, const char **text, size_t *size_bytes)
    PR_MUST_CHECK;
pr_status pr_json_field_bool(const json_t *object, const char *where, const char *key, bool *value)
    PR_MUST_CHECK;
// Keeps *value when the field is absent or null.
pr_status pr_json_field_optional_bool(
    const json_t *object, const char *where, const char *key, bool *value) PR_MUST_CHECK;
pr_status pr_json_field_integer(
    const json_t *object, const char *where, const char *key, json_int_t *value) PR_MUST_CHECK;
pr_status pr_json_field_array(
    const json_t *object, const char *where, const char *key, const json_t **array) PR_MUST_CHECK;
// The string "type" of an object; anything else is an error.
pr_status
pr_json_field_type(const json_t *object, const char *where, const char **type) PR_MUST_CHECK;
// A string of exactly one character.
pr_status pr_json_field_character(
    const json_t *object, const char *where, const char *key, const char **text, size_t *size_bytes)
    PR_MUST_CHECK;

#endif
