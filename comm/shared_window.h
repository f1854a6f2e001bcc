// SPDX-License-Identifier: BSD-3-Clause
// Memory that the ranks of a group on one node share, and how they say that something is in it. Private
// to comm/.
//
//   segment of a rank   | flags: one counter of each domain, a line each | data ... |
//   everyone reads all segments and writes its own only
//
// The ranks of a domain (a lane, or the group) run the same sequence of operations. Each counts its own
// publications; a rank waits until the others' counters have reached its own. A buffer that was read in
// one operation may be written again once its readers have published the next one.
// Cost: a publication is one store with release order; a wait spins some microseconds, then yields. While
// it yields it lets MPI make progress: KV that is on its way needs calls on both sides.
// Source: MPI-3.1 §11.2.3 (shared-memory windows), used as plain memory: no RMA calls after creation.
// Threads: the worker thread. Collective: create and destroy, over the group.
#ifndef PR_COMM_SHARED_WINDOW_H
#define PR_COMM_SHARED_WINDOW_H

#include <stdbool.h>
#include <stddef.h>

#include "comm/group.h"

typedef struct pr_shared_window pr_shared_window;

typedef enum pr_shared_domain {
    PR_SHARED_LANE,
    PR_SHARED_GROUP,
    PR_SHARED_DOMAINS
} pr_shared_domain;

enum { PR_SHARED_WHY_BYTES = 256 };

typedef struct pr_shared_window_params {
    size_t data_bytes;  // of this rank
    int32_t timeout_ms;
    bool shares_cores;  // as in pr_comm_params
} pr_shared_window_params;

// *window is NULL, and why says why, where the ranks are on several nodes or the node's shared memory is
// too small for the segments of all its groups: an answer, not an error. Untouched pages take no memory.
pr_status pr_shared_window_create(
    pr_group *group,
    const pr_shared_window_params *params,
    pr_shared_window **window,
    char why[PR_SHARED_WHY_BYTES]) PR_MUST_CHECK;
// Not after a failed operation: the others may never come.
void pr_shared_window_destroy(pr_shared_window *window);

// The data of a rank of the group, 64-byte aligned.
char *pr_shared_window_data(const pr_shared_window *window, int32_t rank);

// What this rank wrote to its segment is visible to whoever sees the publication.
void pr_shared_window_publish(pr_shared_window *window, pr_shared_domain domain);

// Until the rank has published as often as this one. PR_ERR_TIMEOUT names it.
pr_status pr_shared_window_wait(
    const pr_shared_window *window, pr_shared_domain domain, int32_t rank, const char *operation)
    PR_MUST_CHECK;

#endif
