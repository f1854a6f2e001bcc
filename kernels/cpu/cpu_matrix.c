// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/cpu/cpu_matrix.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

size_t pr_cpu_matrix_bytes(int64_t rows, int64_t cols, pr_dtype dtype)
{
    size_t panels = ((size_t)rows + PR_PANEL - 1) / PR_PANEL;
    return panels * (size_t)cols * PR_PANEL * pr_dtype_bytes(dtype);
}

// Interleaves `rows` (<= 16) stored rows; the panel is zero before.
static void pack_panel(
    const char *stored,
    size_t stride_bytes,
    int64_t rows,
    int64_t cols,
    size_t element,
    char *panel)
{
    for (int64_t k = 0; k < cols; k++) {
        char *column = panel + (size_t)k * PR_PANEL * element;
        for (int64_t lane = 0; lane < rows; lane++) {
            const char *from = stored + (size_t)lane * stride_bytes + (size_t)k * element;
            if (element == 2)
                memcpy(column + 2 * lane, from, 2);
            else
                memcpy(column + 4 * lane, from, 4);
        }
    }
}

static pr_status check_source(const pr_matrix_source *source)
{
    bool slices = source->slices == 1 || source->slices == 2 || source->slices == 4 ||
                  source->slices == PR_SLICES;
    if (source->row_begin < 0 || source->row_end < source->row_begin || source->col_begin < 0 ||
        source->col_end < source->col_begin || source->col_end > source->stride || !slices)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "matrix part of rows %lld..%lld, columns %lld..%lld of %lld in %d slices makes no "
            "sense",
            (long long)source->row_begin, (long long)source->row_end, (long long)source->col_begin,
            (long long)source->col_end, (long long)source->stride, source->slices);
    return PR_OK;
}

pr_status
pr_cpu_matrix_create(pr_device *device, const pr_matrix_source *source, pr_matrix **matrix)
{
    PR_TRY(check_source(source));
    pr_matrix *made = malloc(sizeof(*made));
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory left for a matrix");
    *made = (pr_matrix){
        .rows = source->row_end - source->row_begin,
        .cols = source->col_end - source->col_begin,
        .slices = source->slices,
        .dtype = source->dtype,
    };
    void *panels;
    pr_status status = device->memory_take(
        device, pr_cpu_matrix_bytes(made->rows, made->cols, made->dtype), &panels);
    if (status != PR_OK) {
        free(made);
        return status;
    }
    made->panels = panels;

    size_t element = pr_dtype_bytes(source->dtype);
    size_t stride_bytes = (size_t)source->stride * element;
    for (int64_t panel = 0; panel < pr_matrix_panels(made); panel++) {
        int64_t row = panel * PR_PANEL;
        const char *stored = (const char *)source->data +
                             (size_t)(source->row_begin + row) * stride_bytes +
                             (size_t)source->col_begin * element;
        int64_t rows = made->rows - row < PR_PANEL ? made->rows - row : PR_PANEL;
        char *to = made->panels + (size_t)panel * (size_t)made->cols * PR_PANEL * element;
        pack_panel(stored, stride_bytes, rows, made->cols, element, to);
    }
    *matrix = made;
    return PR_OK;
}

void pr_cpu_matrix_destroy(pr_device *device, pr_matrix *matrix)
{
    if (matrix == NULL)
        return;
    device->memory_release(device, matrix->panels);
    free(matrix);
}
