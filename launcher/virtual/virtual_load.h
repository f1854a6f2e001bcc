// SPDX-License-Identifier: BSD-3-Clause
// The requests of a run on virtual time: who arrives when, and where each one's output ends, which
// nobody but the null groups looks at.
// Threads: one. Cost: find is O(1).
#ifndef PR_LAUNCHER_VIRTUAL_VIRTUAL_LOAD_H
#define PR_LAUNCHER_VIRTUAL_VIRTUAL_LOAD_H

#include "runtime/batch/plan.h"

typedef struct pr_virtual_request {
    pr_request *request;
    int64_t arrival_ns;  // from the run's start
    int32_t outputs;     // it ends with so many; 0: not known, max_tokens
    int32_t *output;     // [outputs], or NULL: made up
    int32_t output_room;
    pr_finish finish;  // of the last; NONE: not known
    bool left;         // the client left after the last
} pr_virtual_request;

typedef struct pr_virtual_load {
    int64_t requests, room;
    pr_virtual_request *request;  // [requests], ascending arrival
    int64_t *slot;                // [slots] by hash of the id: index + 1, 0 = free
    int64_t slots;
} pr_virtual_load;

// Takes the request on success. Errors: PR_ERR_RESOURCE, PR_ERR_FORMAT (the id is there already).
pr_status
pr_virtual_load_add(pr_virtual_load *load, pr_request *request, int64_t arrival_ns) PR_MUST_CHECK;
// Notes output number `index`.
pr_status pr_virtual_load_output(
    pr_virtual_load *load, int64_t request, int32_t index, int32_t token) PR_MUST_CHECK;
int64_t pr_virtual_load_find(const pr_virtual_load *load, uint64_t id);  // -1: not there
void pr_virtual_load_free(pr_virtual_load *load);

// What a group without a model samples.
static inline int32_t pr_virtual_load_token(const pr_virtual_request *request, int32_t index)
{
    return request->output && index < request->outputs ? request->output[index] : index;
}

#endif
