// SPDX-License-Identifier: BSD-3-Clause
// Blocks told by one lane and not sent yet, and their msgpack form:
//
//   [ts, [event, ...], data_parallel_rank]
//   event: {"type": "BlockStored", "block_hashes": [u64], "parent_block_hash": u64 or nil, "token_ids": [...],
//           "block_size": 16, "lora_id": nil, "medium": "GPU", "lora_name": nil, "extra_keys": nil or [[text]]}
//          {"type": "BlockRemoved", "block_hashes": [u64], "medium": "GPU"}   {"type": "AllBlocksCleared"}
//
// Blocks of one chain that come in a row are one event, and so are removals. Memory: at create.
// Threads: one. Source: vLLM vllm/distributed/kv_events.py.
#ifndef PR_K8S_ADAPTER_KV_BATCH_H
#define PR_K8S_ADAPTER_KV_BATCH_H

#include <msgpack.h>
#include <stdbool.h>

#include "runtime/cache/kv_cache.h"

enum { PR_KV_BATCH_BLOCKS = 256, PR_KV_BATCH_SECRET_BYTES = 32, PR_KV_BATCH_EXTRA_BYTES = 17 };

typedef enum pr_kv_event_kind {
    PR_KV_EVENT_STORED,
    PR_KV_EVENT_REMOVED,
    PR_KV_EVENT_CLEARED,
} pr_kv_event_kind;

typedef struct pr_kv_batch_block {
    pr_kv_event_kind kind;
    uint64_t chain, parent;
    bool first;                           // it has no parent
    char extra[PR_KV_BATCH_EXTRA_BYTES];  // stands for its salt; "": none
} pr_kv_batch_block;

typedef struct pr_kv_batch {
    int32_t lane;  // over all groups
    int32_t block_tokens;
    int32_t blocks;
    int64_t oldest_ns;  // when the first came; set by the user
    pr_kv_batch_block block[PR_KV_BATCH_BLOCKS];
    int32_t *token;  // [PR_KV_BATCH_BLOCKS][block_tokens]
} pr_kv_batch;

pr_status pr_kv_batch_create(int32_t lane, int32_t block_tokens, pr_kv_batch **batch) PR_MUST_CHECK;
void pr_kv_batch_destroy(pr_kv_batch *batch);

// There is room: blocks < PR_KV_BATCH_BLOCKS. A salt is told as a text that only the holder of the secret can
// compute, so that blocks of two tenants never look the same and nobody can guess a key from it.
void pr_kv_batch_store(
    pr_kv_batch *batch,
    const pr_kv_block *block,
    const unsigned char secret[PR_KV_BATCH_SECRET_BYTES]);
void pr_kv_batch_remove(pr_kv_batch *batch, uint64_t chain);
void pr_kv_batch_clear(pr_kv_batch *batch);  // all blocks of the lane

// Appends the payload and empties the batch. False: no memory; the batch is empty all the same.
bool pr_kv_batch_encode(pr_kv_batch *batch, double unix_s, bool arrays, msgpack_sbuffer *payload);

#endif
