// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/cpu/cpu_device.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(PR_HAVE_X86)
#include <cpuid.h>
#endif

#include "kernels/cpu/cpu_state.h"
#include "runtime/base/log.h"

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

// Stands in the ALIGNMENT bytes before every piece.
typedef struct piece_header {
    void *base;
    size_t mapped_bytes;  // 0: from the heap
} piece_header;

static piece_header *header_of(void *memory)
{
    return (piece_header *)(void *)((char *)memory - ALIGNMENT);
}

// Large pieces come from the system, zeroed page by page at first use (a KV cache is rarely used to
// its end), on huge pages where it has them: a quarter more bandwidth.
static void *take_large(size_t size_bytes)
{
    size_t mapped = size_bytes + 2 * (size_t)HUGE_PAGE;
    char *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    size_t up = HUGE_PAGE - ((uintptr_t)base & (HUGE_PAGE - 1));  // 1..HUGE_PAGE, room for a header
    char *memory = base + (up < ALIGNMENT ? up + HUGE_PAGE : up);
    (void)madvise(memory, size_bytes, MADV_HUGEPAGE);  // a wish, not a need
    *header_of(memory) = (piece_header){.base = base, .mapped_bytes = mapped};
    return memory;
}

static void *take_small(size_t size_bytes)
{
    size_t rounded = (size_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + ALIGNMENT;
    char *base = aligned_alloc(ALIGNMENT, rounded);
    if (base == NULL)
        return NULL;
    memset(base, 0, rounded);
    *header_of(base + ALIGNMENT) = (piece_header){.base = base};
    return base + ALIGNMENT;
}

static pr_status take(pr_device *device, size_t size_bytes, void **memory)
{
    (void)device;
    void *taken = NULL;
    if (size_bytes < SIZE_MAX / 2)
        taken = size_bytes >= HUGE_PAGE ? take_large(size_bytes) : take_small(size_bytes);
    if (taken == NULL)
        return pr_fail(
            PR_ERR_RESOURCE,
            "no memory left for %zu bytes: use a smaller model, fewer KV blocks or more ranks",
            size_bytes);
    *memory = taken;
    return PR_OK;
}

static void release(pr_device *device, void *memory)
{
    (void)device;
    if (memory == NULL)
        return;
    const piece_header *header = header_of(memory);
    if (header->mapped_bytes > 0)
        (void)munmap(header->base, header->mapped_bytes);
    else
        free(header->base);
}

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
    {"reference", always, pr_cpu_reference_kernels, NULL, NULL},
};
enum { CHOICES = sizeof(choices) / sizeof(choices[0]) };

static bool known_name(const char *isa)
{
    static const char *const names[] = {"auto", "reference", "avx2", "avx512", "avx512bf16"};
    for (int i = 0; i < 5; i++) {
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
            "\"%s\": the CPU kernels are auto, reference, avx2, avx512, avx512bf16", isa);
    if (*chosen == NULL)
        return pr_fail(PR_ERR_UNSUPPORTED, "this CPU or build has no %s kernels: use auto", isa);
    return PR_OK;
}

static void fill(pr_device *device, const isa_choice *chosen)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    device->name = "cpu";
    device->isa = chosen->name;
    device->memory_take = take;
    device->memory_release = release;
    device->matrix_create = pr_cpu_matrix_create;
    device->matrix_destroy = pr_cpu_matrix_destroy;
    device->matrix_bytes = pr_cpu_matrix_bytes;
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
    pr_cpu_team_destroy(state->team);
    free(state);
    free(device);
}
