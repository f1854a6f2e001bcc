// SPDX-License-Identifier: BSD-3-Clause
// `polyreme doctor`: is this machine and environment ready, and if not, what to do. One finding a line. The
// advice comes from what went wrong in practice. Works on login nodes: MPI is started only if asked for, and
// then in a child process with a limit.
#ifndef PR_LAUNCHER_DOCTOR_DOCTOR_H
#define PR_LAUNCHER_DOCTOR_DOCTOR_H

#include <stdbool.h>

#include "launcher/doctor/finding.h"

// model: a path or NULL.
void pr_doctor_examine(const char *model, bool start_mpi, pr_findings *findings);

#endif
