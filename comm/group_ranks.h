// SPDX-License-Identifier: BSD-3-Clause
// What comm/ itself sees of a group: places and communicators. Private to comm/.
#ifndef PR_COMM_GROUP_RANKS_H
#define PR_COMM_GROUP_RANKS_H

#include <stdlib.h>

#include "comm/group.h"
#include "comm/mpi_wait.h"

// Every operation has its tag, so that a lost step shows as a named timeout and not as mixed data.
enum { PR_MAX_CHILDREN = 31 };  // of a rank in a binomial tree
enum {
    PR_TAG_AGREE = 1,
    PR_TAG_REDUCE,
    PR_TAG_GATHER,
    PR_TAG_EXPERT_ENTRIES,
    PR_TAG_EXPERT_ROWS,
    PR_TAG_EXPERT_RESULTS
};

struct pr_group {
    int32_t first_rank;  // world rank of group rank 0
    int32_t ranks, rank;
    int32_t tp, tp_rank, lane;
    int32_t node_ranks;  // of the world on this node, those of other groups too
    bool broken;  // an operation failed: requests may be pending on buffers and communicators
#ifdef PR_HAVE_MPI
    MPI_Comm comm;       // the group
    MPI_Comm lane_comm;  // its lane, ordered by tp rank
    // Of an agreement; here because requests that missed their deadline still point at them.
    int64_t from_child[PR_MAX_CHILDREN], agreed;
#endif
};

// ---- What both exchanges between experts need ------------------------------------------------

// NULL is always a failure: nothing gets memory too.
static inline void *pr_group_take(size_t count, size_t size_bytes)
{
    return malloc(count && size_bytes ? count * size_bytes : 1);
}

// home[e] is the group rank that holds expert e.
static inline void pr_group_find_homes(const pr_group *group, int32_t experts, int32_t *home)
{
    for (int32_t rank = 0; rank < group->ranks; rank++) {
        int64_t end = pr_share_begin(experts, rank + 1, group->ranks);
        for (int64_t e = pr_share_begin(experts, rank, group->ranks); e < end; e++)
            home[e] = rank;
    }
}

#endif
