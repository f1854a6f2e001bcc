// SPDX-License-Identifier: BSD-3-Clause
// Dispatch and combine of eight ranks in one process on one GPU, each with a region and a stream of its own: what the
// kernels cost, without a link between them. Held against twice the copy's time for the bytes moved, and 15 us.
#include <stdlib.h>
#include <string.h>

#include "benchmarks/gpu/cases/gpu_cases.h"
#include "runtime/base/log.h"

enum { RANKS = 8 };
static const double SLACK_SECONDS = 15e-6;
static const uint64_t LIMIT_NS = 5000000000u;

typedef struct exchange_shape {
    int32_t tokens, experts, chosen, hidden;
} exchange_shape;

static const exchange_shape full = {128, 256, 8, 7168};
static const exchange_shape small = {3, 16, 2, 64};

typedef struct exchange_case {
    pr_gpu_meter *meter;
    exchange_shape shape;
    int32_t most_rows;
    pr_gpu_exchange exchange[RANKS];
    pr_gpu_exchange_dispatch_args dispatch[RANKS];
    pr_gpu_exchange_combine_args back[RANKS];
    pr_gpu_combine_args sum[RANKS];
    pr_gpu_stream *stream[RANKS];
    pr_gpu_event *done[RANKS], *fork;
    uint64_t *errors;  // [RANKS] pinned
    double rows_sent;  // over all ranks: a token once for each rank that it goes to
} exchange_case;

// ---- One step of all ranks ----

// Phase by phase, so that what a rank waits for has been put in before.
static void launch_exchange(void *context, int32_t copy)
{
    exchange_case *c = context;
    const pr_gpu_backend *backend = c->meter->backend;
    const pr_gpu_operations *operations = backend->operations;
    (void)copy;
    (void)backend->event_record(c->fork, c->meter->stream);
    for (int32_t r = 0; r < RANKS; r++) {
        (void)backend->event_follow(c->stream[r], c->fork);
        operations->exchange_dispatch_send(c->stream[r], &c->dispatch[r]);
    }
    for (int32_t r = 0; r < RANKS; r++)
        operations->exchange_dispatch_receive(c->stream[r], &c->dispatch[r]);
    for (int32_t r = 0; r < RANKS; r++)
        operations->exchange_combine_send(c->stream[r], &c->back[r]);
    for (int32_t r = 0; r < RANKS; r++) {
        operations->exchange_combine_receive(c->stream[r], &c->back[r]);
        operations->combine(c->stream[r], &c->sum[r]);
        (void)backend->event_record(c->done[r], c->stream[r]);
    }
    for (int32_t r = 0; r < RANKS; r++)
        (void)backend->event_follow(c->meter->stream, c->done[r]);
}

// ---- Memory ----

static pr_status open_streams(exchange_case *c)
{
    const pr_gpu_backend *backend = c->meter->backend;
    bool good = (c->fork = backend->event_create(false)) != NULL;
    for (int32_t r = 0; good && r < RANKS; r++) {
        c->stream[r] = backend->stream_create();
        c->done[r] = backend->event_create(false);
        good = c->stream[r] && c->done[r];
    }
    c->errors = good ? backend->pinned_take(sizeof *c->errors * RANKS) : NULL;
    if (!c->errors)
        return pr_fail(PR_ERR_RESOURCE, "no streams for %d ranks: %s", RANKS, backend->error());
    memset(c->errors, 0, sizeof *c->errors * RANKS);
    return PR_OK;
}

static void close_streams(exchange_case *c)
{
    const pr_gpu_backend *backend = c->meter->backend;
    for (int32_t r = 0; r < RANKS; r++) {
        if (c->stream[r])
            backend->stream_destroy(c->stream[r]);
        if (c->done[r])
            backend->event_destroy(c->done[r]);
    }
    if (c->fork)
        backend->event_destroy(c->fork);
    if (c->errors)
        backend->pinned_release(c->errors);
}

// Experts of all ranks' tokens; counts the rows that go from a token to a rank.
static pr_status take_experts(exchange_case *c, int32_t **expert)
{
    const exchange_shape *s = &c->shape;
    int32_t tokens = RANKS * s->tokens, local = s->experts / RANKS;
    size_t size_bytes = sizeof(int32_t) * (size_t)tokens * (size_t)s->chosen;
    int32_t *host = malloc(size_bytes);
    void *taken = NULL;
    if (!host)
        return pr_fail(PR_ERR_RESOURCE, "no host memory for %d tokens", tokens);
    pr_gpu_meter_choose(host, tokens, s->chosen, s->experts);
    for (int32_t t = 0; t < tokens; t++) {
        uint32_t seen = 0;
        for (int32_t k = 0; k < s->chosen; k++)
            seen |= 1u << host[t * s->chosen + k] / local;
        c->rows_sent += __builtin_popcount(seen);
    }
    pr_status status = pr_gpu_meter_put(c->meter, host, size_bytes, &taken);
    free(host);
    *expert = taken;
    return status;
}

static pr_status take_regions(exchange_case *c)
{
    const exchange_shape *s = &c->shape;
    pr_gpu_exchange_layout layout =
        pr_gpu_exchange_lay_out(RANKS, 1, s->chosen, s->hidden, s->tokens);
    unsigned char *region[RANKS];
    void *table, *sequence, *counts, *place;
    size_t places = (size_t)RANKS * (size_t)layout.share_tokens;
    for (int32_t r = 0; r < RANKS; r++) {
        void *taken;
        PR_TRY(pr_gpu_meter_zeros(c->meter, layout.size_bytes, &taken));
        region[r] = taken;
    }
    PR_TRY(pr_gpu_meter_put(c->meter, region, sizeof region, &table));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(uint32_t) * 3 * RANKS, &sequence));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t) * 2 * RANKS * RANKS, &counts));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t) * places * RANKS, &place));
    for (int32_t r = 0; r < RANKS; r++) {
        int32_t *sent = (int32_t *)counts + (ptrdiff_t)2 * RANKS * r;
        c->exchange[r] = (pr_gpu_exchange){
            .ranks = RANKS,
            .rank = r,
            .tp = 1,
            .experts = s->experts,
            .chosen = s->chosen,
            .hidden = s->hidden,
            .most_tokens = s->tokens,
            .first_expert = s->experts / RANKS * r,
            .local_experts = s->experts / RANKS,
            .layout = layout,
            .limit_ns = LIMIT_NS,
            .region = table,
            .own = region[r],
            .sequence = (uint32_t *)sequence + (ptrdiff_t)3 * r,
            .place = (int32_t *)place + places * (size_t)r,
            .sent = sent,
            .arrived = sent + RANKS,
            .error = &c->errors[r],
        };
    }
    return PR_OK;
}

typedef struct exchange_memory {
    int32_t *expert, *count, *total, *row_of, *origin;
    float *x, *y, *weight, *results;
    const float **slot;
} exchange_memory;

static pr_status take_rows(exchange_case *c, exchange_memory *m)
{
    const exchange_shape *s = &c->shape;
    int64_t tokens = (int64_t)RANKS * s->tokens, rows = (int64_t)RANKS * c->most_rows;
    void *count, *total, *row_of, *origin, *slot;
    PR_TRY(take_experts(c, &m->expert));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t) * (size_t)s->experts, &count));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t) * RANKS, &total));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t) * (size_t)rows, &row_of));
    PR_TRY(pr_gpu_meter_zeros(c->meter, sizeof(int32_t) * 2 * (size_t)rows, &origin));
    PR_TRY(
        pr_gpu_meter_zeros(c->meter, sizeof(float *) * (size_t)tokens * (size_t)s->chosen, &slot));
    m->count = count;
    m->total = total;
    m->row_of = row_of;
    m->origin = origin;
    m->slot = slot;
    PR_TRY(pr_gpu_meter_floats(c->meter, tokens * s->hidden, &m->x));
    PR_TRY(pr_gpu_meter_floats(c->meter, tokens * s->hidden, &m->y));
    PR_TRY(pr_gpu_meter_floats(c->meter, tokens * s->chosen, &m->weight));
    return pr_gpu_meter_floats(c->meter, rows * s->hidden, &m->results);
}

static void fill_args(exchange_case *c, const exchange_memory *m)
{
    const exchange_shape *s = &c->shape;
    for (int32_t r = 0; r < RANKS; r++) {
        int64_t tokens = (int64_t)r * s->tokens, rows = (int64_t)r * c->most_rows;
        c->dispatch[r] = (pr_gpu_exchange_dispatch_args){
            .exchange = &c->exchange[r],
            .tokens = s->tokens,
            .x = m->x + tokens * s->hidden,
            .expert = m->expert + tokens * s->chosen,
            .count = m->count + (ptrdiff_t)r * (s->experts / RANKS),
            .total = m->total + r,
            .row_of = m->row_of + rows,
            .origin = m->origin + 2 * rows,
            .most_rows = c->most_rows,
        };
        c->back[r] = (pr_gpu_exchange_combine_args){
            .exchange = &c->exchange[r],
            .total = c->dispatch[r].total,
            .origin = c->dispatch[r].origin,
            .results = m->results + rows * s->hidden,
            .tokens = s->tokens,
            .slot = m->slot + tokens * s->chosen,
        };
        c->sum[r] = (pr_gpu_combine_args){
            .tokens = s->tokens,
            .chosen = s->chosen,
            .hidden = s->hidden,
            .slot = c->back[r].slot,
            .weight = m->weight + tokens * s->chosen,
            .y = m->y + tokens * s->hidden,
        };
    }
}

// ---- The row ----

static pr_status check_errors(const exchange_case *c)
{
    for (int32_t r = 0; r < RANKS; r++) {
        pr_gpu_exchange_error error = pr_gpu_exchange_error_of(c->errors[r]);
        if (c->errors[r])
            return pr_fail(
                PR_ERR_TIMEOUT,
                "exchange: rank %d waited in vain for rank %d, operation %d, step %u", r,
                error.rank, (int)error.operation, error.sequence);
    }
    return PR_OK;
}

// Read at the origin, written for each rank; results read, written, read again at the origin; sums written.
static double bytes_moved(const exchange_case *c)
{
    const exchange_shape *s = &c->shape;
    double tokens = (double)RANKS * s->tokens;
    double rows = tokens + c->rows_sent + 3 * tokens * s->chosen + tokens;
    return rows * s->hidden * sizeof(float);
}

static pr_status measure(exchange_case *c, const char *name)
{
    exchange_memory memory = {0};
    double seconds;
    PR_TRY(open_streams(c));
    PR_TRY(take_regions(c));
    PR_TRY(take_rows(c, &memory));
    fill_args(c, &memory);
    pr_gpu_meter_work work = {.launch = launch_exchange, .context = c, .copies = 1};
    PR_TRY(pr_gpu_meter_time(c->meter, &work, &seconds));
    PR_TRY(check_errors(c));
    double limit = 2 * bytes_moved(c) / c->meter->copy_bytes_per_second + SLACK_SECONDS;
    pr_gpu_meter_row row = {
        .name = name,
        .unit = "us",
        .ours = seconds * 1e6,
        .limited_by = PR_GPU_LIMIT_VALUE,
        .limit = limit * 1e6,
        .target_fraction = 1,
        .seconds = seconds,
    };
    pr_gpu_meter_report(c->meter, &row);
    return PR_OK;
}

pr_status pr_exchange_cases_run(pr_gpu_meter *meter)
{
    exchange_case c = {.meter = meter, .shape = meter->small ? small : full};
    char name[96];
    const exchange_shape *s = &c.shape;
    snprintf(
        name, sizeof name, "dispatch and combine %d ranks x %d x %d of %d, H %d", RANKS, s->tokens,
        s->chosen, s->experts, s->hidden);
    if (!pr_gpu_meter_wants(meter, name))
        return PR_OK;
    int32_t local = s->experts / RANKS;
    c.most_rows = RANKS * s->tokens * (s->chosen < local ? s->chosen : local);
    pr_status status = measure(&c, name);
    close_streams(&c);
    pr_gpu_meter_release(meter);
    return status;
}
