// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/prompt_scores.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

pr_status
pr_prompt_scores_begin(const pr_prompt *prompt, int32_t most_tops, pr_prompt_scores *scores)
{
    size_t tokens = (size_t)prompt->tokens;
    *scores = (pr_prompt_scores){.prompt = prompt, .most_tops = most_tops};
    scores->score = calloc(tokens + 1, sizeof *scores->score);
    scores->top = malloc((tokens * (size_t)most_tops + 1) * sizeof *scores->top);
    if (scores->score && scores->top)
        return PR_OK;
    pr_prompt_scores_end(scores);
    return pr_fail(PR_ERR_RESOURCE, "no memory for the logprobs of %d tokens", prompt->tokens);
}

void pr_prompt_scores_end(pr_prompt_scores *scores)
{
    free(scores->score);
    free(scores->top);
    *scores = (pr_prompt_scores){0};
}

void pr_prompt_scores_prepare(pr_request *request)
{
    if (request->sampling.prompt_logprobs < 0)
        return;
    request->salt = pr_hash_mix(request->salt ^ pr_hash_mix(request->sibling_of));
    if (request->id != request->sibling_of)
        request->sampling.prompt_logprobs = -1;
}

static pr_logprob *tops_of(const pr_prompt_scores *scores, int32_t index)
{
    return scores->top + (size_t)index * (size_t)scores->most_tops;
}

void pr_prompt_scores_add(pr_prompt_scores *scores, const pr_prompt_logprob *entry)
{
    if (entry->index < 1 || entry->index >= scores->prompt->tokens ||
        entry->tops > scores->most_tops || entry->token != scores->prompt->token[entry->index])
        return;
    scores->score[entry->index] = (pr_prompt_score){
        .known = true,
        .tops = entry->tops,
        .own = {.token = entry->token, .logprob = entry->logprob},
    };
    if (entry->tops > 0)
        memcpy(tops_of(scores, entry->index), entry->top, (size_t)entry->tops * sizeof *entry->top);
}

pr_status pr_prompt_scores_list(
    const pr_prompt_scores *scores, const pr_tokenizer *tokenizer, pr_logprob_lists *lists)
{
    pr_status status = PR_OK;
    pr_detokenizer *text;
    size_t offset = 0;
    PR_TRY(pr_detokenizer_create(tokenizer, true, &text));
    for (int32_t i = 0; status == PR_OK && i < scores->prompt->tokens; i++) {
        const pr_prompt_score *score = &scores->score[i];
        int32_t token = scores->prompt->token[i];
        const char *piece;
        size_t piece_bytes = 0;
        if (score->known)
            pr_logprob_lists_add(
                lists, tokenizer, &score->own, tops_of(scores, i), score->tops, offset);
        else
            pr_logprob_lists_add_bare(lists, tokenizer, token, offset);
        status = pr_detokenizer_feed(text, token, &piece, &piece_bytes);
        offset += piece_bytes;
    }
    pr_detokenizer_destroy(text);
    return status;
}
