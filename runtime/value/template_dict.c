// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/value/template_dict.h"

#include <math.h>
#include <string.h>

#include "runtime/base/hash.h"

// Up to here a look through the entries beats an index.
enum { INDEX_FROM = 8 };

// Equal keys have equal hashes: 1, 1.0 and True are one key.
static pr_status hash_key(pr_template_heap *heap, const pr_template_value *key, uint64_t *hash)
{
    switch (key->kind) {
    case PR_TEMPLATE_STRING:
        *hash = pr_hash_bytes(1, key->text.data, key->text.size_bytes);
        return PR_OK;
    case PR_TEMPLATE_BOOL:
    case PR_TEMPLATE_INTEGER:
        *hash = pr_hash_mix((uint64_t)pr_template_value_as_integer(key));
        return PR_OK;
    case PR_TEMPLATE_FLOAT:
        *hash = fabs(key->real) < 9e15 ? pr_hash_mix((uint64_t)(int64_t)key->real) : 2;
        return PR_OK;
    case PR_TEMPLATE_NONE:
        *hash = 3;
        return PR_OK;
    default:
        return pr_template_heap_fail(
            heap, "unhashable type: '%s' cannot be a key", pr_template_value_kind_name(key));
    }
}

static bool same_key(const pr_template_value *left, const pr_template_value *right)
{
    if (left->kind == PR_TEMPLATE_STRING || right->kind == PR_TEMPLATE_STRING)
        return left->kind == right->kind &&
               pr_template_text_compare(&left->text, &right->text) == 0;
    if (left->kind == PR_TEMPLATE_NONE || right->kind == PR_TEMPLATE_NONE)
        return left->kind == right->kind;
    if (left->kind == PR_TEMPLATE_FLOAT || right->kind == PR_TEMPLATE_FLOAT)
        return pr_template_value_as_real(left) == pr_template_value_as_real(right);
    return pr_template_value_as_integer(left) == pr_template_value_as_integer(right);
}

static pr_template_entry *find_entry(
    const pr_template_dict *dict, const pr_template_value *key, uint64_t hash, size_t *looked_at)
{
    if (!dict->index) {
        for (size_t i = 0; i < dict->size; i++) {
            if (dict->entry[i].hash == hash && same_key(&dict->entry[i].key, key))
                return &dict->entry[i];
        }
        return NULL;
    }
    for (size_t slot = hash & (dict->slots - 1); dict->index[slot] >= 0;
         slot = (slot + 1) & (dict->slots - 1)) {
        pr_template_entry *entry = &dict->entry[dict->index[slot]];
        ++*looked_at;
        if (entry->hash == hash && same_key(&entry->key, key))
            return entry;
    }
    return NULL;
}

static void index_entry(pr_template_dict *dict, size_t at)
{
    size_t slot = dict->entry[at].hash & (dict->slots - 1);
    while (dict->index[slot] >= 0)
        slot = (slot + 1) & (dict->slots - 1);
    dict->index[slot] = (int32_t)at;
}

static pr_status grow_dict(pr_template_heap *heap, pr_template_dict *dict)
{
    size_t wanted = dict->capacity < 4 ? 4 : dict->capacity * 2;
    pr_template_entry *fresh = pr_template_heap_take(heap, wanted * sizeof *fresh);
    if (!fresh)
        return PR_ERR_REQUEST;
    if (dict->size > 0)
        memcpy(fresh, dict->entry, dict->size * sizeof *fresh);
    dict->entry = fresh;
    dict->capacity = wanted;
    if (wanted <= INDEX_FROM)
        return PR_OK;
    dict->slots = 4 * wanted;
    dict->index = pr_template_heap_take(heap, dict->slots * sizeof *dict->index);
    if (!dict->index)
        return PR_ERR_REQUEST;
    memset(dict->index, 0xff, dict->slots * sizeof *dict->index);
    for (size_t i = 0; i < dict->size; i++)
        index_entry(dict, i);
    return PR_OK;
}

pr_status pr_template_dict_set(
    pr_template_heap *heap, pr_template_dict *dict, pr_template_value key, pr_template_value value)
{
    uint64_t hash;
    size_t looked_at = 1;
    PR_TRY(hash_key(heap, &key, &hash));
    pr_template_entry *entry = find_entry(dict, &key, hash, &looked_at);
    PR_TRY(pr_template_heap_charge(heap, looked_at));
    if (entry) {
        entry->value = value;
        return PR_OK;
    }
    if (dict->size == dict->capacity)
        PR_TRY(grow_dict(heap, dict));
    dict->entry[dict->size] = (pr_template_entry){.key = key, .value = value, .hash = hash};
    if (dict->index)
        index_entry(dict, dict->size);
    dict->size++;
    return PR_OK;
}

pr_status pr_template_dict_find(
    pr_template_heap *heap,
    const pr_template_dict *dict,
    const pr_template_value *key,
    const pr_template_value **found)
{
    uint64_t hash;
    size_t looked_at = 1;
    PR_TRY(hash_key(heap, key, &hash));
    const pr_template_entry *entry = find_entry(dict, key, hash, &looked_at);
    *found = entry ? &entry->value : NULL;
    return pr_template_heap_charge(heap, looked_at);
}

const pr_template_value *
pr_template_dict_find_text(const pr_template_dict *dict, const char *key, size_t size_bytes)
{
    size_t looked_at = 0;
    pr_template_value text = pr_template_value_string(pr_template_text_of(key, size_bytes, false));
    const pr_template_entry *entry =
        find_entry(dict, &text, pr_hash_bytes(1, key, size_bytes), &looked_at);
    return entry ? &entry->value : NULL;
}
