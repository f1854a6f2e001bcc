// SPDX-License-Identifier: BSD-3-Clause
// The specification: every kernel in plain C, in the order that docs/kernels.md states. A faster
// kernel is right when it gives these bits. Each fmaf is one rounding; nothing else is fused.
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"
#include "runtime/base/elementary.h"

static void embed(pr_device *device, const pr_embed_args *args)
{
    (void)device;
    for (int32_t t = 0; t < args->tokens; t++) {
        size_t row = (size_t)args->token[t] * (size_t)args->hidden;
        for (int32_t i = 0; i < args->hidden; i++)
            args->x[(size_t)t * (size_t)args->hidden + (size_t)i] =
                pr_dtype_load(args->dtype, args->table, row + (size_t)i);
    }
}

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

static void rmsnorm(pr_device *device, const pr_rmsnorm_args *args)
{
    (void)device;
    int32_t n = args->hidden;
    for (int32_t t = 0; t < args->tokens; t++) {
        const float *x = args->x + (size_t)t * (size_t)n;
        float *y = args->y + (size_t)t * (size_t)n;
        float inverse = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + args->epsilon);
        for (int32_t i = 0; i < n; i++)
            y[i] = x[i] * inverse * args->weight[i];
    }
}

// One output: slices summed on their own, then pairs of neighbours until one is left.
static float dot(const pr_matrix *matrix, const float *x, int64_t output)
{
    const char *panel = pr_matrix_panel(matrix, output / PR_PANEL);
    int64_t lane = output % PR_PANEL;
    float slice[PR_SLICES];
    for (int32_t s = 0; s < matrix->slices; s++) {
        int64_t end = pr_matrix_slice_begin(matrix, s + 1);
        slice[s] = 0.0f;
        for (int64_t k = pr_matrix_slice_begin(matrix, s); k < end; k++) {
            float w = pr_dtype_load(matrix->dtype, panel, (size_t)(k * PR_PANEL + lane));
            slice[s] = fmaf(x[k], w, slice[s]);
        }
    }
    for (int32_t step = 1; step < matrix->slices; step *= 2) {
        for (int32_t s = 0; s < matrix->slices; s += 2 * step)
            slice[s] = slice[s] + slice[s + step];
    }
    return slice[0];
}

static void matmul(pr_device *device, const pr_matmul_args *args)
{
    (void)device;
    const pr_matrix *matrix = args->matrix;
    for (int32_t m = 0; m < args->rows; m++) {
        for (int64_t n = 0; n < matrix->rows; n++) {
            float y = dot(matrix, args->x + m * matrix->cols, n);
            args->y[m * matrix->rows + n] = args->bias != NULL ? y + args->bias[n] : y;
        }
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
    pr_device *device, const pr_rope_store_args *args, int32_t heads, float *x, const float *weight)
{
    if (weight == NULL)
        return;
    pr_rmsnorm_args norm = {
        .tokens = args->tokens * heads,
        .hidden = args->head_size,
        .x = x,
        .weight = weight,
        .epsilon = args->epsilon,
        .y = x,
    };
    device->rmsnorm(device, &norm);
}

static void rope_store(pr_device *device, const pr_rope_store_args *args)
{
    int32_t h = args->query_heads, g = args->kv_heads, d = args->head_size;
    norm_heads(device, args, h, args->q, args->q_norm);
    norm_heads(device, args, g, args->k, args->k_norm);
    for (int32_t t = 0; t < args->tokens; t++) {
        const float *cosine = args->cosine + (size_t)args->position[t] * (size_t)(d / 2);
        const float *sine = args->sine + (size_t)args->position[t] * (size_t)(d / 2);
        for (int32_t head = 0; head < h; head++)
            rotate(args->q + ((size_t)t * (size_t)h + (size_t)head) * (size_t)d, d, cosine, sine);
        for (int32_t head = 0; head < g; head++)
            rotate(args->k + ((size_t)t * (size_t)g + (size_t)head) * (size_t)d, d, cosine, sine);
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
attend(const pr_attention_args *args, const pr_segment *segment, int32_t row, int32_t head)
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

static void attention(pr_device *device, const pr_attention_args *args)
{
    (void)device;
    for (int32_t s = 0; s < args->segments; s++) {
        for (int32_t row = 0; row < args->segment[s].rows; row++) {
            for (int32_t head = 0; head < args->query_heads; head++)
                attend(args, &args->segment[s], row, head);
        }
    }
}

// Whether expert a comes before b: larger first, then the lower number.
static bool before(float pa, int32_t a, float pb, int32_t b)
{
    return pa > pb || (pa == pb && a < b);
}

static void topk_row(const pr_topk_args *args, const float *logits, int32_t *expert, float *weight)
{
    float maximum = logits[0], sum_all = 0.0f, sum_chosen = 0.0f;
    for (int32_t e = 1; e < args->experts; e++)
        maximum = logits[e] > maximum ? logits[e] : maximum;
    int32_t held = 0;
    for (int32_t e = 0; e < args->experts; e++) {
        float p = pr_exp(logits[e] - maximum);
        sum_all += p;
        int32_t place = held;  // insertion into the sorted list of the best so far
        while (place > 0 && before(p, e, weight[place - 1], expert[place - 1]))
            place--;
        if (place == args->chosen)
            continue;
        held += held < args->chosen;
        for (int32_t i = held - 1; i > place; i--) {
            weight[i] = weight[i - 1];
            expert[i] = expert[i - 1];
        }
        weight[place] = p;
        expert[place] = e;
    }
    for (int32_t k = 0; k < args->chosen; k++)
        sum_chosen += weight[k];
    for (int32_t k = 0; k < args->chosen; k++)
        weight[k] /= args->renormalise ? sum_chosen : sum_all;
}

static void topk(pr_device *device, const pr_topk_args *args)
{
    (void)device;
    for (int32_t t = 0; t < args->tokens; t++) {
        size_t slot = (size_t)t * (size_t)args->chosen;
        const float *logits = args->logits + (size_t)t * (size_t)args->experts;
        topk_row(args, logits, args->expert + slot, args->weight + slot);
    }
}

static void swiglu(pr_device *device, const pr_swiglu_args *args)
{
    (void)device;
    for (int64_t i = 0; i < args->elements; i++)
        args->out[i] = pr_silu(args->gate[i]) * args->up[i];
}

// Composed from the device's own matmul and swiglu, so that one pass over each used expert is as
// fast as they are.
static void experts(pr_device *device, const pr_experts_args *args)
{
    const float *x = args->x;
    float *y = args->y;
    for (int32_t e = 0; e < args->experts; e++) {
        int32_t rows = args->count[e];
        if (rows == 0)
            continue;
        int64_t elements = (int64_t)rows * args->inner;
        float *gate = args->scratch, *up = args->scratch + elements;
        device->matmul(
            device, &(pr_matmul_args){.rows = rows, .x = x, .matrix = args->gate[e], .y = gate});
        device->matmul(
            device, &(pr_matmul_args){.rows = rows, .x = x, .matrix = args->up[e], .y = up});
        device->swiglu(
            device, &(pr_swiglu_args){.elements = elements, .gate = gate, .up = up, .out = gate});
        device->matmul(
            device, &(pr_matmul_args){.rows = rows, .x = gate, .matrix = args->down[e], .y = y});
        x += (int64_t)rows * args->hidden;
        y += (int64_t)rows * args->hidden;
    }
}

static void combine(pr_device *device, const pr_combine_args *args)
{
    (void)device;
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

static void add(pr_device *device, const pr_add_args *args)
{
    (void)device;
    for (int64_t i = 0; i < args->elements; i++)
        args->x[i] = args->x[i] + args->y[i];
}

void pr_cpu_reference_kernels(pr_device *device)
{
    device->embed = embed;
    device->rmsnorm = rmsnorm;
    device->matmul = matmul;
    device->rope_store = rope_store;
    device->attention = attention;
    device->topk = topk;
    device->swiglu = swiglu;
    device->experts = experts;
    device->combine = combine;
    device->add = add;
}
