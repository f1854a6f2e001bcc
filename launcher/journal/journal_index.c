// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/journal/journal_index.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

static const int64_t MOST_POSITIONS = INT64_C(1) << 36;

static void free_tokens(pr_journal_entry *entry)
{
    for (int32_t i = 0; i < entry->answers; i++) {
        pr_journal_answer *answer = &entry->answer[i];
        for (int32_t j = 0; j < answer->tokens; j++)
            free((void *)(uintptr_t)answer->token[j].top);
        free(answer->token);
    }
    free(entry->answer);
    entry->answer = NULL;
    entry->answers = 0;
}

void pr_journal_index_clear(pr_journal_index *index)
{
    for (int64_t i = 0; i < index->positions; i++)
        free_tokens(&index->entry[i]);
    free(index->entry);
    *index = (pr_journal_index){0};
}

const pr_journal_entry *pr_journal_index_find(const pr_journal_index *index, int64_t position)
{
    bool known = position >= 0 && position < index->positions && index->entry[position].claimed;
    return known ? &index->entry[position] : NULL;
}

static pr_journal_entry *claimed_entry(const pr_journal_index *index, int64_t position)
{
    return pr_journal_index_find(index, position) ? &index->entry[position] : NULL;
}

static pr_status make_room(pr_journal_index *index, int64_t position)
{
    if (position >= index->capacity) {
        int64_t capacity = index->capacity ? index->capacity * 2 : 1024;
        while (capacity <= position)
            capacity *= 2;
        pr_journal_entry *grown = realloc(index->entry, (size_t)capacity * sizeof *grown);
        if (!grown)
            return pr_fail(
                PR_ERR_RESOURCE, "no memory for a journal of %lld lines", (long long)capacity);
        memset(grown + index->capacity, 0, (size_t)(capacity - index->capacity) * sizeof *grown);
        index->entry = grown;
        index->capacity = capacity;
    }
    if (position >= index->positions)
        index->positions = position + 1;
    return PR_OK;
}

pr_status pr_journal_index_claim(pr_journal_index *index, const pr_journal_claim *claim)
{
    if (claim->position < 0 || claim->position >= MOST_POSITIONS)
        return PR_OK;
    PR_TRY(make_room(index, claim->position));
    pr_journal_entry *entry = &index->entry[claim->position];
    if (entry->claimed)
        return PR_OK;
    entry->claimed = true;
    entry->claim = *claim;
    index->totals.claimed++;
    return PR_OK;
}

void pr_journal_index_forget_tokens(pr_journal_index *index, int64_t position)
{
    pr_journal_entry *entry = claimed_entry(index, position);
    if (entry)
        free_tokens(entry);
}

void pr_journal_index_finish(
    pr_journal_index *index,
    int32_t file,
    const pr_journal_result *result,
    int64_t line_offset,
    size_t line_bytes)
{
    pr_journal_entry *entry = claimed_entry(index, result->position);
    if (!entry || entry->done)
        return;
    free_tokens(entry);
    entry->done = true;
    entry->refused = result->refused != 0;
    entry->file = file;
    entry->result_offset = line_offset;
    entry->result_bytes = (uint32_t)line_bytes;
    index->totals.answered += !entry->refused;
    index->totals.refused += entry->refused;
    index->totals.prompt_tokens += result->prompt_tokens;
    index->totals.output_tokens += result->output_tokens;
}

static pr_status find_answer(pr_journal_entry *entry, int32_t number, pr_journal_answer **answer)
{
    for (int32_t i = 0; i < entry->answers; i++) {
        *answer = &entry->answer[i];
        if ((*answer)->answer == number)
            return PR_OK;
    }
    pr_journal_answer *grown = realloc(entry->answer, ((size_t)entry->answers + 1) * sizeof *grown);
    if (!grown)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the tokens of a journal");
    entry->answer = grown;
    *answer = &grown[entry->answers++];
    **answer = (pr_journal_answer){.answer = number};
    return PR_OK;
}

static pr_status
keep_token(pr_journal_answer *answer, const pr_journal_token *token, const void *tops)
{
    if (answer->tokens == answer->capacity) {
        int32_t capacity = answer->capacity ? answer->capacity * 2 : 16;
        pr_token_report *grown = realloc(answer->token, (size_t)capacity * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for the tokens of a journal");
        answer->token = grown;
        answer->capacity = capacity;
    }
    size_t tops_bytes = (size_t)token->tops * sizeof(pr_logprob);
    pr_logprob *top = token->tops > 0 ? malloc(tops_bytes) : NULL;
    if (token->tops > 0 && !top)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the tokens of a journal");
    if (top)
        memcpy(top, tops, tops_bytes);
    answer->token[answer->tokens++] = (pr_token_report){
        .index = token->index,
        .token = token->token,
        .finish = (pr_finish)token->finish,
        .logprob = token->logprob,
        .tops = token->tops,
        .top = top,
    };
    return PR_OK;
}

static pr_status add_token(pr_journal_index *index, const pr_journal_token *token, const void *tops)
{
    pr_journal_entry *entry = claimed_entry(index, token->position);
    pr_journal_answer *answer = NULL;
    if (!entry || entry->done)
        return PR_OK;
    PR_TRY(find_answer(entry, token->answer, &answer));
    return token->index == answer->tokens ? keep_token(answer, token, tops) : PR_OK;
}

static pr_status add_tokens(pr_journal_index *index, const pr_journal_record *record)
{
    const unsigned char *at = record->data, *end = at + record->size_bytes;
    while ((size_t)(end - at) >= sizeof(pr_journal_token)) {
        pr_journal_token token;
        memcpy(&token, at, sizeof token);
        at += sizeof token;
        if (token.tops < 0 || token.tops > PR_MAX_TOP_LOGPROBS ||
            (size_t)(end - at) < (size_t)token.tops * sizeof(pr_logprob))
            return PR_OK;
        PR_TRY(add_token(index, &token, at));
        at += (size_t)token.tops * sizeof(pr_logprob);
    }
    return PR_OK;
}

pr_status
pr_journal_index_add(pr_journal_index *index, int32_t file, const pr_journal_record *record)
{
    pr_journal_claim claim;
    pr_journal_result result;
    switch (record->kind) {
    case PR_JOURNAL_CLAIM:
        if (record->size_bytes != sizeof claim)
            return PR_OK;
        memcpy(&claim, record->data, sizeof claim);
        return pr_journal_index_claim(index, &claim);
    case PR_JOURNAL_TOKENS:
        return add_tokens(index, record);
    case PR_JOURNAL_RESULT:
        if (record->size_bytes < sizeof result)
            return PR_OK;
        memcpy(&result, record->data, sizeof result);
        pr_journal_index_finish(
            index, file, &result, record->offset + (int64_t)sizeof result,
            record->size_bytes - sizeof result);
        return PR_OK;
    case PR_JOURNAL_OPENING:
    case PR_JOURNAL_CLOSING:
        return PR_OK;
    }
    return PR_OK;
}
