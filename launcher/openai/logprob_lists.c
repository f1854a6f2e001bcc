// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/openai/logprob_lists.h"

#include <stdlib.h>

void pr_logprob_lists_begin(pr_logprob_lists *lists)
{
    *lists = (pr_logprob_lists){json_array(), json_array(), json_array(), json_array()};
}

// JSON has no infinity; vLLM's floor stands for "impossible".
json_t *pr_logprob_lists_value(float logprob)
{
    return json_real(logprob < -9999.0f ? -9999.0 : (double)logprob);
}

json_t *pr_logprob_lists_text(const pr_tokenizer *tokenizer, int32_t token)
{
    char *text = NULL;
    size_t size_bytes = 0;
    if (pr_tokenizer_decode(tokenizer, &token, 1, false, &text, &size_bytes) != PR_OK)
        return json_string("");
    json_t *value = json_stringn(text, size_bytes);
    free(text);
    return value ? value : json_string("");
}

// Two tokens may print alike (parts of characters): the likelier one keeps the key.
static void add_top(json_t *map, const pr_tokenizer *tokenizer, const pr_logprob *top)
{
    json_t *key = pr_logprob_lists_text(tokenizer, top->token);
    if (!json_object_get(map, json_string_value(key)))
        json_object_set_new(map, json_string_value(key), pr_logprob_lists_value(top->logprob));
    json_decref(key);
}

static void
add_token(pr_logprob_lists *lists, const pr_tokenizer *tokenizer, int32_t token, size_t text_offset)
{
    json_array_append_new(lists->tokens, pr_logprob_lists_text(tokenizer, token));
    json_array_append_new(lists->offsets, json_integer((json_int_t)text_offset));
}

void pr_logprob_lists_add(
    pr_logprob_lists *lists,
    const pr_tokenizer *tokenizer,
    const pr_logprob *token,
    const pr_logprob *top,
    int32_t tops,
    size_t text_offset)
{
    json_t *map = json_object();
    for (int32_t i = 0; i < tops; i++)
        add_top(map, tokenizer, &top[i]);
    add_top(map, tokenizer, token);
    add_token(lists, tokenizer, token->token, text_offset);
    json_array_append_new(lists->values, pr_logprob_lists_value(token->logprob));
    json_array_append_new(lists->tops, map);
}

void pr_logprob_lists_add_bare(
    pr_logprob_lists *lists, const pr_tokenizer *tokenizer, int32_t token, size_t text_offset)
{
    add_token(lists, tokenizer, token, text_offset);
    json_array_append_new(lists->values, json_null());
    json_array_append_new(lists->tops, json_null());
}

json_t *pr_logprob_lists_end(pr_logprob_lists *lists)
{
    json_t *object = json_pack(
        "{s:o, s:o, s:o, s:o}", "tokens", lists->tokens, "token_logprobs", lists->values,
        "top_logprobs", lists->tops, "text_offset", lists->offsets);
    *lists = (pr_logprob_lists){0};
    return object;
}
