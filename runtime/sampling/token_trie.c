// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/sampling/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

typedef struct entry {
    const uint8_t *bytes;
    int32_t size_bytes, token;
} entry;

static int compare(const void *a, const void *b)
{
    const entry *left = a, *right = b;
    int32_t shorter = left->size_bytes < right->size_bytes ? left->size_bytes : right->size_bytes;
    int order = memcmp(left->bytes, right->bytes, (size_t)shorter);
    if (order == 0)
        order = (left->size_bytes > right->size_bytes) - (left->size_bytes < right->size_bytes);
    return order ? order : (left->token > right->token) - (left->token < right->token);
}

static int32_t list_entries(const pr_token_bytes *table, entry *list)
{
    int32_t count = 0;
    for (int32_t i = 0; i < table->tokens; i++) {
        entry each = {.token = i};
        each.bytes = pr_token_bytes_of(table, i, &each.size_bytes);
        if (each.bytes)
            list[count++] = each;
    }
    qsort(list, (size_t)count, sizeof *list, compare);
    return count;
}

static int32_t shared_bytes(const entry *a, const entry *b)
{
    int32_t shared = 0;
    while (shared < a->size_bytes && shared < b->size_bytes && a->bytes[shared] == b->bytes[shared])
        shared++;
    return shared;
}

static int64_t count_nodes(const entry *list, int32_t count)
{
    int64_t nodes = 0;
    for (int32_t i = 0; i < count; i++)
        nodes += list[i].size_bytes - (i > 0 ? shared_bytes(&list[i - 1], &list[i]) : 0);
    return nodes;
}

// open[d]: the node at depth d + 1 on the way to the last entry.
static void fill(const entry *list, int32_t count, pr_token_trie *trie)
{
    int32_t open[PR_TOKEN_MAX_BYTES], depth = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t shared = i > 0 ? shared_bytes(&list[i - 1], &list[i]) : 0;
        for (; depth > shared; depth--)
            trie->node[open[depth - 1]].skip = trie->nodes;
        for (; depth < list[i].size_bytes; depth++) {
            open[depth] = trie->nodes;
            trie->node[trie->nodes++] = (pr_trie_node){
                .byte = list[i].bytes[depth], .depth = (uint8_t)(depth + 1), .first = i};
        }
        pr_trie_node *end = &trie->node[open[depth - 1]];
        if (end->tokens == 0)
            end->first = i;
        if (end->tokens < UINT16_MAX)
            end->tokens++;
        trie->token[i] = list[i].token;
        if (list[i].size_bytes > trie->longest_bytes)
            trie->longest_bytes = list[i].size_bytes;
    }
    for (; depth > 0; depth--)
        trie->node[open[depth - 1]].skip = trie->nodes;
}

pr_status pr_token_trie_create(const pr_token_bytes *table, pr_token_trie **trie)
{
    pr_token_trie *made = calloc(1, sizeof *made);
    entry *list = malloc(((size_t)table->tokens + 1) * sizeof *list);
    if (made && list) {
        int32_t count = list_entries(table, list);
        made->node = malloc(((size_t)count_nodes(list, count) + 1) * sizeof *made->node);
        made->token = malloc(((size_t)count + 1) * sizeof *made->token);
        if (made->node && made->token)
            fill(list, count, made);
    }
    free(list);
    if (!made || !list || !made->node || !made->token) {
        pr_token_trie_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a tree of %d tokens", table->tokens);
    }
    *trie = made;
    return PR_OK;
}

void pr_token_trie_destroy(pr_token_trie *trie)
{
    if (!trie)
        return;
    free(trie->node);
    free(trie->token);
    free(trie);
}
