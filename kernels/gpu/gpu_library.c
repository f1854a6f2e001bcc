// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/gpu_library.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"

static void path_of(const char *name, char path[PATH_MAX + 64])
{
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash)
        slash[1] = '\0';
    snprintf(path, PATH_MAX + 64, "%spolyreme_%.32s.so", program, name);
}

pr_status pr_gpu_library_open(const char *name, const pr_gpu_backend **backend)
{
    char path[PATH_MAX + 64];
    path_of(name, path);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return pr_fail(PR_ERR_UNSUPPORTED, "--device %s: %s", name, dlerror());
    pr_gpu_backend_function *table;
    *(void **)(void *)&table = dlsym(library, "pr_gpu_backend_table");
    if (!table || table()->version != PR_GPU_BACKEND_VERSION)
        return pr_fail(
            PR_ERR_UNSUPPORTED, "--device %s: %s is of another version of this program", name,
            path);
    *backend = table();
    return PR_OK;
}
