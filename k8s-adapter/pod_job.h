// SPDX-License-Identifier: BSD-3-Clause
// runtime/system_job.h for a pod of Kubernetes.
//   id   POD_NAME (downward API), else the file /etc/podinfo/name, else HOSTNAME, which is the pod's name too
//   end  ACTIVE_DEADLINE_SECONDS after the start of the container's first process. Kubernetes tells a pod
//        nothing of its activeDeadlineSeconds: the manifest writes the same number in both places. The
//        deadline counts from the pod's start, before images are pulled, so pull them beforehand or write a
//        smaller number here.
// Threads: any. Source: Kubernetes docs, "Downward API", "Job termination and cleanup".
#ifndef PR_K8S_ADAPTER_POD_JOB_H
#define PR_K8S_ADAPTER_POD_JOB_H

#include "runtime/system_job.h"

extern const pr_system_job_source pr_pod_job;

#endif
