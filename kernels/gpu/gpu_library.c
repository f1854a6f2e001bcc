// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/gpu_library.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"

// The folder of the running program, without a slash at its end.
static void find_program_folder(char folder[PATH_MAX])
{
    ssize_t bytes = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    folder[bytes > 0 ? bytes : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash)
        *slash = '\0';
}

void pr_gpu_library_path(const char *name, char *path, size_t size_bytes)
{
    static const char *const places[] = {"", "/../lib/polyreme"};
    char folder[PATH_MAX];
    find_program_folder(folder);
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        int bytes = snprintf(path, size_bytes, "%s%s/polyreme_%s.so", folder, places[i], name);
        if (bytes > 0 && (size_t)bytes < size_bytes && access(path, R_OK) == 0)
            return;
    }
    path[0] = '\0';
}

pr_status pr_gpu_library_open(const char *name, const pr_gpu_backend **backend)
{
    char path[PATH_MAX];
    pr_gpu_library_path(name, path, sizeof(path));
    if (!path[0]) {
        char folder[PATH_MAX];
        find_program_folder(folder);
        return pr_fail(
            PR_ERR_NOT_FOUND,
            "device %s: this build has no polyreme_%s.so in %s or %s/../lib/polyreme; build it "
            "where its compiler is",
            name, name, folder, folder);
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library)
        return pr_fail(PR_ERR_UNSUPPORTED, "device %s cannot be used here: %s", name, dlerror());
    pr_gpu_backend_function *table = NULL;
    *(void **)&table = dlsym(library, "pr_gpu_backend_table");
    const pr_gpu_backend *found = table ? table() : NULL;
    if (!found || found->version != PR_GPU_BACKEND_VERSION) {
        pr_status status = pr_fail(
            PR_ERR_UNSUPPORTED,
            "%s is of another version of polyreme; build both from the same source", path);
        dlclose(library);
        return status;
    }
    *backend = found;
    return PR_OK;
}
