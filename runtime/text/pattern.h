// SPDX-License-Identifier: BSD-3-Clause
// What splitters and replacers look for: a literal text, or a regular expression run by PCRE2 with
// Unicode properties, compiled to machine code where the system allows it.
// Threads: a pattern is immutable; each search is its own.
#ifndef PR_RUNTIME_TEXT_PATTERN_H
#define PR_RUNTIME_TEXT_PATTERN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

typedef struct pr_pattern pr_pattern;

pr_status
pr_pattern_create_literal(const char *text, size_t size_bytes, pr_pattern **pattern) PR_MUST_CHECK;
// Expressions are written for Oniguruma (Ruby); what PCRE2 would read differently is refused.
pr_status
pr_pattern_create_regex(const char *regex, size_t size_bytes, pr_pattern **pattern) PR_MUST_CHECK;
// {"String": "..."} or {"Regex": "..."}, the field "pattern" of an object.
pr_status
pr_pattern_parse(const json_t *object, const char *where, pr_pattern **pattern) PR_MUST_CHECK;
void pr_pattern_destroy(pr_pattern *pattern);

typedef struct pr_pattern_search {
    const pr_pattern *pattern;
    void *match_data;
    const char *text;
    size_t size_bytes, position, last_end;
    bool matched_before;
} pr_pattern_search;

// A search may be set on many texts, one after the other.
pr_status
pr_pattern_search_begin(const pr_pattern *pattern, pr_pattern_search *search) PR_MUST_CHECK;
void pr_pattern_search_end(pr_pattern_search *search);
void pr_pattern_search_set(pr_pattern_search *search, const char *text, size_t size_bytes);
// The next match from left to right, *start..*end; an empty one never directly behind another.
pr_status pr_pattern_search_next(pr_pattern_search *search, bool *found, size_t *start, size_t *end)
    PR_MUST_CHECK;

#endif
