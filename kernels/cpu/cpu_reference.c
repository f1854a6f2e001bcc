// SPDX-License-Identifier: BSD-3-Clause
// The specification: every kernel but matmul (matmul_reference.c) in plain C, in the order that
// docs/kernels.md states. A faster kernel is right when it gives these bits. Each fmaf is one rounding; nothing else is fused.
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"
#include "runtime/base/elementary.h"

// Sum of squares in 16 lanes, then neighbours in pairs: the order of a 16-wide vector.
static float sum_of_squares(const float *x, int32_t n)
{
    float lane[16] = {0};
    for (int32_t i = 0; i < n; i++)
        lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    for (int step = 1; step < 16; step *= 2) {
        for (int j = 0; j < 16; j += 2 * step)
            lane[j] = lane[j] + lane[j + step];
    }
    return lane[0];
}

static void rmsnorm(const pr_rmsnorm_args *args)
{
    int32_t n = args->hidden;
    for (int32_t t = 0; t < args->tokens; t++) {
        float *x = args->x + (size_t)t * (size_t)n;
        float *y = args->y + (size_t)t * (size_t)n;
        for (int32_t i = 0; args->addend != NULL && i < n; i++)
            x[i] = x[i] + args->addend[(size_t)t * (size_t)n + (size_t)i];
        float inverse = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + args->epsilon);
        for (int32_t i = 0; i < n; i++)
            y[i] = x[i] * inverse * args->weight[i];
    }
}

static void rotate(float *x, int32_t d, const float *cosine, const float *sine)
{
    for (int32_t i = 0; i < d / 2; i++) {
        float low = x[i], high = x[i + d / 2];
        x[i] = low * cosine[i] - high * sine[i];
        x[i + d / 2] = high * cosine[i] + low * sine[i];
    }
}

static void store(pr_dtype dtype, void *page, size_t i, float value)
{
    if (dtype == PR_F32)
        ((float *)page)[i] = value;
    else
        ((uint16_t *)page)[i] = pr_f32_to_bf16(value);
}

// Writes one token's K and V of all heads into its page.
static void store_token(const pr_rope_store_args *args, int32_t t)
{
    int32_t g = args->kv_heads, d = args->head_size;
    int32_t slot = args->position[t] % args->block_tokens;
    size_t page = (size_t)args->block[t] * (size_t)g * (size_t)args->block_tokens * (size_t)d;
    for (int32_t head = 0; head < g; head++) {
        const float *k = args->k + ((size_t)t * (size_t)g + (size_t)head) * (size_t)d;
        const float *v = args->v + ((size_t)t * (size_t)g + (size_t)head) * (size_t)d;
        size_t tile = page + pr_tile_offset(slot / PR_TILE, head, d, args->block_tokens);
        size_t lane = (size_t)(slot % PR_TILE);
        for (size_t i = 0; i < (size_t)d; i++) {
            store(args->kv_dtype, args->k_pages, tile + i * PR_TILE + lane, k[i]);
            store(args->kv_dtype, args->v_pages, tile + lane * (size_t)d + i, v[i]);
        }
    }
}

static void norm_heads(
    const pr_cpu_kernels *kernels,
    const pr_rope_store_args *args,
    int32_t heads,
    float *x,
    const float *weight)
{
    if (weight == NULL)
        return;
    pr_rmsnorm_args norm = {
        .tokens = heads,
        .hidden = args->head_size,
        .x = x,
        .weight = weight,
        .epsilon = args->epsilon,
        .y = x,
    };
    kernels->rmsnorm(&norm);
}

static void rope_store(
    const pr_cpu_kernels *kernels,
    const pr_rope_store_args *args,
    int32_t token_begin,
    int32_t token_end)
{
    int32_t h = args->query_heads, g = args->kv_heads, d = args->head_size;
    for (int32_t t = token_begin; t < token_end; t++) {
        const float *cosine = args->cosine + (size_t)args->position[t] * (size_t)(d / 2);
        const float *sine = args->sine + (size_t)args->position[t] * (size_t)(d / 2);
        float *q = args->q + (size_t)t * (size_t)h * (size_t)d;
        float *k = args->k + (size_t)t * (size_t)g * (size_t)d;
        norm_heads(kernels, args, h, q, args->q_norm);
        norm_heads(kernels, args, g, k, args->k_norm);
        for (int32_t head = 0; head < h; head++)
            rotate(q + (size_t)head * (size_t)d, d, cosine, sine);
        for (int32_t head = 0; head < g; head++)
            rotate(k + (size_t)head * (size_t)d, d, cosine, sine);
        store_token(args, t);
    }
}

// Running state of one query: maximum so far, sum of exponentials; the output row is the third.
typedef struct softmax {
    float maximum, sum;
} softmax;

// Adds `count` positions of one tile. k and v start at the tile, in elements of the pages.
static void attend_tile(
    const pr_attention_args *args,
    const float *q,
    size_t tile,
    int32_t count,
    softmax *state,
    float *out)
{
    int32_t d = args->head_size;
    float p[PR_TILE], maximum = state->maximum;
    for (int32_t j = 0; j < count; j++) {
        float score = 0.0f;
        for (int32_t i = 0; i < d; i++) {
            size_t at = tile + (size_t)i * PR_TILE + (size_t)j;
            score = fmaf(q[i], pr_dtype_load(args->kv_dtype, args->k_pages, at), score);
        }
        p[j] = args->scale * score;
        maximum = p[j] > maximum ? p[j] : maximum;
    }
    float rescale = pr_exp(state->maximum - maximum);
    state->maximum = maximum;
    state->sum *= rescale;
    for (int32_t j = 0; j < count; j++) {
        p[j] = pr_exp(p[j] - maximum);
        state->sum += p[j];
    }
    for (int32_t i = 0; i < d; i++) {
        float o = out[i] * rescale;
        for (int32_t j = 0; j < count; j++) {
            size_t at = tile + (size_t)j * (size_t)d + (size_t)i;
            o = fmaf(p[j], pr_dtype_load(args->kv_dtype, args->v_pages, at), o);
        }
        out[i] = o;
    }
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
    softmax state = {.maximum = -INFINITY, .sum = 0.0f};
    float *out = args->out + at;
    memset(out, 0, (size_t)d * sizeof(float));
    for (int32_t first = 0; first < positions; first += PR_TILE) {
        size_t tile = (size_t)segment->block[first / b] * page_elements +
                      pr_tile_offset(first / PR_TILE, kv_head, d, b);
        int32_t count = positions - first < PR_TILE ? positions - first : PR_TILE;
        attend_tile(args, args->q + at, tile, count, &state, out);
    }
    float inverse = 1.0f / state.sum;
    for (int32_t i = 0; i < d; i++)
        out[i] *= inverse;
}

static void attend(
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

static void swiglu(float *gate, const float *up, int64_t elements)
{
    for (int64_t i = 0; i < elements; i++)
        gate[i] = pr_silu(gate[i]) * up[i];
}

static void combine(const pr_combine_args *args)
{
    size_t hidden = (size_t)args->hidden, chosen = (size_t)args->chosen;
    for (size_t t = 0; t < (size_t)args->tokens; t++) {
        for (size_t i = 0; i < hidden; i++) {
            float y = 0.0f;
            for (size_t k = 0; k < chosen; k++) {
                size_t slot = t * chosen + k;
                y = fmaf(args->weight[slot], args->rows[slot * hidden + i], y);
            }
            args->y[t * hidden + i] = y;
        }
    }
}

void pr_cpu_reference_kernels(pr_cpu_kernels *kernels)
{
    *kernels = (pr_cpu_kernels){
        .matmul =
            {
                [PR_PACKED_F32] = &pr_matmul_f32_reference,
                [PR_PACKED_BF16] = &pr_matmul_bf16_reference,
                [PR_PACKED_F16] = &pr_matmul_f16_reference,
                [PR_PACKED_INT8] = &pr_matmul_quantized_reference,
                [PR_PACKED_INT4] = &pr_matmul_quantized_reference,
            },
        .rmsnorm = rmsnorm,
        .combine = combine,
        .swiglu = swiglu,
        .attend = attend,
        .rope_store = rope_store,
    };
}
