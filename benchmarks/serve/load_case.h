// SPDX-License-Identifier: BSD-3-Clause
// Requests whose replies are known: each names itself (X-Request-Id), so its reply is a function of it, and was asked
// for once, whole, when little else was under way.
//
//   case i  ->  completion | completion with stop strings | chat, of its own prompt  ->  text, tokens, reason
//
// Threads: one.
#ifndef PR_BENCHMARKS_SERVE_LOAD_CASE_H
#define PR_BENCHMARKS_SERVE_LOAD_CASE_H

#include <jansson.h>

#include "benchmarks/serve/load_target.h"

typedef struct pr_load_case {
    char name[40];
    bool chat;
    char *text;
    size_t text_bytes;
    int32_t tokens;
    char finish[16];
} pr_load_case;

enum { PR_LOAD_BODY_BYTES = 512 };

// The body of request i of `tokens` tokens.
void pr_load_case_body(int32_t i, int32_t tokens, bool stream, char body[PR_LOAD_BODY_BYTES]);
static inline bool pr_load_case_is_chat(int32_t i) { return i % 8 == 3; }
static inline const char *pr_load_case_path(int32_t i)
{
    return pr_load_case_is_chat(i) ? "/v1/chat/completions" : "/v1/completions";
}

// Cases 0 .. count - 1: from the file, where it has as many; asked for and written there otherwise. path NULL: no file.
pr_status pr_load_case_gather(
    pr_load_target *target, int32_t count, int32_t tokens, const char *path, pr_load_case **cases)
    PR_MUST_CHECK;
void pr_load_case_free(pr_load_case *cases, int32_t count);

// Asks for case i again, whole, and compares.
pr_status pr_load_case_check(
    pr_load_target *target, const pr_load_case *expected, int32_t i, int32_t tokens) PR_MUST_CHECK;

#endif
