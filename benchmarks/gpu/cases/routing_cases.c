// SPDX-License-Identifier: BSD-3-Clause
// Experts chosen, pairs sorted, rows copied to their places and added at their origin. Prompts (thousands of tokens)
// are held against the copy; a decode step's few rows are microseconds.
#include <stdlib.h>

#include "benchmarks/gpu/cases/gpu_cases.h"
#include "runtime/base/log.h"

typedef struct routing_shape {
    int32_t tokens, experts, chosen, hidden;
} routing_shape;

static const routing_shape full[] = {
    {4096, 128, 8, 2048}, {4096, 256, 8, 7168}, {16384, 128, 8, 2048}};
static const routing_shape small[] = {{5, 8, 2, 64}, {17, 6, 3, 96}, {1, 8, 8, 64}};
static const routing_shape decode_full = {256, 128, 8, 2048};
static const routing_shape decode_small = {3, 8, 2, 64};
enum { SHAPES = sizeof full / sizeof *full };
static const double TARGET = 0.8;

typedef struct routing_case {
    pr_gpu_meter *meter;
    routing_shape shape;
    int32_t *expert, *count, *total, *row_of, *place, *scratch;
    float *logits, *weight, *rows, *x, *y;
} routing_case;

static const pr_gpu_operations *operations(const routing_case *c)
{
    return c->meter->backend->operations;
}

static void launch_topk(void *context, int32_t copy)
{
    routing_case *c = context;
    (void)copy;
    pr_gpu_topk_args args = {
        .tokens = c->shape.tokens,
        .experts = c->shape.experts,
        .chosen = c->shape.chosen,
        .logits = c->logits,
        .renormalise = true,
        .expert = c->expert,
        .weight = c->weight,
    };
    operations(c)->topk(c->meter->stream, &args);
}

static void launch_permute(void *context, int32_t copy)
{
    routing_case *c = context;
    (void)copy;
    pr_gpu_permute_args args = {
        .tokens = c->shape.tokens,
        .chosen = c->shape.chosen,
        .experts = c->shape.experts,
        .expert = c->expert,
        .count = c->count,
        .total = c->total,
        .row_of = c->row_of,
        .place = c->place,
        .scratch = c->scratch,
    };
    operations(c)->permute(c->meter->stream, &args);
}

static void launch_pack(void *context, int32_t copy)
{
    routing_case *c = context;
    pr_gpu_gather_args args = {
        .rows = c->shape.tokens * c->shape.chosen,
        .hidden = c->shape.hidden,
        .used = c->total,
        .row_of = c->row_of,
        .from = c->x,
        .to = c->rows,
    };
    launch_permute(context, copy);
    operations(c)->gather(c->meter->stream, &args);
}

static void launch_combine(void *context, int32_t copy)
{
    routing_case *c = context;
    (void)copy;
    pr_gpu_combine_args args = {
        .tokens = c->shape.tokens,
        .chosen = c->shape.chosen,
        .hidden = c->shape.hidden,
        .rows = c->rows,
        .place = c->place,
        .weight = c->weight,
        .y = c->y,
    };
    operations(c)->combine(c->meter->stream, &args);
}

static pr_status take_choice(routing_case *c)
{
    const routing_shape *s = &c->shape;
    size_t pairs = (size_t)s->tokens * (size_t)s->chosen;
    int32_t *expert = malloc(sizeof *expert * pairs);
    void *taken = NULL;
    if (!expert)
        return pr_fail(PR_ERR_RESOURCE, "no host memory for %zu pairs", pairs);
    pr_gpu_meter_choose(expert, s->tokens, s->chosen, s->experts);
    pr_status status = pr_gpu_meter_put(c->meter, expert, sizeof *expert * pairs, &taken);
    c->expert = taken;
    free(expert);
    return status;
}

static pr_status take_memory(routing_case *c)
{
    const routing_shape *s = &c->shape;
    int64_t pairs = (int64_t)s->tokens * s->chosen;
    size_t scratch_bytes = operations(c)->permute_scratch_bytes(s->tokens, s->chosen, s->experts);
    void *count, *total, *row_of, *place, *scratch;
    PR_TRY(take_choice(c));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t) * (size_t)s->experts, &count));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t), &total));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t) * (size_t)pairs, &row_of));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t) * (size_t)pairs, &place));
    PR_TRY(pr_gpu_meter_zeros(c->meter, scratch_bytes, &scratch));
    c->count = count;
    c->total = total;
    c->row_of = row_of;
    c->place = place;
    c->scratch = scratch;
    PR_TRY(pr_gpu_meter_floats(c->meter, (int64_t)s->tokens * s->experts, &c->logits));
    PR_TRY(pr_gpu_meter_floats(c->meter, pairs, &c->weight));
    PR_TRY(pr_gpu_meter_floats(c->meter, (int64_t)s->tokens * s->hidden, &c->x));
    PR_TRY(pr_gpu_meter_floats(c->meter, (int64_t)s->tokens * s->hidden, &c->y));
    return pr_gpu_meter_floats(c->meter, pairs * s->hidden, &c->rows);
}

static pr_status
run_one(routing_case *c, const char *what, pr_gpu_meter_launch launch, double bytes, bool timed)
{
    const routing_shape *s = &c->shape;
    char name[96];
    double seconds;
    snprintf(
        name, sizeof name, "%s %d x %d of %d, H %d", what, s->tokens, s->chosen, s->experts,
        s->hidden);
    if (!pr_gpu_meter_wants(c->meter, name))
        return PR_OK;
    pr_gpu_meter_work work = {.launch = launch, .context = c, .copies = 1};
    PR_TRY(pr_gpu_meter_time(c->meter, &work, &seconds));
    if (timed) {
        pr_gpu_meter_row row = {
            .name = name, .unit = "us", .ours = seconds * 1e6, .seconds = seconds};
        pr_gpu_meter_report(c->meter, &row);
    } else {
        pr_gpu_meter_bandwidth(c->meter, name, bytes, seconds, TARGET);
    }
    return PR_OK;
}

static pr_status run_shape(pr_gpu_meter *meter, const routing_shape *shape, bool timed)
{
    routing_case c = {.meter = meter, .shape = *shape};
    double pairs = (double)shape->tokens * shape->chosen;
    double bytes = (shape->tokens + pairs) * shape->hidden * sizeof(float);
    PR_TRY(take_memory(&c));
    if (timed) {
        PR_TRY(run_one(&c, "topk", launch_topk, 0, true));
        PR_TRY(run_one(&c, "permute", launch_permute, 0, true));
    }
    // Pack comes first: combine reads the places it leaves.
    launch_permute(&c, 0);
    PR_TRY(run_one(&c, "pack", launch_pack, bytes, timed));
    PR_TRY(run_one(&c, "combine", launch_combine, bytes, timed));
    pr_gpu_meter_release(meter);
    return PR_OK;
}

pr_status pr_routing_cases_run(pr_gpu_meter *meter)
{
    for (int32_t i = 0; i < SHAPES; i++)
        PR_TRY(run_shape(meter, meter->small ? &small[i] : &full[i], false));
    return run_shape(meter, meter->small ? &decode_small : &decode_full, true);
}
