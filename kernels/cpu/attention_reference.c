// SPDX-License-Identifier: BSD-3-Clause
// Attention as docs/kernels.md specifies it, in plain C: one query at a time.
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/flushed.h"
#include "runtime/base/elementary.h"

// One query on its way through the spans. The output row is part of the state.
typedef struct query {
    const pr_attention_args *args;
    bool pairs;      // BF16: pairs of terms, denormals as zero
    const float *q;  // [d] as given
    float *out;      // [d]
    float maximum, sum[PR_TILE];
} query;

static float product(const query *of, float a, float b)
{
    return of->pairs ? pr_flushed_product(a, b) : a * b;
}

static float fused(const query *of, float a, float b, float sum)
{
    return of->pairs ? pr_flushed_fma(a, b, sum) : fmaf(a, b, sum);
}

static float rounded(const query *of, float x)
{
    return of->pairs ? pr_bf16_to_f32(pr_f32_to_bf16(x)) : x;
}

// The place of the i-th term of a sum: pairs take their second member first. n terms; the last may be alone.
static int32_t nth_term(const query *of, int32_t i, int32_t n)
{
    int32_t partner = i ^ 1;
    return of->pairs && partner < n ? partner : i;
}

// Scores of the n seen positions. `tile` is where each tile of the span begins, in elements.
static void score(const query *of, const size_t *tile, int32_t n, float *scores)
{
    const pr_attention_args *args = of->args;
    for (int32_t j = 0; j < n; j++)
        scores[j] = 0.0f;
    for (int32_t i = 0; i < args->head_size; i++) {
        int32_t e = nth_term(of, i, args->head_size);
        float q = rounded(of, product(of, of->q[e], args->scale));
        for (int32_t j = 0; j < n; j++) {
            size_t at = tile[j / PR_TILE] + pr_k_place(args->kv_dtype, j % PR_TILE, e);
            scores[j] = fused(of, q, pr_dtype_load(args->kv_dtype, args->k_pages, at), scores[j]);
        }
    }
}

static float gathered(const query *of, const size_t *tile, const float *p, int32_t n, int32_t e)
{
    const pr_attention_args *args = of->args;
    float o = of->out[e];
    for (int32_t i = 0; i < n; i++) {
        int32_t j = nth_term(of, i, n);
        size_t at = tile[j / PR_TILE] + pr_v_place(args->kv_dtype, j % PR_TILE, e, args->head_size);
        o = fused(of, p[j], pr_dtype_load(args->kv_dtype, args->v_pages, at), o);
    }
    return o;
}

// Adds the n seen positions of a span.
static void attend_span(query *of, const size_t *tile, int32_t n)
{
    float p[PR_SPAN], maximum = of->maximum;
    score(of, tile, n, p);
    for (int32_t j = 0; j < n; j++)
        maximum = p[j] > maximum ? p[j] : maximum;
    float rescale = pr_exp(of->maximum - maximum);
    of->maximum = maximum;
    for (int32_t j = 0; j < n; j++)
        p[j] = rounded(of, pr_exp(p[j] - maximum));
    for (int32_t lane = 0; lane < PR_TILE; lane++)
        of->sum[lane] = product(of, of->sum[lane], rescale);
    for (int32_t i = 0; i < n; i++) {
        int32_t j = nth_term(of, i, n);
        float *lane = &of->sum[(of->pairs ? j / 2 : j) % PR_TILE];
        *lane = fused(of, p[j], 1.0f, *lane);
    }
    for (int32_t e = 0; e < of->args->head_size; e++) {
        of->out[e] = product(of, of->out[e], rescale);
        of->out[e] = gathered(of, tile, p, n, e);
    }
}

static void finish(query *of)
{
    float *sum = of->sum;
    for (int step = 1; step < PR_TILE; step *= 2) {
        for (int j = 0; j < PR_TILE; j += 2 * step)
            sum[j] = sum[j] + sum[j + step];
    }
    float inverse = 1.0f / sum[0];
    for (int32_t e = 0; e < of->args->head_size; e++)
        of->out[e] = product(of, of->out[e], inverse) + 0.0f;  // zero is always +0
}

static void
attend_query(const pr_attention_args *args, const pr_segment *segment, int32_t row, int32_t head)
{
    int32_t d = args->head_size, b = args->block_tokens;
    int32_t kv_head = head / (args->query_heads / args->kv_heads);
    size_t at =
        ((size_t)(segment->first_row + row) * (size_t)args->query_heads + (size_t)head) * (size_t)d;
    size_t page_elements = (size_t)args->kv_heads * (size_t)b * (size_t)d;
    int32_t positions = segment->start_position + row + 1;
    query of = {
        .args = args,
        .pairs = args->kv_dtype == PR_BF16,
        .q = args->q + at,
        .out = args->out + at,
        .maximum = -INFINITY,
    };
    memset(of.out, 0, (size_t)d * sizeof(float));
    for (int32_t first = 0; first < positions; first += PR_SPAN) {
        size_t tile[PR_SPAN / PR_TILE];
        int32_t n = positions - first < PR_SPAN ? positions - first : PR_SPAN;
        for (int32_t i = 0; i * PR_TILE < n; i++) {
            int32_t position = first + i * PR_TILE;
            tile[i] = (size_t)segment->block[position / b] * page_elements +
                      pr_tile_offset(position / PR_TILE, kv_head, d, b);
        }
        attend_span(&of, tile, n);
    }
    finish(&of);
}

void pr_attend_reference(
    const pr_attention_args *args,
    const pr_segment *segment,
    int32_t kv_head,
    int32_t row_begin,
    int32_t row_end)
{
    int32_t group = args->query_heads / args->kv_heads;
    for (int32_t row = row_begin; row < row_end; row++) {
        for (int32_t i = 0; i < group; i++)
            attend_query(args, segment, row, kv_head * group + i);
    }
}
