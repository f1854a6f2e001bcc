// SPDX-License-Identifier: BSD-3-Clause
// The body of an OpenAI /v1/completions request: parsed, checked, tokenised. Which fields are taken,
// ignored and refused: docs/formats.md. A refusal is the content of OpenAI's error object.
// Source: OpenAI API reference (completions); extra sampling fields as vLLM names them.
#ifndef PR_LAUNCHER_REQUEST_COMPLETION_REQUEST_H
#define PR_LAUNCHER_REQUEST_COMPLETION_REQUEST_H

#include "launcher/request/completion_context.h"
#include "launcher/request/refusal.h"
#include "runtime/batch/request.h"

enum { PR_MAX_STOP_STRINGS = 16, PR_MAX_CHOICES = 128, PR_MAX_PROMPTS = 2048 };
enum { PR_MAX_PROMPT_TOKENS = 1 << 24 };
enum { PR_MAX_TARGET_MS = 24 * 60 * 60 * 1000 };

typedef struct pr_prompt {
    int32_t *token;
    int32_t tokens;
} pr_prompt;

typedef struct pr_completion_request {
    int32_t prompts;
    pr_prompt *prompt;     // [prompts]
    int32_t n;             // choices per prompt
    pr_sampling sampling;  // of choice 0; owns its biases
    int32_t stops;
    char *stop[PR_MAX_STOP_STRINGS];
    bool include_stop, skip_special, echo;
    bool no_output;  // max_tokens was 0: the one token that is generated all the same is dropped
    bool stream, stream_usage, continuous_usage;
    bool chat;
    pr_message_format format;  // of a chat's answer
    char *named_tool;          // whose arguments the whole answer is, or NULL; owned
    int32_t priority;
    uint64_t tenant;                         // 0: none named
    int32_t ttft_target_ms, tpot_target_ms;  // 0: none
} pr_completion_request;

// What a target is for: the time to the first token, or that per token after it.
typedef enum pr_target { PR_TARGET_TTFT, PR_TARGET_TPOT } pr_target;

// PR_OK, or PR_ERR_REQUEST with *refusal filled (nothing is logged: one bad request is its sender's).
pr_status pr_completion_request_parse(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request **request,
    pr_refusal *refusal) PR_MUST_CHECK;
void pr_completion_request_destroy(pr_completion_request *request);
int64_t pr_completion_request_prompt_tokens(const pr_completion_request *request);  // all prompts

// Sets a target as the body's fields slo_ttft_ms and slo_tpot_ms do, and headers x-slo-*-ms may:
// 1..PR_MAX_TARGET_MS, or 0 for none. `parameter` names its origin in the refusal.
pr_status pr_completion_request_set_target(
    pr_completion_request *request,
    pr_target target,
    const char *parameter,
    int64_t milliseconds,
    pr_refusal *refusal) PR_MUST_CHECK;

// The seed of a request without one, from a name that stays the same when it comes again: a batch's custom_id, or
// the X-Request-Id that a client gave.
uint64_t pr_completion_request_seed(const char *name);

// The tenant that a user's name stands for: a hash, the same in every run. 0 for the empty name.
uint64_t pr_completion_request_tenant(const char *user, size_t size_bytes);

// ---- For the readers of a body's kind (chat_request.h) ----

typedef pr_status pr_completion_request_reader(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request *request,
    pr_refusal *refusal);

// A new request with its defaults, filled by `read`; errors are captured on the way.
pr_status pr_completion_request_make(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request_reader *read,
    pr_completion_request **request,
    pr_refusal *refusal) PR_MUST_CHECK;
// The fields that all kinds have; request->chat is set.
pr_status pr_completion_request_take_common(
    const pr_completion_context *context,
    const json_t *body,
    pr_completion_request *request,
    pr_refusal *refusal) PR_MUST_CHECK;
// Whether a prompt has tokens and leaves room for one; `parameter` is where it came from.
pr_status pr_completion_request_check_prompt(
    const pr_completion_context *context,
    const char *parameter,
    const pr_prompt *prompt,
    pr_refusal *refusal) PR_MUST_CHECK;
// Whether prompts and max_tokens fit the context together; sets a max_tokens that was left open.
pr_status pr_completion_request_check_context(
    const pr_completion_context *context,
    pr_completion_request *request,
    pr_refusal *refusal) PR_MUST_CHECK;

#endif
