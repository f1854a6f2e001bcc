// SPDX-License-Identifier: BSD-3-Clause
// The bytes of one rank's KV cache: for each layer a list of streams, each an array of pages.
// Who owns which block is kv_cache.h's business (on rank 0); this is only the memory.
//
//               stream 0 "k"                          stream 1 "v"
//   float32     page [g][B / PR_TILE][d][PR_TILE]     page [g][B][d]
//   bfloat16    page [g][B / PR_TILE][d/2][PR_TILE][2]  page [g][B/2][d][2]: pairs lie together
//   on a device of PR_KV_ROWS, either type            page [g][B][d] for both
//
// g counts this rank's KV heads; a range of heads is one contiguous part of every page, so lanes of
// different tp exchange head ranges without reshaping (design.md §6).
#ifndef PR_RUNTIME_CACHE_KV_STORE_H
#define PR_RUNTIME_CACHE_KV_STORE_H

#include "runtime/device.h"

enum { PR_KV_STREAMS = 2 };

typedef struct pr_kv_store {
    pr_device *device;
    int32_t layers, blocks, block_tokens;
    int32_t kv_heads, head_size;  // of this rank
    int32_t first_head;           // absolute number of the first of them
    pr_dtype dtype;
    size_t head_bytes;  // bytes of one head in one page: B * d * element
    size_t page_bytes;  // kv_heads * head_bytes
    char *memory;       // [layers][PR_KV_STREAMS][blocks][page_bytes], the device's
} pr_kv_store;

typedef struct pr_kv_store_params {
    int32_t layers, blocks, block_tokens, kv_heads, head_size, first_head;
    pr_dtype dtype;  // PR_F32 or PR_BF16
} pr_kv_store_params;

pr_status pr_kv_store_create(
    pr_device *device, const pr_kv_store_params *params, pr_kv_store **store) PR_MUST_CHECK;
void pr_kv_store_destroy(pr_kv_store *store);

// Bytes of one block over all layers and streams, for sizing.
size_t pr_kv_store_block_bytes(const pr_kv_store_params *params);

static inline char *pr_kv_store_pages(const pr_kv_store *store, int32_t layer, int32_t stream)
{
    return store->memory + ((size_t)layer * PR_KV_STREAMS + (size_t)stream) *
                               (size_t)store->blocks * store->page_bytes;
}

static inline char *
pr_kv_store_page(const pr_kv_store *store, int32_t layer, int32_t stream, int32_t block)
{
    return pr_kv_store_pages(store, layer, stream) + (size_t)block * store->page_bytes;
}

// Copies block `from` to block `to`, all layers and streams (copy on write).
void pr_kv_store_copy(pr_kv_store *store, int32_t from, int32_t to);

// Identifies the page layout on the wire: same id = pages of one head can be exchanged as bytes.
uint32_t pr_kv_store_layout_id(const pr_kv_store *store);

#endif
