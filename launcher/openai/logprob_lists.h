// SPDX-License-Identifier: BSD-3-Clause
// The `logprobs` object of a completion: four lists with an element per token.
//
//   tokens            "In"    " the"              what the token says alone
//   token_logprobs    null    -1.25               null: nothing comes before the token
//   top_logprobs      null    {" the": -1.25, ...}    the token is in it, also if it is not among the likely ones
//   text_offset       0       2                   characters of the choice's text before it
//
// Source: OpenAI API reference (legacy completions), as vLLM fills it.
#ifndef PR_LAUNCHER_OPENAI_LOGPROB_LISTS_H
#define PR_LAUNCHER_OPENAI_LOGPROB_LISTS_H

#include <jansson.h>

#include "runtime/batch/plan.h"
#include "runtime/text/tokenizer.h"

typedef struct pr_logprob_lists {
    json_t *tokens, *values, *tops, *offsets;
} pr_logprob_lists;

void pr_logprob_lists_begin(pr_logprob_lists *lists);
void pr_logprob_lists_add(
    pr_logprob_lists *lists,
    const pr_tokenizer *tokenizer,
    const pr_logprob *token,
    const pr_logprob *top,  // [tops] descending
    int32_t tops,
    size_t text_offset);
// A token without a logprob.
void pr_logprob_lists_add_bare(
    pr_logprob_lists *lists, const pr_tokenizer *tokenizer, int32_t token, size_t text_offset);
// A value and a token's text, as the lists have them.
json_t *pr_logprob_lists_value(float logprob);
json_t *pr_logprob_lists_text(const pr_tokenizer *tokenizer, int32_t token);
// The object, new; the lists are empty afterwards.
json_t *pr_logprob_lists_end(pr_logprob_lists *lists);

#endif
