// SPDX-License-Identifier: BSD-3-Clause
// KV blocks from one lane to another, block by block and layer by layer, also between lanes of
// different tp: each pair (source rank, target rank) whose head ranges overlap exchanges that range.
//
//   message = header {magic, version, request id, generation, tag, layer, layout id, head range,
//             blocks, bytes, checksum} + for each stream, for each block: the head range of its page
//
// A message whose header or checksum is wrong is counted, dropped, and the handover reported as not
// intact: the scheduler recomputes. One pair's messages of one handover travel under its tag.
// Bounded: data is packed into slabs taken at create. A handover's layers wait (making progress) for a
// free one; a gather's go when one is free, in progress or push_layer, and nobody waits for them.
// Threads: the worker thread. No wait without a limit.
#ifndef PR_COMM_KV_TRANSFER_H
#define PR_COMM_KV_TRANSFER_H

#include "comm/world.h"
#include "runtime/batch/layout.h"
#include "runtime/batch/plan.h"
#include "runtime/cache/kv_store.h"

typedef struct pr_kv_transfer pr_kv_transfer;

typedef struct pr_kv_transfer_params {
    pr_world *world;
    const pr_layout *layout;
    pr_kv_store *store;     // this rank's, any device's; NULL on a rank without a group
    int32_t kv_heads;       // g of the model
    int32_t max_blocks;     // blocks of one handover at most
    int32_t timeout_ms;     // of an arrival (four times, of a gather); a sender waits half as long
    bool corrupt_for_test;  // flips a bit of every third message; set by POLYREME_TEST_CORRUPT_KV=1
} pr_kv_transfer_params;

pr_status pr_kv_transfer_create(const pr_kv_transfer_params *params, pr_kv_transfer **transfer)
    PR_MUST_CHECK;  // collective over the world (duplicates a communicator)

// Collective, too: waits a while until no message of any rank is under way. What is not expected any
// more (a run was interrupted) is thrown away.
void pr_kv_transfer_destroy(pr_kv_transfer *transfer);

// Source: note a handover whose last chunk is computed in the coming step, then push each layer as it
// is done. The blocks may be reused after push of the last layer returned (data is in slabs).
// Of a gather the blocks are written: it is sent by and by, and they stay until all has arrived.
pr_status pr_kv_transfer_send(pr_kv_transfer *transfer, const pr_handover *handover) PR_MUST_CHECK;
pr_status pr_kv_transfer_push_layer(pr_kv_transfer *transfer, int32_t layer) PR_MUST_CHECK;

// Target: expect a handover; its pages are written as they come, by progress.
pr_status
pr_kv_transfer_expect(pr_kv_transfer *transfer, const pr_handover *handover) PR_MUST_CHECK;

// The group's ranks are lost: what is noted or will be of moves from or to them is dropped, unreported. May
// be called from within a wait (recovery.h).
void pr_kv_transfer_lose(pr_kv_transfer *transfer, int32_t group);
// The group has ranks again.
void pr_kv_transfer_return(pr_kv_transfer *transfer, int32_t group);
// Goes on in the world with its replacements (recovery.h): no KV is on its way between ranks that live. afresh:
// this rank's own group was lost, nothing is noted any more.
pr_status pr_kv_transfer_renew(pr_kv_transfer *transfer, bool afresh) PR_MUST_CHECK;

// Moves what can move without waiting. Appends finished arrivals to arrival[capacity], *arrivals counts.
pr_status pr_kv_transfer_progress(
    pr_kv_transfer *transfer, pr_arrival_report *arrival, int32_t capacity, int32_t *arrivals)
    PR_MUST_CHECK;

int32_t pr_kv_transfer_pending(const pr_kv_transfer *transfer);  // sends and arrivals outstanding
int64_t pr_kv_transfer_sent_bytes(const pr_kv_transfer *transfer);

#endif
