// SPDX-License-Identifier: BSD-3-Clause
// The parts of an examination, each with findings of its own, in the order of doctor.c. Private to doctor/.
// None hangs: what could is done in a child process with a limit. Threads: one.
#ifndef PR_LAUNCHER_DOCTOR_DOCTOR_PARTS_H
#define PR_LAUNCHER_DOCTOR_DOCTOR_PARTS_H

#include "comm/mpi_facts.h"
#include "launcher/doctor/cgroup_limits.h"
#include "launcher/doctor/finding.h"
#include "launcher/placement/topology.h"

// The program and the machine: kernels, cores, threads, memory, its huge pages, GPUs.
void pr_machine_findings_add(
    pr_findings *findings, const pr_topology *topology, const pr_cgroup_limits *cgroup);
// What a process may have, and what processes may do to each other.
void pr_limit_findings_add(pr_findings *findings, const pr_cgroup_limits *cgroup);
// The MPI library, its settings, what can carry messages. start: it is started too.
void pr_mpi_findings_add(pr_findings *findings, bool start, pr_mpi_facts *facts);
void pr_slurm_findings_add(pr_findings *findings, const pr_mpi_facts *facts);
// Where the model (NULL: none is named) and this directory lie.
void pr_file_findings_add(pr_findings *findings, const char *model);

// Whether an environment variable has this value.
bool pr_doctor_environment_is(const char *name, const char *value);

#endif
