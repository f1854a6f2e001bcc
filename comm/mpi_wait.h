// SPDX-License-Identifier: BSD-3-Clause
// Waiting for MPI with a deadline, and MPI's codes as ours. Private to comm/.
// Polls hard at first, then gives the core away between polls, so that more ranks than cores go on.
// Threads: the worker thread. Empty in a build without MPI.
#ifndef PR_COMM_MPI_WAIT_H
#define PR_COMM_MPI_WAIT_H

#include "comm/world.h"

#ifdef PR_HAVE_MPI

#include <mpi.h>

// MPI_COMM_NULL if MPI was not started.
MPI_Comm pr_world_comm(const pr_world *world);

// The world is this communicator from now on (recovery.c).
void pr_world_adopt(pr_world *world, MPI_Comm comm);

// A process that replaces a lost rank becomes a part of the world: *comm, and the facts it is told.
pr_status pr_recovery_join(MPI_Comm *comm) PR_MUST_CHECK;

// Translates an MPI code; peer is a world rank, -1 for a collective.
pr_status pr_mpi_check(int code, const char *operation, int32_t peer) PR_MUST_CHECK;

// Waits for all requests. A rank that is late is named: "rank 3 did not answer within 5000 ms in
// expert dispatch". After an error the requests are still pending and their buffers must live on.
pr_status pr_mpi_wait_all(
    MPI_Request *request,  // [requests], MPI_REQUEST_NULL allowed
    const int32_t *peer,   // [requests] world ranks, -1 for a collective
    int32_t requests,
    const char *operation,
    int32_t timeout_ms) PR_MUST_CHECK;

// The end of a wait that is in vain (recovery.h).
pr_status pr_mpi_give_up(const char *operation) PR_MUST_CHECK;

// What a polling loop does between two polls; *spins starts at 0.
void pr_mpi_pause(int32_t *spins);

#endif
#endif
