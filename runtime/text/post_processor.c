// SPDX-License-Identifier: BSD-3-Clause
// Templates of a Sequence nest, so all of them together are one list of ids in front of the text and
// one behind it.
#include "runtime/text/post_processor.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/text/json_field.h"

struct pr_post_processor {
    pr_byte_buffer front, back;  // int32_t[]
};

static pr_status prepend(pr_byte_buffer *token, const void *front, size_t size_bytes)
{
    size_t size = token->size_bytes;
    if (size_bytes == 0)
        return PR_OK;
    if (!pr_byte_buffer_extend(token, size_bytes))
        return pr_byte_buffer_check(token);
    memmove((char *)token->data + size_bytes, token->data, size);
    memcpy(token->data, front, size_bytes);
    return PR_OK;
}

// Appends the ids that special_tokens gives the name.
static pr_status load_special_token(
    const json_t *special_tokens,
    const char *name,
    const pr_vocabulary *vocabulary,
    pr_byte_buffer *token)
{
    const json_t *ids = json_object_get(json_object_get(special_tokens, name), "ids");
    if (!json_is_array(ids))
        return pr_fail(
            PR_ERR_FORMAT,
            "tokenizer: TemplateProcessing: special_tokens lacks the ids of '%.100s'", name);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *item = json_array_get(ids, i);
        json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        if (id < 0 || id >= pr_vocabulary_size(vocabulary))
            return pr_fail(
                PR_ERR_FORMAT,
                "tokenizer: TemplateProcessing: '%.100s' has an id outside the vocabulary (0..%d)",
                name, pr_vocabulary_size(vocabulary) - 1);
        int32_t value = (int32_t)id;
        pr_byte_buffer_append(token, &value, sizeof value);
    }
    return pr_byte_buffer_check(token);
}

static pr_status load_template_item(
    const json_t *item,
    const json_t *special_tokens,
    const pr_vocabulary *vocabulary,
    bool *text_seen,
    pr_byte_buffer side[2])
{
    const json_t *special = json_object_get(item, "SpecialToken");
    const json_t *sequence = json_object_get(item, "Sequence");
    const char *name;
    size_t size_bytes;
    if (special) {
        PR_TRY(pr_json_field_string(special, "TemplateProcessing", "id", &name, &size_bytes));
        return load_special_token(special_tokens, name, vocabulary, &side[*text_seen]);
    }
    PR_TRY(pr_json_field_string(sequence, "TemplateProcessing", "id", &name, &size_bytes));
    if (strcmp(name, "A") != 0 || *text_seen)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "tokenizer: TemplateProcessing: \"single\" must name Sequence A exactly once");
    *text_seen = true;
    return PR_OK;
}

static pr_status load_template(
    pr_post_processor *post_processor, const json_t *json, const pr_vocabulary *vocabulary)
{
    const json_t *single, *special_tokens = json_object_get(json, "special_tokens");
    pr_byte_buffer side[2] = {{0}, {0}};  // in front of the text, behind it
    bool text_seen = false;
    PR_TRY(pr_json_field_array(json, "TemplateProcessing", "single", &single));
    pr_status status = PR_OK;
    for (size_t i = 0; i < json_array_size(single) && status == PR_OK; i++)
        status = load_template_item(
            json_array_get(single, i), special_tokens, vocabulary, &text_seen, side);
    if (status == PR_OK && !text_seen)
        status = pr_fail(
            PR_ERR_UNSUPPORTED,
            "tokenizer: TemplateProcessing: \"single\" must name Sequence A exactly once");
    if (status == PR_OK)
        status = prepend(&post_processor->front, side[0].data, side[0].size_bytes);
    pr_byte_buffer_append(&post_processor->back, side[1].data, side[1].size_bytes);
    pr_byte_buffer_free(&side[0]);
    pr_byte_buffer_free(&side[1]);
    return status != PR_OK ? status : pr_byte_buffer_check(&post_processor->back);
}

static pr_status load(
    pr_post_processor *post_processor,
    const json_t *json,
    const pr_vocabulary *vocabulary,
    int depth)
{
    const char *type;
    PR_TRY(pr_json_field_type(json, "post_processor", &type));
    if (strcmp(type, "ByteLevel") == 0)
        return PR_OK;
    if (strcmp(type, "TemplateProcessing") == 0)
        return load_template(post_processor, json, vocabulary);
    if (strcmp(type, "Sequence") != 0)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "tokenizer: post_processor '%.100s' is not supported: use TemplateProcessing, "
            "ByteLevel or Sequence",
            type);
    const json_t *list;
    PR_TRY(pr_json_field_array(json, "post_processor Sequence", "processors", &list));
    if (depth == PR_JSON_FIELD_MAX_DEPTH)
        return pr_fail(PR_ERR_FORMAT, "tokenizer: post_processor Sequences are nested too deep");
    for (size_t i = 0; i < json_array_size(list); i++)
        PR_TRY(load(post_processor, json_array_get(list, i), vocabulary, depth + 1));
    return PR_OK;
}

pr_status pr_post_processor_create(
    const json_t *json, const pr_vocabulary *vocabulary, pr_post_processor **post_processor)
{
    pr_post_processor *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a post_processor");
    pr_status status = json && !json_is_null(json) ? load(fresh, json, vocabulary, 0) : PR_OK;
    if (status != PR_OK) {
        pr_post_processor_destroy(fresh);
        return status;
    }
    *post_processor = fresh;
    return PR_OK;
}

void pr_post_processor_destroy(pr_post_processor *post_processor)
{
    if (!post_processor)
        return;
    pr_byte_buffer_free(&post_processor->front);
    pr_byte_buffer_free(&post_processor->back);
    free(post_processor);
}

static pr_status set_one(pr_byte_buffer *side, int32_t token)
{
    pr_byte_buffer_clear(side);
    if (token >= 0)
        pr_byte_buffer_append(side, &token, sizeof token);
    return pr_byte_buffer_check(side);
}

pr_status pr_post_processor_set_front(pr_post_processor *post_processor, int32_t token)
{
    return set_one(&post_processor->front, token);
}

pr_status pr_post_processor_set_back(pr_post_processor *post_processor, int32_t token)
{
    return set_one(&post_processor->back, token);
}

pr_status pr_post_processor_apply(const pr_post_processor *post_processor, pr_byte_buffer *token)
{
    PR_TRY(prepend(token, post_processor->front.data, post_processor->front.size_bytes));
    pr_byte_buffer_append(token, post_processor->back.data, post_processor->back.size_bytes);
    return pr_byte_buffer_check(token);
}
