// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/prompt_scores.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/text/utf8.h"

// Where each token begins in the text of all.
static pr_status place_tokens(pr_prompt_scores *scores, const pr_tokenizer *tokenizer)
{
    pr_status status = PR_OK;
    pr_detokenizer *text;
    const char *piece;
    size_t piece_bytes = 0;
    PR_TRY(pr_detokenizer_create(tokenizer, true, &text));
    for (int32_t i = 0; status == PR_OK && i < scores->prompt->tokens; i++) {
        scores->score[i].text_offset = scores->text_characters;
        status = pr_detokenizer_feed(text, scores->prompt->token[i], &piece, &piece_bytes);
        scores->text_characters += pr_utf8_count(piece, piece_bytes);
    }
    if (status == PR_OK)
        status = pr_detokenizer_finish(text, &piece, &piece_bytes);
    if (status == PR_OK)
        scores->text_characters += pr_utf8_count(piece, piece_bytes);
    pr_detokenizer_destroy(text);
    return status;
}

pr_status pr_prompt_scores_begin(
    const pr_prompt *prompt,
    const pr_tokenizer *tokenizer,
    int32_t most_tops,
    pr_prompt_scores *scores)
{
    size_t tokens = (size_t)prompt->tokens;
    *scores = (pr_prompt_scores){.prompt = prompt, .most_tops = most_tops};
    scores->score = calloc(tokens + 1, sizeof *scores->score);
    scores->top = malloc((tokens * (size_t)most_tops + 1) * sizeof *scores->top);
    pr_status status;
    if (scores->score && scores->top)
        status = place_tokens(scores, tokenizer);
    else
        status = pr_fail(PR_ERR_RESOURCE, "no memory for the logprobs of %zu tokens", tokens);
    if (status != PR_OK)
        pr_prompt_scores_end(scores);
    return status;
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
    pr_prompt_score *score = &scores->score[entry->index];
    score->known = true;
    score->tops = entry->tops;
    score->own = (pr_logprob){.token = entry->token, .logprob = entry->logprob};
    if (entry->tops > 0)
        memcpy(tops_of(scores, entry->index), entry->top, (size_t)entry->tops * sizeof *entry->top);
}

void pr_prompt_scores_list(
    const pr_prompt_scores *scores, const pr_tokenizer *tokenizer, pr_logprob_lists *lists)
{
    for (int32_t i = 0; i < scores->prompt->tokens; i++) {
        const pr_prompt_score *score = &scores->score[i];
        if (score->known)
            pr_logprob_lists_add(
                lists, tokenizer, &score->own, tops_of(scores, i), score->tops, score->text_offset);
        else
            pr_logprob_lists_add_bare(
                lists, tokenizer, scores->prompt->token[i], score->text_offset);
    }
}
