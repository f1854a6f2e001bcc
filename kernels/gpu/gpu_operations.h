// SPDX-License-Identifier: BSD-3-Clause
// The kernels of a GPU as host functions: each puts its work into a stream and returns. All pointers are device memory
// unless said otherwise; letters and numbers are runtime/device.h's. One file of operations/ each.
//
// Where a count may change from step to step without the launch changing (graphs), it is read from device memory:
// `rows_used` NULL means all of `rows`, else *rows_used of them, and the grid is made for `rows`.
//
// Numbers: a row's result depends on the row and the weights alone. docs/kernels.md has each order of additions.
#ifndef PR_KERNELS_GPU_GPU_OPERATIONS_H
#define PR_KERNELS_GPU_GPU_OPERATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/gpu_exchange.h"
#include "kernels/gpu/gpu_stream.h"

#ifdef __cplusplus
extern "C" {
#endif

// ---- Rows ----

typedef struct pr_gpu_embed_args {
    int32_t tokens;
    const int32_t *token;  // [T]
    const void *table;     // [V][H] in bfloat16 or float32
    bool table_is_bf16;
    int32_t hidden;
    float *x;  // [T][H]
} pr_gpu_embed_args;

// x += addend (unless NULL), y = norm(x). Order: 16 strided lanes, then a tree of neighbours (runtime/device.h).
typedef struct pr_gpu_rmsnorm_args {
    int32_t tokens, hidden;
    float *x;             // [T][H]
    const float *addend;  // [T][H] or NULL
    const float *weight;  // [H]
    float epsilon;
    const int32_t *row;  // [T]: y's row t is of x's row row[t]; NULL: t. With an addend NULL only
    float *y;            // [T][H], may be x
} pr_gpu_rmsnorm_args;

typedef struct pr_gpu_add_args {
    int64_t elements;
    float *x;  // x += y
    const float *y;
    int64_t period;  // y repeats after so many elements (a bias); 0: it does not
} pr_gpu_add_args;

// y = silu(gate) * up, element by element; gate and up as matmul left them.
typedef struct pr_gpu_gated_args {
    int64_t elements;
    const float *gate, *up;
    float *y;
} pr_gpu_gated_args;

// Per-head RMSNorm of q and k (unless NULL), rotary embedding on pairs (i, i + d/2), K and V into pages.
// Pages (HND): K and V [block][g][B][d] each, bfloat16 or float32.
typedef struct pr_gpu_rope_store_args {
    int32_t tokens, query_heads, kv_heads, head_size;
    float *q;                      // [T][h][d], changed in place
    const float *k, *v;            // [T][g][d]
    const float *q_norm, *k_norm;  // [d] or NULL
    float epsilon;
    const float *cosine, *sine;       // [positions][d/2]
    const int32_t *position, *block;  // [T]
    int32_t block_tokens;
    bool kv_is_bf16;
    void *k_pages, *v_pages;
} pr_gpu_rope_store_args;

// ---- Matrices ----

// Weights: bfloat16 or float32, [n_padded][k_padded] row-major on the device with n_padded a multiple of 128, k_padded
// of 64, zeros beyond. Slice s of S covers k in [cols*s/S, cols*(s+1)/S), as in runtime/device.h; sums of slices are
// added as a balanced binary tree. Within a slice: bfloat16 in spans of 512 k, each summed from 0 by tiles of 16 k
// ascending (tile.cuh), their sums added ascending, x rounded to bfloat16 (docs/kernels.md); float32 by fma, k ascending.
// Slices of a bfloat16 matrix begin at multiples of 16, or the matrix is refused.
typedef struct pr_gpu_weights {
    const void *data;
    bool is_bf16;
    int32_t rows, cols;  // N, K
    int32_t stride;      // elements between rows: k_padded
    int32_t slices;
} pr_gpu_weights;

enum { PR_GPU_MATMUL_MOST = 3, PR_GPU_PADDED_ROWS = 128, PR_GPU_PADDED_COLS = 64 };

typedef struct pr_gpu_matmul_args {
    int32_t rows;  // M, may be 0
    const int32_t *rows_used;
    const float *x;  // [M][K]
    pr_gpu_weights weights;
    const float *bias;  // [N] or NULL
    float *y;           // [M][N]
    void *scratch;      // matmul_scratch_bytes(rows, K); may be NULL where that is 0
} pr_gpu_matmul_args;

// Grouped: rows sorted by expert, expert e owns count[e] rows after those of the experts before it.
// y = down(silu(x gate) * (x up)); experts' matrices have one shape and lie one after another.
typedef struct pr_gpu_experts_args {
    int32_t experts;               // local
    int32_t most_rows;             // sum of count is at most this; the grid is made for it
    const int32_t *count;          // [experts]
    const void *gate, *up, *down;  // [experts][n_padded][k_padded]: gate, up [I][H]; down [H][I]
    bool is_bf16;
    int32_t hidden, inner, hidden_padded,
        inner_padded;       // strides in elements: gate, up hidden_padded; down inner_padded
    const int32_t *row_of;  // [n]: row i of x is row row_of[i] of it; NULL: i
    const float *x;         // [.][H]
    void *scratch;          // experts_scratch_bytes
    float *y;               // [n][H]
} pr_gpu_experts_args;

// ---- Attention ----

typedef struct pr_gpu_segment {
    int32_t first_row, rows;  // query rows of one sequence
    int32_t start_position;   // of the first row
    int32_t first_block;      // its block table begins at blocks[first_block]
} pr_gpu_segment;

// KV in spans of 64 at absolute multiples of 64, ascending; spans in parts of PR_GPU_ATTENTION_PART positions, each with
// its own running maximum and sum; parts merged in order. The same for one row (decode) and many (prefill). float32 KV:
// without parts, in the order of runtime/device.h. Heads are even and at most PR_GPU_HEAD_MOST, a block's tokens a
// multiple of 16.
enum { PR_GPU_ATTENTION_PART = 512, PR_GPU_HEAD_MOST = 256 };

typedef struct pr_gpu_attention_args {
    int32_t tokens, segments;       // T; segments with rows > 1 and those with one may be mixed
    const pr_gpu_segment *segment;  // [segments]
    const int32_t *segment_of;      // [T]: which segment row t is of
    const int32_t *position;        // [T]
    const int32_t *blocks;          // block tables, one after another
    int32_t most_positions;         // longest sequence in the batch
    int32_t most_rows;              // of one segment: 1 = a decode step
    int32_t query_heads, kv_heads, head_size, block_tokens;
    float scale;
    const float *q;  // [T][h][d]
    bool kv_is_bf16;
    const void *k_pages, *v_pages;
    float *partial;  // scratch of attention_scratch_bytes
    float *out;      // [T][h][d]
} pr_gpu_attention_args;

// ---- Experts: who goes where ----

// Order of numbers as in runtime/device.h (top-k). Fast up to 1024 experts and as many chosen as a warp has lanes.
typedef struct pr_gpu_topk_args {
    int32_t tokens, experts, chosen;
    const float *logits;  // [T][E]
    bool renormalise;
    int32_t *expert;  // [T][K]
    float *weight;    // [T][K]
} pr_gpu_topk_args;

// Pairs (t, k) whose expert is in [first_expert, first_expert + experts), sorted by expert, within one by t then k:
// a stable counting sort by prefix sums, no atomics. place[t * K + k] is the pair's row, -1 if the expert is elsewhere.
typedef struct pr_gpu_permute_args {
    int32_t tokens, chosen, first_expert, experts;
    const int32_t *tokens_used;  // or NULL
    const int32_t *expert;       // [T][K]
    int32_t *count;              // [experts]
    int32_t *total;              // [1]
    int32_t *row_of;             // [T * K]: the token of each sorted row
    int32_t *place;              // [T * K]
    int32_t *scratch;            // permute_scratch_bytes
} pr_gpu_permute_args;

// to[i] = from[row_of[i]], i < *used (or rows); rows of `hidden` floats.
typedef struct pr_gpu_gather_args {
    int32_t rows, hidden;
    const int32_t *used;
    const int32_t *row_of;
    const float *from;
    float *to;
} pr_gpu_gather_args;

// y[t] = fma(weight[t][k], row, y[t]) over k ascending from 0, where row is rows[place[t][k]], or *slot[t][k] if place is NULL.
// A place of -1, or a slot of NULL, has no row and adds nothing.
typedef struct pr_gpu_combine_args {
    int32_t tokens, chosen, hidden;
    const float *rows;
    const int32_t *place;      // [T][K] or NULL
    const float *const *slot;  // [T][K], device pointers
    const float *weight;       // [T][K]
    float *y;                  // [T][H]
} pr_gpu_combine_args;

// ---- KV pages to and from a slab ----

// The slab holds [pages][heads][B][d] bytes: head range [head_begin, head_begin + heads) of each listed page, in order.
typedef struct pr_gpu_slab_args {
    int32_t pages;
    const int32_t *page;  // [pages] block numbers
    void *pages_memory;   // [blocks][g][B][d] of one layer and stream
    size_t page_bytes, head_bytes;
    int32_t head_begin, heads;
    void *slab;
} pr_gpu_slab_args;

// ---- Tokens ----

// As runtime/sampling/sampler.h where nothing but temperature, top-k, top-p and min-p is asked: the same draw for the same
// (seed, request, position), from the same logits.
typedef struct pr_gpu_draw {
    float temperature, top_p, min_p;  // temperature 0: argmax
    int32_t top_k;                    // 0 or -1: all
    uint64_t seed, stream;            // of the counter-based generator
    uint32_t position;
} pr_gpu_draw;

typedef struct pr_gpu_sample_args {
    int32_t rows, vocabulary;
    const float *logits;  // [rows][V]
    const pr_gpu_draw *draw;
    int32_t *token;  // [rows]
    float *logprob;  // [rows] of the token, from log-softmax of the logits as given; or NULL
    void *scratch;   // sample_scratch_bytes
} pr_gpu_sample_args;

typedef struct pr_gpu_logprobs_args {
    int32_t rows, vocabulary, top;  // top <= 20
    const float *logits;            // [rows][V]
    const int32_t *token;           // [rows]: whose logprob and rank are wanted
    float *logprob;                 // [rows]
    int32_t *rank;                  // [rows], 1 = the likeliest
    int32_t *top_token;  // [rows][top], likeliest first, equal ones lowest first, -1 beyond V
    float *top_logprob;  // [rows][top]
} pr_gpu_logprobs_args;

typedef struct pr_gpu_operations {
    void (*embed)(pr_gpu_stream *stream, const pr_gpu_embed_args *args);
    void (*rmsnorm)(pr_gpu_stream *stream, const pr_gpu_rmsnorm_args *args);
    void (*add)(pr_gpu_stream *stream, const pr_gpu_add_args *args);
    void (*gated)(pr_gpu_stream *stream, const pr_gpu_gated_args *args);
    void (*rope_store)(pr_gpu_stream *stream, const pr_gpu_rope_store_args *args);
    size_t (*matmul_scratch_bytes)(int32_t rows, int32_t cols);
    // count <= PR_GPU_MATMUL_MOST products of the same rows in one launch: rows, rows_used, x, K, scratch and the type of
    // weights are equal in all of them.
    void (*matmul)(pr_gpu_stream *stream, const pr_gpu_matmul_args *args, int32_t count);
    size_t (*experts_scratch_bytes)(const pr_gpu_experts_args *args);
    void (*experts)(pr_gpu_stream *stream, const pr_gpu_experts_args *args);
    size_t (*attention_scratch_bytes)(
        int32_t tokens, int32_t query_heads, int32_t head_size, int32_t most_positions);
    void (*attention)(pr_gpu_stream *stream, const pr_gpu_attention_args *args);
    void (*topk)(pr_gpu_stream *stream, const pr_gpu_topk_args *args);
    size_t (*permute_scratch_bytes)(int32_t tokens, int32_t chosen, int32_t experts);
    void (*permute)(pr_gpu_stream *stream, const pr_gpu_permute_args *args);
    void (*gather)(pr_gpu_stream *stream, const pr_gpu_gather_args *args);
    void (*combine)(pr_gpu_stream *stream, const pr_gpu_combine_args *args);
    void (*slab_gather)(pr_gpu_stream *stream, const pr_gpu_slab_args *args);   // pages to slab
    void (*slab_scatter)(pr_gpu_stream *stream, const pr_gpu_slab_args *args);  // slab to pages
    size_t (*sample_scratch_bytes)(int32_t rows, int32_t vocabulary);
    void (*sample)(pr_gpu_stream *stream, const pr_gpu_sample_args *args);
    void (*logprobs)(pr_gpu_stream *stream, const pr_gpu_logprobs_args *args);
    // gpu_exchange.h
    void (*exchange_dispatch_send)(
        pr_gpu_stream *stream, const pr_gpu_exchange_dispatch_args *args);
    void (*exchange_dispatch_receive)(
        pr_gpu_stream *stream, const pr_gpu_exchange_dispatch_args *args);
    void (*exchange_combine_send)(pr_gpu_stream *stream, const pr_gpu_exchange_combine_args *args);
    void (*exchange_combine_receive)(
        pr_gpu_stream *stream, const pr_gpu_exchange_combine_args *args);
    void (*exchange_reduce_send)(pr_gpu_stream *stream, const pr_gpu_exchange_reduce_args *args);
    void (*exchange_reduce_receive)(pr_gpu_stream *stream, const pr_gpu_exchange_reduce_args *args);
} pr_gpu_operations;

// One per file of operations/; the table of a back end names them.
void pr_gpu_embed(pr_gpu_stream *stream, const pr_gpu_embed_args *args);
void pr_gpu_rmsnorm(pr_gpu_stream *stream, const pr_gpu_rmsnorm_args *args);
void pr_gpu_add(pr_gpu_stream *stream, const pr_gpu_add_args *args);
void pr_gpu_gated(pr_gpu_stream *stream, const pr_gpu_gated_args *args);
void pr_gpu_rope_store(pr_gpu_stream *stream, const pr_gpu_rope_store_args *args);
size_t pr_gpu_matmul_scratch_bytes(int32_t rows, int32_t cols);
void pr_gpu_matmul(pr_gpu_stream *stream, const pr_gpu_matmul_args *args, int32_t count);
size_t pr_gpu_experts_scratch_bytes(const pr_gpu_experts_args *args);
void pr_gpu_experts(pr_gpu_stream *stream, const pr_gpu_experts_args *args);
size_t pr_gpu_attention_scratch_bytes(
    int32_t tokens, int32_t query_heads, int32_t head_size, int32_t most_positions);
void pr_gpu_attention(pr_gpu_stream *stream, const pr_gpu_attention_args *args);
void pr_gpu_topk(pr_gpu_stream *stream, const pr_gpu_topk_args *args);
size_t pr_gpu_permute_scratch_bytes(int32_t tokens, int32_t chosen, int32_t experts);
void pr_gpu_permute(pr_gpu_stream *stream, const pr_gpu_permute_args *args);
void pr_gpu_gather(pr_gpu_stream *stream, const pr_gpu_gather_args *args);
void pr_gpu_combine(pr_gpu_stream *stream, const pr_gpu_combine_args *args);
void pr_gpu_slab_gather(pr_gpu_stream *stream, const pr_gpu_slab_args *args);
void pr_gpu_slab_scatter(pr_gpu_stream *stream, const pr_gpu_slab_args *args);
size_t pr_gpu_sample_scratch_bytes(int32_t rows, int32_t vocabulary);
void pr_gpu_sample(pr_gpu_stream *stream, const pr_gpu_sample_args *args);
void pr_gpu_logprobs(pr_gpu_stream *stream, const pr_gpu_logprobs_args *args);

#ifdef __cplusplus
}
#endif

#endif
