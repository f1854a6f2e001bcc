// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/cache/prefix_index.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

typedef struct node {
    uint64_t salt, chain;
    int32_t parent;
    int32_t depth;
    int32_t children;
    int32_t next;  // in the bucket, or -1
    bool held;
} node;

struct pr_prefix_index {
    int32_t blocks, block_tokens, count;
    uint64_t bucket_mask;
    int32_t *bucket;  // [bucket_mask + 1] first block, or -1
    node *node;       // [blocks]
    int32_t *token;   // [blocks][block_tokens]
};

pr_status pr_prefix_index_create(int32_t blocks, int32_t block_tokens, pr_prefix_index **index)
{
    pr_prefix_index *made = calloc(1, sizeof *made);
    uint64_t buckets = 1;
    while (buckets < (uint64_t)blocks)
        buckets *= 2;
    if (made) {
        made->blocks = blocks;
        made->block_tokens = block_tokens;
        made->bucket_mask = buckets - 1;
        made->bucket = malloc(buckets * sizeof *made->bucket);
        made->node = calloc((size_t)blocks, sizeof *made->node);
        made->token = calloc((size_t)blocks * (size_t)block_tokens, sizeof *made->token);
    }
    if (!made || !made->bucket || !made->node || !made->token) {
        pr_prefix_index_destroy(made);
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for a prefix index of %d blocks of %d tokens", blocks,
            block_tokens);
    }
    memset(made->bucket, 0xff, buckets * sizeof *made->bucket);
    *index = made;
    return PR_OK;
}

void pr_prefix_index_destroy(pr_prefix_index *index)
{
    if (!index)
        return;
    free(index->bucket);
    free(index->node);
    free(index->token);
    free(index);
}

static const int32_t *tokens_of(const pr_prefix_index *index, int32_t block)
{
    return index->token + (size_t)block * (size_t)index->block_tokens;
}

static size_t token_bytes(const pr_prefix_index *index)
{
    return (size_t)index->block_tokens * sizeof(int32_t);
}

uint64_t pr_prefix_index_root_chain(uint64_t salt) { return pr_hash_mix(salt); }

uint64_t pr_prefix_index_next_chain(uint64_t chain, const int32_t *token, int32_t block_tokens)
{
    return pr_hash_bytes(chain, token, (size_t)block_tokens * sizeof *token);
}

static uint64_t
chain_of(const pr_prefix_index *index, uint64_t salt, int32_t parent, const int32_t *token)
{
    uint64_t before =
        parent == PR_PREFIX_ROOT ? pr_prefix_index_root_chain(salt) : index->node[parent].chain;
    return pr_prefix_index_next_chain(before, token, index->block_tokens);
}

int32_t pr_prefix_index_find(
    const pr_prefix_index *index, uint64_t salt, int32_t parent, const int32_t *token)
{
    uint64_t chain = chain_of(index, salt, parent, token);
    int32_t block = index->bucket[chain & index->bucket_mask];
    for (; block >= 0; block = index->node[block].next) {
        const node *candidate = &index->node[block];
        if (candidate->chain == chain && candidate->parent == parent && candidate->salt == salt &&
            memcmp(tokens_of(index, block), token, token_bytes(index)) == 0)
            return block;
    }
    return -1;
}

void pr_prefix_index_insert(
    pr_prefix_index *index, int32_t block, uint64_t salt, int32_t parent, const int32_t *token)
{
    node *added = &index->node[block];
    assert(!added->held && (parent == PR_PREFIX_ROOT || index->node[parent].held));
    uint64_t chain = chain_of(index, salt, parent, token);
    int32_t *bucket = &index->bucket[chain & index->bucket_mask];
    *added = (node){.salt = salt, .chain = chain, .parent = parent, .next = *bucket, .held = true};
    added->depth = parent == PR_PREFIX_ROOT ? 1 : index->node[parent].depth + 1;
    *bucket = block;
    memcpy(index->token + (size_t)block * (size_t)index->block_tokens, token, token_bytes(index));
    if (parent != PR_PREFIX_ROOT)
        index->node[parent].children++;
    index->count++;
}

void pr_prefix_index_remove(pr_prefix_index *index, int32_t block)
{
    node *removed = &index->node[block];
    assert(removed->held && removed->children == 0);
    int32_t *link = &index->bucket[removed->chain & index->bucket_mask];
    while (*link != block)
        link = &index->node[*link].next;
    *link = removed->next;
    if (removed->parent != PR_PREFIX_ROOT)
        index->node[removed->parent].children--;
    removed->held = false;
    index->count--;
}

bool pr_prefix_index_holds(const pr_prefix_index *index, int32_t block)
{
    return index->node[block].held;
}

int32_t pr_prefix_index_parent(const pr_prefix_index *index, int32_t block)
{
    return index->node[block].parent;
}

uint64_t pr_prefix_index_chain(const pr_prefix_index *index, int32_t block)
{
    return index->node[block].chain;
}

int32_t pr_prefix_index_depth(const pr_prefix_index *index, int32_t block)
{
    return index->node[block].depth;
}

int32_t pr_prefix_index_count(const pr_prefix_index *index) { return index->count; }

void pr_prefix_index_check(const pr_prefix_index *index)
{
    int32_t held = 0, with_parent = 0, children = 0;
    for (int32_t i = 0; i < index->blocks; i++) {
        const node *each = &index->node[i];
        if (!each->held)
            continue;
        held++;
        children += each->children;
        assert(each->children >= 0);
        if (each->parent != PR_PREFIX_ROOT) {
            with_parent++;
            assert(index->node[each->parent].held && index->node[each->parent].children > 0);
            assert(index->node[each->parent].salt == each->salt);
        }
        assert(pr_prefix_index_find(index, each->salt, each->parent, tokens_of(index, i)) == i);
    }
    assert(held == index->count && children == with_parent);
    (void)held, (void)with_parent, (void)children;
}
