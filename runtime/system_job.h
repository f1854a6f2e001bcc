// SPDX-License-Identifier: BSD-3-Clause
// What the system that runs us has said: which job this is and until when it may run. Filled by slurm/
// (libslurm) and k8s-adapter/ (the pod), chosen by the launcher; runtime itself only gives the shape.
// Threads: any, one at a time for a source.
#ifndef PR_RUNTIME_SYSTEM_JOB_H
#define PR_RUNTIME_SYSTEM_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_SYSTEM_JOB_ID_BYTES = 64 };

typedef struct pr_system_job {
    char id[PR_SYSTEM_JOB_ID_BYTES];  // "1234", "1234_5" of an array, a pod's name
    int32_t restarts;                 // times this job was started before
    int64_t end_unix_s;               // when it will be ended; 0: no limit is known
} pr_system_job;

typedef struct pr_system_job_source {
    const char *name;  // "slurm", "kubernetes"
    // True if this process runs in such a job. Cheap, never fails.
    bool (*is_here)(void);
    // Reads what there is now: the end of a job can be moved while it runs. May take 100 ms. On an error
    // (the controller of the cluster does not answer) *job keeps what it was.
    pr_status (*read)(pr_system_job *job);
} pr_system_job_source;

#endif
