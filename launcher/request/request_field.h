// SPDX-License-Identifier: BSD-3-Clause
// Typed fields of a request's body. Absent and null are the same: the value keeps its default. A wrong type or
// a value out of bounds is refused by the field's name.
#ifndef PR_LAUNCHER_REQUEST_REQUEST_FIELD_H
#define PR_LAUNCHER_REQUEST_REQUEST_FIELD_H

#include <stdbool.h>

#include "launcher/request/refusal.h"

// NULL when absent or null.
json_t *pr_request_field(const json_t *body, const char *name);

pr_status pr_request_field_number(
    const json_t *body,
    const char *name,
    double low,
    double high,
    double *value,
    pr_refusal *refusal) PR_MUST_CHECK;
pr_status pr_request_field_float(
    const json_t *body,
    const char *name,
    double low,
    double high,
    float *value,
    pr_refusal *refusal) PR_MUST_CHECK;
pr_status pr_request_field_integer(
    const json_t *body,
    const char *name,
    int32_t low,
    int32_t high,
    int32_t *value,
    pr_refusal *refusal) PR_MUST_CHECK;
pr_status pr_request_field_bool(
    const json_t *body, const char *name, bool *value, pr_refusal *refusal) PR_MUST_CHECK;

// Whether the value is an id below `vocabulary`.
bool pr_request_field_token(const json_t *value, int32_t vocabulary, int32_t *token);
// Whether it is a string that C can hold: JSON allows a NUL inside.
bool pr_request_field_plain(const json_t *value);

#endif
