// SPDX-License-Identifier: BSD-3-Clause
// A vocabulary as a tree of bytes, in the order in which it is walked: a node is followed by its children,
// and `skip` leads past all that is below it.
//
//     a  ab  abc  b         node:  a(1) skip 3 | b(2) skip 3 | c(3) skip 3 | b(1) skip 4
//
// Cost: 12 bytes a node, some 2.5 nodes a token. Threads: immutable once made.
#ifndef PR_RUNTIME_SAMPLING_TOKEN_TRIE_H
#define PR_RUNTIME_SAMPLING_TOKEN_TRIE_H

#include "runtime/sampling/token_bytes.h"

typedef struct pr_trie_node {
    uint8_t byte, depth;  // depth 1: the first byte of a token
    uint16_t tokens;      // that end here (several ids may have the same bytes)
    int32_t first;        // of them in `token`
    int32_t skip;
} pr_trie_node;

typedef struct pr_token_trie {
    int32_t nodes;
    int32_t longest_bytes;  // of all tokens
    pr_trie_node *node;     // [nodes]
    int32_t *token;         // ids in the order of their bytes
} pr_token_trie;

pr_status pr_token_trie_create(const pr_token_bytes *table, pr_token_trie **trie) PR_MUST_CHECK;
void pr_token_trie_destroy(pr_token_trie *trie);

#endif
