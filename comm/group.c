// SPDX-License-Identifier: BSD-3-Clause
#include <assert.h>
#include <stdlib.h>

#include "comm/group_ranks.h"
#include "comm/watch.h"
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

static pr_status count_node_ranks(MPI_Comm whole, int32_t *ranks)
{
    MPI_Comm node;
    int size = 1;
    PR_TRY(pr_mpi_check(
        MPI_Comm_split_type(whole, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "group creation",
        -1));
    MPI_Comm_size(node, &size);
    MPI_Comm_free(&node);
    *ranks = size;
    return PR_OK;
}

// Agreement over a binomial tree, up and down again: rank r has the children r + 2^i for every 2^i
// below its lowest bit (all, for the leader), and the parent r without that bit. By hand, because a
// collective cannot say who is late.
static int32_t lowest_bit(const pr_group *group)
{
    return group->rank == 0 ? INT32_C(1) << 30 : group->rank & -group->rank;
}

static int32_t list_children(const pr_group *group, int32_t child[PR_MAX_CHILDREN])
{
    int32_t children = 0;
    for (int32_t bit = lowest_bit(group) >> 1; bit > 0; bit >>= 1) {
        if (bit < group->ranks - group->rank)
            child[children++] = group->rank + bit;
    }
    return children;
}

static const char agreement[] = "group agreement";

// One message with each of the peers (ranks of the group), to or from value[].
static pr_status exchange(
    pr_group *group,
    bool sends,
    const int32_t *other,
    int32_t others,
    int64_t *value,  // [others] when receiving, [1] when sending
    int32_t timeout_ms)
{
    MPI_Request request[PR_MAX_CHILDREN];
    int32_t peer[PR_MAX_CHILDREN];
    for (int32_t i = 0; i < others; i++) {
        peer[i] = group->first_rank + other[i];
        int code =
            sends
                ? MPI_Isend(value, 1, MPI_INT64_T, other[i], PR_TAG_AGREE, group->comm, &request[i])
                : MPI_Irecv(
                      &value[i], 1, MPI_INT64_T, other[i], PR_TAG_AGREE, group->comm, &request[i]);
        PR_TRY(pr_mpi_check(code, agreement, peer[i]));
    }
    return pr_mpi_wait_all(request, peer, others, agreement, timeout_ms);
}

static pr_status agree(pr_group *group, int64_t *value, int32_t timeout_ms)
{
    int32_t child[PR_MAX_CHILDREN] = {0}, children = list_children(group, child);
    group->agreed = *value;
    PR_TRY(exchange(group, false, child, children, group->from_child, timeout_ms));
    for (int32_t i = 0; i < children; i++) {
        if (group->from_child[i] > group->agreed)
            group->agreed = group->from_child[i];
    }
    if (group->rank != 0) {
        int32_t parent = group->rank - lowest_bit(group);
        PR_TRY(exchange(group, true, &parent, 1, &group->agreed, timeout_ms));
        PR_TRY(exchange(group, false, &parent, 1, &group->agreed, timeout_ms));
    }
    PR_TRY(exchange(group, true, child, children, &group->agreed, timeout_ms));
    *value = group->agreed;
    return PR_OK;
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
        pr_watch_collective("group creation");
        PR_TRY_GOTO(count_node_ranks(whole, &created->node_ranks), free_created);
        PR_TRY_GOTO(
            split(whole, index >= 0 ? index : MPI_UNDEFINED, rank, &created->comm), free_created);
        if (index >= 0)
            PR_TRY_GOTO(
                split(created->comm, created->lane, created->tp_rank, &created->lane_comm),
                free_created);
        pr_watch_go();
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

#ifdef PR_HAVE_MPI
static pr_status
join_again(pr_world *world, const pr_group_layout *layout, int32_t epoch, pr_group *group)
{
    MPI_Group all, ours;
    MPI_Comm whole = pr_world_comm(world);
    int range[1][3] = {{layout->first_rank, layout->first_rank + layout->ranks - 1, 1}};
    PR_TRY(pr_mpi_check(MPI_Comm_group(whole, &all), "group creation", -1));
    PR_TRY(pr_mpi_check(MPI_Group_range_incl(all, 1, range, &ours), "group creation", -1));
    PR_TRY(pr_mpi_check(
        MPI_Comm_create_group(whole, ours, epoch % 32768, &group->comm), "group creation", -1));
    MPI_Group_free(&all);
    MPI_Group_free(&ours);
    MPI_Comm_set_errhandler(group->comm, MPI_ERRORS_RETURN);
    PR_TRY(count_node_ranks(group->comm, &group->node_ranks));
    return split(group->comm, group->lane, group->tp_rank, &group->lane_comm);
}
#endif

pr_status
pr_group_create_again(pr_world *world, const pr_layout *layout, int32_t epoch, pr_group **group)
{
    int32_t rank = pr_world_rank(world), index = pr_layout_group_of(layout, rank);
    PR_TRY(check_shape(world, layout, index));
    pr_group *created = calloc(1, sizeof *created);
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the group");
    fill_place(created, &layout->group[index], rank);
    pr_status status = PR_OK;
#ifdef PR_HAVE_MPI
    created->comm = created->lane_comm = MPI_COMM_NULL;
    status = join_again(world, &layout->group[index], epoch, created);
#else
    (void)epoch;
#endif
    if (status != PR_OK) {
        pr_group_destroy(created);
        return status;
    }
    *group = created;
    return PR_OK;
}

void pr_group_destroy(pr_group *group)
{
    if (!group)
        return;
#ifdef PR_HAVE_MPI
    // A broken group has pending requests: its communicators stay until the process ends.
    if (!group->broken) {
        if (group->lane_comm != MPI_COMM_NULL)
            MPI_Comm_free(&group->lane_comm);
        if (group->comm != MPI_COMM_NULL)
            MPI_Comm_free(&group->comm);
    }
#endif
    free(group);
}

void pr_group_abandon(pr_group *group) { group->broken = true; }

pr_status pr_group_agree(pr_group *group, int64_t *value, int32_t timeout_ms)
{
    assert(!group->broken);
    if (group->ranks == 1)
        return PR_OK;
#ifdef PR_HAVE_MPI
    pr_watch_begin("group agreement", -1);
    pr_status status = agree(group, value, timeout_ms);
    group->broken = status != PR_OK;
    return status;
#else
    (void)value;
    (void)timeout_ms;
    return pr_fail(PR_ERR_INTERNAL, "a group of %d ranks in a build without MPI", group->ranks);
#endif
}
