// SPDX-License-Identifier: BSD-3-Clause
// NCCL or RCCL, looked for at run time: what of it is used, by own declarations. Private to comm/.
// Source: NCCL's user guide, "API": names, types and numbers are the same in RCCL and since NCCL 2.7.
#ifndef PR_COMM_NCCL_LIBRARY_H
#define PR_COMM_NCCL_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_NCCL_ID_BYTES = 128, PR_NCCL_FLOAT32 = 7 };

typedef struct pr_nccl_comm pr_nccl_comm;  // ncclComm_t
typedef struct pr_nccl_id {
    char internal[PR_NCCL_ID_BYTES];
} pr_nccl_id;

// Each returns 0 or what error_text explains. Streams are the device's queue.
typedef struct pr_nccl {
    const char *name;  // of the file
    int (*version)(int *version);
    int (*unique_id)(pr_nccl_id *id);
    int (*init_rank)(pr_nccl_comm **comm, int ranks, pr_nccl_id id, int rank);
    int (*destroy)(pr_nccl_comm *comm);
    int (*group_start)(void);
    int (*group_end)(void);
    int (*send)(
        const void *from, size_t count, int type, int peer, pr_nccl_comm *comm, void *stream);
    int (*receive)(void *to, size_t count, int type, int peer, pr_nccl_comm *comm, void *stream);
    const char *(*error_text)(int code);
} pr_nccl;

// device_name: "hip" is RCCL's, any other NCCL's. It stays open until the process ends. PR_ERR_NOT_FOUND, after a line
// that says where it is looked for.
pr_status pr_nccl_library_open(const char *device_name, pr_nccl *nccl) PR_MUST_CHECK;

#endif
