// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/cache/kv_store.h"

#include <stdlib.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

static pr_status check_params(const pr_kv_store_params *params)
{
    if (params->layers < 1 || params->blocks < 1 || params->kv_heads < 1 || params->head_size < 1 ||
        params->first_head < 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "KV cache of %d layers, %d blocks, %d heads of %d: out of bounds",
            params->layers, params->blocks, params->kv_heads, params->head_size);
    if (params->block_tokens < PR_TILE || params->block_tokens % PR_TILE != 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "block size %d: use a multiple of %d", params->block_tokens,
            (int)PR_TILE);
    if (params->head_size % 2 != 0)
        return pr_fail(PR_ERR_ARGUMENT, "KV heads of %d elements: must be even", params->head_size);
    if (params->dtype != PR_F32 && params->dtype != PR_BF16)
        return pr_fail(
            PR_ERR_UNSUPPORTED, "KV cache in %s: use float32 or bfloat16",
            pr_dtype_name(params->dtype));
    return PR_OK;
}

static size_t head_bytes(const pr_kv_store_params *params)
{
    return (size_t)params->block_tokens * (size_t)params->head_size * pr_dtype_bytes(params->dtype);
}

size_t pr_kv_store_block_bytes(const pr_kv_store_params *params)
{
    return (size_t)params->layers * PR_KV_STREAMS * (size_t)params->kv_heads * head_bytes(params);
}

pr_status
pr_kv_store_create(pr_device *device, const pr_kv_store_params *params, pr_kv_store **store)
{
    PR_TRY(check_params(params));
    size_t block_bytes = pr_kv_store_block_bytes(params), size_bytes;
    if (__builtin_mul_overflow(block_bytes, (size_t)params->blocks, &size_bytes))
        return pr_fail(
            PR_ERR_ARGUMENT, "%d KV blocks of %zu bytes are beyond any memory: use fewer",
            params->blocks, block_bytes);
    pr_kv_store *made = malloc(sizeof(*made));
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for the KV cache");
    *made = (pr_kv_store){
        .device = device,
        .layers = params->layers,
        .blocks = params->blocks,
        .block_tokens = params->block_tokens,
        .kv_heads = params->kv_heads,
        .head_size = params->head_size,
        .first_head = params->first_head,
        .dtype = params->dtype,
        .head_bytes = head_bytes(params),
        .page_bytes = (size_t)params->kv_heads * head_bytes(params),
    };
    void *memory;
    pr_status status = device->memory_take(device, size_bytes, &memory);
    if (status != PR_OK) {
        free(made);
        return status;
    }
    made->memory = memory;
    *store = made;
    return PR_OK;
}

void pr_kv_store_destroy(pr_kv_store *store)
{
    if (store == NULL)
        return;
    store->device->memory_release(store->device, store->memory);
    free(store);
}

void pr_kv_store_copy(pr_kv_store *store, int32_t from, int32_t to)
{
    for (int32_t layer = 0; layer < store->layers; layer++) {
        for (int32_t stream = 0; stream < PR_KV_STREAMS; stream++)
            store->device->copy(
                store->device, pr_kv_store_page(store, layer, stream, to),
                pr_kv_store_page(store, layer, stream, from), store->page_bytes);
    }
}

// What must agree for one head's page to mean the same on both sides: the arrangement within a
// head (tiles one by one or in pairs, or rows), and how many layers there are. Not the head range,
// nor the number of blocks.
uint32_t pr_kv_store_layout_id(const pr_kv_store *store)
{
    enum { ARRANGEMENT_SINGLE = 1, ARRANGEMENT_PAIRS = 2, ARRANGEMENT_ROWS = 3 };
    bool rows = store->device->kv_arrangement == PR_KV_ROWS;
    int32_t shape[] = {
        PR_TILE,
        PR_KV_STREAMS,
        store->layers,
        store->block_tokens,
        store->head_size,
        (int32_t)store->dtype,
        rows                      ? ARRANGEMENT_ROWS
        : store->dtype == PR_BF16 ? ARRANGEMENT_PAIRS
                                  : ARRANGEMENT_SINGLE,
    };
    uint64_t hash = pr_hash_bytes(1, shape, sizeof(shape));
    return (uint32_t)(hash ^ (hash >> 32));
}
