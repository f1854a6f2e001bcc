// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/prompt_scorer.h"

#include <assert.h>
#include <stdlib.h>

#include "runtime/base/log.h"

struct pr_prompt_scorer {
    pr_prompt_scorer_params params;
    int32_t noted, done;
    int32_t *row;              // [max_rows] of the step
    pr_prompt_logprob *entry;  // [max_rows]; tops: as many as asked for, until it is scored
    pr_sampled *sampled;       // [rows_at_once]
};

pr_status pr_prompt_scorer_create(const pr_prompt_scorer_params *params, pr_prompt_scorer **scorer)
{
    pr_prompt_scorer *made = calloc(1, sizeof *made);
    if (made) {
        size_t rows = (size_t)params->max_rows, at_once = (size_t)params->rows_at_once;
        made->params = *params;
        made->row = calloc(rows, sizeof *made->row);
        made->entry = calloc(rows, sizeof *made->entry);
        made->sampled = calloc(at_once, sizeof *made->sampled);
    }
    if (!made || !made->row || !made->entry || !made->sampled) {
        pr_prompt_scorer_destroy(made);
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for the logprobs of %d prompt tokens", params->max_rows);
    }
    *scorer = made;
    return PR_OK;
}

void pr_prompt_scorer_destroy(pr_prompt_scorer *scorer)
{
    if (!scorer)
        return;
    free(scorer->row);
    free(scorer->entry);
    free(scorer->sampled);
    free(scorer);
}

void pr_prompt_scorer_begin(pr_prompt_scorer *scorer) { scorer->noted = scorer->done = 0; }

void pr_prompt_scorer_note(
    pr_prompt_scorer *scorer, const pr_slot *slot, int32_t first_row, int32_t start, int32_t count)
{
    const pr_request *request = slot->request;
    if (request->sampling.prompt_logprobs < 0)
        return;
    // What follows the prompt are outputs: sampled, or computed again after a preemption.
    for (int32_t i = 0; i < count && start + i + 1 < request->prompt_tokens; i++) {
        assert(scorer->noted < scorer->params.max_rows);
        scorer->row[scorer->noted] = first_row + i;
        scorer->entry[scorer->noted++] = (pr_prompt_logprob){
            .id = request->id,
            .generation = slot->generation,
            .index = start + i + 1,
            .token = request->prompt[start + i + 1],
            .tops = request->sampling.prompt_logprobs,
        };
    }
}

static void score(pr_prompt_scorer *scorer, const float *logits, int32_t entries)
{
    for (int32_t i = 0; i < entries; i++) {
        pr_prompt_logprob *entry = &scorer->entry[scorer->done + i];
        pr_sampled *sampled = &scorer->sampled[i];
        const float *row = logits + (size_t)i * (size_t)scorer->params.vocabulary;
        pr_sampler_score(scorer->params.sampler, row, entry->token, entry->tops, sampled);
        entry->logprob = sampled->logprob;
        entry->tops = sampled->tops;
        entry->top = sampled->top;
    }
}

pr_status
pr_prompt_scorer_next(pr_prompt_scorer *scorer, int32_t *entries, const pr_prompt_logprob **entry)
{
    int32_t left = scorer->noted - scorer->done;
    int32_t count = left < scorer->params.rows_at_once ? left : scorer->params.rows_at_once;
    if (count > 0) {
        float *logits;
        const int32_t *row = scorer->row + scorer->done;
        PR_TRY(pr_forward_logits(scorer->params.forward, row, count, &logits));
        if (scorer->params.leads)
            score(scorer, logits, count);
    }
    *entry = scorer->entry + scorer->done;
    *entries = count;
    scorer->done += count;
    return PR_OK;
}
