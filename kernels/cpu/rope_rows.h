// SPDX-License-Identifier: BSD-3-Clause
// rope_store for any vector width: rope_<isa>.c includes lanes_<isa>.h and this. A page is written in words
// of 4 bytes, as attention_span.h reads it:
//
//   K   one word of every 16: a token is a lane of its tile
//   V   a row of words; in bfloat16 a token is one half of each, and the other half stays: whoever stores a
//       pair of positions at the same time must be one thread (cpu_rows.c sees to it)
#ifndef PR_KERNELS_CPU_ROPE_ROWS_H
#define PR_KERNELS_CPU_ROPE_ROWS_H

#include <string.h>

#include "kernels/cpu/cpu_kernels.h"

PR_INLINE void rotate(float *x, int32_t d, const float *cosine, const float *sine)
{
    int32_t half = d / 2, i = 0;
    for (; i + LANES <= half; i += LANES) {
        vector low = load(x + i), high = load(x + half + i);
        vector c = load(cosine + i), s = load(sine + i);
        store(x + i, low * c - high * s);
        store(x + half + i, high * c + low * s);
    }
    for (; i < half; i++) {
        float low = x[i], high = x[half + i];
        x[i] = low * cosine[i] - high * sine[i];
        x[half + i] = high * cosine[i] + low * sine[i];
    }
}

PR_INLINE void store_k(const float *k, int32_t d, int32_t lane, uint32_t *tile, pr_dtype dtype)
{
    int32_t per = dtype == PR_F32 ? 1 : 2, e = 0;
    uint32_t *to = tile + lane;
    for (; e + per * LANES <= d; e += per * LANES) {
        uint32_t word[LANES];
        vector x = load(k + e);
        if (dtype == PR_BF16)
            x = pair_words(x, load(k + e + LANES));
        store(word, x);
        for (int32_t w = 0; w < LANES; w++, to += PR_TILE)
            *to = word[w];
    }
    for (; e < d; e += per, to += PR_TILE) {
        if (dtype == PR_F32)
            memcpy(to, k + e, sizeof *to);
        else
            *to = pr_f32_to_bf16(k[e]) | (uint32_t)pr_f32_to_bf16(k[e + 1]) << 16;
    }
}

PR_INLINE void store_v(const float *v, int32_t d, int32_t lane, uint32_t *tile, pr_dtype dtype)
{
    if (dtype == PR_F32) {
        memcpy(tile + lane * d, v, (size_t)d * sizeof(float));
        return;
    }
    uint32_t *row = tile + lane / 2 * d;
    int32_t e = 0;
    for (; e + LANES <= d; e += LANES)
        store(row + e, replace_half(load(row + e), load(v + e), lane % 2 == 1));
    if (e < d) {
        vector x = replace_half(load_part(row + e, d - e), load_part(v + e, d - e), lane % 2 == 1);
        store_part(row + e, x, d - e);
    }
}

PR_INLINE void store_token(const pr_rope_store_args *args, int32_t t, pr_dtype dtype)
{
    int32_t g = args->kv_heads, d = args->head_size, per = dtype == PR_F32 ? 1 : 2;
    int32_t slot = args->position[t] % args->block_tokens, lane = slot % PR_TILE;
    size_t page = (size_t)args->block[t] * (size_t)g * (size_t)args->block_tokens * (size_t)d;
    for (int32_t head = 0; head < g; head++) {
        size_t row = ((size_t)t * (size_t)g + (size_t)head) * (size_t)d;
        size_t tile = page + pr_tile_offset(slot / PR_TILE, head, d, args->block_tokens);
        tile /= (size_t)per;
        store_k(args->k + row, d, lane, (uint32_t *)args->k_pages + tile, dtype);
        store_v(args->v + row, d, lane, (uint32_t *)args->v_pages + tile, dtype);
    }
}

PR_INLINE void turn_heads(
    const pr_cpu_kernels *kernels,
    const pr_rope_store_args *args,
    int32_t t,
    int32_t heads,
    float *x,
    const float *weight)
{
    int32_t d = args->head_size;
    size_t angle = (size_t)args->position[t] * (size_t)(d / 2);
    if (weight != NULL) {
        pr_rmsnorm_args norm = {
            .tokens = heads,
            .hidden = d,
            .x = x,
            .weight = weight,
            .epsilon = args->epsilon,
            .y = x,
        };
        kernels->rmsnorm(&norm);
    }
    for (int32_t head = 0; head < heads; head++)
        rotate(x + (size_t)head * (size_t)d, d, args->cosine + angle, args->sine + angle);
}

PR_INLINE void rope_store_tokens(
    const pr_cpu_kernels *kernels, const pr_rope_store_args *args, int32_t begin, int32_t end)
{
    size_t query = (size_t)args->query_heads * (size_t)args->head_size;
    size_t key = (size_t)args->kv_heads * (size_t)args->head_size;
    for (int32_t t = begin; t < end; t++) {
        float *q = args->q + (size_t)t * query, *k = args->k + (size_t)t * key;
        turn_heads(kernels, args, t, args->query_heads, q, args->q_norm);
        turn_heads(kernels, args, t, args->kv_heads, k, args->k_norm);
        if (args->kv_dtype == PR_F32)
            store_token(args, t, PR_F32);
        else
            store_token(args, t, PR_BF16);
    }
}

#endif
