// SPDX-License-Identifier: BSD-3-Clause
// Typed, bounded reads of one JSON object of a model directory (config.json, rope_scaling ...).
// A field that is absent or null leaves the output as it was, so the caller sets the default first;
// a wrong type or a value out of bounds is PR_ERR_FORMAT and names file, field and bounds.
// Threads: any.
#ifndef PR_RUNTIME_MODEL_CONFIG_FIELD_H
#define PR_RUNTIME_MODEL_CONFIG_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_config {
    const char *path;  // for messages: the file, and the field that holds the object if nested
    json_t *object;    // borrowed, only read
} pr_config;

bool pr_config_has(const pr_config *config, const char *key);  // present and not null
pr_status pr_config_require(const pr_config *config, const char *key) PR_MUST_CHECK;

pr_status pr_config_integer(
    const pr_config *config, const char *key, int64_t low, int64_t high, int32_t *value)
    PR_MUST_CHECK;
// Required: absent or null is an error.
pr_status pr_config_need_integer(
    const pr_config *config, const char *key, int64_t low, int64_t high, int32_t *value)
    PR_MUST_CHECK;
pr_status pr_config_number(
    const pr_config *config, const char *key, double low, double high, double *value) PR_MUST_CHECK;
pr_status pr_config_bool(const pr_config *config, const char *key, bool *value) PR_MUST_CHECK;
// *value is borrowed from the JSON.
pr_status
pr_config_string(const pr_config *config, const char *key, const char **value) PR_MUST_CHECK;

#endif
