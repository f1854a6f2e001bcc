// SPDX-License-Identifier: BSD-3-Clause
// Drives the matmul kernels: rows are prepared once, then panels of outputs are handed to the team in
// chunks. A chunk is one long stream of weights; with many rows it stays in the cache while they pass.
#include <assert.h>
#include <stdlib.h>

#include "kernels/cpu/cpu_state.h"
#include "runtime/base/log.h"

// Multiply-adds below which waking others costs more than it saves; panels that a thread takes at once.
enum { WORTH_SHARING = 1 << 16, MOST_CHUNK = 12, CHUNKS_PER_THREAD = 4 };

// One product of a task list, or the two of a gated MLP.
struct pr_cpu_product {
    pr_matmul_args args;
    const pr_matmul_kernel *kernel;
    const char *prepared;
    // Gated: second and its scratch are `up`; NULL otherwise.
    const pr_matrix *up;
    float *scratch;
    void (*swiglu)(float *gate, const float *up, int64_t elements);
};
typedef struct pr_cpu_product product;

static const pr_matmul_kernel *kernel_of(const pr_device *device, const pr_matrix *matrix)
{
    return pr_cpu_state_of(device)->kernels.matmul[matrix->packing];
}

static bool share_preparation(const pr_matrix *a, const pr_matrix *b)
{
    return a->packing == b->packing && a->cols == b->cols && a->slices == b->slices;
}

// ---- Preparation -----------------------------------------------------------------------------

typedef struct preparation {
    const pr_matmul_kernel *kernel;
    const pr_matmul_args *args;
    char *prepared;
} preparation;

static void prepare_block(void *context, int64_t block, int32_t thread)
{
    const preparation *p = context;
    int64_t rows = p->args->rows, blocks = pr_row_blocks(rows);
    (void)thread;
    p->kernel->prepare(
        p->args, (int32_t)pr_row_part_begin(rows, blocks, block),
        (int32_t)pr_row_part_begin(rows, blocks, block + 1), p->prepared);
}

static void prepare(pr_device *device, const pr_matmul_args *args)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    preparation p = {kernel_of(device, args->matrix), args, state->prepared};
    assert((size_t)args->rows * p.kernel->row_bytes(args->matrix) <= state->prepared_bytes);
    if (args->rows * args->matrix->cols < WORTH_SHARING)
        p.kernel->prepare(args, 0, args->rows, p.prepared);
    else
        pr_cpu_team_run(state->team, prepare_block, &p, pr_row_blocks(args->rows));
}

// ---- Products --------------------------------------------------------------------------------

static void compute_panels(const product *p, int64_t begin, int64_t end)
{
    p->kernel->multiply(&p->args, p->prepared, begin, end);
    if (p->up == NULL)
        return;
    pr_matmul_args up = p->args;
    up.matrix = p->up;
    up.y = p->scratch;
    p->kernel->multiply(&up, p->prepared, begin, end);
    int64_t outputs = p->up->rows, from = begin * PR_PANEL, to = end * PR_PANEL;
    to = to < outputs ? to : outputs;
    for (int64_t m = 0; m < p->args.rows; m++)
        p->swiglu(p->args.y + m * outputs + from, p->scratch + m * outputs + from, to - from);
}

// Chunks of the panels of all products, numbered product by product.
typedef struct chunk_list {
    const product *product;
    const int64_t *first_chunk;  // [products]
    int64_t chunk;               // panels
    int32_t products;
} chunk_list;

static void compute_chunk(void *context, int64_t task, int32_t thread)
{
    const chunk_list *list = context;
    (void)thread;
    int32_t number = pr_cpu_task_owner(list->first_chunk, list->products, task);
    const product *p = &list->product[number];
    int64_t panels = pr_matrix_panels(p->args.matrix);
    int64_t begin = (task - list->first_chunk[number]) * list->chunk, end = begin + list->chunk;
    compute_panels(p, begin, end < panels ? end : panels);
}

static void compute(pr_device *device, const product *products, int32_t count, int64_t *first_chunk)
{
    pr_cpu_team *team = pr_cpu_state_of(device)->team;
    int64_t panels = 0, work = 0;
    for (int32_t i = 0; i < count; i++) {
        const pr_matrix *matrix = products[i].args.matrix;
        panels += pr_matrix_panels(matrix);
        work += products[i].args.rows * matrix->rows * matrix->cols;
    }
    if (work < WORTH_SHARING || pr_cpu_team_threads(team) == 1) {
        for (int32_t i = 0; i < count; i++) {
            int64_t end = pr_matrix_panels(products[i].args.matrix);
            int64_t chunk =
                products[i].up != NULL ? MOST_CHUNK : end;  // gate meets up in the cache
            for (int64_t begin = 0; begin < end; begin += chunk)
                compute_panels(&products[i], begin, begin + chunk < end ? begin + chunk : end);
        }
        return;
    }
    int64_t chunk = panels / (pr_cpu_team_threads(team) * CHUNKS_PER_THREAD), chunks = 0;
    chunk = chunk < 2 ? 2 : chunk > MOST_CHUNK ? MOST_CHUNK : chunk;
    for (int32_t i = 0; i < count; i++) {
        first_chunk[i] = chunks;
        chunks += (pr_matrix_panels(products[i].args.matrix) + chunk - 1) / chunk;
    }
    chunk_list list = {products, first_chunk, chunk, count};
    pr_cpu_team_run(team, compute_chunk, &list, chunks);
}

static void matmul(pr_device *device, const pr_matmul_args *args, int32_t count)
{
    assert(count >= 1 && count <= PR_MATMUL_MOST);
    pr_cpu_state *state = pr_cpu_state_of(device);
    product products[PR_MATMUL_MOST];
    int64_t first_chunk[PR_MATMUL_MOST];
    if (args->rows == 0)
        return;
    for (int32_t done = 0, group; done < count; done += group) {
        const pr_matrix *first = args[done].matrix;
        prepare(device, &args[done]);
        for (group = 0; done + group < count; group++) {
            const pr_matmul_args *each = &args[done + group];
            if (!share_preparation(first, each->matrix))
                break;
            products[group] =
                (product){*each, kernel_of(device, first), state->prepared, NULL, NULL, NULL};
        }
        compute(device, products, group, first_chunk);
    }
}

static product gated_product(const pr_device *device, const pr_gated_args *args)
{
    return (product){
        .args = {.rows = args->rows, .x = args->x, .matrix = args->gate, .y = args->y},
        .kernel = kernel_of(device, args->gate),
        .prepared = pr_cpu_state_of(device)->prepared,
        .up = args->up,
        .scratch = args->scratch,
        .swiglu = pr_cpu_state_of(device)->kernels.swiglu,
    };
}

static void gated(pr_device *device, const pr_gated_args *args)
{
    assert(share_preparation(args->gate, args->up));
    int64_t first_chunk;
    if (args->rows == 0)
        return;
    product p = gated_product(device, args);
    prepare(device, &p.args);
    compute(device, &p, 1, &first_chunk);
}

// ---- Experts ---------------------------------------------------------------------------------

typedef struct product_list {
    product *product;
    int32_t products;
} product_list;

static void prepare_expert(void *context, int64_t task, int32_t thread)
{
    const product *p = &((const product_list *)context)->product[task];
    (void)thread;
    p->kernel->prepare(&p->args, 0, p->args.rows, (char *)(uintptr_t)p->prepared);
}

// Prepares the rows of every product, one after the other in the scratch, and computes them all as one
// list, so that threads share the work whatever its spread over experts.
static void compute_list(pr_device *device, product_list *list)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    char *prepared = state->prepared;
    int64_t work = 0;
    for (int32_t i = 0; i < list->products; i++) {
        product *p = &list->product[i];
        p->kernel = kernel_of(device, p->args.matrix);
        p->prepared = prepared;
        prepared += (size_t)p->args.rows * p->kernel->row_bytes(p->args.matrix);
        work += p->args.rows * p->args.matrix->cols;
    }
    assert((size_t)(prepared - (char *)state->prepared) <= state->prepared_bytes);
    if (work < WORTH_SHARING) {
        for (int32_t i = 0; i < list->products; i++)
            prepare_expert(list, i, 0);
    } else {
        pr_cpu_team_run(state->team, prepare_expert, list, list->products);
    }
    compute(device, list->product, list->products, state->first_chunk);
}

static void experts(pr_device *device, const pr_experts_args *args)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    product_list list = {.product = state->product};
    int64_t total = 0, row = 0;
    assert(args->experts <= state->products);
    for (int32_t e = 0; e < args->experts; e++)
        total += args->count[e];
    for (int32_t e = 0; e < args->experts; e++) {
        if (args->count[e] == 0)
            continue;
        pr_gated_args one = {
            .rows = args->count[e],
            .x = args->x + row * args->hidden,
            .gate = args->gate[e],
            .up = args->up[e],
            .scratch = args->scratch + (total + row) * args->inner,
            .y = args->scratch + row * args->inner,
        };
        list.product[list.products++] = gated_product(device, &one);
        row += args->count[e];
    }
    compute_list(device, &list);
    list.products = 0;
    row = 0;
    for (int32_t e = 0; e < args->experts; e++) {
        if (args->count[e] == 0)
            continue;
        list.product[list.products++] = (product){
            .args = {
                .rows = args->count[e],
                .x = args->scratch + row * args->inner,
                .matrix = args->down[e],
                .y = args->y + row * args->hidden,
            }};
        row += args->count[e];
    }
    compute_list(device, &list);
}

// ---- Setting up ------------------------------------------------------------------------------

// The widest prepared row of any packing: a float a column, every slice filled up to a unit, and a scale
// and a sum of each block.
static size_t widest_row_bytes(int64_t cols)
{
    size_t padded = (size_t)cols + PR_SLICES * PR_WIDEST_UNIT;
    return (padded * sizeof(float) + padded / 4 + 127) / 64 * 64;
}

static pr_status reserve(pr_device *device, int64_t rows, int64_t cols, int32_t local_experts)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    size_t wanted = (size_t)rows * widest_row_bytes(cols);
    if (wanted > state->prepared_bytes) {
        void *prepared;
        PR_TRY(device->memory_take(device, wanted, &prepared));
        device->memory_release(device, state->prepared);
        state->prepared = prepared;
        state->prepared_bytes = wanted;
    }
    if (local_experts > state->products) {
        product *products = calloc((size_t)local_experts, sizeof *products);
        int64_t *first_chunk = calloc((size_t)local_experts, sizeof *first_chunk);
        if (products == NULL || first_chunk == NULL) {
            free(products);
            free(first_chunk);
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d experts", local_experts);
        }
        free(state->product);
        free(state->first_chunk);
        state->product = products;
        state->first_chunk = first_chunk;
        state->products = local_experts;
    }
    return PR_OK;
}

void pr_cpu_matmul_release(pr_device *device)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    device->memory_release(device, state->prepared);
    free(state->product);
    free(state->first_chunk);
}

void pr_cpu_matmul_fill(pr_device *device)
{
    device->matmul = matmul;
    device->gated = gated;
    device->experts = experts;
    device->reserve = reserve;
}
