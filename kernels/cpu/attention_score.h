// SPDX-License-Identifier: BSD-3-Clause
// Scores of a span, and what the softmax makes of them. Part of attention_span.h.
#ifndef PR_KERNELS_CPU_ATTENTION_SCORE_H
#define PR_KERNELS_CPU_ATTENTION_SCORE_H

#include "kernels/cpu/attention_block.h"

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

#endif
