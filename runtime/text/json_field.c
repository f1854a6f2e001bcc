// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/text/json_field.h"

#include "runtime/base/log.h"
#include "runtime/text/utf8.h"

static pr_status wrong_field(const char *where, const char *key, const char *kind)
{
    return pr_fail(
        PR_ERR_FORMAT, "tokenizer: %s: field \"%s\" is missing or not %s", where, key, kind);
}

pr_status pr_json_field_string(
    const json_t *object, const char *where, const char *key, const char **text, size_t *size_bytes)
{
    const json_t *field = json_object_get(object, key);
    if (!json_is_string(field))
        return wrong_field(where, key, "a string");
    *text = json_string_value(field);
    *size_bytes = json_string_length(field);
    return PR_OK;
}

pr_status pr_json_field_bool(const json_t *object, const char *where, const char *key, bool *value)
{
    const json_t *field = json_object_get(object, key);
    if (!json_is_boolean(field))
        return wrong_field(where, key, "true or false");
    *value = json_is_true(field);
    return PR_OK;
}

pr_status
pr_json_field_optional_bool(const json_t *object, const char *where, const char *key, bool *value)
{
    const json_t *field = json_object_get(object, key);
    if (!field || json_is_null(field))
        return PR_OK;
    return pr_json_field_bool(object, where, key, value);
}

pr_status
pr_json_field_integer(const json_t *object, const char *where, const char *key, json_int_t *value)
{
    const json_t *field = json_object_get(object, key);
    if (!json_is_integer(field))
        return wrong_field(where, key, "an integer");
    *value = json_integer_value(field);
    return PR_OK;
}

pr_status
pr_json_field_array(const json_t *object, const char *where, const char *key, const json_t **array)
{
    const json_t *field = json_object_get(object, key);
    if (!json_is_array(field))
        return wrong_field(where, key, "an array");
    *array = field;
    return PR_OK;
}

pr_status pr_json_field_type(const json_t *object, const char *where, const char **type)
{
    size_t size;
    if (!json_is_object(object))
        return pr_fail(PR_ERR_FORMAT, "tokenizer: %s: not an object with a \"type\"", where);
    return pr_json_field_string(object, where, "type", type, &size);
}

pr_status pr_json_field_character(
    const json_t *object, const char *where, const char *key, const char **text, size_t *size_bytes)
{
    size_t position = 0;
    PR_TRY(pr_json_field_string(object, where, key, text, size_bytes));
    if (*size_bytes > 0)
        (void)pr_utf8_next(*text, &position);
    if (*size_bytes == 0 || position != *size_bytes)
        return wrong_field(where, key, "a string of one character");
    return PR_OK;
}
