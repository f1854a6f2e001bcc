// SPDX-License-Identifier: BSD-3-Clause
// The contract of one device: memory, packed weights and the kernels of a forward pass.
// kernels/ fills it (cpu, and gpu for cuda, hip and their emulation); runtime/model calls it. What the kernels
// are given, and their numbers: operation.h.
//
// KV pages: one block holds B tokens (a multiple of PR_TILE) of one layer, for g heads:
//   float32   K page [g][B / PR_TILE][d][PR_TILE] (positions innermost: one vector load per d)
//             V page [g][B][d]
//   bfloat16  K page [g][B / PR_TILE][d/2][PR_TILE][2], elements in pairs
//             V page [g][B/2][d][2], positions in pairs
//   so a tile of 16 positions, and a range of heads, is contiguous in both (HND). That is PR_KV_TILES;
//   PR_KV_ROWS is [g][B][d] for both, in either type. A page is page_bytes in every arrangement.
// Memory: what memory_take gives is the device's. Where is_host is set, the host reads and writes it like
// its own; elsewhere only through copy_in and copy_out. Kernels may still be at work when their call
// returns; copy_in, copy_out and what follows in the same device see all of their results.
// Threads: one thread drives a device; inside, a device may use more (results do not depend on how
// many). Errors: memory, packing and copies can fail. A kernel that failed is told by the next copy_out or
// step_begin, which return PR_ERR_INTERNAL: the device is of no use then.
#ifndef PR_RUNTIME_DEVICE_H
#define PR_RUNTIME_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"
#include "runtime/operation.h"

// What packing makes of stored weights; the order of their sums is docs/kernels.md's.
typedef enum pr_quantization {
    PR_QUANTIZATION_NONE,  // kept as stored, widened in registers
    PR_QUANTIZATION_INT8,
    PR_QUANTIZATION_INT4,
    PR_QUANTIZATION_FLOAT32,  // none, and widened to float32: activations are not rounded either
} pr_quantization;

typedef enum pr_kv_arrangement { PR_KV_TILES, PR_KV_ROWS } pr_kv_arrangement;

typedef struct pr_device pr_device;
struct pr_device_exchange;
struct pr_device_exchange_params;
typedef struct pr_matrix_stack
    pr_matrix_stack;  // room for matrices of one shape, one after another

// Gets bytes of a mapped file without touching the mapping. Called by several threads at once.
typedef struct pr_byte_reader {
    // `from` is where the bytes would be in the mapping. False: reading failed; the reader knows why.
    bool (*read)(void *context, const void *from, void *to, size_t size_bytes);
    void *context;
} pr_byte_reader;

// Rows [row_begin, row_end) x columns [col_begin, col_end) of a stored row-major matrix.
typedef struct pr_matrix_source {
    const void *data;              // [.][stride] in host memory (a mapped file), any alignment
    const pr_byte_reader *reader;  // or NULL: data is read where it is
    pr_dtype dtype;
    int64_t stride;  // elements per stored row
    int64_t row_begin, row_end;
    int64_t col_begin, col_end;
    int32_t slices;  // S of this rank's part: 1, or PR_SLICES / tp where tp cuts columns
    pr_quantization quantization;
    pr_matrix_stack *stack;  // where it becomes matrix number stack_place; or NULL
    int32_t stack_place;
} pr_matrix_source;

// What a matrix was when its packed bytes were stored.
typedef struct pr_packed_shape {
    int64_t rows, cols;
    int32_t slices;
    pr_dtype dtype;
    pr_quantization quantization;
} pr_packed_shape;

static inline pr_packed_shape pr_packed_shape_of(const pr_matrix_source *source)
{
    return (pr_packed_shape){
        .rows = source->row_end - source->row_begin,
        .cols = source->col_end - source->col_begin,
        .slices = source->slices,
        .dtype = source->dtype,
        .quantization = source->quantization,
    };
}

// Rows [row_begin, row_end) and slices [slice_begin, slice_end) of a matrix that was stored packed.
typedef struct pr_packed_source {
    pr_packed_shape shape;         // of the whole
    const void *data;              // packed_bytes(shape) in a mapped file, 64-byte aligned
    const pr_byte_reader *reader;  // NULL: used in place where the part is one piece, else copied
    int64_t row_begin, row_end;
    int32_t slice_begin, slice_end;
} pr_packed_source;

// The largest step.
typedef struct pr_step_limits {
    int32_t tokens, segments, outputs, positions;  // positions: of one sequence
    int32_t block_tokens, query_heads, head_size;  // of this rank
} pr_step_limits;

// What the kernels of one step look up. All of it is the host's, and stays until the step has ended.
typedef struct pr_step_tables {
    int32_t tokens;
    const int32_t *token, *position, *block;  // [T]
    int32_t segments, block_tokens;
    const pr_segment *segment;  // [segments], with their block tables
    int32_t outputs;
    const int32_t *output_row;  // [outputs]
} pr_step_tables;

// Heads [head_begin, head_begin + heads) of listed pages of one layer and stream, one after another in a slab.
typedef struct pr_pages_args {
    int32_t pages;
    const int32_t *page;  // [pages] block numbers; host
    void *memory;         // [blocks] pages, the device's
    size_t page_bytes, head_bytes;
    int32_t head_begin, heads;
    void *slab;  // [pages][heads][head_bytes]; host
} pr_pages_args;

// A piece of work cut into tasks; thread is 0..threads-1 and no two tasks run on one at once.
typedef void (*pr_shared_work)(void *context, int64_t task, int32_t thread);

struct pr_device {
    const char *name;    // "cpu", "cuda", "hip", "emulated", ...
    const char *isa;     // what was chosen at open: "reference", "avx2", "sm_90", ...
    bool is_host;        // its memory is the host's, too
    int64_t free_bytes;  // of its own memory, when it was opened; 0 where it is the host's
    pr_kv_arrangement kv_arrangement;
    int32_t threads;  // of this process that `share` uses, with the caller's
    void *state;      // the back end's own

    pr_status (*memory_take)(
        pr_device *device, size_t size_bytes, void **memory);  // zeroed, 64-byte aligned
    void (*memory_release)(pr_device *device, void *memory);
    // Of the host, zeroed, 64-byte aligned, and copied from and to quickly (pinned).
    pr_status (*host_take)(pr_device *device, size_t size_bytes, void **memory);
    void (*host_release)(pr_device *device, void *memory);
    // From the host, which may use its bytes again at once, and to it, done when it returns. Any memory of
    // the host will do. No memory is taken.
    pr_status (*copy_in)(
        pr_device *device, void *to_device, const void *from_host, size_t size_bytes);
    pr_status (*copy_out)(
        pr_device *device, void *to_host, const void *from_device, size_t size_bytes);
    void (*copy)(
        pr_device *device, void *to, const void *from, size_t size_bytes);  // on the device

    pr_status (*matrix_create)(
        pr_device *device, const pr_matrix_source *source, pr_matrix **matrix);
    void (*matrix_destroy)(pr_device *device, pr_matrix *matrix);
    // Room for `count` matrices of this shape, which the experts of a layer want to be in: its matrices are
    // destroyed before it. NULL where matrices lie as they come.
    pr_status (*stack_create)(
        pr_device *device, const pr_packed_shape *shape, int32_t count, pr_matrix_stack **stack);
    void (*stack_destroy)(pr_device *device, pr_matrix_stack *stack);
    // Rows for embed, as stored or widened. A device of the host uses the mapped bytes, which stay.
    pr_status (*table_create)(
        pr_device *device, const pr_matrix_source *source, const void **table, pr_dtype *dtype);
    void (*table_destroy)(pr_device *device, const void *table);
    // Packed bytes for a store; packed_layout NULL: it has none, and packed_bytes counts device memory.
    // They depend on source and layout alone, not on the instruction set.
    const char *packed_layout;  // names what the bytes mean; bytes of another name are of no use
    size_t (*packed_bytes)(const pr_packed_shape *shape);
    const void *(*matrix_packed)(const pr_matrix *matrix);  // of a whole matrix, until its end
    // A matrix from packed bytes, the same as matrix_create makes of the same part. The data must stay
    // as long as the matrix. PR_ERR_IO, without a word, when the reader fails (matrix_create too).
    pr_status (*matrix_load)(pr_device *device, const pr_packed_source *source, pr_matrix **matrix);
    // Device bytes a matrix of this shape takes, for `plan`.
    size_t (*matrix_bytes)(
        int64_t rows, int64_t cols, pr_dtype dtype, pr_quantization quantization);
    // Before the first step: matmul, gated and experts will see at most so many rows of so many columns,
    // and so many experts. Called once for each user of the device; the largest counts.
    pr_status (*reserve)(pr_device *device, int64_t rows, int64_t cols, int32_t local_experts);
    // The same for step_begin, and for attention.
    pr_status (*step_reserve)(pr_device *device, const pr_step_limits *limits);
    // Once per step, before its kernels.
    pr_status (*step_begin)(pr_device *device, const pr_step_tables *tables);

    // Steps that come again may be one graph of the device: fewer launches, the same kernels. NULL: it has none.
    // Rows to make a step of (of as many sequences and outputs), at least `rows`; 0: not this one.
    int32_t (*graph_rows)(pr_device *device, int32_t rows);
    // After step_begin. True: all that is called up to graph_end is in the queue already, and is left out.
    // What is called between them is the same for each step of that many rows, and waits for nothing.
    bool (*graph_begin)(pr_device *device);
    // False: what was called has not run. It is called again, without these two.
    bool (*graph_end)(pr_device *device);

    // Before the first of those below: the most pages, and bytes of a slab.
    pr_status (*pages_reserve)(pr_device *device, int32_t pages, size_t slab_bytes);
    pr_status (*pages_gather)(pr_device *device, const pr_pages_args *args);  // to the slab; waits
    pr_status (*pages_scatter)(
        pr_device *device, const pr_pages_args *args);  // from it: free again
    // A group's operations by its devices themselves (device_exchange.h); NULL: the host does them.
    pr_status (*exchange_create)(
        pr_device *device,
        const struct pr_device_exchange_params *params,
        struct pr_device_exchange **exchange);

    // For an exchange by a library of the device's vendor: the queue of its work as that takes it (cudaStream_t,
    // hipStream_t). NULL: none.
    void *(*queue)(pr_device *device);
    void (*gather)(pr_device *device, const pr_gather_args *args);  // where there is a queue

    // Runs each task once, on the device's host threads, and returns when all are done: for what the
    // host does between kernels, such as sampling.
    void (*share)(pr_device *device, pr_shared_work work, void *context, int64_t tasks);

    void (*embed)(pr_device *device, const pr_embed_args *args);
    void (*rmsnorm)(pr_device *device, const pr_rmsnorm_args *args);
    // count <= PR_MATMUL_MOST products of the same rows: x and rows are equal in all of them.
    void (*matmul)(pr_device *device, const pr_matmul_args *args, int32_t count);
    void (*gated)(pr_device *device, const pr_gated_args *args);
    void (*rope_store)(pr_device *device, const pr_rope_store_args *args);
    void (*attention)(pr_device *device, const pr_attention_args *args);
    void (*topk)(pr_device *device, const pr_topk_args *args);
    void (*experts)(pr_device *device, const pr_experts_args *args);
    void (*combine)(pr_device *device, const pr_combine_args *args);
    void (*add)(pr_device *device, const pr_add_args *args);
};

#endif
