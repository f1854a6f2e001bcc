// SPDX-License-Identifier: BSD-3-Clause
// One message of a KV transfer: a head range of one layer's blocks, packed and checked. Private to
// comm/; no MPI here.
//
//   header, then for each stream, for each block: the head range of its page
#ifndef PR_COMM_KV_MESSAGE_H
#define PR_COMM_KV_MESSAGE_H

#include <assert.h>

#include "runtime/batch/plan.h"
#include "runtime/cache/kv_store.h"

enum { PR_KV_MESSAGE_MAGIC = 0x6b637250, PR_KV_MESSAGE_VERSION = 1 };

// Little endian.
typedef struct pr_kv_header {
    uint32_t magic, version;
    uint64_t id;
    uint32_t generation;
    int32_t tag, layer;
    uint32_t layout;            // pr_kv_store_layout_id
    int32_t first_head, heads;  // absolute
    int32_t blocks, first_block;
    uint64_t size_bytes;  // after the header
    uint64_t checksum;    // of the 56 bytes before and of what follows
} pr_kv_header;
static_assert(sizeof(pr_kv_header) == 64, "the header is a wire format");

// Which part of a handover a message carries.
typedef struct pr_kv_range {
    const pr_handover *handover;
    int32_t layer;
    int32_t first_head, heads;  // absolute, within the store's
} pr_kv_range;

// Bytes of a message with its header.
size_t pr_kv_message_bytes(const pr_kv_store *store, int32_t blocks, int32_t heads);

// Writes pr_kv_message_bytes to message (8-byte aligned) from the handover's from_block. Errors: the device's.
pr_status
pr_kv_message_pack(const pr_kv_store *store, const pr_kv_range *range, char *message) PR_MUST_CHECK;

// Writes the pages of to_block if the message is exactly the expected one and whole. Otherwise
// returns what is wrong, and leaves the pages alone.
const char *pr_kv_message_unpack(
    const pr_kv_store *store, const pr_kv_range *range, const char *message, size_t size_bytes)
    PR_MUST_CHECK;

#endif
