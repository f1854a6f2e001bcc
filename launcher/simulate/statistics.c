// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/statistics.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"

static const double SLO_TTFT_S = 30, SLO_TTFT_RATIO = 10, SLO_TBT_S = 0.1;

// ---- One quantity over all requests ----

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(const double *sorted, int64_t count, double part)
{
    int64_t rank = (int64_t)ceil(part * (double)count);
    return sorted[rank > 0 ? rank - 1 : 0];
}

// Values that never came about (NAN) do not count.
static pr_summary summarise(double *value, int64_t values)
{
    int64_t count = 0;
    double sum = 0;
    for (int64_t i = 0; i < values; i++) {
        if (isnan(value[i]))
            continue;
        sum += value[i];
        value[count++] = value[i];
    }
    if (count == 0) {
        double none = (double)NAN;
        return (pr_summary){0, none, none, none, none, none};
    }
    qsort(value, (size_t)count, sizeof *value, compare);
    return (pr_summary){
        .count = count,
        .mean = sum / (double)count,
        .p50 = percentile(value, count, 0.5),
        .p90 = percentile(value, count, 0.9),
        .p99 = percentile(value, count, 0.99),
        .most = value[count - 1],
    };
}

static double ttft_of(const pr_request_row *row) { return row->first_s - row->arrival_s; }

static double latency_of(const pr_request_row *row) { return row->finish_s - row->arrival_s; }

static double tbt_of(const pr_request_row *row)
{
    return row->outputs > 1 ? row->tbt_mean_s : (double)NAN;
}

static double tail_of(const pr_request_row *row)
{
    return row->outputs > 1 ? row->tbt_tail_s : (double)NAN;
}

static pr_summary summarise_rows(
    const pr_run_record *record, double (*quantity)(const pr_request_row *row), double *value)
{
    for (int64_t i = 0; i < record->requests; i++)
        value[i] = quantity(&record->request[i]);
    return summarise(value, record->requests);
}

// ---- Targets ----

static bool meets(const pr_request_row *row, double ttft_s)
{
    bool steady = row->outputs <= 1 || row->tbt_mean_s <= SLO_TBT_S;
    return !row->rejected && !isnan(row->finish_s) && steady && ttft_of(row) <= ttft_s;
}

static void
count_goodput(const pr_run_record *record, const pr_cost_model *cost, pr_statistics *statistics)
{
    int64_t good_a = 0, good_b = 0;
    for (int64_t i = 0; i < record->requests; i++) {
        const pr_request_row *row = &record->request[i];
        good_a += meets(row, SLO_TTFT_S);
        if (cost)
            good_b +=
                meets(row, SLO_TTFT_RATIO * pr_cost_model_prefill_s(cost, row->prompt_tokens, 0));
    }
    double requests = (double)record->requests;
    statistics->goodput_a = (double)good_a / requests;
    statistics->goodput_b = cost ? (double)good_b / requests : (double)NAN;
}

// ---- Sums ----

static void add_rows(const pr_run_record *record, pr_statistics *statistics)
{
    int64_t begun_tokens = 0;
    double first_s = (double)INFINITY, last_s = -(double)INFINITY, end_s = -(double)INFINITY;
    for (int64_t i = 0; i < record->requests; i++) {
        const pr_request_row *row = &record->request[i];
        first_s = fmin(first_s, row->arrival_s);
        last_s = fmax(last_s, row->arrival_s);
        statistics->rejected += row->rejected != NULL;
        if (!isnan(row->first_s)) {
            begun_tokens += row->prompt_tokens;
            statistics->hit_tokens += row->hit_tokens;
            statistics->fetch_tokens += row->fetch_tokens;
        }
        if (isnan(row->finish_s))
            continue;
        statistics->finished++;
        statistics->prompt_tokens += row->prompt_tokens;
        statistics->output_tokens += row->outputs;
        end_s = fmax(end_s, row->finish_s);
    }
    statistics->hit_rate = (double)statistics->hit_tokens / fmax(1, (double)begun_tokens);
    statistics->fetch_rate = (double)statistics->fetch_tokens / fmax(1, (double)begun_tokens);
    statistics->arrival_span_s = last_s - first_s;
    statistics->span_s = fmax(end_s, last_s) - first_s;
    statistics->requests_per_s = (double)statistics->finished / statistics->span_s;
    statistics->output_tokens_per_s = (double)statistics->output_tokens / statistics->span_s;
}

static void add_groups(const pr_run_record *record, pr_statistics *statistics)
{
    double sum_s = 0, most_s = 0;
    for (int32_t g = 0; g < record->prefill_groups; g++) {
        sum_s += record->busy_s[g];
        most_s = fmax(most_s, record->busy_s[g]);
    }
    double groups = (double)record->prefill_groups;
    statistics->utilisation = sum_s / (groups * statistics->arrival_span_s);
    statistics->imbalance = sum_s > 0 ? most_s * groups / sum_s : (double)NAN;
}

pr_status pr_statistics_compute(
    const pr_run_record *record, const pr_cost_model *cost, pr_statistics *statistics)
{
    double *value = malloc(((size_t)record->requests + 1) * sizeof *value);
    if (!value)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for the statistics of %lld requests",
            (long long)record->requests);
    *statistics = (pr_statistics){.requests = record->requests};
    add_rows(record, statistics);
    add_groups(record, statistics);
    count_goodput(record, cost, statistics);
    statistics->ttft_s = summarise_rows(record, ttft_of, value);
    statistics->tbt_s = summarise_rows(record, tbt_of, value);
    statistics->tbt_tail_s = summarise_rows(record, tail_of, value);
    statistics->latency_s = summarise_rows(record, latency_of, value);
    free(value);
    return PR_OK;
}

// ---- JSON ----

static json_t *number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

static json_t *summary_json(const pr_summary *summary)
{
    return json_pack(
        "{s:I, s:o, s:o, s:o, s:o, s:o}", "count", (json_int_t)summary->count, "mean",
        number(summary->mean), "p50", number(summary->p50), "p90", number(summary->p90), "p99",
        number(summary->p99), "max", number(summary->most));
}

json_t *pr_statistics_json(const pr_statistics *statistics)
{
    const pr_statistics *s = statistics;
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, "
        "s:o, s:o, s:o}",
        "requests", (json_int_t)s->requests, "finished", (json_int_t)s->finished, "rejected",
        (json_int_t)s->rejected, "prompt_tokens", (json_int_t)s->prompt_tokens, "output_tokens",
        (json_int_t)s->output_tokens, "hit_tokens", (json_int_t)s->hit_tokens, "fetch_tokens",
        (json_int_t)s->fetch_tokens, "ttft_s", summary_json(&s->ttft_s), "tbt_s",
        summary_json(&s->tbt_s), "tbt_tail_s", summary_json(&s->tbt_tail_s), "latency_s",
        summary_json(&s->latency_s), "goodput_slo_a", number(s->goodput_a), "goodput_slo_b",
        number(s->goodput_b), "hit_rate", number(s->hit_rate), "fetch_rate", number(s->fetch_rate),
        "utilisation", number(s->utilisation), "imbalance", number(s->imbalance), "arrival_span_s",
        number(s->arrival_span_s), "span_s", number(s->span_s), "requests_per_s",
        number(s->requests_per_s), "output_tokens_per_s", number(s->output_tokens_per_s));
}
