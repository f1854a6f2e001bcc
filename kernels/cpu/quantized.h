// SPDX-License-Identifier: BSD-3-Clause
// Quantised weights inside the panels of cpu_matrix.h, and the rows that meet them. K is cut into blocks
// that begin at the slice's begin; a quad is 4 columns of a block.
//
//   int8 block, 64 columns, 1056 bytes:  [16 quads][16 outputs][4] w + 128      | [16] scale, bfloat16
//   int4 block, 32 columns,  288 bytes:  [4 pairs of quads][16 outputs][4]      | [16] scale, bfloat16
//                                        low nibble w + 8 of the first quad, high nibble of the second
//
//   rows, in groups of R (their number is the kernel's choice), each group:
//     for each block:  [R] scale, float | [R] start, int32 | [quads][R][4] q, int8
//
// A product of a block is start + sum over its columns of stored weight * q, exactly: start is what the
// offset of the stored weights adds too much, -128 or -8 times the sum of q.
#ifndef PR_KERNELS_CPU_QUANTIZED_H
#define PR_KERNELS_CPU_QUANTIZED_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_matrix.h"

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

// Groups of nearly equal size, at most `most` rows: 13 rows are 7 + 6, not 12 + 1.
static inline int64_t pr_quantized_groups(int64_t rows, int64_t most)
{
    return (rows + most - 1) / most;
}
static inline int64_t pr_quantized_group_begin(int64_t rows, int64_t groups, int64_t group)
{
    return rows * group / groups;
}
static inline int64_t pr_quantized_group_of(int64_t rows, int64_t groups, int64_t row)
{
    return ((row + 1) * groups - 1) / rows;
}

// Interleave up to 16 stored rows of one slice, as packing_rule asks (cpu_matrix.c).
//   int8  scale = max|w| / 127 in bfloat16, q = w / scale rounded to even, -127..127
//   int4  scale is the best of a few around the extreme / -8 and / 7, then least squares, in bfloat16;
//         q = w / scale rounded to even, -8..7
// A scale that is no normal number counts as 0. A NaN or infinity makes its block's scale NaN.
void pr_quantized_pack_int8(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed);
void pr_quantized_pack_int4(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed);

// Quantises `columns` elements of a row, at most a block, zeros beyond them: q, and what to put beside.
typedef void (*pr_quantize_row_block)(
    const float *x, int32_t columns, pr_packing packing, float *scale, int32_t *start, int8_t *q);

// Rows [begin, end) of `rows` to their places in groups of at most `most`. For inlining: `quantize` and
// `most` are constants of an instruction set.
__attribute__((always_inline)) static inline void pr_quantized_prepare(
    const pr_matrix *matrix,
    const float *x,
    const int32_t range[3],  // rows, begin, end
    int64_t most,
    pr_quantize_row_block quantize,
    char *prepared)
{
    int64_t rows = range[0], groups = pr_quantized_groups(rows, most);
    pr_packing packing = matrix->packing;
    int32_t block = pr_quantized_block(packing), quads = block / PR_QUAD;
    size_t row_bytes = pr_quantized_row_bytes(matrix);
    for (int64_t m = range[1]; m < range[2]; m++) {
        int64_t group = pr_quantized_group_of(rows, groups, m);
        int64_t first = pr_quantized_group_begin(rows, groups, group);
        size_t many = (size_t)(pr_quantized_group_begin(rows, groups, group + 1) - first);
        char *to = prepared + (size_t)first * row_bytes + (size_t)(m - first) * PR_QUAD;
        for (int32_t s = 0; s < matrix->slices; s++) {
            const float *from = x + m * matrix->cols + pr_matrix_slice_begin(matrix, s);
            const float *end = x + m * matrix->cols + pr_matrix_slice_begin(matrix, s + 1);
            for (; from < end; from += block) {
                int8_t q[PR_WIDEST_BLOCK] __attribute__((aligned(64)));
                float scale;
                int32_t start;
                int32_t columns = end - from < block ? (int32_t)(end - from) : block;
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
