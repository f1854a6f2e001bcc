// SPDX-License-Identifier: BSD-3-Clause
// MPI_COMM_WORLD as the program sees it. A build without MPI, and a start without mpirun or srun,
// give a world of one rank that never calls MPI.
#ifndef PR_COMM_WORLD_H
#define PR_COMM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_world pr_world;

// True if the environment says that a launcher started us (OMPI_COMM_WORLD_SIZE, PMIX_RANK,
// PMI_RANK, PMI_SIZE, SLURM_PROCID with a step of more than one task ...). Never calls MPI.
bool pr_world_is_launched(void);

// True on the process that a launcher numbered 0, and without a launcher: the one that speaks of what
// all can see, such as a wrong flag. Never calls MPI.
bool pr_world_is_first(void);

// Calls MPI_Init_thread(FUNNELED) if launched, and duplicates MPI_COMM_WORLD with errors returned.
pr_status pr_world_open(pr_world **world) PR_MUST_CHECK;
void pr_world_close(pr_world *world);  // collective: MPI_Finalize

int32_t pr_world_rank(const pr_world *world);
int32_t pr_world_ranks(const pr_world *world);

// Numbers the ranks anew: what was rank launched[i] becomes rank i. Collective. Whatever was made from the
// world before keeps the old numbers and should be told; only the launcher's own messages go on using them.
pr_status pr_world_reorder(pr_world *world, const int32_t *launched) PR_MUST_CHECK;  // [ranks]
// What the ranks were before that, [ranks]; NULL: there was no other order.
const int32_t *pr_world_launched(const pr_world *world);

// Start-up and end only (blocking, collective). value becomes the largest of all ranks' values.
pr_status pr_world_max(pr_world *world, int64_t *value) PR_MUST_CHECK;
pr_status
pr_world_broadcast(pr_world *world, void *data, int64_t size_bytes) PR_MUST_CHECK;  // from 0
// mine[size_bytes] of every rank to all[ranks][size_bytes].
pr_status
pr_world_gather_all(pr_world *world, const void *mine, void *all, int64_t size_bytes) PR_MUST_CHECK;
// Ends every rank of the job now (MPI_Abort). Never returns.
void pr_world_abort(pr_world *world, int code) __attribute__((noreturn));
// One line on the MPI library ("Open MPI v4.1.4"), or "none". Never calls MPI_Init.
const char *pr_world_library(void);

#endif
