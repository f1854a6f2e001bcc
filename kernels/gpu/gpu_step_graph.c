// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/gpu_step_graph.h"

#include <assert.h>

#include "runtime/base/log.h"

enum { ROWS_STEP = 8 };

static int32_t graph_rows(pr_device *device, int32_t rows)
{
    const pr_step_limits *limits = &pr_gpu_state_of(device)->tables.limits;
    int32_t padded = 1;
    while (padded < rows && padded < ROWS_STEP)
        padded *= 2;
    if (rows > padded)
        padded = (rows + ROWS_STEP - 1) / ROWS_STEP * ROWS_STEP;
    bool fits = rows > 0 && padded <= limits->tokens && padded <= limits->segments &&
                padded <= limits->outputs;
    return fits ? padded : 0;
}

// The longest sequence of a graph that serves one of `positions`.
static int32_t length_of(const pr_gpu_tables *tables)
{
    int32_t length = PR_GPU_ATTENTION_PART;
    while (length < tables->most_positions && length < INT32_MAX / 2)
        length *= 2;
    return length < tables->limits.positions ? length : tables->limits.positions;
}

// The graph of this size, or a free one that becomes it; NULL: there are enough.
static pr_gpu_step_graph *find(pr_gpu_step_graphs *graphs, int32_t rows, int32_t length)
{
    for (int32_t i = 0; i < graphs->count; i++) {
        if (graphs->graph[i].rows == rows && graphs->graph[i].length == length)
            return &graphs->graph[i];
    }
    if (graphs->count == PR_GPU_STEP_GRAPHS)
        return NULL;
    graphs->graph[graphs->count] = (pr_gpu_step_graph){.rows = rows, .length = length};
    return &graphs->graph[graphs->count++];
}

static bool graph_begin(pr_device *device)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_tables *tables = &state->tables;
    assert(!state->graphs.records);
    tables->most_positions = length_of(tables);
    pr_gpu_step_graph *graph = find(&state->graphs, tables->step.tokens, tables->most_positions);
    if (!graph)
        return false;
    if (graph->recorded) {
        state->last = "a recorded step";
        if (!state->backend->graph_run(graph->recorded, state->stream))
            (void)pr_gpu_fail(state, "running a recorded step");
        return true;
    }
    if (graph->seen && !state->graphs.refused && state->backend->graph_begin(state->stream))
        state->graphs.records = graph;
    graph->seen = true;
    return false;
}

static bool graph_end(pr_device *device)
{
    pr_gpu_state *state = pr_gpu_state_of(device);
    pr_gpu_step_graph *graph = state->graphs.records;
    if (!graph)
        return true;
    state->graphs.records = NULL;
    graph->recorded = state->backend->graph_end(state->stream);
    if (!graph->recorded) {
        state->graphs.refused = true;
        pr_log(
            PR_LOG_WARN, "%s:%d records no steps, each kernel is launched by itself: %s",
            state->backend->name, (int)state->index, state->backend->error());
        return false;
    }
    pr_log(
        PR_LOG_DEBUG, "%s:%d has recorded decode steps of %d rows, up to %d positions",
        state->backend->name, (int)state->index, (int)graph->rows, (int)graph->length);
    if (!state->backend->graph_run(graph->recorded, state->stream))
        (void)pr_gpu_fail(state, "running a recorded step");
    return true;
}

void pr_gpu_step_graph_forget(pr_gpu_state *state)
{
    if (state->graphs.count > 0)
        (void)state->backend->wait(state->stream);
    for (int32_t i = 0; i < state->graphs.count; i++) {
        if (state->graphs.graph[i].recorded)
            state->backend->graph_destroy(state->graphs.graph[i].recorded);
    }
    state->graphs = (pr_gpu_step_graphs){0};
}

void pr_gpu_step_graph_fill(pr_device *device)
{
    device->graph_rows = graph_rows;
    device->graph_begin = graph_begin;
    device->graph_end = graph_end;
}
