// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/virtual/run_measure.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"

pr_status pr_run_measure_arrival(pr_run_measure *measure, int64_t now_ns, int32_t prompt_tokens)
{
    if (measure->requests == measure->room) {
        int64_t room = measure->room * 2 + 64;
        pr_request_row *grown = realloc(measure->request, (size_t)room * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %lld requests", (long long)room);
        measure->request = grown;
        measure->room = room;
    }
    measure->request[measure->requests] = (pr_request_row){
        .id = measure->requests,
        .arrival_s = (double)now_ns * 1e-9,
        .prompt_tokens = prompt_tokens,
        .prefill_group = -1,
        .decode_group = -1,
        .hit_tokens = -1,
        .prefill_start_s = (double)NAN,
        .first_s = (double)NAN,
        .join_s = (double)NAN,
        .finish_s = (double)NAN,
    };
    measure->requests++;
    return PR_OK;
}

// Only the first admission counts: one that comes back after a preemption finds its own blocks.
void pr_run_measure_hit(pr_run_measure *measure, int64_t request, int32_t tokens)
{
    pr_request_row *row = &measure->request[request];
    if (row->hit_tokens < 0)
        row->hit_tokens = tokens;
}

// Until the last token, finish_s holds the time of the token before.
pr_status pr_run_measure_token(pr_run_measure *measure, int64_t request, int64_t now_ns, bool last)
{
    pr_request_row *row = &measure->request[request];
    double now_s = (double)now_ns * 1e-9;
    if (row->outputs++ == 0) {
        row->first_s = now_s;
    } else {
        if (measure->gaps == measure->gap_room) {
            int64_t room = measure->gap_room * 2 + 1024;
            double *grown = realloc(measure->gap_s, (size_t)room * sizeof *grown);
            if (!grown)
                return pr_fail(PR_ERR_RESOURCE, "no memory for %lld gaps", (long long)room);
            measure->gap_s = grown;
            measure->gap_room = room;
        }
        measure->gap_s[measure->gaps++] = now_s - row->finish_s;
    }
    row->finish_s = now_s;
    if (last && row->outputs > 1)
        row->tbt_mean_s = (row->finish_s - row->first_s) / (row->outputs - 1);
    return PR_OK;
}

void pr_run_measure_rejected(pr_run_measure *measure, int64_t request, const char *reason)
{
    measure->request[request].rejected = reason;
}

void pr_run_measure_free(pr_run_measure *measure)
{
    free(measure->request);
    free(measure->gap_s);
    *measure = (pr_run_measure){0};
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static pr_run_spread spread_of(double *value, int64_t values)
{
    if (values == 0)
        return (pr_run_spread){(double)NAN, (double)NAN, (double)NAN};
    double sum = 0;
    for (int64_t i = 0; i < values; i++)
        sum += value[i];
    qsort(value, (size_t)values, sizeof *value, ascending);
    return (pr_run_spread){
        .mean = sum / (double)values,
        .p50 = value[(values - 1) / 2],
        .p99 = value[(values - 1) * 99 / 100],
    };
}

pr_status pr_run_measure_sum_up(pr_run_measure *measure, pr_run_summary *summary)
{
    pr_run_summary made = {.requests = measure->requests};
    double *value = malloc(((size_t)measure->requests * 2 + 1) * sizeof *value);
    if (!value)
        return pr_fail(PR_ERR_RESOURCE, "no memory to sum up a run");
    double *latency = value + measure->requests, begin_s = (double)INFINITY,
           end_s = -(double)INFINITY;
    for (int64_t i = 0; i < measure->requests; i++) {
        const pr_request_row *row = &measure->request[i];
        made.prompt_tokens += row->prompt_tokens;
        made.hit_tokens += row->hit_tokens > 0 ? row->hit_tokens : 0;
        made.outputs += row->outputs;
        begin_s = fmin(begin_s, row->arrival_s);
        if (row->outputs == 0)
            continue;
        end_s = fmax(end_s, row->finish_s);
        value[made.ended] = row->first_s - row->arrival_s;
        latency[made.ended++] = row->finish_s - row->arrival_s;
    }
    made.seconds = made.ended > 0 ? end_s - begin_s : 0;
    made.outputs_per_s = made.seconds > 0 ? (double)made.outputs / made.seconds : 0;
    made.ttft_s = spread_of(value, made.ended);
    made.latency_s = spread_of(latency, made.ended);
    made.tbt_s = spread_of(measure->gap_s, measure->gaps);
    free(value);
    *summary = made;
    return PR_OK;
}
