// SPDX-License-Identifier: BSD-3-Clause
// Outputs of a span: p times V. Part of attention_span.h.
#ifndef PR_KERNELS_CPU_ATTENTION_GATHER_H
#define PR_KERNELS_CPU_ATTENTION_GATHER_H

#include "kernels/cpu/attention_block.h"

PR_INLINE void fetch_row(const uint32_t *row, int vectors)
{
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        fetch(row + v * LANES);
}

// What a pass over V computes. All but the first two are constants at every call.
typedef struct piece {
    int32_t query, element;  // the first ones
    int queries, vectors;
    int part;  // lanes of the head's last vector, which is then alone; 0: whole vectors
} piece;

// A word of p of each query times a row of V. half: the second position of the pair is not seen, and may
// hold anything.
PR_INLINE void gather_row(
    vector (*sum)[GATHER_VECTORS],
    const uint32_t *row,
    const uint32_t *p,
    piece of,
    bool half,
    pr_dtype dtype)
{
    vector weight[GATHER_QUERIES];
#pragma GCC unroll 4
    for (int j = 0; j < of.queries; j++)
        weight[j] = splat_word(p + j * (PR_SPAN / terms(dtype)));
#pragma GCC unroll 8
    for (int v = 0; v < of.vectors; v++) {
        vector value = of.part ? load_part(row, of.part) : load(row + v * LANES);
        if (half)
            value = low_half(value);
#pragma GCC unroll 4
        for (int j = 0; j < of.queries; j++)
            sum[j][v] = dot(dtype, sum[j][v], value, weight[j]);
    }
}

// The outputs of the piece move on by what its queries see of the span, all of them the same.
PR_INLINE void gather(block *b, const span *s, piece of, pr_dtype dtype)
{
    const int32_t d = b->args->head_size, per = terms(dtype);
    int32_t seen = seen_in_span(b, s, of.query);
    const uint32_t *p = b->p + of.query * (PR_SPAN / per);
    float *out = b->out + of.query * b->out_stride + of.element;
    vector sum[GATHER_QUERIES][GATHER_VECTORS];
#pragma GCC unroll 4
    for (int j = 0; j < of.queries; j++) {
        vector rescale = splat(b->rescale[of.query + j]);
#pragma GCC unroll 8
        for (int v = 0; v < of.vectors; v++)
            sum[j][v] = load(out + j * b->out_stride + v * LANES) * rescale;
    }
    for (int32_t tile = 0; tile * PR_TILE < seen; tile++) {
        int32_t left = seen - tile * PR_TILE, whole = (left < PR_TILE ? left : PR_TILE) / per;
        const uint32_t *row = s->v[tile] + of.element, *ahead = s->next_k[tile] + of.element;
        for (int32_t word = 0; word < whole; word++, row += d, ahead += d, p++) {
            fetch_row(ahead, of.vectors);
            gather_row(sum, row, p, of, false, dtype);
        }
        if (left < PR_TILE && left % per != 0)
            gather_row(sum, row, p, of, true, dtype);
    }
#pragma GCC unroll 4
    for (int j = 0; j < of.queries; j++) {
#pragma GCC unroll 8
        for (int v = 0; v < of.vectors; v++)
            store(out + j * b->out_stride + v * LANES, sum[j][v]);
    }
}

PR_INLINE void gather_heads(block *b, const span *s, int32_t i, int n, pr_dtype dtype)
{
    int32_t e = 0, d = b->args->head_size;
    for (; e + GATHER_VECTORS * LANES <= d; e += GATHER_VECTORS * LANES)
        gather(b, s, (piece){i, e, n, GATHER_VECTORS, 0}, dtype);
    if (e + GATHER_VECTORS / 2 * LANES <= d) {
        gather(b, s, (piece){i, e, n, GATHER_VECTORS / 2, 0}, dtype);
        e += GATHER_VECTORS / 2 * LANES;
    }
    for (; e + LANES <= d; e += LANES)
        gather(b, s, (piece){i, e, n, 1, 0}, dtype);
    if (e < d)
        gather(b, s, (piece){i, e, n, 1, d - e}, dtype);
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

#endif
