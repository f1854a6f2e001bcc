// SPDX-License-Identifier: BSD-3-Clause
// Attention on AVX2: up to 4 queries of one KV head share each tile. Scores have a lane per
// position of the tile; outputs a lane per element of the head. Each query keeps the reference's
// order: its own positions, tile by tile.
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/vector_avx2.h"

enum { MAX_QUERIES = 4 };

// Queries of one segment and one KV head, numbered row by row, head by head within a row.
typedef struct queries {
    const pr_attention_args *args;
    const pr_segment *segment;
    int32_t kv_head;
    size_t page_elements;
    size_t row[MAX_QUERIES];         // elements before its row in q and out
    int32_t positions[MAX_QUERIES];  // how many it sees, ascending
    float maximum[MAX_QUERIES], sum[MAX_QUERIES];
    float p[MAX_QUERIES][PR_TILE], rescale[MAX_QUERIES];
} queries;

// Takes query `number` as the i-th and sets its state to "nothing seen".
PR_INLINE void begin_query(queries *q, int i, int32_t number)
{
    int32_t group = q->args->query_heads / q->args->kv_heads;
    size_t row = (size_t)(q->segment->first_row + number / group);
    size_t head = (size_t)(q->kv_head * group + number % group), d = (size_t)q->args->head_size;
    q->row[i] = (row * (size_t)q->args->query_heads + head) * d;
    q->positions[i] = q->segment->start_position + number / group + 1;
    q->maximum[i] = -INFINITY;
    q->sum[i] = 0.0f;
    memset(q->args->out + q->row[i], 0, d * sizeof(float));
}

// Scores of the tile's positions, before scaling, to p.
PR_INLINE void score(queries *q, size_t tile, int n, pr_dtype dtype)
{
    const float *row[MAX_QUERIES];
    __m256 low[MAX_QUERIES], high[MAX_QUERIES];
    const void *pages = q->args->k_pages;
    size_t d = (size_t)q->args->head_size;
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        row[i] = q->args->q + q->row[i];
        low[i] = _mm256_setzero_ps();
        high[i] = _mm256_setzero_ps();
    }
    for (size_t e = 0; e < d; e++) {
        __m256 k_low = pr_load8(dtype, pages, tile + e * PR_TILE);
        __m256 k_high = pr_load8(dtype, pages, tile + e * PR_TILE + 8);
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            __m256 one = _mm256_set1_ps(row[i][e]);
            low[i] = _mm256_fmadd_ps(one, k_low, low[i]);
            high[i] = _mm256_fmadd_ps(one, k_high, high[i]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
        _mm256_storeu_ps(q->p[i], low[i]);
        _mm256_storeu_ps(q->p[i] + 8, high[i]);
    }
}

// Scores of query i become its p and rescale; maximum and sum move on.
PR_INLINE void weigh(queries *q, int i, int32_t count)
{
    float *p = q->p[i], maximum = q->maximum[i];
    __m256 scale = _mm256_set1_ps(q->args->scale);
    for (int half = 0; half < PR_TILE; half += 8)
        _mm256_storeu_ps(p + half, _mm256_mul_ps(scale, _mm256_loadu_ps(p + half)));
    for (int32_t j = 0; j < count; j++)
        maximum = p[j] > maximum ? p[j] : maximum;
    for (int half = 0; half < PR_TILE; half += 8) {
        __m256 shifted = _mm256_sub_ps(_mm256_loadu_ps(p + half), _mm256_set1_ps(maximum));
        _mm256_storeu_ps(p + half, pr_exp8(shifted));
    }
    q->rescale[i] = pr_exp(q->maximum[i] - maximum);
    q->maximum[i] = maximum;
    float sum = q->sum[i] * q->rescale[i];
    for (int32_t j = 0; j < count; j++)
        sum += p[j];
    q->sum[i] = sum;
}

// out = out * rescale + sum over positions of p v, `vectors` vectors of the head at a time.
PR_INLINE void
gather(const queries *q, int i, size_t tile, int32_t count, int32_t e, int vectors, pr_dtype dtype)
{
    float *out = q->args->out + q->row[i] + e;
    size_t d = (size_t)q->args->head_size;
    __m256 o[8], rescale = _mm256_set1_ps(q->rescale[i]);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        o[v] = _mm256_mul_ps(_mm256_loadu_ps(out + PR_WIDTH * v), rescale);
    for (int32_t j = 0; j < count; j++) {
        __m256 p = _mm256_set1_ps(q->p[i][j]);
        size_t at = tile + (size_t)j * d + (size_t)e;
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            __m256 value = pr_load8(dtype, q->args->v_pages, at + (size_t)(PR_WIDTH * v));
            o[v] = _mm256_fmadd_ps(p, value, o[v]);
        }
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++)
        _mm256_storeu_ps(out + PR_WIDTH * v, o[v]);
}

PR_INLINE void gather_head(const queries *q, int i, size_t tile, int32_t count, pr_dtype dtype)
{
    int32_t e = 0, d = q->args->head_size;
    for (; e + 8 * PR_WIDTH <= d; e += 8 * PR_WIDTH)
        gather(q, i, tile, count, e, 8, dtype);
    for (; e + PR_WIDTH <= d; e += PR_WIDTH)
        gather(q, i, tile, count, e, 1, dtype);
    float *out = q->args->out + q->row[i];
    for (; e < d; e++) {
        float o = out[e] * q->rescale[i];
        for (int32_t j = 0; j < count; j++) {
            size_t at = tile + (size_t)j * (size_t)d + (size_t)e;
            o = fmaf(q->p[i][j], pr_dtype_load(dtype, q->args->v_pages, at), o);
        }
        out[e] = o;
    }
}

// Queries first_query .. first_query + n - 1. n and dtype are constants at every call.
PR_INLINE void attend(queries *q, int32_t first_query, int n, pr_dtype dtype)
{
    int32_t d = q->args->head_size, b = q->args->block_tokens;
    for (int i = 0; i < n; i++)
        begin_query(q, i, first_query + i);
    int32_t positions = q->positions[n - 1];  // the last row sees most
    for (int32_t first = 0; first < positions; first += PR_TILE) {
        size_t tile = (size_t)q->segment->block[first / b] * q->page_elements +
                      pr_tile_offset(first / PR_TILE, q->kv_head, d, b);
        score(q, tile, n, dtype);
        for (int i = 0; i < n; i++) {
            int32_t seen = q->positions[i] - first;
            if (seen <= 0)
                continue;
            int32_t count = seen < PR_TILE ? seen : PR_TILE;
            weigh(q, i, count);
            gather_head(q, i, tile, count, dtype);
        }
    }
    for (int i = 0; i < n; i++) {
        float inverse = 1.0f / q->sum[i], *out = q->args->out + q->row[i];
        for (int32_t e = 0; e < d; e++)
            out[e] *= inverse;
    }
}

PR_INLINE void attend_rows(queries *q, int32_t row_begin, int32_t row_end, pr_dtype dtype)
{
    int32_t group = q->args->query_heads / q->args->kv_heads;
    int32_t left = (row_end - row_begin) * group, first = row_begin * group;
    for (; left >= 4; left -= 4, first += 4)
        attend(q, first, 4, dtype);
    if (left & 2)
        attend(q, first, 2, dtype), first += 2;
    if (left & 1)
        attend(q, first, 1, dtype);
}

void pr_attend_avx2(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end)
{
    size_t head_elements = (size_t)args->block_tokens * (size_t)args->head_size;
    queries q = {
        .args = args,
        .segment = segment,
        .kv_head = kv_head,
        .page_elements = (size_t)args->kv_heads * head_elements,
    };
    if (args->kv_dtype == PR_F32)
        attend_rows(&q, row_begin, row_end, PR_F32);
    else
        attend_rows(&q, row_begin, row_end, PR_BF16);
}
