// SPDX-License-Identifier: BSD-3-Clause
// One sequence to generate: prompt tokens and sampling parameters. A client request with n > 1 is n
// of these. The record is plain; whoever creates it owns it (pr_request_destroy frees its arrays).
// Tenant and targets are the controller's own: workers do not need them and plans do not carry them.
#ifndef PR_RUNTIME_BATCH_REQUEST_H
#define PR_RUNTIME_BATCH_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/grammar/grammar_source.h"

enum { PR_MAX_STOP_TOKENS = 32, PR_MAX_LOGIT_BIAS = 1024, PR_MAX_TOP_LOGPROBS = 20 };

typedef struct pr_logit_bias {
    int32_t token;
    float bias;  // -100..100
} pr_logit_bias;

typedef struct pr_sampling {
    float temperature;         // 0 = greedy
    float top_p;               // (0, 1]; 1 = off
    float min_p;               // [0, 1]; 0 = off
    int32_t top_k;             // 0 or -1 = off
    float repetition_penalty;  // > 0; 1 = off. Over prompt and output (as vLLM and transformers)
    float presence_penalty;    // over output
    float frequency_penalty;   // over output
    uint64_t seed;             // with choice and position: the key of the random numbers
    int32_t choice;            // index of this sequence within its request's n
    int32_t max_tokens;        // >= 1
    int32_t min_tokens;        // no stop token before so many
    bool ignore_eos;
    int32_t top_logprobs;     // -1 = no logprobs; 0..20
    int32_t prompt_logprobs;  // the same for the tokens of the prompt, from the second on
    int32_t stop_tokens;      // end the sequence; the eos tokens are among them unless ignore_eos
    int32_t stop_token[PR_MAX_STOP_TOKENS];
    int32_t biases;
    pr_logit_bias *bias;        // [biases], ascending token
    pr_grammar_source grammar;  // what the output must look like; owned
} pr_sampling;

typedef struct pr_request {
    uint64_t id;  // unique within the run
    int32_t prompt_tokens;
    int32_t *prompt;  // [prompt_tokens]
    pr_sampling sampling;
    int32_t priority;  // lower first (vLLM's meaning); equal: first come, first served
    uint64_t salt;     // tenant salt of the prefix cache
    uint64_t tenant;   // whose share of the service it takes; 0: nobody's in particular
    int32_t ttft_target_ms, tpot_target_ms;  // to first token, per further token; 0: none
    uint64_t sibling_of;  // id of choice 0 of the same request, whose prefill this one waits for to
                          // share its blocks; its own id if it is choice 0
} pr_request;

void pr_sampling_defaults(pr_sampling *sampling);
void pr_sampling_free(pr_sampling *sampling);  // what it owns

// Deep copy and free. The copy is one the receiver owns.
pr_status pr_request_copy(const pr_request *request, pr_request **copy) PR_MUST_CHECK;
void pr_request_destroy(pr_request *request);

#endif
