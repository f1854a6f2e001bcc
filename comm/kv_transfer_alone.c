// SPDX-License-Identifier: BSD-3-Clause
// KV transfer of a build without MPI: one process, nobody to send to.
#include "comm/kv_transfer.h"

#ifndef PR_HAVE_MPI

#include <stdlib.h>

#include "runtime/base/log.h"

struct pr_kv_transfer {
    int32_t rank;
};

pr_status pr_kv_transfer_create(const pr_kv_transfer_params *params, pr_kv_transfer **transfer)
{
    pr_kv_transfer *created = calloc(1, sizeof *created);
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the KV transfer");
    created->rank = pr_world_rank(params->world);
    *transfer = created;
    return PR_OK;
}

void pr_kv_transfer_destroy(pr_kv_transfer *transfer) { free(transfer); }

pr_status pr_kv_transfer_send(pr_kv_transfer *transfer, const pr_handover *handover)
{
    return pr_fail(
        PR_ERR_INTERNAL, "rank %d cannot hand over request %llu: there is no other rank",
        transfer->rank, (unsigned long long)handover->id);
}

pr_status pr_kv_transfer_push_layer(pr_kv_transfer *transfer, int32_t layer)
{
    (void)transfer;
    (void)layer;
    return PR_OK;
}

pr_status pr_kv_transfer_expect(pr_kv_transfer *transfer, const pr_handover *handover)
{
    return pr_kv_transfer_send(transfer, handover);
}

pr_status pr_kv_transfer_progress(
    pr_kv_transfer *transfer, pr_arrival_report *arrival, int32_t capacity, int32_t *arrivals)
{
    (void)transfer;
    (void)arrival;
    (void)capacity;
    (void)arrivals;
    return PR_OK;
}

void pr_kv_transfer_lose(pr_kv_transfer *transfer, int32_t group)
{
    (void)transfer;
    (void)group;
}

void pr_kv_transfer_return(pr_kv_transfer *transfer, int32_t group)
{
    (void)transfer;
    (void)group;
}

pr_status pr_kv_transfer_renew(pr_kv_transfer *transfer, bool afresh)
{
    (void)transfer;
    (void)afresh;
    return PR_OK;
}

int32_t pr_kv_transfer_pending(const pr_kv_transfer *transfer)
{
    (void)transfer;
    return 0;
}

int64_t pr_kv_transfer_sent_bytes(const pr_kv_transfer *transfer)
{
    (void)transfer;
    return 0;
}

#endif
