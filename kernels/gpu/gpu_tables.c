// SPDX-License-Identifier: BSD-3-Clause
// The tables of a step: written to one pinned block, sent by one copy to the same places every time, so that
// what reads them need not change from step to step.
#include <assert.h>
#include <string.h>

#include "kernels/gpu/gpu_state.h"
#include "kernels/gpu/gpu_step_graph.h"
#include "runtime/base/log.h"

enum { ALIGNMENT = 64, SEGMENT_WORDS = sizeof(pr_gpu_segment) / sizeof(int32_t) };

static size_t place(size_t *end, size_t words)
{
    size_t begin = *end;
    *end += (words + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return begin;
}

// Places for the largest step of all users.
static void lay_out(pr_gpu_tables *tables, const pr_step_limits *limits)
{
    size_t end = 0, rows = (size_t)limits->tokens, segments = (size_t)limits->segments;
    size_t of_sequence = (size_t)limits->positions / (size_t)limits->block_tokens + 1;
    tables->limits = *limits;
    tables->token = place(&end, rows);
    tables->position = place(&end, rows);
    tables->block = place(&end, rows);
    tables->segment_of = place(&end, rows);
    tables->segment = place(&end, segments * SEGMENT_WORDS);
    tables->output_row = place(&end, (size_t)limits->outputs);
    tables->blocks = place(&end, segments * of_sequence);
    tables->capacity = end;
}

static pr_status take_blocks(pr_device *device, pr_gpu_tables *tables)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    size_t size_bytes = tables->capacity * sizeof(int32_t);
    void *host, *on_device, *rows;
    PR_TRY(device->host_take(device, size_bytes, &host));
    tables->host = host;
    PR_TRY(device->memory_take(device, size_bytes, &on_device));
    tables->device = on_device;
    PR_TRY(device->memory_take(device, (size_t)tables->limits.outputs * sizeof(int32_t), &rows));
    tables->other_rows = rows;
    tables->gone = state->backend->event_create(false);
    return tables->gone ? PR_OK : pr_gpu_fail(state, "creating an event");
}

static pr_status reserve_partial(pr_device *device, const pr_step_limits *limits)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    size_t wanted = state->backend->operations->attention_scratch_bytes(
        limits->tokens, limits->query_heads, limits->head_size, limits->positions);
    void *partial;
    if (wanted <= state->partial_bytes)
        return PR_OK;
    PR_TRY(device->memory_take(device, wanted, &partial));
    device->memory_release(device, state->partial);
    state->partial = partial;
    state->partial_bytes = wanted;
    return PR_OK;
}

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

static pr_status step_reserve(pr_device *device, const pr_step_limits *limits)
{
    pr_gpu_tables *tables = &pr_gpu_state_of(device)->tables;
    const pr_step_limits *before = &tables->limits;
    pr_step_limits most = *limits;
    if (limits->head_size > PR_GPU_HEAD_MOST)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "attention heads of %d: a GPU's may have %d at most, use --device cpu",
            limits->head_size, (int)PR_GPU_HEAD_MOST);
    most.tokens = larger(limits->tokens, before->tokens);
    most.segments = larger(limits->segments, before->segments);
    most.outputs = larger(limits->outputs, before->outputs);
    most.positions = larger(limits->positions, before->positions);
    if (before->block_tokens > 0 && before->block_tokens < most.block_tokens)
        most.block_tokens = before->block_tokens;
    pr_gpu_step_graph_forget(pr_gpu_state_of(device));
    pr_gpu_tables_release(device);
    lay_out(tables, &most);
    PR_TRY(take_blocks(device, tables));
    return reserve_partial(device, limits);
}

void pr_gpu_tables_release(pr_device *device)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_tables *tables = &state->tables;
    if (tables->busy)
        (void)state->backend->event_wait(tables->gone);
    if (tables->gone)
        state->backend->event_destroy(tables->gone);
    device->host_release(device, tables->host);
    device->memory_release(device, tables->device);
    device->memory_release(device, tables->other_rows);
    *tables = (pr_gpu_tables){0};
}

static void put(int32_t *to, const int32_t *from, int32_t count)
{
    if (count > 0)
        memcpy(to, from, (size_t)count * sizeof *to);
}

// Returns the words of all block tables.
static size_t put_segments(pr_gpu_tables *tables, const pr_step_tables *step)
{
    pr_gpu_segment *segment = (pr_gpu_segment *)(void *)(tables->host + tables->segment);
    int32_t *segment_of = tables->host + tables->segment_of;
    int32_t *blocks = tables->host + tables->blocks, next = 0, b = step->block_tokens;
    tables->most_positions = tables->most_rows = 0;
    for (int32_t s = 0; s < step->segments; s++) {
        const pr_segment *one = &step->segment[s];
        int32_t positions = one->start_position + one->rows, count = (positions + b - 1) / b;
        segment[s] = (pr_gpu_segment){
            .first_row = one->first_row,
            .rows = one->rows,
            .start_position = one->start_position,
            .first_block = next,
        };
        put(blocks + next, one->block, count);
        next += count;
        for (int32_t i = 0; i < one->rows; i++)
            segment_of[one->first_row + i] = s;
        if (positions > tables->most_positions)
            tables->most_positions = positions;
        if (one->rows > tables->most_rows)
            tables->most_rows = one->rows;
    }
    return (size_t)next;
}

static pr_status check_step(const pr_gpu_tables *tables, const pr_step_tables *step)
{
    const pr_step_limits *limits = &tables->limits;
    bool fits = step->tokens <= limits->tokens && step->segments <= limits->segments &&
                step->outputs <= limits->outputs && step->block_tokens >= limits->block_tokens;
    for (int32_t s = 0; fits && s < step->segments; s++)
        fits = step->segment[s].start_position + step->segment[s].rows <= limits->positions;
    if (!fits)
        return pr_fail(
            PR_ERR_INTERNAL,
            "a step of %d rows, %d segments, %d outputs: there is room for %d, %d, %d",
            step->tokens, step->segments, step->outputs, limits->tokens, limits->segments,
            limits->outputs);
    return PR_OK;
}

static pr_status step_begin(pr_device *device, const pr_step_tables *step)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_tables *tables = &state->tables;
    const pr_gpu_backend *backend = state->backend;
    PR_TRY(state->status);
    PR_TRY(check_step(tables, step));
    if (tables->busy && !backend->event_wait(tables->gone))
        return pr_gpu_fail(state, "the step before");
    put(tables->host + tables->token, step->token, step->tokens);
    put(tables->host + tables->position, step->position, step->tokens);
    put(tables->host + tables->block, step->block, step->tokens);
    put(tables->host + tables->output_row, step->output_row, step->outputs);
    size_t words = tables->blocks + put_segments(tables, step);
    tables->step = *step;
    if (!backend->copy(tables->device, tables->host, words * sizeof(int32_t), state->stream) ||
        !backend->event_record(tables->gone, state->stream))
        return pr_gpu_fail(state, "sending the tables of a step");
    tables->busy = true;
    return PR_OK;
}

const int32_t *pr_gpu_tables_rows(pr_device *device, const int32_t *row, int32_t rows)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_tables *tables = &state->tables;
    if (row == tables->step.output_row && rows == tables->step.outputs)
        return tables->device + tables->output_row;
    assert(rows <= tables->limits.outputs);
    if (device->copy_in(device, tables->other_rows, row, (size_t)rows * sizeof *row) != PR_OK)
        return NULL;
    return tables->other_rows;
}

void pr_gpu_tables_fill(pr_device *device)
{
    device->step_reserve = step_reserve;
    device->step_begin = step_begin;
}
