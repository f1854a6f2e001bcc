// SPDX-License-Identifier: BSD-3-Clause
// Device memory: small things are cut from pieces of PIECE_BYTES, large ones are pieces of their own. A piece
// goes back with the last thing in it; what is released before is not used again, which suits weights and
// buffers: they live as long as the device. Pinned memory is listed, so that a copy knows what need not be
// staged.
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu/gpu_state.h"
#include "runtime/base/log.h"

enum { ALIGNMENT = 256, PIECE_BYTES = 16 << 20, LARGE_BYTES = PIECE_BYTES / 4 };

typedef struct pr_gpu_piece {
    struct pr_gpu_piece *next;
    char *memory;
    size_t size_bytes, used_bytes;
    int64_t things;
} pr_gpu_piece;

typedef struct pr_gpu_pinned {
    struct pr_gpu_pinned *next;
    char *memory;
    size_t size_bytes;
} pr_gpu_pinned;

// ---- The pool --------------------------------------------------------------------------------

static pr_gpu_piece *take_piece(pr_gpu_state *state, size_t size_bytes)
{
    pr_gpu_piece *piece = calloc(1, sizeof *piece);
    if (!piece)
        return NULL;
    piece->memory = state->backend->memory_take(size_bytes);
    if (!piece->memory) {
        free(piece);
        return NULL;
    }
    piece->size_bytes = size_bytes;
    piece->next = state->piece;
    state->piece = piece;
    return piece;
}

static pr_gpu_piece *piece_with_room(pr_gpu_state *state, size_t size_bytes)
{
    if (size_bytes > LARGE_BYTES)
        return take_piece(state, size_bytes);
    for (pr_gpu_piece *piece = state->piece; piece; piece = piece->next) {
        if (piece->size_bytes - piece->used_bytes >= size_bytes)
            return piece;
    }
    return take_piece(state, PIECE_BYTES);
}

static pr_status memory_take(pr_device *device, size_t size_bytes, void **memory)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_piece *piece = NULL;
    size_t whole = (size_bytes / ALIGNMENT + 1) * ALIGNMENT;
    if (size_bytes < SIZE_MAX / 2)
        piece = piece_with_room(state, whole);
    if (!piece)
        return pr_fail(
            PR_ERR_RESOURCE,
            "%s:%d (%s): no memory left for %zu bytes: use a smaller model, fewer KV blocks or "
            "more "
            "ranks, or lower --memory",
            state->backend->name, (int)state->index, state->facts.name, size_bytes);
    *memory = piece->memory + piece->used_bytes;
    piece->used_bytes += whole;
    piece->things++;
    return PR_OK;
}

static void memory_release(pr_device *device, void *memory)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    if (!memory)
        return;
    for (pr_gpu_piece **place = &state->piece; *place; place = &(*place)->next) {
        pr_gpu_piece *piece = *place;
        if ((char *)memory < piece->memory || (char *)memory >= piece->memory + piece->size_bytes)
            continue;
        if (--piece->things > 0)
            return;
        *place = piece->next;
        state->backend->memory_release(piece->memory);
        free(piece);
        return;
    }
}

static pr_status host_take(pr_device *device, size_t size_bytes, void **memory)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_pinned *pinned = calloc(1, sizeof *pinned);
    if (pinned)
        pinned->memory = state->backend->pinned_take(size_bytes + 1);
    if (!pinned || !pinned->memory) {
        free(pinned);
        return pr_fail(
            PR_ERR_RESOURCE,
            "no pinned memory left for %zu bytes: lower --max-num-batched-tokens or "
            "--max-num-seqs, or raise the limit of locked memory (ulimit -l)",
            size_bytes);
    }
    memset(pinned->memory, 0, size_bytes);
    pinned->size_bytes = size_bytes;
    pinned->next = state->pinned;
    state->pinned = pinned;
    *memory = pinned->memory;
    return PR_OK;
}

static void host_release(pr_device *device, void *memory)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    for (pr_gpu_pinned **place = &state->pinned; *place; place = &(*place)->next) {
        pr_gpu_pinned *pinned = *place;
        if (pinned->memory != memory)
            continue;
        *place = pinned->next;
        state->backend->pinned_release(memory);
        free(pinned);
        return;
    }
}

void pr_gpu_memory_release_all(pr_device *device)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    while (state->piece) {
        pr_gpu_piece *piece = state->piece;
        state->piece = piece->next;
        state->backend->memory_release(piece->memory);
        free(piece);
    }
    while (state->pinned)
        host_release(device, state->pinned->memory);
}

// ---- Copies ----------------------------------------------------------------------------------

pr_status pr_gpu_stage_begin(pr_gpu_state *state, pr_gpu_stage **stage)
{
    pr_gpu_stage *next = &state->stage[state->next_stage];
    state->next_stage = (state->next_stage + 1) % PR_GPU_STAGES;
    if (next->busy && !state->backend->event_wait(next->gone))
        return pr_gpu_fail(state, "a copy to the device");
    next->busy = false;
    *stage = next;
    return PR_OK;
}

pr_status
pr_gpu_stage_send(pr_gpu_state *state, pr_gpu_stage *stage, void *to_device, size_t size_bytes)
{
    const pr_gpu_backend *backend = state->backend;
    if (!backend->copy(to_device, stage->memory, size_bytes, state->stream) ||
        !backend->event_record(stage->gone, state->stream))
        return pr_gpu_fail(state, "a copy to the device");
    stage->busy = true;
    return PR_OK;
}

static bool is_pinned(const pr_gpu_state *state, const void *memory, size_t size_bytes)
{
    const char *begin = memory;
    for (const pr_gpu_pinned *pinned = state->pinned; pinned; pinned = pinned->next) {
        if (begin >= pinned->memory && begin + size_bytes <= pinned->memory + pinned->size_bytes)
            return true;
    }
    return false;
}

// Large pinned memory goes as it is, and is waited for; all else through a stage, and nobody waits.
static pr_status
copy_in(pr_device *device, void *to_device, const void *from_host, size_t size_bytes)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    PR_TRY(state->status);
    if (size_bytes > PR_GPU_STAGE_BYTES && is_pinned(state, from_host, size_bytes)) {
        if (!state->backend->copy(to_device, from_host, size_bytes, state->stream) ||
            !state->backend->wait(state->stream))
            return pr_gpu_fail(state, "a copy to the device");
        return PR_OK;
    }
    for (size_t done = 0; done < size_bytes;) {
        pr_gpu_stage *stage;
        size_t left = size_bytes - done;
        size_t part = left < PR_GPU_STAGE_BYTES ? left : PR_GPU_STAGE_BYTES;
        PR_TRY(pr_gpu_stage_begin(state, &stage));
        memcpy(stage->memory, (const char *)from_host + done, part);
        PR_TRY(pr_gpu_stage_send(state, stage, (char *)to_device + done, part));
        done += part;
    }
    return PR_OK;
}

static pr_status
copy_out(pr_device *device, void *to_host, const void *from_device, size_t size_bytes)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    PR_TRY(state->status);
    if (!state->backend->copy(to_host, from_device, size_bytes, state->stream) ||
        !state->backend->wait(state->stream))
        return pr_gpu_fail(state, "a copy to the host");
    return PR_OK;
}

static void copy(pr_device *device, void *to, const void *from, size_t size_bytes)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    if (!state->backend->copy(to, from, size_bytes, state->stream))
        (void)pr_gpu_fail(state, "a copy on the device");
}

void pr_gpu_memory_fill(pr_device *device)
{
    device->memory_take = memory_take;
    device->memory_release = memory_release;
    device->host_take = host_take;
    device->host_release = host_release;
    device->copy_in = copy_in;
    device->copy_out = copy_out;
    device->copy = copy;
}
