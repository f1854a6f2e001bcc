// SPDX-License-Identifier: BSD-3-Clause
// How a fast matmul walks over rows and panels; an instruction set adds the inner loop (a pass) and how
// rows are rounded. Included by each of its matmul files, so that these loops get its vectors too.
//
//   prepared   row blocks, one after the other, each [lanes][rows of the block]: a lane is 32 bits, one
//              column (float) or a pair of columns (bfloat16), every slice filled up to a unit
//   a pass     one slice of `rows` x `panels` x 16 outputs, all sums in registers:
//
//                          panel 0   panel 1    ...   (16 outputs each)
//                x row 0     sum       sum
//                x row 1     sum       sum          per step: load each panel's vector once,
//                ...                                broadcast each row's lane once
//
// Panels go outside, row blocks inside: a group of panels comes from memory once and stays in the second
// cache while the rows pass. Meanwhile the passes fetch the next group, a share each. With so few rows
// that memory is the limit, the weights are one stream, and the hardware alone fetches ahead best.
// Sums never meet another lane, so an output is added in the reference's order whatever the block.
// Source: ours; the register block is that of Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication", 2008. Cost: weights are read once for each call, x once per group of panels.
#ifndef PR_KERNELS_CPU_MATMUL_WALK_H
#define PR_KERNELS_CPU_MATMUL_WALK_H

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"

// A pass looks at its fetching every PR_PASS_STEPS steps.
enum { PR_MOST_PANELS = 4, PR_MOST_SUMS = 24 * PR_PANEL, PR_PASS_STEPS = 4, PR_LINE = 64 };
enum { PR_X_AHEAD = 1024 };  // bytes: where x of many rows comes from the third cache

typedef struct pr_pass {
    int32_t rows, panels;
    const float *x;       // [lanes][rows]
    const char *weights;  // of the first panel, the others panel_bytes apart
    size_t panel_bytes;
    int64_t steps;
    const char *ahead;    // weights that come next,
    int32_t ahead_lines;  // of which this many lines are fetched every PR_PASS_STEPS
} pr_pass;

// What differs between the kernels.
typedef struct pr_walk {
    void (*run_pass)(const pr_pass *pass, float *sum);  // sum [rows][panels][16]
    // Rounds columns [0, count) of a row to lanes; an odd last column is paired with zero.
    void (*round_lanes)(const float *x, int64_t count, float *lane);
    // Lanes [0, count) of each row to prepared [count][rows].
    void (*interleave)(const float *const *lane, int32_t rows, int64_t count, float *prepared);
    const int8_t *panels;          // [most_rows + 1] of a pass, by the rows of the largest block
    int32_t lane_cols, step_cols;  // columns of a lane of x and of a step of a pass
    int32_t step_bytes;            // weights of a step, of one panel
    int32_t few_rows;              // up to so many, memory is the limit
    int32_t most_rows;             // of a pass, <= PR_BLOCK_ROWS
} pr_walk;

static size_t pr_walk_row_bytes(const pr_walk *walk, const pr_matrix *matrix)
{
    size_t lanes = (size_t)(matrix->padded_cols / walk->lane_cols);
    return (lanes * sizeof(float) + 63) / 64 * 64;
}

// ---- Blocks of rows that one pass takes: a row block, or its equal parts -----------------------

static int64_t pr_walk_largest_row_block(int64_t rows)
{
    return pr_row_parts(rows, pr_row_blocks(rows));
}

static int64_t pr_walk_parts(const pr_walk *walk, int64_t rows)
{
    return pr_row_parts(pr_walk_largest_row_block(rows), walk->most_rows);
}

static int64_t pr_walk_blocks(const pr_walk *walk, int64_t rows)
{
    return pr_row_blocks(rows) * pr_walk_parts(walk, rows);
}

static int64_t pr_walk_block_begin(const pr_walk *walk, int64_t rows, int64_t i)
{
    int64_t parts = pr_walk_parts(walk, rows), blocks = pr_row_blocks(rows);
    int64_t begin = pr_row_part_begin(rows, blocks, i / parts);
    if (i % parts == 0)
        return begin;
    int64_t size = pr_row_part_begin(rows, blocks, i / parts + 1) - begin;
    return begin + pr_row_part_begin(size, parts, i % parts);
}

// ---- Preparing ---------------------------------------------------------------------------------

enum { PR_WALK_LANES = 64 };  // interleaved at a time, so that they stay in the first cache

static void pr_walk_prepare_slice(
    const pr_walk *walk,
    const float *x,
    int64_t stride,
    int32_t rows,
    int64_t cols,
    float *prepared)
{
    _Alignas(64) float lane[PR_BLOCK_ROWS][PR_WALK_LANES];
    const float *lanes[PR_BLOCK_ROWS];
    int64_t most = (int64_t)PR_WALK_LANES * walk->lane_cols;
    if (rows == 1) {
        walk->round_lanes(x, cols, prepared);
        return;
    }
    for (int32_t r = 0; r < rows; r++)
        lanes[r] = lane[r];
    for (int64_t k = 0; k < cols; k += most) {
        int64_t count = cols - k < most ? cols - k : most;
        for (int32_t r = 0; r < rows; r++)
            walk->round_lanes(x + r * stride + k, count, lane[r]);
        int64_t made = (count + walk->lane_cols - 1) / walk->lane_cols;
        walk->interleave(lanes, rows, made, prepared + k / walk->lane_cols * rows);
    }
}

// Row blocks from row `begin` to `end`; lanes that fill up a slice are zero.
static void pr_walk_prepare(
    const pr_walk *walk, const pr_matmul_args *args, int32_t begin, int32_t end, char *prepared)
{
    const pr_matrix *matrix = args->matrix;
    size_t row_bytes = pr_walk_row_bytes(walk, matrix);
    int64_t i = pr_row_part_of(args->rows, pr_row_blocks(args->rows), begin) *
                pr_walk_parts(walk, args->rows);
    for (int64_t first = begin, next; first < end; first = next) {
        next = pr_walk_block_begin(walk, args->rows, ++i);
        int32_t rows = (int32_t)(next - first);
        float *to = (float *)(void *)(prepared + (size_t)first * row_bytes);
        for (int32_t s = 0; s < matrix->slices; s++) {
            int64_t from = pr_matrix_slice_begin(matrix, s);
            int64_t cols = pr_matrix_slice_begin(matrix, s + 1) - from;
            int64_t made = (cols + walk->lane_cols - 1) / walk->lane_cols * rows;
            int64_t lanes = pr_matrix_slice_padded(matrix, s) / walk->lane_cols * rows;
            pr_walk_prepare_slice(
                walk, args->x + first * matrix->cols + from, matrix->cols, rows, cols, to);
            for (int64_t j = made; j < lanes; j++)
                to[j] = 0.0f;
            to += lanes;
        }
    }
}

// ---- Multiplying -------------------------------------------------------------------------------

// Where the next group of panels is, and how much of it each of `blocks` passes fetches.
static void
pr_walk_look_ahead(const pr_walk *walk, const char *next, int64_t i, int64_t blocks, pr_pass *pass)
{
    int64_t lines = (int64_t)pass->panels * walk->step_bytes * PR_PASS_STEPS / PR_LINE;
    int64_t shares = blocks < lines ? blocks : lines;
    bool few = blocks == 1 && pass->rows <= walk->few_rows;
    if (few || i >= shares || next == NULL)
        return;
    pass->ahead = next + (size_t)pass->panels * pass->panel_bytes * (size_t)i / (size_t)shares;
    pass->ahead_lines = (int32_t)((lines + shares - 1) / shares);
}

static void pr_walk_store(
    const pr_matmul_args *args, const pr_pass *pass, int64_t row, int64_t panel, const float *sum)
{
    int64_t outputs = args->matrix->rows, n = panel * PR_PANEL, width = pass->panels * PR_PANEL;
    int64_t count = outputs - n < width ? outputs - n : width;
    for (int32_t r = 0; r < pass->rows; r++, sum += width) {
        float *y = args->y + (row + r) * outputs + n;
        if (args->bias == NULL) {
            for (int64_t j = 0; j < count; j++)
                y[j] = sum[j];
        } else {
            for (int64_t j = 0; j < count; j++)
                y[j] = sum[j] + args->bias[n + j];
        }
    }
}

// All slices of one block, added as a tree: a binary counter of finished branches, equal ones are added as
// soon as both are there.
static void pr_walk_block(
    const pr_walk *walk, const pr_matmul_args *args, pr_pass pass, int64_t row, int64_t panel)
{
    enum { LEVELS = 3 };  // 2^LEVELS = PR_SLICES
    _Alignas(64) float sum[PR_MOST_SUMS], tree[LEVELS][PR_MOST_SUMS];
    const pr_matrix *matrix = args->matrix;
    int32_t sums = pass.rows * pass.panels * PR_PANEL;
    for (int32_t slice = 0;; slice++) {
        int64_t padded = pr_matrix_slice_padded(matrix, slice);
        pass.steps = padded / walk->step_cols;
        walk->run_pass(&pass, sum);
        pass.x += padded / walk->lane_cols * pass.rows;
        pass.weights += pass.steps * walk->step_bytes;
        pass.ahead += pass.steps / PR_PASS_STEPS * pass.ahead_lines * PR_LINE;
        int level = 0;
        for (; (slice >> level) & 1; level++) {
            for (int32_t j = 0; j < sums; j++)
                sum[j] = tree[level][j] + sum[j];
        }
        if (slice + 1 == matrix->slices)
            break;
        for (int32_t j = 0; j < sums; j++)
            tree[level][j] = sum[j];
    }
    pr_walk_store(args, &pass, row, panel, sum);
}

static void pr_walk_multiply(
    const pr_walk *walk,
    const pr_matmul_args *args,
    const char *prepared,
    int64_t begin,
    int64_t end)
{
    const pr_matrix *matrix = args->matrix;
    size_t row_bytes = pr_walk_row_bytes(walk, matrix);
    int64_t blocks = pr_walk_blocks(walk, args->rows), parts = pr_walk_parts(walk, args->rows);
    int64_t largest = pr_row_parts(pr_walk_largest_row_block(args->rows), parts);
    int64_t wide = walk->panels[largest], groups = (end - begin + wide - 1) / wide;
    for (int64_t group = 0, panel = begin, panels; group < groups; group++, panel += panels) {
        panels = begin + (end - begin) * (group + 1) / groups - panel;  // wide, or one less
        const char *next = panel + panels < end ? pr_matrix_panel(matrix, panel + panels) : NULL;
        for (int64_t i = 0; i < blocks; i++) {
            int64_t first = pr_walk_block_begin(walk, args->rows, i);
            pr_pass pass = {
                .rows = (int32_t)(pr_walk_block_begin(walk, args->rows, i + 1) - first),
                .panels = (int32_t)panels,
                .x = (const float *)(const void *)(prepared + (size_t)first * row_bytes),
                .weights = pr_matrix_panel(matrix, panel),
                .panel_bytes = matrix->panel_bytes,
                .ahead = prepared,
            };
            pr_walk_look_ahead(walk, next, i, blocks, &pass);
            pr_walk_block(walk, args, pass, first, panel);
        }
    }
}

#endif
