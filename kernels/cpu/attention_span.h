// SPDX-License-Identifier: BSD-3-Clause
// Attention of a block of queries, for any vector width: the algorithm that attention_<isa>.c compiles
// with its own vectors. Before including this the file defines
//
//   the vectors         lanes_<isa>.h: LANES floats each, also with + - * of the compiler's vectors
//   SCORE_QUERIES, SCORE_VECTORS, GATHER_VECTORS   how many sums of a loop stay in registers
//   dot join            one step of the docs' dot product in each lane; two vectors to words
//
// The unit of all products is a word of 4 bytes: one float32, or a pair of bfloat16. In words K and V look
// the same for both types (P terms per word):
//
//   q   [d / P]              a word is broadcast
//   K   [d / P][16]          a tile of 16 positions: a lane is a position    score = dot(q, K)
//   p   [16 / P]             a word is broadcast
//   V   [16 / P][d]          the same tile: a lane is an element             out = dot(p, V)
//
// A block passes once over the spans of PR_SPAN positions. Of a span first all scores are computed, some
// queries at a time so that they share the loads of K; they become p; then V is gathered, some queries at
// a time. The queries, p, sums and outputs of a block stay in L1 and L2. While K of a span is read, V of it
// is fetched; while V is read, K of the next span: pages lie anywhere, no hardware would guess.
//
// Numbers: docs/kernels.md. A lane never meets another but in the last sum and the maximum, so the widths
// agree.
#ifndef PR_KERNELS_CPU_ATTENTION_SPAN_H
#define PR_KERNELS_CPU_ATTENTION_SPAN_H

#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/attention_gather.h"
#include "kernels/cpu/attention_score.h"
#include "kernels/cpu/flush_mode_x86.h"

PR_INLINE void attend_block(block *b, pr_dtype dtype)
{
    int32_t passes = (b->queries + SCORE_QUERIES - 1) / SCORE_QUERIES;
    b->step = (b->queries + passes - 1) / passes;
    begin(b, dtype);
    span s;
    find_span(b, 0, dtype, &s);
    for (int32_t first = 0; first < b->seen[b->queries - 1]; first += PR_SPAN) {
        span next = s;
        if (first + PR_SPAN < b->seen[b->queries - 1])
            find_span(b, first + PR_SPAN, dtype, &next);
        memcpy(s.next_k, next.k, sizeof(s.next_k));
        score_all(b, &s, dtype);
        gather_all(b, &s, dtype);
        s = next;
    }
    finish(b);
}

// dtype is a constant at every call.
PR_INLINE void attend_rows(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end,
    pr_dtype dtype)
{
    block b;
    b.args = args;
    b.segment = segment;
    b.kv_head = kv_head;
    b.group = args->query_heads / args->kv_heads;
    b.words = args->head_size / terms(dtype);
    b.out_stride = (args->head_size + PR_TILE - 1) / PR_TILE * PR_TILE;
    int32_t room = OUT_FLOATS / b.out_stride, end = row_end * b.group;
    room = room < BLOCK_QUERIES ? room : BLOCK_QUERIES;
    for (b.first = row_begin * b.group; b.first < end; b.first += b.queries) {
        b.queries = end - b.first < room ? end - b.first : room;
        attend_block(&b, dtype);
    }
}

// Not inlined, so that no arithmetic moves out of where denormals are zero.
static __attribute__((noinline)) void attend_flushed(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end)
{
    attend_rows(args, segment, kv_head, row_begin, row_end, PR_BF16);
}

PR_INLINE void attend_bf16(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end)
{
    unsigned before = pr_flush_begin();
    attend_flushed(args, segment, kv_head, row_begin, row_end);
    pr_flush_end(before);
}

#endif
