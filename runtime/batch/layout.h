// SPDX-License-Identifier: BSD-3-Clause
// Which ranks form which groups. One plain record that scheduler, comm and launcher share; the
// launcher makes it from flags (launcher/engine/layout_choice.h).
//
//   --prefill 1x2:tp=2 --decode 1x4, 6 ranks:   group 0 prefill ranks 0 1 (one lane, tp 2)
//                                               group 1 decode  ranks 2 3 4 5 (four lanes, tp 1)
#ifndef PR_RUNTIME_BATCH_LAYOUT_H
#define PR_RUNTIME_BATCH_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

enum { PR_MAX_GROUPS = 1024 };

typedef enum pr_role { PR_ROLE_MIXED, PR_ROLE_PREFILL, PR_ROLE_DECODE } pr_role;

enum { PR_ROLES = 3 };

typedef struct pr_group_layout {
    pr_role role;
    int32_t first_rank;  // of the ordered world; the group's ranks are consecutive
    int32_t ranks;
    int32_t tp;  // divides ranks; lanes = ranks / tp
} pr_group_layout;

typedef struct pr_layout {
    int32_t ranks;              // of the world
    bool dedicated_controller;  // rank 0 is in no group
    int32_t groups;
    pr_group_layout group[PR_MAX_GROUPS];
} pr_layout;

static inline int32_t pr_layout_lanes(const pr_layout *layout, int32_t group)
{
    return layout->group[group].ranks / layout->group[group].tp;
}

// The group of a world rank, or -1.
static inline int32_t pr_layout_group_of(const pr_layout *layout, int32_t rank)
{
    for (int32_t i = 0; i < layout->groups; i++) {
        const pr_group_layout *group = &layout->group[i];
        if (rank >= group->first_rank && rank < group->first_rank + group->ranks)
            return i;
    }
    return -1;
}

// World rank of a lane's tp rank.
static inline int32_t
pr_layout_rank(const pr_layout *layout, int32_t group, int32_t lane, int32_t tp_rank)
{
    return layout->group[group].first_rank + lane * layout->group[group].tp + tp_rank;
}

static inline const char *pr_role_name(pr_role role)
{
    return role == PR_ROLE_MIXED ? "mixed" : role == PR_ROLE_PREFILL ? "prefill" : "decode";
}

#endif
