// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/sampling/token_mask.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/sampling/token_automaton.h"

enum { LEAST_MASKS = 16, MOST_MASKS = 8192 };

// A kept mask. Entries form chains by hash, and one list from the last used to the longest unused.
typedef struct mask_entry {
    uint64_t serial, hash[2];
    int32_t chain, newer, older;  // -1: none
    bool any;
} mask_entry;

struct pr_token_masks {
    pr_token_masks_params params;
    size_t words;
    pr_token_trie *trie;
    pr_token_automaton *automaton;
    int32_t entries, most_entries, newest, oldest;
    mask_entry *entry;  // [most_entries]
    int32_t *bucket;    // [most_entries], heads of chains
    uint64_t *bit;      // [most_entries][words]
    pr_matcher_state blurred;
    uint16_t path[PR_TOKEN_MAX_BYTES + 1];
    int64_t found, made;
};

pr_status pr_token_masks_create(const pr_token_masks_params *params, pr_token_masks **masks)
{
    pr_status status = PR_OK;
    pr_token_masks *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for token masks");
    made->params = *params;
    made->words = ((size_t)params->vocabulary + 63) / 64;
    int64_t fit = params->cache_bytes / (int64_t)(made->words * sizeof *made->bit);
    made->most_entries = fit < LEAST_MASKS  ? LEAST_MASKS
                         : fit > MOST_MASKS ? MOST_MASKS
                                            : (int32_t)fit;
    made->newest = made->oldest = -1;
    size_t most = (size_t)made->most_entries;
    made->entry = malloc(most * sizeof *made->entry);
    made->bucket = malloc(most * sizeof *made->bucket);
    made->bit = malloc(most * made->words * sizeof *made->bit);
    if (!made->entry || !made->bucket || !made->bit) {
        status = pr_fail(
            PR_ERR_RESOURCE, "no memory for %d masks of %d tokens", made->most_entries,
            params->vocabulary);
        goto failed;
    }
    memset(made->bucket, 0xff, most * sizeof *made->bucket);
    PR_TRY_GOTO(pr_token_automaton_create(&made->automaton), failed);
    PR_TRY_GOTO(pr_token_trie_create(params->table, &made->trie), failed);
    *masks = made;
    return PR_OK;
failed:
    pr_token_masks_destroy(made);
    return status;
}

void pr_token_masks_destroy(pr_token_masks *masks)
{
    if (!masks)
        return;
    pr_token_trie_destroy(masks->trie);
    pr_token_automaton_destroy(masks->automaton);
    free(masks->entry);
    free(masks->bucket);
    free(masks->bit);
    free(masks);
}

// ---- The cache

static int32_t *bucket_of(pr_token_masks *masks, uint64_t serial, const uint64_t hash[2])
{
    uint64_t mixed = pr_hash_mix(serial * 0x9e3779b97f4a7c15u + hash[0]);
    return &masks->bucket[mixed % (uint64_t)masks->most_entries];
}

static void unlink_use(pr_token_masks *masks, int32_t index)
{
    const mask_entry *entry = &masks->entry[index];
    if (entry->newer >= 0)
        masks->entry[entry->newer].older = entry->older;
    else
        masks->newest = entry->older;
    if (entry->older >= 0)
        masks->entry[entry->older].newer = entry->newer;
    else
        masks->oldest = entry->newer;
}

static void link_newest(pr_token_masks *masks, int32_t index)
{
    mask_entry *entry = &masks->entry[index];
    entry->newer = -1;
    entry->older = masks->newest;
    if (masks->newest >= 0)
        masks->entry[masks->newest].newer = index;
    masks->newest = index;
    if (masks->oldest < 0)
        masks->oldest = index;
}

static int32_t find_entry(pr_token_masks *masks, uint64_t serial, const uint64_t hash[2])
{
    int32_t index = *bucket_of(masks, serial, hash);
    while (index >= 0) {
        const mask_entry *entry = &masks->entry[index];
        if (entry->serial == serial && memcmp(entry->hash, hash, sizeof entry->hash) == 0)
            return index;
        index = entry->chain;
    }
    return -1;
}

static void unlink_chain(pr_token_masks *masks, int32_t index)
{
    const mask_entry *entry = &masks->entry[index];
    int32_t *link = bucket_of(masks, entry->serial, entry->hash);
    while (*link != index)
        link = &masks->entry[*link].chain;
    *link = entry->chain;
}

// A free entry, or the one unused for longest.
static int32_t take_entry(pr_token_masks *masks, uint64_t serial, const uint64_t hash[2])
{
    int32_t index = masks->entries;
    if (masks->entries < masks->most_entries) {
        masks->entries++;
    } else {
        index = masks->oldest;
        unlink_use(masks, index);
        unlink_chain(masks, index);
    }
    int32_t *bucket = bucket_of(masks, serial, hash);
    masks->entry[index] =
        (mask_entry){.serial = serial, .hash = {hash[0], hash[1]}, .chain = *bucket};
    *bucket = index;
    link_newest(masks, index);
    return index;
}

// ---- The walk

static void set_tokens(const pr_token_masks *masks, const pr_trie_node *node, uint64_t *bit)
{
    for (int32_t i = 0; i < node->tokens; i++) {
        int32_t token = masks->trie->token[node->first + i];
        if (token < masks->params.vocabulary)
            bit[token / 64] |= UINT64_C(1) << (token % 64);
    }
}

// The table was full at a node: it is emptied and the way to that node walked again.
static void retrace(pr_token_masks *masks, const pr_matcher_state *start, int32_t index)
{
    const pr_trie_node *node = masks->trie->node;
    uint8_t bytes[PR_TOKEN_MAX_BYTES];
    int32_t depth = node[index].depth;
    for (int32_t at = index, wanted = depth; wanted > 0; at--) {
        if (node[at].depth == wanted)
            bytes[--wanted] = node[at].byte;
    }
    pr_token_automaton *automaton = masks->automaton;
    pr_token_automaton_flush(automaton);
    bool room = pr_token_automaton_enter(automaton, start, &masks->path[0]);
    for (int32_t i = 0; i < depth - 1 && room; i++) {
        room = pr_token_automaton_step(automaton, masks->path[i], bytes[i]);
        masks->path[i + 1] = automaton->next[masks->path[i]][bytes[i]];
    }
}

static uint16_t step(pr_token_masks *masks, const pr_matcher_state *start, int32_t index)
{
    pr_token_automaton *automaton = masks->automaton;
    const pr_trie_node *node = &masks->trie->node[index];
    if (!pr_token_automaton_step(automaton, masks->path[node->depth - 1], node->byte)) {
        retrace(masks, start, index);
        if (!pr_token_automaton_step(automaton, masks->path[node->depth - 1], node->byte))
            return PR_AUTOMATON_DEAD;
    }
    return automaton->next[masks->path[node->depth - 1]][node->byte];
}

static bool walk(pr_token_masks *masks, const pr_matcher_state *start, uint64_t *bit)
{
    const pr_trie_node *node = masks->trie->node;
    pr_token_automaton *automaton = masks->automaton;
    bool any = false;
    if (!pr_token_automaton_enter(automaton, start, &masks->path[0])) {
        pr_token_automaton_flush(automaton);
        if (!pr_token_automaton_enter(automaton, start, &masks->path[0]))
            return false;
    }
    for (int32_t i = 0; i < masks->trie->nodes;) {
        uint16_t next = automaton->next[masks->path[node[i].depth - 1]][node[i].byte];
        if (next == PR_AUTOMATON_UNKNOWN)
            next = step(masks, start, i);
        if (next == PR_AUTOMATON_DEAD) {
            i = node[i].skip;
            continue;
        }
        masks->path[node[i].depth] = next;
        if (node[i].tokens > 0) {
            set_tokens(masks, &node[i], bit);
            any = true;
        }
        i++;
    }
    return any;
}

void pr_token_masks_find(
    pr_token_masks *masks,
    const pr_grammar *grammar,
    uint64_t serial,
    const pr_matcher_state *state,
    pr_token_mask *mask)
{
    uint64_t hash[2];
    pr_matcher_copy(state, &masks->blurred);
    pr_matcher_blur(grammar, &masks->blurred, masks->trie->longest_bytes);
    pr_matcher_hash(&masks->blurred, hash);
    int32_t index = find_entry(masks, serial, hash);
    if (index >= 0) {
        masks->found++;
        unlink_use(masks, index);
        link_newest(masks, index);
    } else {
        masks->made++;
        index = take_entry(masks, serial, hash);
        uint64_t *bit = masks->bit + (size_t)index * masks->words;
        memset(bit, 0, masks->words * sizeof *bit);
        pr_token_automaton_use(masks->automaton, grammar, serial);
        masks->entry[index].any = walk(masks, &masks->blurred, bit);
    }
    *mask = (pr_token_mask){
        .bit = masks->bit + (size_t)index * masks->words, .any = masks->entry[index].any};
}

bool pr_token_masks_advance(
    pr_token_masks *masks, const pr_grammar *grammar, int32_t token, pr_matcher_state *state)
{
    int32_t size_bytes;
    const uint8_t *bytes = pr_token_bytes_of(masks->params.table, token, &size_bytes);
    return bytes &&
           pr_matcher_advance(grammar, masks->automaton->scratch, state, bytes, size_bytes);
}

void pr_token_masks_begin(pr_token_masks *masks, const pr_grammar *grammar, pr_matcher_state *state)
{
    pr_matcher_begin(grammar, masks->automaton->scratch, state);
}

pr_token_masks_counts pr_token_masks_count(const pr_token_masks *masks)
{
    return (pr_token_masks_counts){
        .found = masks->found,
        .made = masks->made,
        .states = masks->automaton->made,
        .flushes = masks->automaton->flushes,
    };
}
