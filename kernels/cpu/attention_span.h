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

// Scores of n queries for all positions of the span.
PR_INLINE void score(block *b, const span *s, int32_t first, int n, pr_dtype dtype)
{
    const uint32_t *q = b->q + first * b->words;
    for (int half = 0; half < SCORES; half += SCORE_VECTORS) {
        vector sum[SCORE_QUERIES][SCORE_VECTORS];
        const uint32_t *k[SCORE_VECTORS], *ahead[SCORE_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < SCORE_VECTORS; v++) {
            int at = (half + v) * LANES;
            k[v] = s->k[at / PR_TILE] + at % PR_TILE;
            ahead[v] = s->v[at / PR_TILE] + at % PR_TILE;
#pragma GCC unroll 8
            for (int i = 0; i < n; i++)
                sum[i][v] = splat(0.0f);
        }
        for (int32_t w = 0; w < b->words; w++) {
            vector keys[SCORE_VECTORS];
#pragma GCC unroll 8
            for (int v = 0; v < SCORE_VECTORS; v++) {
                keys[v] = load(k[v] + w * PR_TILE);
                fetch(ahead[v] + w * PR_TILE);
            }
#pragma GCC unroll 8
            for (int i = 0; i < n; i++) {
                vector query = splat_word(q + w * n + i);
#pragma GCC unroll 8
                for (int v = 0; v < SCORE_VECTORS; v++)
                    sum[i][v] = dot(dtype, sum[i][v], keys[v], query);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < n; i++) {
#pragma GCC unroll 8
            for (int v = 0; v < SCORE_VECTORS; v++)
                store(b->score[i] + (half + v) * LANES, sum[i][v]);
        }
    }
}

PR_INLINE int32_t seen_in_span(const block *b, const span *s, int32_t i)
{
    int32_t seen = b->seen[i] - s->first;
    return seen < PR_SPAN ? seen : PR_SPAN;
}

// Masks the scores of what query first + i does not see, and finds its new maximum.
PR_INLINE void raise_maximum(block *b, const span *s, int32_t first, int i)
{
    int32_t seen = seen_in_span(b, s, first + i);
    vector best = splat(b->maximum[first + i]);
#pragma GCC unroll 8
    for (int v = 0; v < SCORES; v++) {
        vector scores = load(b->score[i] + v * LANES);
        if (seen < PR_SPAN) {
            scores = mask_unseen(scores, seen - v * LANES);
            store(b->score[i] + v * LANES, scores);
        }
        best = maximum_of(best, scores);
    }
    b->maximum[first + i] = largest_lane(best);
}

// The scores become p, and join the sum.
PR_INLINE void weigh(block *b, int32_t first, int i, pr_dtype dtype)
{
    vector p[SCORES], one = dtype == PR_F32 ? splat(1.0f) : join(splat(1.0f), splat(1.0f));
    vector maximum = splat(b->maximum[first + i]), rescale = splat(b->rescale[first + i]);
#pragma GCC unroll 8
    for (int v = 0; v < SCORES; v++)
        p[v] = exp_of(load(b->score[i] + v * LANES) - maximum);
    vector sum[SUM_VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < SUM_VECTORS; v++)
        sum[v] = load(b->sum[first + i] + v * LANES) * rescale;
    const int per = terms(dtype);
    uint32_t *to = b->p + (first + i) * (PR_SPAN / per);
#pragma GCC unroll 8
    for (int v = 0; v < SCORES; v += per, to += LANES) {
        const int lanes = v / per % SUM_VECTORS;
        vector word = dtype == PR_F32 ? p[v] : join(p[v], p[v + per - 1]);
        store(to, word);
        sum[lanes] = dot(dtype, sum[lanes], word, one);
    }
#pragma GCC unroll 2
    for (int v = 0; v < SUM_VECTORS; v++)
        store(b->sum[first + i] + v * LANES, sum[v]);
}

// The first queries of the n may be too early in the sequence to see anything of the span.
PR_INLINE void score_some(block *b, const span *s, int32_t first, int n, pr_dtype dtype)
{
    score(b, s, first, n, dtype);
    vector before = load(b->maximum + first);
    for (int i = 0; i < n; i++) {
        if (b->seen[first + i] > s->first)
            raise_maximum(b, s, first, i);
    }
    store(b->rescale + first, exp_of(before - load(b->maximum + first)));
    for (int i = 0; i < n; i++) {
        if (b->seen[first + i] > s->first)
            weigh(b, first, i, dtype);
    }
}

PR_INLINE void score_all(block *b, const span *s, pr_dtype dtype)
{
    for (int32_t first = 0; first < b->queries; first += b->step) {
        int32_t left = b->queries - first, n = left < b->step ? left : b->step;
        if (b->seen[first + n - 1] <= s->first)
            continue;
        switch (n) {
        case 1:
            score_some(b, s, first, 1, dtype);
            break;
        case 2:
            score_some(b, s, first, 2, dtype);
            break;
        case 3:
            score_some(b, s, first, 3, dtype);
            break;
        case 4:
            score_some(b, s, first, 4, dtype);
            break;
#if SCORE_QUERIES > 4
        case 5:
            score_some(b, s, first, 5, dtype);
            break;
        default:
            score_some(b, s, first, 6, dtype);
            break;
#endif
        }
    }
}

PR_INLINE void fetch_row(const uint32_t *row, int vectors)
{
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        fetch(row + v * LANES);
}

// A word of p of n queries times a row of V. half: the second position of the pair is not seen, and may
// hold anything.
PR_INLINE void gather_row(
    vector (*sum)[GATHER_VECTORS],
    const uint32_t *row,
    const uint32_t *p,
    int n,
    int vectors,
    int part,
    bool half,
    pr_dtype dtype)
{
    vector weight[GATHER_QUERIES];
#pragma GCC unroll 4
    for (int j = 0; j < n; j++)
        weight[j] = splat_word(p + j * (PR_SPAN / terms(dtype)));
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        vector value = part ? load_part(row, part) : load(row + v * LANES);
        if (half)
            value = low_half(value);
#pragma GCC unroll 4
        for (int j = 0; j < n; j++)
            sum[j][v] = dot(dtype, sum[j][v], value, weight[j]);
    }
}

// Elements [e, e + LANES * vectors) of queries [i, i + n) move on by `seen` positions. `part`: the lanes of
// the head's last vector, which is alone; 0 elsewhere.
PR_INLINE void
gather(block *b, const span *s, int32_t i, int32_t e, int n, int vectors, int part, pr_dtype dtype)
{
    const int32_t d = b->args->head_size, per = terms(dtype);
    int32_t seen = seen_in_span(b, s, i);
    const uint32_t *p = b->p + i * (PR_SPAN / per);
    float *out = b->out + i * b->out_stride + e;
    vector sum[GATHER_QUERIES][GATHER_VECTORS];
#pragma GCC unroll 4
    for (int j = 0; j < n; j++) {
        vector rescale = splat(b->rescale[i + j]);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            sum[j][v] = load(out + j * b->out_stride + v * LANES) * rescale;
    }
    for (int32_t tile = 0; tile * PR_TILE < seen; tile++) {
        int32_t left = seen - tile * PR_TILE, whole = (left < PR_TILE ? left : PR_TILE) / per;
        const uint32_t *row = s->v[tile] + e, *ahead = s->next_k[tile] + e;
        for (int32_t word = 0; word < whole; word++, row += d, ahead += d, p++) {
            fetch_row(ahead, vectors);
            gather_row(sum, row, p, n, vectors, part, false, dtype);
        }
        if (left < PR_TILE && left % per != 0)
            gather_row(sum, row, p, n, vectors, part, true, dtype);
    }
#pragma GCC unroll 4
    for (int j = 0; j < n; j++) {
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            store(out + j * b->out_stride + v * LANES, sum[j][v]);
    }
}

PR_INLINE void gather_heads(block *b, const span *s, int32_t i, int n, pr_dtype dtype)
{
    int32_t e = 0, d = b->args->head_size;
    for (; e + GATHER_VECTORS * LANES <= d; e += GATHER_VECTORS * LANES)
        gather(b, s, i, e, n, GATHER_VECTORS, 0, dtype);
    if (e + GATHER_VECTORS / 2 * LANES <= d) {
        gather(b, s, i, e, n, GATHER_VECTORS / 2, 0, dtype);
        e += GATHER_VECTORS / 2 * LANES;
    }
    for (; e + LANES <= d; e += LANES)
        gather(b, s, i, e, n, 1, 0, dtype);
    if (e < d)
        gather(b, s, i, e, n, 1, d - e, dtype);
}

// Queries that see different parts of the span go alone: what one does not see must not touch it.
PR_INLINE void gather_all(block *b, const span *s, pr_dtype dtype)
{
    int32_t i = 0;
    while (i < b->queries && b->seen[i] <= s->first)
        i++;
    while (i < b->queries) {
        int32_t n = b->queries - i < GATHER_QUERIES ? b->queries - i : GATHER_QUERIES;
        if (b->seen[i] - s->first < PR_SPAN) {
            while (b->seen[i + n - 1] != b->seen[i])
                n--;
        }
        if (n == 3)
            gather_heads(b, s, i, 3, dtype);
        else if (n == 2)
            gather_heads(b, s, i, 2, dtype);
        else
            gather_heads(b, s, i, 1, dtype);
        i += n;
    }
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

#endif
