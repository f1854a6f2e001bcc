// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/config_field.h"

#include "runtime/base/log.h"

bool pr_config_has(const pr_config *config, const char *key)
{
    const json_t *field = json_object_get(config->object, key);
    return field && !json_is_null(field);
}

pr_status pr_config_require(const pr_config *config, const char *key)
{
    if (!pr_config_has(config, key))
        return pr_fail(PR_ERR_FORMAT, "%s: %s is missing", config->path, key);
    return PR_OK;
}

pr_status pr_config_integer(
    const pr_config *config, const char *key, int64_t low, int64_t high, int32_t *value)
{
    if (!pr_config_has(config, key))
        return PR_OK;
    const json_t *field = json_object_get(config->object, key);
    if (!json_is_integer(field))
        return pr_fail(PR_ERR_FORMAT, "%s: %s must be an integer", config->path, key);
    int64_t number = json_integer_value(field);
    if (number < low || number > high) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: %s is %lld, allowed are %lld to %lld", config->path, key,
            (long long)number, (long long)low, (long long)high);
    }
    *value = (int32_t)number;
    return PR_OK;
}

pr_status pr_config_need_integer(
    const pr_config *config, const char *key, int64_t low, int64_t high, int32_t *value)
{
    PR_TRY(pr_config_require(config, key));
    return pr_config_integer(config, key, low, high, value);
}

pr_status
pr_config_number(const pr_config *config, const char *key, double low, double high, double *value)
{
    if (!pr_config_has(config, key))
        return PR_OK;
    const json_t *field = json_object_get(config->object, key);
    if (!json_is_number(field))
        return pr_fail(PR_ERR_FORMAT, "%s: %s must be a number", config->path, key);
    double number = json_number_value(field);
    if (!(number >= low && number <= high)) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: %s is %g, allowed are %g to %g", config->path, key, number, low,
            high);
    }
    *value = number;
    return PR_OK;
}

pr_status pr_config_bool(const pr_config *config, const char *key, bool *value)
{
    if (!pr_config_has(config, key))
        return PR_OK;
    const json_t *field = json_object_get(config->object, key);
    if (!json_is_boolean(field))
        return pr_fail(PR_ERR_FORMAT, "%s: %s must be true or false", config->path, key);
    *value = json_is_true(field);
    return PR_OK;
}

pr_status pr_config_string(const pr_config *config, const char *key, const char **value)
{
    if (!pr_config_has(config, key))
        return PR_OK;
    const json_t *field = json_object_get(config->object, key);
    if (!json_is_string(field))
        return pr_fail(PR_ERR_FORMAT, "%s: %s must be a string", config->path, key);
    *value = json_string_value(field);
    return PR_OK;
}
