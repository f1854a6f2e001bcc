// SPDX-License-Identifier: BSD-3-Clause
#include "comm/kv_message.h"

#include <stddef.h>
#include <string.h>

#include "runtime/base/hash.h"

size_t pr_kv_message_bytes(const pr_kv_store *store, int32_t blocks, int32_t heads)
{
    return sizeof(pr_kv_header) +
           (size_t)PR_KV_STREAMS * (size_t)blocks * (size_t)heads * store->head_bytes;
}

static pr_kv_header header_of(const pr_kv_store *store, const pr_kv_range *range)
{
    const pr_handover *handover = range->handover;
    return (pr_kv_header){
        .magic = PR_KV_MESSAGE_MAGIC,
        .version = PR_KV_MESSAGE_VERSION,
        .id = handover->id,
        .generation = handover->generation,
        .tag = handover->tag,
        .layer = range->layer,
        .layout = pr_kv_store_layout_id(store),
        .first_head = range->first_head,
        .heads = range->heads,
        .blocks = handover->blocks,
        .first_block = handover->first_block,
        .size_bytes =
            pr_kv_message_bytes(store, handover->blocks, range->heads) - sizeof(pr_kv_header)};
}

static uint64_t checksum_of(const pr_kv_header *header, const char *payload)
{
    uint64_t seed = pr_hash_bytes(0, header, offsetof(pr_kv_header, checksum));
    return pr_hash_bytes(seed, payload, header->size_bytes);
}

// The range's part of every block, one stream after another, between the store and a message's payload.
static pr_status move_pages(
    const pr_kv_store *store,
    const pr_kv_range *range,
    const int32_t *block,
    pr_status (*move)(pr_device *device, const pr_pages_args *args),
    char *payload)
{
    size_t stream_bytes =
        (size_t)range->handover->blocks * (size_t)range->heads * store->head_bytes;
    for (int32_t stream = 0; stream < PR_KV_STREAMS; stream++) {
        const pr_pages_args args = {
            .pages = range->handover->blocks,
            .page = block,
            .memory = pr_kv_store_pages(store, range->layer, stream),
            .page_bytes = store->page_bytes,
            .head_bytes = store->head_bytes,
            .head_begin = range->first_head - store->first_head,
            .heads = range->heads,
            .slab = payload + (size_t)stream * stream_bytes,
        };
        PR_TRY(move(store->device, &args));
    }
    return PR_OK;
}

pr_status pr_kv_message_pack(const pr_kv_store *store, const pr_kv_range *range, char *message)
{
    pr_kv_header header = header_of(store, range);
    char *payload = message + sizeof header;
    PR_TRY(move_pages(
        store, range, range->handover->from_block, store->device->pages_gather, payload));
    header.checksum = checksum_of(&header, payload);
    memcpy(message, &header, sizeof header);
    return PR_OK;
}

// The first field that differs from what is expected.
static const char *fault_of(const pr_kv_header *got, const pr_kv_header *want)
{
    if (got->magic != want->magic || got->version != want->version)
        return "is not a KV message of this version";
    if (got->id != want->id || got->generation != want->generation || got->tag != want->tag)
        return "belongs to another request";
    if (got->layer != want->layer)
        return "is of another layer";
    if (got->layout != want->layout)
        return "has another page layout";
    if (got->first_head != want->first_head || got->heads != want->heads)
        return "has other heads";
    if (got->blocks != want->blocks || got->first_block != want->first_block)
        return "has other blocks";
    if (got->size_bytes != want->size_bytes)
        return "has another length";
    return NULL;
}

const char *pr_kv_message_unpack(
    const pr_kv_store *store, const pr_kv_range *range, const char *message, size_t size_bytes)
{
    pr_kv_header want = header_of(store, range), got;
    if (size_bytes != sizeof got + want.size_bytes)
        return "has another length";
    memcpy(&got, message, sizeof got);
    const char *payload = message + sizeof got, *fault = fault_of(&got, &want);
    if (fault)
        return fault;
    if (got.checksum != checksum_of(&got, payload))
        return "has a wrong checksum";
    // Only read: what scatters does not write to the slab.
    char *slab = (char *)(uintptr_t)payload;
    if (move_pages(store, range, range->handover->to_block, store->device->pages_scatter, slab) !=
        PR_OK)
        return "could not be written to the device";
    return NULL;
}
