// SPDX-License-Identifier: BSD-3-Clause
// What the MPI library says of itself: through MPI_T without being started, and after a start. Meant for a
// child process (doctor): reading loads all of the library's components, which takes half a second and may
// fail in ways that a library has. Threads: one.
#ifndef PR_COMM_MPI_FACTS_H
#define PR_COMM_MPI_FACTS_H

#include <stdbool.h>
#include <stdint.h>

enum { PR_MPI_TEXT_BYTES = 192, PR_MPI_FILES_BYTES = 512 };

typedef enum pr_mpi_kind { PR_MPI_NONE, PR_MPI_OPEN, PR_MPI_MPICH, PR_MPI_OTHER } pr_mpi_kind;

typedef struct pr_mpi_facts {
    pr_mpi_kind kind;
    int32_t version, subversion;       // of the standard
    int32_t major, minor;              // of Open MPI, as linked
    int32_t built_major, built_minor;  // as compiled
    // Open MPI's settings as they would hold, from files and environment; "" where it has none such.
    char pml[PR_MPI_TEXT_BYTES], btl[PR_MPI_TEXT_BYTES];
    char ucx_tls[PR_MPI_TEXT_BYTES], ucx_devices[PR_MPI_TEXT_BYTES];
    char tcp_interfaces[PR_MPI_TEXT_BYTES];
    char files[PR_MPI_FILES_BYTES];  // that settings are read from, by commas
    char pmix[PR_MPI_TEXT_BYTES];    // its PMIx library
    bool settings_known;
    bool gpu_aware;  // built so
    // Of a start.
    bool started;
    bool thread_level_enough;
    char thread_level[32];
    int32_t ranks, node_ranks;
    bool gpu_ready;
} pr_mpi_facts;

void pr_mpi_facts_read(pr_mpi_facts *facts);
// Adds what a start shows: MPI_Init_thread as a run calls it, and MPI_Finalize.
void pr_mpi_facts_start(pr_mpi_facts *facts);

#endif
