// SPDX-License-Identifier: BSD-3-Clause
// The exchange between experts by stores into other GPUs' memory: rows to the ranks of their experts, results back to
// their slots. The order of rows is that of comm/expert_exchange.h, so are the bytes.
//
// Each rank owns a region, mapped by all ranks of the group (IPC, or plain pointers within a process). Others write to
// it, the owner reads. Two buffers alternate with the sequence number (n & 1):
//
//   dispatch flags  [2][R][P]           uint64: n << 32 | rows of that source, by each part of each source
//   return flags    [2][R][P]           uint64: n << 32
//   headers         [2][R][S][header]   int32: token, entries, then of each entry local expert * K + slot
//   rows            [2][R][S][H]        float: row s of source r; once per token, however many experts are here
//   returned        [2][T][K][H]        float: the result of slot k of token t
//   reduce flags    [2][tp][P]          uint64: m << 32
//   branches        [2][tp][piece]      float: a piece of the branch of each rank of the lane
//
// R ranks, P = PR_GPU_EXCHANGE_PARTS blocks that store, T most tokens of a lane, S = ceil(T / tp) most tokens of a source
// (the tp ranks of a lane hold the same tokens: each sends its share and gets all results).
//
// A sequence number is a dispatch and the combine after it; it is counted on the device, so that a captured graph may be
// run again. Why two steps never meet in a buffer: a rank that writes for n + 1 has seen the return flags of n from all,
// so all have read what they got in n; a rank returns results of n + 1 when it has seen the dispatch flags of n + 1 from
// all, so all have read the results of n. Every rank sends both flags to every rank, with no tokens or no experts too.
// Sums of a lane's branches go in pieces with sequence numbers m of their own: who stores m + 2 has seen the flags of m + 1
// from all of the lane, which come after their sums of m.
//
// Waits: one block, limited by the device's clock. A flag that does not come: the error word is written (once) and the
// step goes on as if nothing had arrived; later steps do not wait at all. The host looks at the word when it has waited
// for the stream.
// Source: ours; slots per (source, token) and in-band counts after DeepEP's low-latency kernels.
// Cost: dispatch stores D (4 H + 4 header) bytes a token for D distinct ranks, combine K tp 4 H; four launches and two.
// A reduce stores tp - 1 times its bytes in one step: best for decode, two steps would store 2 (tp - 1) / tp times.
#ifndef PR_KERNELS_GPU_GPU_EXCHANGE_H
#define PR_KERNELS_GPU_GPU_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/gpu_stream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PR_GPU_EXCHANGE_PIECE = 1 << 20 };  // most floats of a branch at once
enum { PR_GPU_EXCHANGE_PARTS = 64, PR_GPU_EXCHANGE_RANKS = 256, PR_GPU_EXCHANGE_CHOSEN = 64 };

typedef enum pr_gpu_exchange_operation {
    PR_GPU_EXCHANGE_DISPATCH = 1,
    PR_GPU_EXCHANGE_COMBINE = 2,
    PR_GPU_EXCHANGE_REDUCE = 3,
} pr_gpu_exchange_operation;

// Bytes from the start of a region, the same on every rank of a group.
typedef struct pr_gpu_exchange_layout {
    int32_t share_tokens;  // S
    int32_t header_words;  // of one header
    int64_t piece;         // floats
    size_t dispatch_flags, return_flags, headers, rows, returned, reduce_flags, branches;
    size_t size_bytes;
} pr_gpu_exchange_layout;

// This rank's end, the same in every step. Memory is the owner's; all of it zeroed before the first step.
typedef struct pr_gpu_exchange {
    int32_t ranks, rank, tp;
    int32_t experts, chosen, hidden;  // E, K, H of the model
    int32_t most_tokens;              // T
    int32_t first_expert, local_experts;
    pr_gpu_exchange_layout layout;
    uint64_t limit_ns;             // of each wait
    unsigned char *const *region;  // [R] device memory: the regions as this rank sees them
    unsigned char *own;            // region[rank]
    uint32_t *sequence;  // [3] device memory: of experts; not 0: a wait has failed; of reduces
    int32_t *place;      // [R][S] device memory: where a token of the share goes in rank r's rows
    int32_t *sent;       // [R] device memory: rows to each rank
    int32_t *arrived;    // [R] device memory: rows from each rank
    uint64_t *error;     // pinned host memory: 0, or what pr_gpu_exchange_error_of takes apart
} pr_gpu_exchange;

typedef struct pr_gpu_exchange_dispatch_args {
    const pr_gpu_exchange *exchange;
    int32_t tokens;              // of the lane
    const int32_t *tokens_used;  // or NULL: all of them
    const float *x;              // [tokens][H]
    const int32_t *expert;       // [tokens][K]
    // Out, where this rank receives. n is at most lanes * T * min(K, local experts).
    int32_t *count;  // [local experts]
    int32_t *total;  // [1] n
    int32_t *
        row_of;  // [n]: row i, sorted by expert, source rank, token, is row row_of[i] of pr_gpu_exchange_rows
    int32_t *origin;    // [n][2]: source rank, token * K + slot
    int32_t most_rows;  // room for n
} pr_gpu_exchange_dispatch_args;

typedef struct pr_gpu_exchange_combine_args {
    const pr_gpu_exchange *exchange;
    const int32_t *total;   // [1], as dispatch left it
    const int32_t *origin;  // [n][2], as dispatch left it
    const float *results;   // [n][H]
    int32_t tokens;         // of the lane
    const float **slot;     // [tokens][K] out: each result, until the step after the next
} pr_gpu_exchange_combine_args;

// sum = the fixed tree of the branches of the lane's ranks: ((0+1)+(2+3))+((4+5)+(6+7)).
typedef struct pr_gpu_exchange_reduce_args {
    const pr_gpu_exchange *exchange;
    int64_t elements;  // at most layout.piece, the same on all ranks of the lane
    const float *branch;
    float *sum;  // may be branch
} pr_gpu_exchange_reduce_args;

typedef struct pr_gpu_exchange_error {
    int32_t rank;  // whose flag did not come
    pr_gpu_exchange_operation operation;
    uint32_t sequence;
} pr_gpu_exchange_error;

static inline pr_gpu_exchange_error pr_gpu_exchange_error_of(uint64_t word)
{
    pr_gpu_exchange_error error;
    error.rank = (int32_t)(word & 0xffff) - 1;
    error.operation = (pr_gpu_exchange_operation)(word >> 16 & 0xffff);
    error.sequence = (uint32_t)(word >> 32);
    return error;
}

// chosen 0: a dense model, which has branches only.
static inline pr_gpu_exchange_layout pr_gpu_exchange_lay_out(
    int32_t ranks, int32_t tp, int32_t chosen, int32_t hidden, int32_t most_tokens)
{
    pr_gpu_exchange_layout layout;
    size_t flags = 2 * sizeof(uint64_t) * (size_t)ranks * PR_GPU_EXCHANGE_PARTS;
    size_t row_bytes = (size_t)hidden * sizeof(float);
    layout.share_tokens = (most_tokens + tp - 1) / tp;
    layout.header_words = (2 + chosen + 3) / 4 * 4;
    size_t received = chosen > 0 ? 2 * (size_t)ranks * (size_t)layout.share_tokens : 0;
    layout.dispatch_flags = 0;
    layout.return_flags = layout.dispatch_flags + flags;
    layout.headers = layout.return_flags + flags;
    layout.rows = layout.headers + received * (size_t)layout.header_words * sizeof(int32_t);
    layout.returned = layout.rows + (received * row_bytes + 15) / 16 * 16;
    size_t returned_bytes = 2 * (size_t)most_tokens * (size_t)chosen * row_bytes;
    layout.reduce_flags = layout.returned + (returned_bytes + 15) / 16 * 16;
    layout.branches = layout.reduce_flags + (tp > 1 ? flags : 0);
    layout.piece = (int64_t)most_tokens * hidden;
    if (layout.piece > PR_GPU_EXCHANGE_PIECE)
        layout.piece = PR_GPU_EXCHANGE_PIECE;
    layout.piece = tp > 1 ? (layout.piece + 3) / 4 * 4 : 0;
    layout.size_bytes = layout.branches + 2 * sizeof(float) * (size_t)tp * (size_t)layout.piece;
    return layout;
}

// What row_of counts in.
static inline const float *pr_gpu_exchange_rows(const pr_gpu_exchange *exchange)
{
    return (const float *)(const void *)(exchange->own + exchange->layout.rows);
}

// Stores this rank's share of the rows and its flags. Between send and receive other work may run.
void pr_gpu_exchange_dispatch_send(
    pr_gpu_stream *stream, const pr_gpu_exchange_dispatch_args *args);
// Waits for all sources, then sorts what came.
void pr_gpu_exchange_dispatch_receive(
    pr_gpu_stream *stream, const pr_gpu_exchange_dispatch_args *args);
void pr_gpu_exchange_combine_send(pr_gpu_stream *stream, const pr_gpu_exchange_combine_args *args);
void pr_gpu_exchange_combine_receive(
    pr_gpu_stream *stream, const pr_gpu_exchange_combine_args *args);
// Stores a piece of the branch; waits for the others' and adds.
void pr_gpu_exchange_reduce_send(pr_gpu_stream *stream, const pr_gpu_exchange_reduce_args *args);
void pr_gpu_exchange_reduce_receive(pr_gpu_stream *stream, const pr_gpu_exchange_reduce_args *args);

#ifdef __cplusplus
}
#endif

#endif
