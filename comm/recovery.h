// SPDX-License-Identifier: BSD-3-Clause
// Going on without a rank that is lost: the one place that knows by which means.
//
// Open MPI 4.1 under "mpirun --enable-recovery": the launcher lets the others live on, but MPI tells nobody.
// A request to the dead stays pending for ever, and so would everyone who waits for it. The control plane
// notices the loss and tells rank 0, which tells the others; so whoever waits for MPI or for shared memory
// looks, now and then, whether he has been told. What MPI still works on is left to it until the process
// ends: requests, their buffers, communicators, windows. Nobody calls MPI_Finalize, which would wait for the
// dead. Source: Open MPI 4.1.4, tried (docs/recovery.md).
// A replacement is one more process of this program, started by MPI_Comm_spawn with rank 0's command line on
// the host of the lost rank. Those that live make a communicator of themselves (MPI_Comm_create_group), start it
// together, and all become one world with the old numbers. These calls block: whoever is lost within them
// takes the run along.
// Threads: the worker's.
#ifndef PR_COMM_RECOVERY_H
#define PR_COMM_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/world.h"

// Whether the launcher lets the others live on. The program ends by _exit then. Never calls MPI.
bool pr_recovery_is_possible(void);

// From now on every wait of comm/ that lasts asks about once in a millisecond. True: it is in vain, and
// ends with PR_ERR_PEER. NULL: nobody is asked.
void pr_recovery_ask(bool (*in_vain)(void *context), void *context);

// Collective over the world, at start-up, where recovery is possible: who is on which host.
pr_status pr_recovery_prepare(pr_world *world) PR_MUST_CHECK;

// Collective over the ranks that live, none of which has anything under way: starts a process for each lost
// rank. Afterwards the world has all its ranks again; communicators made from it before are as they were.
// facts: of rank 0, what the replacements are told. PR_ERR_UNSUPPORTED: they could not be started, and
// nothing has changed.
pr_status pr_recovery_replace(
    pr_world *world,
    const int32_t *lost,  // [losses] ranks, ascending
    int32_t losses,
    int32_t epoch,  // another one every time
    const void *facts,
    int64_t facts_bytes) PR_MUST_CHECK;

// Around calls that may wait inside MPI for one that is lost: who is there longer than so many seconds is
// killed, so that nothing is left of what has failed. 0 ends it.
void pr_recovery_limit(int32_t seconds);
enum { PR_RECOVERY_START_S = 30 };  // of a replacement, until it is a part of the world

// Whether this process replaces a lost rank. Never calls MPI.
bool pr_recovery_is_replacement(void);
// What it was told; valid to the end of the process. Such a world has only this use: nothing collective but
// recovery's own.
const void *pr_recovery_facts(int64_t *facts_bytes);

// For the waits.
bool pr_recovery_is_in_vain(int64_t now_ns);

#endif
