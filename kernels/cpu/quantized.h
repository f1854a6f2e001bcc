// SPDX-License-Identifier: BSD-3-Clause
// Quantised weights inside the panels of cpu_matrix.h, and the rows that meet them. K is cut into blocks
// that begin at the slice's begin; a quad is 4 columns of a block.
//
//   int8 block, 64 columns, 1056 bytes:  [16 quads][16 outputs][4] w + 128      | [16] scale, bfloat16
//   int4 block, 32 columns,  288 bytes:  [4 pairs of quads][16 outputs][4]      | [16] scale, bfloat16
//                                        low nibble w + 8 of the first quad, high nibble of the second
//
//   rows, in parts of R (at most so many as the kernel's choice is), each part:
//     for each block:  [R] scale, float | [R] start, int32 | [quads][R][4] q, int8
//
// A product of a block is start + sum over its columns of stored weight * q, exactly: start is what the
// offset of the stored weights adds too much, -128 or -8 times the sum of q.
#ifndef PR_KERNELS_CPU_QUANTIZED_H
#define PR_KERNELS_CPU_QUANTIZED_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"

enum { PR_INT8_BLOCK = 64, PR_INT4_BLOCK = 32, PR_WIDEST_BLOCK = 64, PR_QUAD = 4 };
enum { PR_BLOCK_SCALES_BYTES = 2 * PR_PANEL };

// Blocks of a row whose largest magnitude is below this are taken as zeros; of a NaN or an infinity,
// and only then, the bits of the magnitude are PR_UNUSABLE_BITS or more.
#define PR_SMALLEST_ROW 0x1p-100f
enum { PR_UNUSABLE_BITS = 0x7f800000 };

// What the stored weights have too much.
static inline int32_t pr_quantized_offset(pr_packing packing)
{
    return packing == PR_PACKED_INT8 ? 128 : 8;
}

static inline int32_t pr_quantized_block(pr_packing packing)
{
    return packing == PR_PACKED_INT8 ? PR_INT8_BLOCK : PR_INT4_BLOCK;
}

// Bytes of a block's weights, scales not included.
static inline size_t pr_quantized_weight_bytes(pr_packing packing)
{
    return (size_t)PR_PANEL * (packing == PR_PACKED_INT8 ? PR_INT8_BLOCK : PR_INT4_BLOCK / 2);
}

static inline size_t pr_quantized_block_bytes(pr_packing packing)
{
    return pr_quantized_weight_bytes(packing) + PR_BLOCK_SCALES_BYTES;
}

// Bytes that one row takes of a block of a group.
static inline size_t pr_quantized_row_block_bytes(pr_packing packing)
{
    return sizeof(float) + sizeof(int32_t) + (size_t)pr_quantized_block(packing);
}

static inline size_t pr_quantized_row_bytes(const pr_matrix *matrix)
{
    size_t blocks = (size_t)(matrix->padded_cols / matrix->unit);
    return (blocks * pr_quantized_row_block_bytes(matrix->packing) + 63) / 64 * 64;
}

// A part of the rows and a panel, of a product.
typedef struct pr_quantized_part {
    const pr_matmul_args *args;
    const char *prepared;
    int64_t first_row, panel;
} pr_quantized_part;

// Interleave up to 16 stored rows of one slice, as packing_rule asks (cpu_matrix.c).
//   int8  scale = max|w| / 127 in bfloat16, q = w / scale rounded to even, -127..127
//   int4  scale is the best of a few around the extreme / -8 and / 7, then least squares, in bfloat16;
//         q = w / scale rounded to even, -8..7
// A scale that is no normal number counts as 0. A NaN or infinity makes its block's scale NaN.
pr_pack_rows pr_quantized_pack_int8, pr_quantized_pack_int4;

// Quantises `columns` elements of a row, at most a block, zeros beyond them: q, and what to put beside.
typedef void (*pr_quantize_row_block)(
    const float *x, int32_t columns, pr_packing packing, float *scale, int32_t *start, int8_t *q);

// Rows [begin, end) to their places in parts of at most `most`. For inlining: `quantize` and `most` are
// constants of an instruction set.
__attribute__((always_inline)) static inline void pr_quantized_prepare(
    const pr_matmul_args *args,
    int32_t begin,
    int32_t end,
    int64_t most,
    pr_quantize_row_block quantize,
    char *prepared)
{
    const pr_matrix *matrix = args->matrix;
    int64_t rows = args->rows, parts = pr_row_parts(rows, most);
    pr_packing packing = matrix->packing;
    int32_t block = pr_quantized_block(packing), quads = block / PR_QUAD;
    size_t row_bytes = pr_quantized_row_bytes(matrix);
    for (int64_t m = begin; m < end; m++) {
        int64_t part = pr_row_part_of(rows, parts, m), first = pr_row_part_begin(rows, parts, part);
        size_t many = (size_t)(pr_row_part_begin(rows, parts, part + 1) - first);
        char *to = prepared + (size_t)first * row_bytes + (size_t)(m - first) * PR_QUAD;
        for (int32_t s = 0; s < matrix->slices; s++) {
            const float *from = args->x + m * matrix->cols + pr_matrix_slice_begin(matrix, s);
            const float *last = args->x + m * matrix->cols + pr_matrix_slice_begin(matrix, s + 1);
            for (; from < last; from += block) {
                int8_t q[PR_WIDEST_BLOCK] __attribute__((aligned(64)));
                float scale;
                int32_t start;
                int32_t columns = last - from < block ? (int32_t)(last - from) : block;
                quantize(from, columns, packing, &scale, &start, q);
                memcpy(to, &scale, PR_QUAD);
                memcpy(to + many * PR_QUAD, &start, PR_QUAD);
                to += 2 * many * PR_QUAD;
                for (int32_t quad = 0; quad < quads; quad++, to += many * PR_QUAD)
                    memcpy(to, q + quad * PR_QUAD, PR_QUAD);
            }
        }
    }
}

#endif
