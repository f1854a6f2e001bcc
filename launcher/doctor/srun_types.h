// SPDX-License-Identifier: BSD-3-Clause
// The ways to start MPI programs that "srun --mpi=list" names. Pure. Source: Slurm 22.05 to 24.05.
#ifndef PR_LAUNCHER_DOCTOR_SRUN_TYPES_H
#define PR_LAUNCHER_DOCTOR_SRUN_TYPES_H

enum { PR_SRUN_TYPES_BYTES = 160 };

// "none, pmi2, pmix", in the order of the text; "" if it names none.
void pr_srun_types_list(const char *text, char types[PR_SRUN_TYPES_BYTES]);

#endif
