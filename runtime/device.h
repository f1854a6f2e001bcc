// SPDX-License-Identifier: BSD-3-Clause
// The contract of one device: memory, packed weights and the kernels of a forward pass.
// kernels/ fills it (cpu now; cuda, hip and null later); runtime/model calls it.
//
// Letters: T tokens of this rank's step, H hidden, h query heads and g KV heads *of this rank*,
// d head size, I inner size of this rank, E experts of the model, K experts per token, V
// vocabulary, B block tokens. All activations are float32, row-major, contiguous in the last
// dimension; a stride is given only where rows may be padded.
//
// Numbers (design.md §5; the reference kernels are the specification, a fast kernel is bit-equal):
//   matmul     y[m][n] = tree over slices s of (fma over k ascending within s, from 0), + bias[n].
//              bfloat16 weights: x rounded to bfloat16, pairs of k, the second first (docs/kernels.md).
//              Slice s of S covers k in [cols*s/S, cols*(s+1)/S); the tree is balanced binary
//              ((0+1)+(2+3))+((4+5)+(6+7)). Never depends on M or the row's place.
//   rmsnorm    sum of squares in 16 strided lanes (lane j takes elements j, j+16, ... by fma), lanes
//              added as a balanced binary tree of neighbours; y = x * (1/sqrt(sum/n + eps)) * w.
//   attention  KV in spans of 64 positions at absolute multiples of 64, ascending. In a span: scores of
//              (q * scale) and k; maximum; rescale; p = pr_exp(score - m); sum (16 lanes) and output
//              move on. Then o * (1 / sum) + 0. Dot products are fma in ascending order for float32 KV;
//              for bfloat16 KV q * scale and p are rounded to bfloat16 and terms go in pairs, the second
//              of a pair first, denormals as zero (vdpbf16ps). docs/kernels.md has it all.
//   combine    y = fma(w_k, row_k, y) over k = 0..K-1 ascending, from 0.
//   top-k      softmax over E: maximum, then p = pr_exp(x - max) and sum, e ascending; largest
//              first, equal values: lowest expert first; renormalised weights are p / (sum of the
//              chosen p in slot order), otherwise p / (sum of all).
//
// KV pages: one block holds B tokens (a multiple of PR_TILE) of one layer, for g heads:
//   float32   K page [g][B / PR_TILE][d][PR_TILE] (positions innermost: one vector load per d)
//             V page [g][B][d]
//   bfloat16  K page [g][B / PR_TILE][d/2][PR_TILE][2], elements in pairs
//             V page [g][B/2][d][2], positions in pairs
//   so a tile of 16 positions, and a range of heads, is contiguous in both (HND).
// Threads: one thread drives a device; inside, a device may use more (results do not depend on how
// many). Errors: kernels cannot fail; memory and packing can.
#ifndef PR_RUNTIME_DEVICE_H
#define PR_RUNTIME_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

enum { PR_TILE = 16, PR_SLICES = 8, PR_MATMUL_MOST = 3 };

// What packing makes of stored weights; the order of their sums is docs/kernels.md's.
typedef enum pr_quantization {
    PR_QUANTIZATION_NONE,  // kept as stored, widened in registers
    PR_QUANTIZATION_INT8,
    PR_QUANTIZATION_INT4,
    PR_QUANTIZATION_FLOAT32,  // none, and widened to float32: activations are not rounded either
} pr_quantization;

typedef struct pr_device pr_device;
typedef struct pr_matrix pr_matrix;  // packed weights in device memory, made by matrix_create

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

typedef struct pr_embed_args {
    int32_t tokens;
    const int32_t *token;  // [T], 0..V-1
    const void *table;     // [V][H] in dtype, host memory
    pr_dtype dtype;
    int32_t hidden;
    float *x;  // [T][H]
} pr_embed_args;

// x += addend, then y = norm(x).
typedef struct pr_rmsnorm_args {
    int32_t tokens, hidden;
    float *x;             // [T][H], changed only if there is an addend
    const float *addend;  // [T][H], or NULL
    const float *weight;  // [H]
    float epsilon;
    float *y;  // [T][H], may be x
} pr_rmsnorm_args;

typedef struct pr_matmul_args {
    int32_t rows;             // M, may be 0
    const float *x;           // [M][cols]
    const pr_matrix *matrix;  // N rows, cols columns
    const float *bias;        // [N] or NULL
    float *y;                 // [M][N]
} pr_matmul_args;

// Optional per-head RMSNorm of q and k, rotary embedding on pairs (i, i + d/2), K and V to pages.
typedef struct pr_rope_store_args {
    int32_t tokens, query_heads, kv_heads, head_size;
    float *q;             // [T][h][d], changed in place
    float *k;             // [T][g][d], changed in place
    const float *v;       // [T][g][d]
    const float *q_norm;  // [d] or NULL
    const float *k_norm;  // [d] or NULL
    float epsilon;
    const float *cosine;      // [positions][d/2]
    const float *sine;        // [positions][d/2]
    const int32_t *position;  // [T]
    const int32_t *block;     // [T] KV block of each token
    int32_t block_tokens;
    pr_dtype kv_dtype;  // PR_F32 or PR_BF16
    void *k_pages;      // [blocks] pages
    void *v_pages;      // [blocks] pages
} pr_rope_store_args;

// Consecutive query rows of one sequence.
typedef struct pr_segment {
    int32_t first_row, rows;
    int32_t start_position;  // absolute position of the first row
    const int32_t *block;    // block table, [ceil((start_position + rows) / B)]
} pr_segment;

typedef struct pr_attention_args {
    int32_t segments;
    const pr_segment *segment;  // [segments]
    int32_t query_heads, kv_heads, head_size, block_tokens;
    float scale;
    const float *q;  // [T][h][d]
    pr_dtype kv_dtype;
    const void *k_pages, *v_pages;
    float *out;  // [T][h][d]
} pr_attention_args;

typedef struct pr_topk_args {
    int32_t tokens, experts, chosen;
    const float *logits;  // [T][E]
    bool renormalise;
    int32_t *expert;  // [T][K], descending weight
    float *weight;    // [T][K]
} pr_topk_args;

// y = silu(x gate) * (x up): the first half of a gated MLP.
typedef struct pr_gated_args {
    int32_t rows;                // M, may be 0
    const float *x;              // [M][cols]
    const pr_matrix *gate, *up;  // [I][cols] each
    float *scratch;              // [M][I]
    float *y;                    // [M][I]
} pr_gated_args;

// Rows sorted by expert: expert e owns the next count[e] rows. Scratch is the device's own.
typedef struct pr_experts_args {
    int32_t experts;                                         // local
    const int32_t *count;                                    // [experts], >= 0
    const pr_matrix *const *gate, *const *up, *const *down;  // [experts]: [I][H] [I][H] [H][I]
    int32_t hidden, inner;
    const float *x;  // [sum of count][H]
    float *scratch;  // [2][sum of count][I]
    float *y;        // [sum of count][H]
} pr_experts_args;

typedef struct pr_combine_args {
    int32_t tokens, chosen, hidden;
    const float *const *row;  // [T][K], each [H], in slot order
    const float *weight;      // [T][K]
    float *y;                 // [T][H]
} pr_combine_args;

typedef struct pr_add_args {
    int64_t elements;
    float *x;  // x += y
    const float *y;
} pr_add_args;

// A piece of work cut into tasks; thread is 0..threads-1 and no two tasks run on one at once.
typedef void (*pr_shared_work)(void *context, int64_t task, int32_t thread);

struct pr_device {
    const char *name;  // "cpu", ...
    const char *isa;   // what was chosen at open: "reference", "avx2", "avx512", ...
    int32_t threads;   // of this process that `share` uses, with the caller's
    void *state;       // the back end's own

    pr_status (*memory_take)(
        pr_device *device, size_t size_bytes, void **memory);  // zeroed, 64-byte aligned
    void (*memory_release)(pr_device *device, void *memory);

    pr_status (*matrix_create)(
        pr_device *device, const pr_matrix_source *source, pr_matrix **matrix);
    void (*matrix_destroy)(pr_device *device, pr_matrix *matrix);
    // Packed bytes for a store. They depend on source and layout alone, not on the instruction set.
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
