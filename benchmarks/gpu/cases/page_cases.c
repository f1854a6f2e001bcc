// SPDX-License-Identifier: BSD-3-Clause
// KV pages to and from a transfer slab: all heads, and the half that a reader of another tp wants.
#include "benchmarks/gpu/cases/gpu_cases.h"

typedef struct page_shape {
    int32_t pages, of_pages, kv_heads, block_tokens, head_size;
} page_shape;

static const page_shape full = {8192, 16384, 8, 16, 128};
static const page_shape small = {7, 13, 4, 16, 16};
static const double TARGET = 0.8;

typedef struct page_case {
    pr_gpu_meter *meter;
    pr_gpu_slab_args args;
} page_case;

static void launch_gather(void *context, int32_t copy)
{
    page_case *c = context;
    (void)copy;
    c->meter->backend->operations->slab_gather(c->meter->stream, &c->args);
}

static void launch_scatter(void *context, int32_t copy)
{
    page_case *c = context;
    (void)copy;
    c->meter->backend->operations->slab_scatter(c->meter->stream, &c->args);
}

static pr_status
run_one(page_case *c, const char *what, pr_gpu_meter_launch launch, const page_shape *shape)
{
    const pr_gpu_slab_args *args = &c->args;
    char name[96];
    double seconds, bytes = 2.0 * args->pages * args->heads * (double)args->head_bytes;
    snprintf(
        name, sizeof name, "%s %d pages, %d of %d heads", what, args->pages, args->heads,
        shape->kv_heads);
    if (!pr_gpu_meter_wants(c->meter, name))
        return PR_OK;
    pr_gpu_meter_work work = {.launch = launch, .context = c, .copies = 1};
    PR_TRY(pr_gpu_meter_time(c->meter, &work, &seconds));
    pr_gpu_meter_bandwidth(c->meter, name, bytes, seconds, TARGET);
    return PR_OK;
}

pr_status pr_page_cases_run(pr_gpu_meter *meter)
{
    const page_shape *s = meter->small ? &small : &full;
    page_case c = {.meter = meter};
    size_t head_bytes = sizeof(uint16_t) * (size_t)s->block_tokens * (size_t)s->head_size;
    int64_t page_elements = (int64_t)s->kv_heads * s->block_tokens * s->head_size;
    int32_t *page;
    c.args = (pr_gpu_slab_args){
        .pages = s->pages,
        .page_bytes = head_bytes * (size_t)s->kv_heads,
        .head_bytes = head_bytes,
    };
    PR_TRY(pr_gpu_meter_shuffled(meter, s->of_pages, &page));
    PR_TRY(pr_gpu_meter_bf16(meter, page_elements * s->of_pages, &c.args.pages_memory));
    PR_TRY(pr_gpu_meter_bf16(meter, page_elements * s->pages, &c.args.slab));
    c.args.page = page;
    for (int32_t parts = 1; parts <= 2; parts++) {
        c.args.heads = s->kv_heads / parts;
        c.args.head_begin = s->kv_heads - c.args.heads;
        PR_TRY(run_one(&c, "KV gather", launch_gather, s));
        PR_TRY(run_one(&c, "KV scatter", launch_scatter, s));
    }
    pr_gpu_meter_release(meter);
    return PR_OK;
}
