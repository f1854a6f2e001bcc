// SPDX-License-Identifier: BSD-3-Clause
// Whose a sequence is. Ids are given out in order, 1, 2, 3, ..., a run of them to each owner; the table is as
// long as the oldest open one is old.
// Threads: one.
#ifndef PR_LAUNCHER_OPENAI_SEQUENCE_OWNERS_H
#define PR_LAUNCHER_OPENAI_SEQUENCE_OWNERS_H

#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_sequence_owners {
    void **owner;  // [next_id - first_id], NULL when over
    uint64_t first_id, next_id, capacity;
} pr_sequence_owners;

void pr_sequence_owners_begin(pr_sequence_owners *owners);
void pr_sequence_owners_end(pr_sequence_owners *owners);

// The next `count` ids are the owner's; *first_id is the first of them.
pr_status pr_sequence_owners_add(
    pr_sequence_owners *owners, void *owner, int32_t count, uint64_t *first_id) PR_MUST_CHECK;
void pr_sequence_owners_remove(pr_sequence_owners *owners, uint64_t first_id, int32_t count);
// NULL: it is over, or there never was one.
void *pr_sequence_owners_find(const pr_sequence_owners *owners, uint64_t id);

#endif
