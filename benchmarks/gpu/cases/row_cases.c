// SPDX-License-Identifier: BSD-3-Clause
// Operations on rows by themselves, at the widths of an 8B model: held against the copy.
#include <stdlib.h>

#include "benchmarks/gpu/cases/gpu_cases.h"
#include "runtime/base/log.h"

typedef struct row_shape {
    int32_t tokens, hidden, inner, vocabulary, query_heads, kv_heads, head_size, block_tokens;
} row_shape;

static const row_shape full = {8192, 4096, 14336, 128256, 32, 8, 128, 16};
static const row_shape small = {5, 64, 96, 70, 4, 2, 16, 16};

typedef struct row_case {
    pr_gpu_meter *meter;
    row_shape shape;
    int32_t *token, *position, *block;
    void *table, *k_pages, *v_pages;
    float *x, *y, *z, *weight, *cosine, *sine;
} row_case;

static const pr_gpu_operations *operations(const row_case *c)
{
    return c->meter->backend->operations;
}

static void launch_embed(void *context, int32_t copy)
{
    row_case *c = context;
    (void)copy;
    pr_gpu_embed_args args = {
        .tokens = c->shape.tokens,
        .token = c->token,
        .table = c->table,
        .table_is_bf16 = true,
        .hidden = c->shape.hidden,
        .x = c->x,
    };
    operations(c)->embed(c->meter->stream, &args);
}

static void launch_rmsnorm(void *context, int32_t copy)
{
    row_case *c = context;
    (void)copy;
    pr_gpu_rmsnorm_args args = {
        .tokens = c->shape.tokens,
        .hidden = c->shape.hidden,
        .x = c->x,
        .addend = c->y,
        .weight = c->weight,
        .epsilon = 1e-5f,
        .y = c->z,
    };
    operations(c)->rmsnorm(c->meter->stream, &args);
}

static void launch_add(void *context, int32_t copy)
{
    row_case *c = context;
    (void)copy;
    pr_gpu_add_args args = {
        .elements = (int64_t)c->shape.tokens * c->shape.hidden, .x = c->x, .y = c->y};
    operations(c)->add(c->meter->stream, &args);
}

static void launch_gated(void *context, int32_t copy)
{
    row_case *c = context;
    (void)copy;
    pr_gpu_gated_args args = {
        .elements = (int64_t)c->shape.tokens * c->shape.inner,
        .gate = c->x,
        .up = c->y,
        .y = c->z,
    };
    operations(c)->gated(c->meter->stream, &args);
}

static void launch_rope_store(void *context, int32_t copy)
{
    row_case *c = context;
    (void)copy;
    pr_gpu_rope_store_args args = {
        .tokens = c->shape.tokens,
        .query_heads = c->shape.query_heads,
        .kv_heads = c->shape.kv_heads,
        .head_size = c->shape.head_size,
        .q = c->x,
        .k = c->y,
        .v = c->z,
        .q_norm = c->weight,
        .k_norm = c->weight,
        .epsilon = 1e-5f,
        .cosine = c->cosine,
        .sine = c->sine,
        .position = c->position,
        .block = c->block,
        .block_tokens = c->shape.block_tokens,
        .kv_is_bf16 = true,
        .k_pages = c->k_pages,
        .v_pages = c->v_pages,
    };
    operations(c)->rope_store(c->meter->stream, &args);
}

// One prompt: positions ascend, its pages lie in random order.
static pr_status take_positions(row_case *c)
{
    int32_t tokens = c->shape.tokens, block_tokens = c->shape.block_tokens;
    int32_t pages = (tokens + block_tokens - 1) / block_tokens;
    int32_t *host = malloc(sizeof *host * (size_t)(2 * tokens + pages));
    if (!host)
        return pr_fail(PR_ERR_RESOURCE, "no host memory for %d positions", tokens);
    int32_t *position = host, *block = host + tokens, *page = host + 2 * tokens;
    pr_gpu_meter_shuffle(page, pages);
    for (int32_t t = 0; t < tokens; t++) {
        position[t] = t;
        block[t] = page[t / block_tokens];
    }
    void *taken = NULL;
    pr_status status =
        pr_gpu_meter_put(c->meter, host, sizeof *host * (size_t)(2 * tokens), &taken);
    c->position = taken;
    c->block = status == PR_OK ? c->position + tokens : NULL;
    free(host);
    PR_TRY(status);
    int64_t page_elements = (int64_t)c->shape.kv_heads * block_tokens * c->shape.head_size;
    PR_TRY(pr_gpu_meter_bf16(c->meter, page_elements * pages, &c->k_pages));
    PR_TRY(pr_gpu_meter_bf16(c->meter, page_elements * pages, &c->v_pages));
    int64_t angles = (int64_t)tokens * c->shape.head_size / 2;
    PR_TRY(pr_gpu_meter_floats(c->meter, angles, &c->cosine));
    return pr_gpu_meter_floats(c->meter, angles, &c->sine);
}

static pr_status take_rows(row_case *c)
{
    const row_shape *s = &c->shape;
    int64_t widest = s->inner > s->hidden ? s->inner : s->hidden;
    int32_t *token = malloc(sizeof *token * (size_t)s->tokens);
    if (!token)
        return pr_fail(PR_ERR_RESOURCE, "no host memory for %d tokens", s->tokens);
    pr_gpu_meter_choose(token, s->tokens, 1, s->vocabulary);
    void *taken = NULL;
    pr_status status = pr_gpu_meter_put(c->meter, token, sizeof *token * (size_t)s->tokens, &taken);
    c->token = taken;
    free(token);
    PR_TRY(status);
    PR_TRY(pr_gpu_meter_bf16(c->meter, (int64_t)s->vocabulary * s->hidden, &c->table));
    PR_TRY(pr_gpu_meter_floats(c->meter, s->tokens * widest, &c->x));
    PR_TRY(pr_gpu_meter_floats(c->meter, s->tokens * widest, &c->y));
    PR_TRY(pr_gpu_meter_floats(c->meter, s->tokens * widest, &c->z));
    return pr_gpu_meter_floats(c->meter, widest, &c->weight);
}

static pr_status
run_one(row_case *c, const char *operation, int32_t width, pr_gpu_meter_launch launch, double bytes)
{
    char name[96];
    double seconds;
    snprintf(name, sizeof name, "%s %d x %d", operation, c->shape.tokens, width);
    if (!pr_gpu_meter_wants(c->meter, name))
        return PR_OK;
    pr_gpu_meter_work work = {.launch = launch, .context = c, .copies = 1};
    PR_TRY(pr_gpu_meter_time(c->meter, &work, &seconds));
    pr_gpu_meter_bandwidth(c->meter, name, bytes, seconds, 0);
    return PR_OK;
}

// Each launch moves more than the cache holds several times over: no copies are needed.
pr_status pr_row_cases_run(pr_gpu_meter *meter)
{
    row_case c = {.meter = meter, .shape = meter->small ? small : full};
    const row_shape *s = &c.shape;
    double row = (double)s->tokens * s->hidden * sizeof(float);
    double inner = (double)s->tokens * s->inner * sizeof(float);
    double q = (double)s->tokens * s->query_heads * s->head_size * sizeof(float);
    double kv = (double)s->tokens * s->kv_heads * s->head_size;
    PR_TRY(take_rows(&c));
    PR_TRY(take_positions(&c));
    PR_TRY(run_one(&c, "embed", s->hidden, launch_embed, row * 1.5));
    PR_TRY(run_one(&c, "rmsnorm with addend", s->hidden, launch_rmsnorm, row * 4));
    PR_TRY(run_one(&c, "add", s->hidden, launch_add, row * 3));
    PR_TRY(run_one(&c, "gated", s->inner, launch_gated, inner * 3));
    // K and V are read as float32 and written as bfloat16.
    PR_TRY(run_one(
        &c, "rope and KV write", s->query_heads * s->head_size, launch_rope_store,
        2 * q + 2 * kv * (sizeof(float) + sizeof(uint16_t))));
    pr_gpu_meter_release(meter);
    return PR_OK;
}
