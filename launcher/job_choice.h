// SPDX-License-Identifier: BSD-3-Clause
// Which job runs us and when it ends: the source that is here (slurm/slurm_job.h, k8s-adapter/pod_job.h) under
// what --walltime says.
//
//   auto      the job's end, if it has one
//   off       no end
//   DURATION  so long after this process began, or at the job's end if that is earlier
//
// DURATION is written as for Slurm's --time: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.
//
// The source is asked by a process of its own (`polyreme job`), for slurm_job.h's reasons: a controller of Slurm
// that is away, or a broken installation, neither stops a rank nor ends it. One that runs is not waited for; what
// it says comes with a later read.
// Threads: one. Cost: a read looks at a pipe, microseconds; the process takes 50-100 ms of a core.
#ifndef PR_LAUNCHER_JOB_CHOICE_H
#define PR_LAUNCHER_JOB_CHOICE_H

#include <stdint.h>
#include <sys/types.h>

#include "launcher/options.h"
#include "runtime/system_job.h"

enum { PR_JOB_ANSWER_BYTES = 512 };

typedef struct pr_job_choice {
    const pr_system_job_source *source;  // NULL: neither Slurm nor Kubernetes
    bool no_end;                         // --walltime off
    int64_t own_end_unix_s;              // of --walltime DURATION; 0: none
    pr_system_job job;                   // what the source said last
    pid_t asker;                         // 0: none runs
    int pipe;
    int64_t asked_ns;
    int32_t answer_bytes;
    char answer[PR_JOB_ANSWER_BYTES];
} pr_job_choice;

// Waits up to five seconds for the source's first answer; without one there is a warning, and later reads ask
// again. PR_ERR_ARGUMENT: --walltime is none of the above.
pr_status pr_job_choice_open(const pr_options *options, pr_job_choice *choice) PR_MUST_CHECK;

// What is known now; asks the source again if its last answer is older than 30 s. end_unix_s: 0 = no end is known.
// A source that fails leaves the job as it was.
pr_status pr_job_choice_read(pr_job_choice *choice, pr_system_job *job) PR_MUST_CHECK;

// The source that is here, or NULL. Slurm before Kubernetes: a Slurm in pods is nearer to us than the pods.
const pr_system_job_source *pr_job_choice_source(void);

// The seconds of a DURATION; PR_ERR_ARGUMENT says what is allowed. option is how the user named it.
pr_status
pr_job_choice_parse_duration(const char *option, const char *text, int64_t *seconds) PR_MUST_CHECK;

#endif
