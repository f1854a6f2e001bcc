// SPDX-License-Identifier: BSD-3-Clause
// What a fallible function returns, ordered by what is lost: argument, resource, request, group,
// process. The first function that decides something is an error says so with pr_fail (log.h);
// callers only pass the status on with PR_TRY.
#ifndef PR_RUNTIME_BASE_STATUS_H
#define PR_RUNTIME_BASE_STATUS_H

typedef enum pr_status {
    PR_OK = 0,
    PR_ERR_ARGUMENT = -1,     // a value given by the caller or user is wrong
    PR_ERR_FORMAT = -2,       // a file or message is not well formed
    PR_ERR_UNSUPPORTED = -3,  // well formed, but not something this program can do
    PR_ERR_NOT_FOUND = -4,    // a file, name or entry does not exist
    PR_ERR_RESOURCE = -10,    // memory, KV blocks, descriptors: may work later or with other limits
    PR_ERR_IO = -11,          // the system refused a read, write, map or socket call
    PR_ERR_REQUEST = -20,     // one request is lost, the rest goes on
    PR_ERR_INTERRUPTED = -25,  // the run was told to end before it began
    PR_ERR_TIMEOUT = -30,      // a wait within a group passed its limit
    PR_ERR_PEER = -31,         // another rank is gone or sent nonsense
    PR_ERR_INTERNAL = -40,     // our own mistake
} pr_status;

#define PR_MUST_CHECK __attribute__((warn_unused_result))

const char *pr_status_name(pr_status status);

// Returns from the calling function when the call fails.
#define PR_TRY(call)                                                                               \
    do {                                                                                           \
        pr_status try_status_ = (call);                                                            \
        if (try_status_ != PR_OK)                                                                  \
            return try_status_;                                                                    \
    } while (0)

// Jumps to the label when the call fails; the caller's variable `status` holds the reason.
#define PR_TRY_GOTO(call, label)                                                                   \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != PR_OK)                                                                       \
            goto label;                                                                            \
    } while (0)

#endif
