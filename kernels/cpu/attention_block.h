// SPDX-License-Identifier: BSD-3-Clause
// A block of queries on its way through the spans, and where their K and V lie. Part of attention_span.h,
// which has the picture.
#ifndef PR_KERNELS_CPU_ATTENTION_BLOCK_H
#define PR_KERNELS_CPU_ATTENTION_BLOCK_H

#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"

enum {
    BLOCK_QUERIES = 64,
    GATHER_QUERIES = 3,
    SPAN_TILES = PR_SPAN / PR_TILE,
    FETCH = 2,
    OUT_FLOATS = 8192,  // of a block: fewer queries where heads are large
    SUM_VECTORS = PR_TILE / LANES,
    SCORES = PR_SPAN / LANES,  // vectors
};

// Queries of one segment and one KV head, numbered row by row, head by head within a row.
typedef struct block {
    const pr_attention_args *args;
    const pr_segment *segment;
    int32_t kv_head, group;
    int32_t first, queries;       // numbers [first, first + queries)
    int32_t step;                 // queries that share a pass over K
    int32_t words;                // of a query
    int32_t out_stride;           // d rounded up to a multiple of 16
    int32_t seen[BLOCK_QUERIES];  // positions that each query sees, ascending
    float maximum[BLOCK_QUERIES + LANES], rescale[BLOCK_QUERIES + LANES];  // whole vectors
    _Alignas(64) float sum[BLOCK_QUERIES][PR_TILE];
    _Alignas(64) float score[SCORE_QUERIES][PR_SPAN];
    _Alignas(64) uint32_t p[BLOCK_QUERIES * PR_SPAN];  // [queries][PR_SPAN / P]
    _Alignas(64) uint32_t q[OUT_FLOATS];               // [queries / step][words][step]
    _Alignas(64) float out[OUT_FLOATS];                // [queries][out_stride]
} block;

// Where the tiles of a span begin. Those beyond the last position are tile 0, and masked later.
typedef struct span {
    int32_t first;  // position
    const uint32_t *k[SPAN_TILES], *v[SPAN_TILES];
    const uint32_t *next_k[SPAN_TILES];  // of the next span, or again of this one
} span;

PR_INLINE void fetch(const void *line) { __builtin_prefetch(line, 0, FETCH); }

PR_INLINE int32_t terms(pr_dtype dtype) { return dtype == PR_F32 ? 1 : 2; }

PR_INLINE size_t place_in_rows(const block *b, int32_t i)
{
    int32_t number = b->first + i;
    size_t row = (size_t)(b->segment->first_row + number / b->group);
    size_t head = (size_t)(b->kv_head * b->group + number % b->group);
    return (row * (size_t)b->args->query_heads + head) * (size_t)b->args->head_size;
}

// Scales, rounds and interleaves query i.
PR_INLINE void pack_query(block *b, int32_t i, pr_dtype dtype)
{
    const float *q = b->args->q + place_in_rows(b, i);
    float scale = b->args->scale;
    int32_t d = b->args->head_size, e = 0, per = terms(dtype),
            left = b->queries - i / b->step * b->step;
    int32_t stride = left < b->step ? left : b->step;
    uint32_t *to = b->q + i / b->step * b->step * b->words + i % b->step;
    for (; e + per * LANES <= d; e += per * LANES) {
        uint32_t word[LANES];
        vector x = splat(scale) * load(q + e);
        if (dtype != PR_F32)
            x = join(x, splat(scale) * load(q + e + LANES));
        store(word, x);
        for (int32_t w = 0; w < LANES; w++)
            to[(e / per + w) * stride] = word[w];
    }
    for (; e < d; e += per) {
        float low = scale * q[e];
        uint32_t word;
        if (dtype == PR_F32)
            memcpy(&word, &low, sizeof word);
        else
            word = pr_f32_to_bf16(low) | (uint32_t)pr_f32_to_bf16(scale * q[e + 1]) << 16;
        to[e / per * stride] = word;
    }
}

PR_INLINE void begin(block *b, pr_dtype dtype)
{
    for (int32_t i = 0; i < b->queries; i++) {
        b->seen[i] = b->segment->start_position + (b->first + i) / b->group + 1;
        b->maximum[i] = -INFINITY;
        pack_query(b, i, dtype);
    }
    memset(b->sum, 0, (size_t)b->queries * sizeof(b->sum[0]));
    memset(b->out, 0, (size_t)(b->queries * b->out_stride) * sizeof(float));
}

PR_INLINE void find_span(const block *b, int32_t first, pr_dtype dtype, span *found)
{
    const pr_attention_args *args = b->args;
    int32_t d = args->head_size, tokens = args->block_tokens, positions = b->seen[b->queries - 1];
    size_t page = (size_t)args->kv_heads * (size_t)tokens * (size_t)d, at = 0;
    found->first = first;
    for (int32_t t = 0; t < SPAN_TILES; t++) {
        int32_t position = first + t * PR_TILE;
        size_t here = 0;
        if (position < positions)
            here = (size_t)b->segment->block[position / tokens] * page +
                   pr_tile_offset(position / PR_TILE, b->kv_head, d, tokens);
        at = t == 0 ? here : at;
        size_t word = (position < positions ? here : at) / (size_t)terms(dtype);
        found->k[t] = (const uint32_t *)args->k_pages + word;
        found->v[t] = (const uint32_t *)args->v_pages + word;
    }
}

PR_INLINE int32_t seen_in_span(const block *b, const span *s, int32_t i)
{
    int32_t seen = b->seen[i] - s->first;
    return seen < PR_SPAN ? seen : PR_SPAN;
}

// The lanes of the sum are added as neighbours, then the outputs are divided by it.
PR_INLINE void finish(block *b)
{
    for (int32_t i = 0; i < b->queries; i++) {
        float *sum = b->sum[i], *out = b->args->out + place_in_rows(b, i);
        for (int step = 1; step < PR_TILE; step *= 2) {
            for (int j = 0; j < PR_TILE; j += 2 * step)
                sum[j] = sum[j] + sum[j + step];
        }
        float inverse = 1.0f / sum[0];
        for (int32_t e = 0; e < b->args->head_size; e++)
            out[e] = b->out[i * b->out_stride + e] * inverse + 0.0f;
    }
}

#endif
