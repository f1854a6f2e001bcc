// SPDX-License-Identifier: BSD-3-Clause
// The growing answer of one sequence: tokens become text piece by piece, stop strings are found
// across token borders, logprobs are kept for the reply.
// Threads: one at a time.
#ifndef PR_LAUNCHER_OPENAI_ANSWER_H
#define PR_LAUNCHER_OPENAI_ANSWER_H

#include "launcher/openai/prompt_scores.h"
#include "launcher/request/completion_request.h"
#include "runtime/batch/plan.h"

typedef struct pr_answer_token {
    int32_t token;
    size_t text_offset, characters_before;  // of text before this token's piece: bytes, characters
    float logprob;
    int32_t tops;
    pr_logprob *top;  // [tops]
} pr_answer_token;

typedef struct pr_answer {
    const pr_completion_request *request;  // borrowed: stop strings and flags
    const pr_prompt_scores *scores;        // borrowed: shown before the answer's; NULL: none
    pr_detokenizer *detokenizer;
    char *text;  // NUL-terminated
    size_t text_bytes, text_characters, text_capacity;
    pr_answer_token *token;
    int32_t tokens, capacity;
    bool done;
    pr_finish finish;         // STOP or LENGTH when done
    const char *stop_string;  // the one that was found, or NULL
    int32_t stop_token;       // the stop token that is not an eos, or -1
} pr_answer;

pr_status pr_answer_begin(
    const pr_completion_request *request,
    const pr_tokenizer *tokenizer,
    pr_answer *answer) PR_MUST_CHECK;
void pr_answer_end(pr_answer *answer);

// Takes one token. *cancel: a stop string ended the answer, but the engine still generates.
pr_status
pr_answer_add(pr_answer *answer, const pr_model *model, const pr_token_report *report, bool *cancel)
    PR_MUST_CHECK;

// Bytes of the text that no later token can take back: all but what may become a stop string.
size_t pr_answer_settled(const pr_answer *answer);
// Tokens that begin within the first settled_bytes: a cut moves the offsets of others.
int32_t pr_answer_settled_tokens(const pr_answer *answer, size_t settled_bytes);

// Parts of a choice, new values; NULL without memory. logprobs: of tokens [from, to), after the prompt's scores if
// from is 0; null if not asked for. The reasons are null until the answer is done.
json_t *pr_answer_logprobs(
    const pr_answer *answer, const pr_tokenizer *tokenizer, int32_t from, int32_t to);
json_t *pr_answer_finish_reason(const pr_answer *answer);
json_t *pr_answer_stop_reason(const pr_answer *answer);

// One choice of /v1/completions. prefix[prefix_bytes] is put before the text (echo).
json_t *pr_answer_choice(
    const pr_answer *answer,
    const pr_tokenizer *tokenizer,
    int32_t index,
    const char *prefix,
    size_t prefix_bytes);

#endif
