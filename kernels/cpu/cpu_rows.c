// SPDX-License-Identifier: BSD-3-Clause
// Drives what is one pass over rows: a task is a row, or some of them. Small ones stay on the caller's
// thread: waking others would cost more.
#include "kernels/cpu/cpu_state.h"
#include "runtime/base/elementary.h"

enum { WORTH_SHARING = 1 << 14, ADD_ELEMENTS = 1 << 12, ROPE_TOKENS = 4, TOPK_EXPERTS = 64 };

static void share_all(pr_device *device, pr_shared_work work, void *context, int64_t tasks)
{
    pr_cpu_team_run(pr_cpu_state_of(device)->team, work, context, tasks);
}

static void
share(pr_device *device, pr_shared_work work, void *context, int64_t tasks, int64_t task_elements)
{
    if (tasks * task_elements >= WORTH_SHARING) {
        share_all(device, work, context, tasks);
        return;
    }
    for (int64_t task = 0; task < tasks; task++)
        work(context, task, 0);
}

// ---- embed -----------------------------------------------------------------------------------

static void embed_row(void *context, int64_t t, int32_t thread)
{
    const pr_embed_args *args = context;
    size_t row = (size_t)args->token[t] * (size_t)args->hidden;
    float *x = args->x + (size_t)t * (size_t)args->hidden;
    (void)thread;
    for (int32_t i = 0; i < args->hidden; i++)
        x[i] = pr_dtype_load(args->dtype, args->table, row + (size_t)i);
}

static void embed(pr_device *device, const pr_embed_args *args)
{
    pr_embed_args shared = *args;
    share(device, embed_row, &shared, args->tokens, args->hidden);
}

// ---- rmsnorm ---------------------------------------------------------------------------------

typedef struct norm {
    const pr_cpu_kernels *kernels;
    const pr_rmsnorm_args *args;
} norm;

static void norm_row(void *context, int64_t t, int32_t thread)
{
    const norm *n = context;
    pr_rmsnorm_args row = *n->args;
    (void)thread;
    row.tokens = 1;
    row.x += (row.row != NULL ? row.row[t] : t) * row.hidden;
    row.addend = row.addend != NULL ? row.addend + t * row.hidden : NULL;
    row.y += t * row.hidden;
    n->kernels->rmsnorm(&row);
}

static void rmsnorm(pr_device *device, const pr_rmsnorm_args *args)
{
    norm n = {&pr_cpu_state_of(device)->kernels, args};
    share(device, norm_row, &n, args->tokens, args->hidden);
}

// ---- rope_store ------------------------------------------------------------------------------

typedef struct rope {
    const pr_cpu_kernels *kernels;
    const pr_rope_store_args *args;
} rope;

// Whether token t stores beside token t - 1: they stay in one task.
static bool continues_pair(const pr_rope_store_args *args, int32_t t)
{
    return t > 0 && t < args->tokens && args->position[t] % 2 == 1 &&
           args->position[t] == args->position[t - 1] + 1 && args->block[t] == args->block[t - 1];
}

static void rope_some(void *context, int64_t task, int32_t thread)
{
    const rope *r = context;
    int32_t begin = (int32_t)task * ROPE_TOKENS, end = begin + ROPE_TOKENS;
    (void)thread;
    end = end < r->args->tokens ? end : r->args->tokens;
    r->kernels->rope_store(
        r->kernels, r->args, begin + continues_pair(r->args, begin),
        end + continues_pair(r->args, end));
}

static void rope_store(pr_device *device, const pr_rope_store_args *args)
{
    rope r = {&pr_cpu_state_of(device)->kernels, args};
    int64_t elements = (int64_t)(args->query_heads + 2 * args->kv_heads) * args->head_size;
    share(
        device, rope_some, &r, (args->tokens + ROPE_TOKENS - 1) / ROPE_TOKENS,
        elements * ROPE_TOKENS);
}

// ---- topk ------------------------------------------------------------------------------------

// Whether expert a comes before b: larger first, then the lower number.
static bool before(float pa, int32_t a, float pb, int32_t b)
{
    return pa > pb || (pa == pb && a < b);
}

// Expert e with probability p goes into the list of the best so far, if it is one of them.
static int32_t
insert(int32_t held, int32_t chosen, float p, int32_t e, int32_t *expert, float *weight)
{
    int32_t place = held;
    while (place > 0 && before(p, e, weight[place - 1], expert[place - 1]))
        place--;
    if (place == chosen)
        return held;
    held += held < chosen;
    for (int32_t i = held - 1; i > place; i--) {
        weight[i] = weight[i - 1];
        expert[i] = expert[i - 1];
    }
    weight[place] = p;
    expert[place] = e;
    return held;
}

static void topk_row(
    const pr_cpu_kernels *kernels,
    const pr_topk_args *args,
    const float *logits,
    int32_t *expert,
    float *weight)
{
    float maximum = logits[0], sum_all = 0.0f, sum_chosen = 0.0f;
    for (int32_t e = 1; e < args->experts; e++)
        maximum = logits[e] > maximum ? logits[e] : maximum;
    int32_t held = 0;
    for (int32_t first = 0; first < args->experts; first += TOPK_EXPERTS) {
        float p[TOPK_EXPERTS];
        int32_t left = args->experts - first, n = left < TOPK_EXPERTS ? left : TOPK_EXPERTS;
        kernels->exponentials(logits + first, maximum, n, p);
        for (int32_t e = 0; e < n; e++) {
            sum_all += p[e];
            held = insert(held, args->chosen, p[e], first + e, expert, weight);
        }
    }
    for (int32_t k = 0; k < args->chosen; k++)
        sum_chosen += weight[k];
    for (int32_t k = 0; k < args->chosen; k++)
        weight[k] /= args->renormalise ? sum_chosen : sum_all;
}

typedef struct choice {
    const pr_cpu_kernels *kernels;
    const pr_topk_args *args;
} choice;

static void topk_token(void *context, int64_t t, int32_t thread)
{
    const choice *c = context;
    size_t slot = (size_t)t * (size_t)c->args->chosen;
    (void)thread;
    topk_row(
        c->kernels, c->args, c->args->logits + (size_t)t * (size_t)c->args->experts,
        c->args->expert + slot, c->args->weight + slot);
}

static void topk(pr_device *device, const pr_topk_args *args)
{
    choice c = {&pr_cpu_state_of(device)->kernels, args};
    share(device, topk_token, &c, args->tokens, (int64_t)args->experts * args->chosen);
}

// ---- combine ---------------------------------------------------------------------------------

typedef struct combination {
    const pr_cpu_kernels *kernels;
    const pr_combine_args *args;
} combination;

static void combine_token(void *context, int64_t t, int32_t thread)
{
    const combination *c = context;
    pr_combine_args token = *c->args;
    (void)thread;
    token.tokens = 1;
    token.row += t * token.chosen;
    token.weight += t * token.chosen;
    token.y += t * token.hidden;
    c->kernels->combine(&token);
}

static void combine(pr_device *device, const pr_combine_args *args)
{
    combination c = {&pr_cpu_state_of(device)->kernels, args};
    share(device, combine_token, &c, args->tokens, (int64_t)args->chosen * args->hidden);
}

// ---- add -------------------------------------------------------------------------------------

static void add_some(void *context, int64_t task, int32_t thread)
{
    const pr_add_args *args = context;
    int64_t begin = task * ADD_ELEMENTS, end = begin + ADD_ELEMENTS;
    end = end < args->elements ? end : args->elements;
    (void)thread;
    if (args->period == 0) {
        for (int64_t i = begin; i < end; i++)
            args->x[i] = args->x[i] + args->y[i];
        return;
    }
    for (int64_t i = begin, j = begin % args->period; i < end; i++) {
        args->x[i] = args->x[i] + args->y[j];
        j = j + 1 < args->period ? j + 1 : 0;
    }
}

static void add(pr_device *device, const pr_add_args *args)
{
    pr_add_args shared = *args;
    share(
        device, add_some, &shared, (args->elements + ADD_ELEMENTS - 1) / ADD_ELEMENTS,
        ADD_ELEMENTS);
}

void pr_cpu_rows_fill(pr_device *device)
{
    device->threads = pr_cpu_team_threads(pr_cpu_state_of(device)->team);
    device->share = share_all;
    device->embed = embed;
    device->rmsnorm = rmsnorm;
    device->rope_store = rope_store;
    device->topk = topk;
    device->combine = combine;
    device->add = add;
}
