// SPDX-License-Identifier: BSD-3-Clause
// Data may come before it is expected: it stays with MPI, unmatched, until then. An expectation
// probes for its pairs' messages, so that slabs are held by data that is there, never by data that
// may come, and nothing has to be cancelled at the end.
//
// Who may wait for whom: a handover's sender waits for a slab, so for its target, but targets of
// handovers wait for nobody. Lanes that gather may fetch from each other in any direction at one time,
// so a gather never waits: it has slabs of its own and goes on whenever somebody makes progress.
#include "comm/kv_transfer.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "comm/kv_message.h"
#include "comm/kv_transfer_state.h"
#include "comm/recovery.h"
#include "comm/watch.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/parallel.h"

#ifdef PR_HAVE_MPI

static int32_t lane_of(const pr_layout *layout, int32_t group, int32_t rank)
{
    return (rank - layout->group[group].first_rank) / layout->group[group].tp;
}

static pr_status check_store(const pr_kv_transfer *transfer)
{
    const pr_kv_transfer_params *params = &transfer->params;
    const pr_kv_store *store = params->store;
    const pr_group_layout *group = &params->layout->group[transfer->group];
    int32_t tp_rank = (transfer->rank - group->first_rank) % group->tp;
    int64_t begin = pr_share_begin(params->kv_heads, tp_rank, group->tp);
    int64_t end = pr_share_begin(params->kv_heads, tp_rank + 1, group->tp);
    if (store->first_head != begin || store->kv_heads != end - begin)
        return pr_fail(
            PR_ERR_INTERNAL, "tp rank %d holds KV heads %d..%d, not %d..%d", tp_rank,
            store->first_head, store->first_head + store->kv_heads, (int)begin, (int)end);
    return PR_OK;
}

static pr_status take_slabs(pr_kv_transfer *transfer)
{
    const pr_kv_store *store = transfer->params.store;
    transfer->slab_bytes = pr_kv_message_bytes(store, transfer->params.max_blocks, store->kv_heads);
    if (transfer->slab_bytes > INT_MAX)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "KV of one layer and sequence is %zu bytes, more than one message "
            "holds: lower --max-model-len",
            transfer->slab_bytes);
    for (int32_t i = 0; i < PR_KV_SLABS; i++) {
        void *memory;
        PR_TRY(store->device->host_take(store->device, transfer->slab_bytes, &memory));
        transfer->slab[i].memory = memory;
    }
    return store->device->pages_reserve(
        store->device, transfer->params.max_blocks, transfer->slab_bytes);
}

// A world with replacements has no other use for its communicator.
static pr_status take_comm(pr_kv_transfer *transfer)
{
    if (pr_recovery_is_replacement()) {
        transfer->comm = pr_world_comm(transfer->params.world);
        return PR_OK;
    }
    PR_TRY(pr_mpi_check(
        MPI_Comm_dup(pr_world_comm(transfer->params.world), &transfer->comm),
        "KV transfer creation", -1));
    MPI_Comm_set_errhandler(transfer->comm, MPI_ERRORS_RETURN);
    return PR_OK;
}

pr_status pr_kv_transfer_create(const pr_kv_transfer_params *params, pr_kv_transfer **transfer)
{
    pr_kv_transfer *created = calloc(1, sizeof *created);
    pr_status status;
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the KV transfer");
    created->params = *params;
    created->rank = pr_world_rank(params->world);
    created->comm = MPI_COMM_NULL;
    created->lost = calloc((size_t)params->layout->groups + 1, sizeof *created->lost);
    if (!created->lost) {
        free(created);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the KV transfer");
    }
    created->group = pr_layout_group_of(params->layout, created->rank);
    for (int32_t i = 0; i < PR_KV_SLABS; i++)
        created->slab[i].request = MPI_REQUEST_NULL;
    if (pr_world_ranks(params->world) > 1) {
        PR_TRY_GOTO(take_comm(created), destroy_created);
        if (params->store && created->group >= 0) {
            created->lane = lane_of(params->layout, created->group, created->rank);
            PR_TRY_GOTO(check_store(created), destroy_created);
            PR_TRY_GOTO(take_slabs(created), destroy_created);
        }
    }
    created->complete = true;
    *transfer = created;
    return PR_OK;
destroy_created:
    pr_kv_transfer_destroy(created);
    return status;
}

static pr_kv_slab *free_slab(pr_kv_transfer *transfer, int32_t begin, int32_t end)
{
    for (int32_t i = begin; i < end; i++) {
        if (!transfer->slab[i].busy)
            return &transfer->slab[i];
    }
    return NULL;
}

static pr_status progress_slabs(pr_kv_transfer *transfer, int32_t begin, int32_t end)
{
    for (int32_t i = begin; i < end; i++) {
        bool done = false;
        if (!transfer->slab[i].busy)
            continue;
        if (pr_kv_transfer_has_lost(transfer, transfer->slab[i].peer)) {
            PR_TRY(pr_kv_transfer_abandon_slab(transfer, &transfer->slab[i]));
            continue;
        }
        PR_TRY(pr_kv_transfer_test_slab(&transfer->slab[i], &done));
        transfer->slab[i].busy = !done;
    }
    return PR_OK;
}

// A message that nobody will look at: a run that was interrupted has moves whose other end was never
// told.
static pr_status throw_one_away(pr_kv_transfer *transfer)
{
    pr_kv_slab *slab = free_slab(transfer, PR_KV_RECEIVE_BEGIN, PR_KV_SLABS);
    MPI_Message message;
    MPI_Status probed;
    int found = 0, size = 0;
    if (!slab || !slab->memory)
        return PR_OK;
    PR_TRY(pr_mpi_check(
        MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, transfer->comm, &found, &message, &probed),
        "end of KV transfer", -1));
    if (!found)
        return PR_OK;
    PR_TRY(pr_mpi_check(MPI_Get_count(&probed, MPI_BYTE, &size), "end of KV transfer", -1));
    if (size < 0 || (size_t)size > transfer->slab_bytes)
        return PR_ERR_PEER;
    slab->busy = true;
    return pr_mpi_check(
        MPI_Imrecv(slab->memory, size, MPI_BYTE, &message, &slab->request), "end of KV transfer",
        -1);
}

static bool is_idle(const pr_kv_transfer *transfer, int32_t begin, int32_t end)
{
    bool idle = true;
    for (int32_t i = begin; i < end; i++)
        idle = idle && !transfer->slab[i].busy;
    return idle;
}

// Ends when nobody's messages are under way any more: each rank joins a barrier when its own have been
// taken, and takes those of others until all have joined. False: not within the time.
static bool empty_the_wire(pr_kv_transfer *transfer)
{
    MPI_Request barrier = MPI_REQUEST_NULL;
    bool joined = false;
    int all = 0;
    int64_t deadline_ns = pr_clock_now_ns() + (int64_t)PR_KV_DESTROY_MS * 1000000;
    pr_watch_collective("end of KV transfer");
    for (int32_t spins = 0; !all || !is_idle(transfer, PR_KV_RECEIVE_BEGIN, PR_KV_SLABS);) {
        if (pr_clock_now_ns() > deadline_ns || progress_slabs(transfer, 0, PR_KV_SLABS) != PR_OK ||
            throw_one_away(transfer) != PR_OK)
            return false;
        if (!joined && is_idle(transfer, 0, PR_KV_RECEIVE_BEGIN)) {
            if (MPI_Ibarrier(transfer->comm, &barrier) != MPI_SUCCESS)
                return false;
            joined = true;
        }
        if (joined && MPI_Test(&barrier, &all, MPI_STATUS_IGNORE) != MPI_SUCCESS)
            return false;
        pr_mpi_pause(&spins);
    }
    pr_watch_go();
    return true;
}

void pr_kv_transfer_destroy(pr_kv_transfer *transfer)
{
    if (!transfer)
        return;
    // What MPI still works on stays until the process ends.
    bool idle = transfer->comm == MPI_COMM_NULL || !transfer->complete || empty_the_wire(transfer);
    for (int32_t i = 0; idle && i < PR_KV_SLABS; i++)
        if (transfer->slab[i].memory)
            transfer->params.store->device->host_release(
                transfer->params.store->device, transfer->slab[i].memory);
    if (idle && transfer->comm != MPI_COMM_NULL)
        MPI_Comm_free(&transfer->comm);
    free(transfer->lost);
    pr_kv_transfer_free_moves(transfer->sending);
    pr_kv_transfer_free_moves(transfer->gathering);
    pr_kv_transfer_free_moves(transfer->expected);
    pr_kv_transfer_free_arrivals(transfer);
    free(transfer);
}

static pr_status
check_handover(const pr_kv_transfer *transfer, const pr_handover *handover, const int32_t *block)
{
    const pr_layout *layout = transfer->params.layout;
    const pr_kv_store *store = transfer->params.store;
    bool same =
        handover->from_group == handover->to_group && handover->from_lane == handover->to_lane;
    bool good = transfer->comm != MPI_COMM_NULL && !same && handover->from_group >= 0 &&
                handover->from_group < layout->groups && handover->to_group >= 0 &&
                handover->to_group < layout->groups && handover->from_lane >= 0 &&
                handover->to_lane >= 0 &&
                handover->from_lane < pr_layout_lanes(layout, handover->from_group) &&
                handover->to_lane < pr_layout_lanes(layout, handover->to_group) &&
                handover->tag >= 0 && handover->tag <= 32767 && handover->blocks > 0 &&
                handover->blocks <= transfer->params.max_blocks;
    for (int32_t i = 0; good && i < handover->blocks; i++)
        good = block[i] >= 0 && block[i] < store->blocks;
    if (!good)
        return pr_fail(
            PR_ERR_ARGUMENT, "the handover of request %llu (%d blocks, tag %d) cannot be done",
            (unsigned long long)handover->id, handover->blocks, handover->tag);
    return PR_OK;
}

// Pairs this rank with the ranks of the other lane whose heads overlap its own.
static void
fill_pairs(const pr_kv_transfer *transfer, pr_kv_move *move, int32_t group, int32_t lane)
{
    const pr_layout *layout = transfer->params.layout;
    const pr_kv_store *store = transfer->params.store;
    int32_t tp = layout->group[group].tp, g = transfer->params.kv_heads;
    for (int32_t r = 0; r < tp; r++) {
        int32_t begin = (int32_t)pr_share_begin(g, r, tp);
        int32_t end = (int32_t)pr_share_begin(g, r + 1, tp);
        if (begin < store->first_head)
            begin = store->first_head;
        if (end > store->first_head + store->kv_heads)
            end = store->first_head + store->kv_heads;
        if (begin < end)
            move->pair[move->pairs++] = (pr_kv_pair){
                .peer = pr_layout_rank(layout, group, lane, r),
                .first_head = begin,
                .heads = end - begin};
    }
}

// Adds a copy of the handover to the end of a list.
static pr_status
add_move(pr_kv_transfer *transfer, const pr_handover *handover, bool sends, pr_kv_move **list)
{
    const int32_t *block = sends ? handover->from_block : handover->to_block;
    PR_TRY(check_handover(transfer, handover, block));
    int32_t group = sends ? handover->to_group : handover->from_group;
    size_t pairs = (size_t)transfer->params.layout->group[group].tp;
    size_t blocks = (size_t)handover->blocks;
    pr_kv_move *move =
        calloc(1, sizeof *move + pairs * sizeof(pr_kv_pair) + blocks * sizeof(int32_t));
    if (!move)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a handover of %zu blocks", blocks);
    int32_t *copy = (int32_t *)(void *)&move->pair[pairs];
    memcpy(copy, block, blocks * sizeof(int32_t));
    move->handover = *handover;
    move->handover.from_block = move->handover.to_block = copy;
    move->intact = true;
    move->moved_ns = pr_clock_now_ns();
    fill_pairs(transfer, move, group, sends ? handover->to_lane : handover->from_lane);
    while (*list)
        list = &(*list)->next;
    *list = move;
    return PR_OK;
}

pr_status pr_kv_transfer_send(pr_kv_transfer *transfer, const pr_handover *handover)
{
    if (handover->from_group != transfer->group || handover->from_lane != transfer->lane ||
        transfer->lost[handover->to_group])
        return PR_OK;
    return add_move(
        transfer, handover, true, handover->gather ? &transfer->gathering : &transfer->sending);
}

pr_status pr_kv_transfer_expect(pr_kv_transfer *transfer, const pr_handover *handover)
{
    if (handover->to_group != transfer->group || handover->to_lane != transfer->lane ||
        transfer->lost[handover->from_group])
        return PR_OK;
    return add_move(transfer, handover, false, &transfer->expected);
}

static pr_status begin_receive(pr_kv_transfer *transfer, const pr_kv_move *move, pr_kv_pair *pair)
{
    pr_kv_slab *slab = free_slab(transfer, PR_KV_RECEIVE_BEGIN, PR_KV_SLABS);
    MPI_Message message;
    MPI_Status probed;
    int found = 0, size = 0;
    if (!slab)
        return PR_OK;
    PR_TRY(pr_mpi_check(
        MPI_Improbe(pair->peer, move->handover.tag, transfer->comm, &found, &message, &probed),
        "KV transfer", pair->peer));
    if (!found)
        return PR_OK;
    PR_TRY(pr_mpi_check(MPI_Get_count(&probed, MPI_BYTE, &size), "KV transfer", pair->peer));
    if (size < 0 || (size_t)size > transfer->slab_bytes)
        return pr_fail(
            PR_ERR_PEER, "rank %d sent a KV message of %d bytes, more than a sequence can have",
            pair->peer, size);
    slab->busy = true;
    slab->peer = pair->peer;
    slab->size_bytes = (size_t)size;
    pair->slab = slab;
    return pr_mpi_check(
        MPI_Imrecv(slab->memory, size, MPI_BYTE, &message, &slab->request), "KV transfer",
        pair->peer);
}

static void take_message(pr_kv_transfer *transfer, pr_kv_move *move, pr_kv_pair *pair)
{
    pr_kv_range range = {
        .handover = &move->handover,
        .layer = pair->layers,
        .first_head = pair->first_head,
        .heads = pair->heads};
    const char *fault = pr_kv_message_unpack(
        transfer->params.store, &range, pair->slab->memory, pair->slab->size_bytes);
    if (fault && move->intact)
        pr_log(
            PR_LOG_WARN, "KV of request %llu, layer %d, from rank %d %s: it will be computed again",
            (unsigned long long)move->handover.id, pair->layers, pair->peer, fault);
    move->intact = move->intact && !fault;
    move->moved_ns = pr_clock_now_ns();
    pair->slab->busy = false;
    pair->slab = NULL;
    pair->layers++;
}

// Takes what there is of one expected handover. *complete: all pairs have all layers.
static pr_status progress_move(pr_kv_transfer *transfer, pr_kv_move *move, bool *complete)
{
    int32_t layers = transfer->params.store->layers;
    *complete = true;
    for (int32_t i = 0; i < move->pairs; i++) {
        pr_kv_pair *pair = &move->pair[i];
        for (bool done = true; done && pair->layers < layers;) {
            done = false;
            if (!pair->slab)
                PR_TRY(begin_receive(transfer, move, pair));
            if (pair->slab)
                PR_TRY(pr_kv_transfer_test_slab(pair->slab, &done));
            if (done)
                take_message(transfer, move, pair);
        }
        *complete = *complete && pair->layers == layers;
    }
    return PR_OK;
}

static pr_status report_arrival(pr_kv_transfer *transfer, const pr_kv_move *move)
{
    pr_kv_arrival *arrival = calloc(1, sizeof *arrival), **last = &transfer->arrived;
    if (!arrival)
        return pr_fail(PR_ERR_RESOURCE, "no memory for an arrival report");
    arrival->report = (pr_arrival_report){
        .id = move->handover.id, .generation = move->handover.generation, .intact = move->intact};
    while (*last)
        last = &(*last)->next;
    *last = arrival;
    return PR_OK;
}

static pr_status check_late(const pr_kv_transfer *transfer, const pr_kv_move *move)
{
    int32_t limit_ms =
        transfer->params.timeout_ms * (move->handover.gather ? PR_KV_GATHER_PATIENCE : 1);
    if (pr_clock_now_ns() - move->moved_ns <= (int64_t)limit_ms * 1000000)
        return PR_OK;
    const pr_kv_pair *late = move->pair;
    while (late->layers == transfer->params.store->layers)
        late++;
    return pr_fail(
        PR_ERR_TIMEOUT, "rank %d did not answer within %d ms in KV transfer of request %llu",
        late->peer, limit_ms, (unsigned long long)move->handover.id);
}

// Sends one layer of a move to one pair's target from a free slab.
static pr_status send_slab(
    pr_kv_transfer *transfer,
    const pr_kv_move *move,
    const pr_kv_pair *pair,
    int32_t layer,
    pr_kv_slab *slab)
{
    const pr_kv_store *store = transfer->params.store;
    pr_kv_range range = {
        .handover = &move->handover,
        .layer = layer,
        .first_head = pair->first_head,
        .heads = pair->heads};
    slab->size_bytes = pr_kv_message_bytes(store, move->handover.blocks, pair->heads);
    slab->peer = pair->peer;
    PR_TRY(pr_kv_message_pack(store, &range, slab->memory));
    if (transfer->params.corrupt_for_test && ++transfer->sent_messages % 3 == 0)
        slab->memory[slab->size_bytes / 2] ^= 1;
    transfer->sent_bytes += (int64_t)slab->size_bytes;
    slab->busy = true;
    // Synchronous: a slab is free when its receiver has begun to take it. Small messages would else be
    // buffered without end, and a receiver that is stuck would block us inside MPI.
    return pr_mpi_check(
        MPI_Issend(
            slab->memory, (int)slab->size_bytes, MPI_BYTE, pair->peer, move->handover.tag,
            transfer->comm, &slab->request),
        "KV transfer", pair->peer);
}

// Puts into slabs what there is room for, layer by layer, so that all targets of a gather go on.
static pr_status progress_gather(pr_kv_transfer *transfer, pr_kv_move *move, bool *complete)
{
    int32_t layers = transfer->params.store->layers;
    *complete = false;
    for (int32_t layer = 0; layer < layers; layer++) {
        for (int32_t i = 0; i < move->pairs; i++) {
            pr_kv_pair *pair = &move->pair[i];
            if (pair->layers > layer)
                continue;
            pr_kv_slab *slab = free_slab(transfer, PR_KV_GATHER_BEGIN, PR_KV_RECEIVE_BEGIN);
            if (!slab)
                return PR_OK;
            PR_TRY(send_slab(transfer, move, pair, layer, slab));
            pair->layers++;
        }
    }
    *complete = true;
    return PR_OK;
}

static pr_status progress_gathers(pr_kv_transfer *transfer)
{
    while (transfer->gathering && free_slab(transfer, PR_KV_GATHER_BEGIN, PR_KV_RECEIVE_BEGIN)) {
        pr_kv_move *move = transfer->gathering;
        bool complete;
        PR_TRY(progress_gather(transfer, move, &complete));
        if (!complete)
            return PR_OK;
        transfer->gathering = move->next;
        free(move);
    }
    return PR_OK;
}

static pr_status progress_all(pr_kv_transfer *transfer)
{
    PR_TRY(progress_slabs(transfer, 0, PR_KV_RECEIVE_BEGIN));
    PR_TRY(pr_kv_transfer_drop_lost(transfer, true, &transfer->gathering));
    PR_TRY(pr_kv_transfer_drop_lost(transfer, false, &transfer->expected));
    PR_TRY(progress_gathers(transfer));
    for (pr_kv_move **place = &transfer->expected; *place;) {
        pr_kv_move *move = *place;
        bool complete = false;
        PR_TRY(progress_move(transfer, move, &complete));
        if (complete) {
            PR_TRY(report_arrival(transfer, move));
            *place = move->next;
            free(move);
            continue;
        }
        PR_TRY(check_late(transfer, move));
        place = &move->next;
    }
    return PR_OK;
}

// A slab to send from. Receives go on meanwhile, so that two lanes that wait for each other's slabs
// free them. The wait ends at half the limit: the sender's own group waits for it, and must not be the
// first to speak, because it would name the sender and not the rank that is stuck.
static pr_status wait_for_slab(pr_kv_transfer *transfer, pr_kv_slab **slab)
{
    int32_t limit_ms = transfer->params.timeout_ms / 2;
    int64_t begin_ns = 0;
    bool told = false;
    for (int32_t spins = 0; !(*slab = free_slab(transfer, 0, PR_KV_SEND_SLABS));) {
        int64_t now_ns = pr_clock_now_ns();
        if (begin_ns == 0)
            begin_ns = now_ns;
        if (now_ns - begin_ns > (int64_t)limit_ms * 1000000)
            return pr_fail(
                PR_ERR_TIMEOUT, "rank %d did not answer within %d ms in KV transfer",
                transfer->slab[0].peer, limit_ms);
        if (!told && now_ns - begin_ns > PR_WATCH_LOOK_MS * INT64_C(1000000)) {
            pr_watch_wait("KV transfer", transfer->slab[0].peer);
            told = true;
        }
        if (pr_recovery_is_in_vain(now_ns))
            return pr_mpi_give_up("KV transfer");
        PR_TRY(progress_all(transfer));
        pr_mpi_pause(&spins);
    }
    if (told)
        pr_watch_go();
    return PR_OK;
}

static pr_status
push_pair(pr_kv_transfer *transfer, const pr_kv_move *move, const pr_kv_pair *pair, int32_t layer)
{
    pr_kv_slab *slab;
    PR_TRY(wait_for_slab(transfer, &slab));
    if (pr_kv_transfer_has_lost(transfer, pair->peer))
        return PR_OK;
    return send_slab(transfer, move, pair, layer, slab);
}

pr_status pr_kv_transfer_push_layer(pr_kv_transfer *transfer, int32_t layer)
{
    for (pr_kv_move **place = &transfer->sending; *place;) {
        pr_kv_move *move = *place;
        for (int32_t i = 0; i < move->pairs; i++)
            PR_TRY(push_pair(transfer, move, &move->pair[i], layer));
        if (layer + 1 < transfer->params.store->layers) {
            place = &move->next;
            continue;
        }
        *place = move->next;
        free(move);
    }
    // A step may be long: what comes and what is fetched from here goes on within it.
    return transfer->gathering || transfer->expected ? progress_all(transfer) : PR_OK;
}

pr_status pr_kv_transfer_progress(
    pr_kv_transfer *transfer, pr_arrival_report *arrival, int32_t capacity, int32_t *arrivals)
{
    PR_TRY(pr_kv_transfer_drop_lost(transfer, true, &transfer->sending));
    PR_TRY(progress_all(transfer));
    while (transfer->arrived && *arrivals < capacity) {
        pr_kv_arrival *first = transfer->arrived;
        arrival[(*arrivals)++] = first->report;
        transfer->arrived = first->next;
        free(first);
    }
    return PR_OK;
}

int32_t pr_kv_transfer_pending(const pr_kv_transfer *transfer)
{
    int32_t pending = 0;
    for (const pr_kv_move *move = transfer->sending; move; move = move->next)
        pending++;
    for (const pr_kv_move *move = transfer->gathering; move; move = move->next)
        pending++;
    for (const pr_kv_move *move = transfer->expected; move; move = move->next)
        pending++;
    for (const pr_kv_arrival *arrival = transfer->arrived; arrival; arrival = arrival->next)
        pending++;
    for (int32_t i = 0; i < PR_KV_RECEIVE_BEGIN; i++)
        pending += transfer->slab[i].busy;
    return pending;
}

int64_t pr_kv_transfer_sent_bytes(const pr_kv_transfer *transfer) { return transfer->sent_bytes; }

#endif
