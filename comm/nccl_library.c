// SPDX-License-Identifier: BSD-3-Clause
#include "comm/nccl_library.h"

#include <dlfcn.h>
#include <string.h>

#include "runtime/base/log.h"

static const char advice[] = "put its folder on LD_LIBRARY_PATH, or leave --exchange nccl out";

pr_status pr_nccl_library_open(const char *device_name, pr_nccl *nccl)
{
    nccl->name = strcmp(device_name, "hip") == 0 ? "librccl.so.1" : "libnccl.so.2";
    void *library = dlopen(nccl->name, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return pr_fail(
            PR_ERR_NOT_FOUND, "%s cannot be opened (%s): %s", nccl->name, dlerror(), advice);
    const struct {
        const char *symbol;
        void *function;  // a pointer to a function's
    } wanted[] = {
        {"ncclGetVersion", &nccl->version},
        {"ncclGetUniqueId", &nccl->unique_id},
        {"ncclCommInitRank", &nccl->init_rank},
        {"ncclCommDestroy", &nccl->destroy},
        {"ncclGroupStart", &nccl->group_start},
        {"ncclGroupEnd", &nccl->group_end},
        {"ncclSend", &nccl->send},
        {"ncclRecv", &nccl->receive},
        {"ncclGetErrorString", &nccl->error_text},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *found = dlsym(library, wanted[i].symbol);
        if (!found)
            return pr_fail(
                PR_ERR_NOT_FOUND, "%s has no %s: %s", nccl->name, wanted[i].symbol, advice);
        memcpy(wanted[i].function, &found, sizeof found);
    }
    return PR_OK;
}
