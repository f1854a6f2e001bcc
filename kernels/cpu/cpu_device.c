// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/cpu/cpu_device.h"

#include <stdlib.h>
#include <string.h>
#if defined(PR_HAVE_X86)
#include <cpuid.h>
#endif

#include "kernels/cpu/cpu_memory.h"
#include "kernels/cpu/cpu_packed.h"
#include "kernels/cpu/cpu_state.h"
#include "runtime/base/log.h"

typedef struct isa_choice {
    const char *name;
    bool (*supported)(void);
    void (*kernels)(pr_cpu_kernels *kernels);
    // Faster ones yet, where the CPU has a part of the instruction set that not all have; or NULL.
    bool (*supports_more)(void);
    void (*more)(pr_cpu_kernels *kernels);
} isa_choice;

static bool always(void) { return true; }

#if defined(PR_HAVE_X86)
static bool has_avx2(void)
{
    unsigned a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);  // not a name clang knows
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static bool has_vnni(void) { return __builtin_cpu_supports("avx512vnni"); }

static bool has_avx512bf16(void) { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

static void fill_avx512bf16(pr_cpu_kernels *kernels)
{
    pr_cpu_avx512_kernels(kernels);
    kernels->attend = pr_attend_avx512bf16;
    kernels->matmul[PR_PACKED_BF16] = &pr_matmul_bf16_avx512bf16;
}
#endif

// Best first.
static const isa_choice choices[] = {
#if defined(PR_HAVE_X86)
    {"avx512bf16", has_avx512bf16, fill_avx512bf16, has_vnni, pr_cpu_vnni_kernels},
    {"avx512", has_avx512, pr_cpu_avx512_kernels, has_vnni, pr_cpu_vnni_kernels},
    {"avx2", has_avx2, pr_cpu_avx2_kernels, NULL, NULL},
#endif
#if defined(__aarch64__)
    {"neon", always, pr_cpu_neon_kernels, NULL, NULL},
#endif
    {"reference", always, pr_cpu_reference_kernels, NULL, NULL},
};
enum { CHOICES = sizeof(choices) / sizeof(choices[0]) };

static bool known_name(const char *isa)
{
    static const char *const names[] = {"auto", "reference", "neon",
                                        "avx2", "avx512",    "avx512bf16"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(isa, names[i]) == 0)
            return true;
    }
    return false;
}

static pr_status choose(const char *isa, const isa_choice **chosen)
{
    *chosen = NULL;
    for (int i = 0; i < CHOICES && *chosen == NULL; i++) {
        bool wanted = strcmp(isa, "auto") == 0 || strcmp(isa, choices[i].name) == 0;
        if (wanted && choices[i].supported())
            *chosen = &choices[i];
    }
    if (!known_name(isa))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "\"%s\": the CPU kernels are auto, reference, neon, avx2, avx512, avx512bf16", isa);
    if (*chosen == NULL)
        return pr_fail(PR_ERR_UNSUPPORTED, "this CPU or build has no %s kernels: use auto", isa);
    return PR_OK;
}

static void fill(pr_device *device, const isa_choice *chosen)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    device->name = "cpu";
    device->isa = chosen->name;
    device->kv_arrangement = PR_KV_TILES;
    pr_cpu_memory_fill(device);
    device->matrix_create = pr_cpu_matrix_create;
    device->matrix_destroy = pr_cpu_matrix_destroy;
    device->matrix_bytes = pr_cpu_matrix_bytes;
    device->packed_layout = pr_cpu_packed_layout;
    device->packed_bytes = pr_cpu_packed_bytes;
    device->matrix_packed = pr_cpu_packed_of;
    device->matrix_load = pr_cpu_packed_load;
    pr_cpu_reference_kernels(&state->kernels);
    if (chosen->kernels != pr_cpu_reference_kernels)
        chosen->kernels(&state->kernels);
    if (chosen->more != NULL && chosen->supports_more())
        chosen->more(&state->kernels);
    pr_cpu_matmul_fill(device);
    pr_cpu_rows_fill(device);
    pr_cpu_attention_fill(device);
}

pr_status pr_cpu_device_open(const pr_cpu_device_params *params, pr_device **device)
{
    const isa_choice *chosen;
    PR_TRY(choose(params->isa, &chosen));
    if (params->threads < 1 || params->threads > PR_MAX_THREADS)
        return pr_fail(
            PR_ERR_ARGUMENT, "%d threads: use 1 to %d", params->threads, (int)PR_MAX_THREADS);
    pr_device *opened = calloc(1, sizeof(*opened));
    pr_cpu_state *state = calloc(1, sizeof(*state));
    pr_status status =
        opened != NULL && state != NULL
            ? pr_cpu_team_create(params->threads, params->cpu, params->shares_cores, &state->team)
            : pr_fail(PR_ERR_RESOURCE, "no memory left for a device");
    if (status != PR_OK) {
        free(opened);
        free(state);
        return status;
    }
    opened->state = state;
    fill(opened, chosen);
    *device = opened;
    return PR_OK;
}

void pr_cpu_device_close(pr_device *device)
{
    if (device == NULL)
        return;
    pr_cpu_state *state = pr_cpu_state_of(device);
    pr_cpu_matmul_release(device);
    free(state->staging);
    pr_cpu_team_destroy(state->team);
    free(state);
    free(device);
}
