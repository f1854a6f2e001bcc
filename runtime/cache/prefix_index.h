// SPDX-License-Identifier: BSD-3-Clause
// Which blocks hold a known prefix: a forest of full blocks, each under the block before it.
//
//   root(salt 7) -tokens-> b3 -tokens-> b7      find(salt, parent, tokens) = the child, or -1
//                             \-tokens-> b2
//
// A hash table whose key is (salt, parent block, tokens). A key is found by comparing all of it, so
// a hash collision costs time and never gives another prefix. Its hash is the *chain*: of the salt and all
// tokens up to the block's end, so equal prefixes have equal chains in every index. Blocks are removed leaf first: a block
// number in a parent link can therefore never mean another, later content.
// Memory: taken at create. Cost: O(block_tokens) per call. Threads: one. Source: ours.
#ifndef PR_RUNTIME_CACHE_PREFIX_INDEX_H
#define PR_RUNTIME_CACHE_PREFIX_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_PREFIX_ROOT = -1 };

// The chain of no tokens, and of one block more.
uint64_t pr_prefix_index_root_chain(uint64_t salt);
uint64_t pr_prefix_index_next_chain(uint64_t chain, const int32_t *token, int32_t block_tokens);

typedef struct pr_prefix_index pr_prefix_index;

pr_status
pr_prefix_index_create(int32_t blocks, int32_t block_tokens, pr_prefix_index **index) PR_MUST_CHECK;
void pr_prefix_index_destroy(pr_prefix_index *index);

// The block that holds token[0..block_tokens) after `parent` (a block in the index, or
// PR_PREFIX_ROOT), or -1.
int32_t pr_prefix_index_find(
    const pr_prefix_index *index, uint64_t salt, int32_t parent, const int32_t *token);

// `block` is not in the index, its parent is, and find says -1 for the key. Tokens are copied.
void pr_prefix_index_insert(
    pr_prefix_index *index, int32_t block, uint64_t salt, int32_t parent, const int32_t *token);

// `block` is in the index and has no children.
void pr_prefix_index_remove(pr_prefix_index *index, int32_t block);

bool pr_prefix_index_holds(const pr_prefix_index *index, int32_t block);
int32_t pr_prefix_index_parent(const pr_prefix_index *index, int32_t block);
uint64_t pr_prefix_index_chain(const pr_prefix_index *index, int32_t block);
int32_t pr_prefix_index_depth(const pr_prefix_index *index, int32_t block);  // blocks up to its end
int32_t pr_prefix_index_count(const pr_prefix_index *index);

// Asserts every invariant: each held block is found by its own key, links and counts of children.
void pr_prefix_index_check(const pr_prefix_index *index);

#endif
