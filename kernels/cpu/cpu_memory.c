// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/cpu/cpu_memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/cpu_state.h"
#include "runtime/base/log.h"

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20, PAGE = 4096 };
enum { SMALL_BYTES = 64 << 10, SLAB_BYTES = 64 << 20, LARGE_BYTES = SLAB_BYTES / 4 };

typedef struct pr_cpu_slab {
    void *base;
    size_t mapped_bytes;
    char *memory;  // HUGE_PAGE aligned
    size_t size_bytes, used_bytes, populated_bytes;
    int64_t pieces;
} pr_cpu_slab;

// Stands in the ALIGNMENT bytes before every piece.
typedef struct piece_header {
    pr_cpu_slab *slab;  // NULL: from the heap
    void *heap;
} piece_header;

static piece_header *header_of(void *memory)
{
    return (piece_header *)(void *)((char *)memory - ALIGNMENT);
}

static size_t round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static void *take_small(size_t size_bytes)
{
    char *base = aligned_alloc(ALIGNMENT, size_bytes);
    if (base == NULL)
        return NULL;
    memset(base, 0, size_bytes);
    *header_of(base + ALIGNMENT) = (piece_header){.heap = base};
    return base + ALIGNMENT;
}

static pr_cpu_slab *map_slab(size_t size_bytes)
{
    pr_cpu_slab *slab = malloc(sizeof *slab);
    if (slab == NULL)
        return NULL;
    size_t rounded = round_up(size_bytes, HUGE_PAGE), mapped = rounded + HUGE_PAGE;
    char *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        free(slab);
        return NULL;
    }
    char *memory = base + (HUGE_PAGE - ((uintptr_t)base & (HUGE_PAGE - 1))) % HUGE_PAGE;
    (void)madvise(memory, rounded, MADV_HUGEPAGE);  // a wish, not a need
    *slab = (pr_cpu_slab){
        .base = base, .mapped_bytes = mapped, .memory = memory, .size_bytes = rounded};
    return slab;
}

static void *cut(pr_cpu_slab *slab, size_t size_bytes)
{
    char *memory = slab->memory + slab->used_bytes + ALIGNMENT;
    slab->used_bytes += size_bytes;
    slab->pieces++;
    *header_of(memory) = (piece_header){.slab = slab};
    return memory;
}

static void *take_from_slab(pr_device *device, size_t size_bytes)
{
    pr_cpu_slab **current = &pr_cpu_state_of(device)->slab, *slab = *current;
    if (size_bytes > LARGE_BYTES) {
        slab = map_slab(size_bytes);
    } else if (slab == NULL || slab->size_bytes - slab->used_bytes < size_bytes) {
        slab = map_slab(SLAB_BYTES);
        if (slab != NULL)
            *current = slab;
    }
    return slab != NULL ? cut(slab, size_bytes) : NULL;
}

pr_status pr_cpu_memory_take(pr_device *device, size_t size_bytes, void **memory)
{
    void *taken = NULL;
    if (size_bytes < SIZE_MAX / 2) {
        size_t whole = round_up(size_bytes, ALIGNMENT) + ALIGNMENT;
        taken = whole < SMALL_BYTES ? take_small(whole) : take_from_slab(device, whole);
    }
    if (taken == NULL)
        return pr_fail(
            PR_ERR_RESOURCE,
            "no memory left for %zu bytes: use a smaller model, fewer KV blocks or more ranks",
            size_bytes);
    *memory = taken;
    return PR_OK;
}

void pr_cpu_memory_release(pr_device *device, void *memory)
{
    if (memory == NULL)
        return;
    pr_cpu_slab *slab = header_of(memory)->slab, **current = &pr_cpu_state_of(device)->slab;
    if (slab == NULL) {
        free(header_of(memory)->heap);
    } else if (--slab->pieces == 0) {
        if (*current == slab)
            *current = NULL;
        (void)munmap(slab->base, slab->mapped_bytes);
        free(slab);
    }
}

// ---- The host's memory is the device's -------------------------------------------------------

static pr_status copy_between(pr_device *device, void *to, const void *from, size_t size_bytes)
{
    (void)device;
    if (size_bytes > 0)
        memcpy(to, from, size_bytes);
    return PR_OK;
}

static void copy_within(pr_device *device, void *to, const void *from, size_t size_bytes)
{
    (void)copy_between(device, to, from, size_bytes);
}

// Rows are read on use, and only some of them.
static pr_status use_mapped_table(
    pr_device *device, const pr_matrix_source *source, const void **table, pr_dtype *dtype)
{
    (void)device;
    *table = source->data;
    *dtype = source->dtype;
    return PR_OK;
}

static void leave_mapped_table(pr_device *device, const void *table)
{
    (void)device;
    (void)table;
}

static pr_status need_no_room(pr_device *device, int32_t pages, size_t slab_bytes)
{
    (void)device;
    (void)pages;
    (void)slab_bytes;
    return PR_OK;
}

static char *part_of_page(const pr_pages_args *args, int32_t i)
{
    return (char *)args->memory + (size_t)args->page[i] * args->page_bytes +
           (size_t)args->head_begin * args->head_bytes;
}

static pr_status gather_pages(pr_device *device, const pr_pages_args *args)
{
    size_t part_bytes = (size_t)args->heads * args->head_bytes;
    (void)device;
    for (int32_t i = 0; i < args->pages; i++)
        memcpy((char *)args->slab + (size_t)i * part_bytes, part_of_page(args, i), part_bytes);
    return PR_OK;
}

static pr_status scatter_pages(pr_device *device, const pr_pages_args *args)
{
    size_t part_bytes = (size_t)args->heads * args->head_bytes;
    (void)device;
    for (int32_t i = 0; i < args->pages; i++)
        memcpy(part_of_page(args, i), (char *)args->slab + (size_t)i * part_bytes, part_bytes);
    return PR_OK;
}

static pr_status need_no_tables(pr_device *device, const pr_step_limits *limits)
{
    (void)device;
    (void)limits;
    return PR_OK;
}

static pr_status read_tables_in_place(pr_device *device, const pr_step_tables *tables)
{
    (void)device;
    (void)tables;
    return PR_OK;
}

void pr_cpu_memory_fill(pr_device *device)
{
    device->is_host = true;
    device->memory_take = device->host_take = pr_cpu_memory_take;
    device->memory_release = device->host_release = pr_cpu_memory_release;
    device->copy_in = device->copy_out = copy_between;
    device->copy = copy_within;
    device->table_create = use_mapped_table;
    device->table_destroy = leave_mapped_table;
    device->pages_reserve = need_no_room;
    device->pages_gather = gather_pages;
    device->pages_scatter = scatter_pages;
    device->step_reserve = need_no_tables;
    device->step_begin = read_tables_in_place;
}

static void touch_huge_page(void *context, int64_t number, int32_t thread)
{
    volatile char *memory = (volatile char *)context + number * HUGE_PAGE;
    (void)thread;
    for (int64_t at = 0; at < HUGE_PAGE; at += PAGE)
        memory[at] = 0;
}

void pr_cpu_memory_populate(pr_device *device, void *memory, size_t size_bytes)
{
    pr_cpu_slab *slab = header_of(memory)->slab;
    if (slab == NULL)
        return;
    // The page of the header has been touched, and holds what stands before it.
    size_t begin = round_up((size_t)((char *)memory - slab->memory), HUGE_PAGE);
    size_t end = round_up((size_t)((char *)memory - slab->memory) + size_bytes, HUGE_PAGE);
    if (begin < slab->populated_bytes)
        begin = slab->populated_bytes;
    if (begin >= end)
        return;
    slab->populated_bytes = end;
    pr_cpu_team_run(
        pr_cpu_state_of(device)->team, touch_huge_page, slab->memory + begin,
        (int64_t)((end - begin) / HUGE_PAGE));
}
