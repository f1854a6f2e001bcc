// SPDX-License-Identifier: BSD-3-Clause
// Weights packed for the CPU kernels: panels of 16 rows (outputs), the 16 side by side for each unit of
// columns, so that a lane is an output and adds over k in order.
//
//   stored  [N][cols]      row n:  w[n][0] w[n][1] ...
//   packed  [ceil(N/16)] panels of panel_bytes, each: slice 0 | slice 1 | ...
//   slice   its columns in units, the last unit filled up with zeros; a unit is `unit` columns:
//     float32, float16   [columns][16]
//     bfloat16           [columns / 2][16][2]: pairs of columns; denormals are zero
//     int8, int4         blocks with their scales: quantized.h
//
// Rows beyond N are zero. panel_bytes is an odd number of lines, so that panels that are read side by side
// do not meet in the same sets of a cache. Kernels of every instruction set read this layout.
#ifndef PR_KERNELS_CPU_MATRIX_H
#define PR_KERNELS_CPU_MATRIX_H

#include "runtime/device.h"

enum { PR_PANEL = 16, PR_WIDEST_UNIT = 64 };

typedef enum pr_packing {
    PR_PACKED_F32,
    PR_PACKED_BF16,
    PR_PACKED_F16,
    PR_PACKED_INT8,
    PR_PACKED_INT4,
    PR_PACKINGS,
} pr_packing;

// Interleaves `rows` (<= 16) stored rows of one slice; the panel is zero before.
typedef void pr_pack_rows(
    const pr_matrix_source *source, const char *stored, int64_t rows, int64_t cols, char *packed);

struct pr_matrix {
    int64_t rows, cols;
    int32_t slices;
    pr_packing packing;
    int32_t unit;         // columns; slices are filled up to a multiple of it
    int64_t padded_cols;  // of all slices
    size_t panel_bytes;   // an odd multiple of 64
    char *panels;         // [ceil(rows / PR_PANEL)][panel_bytes], 64-byte aligned
    bool in_place;        // the panels are a mapped file's
};

// Errors: PR_ERR_ARGUMENT (ranges, slices not 1, 2, 4 or 8), PR_ERR_RESOURCE.
pr_status pr_cpu_matrix_create(
    pr_device *device, const pr_matrix_source *source, pr_matrix **matrix) PR_MUST_CHECK;
void pr_cpu_matrix_destroy(pr_device *device, pr_matrix *matrix);
size_t
pr_cpu_matrix_bytes(int64_t rows, int64_t cols, pr_dtype dtype, pr_quantization quantization);

// A matrix of this shape without panels: what follows from it is filled in.
pr_matrix pr_cpu_matrix_of(const pr_packed_shape *shape);
// Takes memory for the panels, on pages that are there already.
pr_status pr_cpu_matrix_take_panels(pr_device *device, pr_matrix *matrix) PR_MUST_CHECK;
// Bytes of a panel before slice s; s = slices gives all without the filling.
size_t pr_cpu_matrix_slice_offset(const pr_matrix *matrix, int32_t s);
// A unit of a panel is so many vectors of 16 lanes of 4 bytes, then so many of 2 bytes.
void pr_cpu_matrix_unit_vectors(pr_packing packing, int32_t *of_four, int32_t *of_two);

static inline int64_t pr_matrix_panels(const pr_matrix *matrix)
{
    return (matrix->rows + PR_PANEL - 1) / PR_PANEL;
}

static inline const char *pr_matrix_panel(const pr_matrix *matrix, int64_t panel)
{
    return matrix->panels + (size_t)panel * matrix->panel_bytes;
}

// First column of slice s; s = slices gives cols.
static inline int64_t pr_matrix_slice_begin(const pr_matrix *matrix, int32_t s)
{
    return matrix->cols * s / matrix->slices;
}

// Columns of slice s with its filling.
static inline int64_t pr_matrix_slice_padded(const pr_matrix *matrix, int32_t s)
{
    int64_t columns = pr_matrix_slice_begin(matrix, s + 1) - pr_matrix_slice_begin(matrix, s);
    return (columns + matrix->unit - 1) / matrix->unit * matrix->unit;
}

#endif
