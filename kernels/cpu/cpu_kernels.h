// SPDX-License-Identifier: BSD-3-Clause
// The kernels of one instruction set: what one thread computes of an operation. The drivers
// (cpu_matmul.c, cpu_rows.c, cpu_attention.c) cut an operation into tasks for the team and call these.
// The reference fills the whole table; an instruction set then overrides what it has faster, and may
// assume its CPU features.
#ifndef PR_KERNELS_CPU_KERNELS_H
#define PR_KERNELS_CPU_KERNELS_H

#include "kernels/cpu/cpu_matrix.h"
#include "runtime/device.h"

// How rows meet the packings of weights. First the rows are prepared (rounded, quantised, interleaved, as
// the kernel likes), once for all matrices of the same packing, columns and slices; then panels of
// outputs are computed from the prepared rows, by several threads. There is at least one row.
//   Rows are cut into parts of nearly equal size, at most so many in each: 13 rows are 7 + 6, not 12 + 1.
// Row blocks are the parts of at most PR_BLOCK_ROWS: a kernel may interleave the rows of a block, and blocks
// are prepared on several threads.
enum { PR_BLOCK_ROWS = 12 };

static inline int64_t pr_row_parts(int64_t rows, int64_t most) { return (rows + most - 1) / most; }

// First row of part i of so many; i = parts gives rows.
static inline int64_t pr_row_part_begin(int64_t rows, int64_t parts, int64_t i)
{
    return rows * i / parts;
}

// The part that holds a row.
static inline int64_t pr_row_part_of(int64_t rows, int64_t parts, int64_t row)
{
    return ((row + 1) * parts - 1) / rows;
}

static inline int64_t pr_row_blocks(int64_t rows) { return pr_row_parts(rows, PR_BLOCK_ROWS); }

typedef struct pr_matmul_kernel {
    // Bytes that one prepared row takes; rows prepared together take rows times that. A multiple of 64.
    size_t (*row_bytes)(const pr_matrix *matrix);
    // Prepares rows [begin, end) of args->x: whole row blocks.
    void (*prepare)(const pr_matmul_args *args, int32_t begin, int32_t end, void *prepared);
    // All rows of y, outputs of panels [panel_begin, panel_end), bias included. y is [rows][N].
    void (*multiply)(
        const pr_matmul_args *args, const void *prepared, int64_t panel_begin, int64_t panel_end);
} pr_matmul_kernel;

struct pr_cpu_kernels;

// Rows [row_begin, row_end) of a segment, the query heads of one KV head.
typedef void pr_attend_rows(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end);

// Both tokens of a pair of positions, 2i and 2i + 1 of a block, are in one call if in any of this step.
typedef void pr_rope_store_tokens(
    const struct pr_cpu_kernels *kernels,
    const pr_rope_store_args *args,
    int32_t token_begin,
    int32_t token_end);

typedef struct pr_cpu_kernels {
    const pr_matmul_kernel *matmul[PR_PACKINGS];
    pr_pack_rows *pack[PR_PACKINGS];
    void (*rmsnorm)(const pr_rmsnorm_args *args);
    void (*combine)(const pr_combine_args *args);
    void (*swiglu)(float *gate, const float *up, int64_t elements);  // gate = silu(gate) * up
    void (*exponentials)(const float *x, float shift, int32_t n, float *y);  // y = exp(x - shift)
    pr_attend_rows *attend;
    pr_rope_store_tokens *rope_store;
} pr_cpu_kernels;

void pr_cpu_reference_kernels(pr_cpu_kernels *kernels);
void pr_cpu_neon_kernels(pr_cpu_kernels *kernels);
void pr_cpu_avx2_kernels(pr_cpu_kernels *kernels);
void pr_cpu_avx512_kernels(pr_cpu_kernels *kernels);
void pr_cpu_vnni_kernels(pr_cpu_kernels *kernels);  // what AVX-512 with VNNI adds

// float: of F32, BF16 and F16. quantized: of INT8 and INT4.
extern const pr_matmul_kernel pr_matmul_float_reference, pr_matmul_quantized_reference;
extern const pr_matmul_kernel pr_matmul_float_avx2, pr_matmul_quantized_avx2;
extern const pr_matmul_kernel pr_matmul_float_avx512, pr_matmul_bf16_avx512bf16;

// source's dtype: any for f32, the packing's own for the others.
pr_pack_rows pr_pack_f32_reference, pr_pack_bf16_reference, pr_pack_f16_reference;
pr_pack_rows pr_pack_f32_avx2, pr_pack_bf16_avx2, pr_pack_f16_avx2;

pr_attend_rows pr_attend_reference, pr_attend_avx2, pr_attend_avx512, pr_attend_avx512bf16;
pr_rope_store_tokens pr_rope_store_avx2, pr_rope_store_avx512;

// Positions of one step of the softmax: a span begins at a multiple of this.
enum { PR_SPAN = 64 };

// Positions of a page that hold one tile of a head: where they start, in elements. K and V alike.
static inline size_t pr_tile_offset(int32_t tile, int32_t kv_head, int32_t d, int32_t block_tokens)
{
    int32_t in_page = tile % (block_tokens / PR_TILE);
    return ((size_t)kv_head * (size_t)block_tokens + (size_t)in_page * PR_TILE) * (size_t)d;
}

// Element e of the tile's position `lane`, from the start of the tile, in elements (device.h has the
// picture).
static inline size_t pr_k_place(pr_dtype dtype, int32_t lane, int32_t e)
{
    if (dtype == PR_F32)
        return (size_t)e * PR_TILE + (size_t)lane;
    return ((size_t)(e / 2) * PR_TILE + (size_t)lane) * 2 + (size_t)(e % 2);
}

static inline size_t pr_v_place(pr_dtype dtype, int32_t lane, int32_t e, int32_t d)
{
    if (dtype == PR_F32)
        return (size_t)lane * (size_t)d + (size_t)e;
    return ((size_t)(lane / 2) * (size_t)d + (size_t)e) * 2 + (size_t)(lane % 2);
}

#endif
