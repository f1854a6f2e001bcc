// SPDX-License-Identifier: BSD-3-Clause
// Going on without a rank that is lost: the one place that knows by which means.
//
// Open MPI 4.1 under "mpirun --enable-recovery": the launcher lets the others live on, but MPI tells nobody.
// A request to the dead stays pending for ever, and so would everyone who waits for it. The control plane
// notices the loss and tells rank 0, which tells the others; so whoever waits for MPI or for shared memory
// looks, now and then, whether he has been told. What MPI still works on is left to it until the process
// ends: requests, their buffers, communicators, windows. Nobody calls MPI_Finalize, which would wait for the
// dead. Source: Open MPI 4.1.4, tried (docs/recovery.md).
// Threads: the worker's.
#ifndef PR_COMM_RECOVERY_H
#define PR_COMM_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

// Whether the launcher lets the others live on. The program ends by _exit then. Never calls MPI.
bool pr_recovery_is_possible(void);

// From now on every wait of comm/ that lasts asks about once in a millisecond. True: it is in vain, and
// ends with PR_ERR_PEER. NULL: nobody is asked.
void pr_recovery_ask(bool (*in_vain)(void *context), void *context);

// For the waits.
bool pr_recovery_is_in_vain(int64_t now_ns);

#endif
