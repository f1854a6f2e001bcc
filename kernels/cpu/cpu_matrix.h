// SPDX-License-Identifier: BSD-3-Clause
// Weights packed for the CPU kernels: panels of 16 rows (outputs), the 16 side by side for each
// column, so that one vector holds one k of 16 outputs and a lane adds over k in order.
//
//   stored  [N][cols]      row n:  w[n][0] w[n][1] ...
//   packed  [ceil(N/16)][cols][16]      column k of panel p:  w[16p][k] w[16p+1][k] ... w[16p+15][k]
//
// Rows beyond N are zero. The element type stays as stored. Kernels of any width read this layout.
#ifndef PR_KERNELS_CPU_MATRIX_H
#define PR_KERNELS_CPU_MATRIX_H

#include "runtime/device.h"

enum { PR_PANEL = 16 };

struct pr_matrix {
    int64_t rows, cols;
    int32_t slices;
    pr_dtype dtype;
    char *panels;  // [ceil(rows / PR_PANEL)][cols][PR_PANEL], 64-byte aligned
};

// Errors: PR_ERR_ARGUMENT (ranges, slices not 1, 2, 4 or 8), PR_ERR_RESOURCE.
pr_status pr_cpu_matrix_create(
    pr_device *device, const pr_matrix_source *source, pr_matrix **matrix) PR_MUST_CHECK;
void pr_cpu_matrix_destroy(pr_device *device, pr_matrix *matrix);
size_t pr_cpu_matrix_bytes(int64_t rows, int64_t cols, pr_dtype dtype);

static inline int64_t pr_matrix_panels(const pr_matrix *matrix)
{
    return (matrix->rows + PR_PANEL - 1) / PR_PANEL;
}

static inline const char *pr_matrix_panel(const pr_matrix *matrix, int64_t panel)
{
    size_t panel_bytes = (size_t)matrix->cols * PR_PANEL * pr_dtype_bytes(matrix->dtype);
    return matrix->panels + (size_t)panel * panel_bytes;
}

// First column of slice s; s = slices gives cols.
static inline int64_t pr_matrix_slice_begin(const pr_matrix *matrix, int32_t s)
{
    return matrix->cols * s / matrix->slices;
}

#endif
