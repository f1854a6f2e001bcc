// SPDX-License-Identifier: BSD-3-Clause
// runtime/system_job.h for Slurm: which job, array task or heterogeneous job runs us, and until when.
// The end comes from the first of these that knows it; a debug line says which:
//   libslurm  loaded at run time, so that no header and no version of Slurm is needed to build. Only functions
//             without structs are called: their form has not changed in twenty years.
//   SLURM_JOB_END_TIME, which newer versions set; a time limit changed later is not in it.
// Every component of a heterogeneous job has a limit of its own, and the first that ends takes the others
// along: the earliest counts.
// libslurm ends the process that calls it where its configuration or a plugin is missing, waits minutes for a
// controller that is away, and keeps what it has heard for 60 s. So read() asks it in a fork, and a run with
// threads and MPI calls read() in a process of its own: launcher/job_choice.h does, by `polyreme job`.
// Threads: read() in a process with one thread.
// Source: sbatch(1), "OUTPUT ENVIRONMENT VARIABLES"; slurm_get_end_time(3).
#ifndef PR_SLURM_SLURM_JOB_H
#define PR_SLURM_SLURM_JOB_H

#include "runtime/system_job.h"

extern const pr_system_job_source pr_slurm_job;

#endif
