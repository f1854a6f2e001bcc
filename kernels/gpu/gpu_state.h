// SPDX-License-Identifier: BSD-3-Clause
// What a GPU device keeps behind pr_device.state, and who fills which part of the device's table. Private to
// kernels/gpu.
#ifndef PR_KERNELS_GPU_GPU_STATE_H
#define PR_KERNELS_GPU_GPU_STATE_H

#include "kernels/cpu/cpu_team.h"
#include "kernels/gpu/gpu_backend.h"
#include "runtime/device.h"

enum { PR_GPU_STAGES = 2, PR_GPU_STAGE_BYTES = 4 << 20 };

// Pinned memory between the host's own and the device: written again when its copy has gone.
typedef struct pr_gpu_stage {
    char *memory;  // [PR_GPU_STAGE_BYTES]
    pr_gpu_event *gone;
    bool busy;
} pr_gpu_stage;

// The device's copy of a step's tables: one block, filled by one copy. The first part has fixed places, the
// block tables follow.
typedef struct pr_gpu_tables {
    pr_step_limits limits;
    size_t token, position, block, segment_of, segment, output_row,
        blocks;              // places in it, in int32
    size_t capacity;         // int32
    int32_t *host, *device;  // pinned; the device's
    int32_t *other_rows;     // [outputs] the device's: rows that are no step's
    pr_gpu_event *gone;
    bool busy;
    pr_step_tables step;  // of the step that runs: whose pointers the kernels' args repeat
    int32_t most_positions, most_rows;
} pr_gpu_tables;

// Room on the device for pages on their way to or from the host.
typedef struct pr_gpu_slab {
    int32_t most_pages;
    int32_t *page;  // [most_pages]
    size_t size_bytes;
    char *memory;
} pr_gpu_slab;

enum { PR_GPU_STEP_GRAPHS = 256 };

typedef struct pr_gpu_step_graph {
    int32_t rows, length;  // of a decode step; of its longest sequence, at most
    bool seen;             // such a step has run
    pr_gpu_graph *recorded;
} pr_gpu_step_graph;

typedef struct pr_gpu_step_graphs {
    int32_t count;
    pr_gpu_step_graph graph[PR_GPU_STEP_GRAPHS];
    pr_gpu_step_graph *records;  // the one that is being recorded
    bool refused;                // the back end could not record one: no more are tried
} pr_gpu_step_graphs;

typedef struct pr_gpu_state {
    const pr_gpu_backend *backend;
    int32_t index;
    pr_gpu_facts facts;
    pr_gpu_stream *stream;
    pr_cpu_team *team;
    struct pr_gpu_piece *piece;    // of the pool (gpu_memory.c)
    struct pr_gpu_pinned *pinned;  // the same of the host
    pr_gpu_stage stage[PR_GPU_STAGES];
    int32_t next_stage;
    char *scratch;  // [threads][scratch_bytes] what packing reads before it converts
    size_t scratch_bytes;
    pr_gpu_tables tables;
    pr_gpu_slab slab;
    pr_gpu_step_graphs graphs;
    void *partial;  // attention's
    size_t partial_bytes;
    void *products;  // scratch of matmul and experts
    size_t products_bytes;
    const char *last;  // operation put into the stream
    pr_status status;  // of what could not return one: told by the next call that can
} pr_gpu_state;

static inline pr_gpu_state *pr_gpu_state_of(const pr_device *device) { return device->state; }

// Says what the back end refused, and returns PR_ERR_INTERNAL, from then on.
pr_status pr_gpu_fail(pr_gpu_state *state, const char *what);

void pr_gpu_memory_fill(pr_device *device);  // memory, copies
void pr_gpu_memory_release_all(pr_device *device);
// The next stage, free to be written.
pr_status pr_gpu_stage_begin(pr_gpu_state *state, pr_gpu_stage **stage) PR_MUST_CHECK;
// Its first bytes are on their way to the device.
pr_status pr_gpu_stage_send(
    pr_gpu_state *state, pr_gpu_stage *stage, void *to_device, size_t size_bytes) PR_MUST_CHECK;

void pr_gpu_tables_fill(pr_device *device);  // step_reserve, step_begin
void pr_gpu_tables_release(pr_device *device);
// Rows of a step's outputs, or others, on the device.
const int32_t *pr_gpu_tables_rows(pr_device *device, const int32_t *row, int32_t rows);

void pr_gpu_pages_fill(pr_device *device);  // pages_reserve, pages_gather, pages_scatter

void pr_gpu_calls_fill(pr_device *device);  // embed to add, reserve

#endif
