// SPDX-License-Identifier: BSD-3-Clause
// The fields of a body that say how tokens are drawn and where an answer ends. Defaults come from the model's
// generation_config.json. Names and meanings: OpenAI's, extra ones vLLM's; docs/formats.md lists them.
#ifndef PR_LAUNCHER_REQUEST_SAMPLING_FIELD_H
#define PR_LAUNCHER_REQUEST_SAMPLING_FIELD_H

#include "launcher/request/completion_context.h"
#include "launcher/request/refusal.h"
#include "runtime/batch/request.h"

// max_tokens that nobody has set: a chat goes on to the end of the context.
enum { PR_MAX_TOKENS_OPEN = INT32_MAX };

// *sampling owns its arrays afterwards, also when refused.
pr_status pr_sampling_field_take(
    const pr_completion_context *context,
    const json_t *body,
    bool chat,
    pr_sampling *sampling,
    pr_refusal *refusal) PR_MUST_CHECK;

#endif
