// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/request/request_field.h"

#include <string.h>

json_t *pr_request_field(const json_t *body, const char *name)
{
    json_t *value = json_object_get(body, name);
    return json_is_null(value) ? NULL : value;
}

pr_status pr_request_field_number(
    const json_t *body,
    const char *name,
    double low,
    double high,
    double *value,
    pr_refusal *refusal)
{
    const json_t *found = pr_request_field(body, name);
    if (!found)
        return PR_OK;
    if (!json_is_number(found))
        return pr_refuse(refusal, name, "'%s' must be a number", name);
    double number = json_number_value(found);
    if (!(number >= low && number <= high))
        return pr_refuse(
            refusal, name, "'%s' is %g: it must lie between %g and %g", name, number, low, high);
    *value = number;
    return PR_OK;
}

pr_status pr_request_field_float(
    const json_t *body,
    const char *name,
    double low,
    double high,
    float *value,
    pr_refusal *refusal)
{
    double number = (double)*value;
    PR_TRY(pr_request_field_number(body, name, low, high, &number, refusal));
    *value = (float)number;
    return PR_OK;
}

pr_status pr_request_field_integer(
    const json_t *body,
    const char *name,
    int32_t low,
    int32_t high,
    int32_t *value,
    pr_refusal *refusal)
{
    const json_t *found = pr_request_field(body, name);
    if (!found)
        return PR_OK;
    if (!json_is_integer(found))
        return pr_refuse(refusal, name, "'%s' must be an integer", name);
    json_int_t number = json_integer_value(found);
    if (number < low || number > high)
        return pr_refuse(
            refusal, name, "'%s' is %lld: it must lie between %d and %d", name, (long long)number,
            low, high);
    *value = (int32_t)number;
    return PR_OK;
}

pr_status
pr_request_field_bool(const json_t *body, const char *name, bool *value, pr_refusal *refusal)
{
    const json_t *found = pr_request_field(body, name);
    if (!found)
        return PR_OK;
    if (!json_is_boolean(found))
        return pr_refuse(refusal, name, "'%s' must be true or false", name);
    *value = json_is_true(found);
    return PR_OK;
}

bool pr_request_field_token(const json_t *value, int32_t vocabulary, int32_t *token)
{
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= vocabulary)
        return false;
    *token = (int32_t)id;
    return true;
}

bool pr_request_field_plain(const json_t *value)
{
    return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
}
