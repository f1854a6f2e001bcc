// SPDX-License-Identifier: BSD-3-Clause
// A JSON Schema as grammar. The subset, what each keyword does, and what is refused:
// docs/structured-output.md. Every text of the grammar is valid under the schema; the converse does not
// hold (white space, order of keys, escapes in patterns are narrower).
// Source: JSON Schema, draft 2020-12 (json-schema.org).
// Cost: linear in the schema. Threads: none of its own.
#ifndef PR_RUNTIME_GRAMMAR_SCHEMA_H
#define PR_RUNTIME_GRAMMAR_SCHEMA_H

#include "runtime/grammar/json_rules.h"

// *start: a document that is valid, then the end. PR_ERR_REQUEST: a line with keyword and place.
pr_status
pr_schema_build(const json_t *document, pr_json_rules *rules, int32_t *start) PR_MUST_CHECK;

#endif
