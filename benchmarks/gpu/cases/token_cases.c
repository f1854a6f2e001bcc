// SPDX-License-Identifier: BSD-3-Clause
// Tokens from logits of a decode step: held against the copy, logits read once.
#include "benchmarks/gpu/cases/gpu_cases.h"

enum { MOST_ROWS = 512, TOP = 5 };

typedef struct token_case {
    pr_gpu_meter *meter;
    pr_gpu_sample_args sample;
    pr_gpu_logprobs_args logprobs;
} token_case;

static void launch_sample(void *context, int32_t copy)
{
    token_case *c = context;
    (void)copy;
    c->meter->backend->operations->sample(c->meter->stream, &c->sample);
}

static void launch_logprobs(void *context, int32_t copy)
{
    token_case *c = context;
    (void)copy;
    c->meter->backend->operations->logprobs(c->meter->stream, &c->logprobs);
}

static pr_status take_draws(token_case *c, const pr_gpu_draw *draw)
{
    pr_gpu_draw draws[MOST_ROWS];
    void *taken;
    for (int32_t i = 0; i < c->sample.rows; i++) {
        draws[i] = *draw;
        draws[i].stream = (uint64_t)i;
    }
    PR_TRY(pr_gpu_meter_put(c->meter, draws, sizeof *draws * (size_t)c->sample.rows, &taken));
    c->sample.draw = taken;
    return PR_OK;
}

static pr_status take_memory(token_case *c, int32_t rows, int32_t vocabulary)
{
    pr_gpu_meter *meter = c->meter;
    void *token, *scratch, *rank, *top_token;
    float *logits, *logprob, *top_logprob;
    PR_TRY(pr_gpu_meter_floats(meter, (int64_t)rows * vocabulary, &logits));
    PR_TRY(pr_gpu_meter_floats(meter, rows, &logprob));
    PR_TRY(pr_gpu_meter_floats(meter, (int64_t)rows * TOP, &top_logprob));
    PR_TRY(pr_gpu_meter_zeros(meter, sizeof(int32_t) * (size_t)rows, &token));
    PR_TRY(pr_gpu_meter_zeros(meter, sizeof(int32_t) * (size_t)rows, &rank));
    PR_TRY(pr_gpu_meter_zeros(meter, sizeof(int32_t) * (size_t)rows * TOP, &top_token));
    PR_TRY(pr_gpu_meter_zeros(
        meter, meter->backend->operations->sample_scratch_bytes(rows, vocabulary), &scratch));
    c->sample = (pr_gpu_sample_args){
        .rows = rows,
        .vocabulary = vocabulary,
        .logits = logits,
        .token = token,
        .logprob = logprob,
        .scratch = scratch,
    };
    c->logprobs = (pr_gpu_logprobs_args){
        .rows = rows,
        .vocabulary = vocabulary,
        .top = TOP,
        .logits = logits,
        .token = token,
        .logprob = logprob,
        .rank = rank,
        .top_token = top_token,
        .top_logprob = top_logprob,
    };
    return PR_OK;
}

static pr_status run_one(token_case *c, const char *what, pr_gpu_meter_launch launch)
{
    int32_t rows = c->sample.rows, vocabulary = c->sample.vocabulary;
    char name[96];
    double seconds;
    snprintf(name, sizeof name, "%s %d x %d", what, rows, vocabulary);
    if (!pr_gpu_meter_wants(c->meter, name))
        return PR_OK;
    pr_gpu_meter_work work = {.launch = launch, .context = c, .copies = 1};
    PR_TRY(pr_gpu_meter_time(c->meter, &work, &seconds));
    pr_gpu_meter_bandwidth(c->meter, name, (double)rows * vocabulary * sizeof(float), seconds, 0);
    return PR_OK;
}

static pr_status run_rows(pr_gpu_meter *meter, int32_t rows)
{
    const pr_gpu_draw greedy = {.top_p = 1};
    const pr_gpu_draw nucleus = {.temperature = 0.8f, .top_p = 0.95f, .top_k = 50, .seed = 1};
    token_case c = {.meter = meter};
    PR_TRY(take_memory(&c, rows, meter->small ? 70 : 128256));
    PR_TRY(take_draws(&c, &greedy));
    PR_TRY(run_one(&c, "sample greedy", launch_sample));
    PR_TRY(take_draws(&c, &nucleus));
    PR_TRY(run_one(&c, "sample top-k 50, top-p", launch_sample));
    PR_TRY(run_one(&c, "logprobs", launch_logprobs));
    pr_gpu_meter_release(meter);
    return PR_OK;
}

pr_status pr_token_cases_run(pr_gpu_meter *meter)
{
    return run_rows(meter, meter->small ? 3 : MOST_ROWS);
}
