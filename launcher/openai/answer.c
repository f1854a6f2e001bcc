// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/answer.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/text/utf8.h"

pr_status pr_answer_begin(
    const pr_completion_request *request, const pr_tokenizer *tokenizer, pr_answer *answer)
{
    *answer = (pr_answer){.request = request, .stop_token = -1};
    answer->text = calloc(1, 1);
    answer->text_capacity = 1;
    if (!answer->text)
        return pr_fail(PR_ERR_RESOURCE, "no memory for an answer");
    return pr_detokenizer_create(tokenizer, request->skip_special, &answer->detokenizer);
}

void pr_answer_end(pr_answer *answer)
{
    for (int32_t i = 0; i < answer->tokens; i++)
        free(answer->token[i].top);
    free(answer->token);
    free(answer->text);
    pr_detokenizer_destroy(answer->detokenizer);
    *answer = (pr_answer){0};
}

static pr_status append_text(pr_answer *answer, const char *text, size_t size_bytes)
{
    size_t needed = answer->text_bytes + size_bytes + 1;
    if (needed > answer->text_capacity) {
        char *grown = realloc(answer->text, needed * 2);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for an answer of %zu bytes", needed);
        answer->text = grown;
        answer->text_capacity = needed * 2;
    }
    memcpy(answer->text + answer->text_bytes, text, size_bytes);
    answer->text_bytes += size_bytes;
    answer->text_characters += pr_utf8_count(text, size_bytes);
    answer->text[answer->text_bytes] = '\0';
    return PR_OK;
}

static pr_status keep_token(pr_answer *answer, const pr_token_report *report)
{
    if (answer->tokens == answer->capacity) {
        int32_t capacity = answer->capacity ? answer->capacity * 2 : 16;
        pr_answer_token *grown = realloc(answer->token, (size_t)capacity * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d tokens of an answer", capacity);
        answer->token = grown;
        answer->capacity = capacity;
    }
    pr_answer_token kept = {
        .token = report->token,
        .text_offset = answer->text_bytes,
        .characters_before = answer->text_characters,
        .logprob = report->logprob,
        .tops = report->tops,
    };
    if (report->tops > 0) {
        kept.top = malloc((size_t)report->tops * sizeof *kept.top);
        if (!kept.top)
            return pr_fail(PR_ERR_RESOURCE, "no memory for logprobs");
        memcpy(kept.top, report->top, (size_t)report->tops * sizeof *kept.top);
    }
    answer->token[answer->tokens++] = kept;
    return PR_OK;
}

// The earliest stop string that ends in the text from `from` on; ties go to the first listed.
static const char *find_stop(const pr_answer *answer, size_t from, size_t *begin)
{
    const char *found = NULL;
    for (int32_t i = 0; i < answer->request->stops; i++) {
        const char *stop = answer->request->stop[i];
        size_t length = strlen(stop), start = from >= length ? from - length + 1 : 0;
        if (start > answer->text_bytes)
            continue;
        const char *place = memmem(answer->text + start, answer->text_bytes - start, stop, length);
        if (place && (!found || (size_t)(place - answer->text) < *begin)) {
            found = stop;
            *begin = (size_t)(place - answer->text);
        }
    }
    return found;
}

static void cut_at_stop(pr_answer *answer, size_t from)
{
    size_t begin = 0;
    const char *stop = find_stop(answer, from, &begin);
    if (!stop)
        return;
    answer->text_bytes = begin + (answer->request->include_stop ? strlen(stop) : 0);
    answer->text[answer->text_bytes] = '\0';
    answer->text_characters = pr_utf8_count(answer->text, answer->text_bytes);
    answer->done = true;
    answer->finish = PR_FINISH_STOP;
    answer->stop_string = stop;
}

static bool is_eos(const pr_model *model, int32_t token)
{
    for (int32_t i = 0; i < model->eos_count; i++) {
        if (model->eos[i] == token)
            return true;
    }
    return false;
}

pr_status
pr_answer_add(pr_answer *answer, const pr_model *model, const pr_token_report *report, bool *cancel)
{
    const char *piece = "";
    size_t piece_bytes = 0, before = answer->text_bytes;
    *cancel = false;
    if (answer->done)  // generated before the cancel reached the worker
        return PR_OK;
    if (answer->request->no_output) {
        *cancel = report->finish == PR_FINISH_NONE;
        answer->done = true;
        answer->finish = PR_FINISH_LENGTH;
        return PR_OK;
    }
    PR_TRY(keep_token(answer, report));
    // As vLLM: a stop token ends the text, it is no part of it.
    if (report->finish != PR_FINISH_STOP || answer->request->include_stop)
        PR_TRY(pr_detokenizer_feed(answer->detokenizer, report->token, &piece, &piece_bytes));
    PR_TRY(append_text(answer, piece, piece_bytes));
    if (report->finish != PR_FINISH_NONE) {
        PR_TRY(pr_detokenizer_finish(answer->detokenizer, &piece, &piece_bytes));
        PR_TRY(append_text(answer, piece, piece_bytes));
    }
    if (answer->tokens >= answer->request->sampling.min_tokens)
        cut_at_stop(answer, before);
    if (answer->done) {
        *cancel = report->finish == PR_FINISH_NONE;
        return PR_OK;
    }
    if (report->finish != PR_FINISH_NONE) {
        answer->done = true;
        answer->finish = report->finish;
        if (report->finish == PR_FINISH_STOP && !is_eos(model, report->token))
            answer->stop_token = report->token;
    }
    return PR_OK;
}

// The longest proper prefix of `stop` that ends the text.
static size_t begun_stop(const pr_answer *answer, const char *stop)
{
    size_t length = strlen(stop) - 1;
    if (length > answer->text_bytes)
        length = answer->text_bytes;
    while (length > 0 && memcmp(answer->text + answer->text_bytes - length, stop, length) != 0)
        length--;
    return length;
}

size_t pr_answer_settled(const pr_answer *answer)
{
    size_t held = 0;
    for (int32_t i = 0; !answer->done && i < answer->request->stops; i++) {
        size_t begun = begun_stop(answer, answer->request->stop[i]);
        held = begun > held ? begun : held;
    }
    return answer->text_bytes - held;
}

int32_t pr_answer_settled_tokens(const pr_answer *answer, size_t settled_bytes)
{
    int32_t tokens = answer->tokens;
    while (!answer->done && tokens > 0 && answer->token[tokens - 1].text_offset > settled_bytes)
        tokens--;
    return tokens;
}

// ---- The reply ----

json_t *
pr_answer_logprobs(const pr_answer *answer, const pr_tokenizer *tokenizer, int32_t from, int32_t to)
{
    if (answer->request->sampling.top_logprobs < 0)
        return json_null();
    size_t begin = answer->scores ? answer->scores->text_characters : 0;
    pr_logprob_lists lists;
    pr_logprob_lists_begin(&lists);
    if (answer->scores && from == 0)
        pr_prompt_scores_list(answer->scores, tokenizer, &lists);
    for (int32_t i = from; i < to; i++) {
        const pr_answer_token *token = &answer->token[i];
        pr_logprob own = {.token = token->token, .logprob = token->logprob};
        size_t offset = token->characters_before;
        if (offset > answer->text_characters)
            offset = answer->text_characters;
        pr_logprob_lists_add(&lists, tokenizer, &own, token->top, token->tops, begin + offset);
    }
    return pr_logprob_lists_end(&lists);
}

json_t *pr_answer_finish_reason(const pr_answer *answer)
{
    if (!answer->done)
        return json_null();
    return json_string(answer->finish == PR_FINISH_STOP ? "stop" : "length");
}

json_t *pr_answer_stop_reason(const pr_answer *answer)
{
    if (answer->stop_string)
        return json_string(answer->stop_string);
    return answer->stop_token >= 0 ? json_integer(answer->stop_token) : json_null();
}

json_t *pr_answer_choice(
    const pr_answer *answer,
    const pr_tokenizer *tokenizer,
    int32_t index,
    const char *prefix,
    size_t prefix_bytes)
{
    char *text = malloc(prefix_bytes + answer->text_bytes + 1);
    if (!text)
        return NULL;
    if (prefix_bytes > 0)
        memcpy(text, prefix, prefix_bytes);
    memcpy(text + prefix_bytes, answer->text, answer->text_bytes);
    json_t *choice = json_pack(
        "{s:i, s:o, s:o, s:o, s:o}", "index", index, "text",
        json_stringn(text, prefix_bytes + answer->text_bytes), "logprobs",
        pr_answer_logprobs(answer, tokenizer, 0, answer->tokens), "finish_reason",
        pr_answer_finish_reason(answer), "stop_reason", pr_answer_stop_reason(answer));
    free(text);
    return choice;
}
