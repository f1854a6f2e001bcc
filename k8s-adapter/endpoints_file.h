// SPDX-License-Identifier: BSD-3-Clause
// llm-d's endpoints.yaml: where its scheduler, without Kubernetes, finds model servers. It watches the file.
//
//   endpoints:
//     - name: "job4711"
//       namespace: "default"
//       address: "10.0.0.1"    literal IPv4
//       port: "8000"           text
//       labels:
//         llm-d.ai/role: "prefill-decode"
//         llm-d.ai/engine-type: "vllm"
//
// Threads: any. Source: llm-d-router pkg/epp/framework/plugins/datalayer/discovery/file/README.md.
#ifndef PR_K8S_ADAPTER_ENDPOINTS_FILE_H
#define PR_K8S_ADAPTER_ENDPOINTS_FILE_H

#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_endpoints_entry {
    const char *name;     // a DNS name, lower case; unique in the file
    const char *space;    // the namespace; NULL: "default"
    const char *address;  // literal IPv4 at which others reach it
    int32_t port;
    const char *role;  // of llm-d.ai/role; NULL: "prefill-decode"
} pr_endpoints_entry;

// Replaces the file in one step (PATH.tmp, rename); no entries at drain. PR_ERR_ARGUMENT: an entry that llm-d would
// not take, or more than 1 MiB of them; the file is as it was.
pr_status pr_endpoints_file_write(
    const char *path, const pr_endpoints_entry *entry, int32_t entries) PR_MUST_CHECK;

#endif
