// SPDX-License-Identifier: BSD-3-Clause
// What the parts of a KV transfer share: kv_transfer.c moves KV, kv_transfer_loss.c deals with ranks that are
// lost. Private to both.
#ifndef PR_COMM_KV_TRANSFER_STATE_H
#define PR_COMM_KV_TRANSFER_STATE_H

#include "comm/kv_transfer.h"
#include "comm/mpi_wait.h"

#ifdef PR_HAVE_MPI

enum {
    PR_KV_SEND_SLABS = 8,
    PR_KV_GATHER_SLABS = 4,
    PR_KV_RECEIVE_SLABS = 4,
    PR_KV_GATHER_BEGIN = PR_KV_SEND_SLABS,
    PR_KV_RECEIVE_BEGIN = PR_KV_SEND_SLABS + PR_KV_GATHER_SLABS,
    PR_KV_SLABS = PR_KV_RECEIVE_BEGIN + PR_KV_RECEIVE_SLABS,
    PR_KV_GATHER_PATIENCE = 4,  // comm timeouts: its source may first run two plans and a step
    PR_KV_DESTROY_MS = 10000
};

typedef struct pr_kv_slab {
    char *memory;
    bool busy;
    int32_t peer;  // world rank
    size_t size_bytes;
    MPI_Request request;
} pr_kv_slab;

// One pair (source rank, target rank) of a handover or gather.
typedef struct pr_kv_pair {
    int32_t peer;               // world rank of the other side
    int32_t first_head, heads;  // absolute
    int32_t layers;             // arrived; of a gather at its source: put into slabs
    pr_kv_slab *slab;           // arriving now, or NULL
} pr_kv_pair;

typedef struct pr_kv_move {
    struct pr_kv_move *next;
    pr_handover handover;  // its blocks are behind the pairs
    int64_t moved_ns;      // when something last came
    bool intact;
    int32_t pairs;
    pr_kv_pair pair[];
} pr_kv_move;

typedef struct pr_kv_arrival {
    struct pr_kv_arrival *next;
    pr_arrival_report report;
} pr_kv_arrival;

struct pr_kv_transfer {
    pr_kv_transfer_params params;
    int32_t rank;
    int32_t group, lane;
    size_t slab_bytes;
    pr_kv_slab slab[PR_KV_SLABS];  // for handovers, for gathers, for what comes
    pr_kv_move *sending;           // handovers, in order of send
    pr_kv_move *gathering;         // gathers, the same
    pr_kv_move *expected;          // in order of expect
    pr_kv_arrival *arrived;        // not yet told, in order
    int64_t sent_bytes, sent_messages;
    bool complete;  // create has worked
    bool *lost;     // [groups]
    int32_t losses;
    MPI_Comm comm;
};

// kv_transfer_loss.c

// *done: the slab's message has gone or come.
pr_status pr_kv_transfer_test_slab(pr_kv_slab *slab, bool *done) PR_MUST_CHECK;

// MPI may still read or write the slab's memory, for a rank that is lost: that memory stays to it until the
// process ends, and the slab gets other.
pr_status pr_kv_transfer_abandon_slab(pr_kv_transfer *transfer, pr_kv_slab *slab) PR_MUST_CHECK;

bool pr_kv_transfer_has_lost(const pr_kv_transfer *transfer, int32_t rank);

// Takes out the moves whose other ends are lost. Their slabs that receive are left to MPI.
pr_status
pr_kv_transfer_drop_lost(pr_kv_transfer *transfer, bool sends, pr_kv_move **list) PR_MUST_CHECK;

void pr_kv_transfer_free_moves(pr_kv_move *move);
void pr_kv_transfer_free_arrivals(pr_kv_transfer *transfer);

#endif
#endif
