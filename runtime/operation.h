// SPDX-License-Identifier: BSD-3-Clause
// What each operation of a device (device.h) is given, and the numbers it gives.
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
// Memory: floats, pages and tables of weights are the device's. What is marked "host" is the host's, and
// where it is marked "step" it is what step_begin got: a device with memory of its own reads its copy.
// Arrays of expert exchanges (count, row_of, place, row) are the device's, too.
// Threads: pr_device's.
#ifndef PR_RUNTIME_OPERATION_H
#define PR_RUNTIME_OPERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/dtype.h"

typedef struct pr_matrix pr_matrix;  // packed weights in device memory, made by a device

enum { PR_TILE = 16, PR_SLICES = 8, PR_MATMUL_MOST = 3 };

typedef struct pr_embed_args {
    int32_t tokens;
    const int32_t *token;  // [T], 0..V-1; host, step
    const void *table;     // [V][H] in dtype, of table_create
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
    const int32_t *row;  // [T]: y's row t is of x's row row[t], without an addend; host; NULL: t
    float *y;            // [T][H], may be x
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
    const int32_t *position;  // [T]; host, step
    const int32_t *block;     // [T] KV block of each token; host, step
    int32_t block_tokens;
    pr_dtype kv_dtype;  // PR_F32 or PR_BF16
    void *k_pages;      // [blocks] pages
    void *v_pages;      // [blocks] pages
} pr_rope_store_args;

// Consecutive query rows of one sequence.
typedef struct pr_segment {
    int32_t first_row, rows;
    int32_t start_position;  // absolute position of the first row
    const int32_t *block;    // block table, [ceil((start_position + rows) / B)]; host
} pr_segment;

typedef struct pr_attention_args {
    int32_t segments;
    const pr_segment *segment;  // [segments]; host, step
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
    int32_t rows;                                            // the sum of count, or more
    const int32_t *count;                                    // [experts], >= 0
    const pr_matrix *const *gate, *const *up, *const *down;  // [experts]: [I][H] [I][H] [H][I]
    int32_t hidden, inner;
    const int32_t *row_of;  // [rows]: row i is x's row row_of[i]; NULL, and always on the CPU: i
    const float *x;         // [sum of count][H], or what row_of says
    float *scratch;         // [2][rows][I]
    float *y;               // [sum of count][H]
} pr_experts_args;

typedef struct pr_combine_args {
    int32_t tokens, chosen, hidden;
    const float *const *row;  // [T][K], each [H], in slot order; NULL where there is a place
    const int32_t *place;     // [T][K] rows of `rows`; NULL, and always on the CPU: row says
    const float *rows;        // [.][H]
    const float *weight;      // [T][K]
    float *y;                 // [T][H]
} pr_combine_args;

// to[i] = from[row_of[i]].
typedef struct pr_gather_args {
    int32_t rows, cols;
    const int32_t *row_of;  // [rows]
    const float *from;      // [.][cols]
    float *to;              // [rows][cols]
} pr_gather_args;

typedef struct pr_add_args {
    int64_t elements;
    float *x;  // x += y
    const float *y;
    int64_t period;  // y begins again after so many elements; 0: never
} pr_add_args;

#endif
