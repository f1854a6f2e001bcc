// SPDX-License-Identifier: BSD-3-Clause
// The book-keeping of one pool of KV blocks (one lane): who holds which block, which blocks hold a
// known prefix, what may be evicted. No KV bytes here: the scheduler keeps it on rank 0 and sends
// block tables with its plans; the simulator keeps the same.
//
//   sequence A:  [b3][b7][b1]                 b3, b7 full and published; b1 partly filled
//   sequence B:  [b3][b7][b9]                 shares the prefix: reference count 2
//   prefix index: root -tokens-> b3 -tokens-> b7   (a chain: a block is found only through its parent)
//
// A published block whose last reference goes stays cached; it is evicted least recently used and
// leaf first (a parent never before its children). A published block is never written: where a
// sequence must write into one, it gets a copy at open. Lookups compare tokens, so a hash collision
// cannot give a request another's KV. The tenant salt separates chains.
// Threads: one. Time: a counter of operations, no clock. Everything is deterministic.
#ifndef PR_RUNTIME_CACHE_KV_CACHE_H
#define PR_RUNTIME_CACHE_KV_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_kv_cache pr_kv_cache;
typedef struct pr_kv_sequence pr_kv_sequence;

// A block that a later sequence can find from now on.
typedef struct pr_kv_block {
    uint64_t chain;        // names it (prefix_index.h)
    uint64_t parent;       // chain of the block before it, or of no tokens
    int32_t depth;         // blocks up to its end; 1: there is none before it
    uint64_t salt;         // of the tenant
    int32_t tokens;        // of the block
    const int32_t *token;  // [tokens]
} pr_kv_block;

// Told which blocks a later sequence could find. Without functions: nobody is told.
typedef struct pr_kv_watch {
    void *context;
    void (*stored)(void *context, const pr_kv_block *block);
    void (*evicted)(void *context, uint64_t chain, int32_t depth);
} pr_kv_watch;

// The same of every lane's pool. It only looks on: what it does changes no decision. Without functions: nobody.
typedef struct pr_kv_listener {
    void *context;
    void (*stored)(void *context, int32_t group, int32_t lane, const pr_kv_block *block);
    void (*evicted)(void *context, int32_t group, int32_t lane, uint64_t chain);
} pr_kv_listener;

typedef struct pr_kv_cache_params {
    int32_t blocks;
    int32_t block_tokens;
    bool prefix_caching;
    pr_kv_watch watch;
} pr_kv_cache_params;

// A block to be copied before the step that writes: the holder's table already names `to`.
typedef struct pr_kv_copy {
    int32_t from, to;  // from = -1: nothing to copy
} pr_kv_copy;

pr_status pr_kv_cache_create(const pr_kv_cache_params *params, pr_kv_cache **cache) PR_MUST_CHECK;
void pr_kv_cache_destroy(pr_kv_cache *cache);

// What open would say is cached: the tokens of whole published blocks, at most tokens - 1 in all.
int32_t
pr_kv_cache_match(const pr_kv_cache *cache, uint64_t salt, const int32_t *token, int32_t tokens);

// Starts a sequence: takes references on the longest published prefix. *cached: leading tokens whose
// KV is valid, at most tokens - 1 (the last token is always computed, for its logits). If that cuts
// into a published block, the block is taken as a copy: *copy says from which. When no other block is
// left and nobody holds the source, the source itself is taken, without a copy. Errors:
// PR_ERR_RESOURCE when no block is left for the copy (nothing is taken then), PR_ERR_ARGUMENT for no
// tokens. Copies must be executed in the order of the opens, before any later write.
pr_status pr_kv_cache_open(
    pr_kv_cache *cache,
    uint64_t salt,
    const int32_t *token,
    int32_t tokens,
    pr_kv_sequence **sequence,
    int32_t *cached,
    pr_kv_copy *copy) PR_MUST_CHECK;

// Makes room for `tokens` tokens in all. Evicts cached blocks as needed. PR_ERR_RESOURCE (silent, no
// log line: the scheduler's daily bread) when there are too few: nothing changes then.
pr_status
pr_kv_cache_extend(pr_kv_cache *cache, pr_kv_sequence *sequence, int32_t tokens) PR_MUST_CHECK;

// The KV of token[0..tokens) is written: publishes the blocks that became full. Where another sequence
// has published the same first, that one stays in the index and this sequence publishes no more: its
// later blocks would hang under a block that it does not hold.
void pr_kv_cache_publish(
    pr_kv_cache *cache, pr_kv_sequence *sequence, const int32_t *token, int32_t tokens);

// Releases the references; *sequence is freed.
void pr_kv_cache_close(pr_kv_cache *cache, pr_kv_sequence *sequence);

const int32_t *pr_kv_sequence_blocks(const pr_kv_sequence *sequence, int32_t *blocks);

int32_t pr_kv_cache_free_blocks(const pr_kv_cache *cache);    // free or evictable
int32_t pr_kv_cache_used_blocks(const pr_kv_cache *cache);    // referenced
int32_t pr_kv_cache_cached_blocks(const pr_kv_cache *cache);  // published, referenced or not

// Nobody holds a block: what was published is forgotten, as by eviction.
void pr_kv_cache_forget(pr_kv_cache *cache);

// Every published block by chain and depth, in no order that means anything.
void pr_kv_cache_visit(
    const pr_kv_cache *cache,
    void (*visit)(void *context, uint64_t chain, int32_t depth),
    void *context);

// Asserts every invariant: counts, chains, the LRU order, no block lost, none in two places.
void pr_kv_cache_check(const pr_kv_cache *cache);

#endif
