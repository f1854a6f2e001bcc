// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/cpu/cpu_device.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"
#include "runtime/base/log.h"

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

static pr_status take(pr_device *device, size_t size_bytes, void **memory)
{
    (void)device;
    // Large pieces sit on huge pages where the system has them: a quarter more bandwidth.
    size_t alignment = size_bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    size_t rounded = (size_bytes + alignment - 1) & ~(alignment - 1);
    if (rounded < size_bytes)
        return pr_fail(PR_ERR_RESOURCE, "memory of %zu bytes asked for: too large", size_bytes);
    void *taken = aligned_alloc(alignment, rounded > 0 ? rounded : ALIGNMENT);
    if (taken == NULL)
        return pr_fail(
            PR_ERR_RESOURCE,
            "no memory left for %zu bytes: use a smaller model, fewer KV blocks or more ranks",
            size_bytes);
    if (alignment == HUGE_PAGE)
        (void)madvise(taken, rounded, MADV_HUGEPAGE);  // a wish, not a need
    memset(taken, 0, rounded);
    *memory = taken;
    return PR_OK;
}

static void release(pr_device *device, void *memory)
{
    (void)device;
    free(memory);
}

typedef struct isa_choice {
    const char *name;
    bool (*supported)(void);
    void (*kernels)(pr_device *device);
} isa_choice;

static bool always(void) { return true; }

#if defined(PR_HAVE_X86)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

// Best first.
static const isa_choice choices[] = {
#if defined(PR_HAVE_X86)
    {"avx512", has_avx512, pr_cpu_avx512_kernels},
    {"avx2", has_avx2, pr_cpu_avx2_kernels},
#endif
    {"reference", always, pr_cpu_reference_kernels},
};
enum { CHOICES = sizeof(choices) / sizeof(choices[0]) };

static bool known_name(const char *isa)
{
    static const char *const names[] = {"auto", "reference", "avx2", "avx512"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(isa, names[i]) == 0)
            return true;
    }
    return false;
}

pr_status pr_cpu_device_open(const char *isa, pr_device **device)
{
    const isa_choice *chosen = NULL;
    for (int i = 0; i < CHOICES && chosen == NULL; i++) {
        bool wanted = strcmp(isa, "auto") == 0 || strcmp(isa, choices[i].name) == 0;
        if (wanted && choices[i].supported())
            chosen = &choices[i];
    }
    if (!known_name(isa))
        return pr_fail(
            PR_ERR_ARGUMENT, "\"%s\": the CPU kernels are auto, reference, avx2, avx512", isa);
    if (chosen == NULL)
        return pr_fail(PR_ERR_UNSUPPORTED, "this CPU or build has no %s kernels: use auto", isa);

    pr_device *opened = calloc(1, sizeof(*opened));
    if (opened == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for a device");
    opened->name = "cpu";
    opened->isa = chosen->name;
    opened->memory_take = take;
    opened->memory_release = release;
    opened->matrix_create = pr_cpu_matrix_create;
    opened->matrix_destroy = pr_cpu_matrix_destroy;
    opened->matrix_bytes = pr_cpu_matrix_bytes;
    pr_cpu_reference_kernels(opened);
    chosen->kernels(opened);
    *device = opened;
    return PR_OK;
}

void pr_cpu_device_close(pr_device *device) { free(device); }
