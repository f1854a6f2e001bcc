// SPDX-License-Identifier: BSD-3-Clause
// What a request says about the form of its output, in OpenAI's spelling (response_format) and in vLLM's, new
// (structured_outputs) and old (guided_*). At most one of them may say something. docs/structured-output.md.
// Source: OpenAI API reference (structured outputs); vLLM documentation (structured outputs).
#ifndef PR_LAUNCHER_REQUEST_RESPONSE_FORMAT_H
#define PR_LAUNCHER_REQUEST_RESPONSE_FORMAT_H

#include <jansson.h>

#include "launcher/request/refusal.h"
#include "runtime/batch/request.h"

// Sets sampling->grammar (its text is malloc'ed, sampling owns it), after having compiled it once: what a
// worker gets does compile. PR_ERR_REQUEST with *refusal filled.
pr_status pr_response_format_take(const json_t *body, pr_sampling *sampling, pr_refusal *refusal)
    PR_MUST_CHECK;

// The same from a JSON schema that the field `parameter` asks for.
pr_status pr_response_format_set_schema(
    const char *schema, const char *parameter, pr_sampling *sampling, pr_refusal *refusal)
    PR_MUST_CHECK;

#endif
