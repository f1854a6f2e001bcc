// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/fleet/fleet_decode.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

static bool before(const void *a, const void *b)
{
    const pr_fleet_request *one = a, *other = b;
    return one->row->id < other->row->id;
}

void pr_fleet_decode_open(
    pr_fleet_decode *decode,
    const pr_cost_model *cost,
    void (*left)(void *context, pr_fleet_request *request),
    void *context)
{
    *decode = (pr_fleet_decode){.cost = cost, .left = left, .context = context, .token_mask = -1};
    decode->waiting.index_offset = decode->running.index_offset = offsetof(pr_fleet_request, at);
    decode->waiting.before = decode->running.before = before;
}

void pr_fleet_decode_close(pr_fleet_decode *decode)
{
    pr_min_heap_clear(&decode->waiting);
    pr_min_heap_clear(&decode->running);
    free(decode->token_s);
    free(decode->gap_s);
}

// Room for the step times of a sequence with so many outputs.
static pr_status reserve_steps(pr_fleet_decode *decode, int64_t outputs)
{
    int64_t had = decode->token_mask + 1, want = had ? had : 256;
    while (want < outputs + 1)
        want *= 2;
    if (want == had)
        return PR_OK;
    double *token_s = calloc((size_t)want, sizeof *token_s);
    double *gap_s = calloc((size_t)want, sizeof *gap_s);
    if (!token_s || !gap_s) {
        free(token_s);
        free(gap_s);
        return pr_fail(PR_ERR_RESOURCE, "decode group: no memory for %lld steps", (long long)want);
    }
    for (int64_t s = decode->steps - had; s < decode->steps; s++) {
        if (s >= 0)
            token_s[s & (want - 1)] = decode->token_s[s & decode->token_mask];
    }
    free(decode->token_s);
    free(decode->gap_s);
    decode->token_s = token_s;
    decode->gap_s = gap_s;
    decode->token_mask = want - 1;
    return PR_OK;
}

pr_status pr_fleet_decode_join(pr_fleet_decode *decode, pr_fleet_request *request)
{
    PR_TRY(reserve_steps(decode, request->row->outputs));
    PR_TRY(pr_min_heap_reserve(&decode->waiting, decode->waiting.count + 1));
    PR_TRY(
        pr_min_heap_reserve(&decode->running, decode->running.count + decode->waiting.count + 1));
    pr_min_heap_put(&decode->waiting, request->row->join_s, request);
    return PR_OK;
}

// ---- Gaps ----

// Partly sorts so that the `most` largest come first.
static void select_largest(double *value, int64_t values, int64_t most)
{
    int64_t low = 0, high = values - 1;
    while (low < high) {
        double pivot = value[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (value[i] > pivot)
                i++;
            while (value[j] < pivot)
                j--;
            if (i <= j) {
                double kept = value[i];
                value[i++] = value[j];
                value[j--] = kept;
            }
        }
        if (most - 1 <= j)
            high = j;
        else if (most - 1 >= i)
            low = i;
        else
            return;
    }
}

static void finish(pr_fleet_decode *decode, pr_fleet_request *request)
{
    pr_request_row *row = request->row;
    int64_t gaps = row->outputs - 1;
    double token_s = row->first_s;
    for (int64_t i = 0; i < gaps; i++) {
        double next_s = decode->token_s[(request->first_step + i) & decode->token_mask];
        decode->gap_s[i] = next_s - token_s;
        token_s = next_s;
    }
    int64_t tail = (gaps + 9) / 10;
    select_largest(decode->gap_s, gaps, tail);
    double sum = 0;
    for (int64_t i = 0; i < tail; i++)
        sum += decode->gap_s[i];
    row->finish_s = token_s;
    row->tbt_mean_s = (token_s - row->first_s) / (double)gaps;
    row->tbt_tail_s = sum / (double)tail;
    decode->left(decode->context, request);
}

// ---- Steps ----

static int64_t reserved(const pr_fleet_request *request)
{
    return (int64_t)request->row->prompt_tokens + request->row->outputs;
}

static bool fits(const pr_fleet_decode *decode, const pr_fleet_request *request)
{
    const pr_cost_model *cost = decode->cost;
    return decode->running.count == 0 ||
           (decode->running.count < cost->max_batch &&
            decode->reserved_tokens + reserved(request) <= cost->capacity_tokens);
}

static void admit(pr_fleet_decode *decode)
{
    pr_fleet_request *request;
    while ((request = pr_min_heap_first(&decode->waiting)) &&
           request->row->join_s <= decode->now_s && fits(decode, request)) {
        pr_min_heap_take(&decode->waiting, request->at);
        request->first_step = decode->steps;
        decode->held_tokens += request->row->prompt_tokens + 1;
        decode->reserved_tokens += reserved(request);
        pr_min_heap_put(
            &decode->running, (double)(decode->steps + request->row->outputs - 1), request);
    }
}

static void let_go(pr_fleet_decode *decode)
{
    pr_fleet_request *request;
    while ((request = pr_min_heap_first(&decode->running)) &&
           request->first_step + request->row->outputs - 1 <= decode->steps) {
        pr_min_heap_take(&decode->running, request->at);
        decode->held_tokens -= reserved(request);
        decode->reserved_tokens -= reserved(request);
        finish(decode, request);
    }
}

// Steps with the batch as it is, until one would end after `until_s`, somebody is done, or the next that
// waits has joined. False: the first case.
static bool run_steps(pr_fleet_decode *decode, double until_s)
{
    const pr_fleet_request *first = pr_min_heap_first(&decode->running);
    const pr_fleet_request *next = pr_min_heap_first(&decode->waiting);
    int64_t last = first->first_step + first->row->outputs - 1;
    double joins_s = (double)INFINITY;
    if (next && fits(decode, next))
        joins_s = next->row->join_s;
    int32_t batch = decode->running.count;
    double begun_s = decode->now_s;
    bool more = true;
    while (decode->steps < last && decode->now_s < joins_s) {
        double end_s =
            decode->now_s + pr_cost_model_step_s(decode->cost, batch, decode->held_tokens);
        if (end_s > until_s) {
            more = false;
            break;
        }
        decode->now_s = end_s;
        decode->token_s[decode->steps++ & decode->token_mask] = end_s;
        decode->held_tokens += batch;
    }
    decode->busy_s += decode->now_s - begun_s;
    return more;
}

void pr_fleet_decode_advance(pr_fleet_decode *decode, double now_s)
{
    for (;;) {
        const pr_fleet_request *next = pr_min_heap_first(&decode->waiting);
        if (decode->running.count == 0) {
            if (!next || next->row->join_s > now_s)
                return;
            if (decode->now_s < next->row->join_s)
                decode->now_s = next->row->join_s;
        }
        admit(decode);
        if (!run_steps(decode, now_s))
            return;
        let_go(decode);
    }
}

double pr_fleet_decode_quiet_until(const pr_fleet_decode *decode)
{
    const pr_fleet_request *first = pr_min_heap_first(&decode->running);
    const pr_fleet_request *next = pr_min_heap_first(&decode->waiting);
    double step_s = decode->cost->step_s, quiet_s = (double)INFINITY;
    if (first) {
        int64_t steps = first->first_step + first->row->outputs - 1 - decode->steps;
        double each_s =
            pr_cost_model_step_s(decode->cost, decode->running.count, decode->held_tokens);
        quiet_s = decode->now_s + (double)steps * each_s * (1 - 1e-9);
    }
    // Whoever waits may be admitted at once and have one step to go.
    if (next)
        quiet_s = fmin(quiet_s, fmax(next->row->join_s, decode->now_s) + step_s);
    return quiet_s;
}
