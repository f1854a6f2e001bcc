// SPDX-License-Identifier: BSD-3-Clause
#include <assert.h>
#include <stdlib.h>

#include "comm/group_ranks.h"
#include "runtime/base/log.h"

static pr_status check_shape(pr_world *world, const pr_layout *layout, int32_t index)
{
    if (layout->ranks != pr_world_ranks(world))
        return pr_fail(
            PR_ERR_ARGUMENT, "the layout is for %d ranks, but %d were started", layout->ranks,
            pr_world_ranks(world));
    if (index < 0)
        return PR_OK;
    const pr_group_layout *group = &layout->group[index];
    if (group->tp < 1 || (group->tp & (group->tp - 1)) != 0 || group->ranks % group->tp != 0)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "tp %d does not fit a group of %d ranks: use a power of two that "
            "divides them",
            group->tp, group->ranks);
    return PR_OK;
}

static void fill_place(pr_group *group, const pr_group_layout *layout, int32_t world_rank)
{
    group->first_rank = layout->first_rank;
    group->ranks = layout->ranks;
    group->tp = layout->tp;
    group->rank = world_rank - layout->first_rank;
    group->lane = group->rank / layout->tp;
    group->tp_rank = group->rank % layout->tp;
}

#ifdef PR_HAVE_MPI

static pr_status split(MPI_Comm from, int color, int key, MPI_Comm *to)
{
    PR_TRY(pr_mpi_check(MPI_Comm_split(from, color, key, to), "group creation", -1));
    if (*to != MPI_COMM_NULL)
        MPI_Comm_set_errhandler(*to, MPI_ERRORS_RETURN);
    return PR_OK;
}

// Binomial tree from the leader: rank r receives from r without its lowest bit, and sends to
// r + 2^i for every 2^i below its lowest bit. By hand, because a broadcast cannot say who is late.
static pr_status agree(pr_group *group, int32_t timeout_ms)
{
    enum { MAX_CHILDREN = 31 };
    MPI_Request request[MAX_CHILDREN];
    int32_t peer[MAX_CHILDREN], requests = 0;
    int32_t low = group->rank == 0 ? INT32_C(1) << 30 : group->rank & -group->rank;
    if (group->rank != 0) {
        int parent = group->rank - low;
        peer[0] = group->first_rank + parent;
        PR_TRY(pr_mpi_check(
            MPI_Irecv(
                &group->agreed, 1, MPI_INT64_T, parent, PR_TAG_AGREE, group->comm, &request[0]),
            "group agreement", peer[0]));
        PR_TRY(pr_mpi_wait_all(request, peer, 1, "group agreement", timeout_ms));
    }
    for (int32_t bit = low >> 1; bit > 0; bit >>= 1) {
        if (bit >= group->ranks - group->rank)
            continue;
        int child = group->rank + bit;
        peer[requests] = group->first_rank + child;
        PR_TRY(pr_mpi_check(
            MPI_Isend(
                &group->agreed, 1, MPI_INT64_T, child, PR_TAG_AGREE, group->comm,
                &request[requests]),
            "group agreement", peer[requests]));
        requests++;
    }
    return pr_mpi_wait_all(request, peer, requests, "group agreement", timeout_ms);
}

#endif

pr_status pr_group_create(pr_world *world, const pr_layout *layout, pr_group **group)
{
    int32_t rank = pr_world_rank(world), index = pr_layout_group_of(layout, rank);
    PR_TRY(check_shape(world, layout, index));
    pr_group *created = calloc(1, sizeof *created);
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the group");
    if (index >= 0)
        fill_place(created, &layout->group[index], rank);
#ifdef PR_HAVE_MPI
    pr_status status = PR_OK;
    created->comm = created->lane_comm = MPI_COMM_NULL;
    if (layout->ranks > 1) {
        MPI_Comm whole = pr_world_comm(world);
        PR_TRY_GOTO(
            split(whole, index >= 0 ? index : MPI_UNDEFINED, rank, &created->comm), free_created);
        if (index >= 0)
            PR_TRY_GOTO(
                split(created->comm, created->lane, created->tp_rank, &created->lane_comm),
                free_created);
    }
#endif
    if (index < 0) {
        free(created);
        created = NULL;
    }
    *group = created;
    return PR_OK;
#ifdef PR_HAVE_MPI
free_created:
    pr_group_destroy(created);
    return status;
#endif
}

void pr_group_destroy(pr_group *group)
{
    // A broken group has pending requests: it stays until the process ends.
    if (!group || group->broken)
        return;
#ifdef PR_HAVE_MPI
    if (group->lane_comm != MPI_COMM_NULL)
        MPI_Comm_free(&group->lane_comm);
    if (group->comm != MPI_COMM_NULL)
        MPI_Comm_free(&group->comm);
#endif
    free(group);
}

pr_status pr_group_agree(pr_group *group, int64_t *value, int32_t timeout_ms)
{
    assert(!group->broken);
    if (group->ranks == 1)
        return PR_OK;
#ifdef PR_HAVE_MPI
    if (group->rank == 0)
        group->agreed = *value;
    pr_status status = agree(group, timeout_ms);
    group->broken = status != PR_OK;
    if (status == PR_OK)
        *value = group->agreed;
    return status;
#else
    (void)value;
    (void)timeout_ms;
    return pr_fail(PR_ERR_INTERNAL, "a group of %d ranks in a build without MPI", group->ranks);
#endif
}
