// SPDX-License-Identifier: BSD-3-Clause
#include "k8s-adapter/kv_batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/sha256.h"

pr_status pr_kv_batch_create(int32_t lane, int32_t block_tokens, pr_kv_batch **batch)
{
    pr_kv_batch *made = calloc(1, sizeof *made);
    if (made)
        made->token = calloc((size_t)PR_KV_BATCH_BLOCKS * (size_t)block_tokens, sizeof(int32_t));
    if (!made || !made->token) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for KV events");
    }
    made->lane = lane;
    made->block_tokens = block_tokens;
    *batch = made;
    return PR_OK;
}

void pr_kv_batch_destroy(pr_kv_batch *batch)
{
    if (!batch)
        return;
    free(batch->token);
    free(batch);
}

static pr_kv_batch_block *append(pr_kv_batch *batch, pr_kv_event_kind kind, uint64_t chain)
{
    assert(batch->blocks < PR_KV_BATCH_BLOCKS);
    pr_kv_batch_block *block = &batch->block[batch->blocks++];
    *block = (pr_kv_batch_block){.kind = kind, .chain = chain};
    return block;
}

static int32_t *tokens_of(const pr_kv_batch *batch, int32_t block)
{
    return batch->token + (size_t)block * (size_t)batch->block_tokens;
}

void pr_kv_batch_store(
    pr_kv_batch *batch,
    const pr_kv_block *block,
    const unsigned char secret[PR_KV_BATCH_SECRET_BYTES])
{
    pr_kv_batch_block *added = append(batch, PR_KV_EVENT_STORED, block->chain);
    added->parent = block->parent;
    added->first = block->depth == 1;
    memcpy(
        tokens_of(batch, batch->blocks - 1), block->token,
        (size_t)batch->block_tokens * sizeof(int32_t));
    // Later blocks inherit it from the first through their parents.
    if (!added->first || block->salt == 0)
        return;
    pr_sha256 hash;
    char digest[PR_SHA256_TEXT_BYTES];
    pr_sha256_begin(&hash);
    pr_sha256_add(&hash, secret, PR_KV_BATCH_SECRET_BYTES);
    pr_sha256_add(&hash, &block->salt, sizeof block->salt);
    pr_sha256_end(&hash, digest);
    memcpy(added->extra, digest, sizeof added->extra - 1);
}

void pr_kv_batch_remove(pr_kv_batch *batch, uint64_t chain)
{
    append(batch, PR_KV_EVENT_REMOVED, chain);
}

void pr_kv_batch_clear(pr_kv_batch *batch) { append(batch, PR_KV_EVENT_CLEARED, 0); }

// Blocks from `at` on that make one event.
static int32_t run_length(const pr_kv_batch *batch, int32_t at)
{
    const pr_kv_batch_block *block = batch->block;
    pr_kv_event_kind kind = block[at].kind;
    int32_t end = at + 1;
    while (kind != PR_KV_EVENT_CLEARED && end < batch->blocks && block[end].kind == kind &&
           (kind == PR_KV_EVENT_REMOVED ||
            (!block[end].first && block[end].parent == block[end - 1].chain)))
        end++;
    return end - at;
}

// ---- msgpack ----

typedef struct packing {
    msgpack_packer packer;
    bool arrays, failed;
} packing;

static void pack(packing *to, int result) { to->failed = to->failed || result != 0; }

static void pack_text(packing *to, const char *text)
{
    size_t length = strlen(text);
    pack(to, msgpack_pack_str(&to->packer, length));
    pack(to, msgpack_pack_str_body(&to->packer, text, length));
}

static void pack_array(packing *to, int32_t count)
{
    pack(to, msgpack_pack_array(&to->packer, (size_t)count));
}

// An event of so many fields follows: the type is the first in an array, and under "type" in a map.
static void pack_type(packing *to, const char *type, int32_t fields)
{
    if (to->arrays) {
        pack_array(to, fields + 1);
    } else {
        pack(to, msgpack_pack_map(&to->packer, (size_t)fields + 1));
        pack_text(to, "type");
    }
    pack_text(to, type);
}

static void pack_name(packing *to, const char *name)
{
    if (!to->arrays)
        pack_text(to, name);
}

static void pack_hashes(packing *to, const pr_kv_batch_block *block, int32_t blocks)
{
    pack_name(to, "block_hashes");
    pack_array(to, blocks);
    for (int32_t i = 0; i < blocks; i++)
        pack(to, msgpack_pack_uint64(&to->packer, block[i].chain));
}

static void pack_nil(packing *to, const char *name)
{
    pack_name(to, name);
    pack(to, msgpack_pack_nil(&to->packer));
}

static void pack_medium(packing *to)
{
    pack_name(to, "medium");
    pack_text(to, "GPU");
}

// One entry a block, of which only the first of a chain has keys.
static void pack_extra_keys(packing *to, const pr_kv_batch_block *block, int32_t blocks)
{
    if (!*block[0].extra) {
        pack_nil(to, "extra_keys");
        return;
    }
    pack_name(to, "extra_keys");
    pack_array(to, blocks);
    pack_array(to, 1);
    pack_text(to, block[0].extra);
    for (int32_t i = 1; i < blocks; i++)
        pack(to, msgpack_pack_nil(&to->packer));
}

static void pack_stored(packing *to, const pr_kv_batch *batch, int32_t at, int32_t blocks)
{
    const pr_kv_batch_block *block = &batch->block[at];
    int32_t tokens = blocks * batch->block_tokens;
    pack_type(to, "BlockStored", 8);
    pack_hashes(to, block, blocks);
    pack_name(to, "parent_block_hash");
    pack(
        to, block->first ? msgpack_pack_nil(&to->packer)
                         : msgpack_pack_uint64(&to->packer, block->parent));
    pack_name(to, "token_ids");
    pack_array(to, tokens);
    for (int32_t i = 0; i < tokens; i++)
        pack(to, msgpack_pack_int32(&to->packer, tokens_of(batch, at)[i]));
    pack_name(to, "block_size");
    pack(to, msgpack_pack_int32(&to->packer, batch->block_tokens));
    pack_nil(to, "lora_id");
    pack_medium(to);
    pack_nil(to, "lora_name");
    pack_extra_keys(to, block, blocks);
}

static void pack_event(packing *to, const pr_kv_batch *batch, int32_t at, int32_t blocks)
{
    switch (batch->block[at].kind) {
    case PR_KV_EVENT_STORED:
        pack_stored(to, batch, at, blocks);
        break;
    case PR_KV_EVENT_REMOVED:
        pack_type(to, "BlockRemoved", 2);
        pack_hashes(to, &batch->block[at], blocks);
        pack_medium(to);
        break;
    case PR_KV_EVENT_CLEARED:
        pack_type(to, "AllBlocksCleared", 0);
        break;
    }
}

bool pr_kv_batch_encode(pr_kv_batch *batch, double unix_s, bool arrays, msgpack_sbuffer *payload)
{
    packing to = {.arrays = arrays};
    int32_t events = 0;
    msgpack_packer_init(&to.packer, payload, msgpack_sbuffer_write);
    for (int32_t at = 0; at < batch->blocks; at += run_length(batch, at))
        events++;
    pack_array(&to, 3);
    pack(&to, msgpack_pack_double(&to.packer, unix_s));
    pack_array(&to, events);
    for (int32_t at = 0, blocks; at < batch->blocks; at += blocks) {
        blocks = run_length(batch, at);
        pack_event(&to, batch, at, blocks);
    }
    pack(&to, msgpack_pack_int32(&to.packer, batch->lane));
    batch->blocks = 0;
    return !to.failed;
}
