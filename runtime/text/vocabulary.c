// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/text/vocabulary.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/text/byte_buffer.h"

typedef struct entry {
    size_t offset;  // in text
    size_t decoded_offset;
    uint32_t size_bytes, decoded_bytes;
    bool present, added;
} entry;

struct pr_vocabulary {
    pr_byte_buffer text;   // all tokens' bytes
    pr_byte_buffer entry;  // entry[ids]
    int32_t *slot;         // [slots], id or -1: open addressing, linear probing
    size_t slots;          // a power of two, at least twice the number of tokens
    size_t tokens;
};

static entry *entries(const pr_vocabulary *vocabulary) { return vocabulary->entry.data; }

int32_t pr_vocabulary_size(const pr_vocabulary *vocabulary)
{
    return (int32_t)(vocabulary->entry.size_bytes / sizeof(entry));
}

const char *pr_vocabulary_text(const pr_vocabulary *vocabulary, int32_t id, size_t *size_bytes)
{
    if (id < 0 || id >= pr_vocabulary_size(vocabulary) || !entries(vocabulary)[id].present)
        return NULL;
    *size_bytes = entries(vocabulary)[id].size_bytes;
    return (const char *)vocabulary->text.data + entries(vocabulary)[id].offset;
}

const char *pr_vocabulary_decoded(const pr_vocabulary *vocabulary, int32_t id, size_t *size_bytes)
{
    if (!pr_vocabulary_text(vocabulary, id, size_bytes))
        return NULL;
    *size_bytes = entries(vocabulary)[id].decoded_bytes;
    return (const char *)vocabulary->text.data + entries(vocabulary)[id].decoded_offset;
}

// The slot that holds the text, or the free one where it belongs.
static size_t find_slot(const pr_vocabulary *vocabulary, const char *text, size_t size_bytes)
{
    size_t at = pr_hash_bytes(0, text, size_bytes) & (vocabulary->slots - 1);
    while (vocabulary->slot[at] >= 0) {
        size_t other_size = 0;
        const char *other = pr_vocabulary_text(vocabulary, vocabulary->slot[at], &other_size);
        if (other_size == size_bytes && memcmp(other, text, size_bytes) == 0)
            break;
        at = (at + 1) & (vocabulary->slots - 1);
    }
    return at;
}

int32_t pr_vocabulary_find(const pr_vocabulary *vocabulary, const char *text, size_t size_bytes)
{
    return vocabulary->slot[find_slot(vocabulary, text, size_bytes)];
}

int32_t
pr_vocabulary_find_in_model(const pr_vocabulary *vocabulary, const char *text, size_t size_bytes)
{
    int32_t id = pr_vocabulary_find(vocabulary, text, size_bytes);
    return id >= 0 && entries(vocabulary)[id].added ? -1 : id;
}

static pr_status make_slots(pr_vocabulary *vocabulary, size_t tokens)
{
    size_t slots = 64;
    while (slots < 2 * tokens)
        slots *= 2;
    int32_t *slot = malloc(slots * sizeof *slot);
    if (!slot)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for %zu tokens", tokens);
    memset(slot, 0xff, slots * sizeof *slot);
    free(vocabulary->slot);
    vocabulary->slot = slot;
    vocabulary->slots = slots;
    for (int32_t id = 0; id < pr_vocabulary_size(vocabulary); id++) {
        size_t size_bytes = 0;
        const char *text = pr_vocabulary_text(vocabulary, id, &size_bytes);
        if (text)
            slot[find_slot(vocabulary, text, size_bytes)] = id;
    }
    return PR_OK;
}

static pr_status check_id(const pr_vocabulary *vocabulary, const char *text, json_int_t id)
{
    size_t size_bytes = 0;
    if (id < 0 || id >= PR_VOCABULARY_MAX_IDS)
        return pr_fail(
            PR_ERR_FORMAT, "tokenizer: token '%.100s' has id %lld; ids are 0..%d", text,
            (long long)id, PR_VOCABULARY_MAX_IDS - 1);
    const char *other = pr_vocabulary_text(vocabulary, (int32_t)id, &size_bytes);
    if (other)
        return pr_fail(
            PR_ERR_FORMAT, "tokenizer: tokens '%.*s' and '%.100s' have the same id %lld",
            size_bytes < 100 ? (int)size_bytes : 100, other, text, (long long)id);
    return PR_OK;
}

static pr_status
insert(pr_vocabulary *vocabulary, const char *text, size_t size_bytes, json_int_t id, bool added)
{
    PR_TRY(check_id(vocabulary, text, id));
    size_t wanted = ((size_t)id + 1) * sizeof(entry), had = vocabulary->entry.size_bytes;
    if (wanted > had) {
        void *place = pr_byte_buffer_extend(&vocabulary->entry, wanted - had);
        PR_TRY(pr_byte_buffer_check(&vocabulary->entry));
        memset(place, 0, wanted - had);
    }
    size_t offset = vocabulary->text.size_bytes;
    pr_byte_buffer_append(&vocabulary->text, text, size_bytes);
    PR_TRY(pr_byte_buffer_check(&vocabulary->text));
    if (2 * (vocabulary->tokens + 1) > vocabulary->slots)
        PR_TRY(make_slots(vocabulary, 2 * (vocabulary->tokens + 1)));
    size_t slot = find_slot(vocabulary, text, size_bytes);
    entries(vocabulary)[id] =
        (entry){offset, offset, (uint32_t)size_bytes, (uint32_t)size_bytes, true, added};
    vocabulary->slot[slot] = (int32_t)id;
    vocabulary->tokens++;
    return PR_OK;
}

static pr_status load(pr_vocabulary *vocabulary, const json_t *vocab)
{
    size_t size_bytes = json_object_size(vocab);
    PR_TRY(make_slots(vocabulary, size_bytes));
    // One extra byte keeps data non-NULL when all texts are empty.
    if (!pr_byte_buffer_extend(&vocabulary->text, 1))
        return pr_byte_buffer_check(&vocabulary->text);
    const json_t *id;
    for (void *at = json_object_iter((json_t *)(uintptr_t)vocab); at;
         at = json_object_iter_next((json_t *)(uintptr_t)vocab, at)) {
        const char *text = json_object_iter_key(at);
        id = json_object_iter_value(at);
        if (!json_is_integer(id))
            return pr_fail(
                PR_ERR_FORMAT, "tokenizer: the id of token '%.100s' is not an integer", text);
        PR_TRY(insert(vocabulary, text, strlen(text), json_integer_value(id), false));
    }
    return PR_OK;
}

pr_status pr_vocabulary_create(const json_t *vocab, pr_vocabulary **vocabulary)
{
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return pr_fail(PR_ERR_FORMAT, "tokenizer: model.vocab is missing, empty or not an object");
    pr_vocabulary *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory for a vocabulary");
    pr_status status = load(fresh, vocab);
    if (status != PR_OK) {
        pr_vocabulary_destroy(fresh);
        return status;
    }
    *vocabulary = fresh;
    return PR_OK;
}

void pr_vocabulary_destroy(pr_vocabulary *vocabulary)
{
    if (!vocabulary)
        return;
    pr_byte_buffer_free(&vocabulary->text);
    pr_byte_buffer_free(&vocabulary->entry);
    free(vocabulary->slot);
    free(vocabulary);
}

pr_status
pr_vocabulary_add(pr_vocabulary *vocabulary, const char *text, size_t size_bytes, json_int_t id)
{
    return insert(vocabulary, text, size_bytes, id, true);
}

pr_status pr_vocabulary_set_decoded(
    pr_vocabulary *vocabulary, int32_t id, const char *text, size_t size_bytes)
{
    entries(vocabulary)[id].decoded_offset = vocabulary->text.size_bytes;
    entries(vocabulary)[id].decoded_bytes = (uint32_t)size_bytes;
    pr_byte_buffer_append(&vocabulary->text, text, size_bytes);
    return pr_byte_buffer_check(&vocabulary->text);
}
