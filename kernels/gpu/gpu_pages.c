// SPDX-License-Identifier: BSD-3-Clause
// Pages of a KV cache to and from the host: packed on the device into a slab of its own, and sent as one copy.
#include "kernels/gpu/gpu_state.h"
#include "runtime/base/log.h"

static pr_status pages_reserve(pr_device *device, int32_t pages, size_t slab_bytes)
{
    pr_gpu_slab *slab = &pr_gpu_state_of(device)->slab;
    void *list, *memory;
    if (pages <= slab->most_pages && slab_bytes <= slab->size_bytes)
        return PR_OK;
    PR_TRY(device->memory_take(device, (size_t)pages * sizeof(int32_t), &list));
    device->memory_release(device, slab->page);
    slab->page = list;
    slab->most_pages = pages;
    PR_TRY(device->memory_take(device, slab_bytes, &memory));
    device->memory_release(device, slab->memory);
    slab->memory = memory;
    slab->size_bytes = slab_bytes;
    return PR_OK;
}

static size_t slab_bytes_of(const pr_pages_args *args)
{
    return (size_t)args->pages * (size_t)args->heads * args->head_bytes;
}

static pr_status
begin(pr_device *device, const pr_pages_args *args, const char *operation, pr_gpu_slab_args *packed)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    const pr_gpu_slab *slab = &state->slab;
    if (args->pages > slab->most_pages || slab_bytes_of(args) > slab->size_bytes)
        return pr_fail(
            PR_ERR_INTERNAL, "%d pages of %d heads: there is room for %d pages, %zu bytes",
            args->pages, args->heads, slab->most_pages, slab->size_bytes);
    state->last = operation;
    *packed = (pr_gpu_slab_args){
        .pages = args->pages,
        .page = slab->page,
        .pages_memory = args->memory,
        .page_bytes = args->page_bytes,
        .head_bytes = args->head_bytes,
        .head_begin = args->head_begin,
        .heads = args->heads,
        .slab = slab->memory,
    };
    return device->copy_in(
        device, slab->page, args->page, (size_t)args->pages * sizeof *args->page);
}

static pr_status pages_gather(pr_device *device, const pr_pages_args *args)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_slab_args packed;
    if (args->pages == 0 || args->heads == 0)
        return PR_OK;
    PR_TRY(begin(device, args, "slab_gather", &packed));
    state->backend->operations->slab_gather(state->stream, &packed);
    return device->copy_out(device, args->slab, packed.slab, slab_bytes_of(args));
}

static pr_status pages_scatter(pr_device *device, const pr_pages_args *args)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_slab_args packed;
    if (args->pages == 0 || args->heads == 0)
        return PR_OK;
    PR_TRY(begin(device, args, "slab_scatter", &packed));
    PR_TRY(device->copy_in(device, packed.slab, args->slab, slab_bytes_of(args)));
    state->backend->operations->slab_scatter(state->stream, &packed);
    return PR_OK;
}

void pr_gpu_pages_fill(pr_device *device)
{
    device->pages_reserve = pages_reserve;
    device->pages_gather = pages_gather;
    device->pages_scatter = pages_scatter;
}
