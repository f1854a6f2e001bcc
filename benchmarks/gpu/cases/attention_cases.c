// SPDX-License-Identifier: BSD-3-Clause
// Paged attention: decode steps of many sequences and of few long ones, held against the copy; prompts, against dense
// matmul. Pages lie in random order. Heads as in an 8B model: 32 queries, 8 of KV, 128 elements.
#include <stdlib.h>

#include "benchmarks/gpu/cases/gpu_cases.h"
#include "runtime/base/log.h"

typedef struct attention_shape {
    int32_t sequences, positions;
    double target;  // decode: of the copy; prefill: TFLOP/s
} attention_shape;

static const attention_shape decode_full[] = {{64, 2048, 0.8}, {256, 2048, 0.8}, {1, 8192, 0.6},
                                              {2, 8192, 0.6},  {4, 8192, 0.6},   {8, 8192, 0.6}};
static const attention_shape decode_small[] = {{3, 70, 0.8}, {5, 64, 0.8}, {1, 130, 0.6},
                                               {2, 33, 0.6}, {4, 17, 0.6}, {8, 1, 0.6}};
static const attention_shape prefill_full[] = {{1, 4096, 300}, {1, 8192, 300}, {1, 16384, 300}};
static const attention_shape prefill_small[] = {{1, 5, 300}, {1, 64, 300}, {1, 70, 300}};
enum {
    DECODES = sizeof decode_full / sizeof *decode_full,
    PREFILLS = sizeof prefill_full / sizeof *prefill_full,
    BLOCK_TOKENS = 16,
};

typedef struct attention_case {
    pr_gpu_meter *meter;
    pr_gpu_attention_args args;
    int32_t
        blocks_of_copy;  // one copy's block tables lie so many entries after those of the one before
} attention_case;

static void launch_attention(void *context, int32_t copy)
{
    attention_case *c = context;
    pr_gpu_attention_args args = c->args;
    args.blocks += (int64_t)copy * c->blocks_of_copy;
    c->meter->backend->operations->attention(c->meter->stream, &args);
}

static void choose_heads(attention_case *c)
{
    bool tiny = c->meter->small;
    c->args.query_heads = tiny ? 4 : 32;
    c->args.kv_heads = tiny ? 2 : 8;
    c->args.head_size = tiny ? 16 : 128;
    c->args.block_tokens = BLOCK_TOKENS;
    c->args.scale = tiny ? 0.25f : 0.088388348f;
    c->args.kv_is_bf16 = true;
}

// `rows` query rows at the end of each sequence.
static pr_status take_segments(attention_case *c, const attention_shape *shape, int32_t rows)
{
    int32_t tokens = shape->sequences * rows;
    int32_t pages = (shape->positions + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    pr_gpu_segment *segment = calloc((size_t)shape->sequences, sizeof *segment);
    int32_t *row = calloc((size_t)tokens, 2 * sizeof *row);
    pr_status status = PR_ERR_RESOURCE;
    void *on_device = NULL;
    if (!segment || !row) {
        status = pr_fail(PR_ERR_RESOURCE, "no host memory for %d rows", tokens);
        goto done;
    }
    for (int32_t s = 0; s < shape->sequences; s++) {
        segment[s] = (pr_gpu_segment){
            .first_row = s * rows,
            .rows = rows,
            .start_position = shape->positions - rows,
            .first_block = s * pages,
        };
        for (int32_t i = 0; i < rows; i++) {
            row[s * rows + i] = s;
            row[tokens + s * rows + i] = segment[s].start_position + i;
        }
    }
    PR_TRY_GOTO(
        pr_gpu_meter_put(c->meter, segment, sizeof *segment * (size_t)shape->sequences, &on_device),
        done);
    c->args.segment = on_device;
    PR_TRY_GOTO(
        pr_gpu_meter_put(c->meter, row, 2 * sizeof *row * (size_t)tokens, &on_device), done);
    c->args.segment_of = on_device;
    c->args.position = c->args.segment_of + tokens;
    c->args.tokens = tokens;
    c->args.segments = shape->sequences;
    c->args.most_positions = shape->positions;
    c->args.most_rows = rows;
    c->blocks_of_copy = shape->sequences * pages;
done:
    free(segment);
    free(row);
    return status;
}

static pr_status
take_case(attention_case *c, const attention_shape *shape, int32_t rows, int32_t copies)
{
    pr_gpu_attention_args *args = &c->args;
    choose_heads(c);
    PR_TRY(take_segments(c, shape, rows));
    int32_t pages = c->blocks_of_copy * copies, *blocks;
    int64_t page = (int64_t)args->kv_heads * BLOCK_TOKENS * args->head_size;
    int64_t queries = (int64_t)args->tokens * args->query_heads * args->head_size;
    void *k_pages, *v_pages, *partial;
    float *q, *out;
    PR_TRY(pr_gpu_meter_shuffled(c->meter, pages, &blocks));
    PR_TRY(pr_gpu_meter_bf16(c->meter, page * pages, &k_pages));
    PR_TRY(pr_gpu_meter_bf16(c->meter, page * pages, &v_pages));
    PR_TRY(pr_gpu_meter_floats(c->meter, queries, &q));
    PR_TRY(pr_gpu_meter_floats(c->meter, queries, &out));
    PR_TRY(pr_gpu_meter_zeros(
        c->meter,
        c->meter->backend->operations->attention_scratch_bytes(
            args->tokens, args->query_heads, args->head_size, args->most_positions),
        &partial));
    args->blocks = blocks;
    args->k_pages = k_pages;
    args->v_pages = v_pages;
    args->q = q;
    args->out = out;
    args->partial = partial;
    return PR_OK;
}

static pr_status run_decode(pr_gpu_meter *meter, const attention_shape *shape)
{
    attention_case c = {.meter = meter};
    char name[96];
    double seconds;
    snprintf(name, sizeof name, "attention decode %d x %d", shape->sequences, shape->positions);
    if (!pr_gpu_meter_wants(meter, name))
        return PR_OK;
    choose_heads(&c);
    double elements = (double)shape->sequences * c.args.head_size;
    double bytes = elements * shape->positions * c.args.kv_heads * 2 * sizeof(uint16_t) +
                   elements * c.args.query_heads * 2 * sizeof(float);
    int32_t copies = pr_gpu_meter_copies(meter, bytes);
    PR_TRY(take_case(&c, shape, 1, copies));
    pr_gpu_meter_work work = {.launch = launch_attention, .context = &c, .copies = copies};
    PR_TRY(pr_gpu_meter_time(meter, &work, &seconds));
    pr_gpu_meter_bandwidth(meter, name, bytes, seconds, shape->target);
    pr_gpu_meter_release(meter);
    return PR_OK;
}

// Row p sees p + 1 positions: 4 d operations for each, of each query head.
static pr_status run_prefill(pr_gpu_meter *meter, const attention_shape *shape)
{
    attention_case c = {.meter = meter};
    char name[96];
    double seconds, n = shape->positions;
    snprintf(name, sizeof name, "attention prefill %d", shape->positions);
    if (!pr_gpu_meter_wants(meter, name))
        return PR_OK;
    PR_TRY(take_case(&c, shape, shape->positions, 1));
    pr_gpu_meter_work work = {.launch = launch_attention, .context = &c, .copies = 1};
    PR_TRY(pr_gpu_meter_time(meter, &work, &seconds));
    pr_gpu_meter_row row = {.name = name, .seconds = seconds, .target = shape->target};
    pr_gpu_meter_arithmetic(
        meter, &row, 4.0 * c.args.head_size * c.args.query_heads * n * (n + 1) / 2);
    pr_gpu_meter_release(meter);
    return PR_OK;
}

pr_status pr_attention_cases_run(pr_gpu_meter *meter)
{
    for (int32_t i = 0; i < DECODES; i++)
        PR_TRY(run_decode(meter, meter->small ? &decode_small[i] : &decode_full[i]));
    for (int32_t i = 0; i < PREFILLS; i++)
        PR_TRY(run_prefill(meter, meter->small ? &prefill_small[i] : &prefill_full[i]));
    return PR_OK;
}
