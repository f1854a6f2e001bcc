// SPDX-License-Identifier: BSD-3-Clause
#include "comm/kv_transfer_state.h"

#ifdef PR_HAVE_MPI

#include <stdlib.h>

#include "runtime/base/log.h"

pr_status pr_kv_transfer_test_slab(pr_kv_slab *slab, bool *done)
{
    int flag = 0;
    PR_TRY(pr_mpi_check(
        MPI_Test(&slab->request, &flag, MPI_STATUS_IGNORE), "KV transfer", slab->peer));
    *done = flag;
    return PR_OK;
}

pr_status pr_kv_transfer_abandon_slab(pr_kv_transfer *transfer, pr_kv_slab *slab)
{
    pr_device *device = transfer->params.store->device;
    void *memory;
    PR_TRY(device->host_take(device, transfer->slab_bytes, &memory));
    *slab = (pr_kv_slab){.memory = memory, .request = MPI_REQUEST_NULL};
    return PR_OK;
}

bool pr_kv_transfer_has_lost(const pr_kv_transfer *transfer, int32_t rank)
{
    return transfer->losses > 0 &&
           transfer->lost[pr_layout_group_of(transfer->params.layout, rank)];
}

void pr_kv_transfer_free_moves(pr_kv_move *move)
{
    while (move) {
        pr_kv_move *next = move->next;
        free(move);
        move = next;
    }
}

void pr_kv_transfer_free_arrivals(pr_kv_transfer *transfer)
{
    while (transfer->arrived) {
        pr_kv_arrival *next = transfer->arrived->next;
        free(transfer->arrived);
        transfer->arrived = next;
    }
}

pr_status pr_kv_transfer_drop_lost(pr_kv_transfer *transfer, bool sends, pr_kv_move **list)
{
    for (pr_kv_move **place = list; transfer->losses > 0 && *place;) {
        pr_kv_move *move = *place;
        if (!transfer->lost[sends ? move->handover.to_group : move->handover.from_group]) {
            place = &move->next;
            continue;
        }
        for (int32_t i = 0; i < move->pairs; i++) {
            if (move->pair[i].slab)
                PR_TRY(pr_kv_transfer_abandon_slab(transfer, move->pair[i].slab));
        }
        *place = move->next;
        free(move);
    }
    return PR_OK;
}

void pr_kv_transfer_lose(pr_kv_transfer *transfer, int32_t group)
{
    transfer->losses += !transfer->lost[group];
    transfer->lost[group] = true;
}

void pr_kv_transfer_return(pr_kv_transfer *transfer, int32_t group)
{
    transfer->losses -= transfer->lost[group];
    transfer->lost[group] = false;
}

static void forget_moves(pr_kv_move **list)
{
    pr_kv_transfer_free_moves(*list);
    *list = NULL;
}

pr_status pr_kv_transfer_renew(pr_kv_transfer *transfer, bool afresh)
{
    PR_TRY(pr_kv_transfer_drop_lost(transfer, true, &transfer->sending));
    PR_TRY(pr_kv_transfer_drop_lost(transfer, true, &transfer->gathering));
    PR_TRY(pr_kv_transfer_drop_lost(transfer, false, &transfer->expected));
    if (afresh) {
        forget_moves(&transfer->sending);
        forget_moves(&transfer->gathering);
        forget_moves(&transfer->expected);
        pr_kv_transfer_free_arrivals(transfer);
    }
    for (int32_t i = 0; i < PR_KV_SLABS; i++) {
        bool done = false;
        if (transfer->slab[i].busy)
            PR_TRY(pr_kv_transfer_test_slab(&transfer->slab[i], &done));
        if (transfer->slab[i].busy && !done)
            PR_TRY(pr_kv_transfer_abandon_slab(transfer, &transfer->slab[i]));
        transfer->slab[i].busy = false;
    }
    transfer->comm = pr_world_comm(transfer->params.world);
    return PR_OK;
}

#endif
