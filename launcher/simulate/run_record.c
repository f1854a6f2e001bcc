// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/run_record.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"

static pr_request_row blank_row(int64_t id)
{
    static const double never = (double)NAN;
    return (pr_request_row){
        .id = id,
        .prefill_group = -1,
        .decode_group = -1,
        .prefill_start_s = never,
        .first_s = never,
        .join_s = never,
        .finish_s = never,
        .tbt_mean_s = never,
        .tbt_tail_s = never,
    };
}

pr_status pr_run_record_create(
    int64_t requests,
    int64_t most_spans,
    int32_t prefill_groups,
    int32_t decode_groups,
    pr_run_record *record)
{
    pr_run_record made = {
        .requests = requests,
        .most_spans = most_spans,
        .prefill_groups = prefill_groups,
        .decode_groups = decode_groups,
        .request = malloc((size_t)requests * sizeof *made.request),
        .span = most_spans > 0 ? malloc((size_t)most_spans * sizeof *made.span) : NULL,
        .busy_s = calloc((size_t)(prefill_groups + decode_groups), sizeof *made.busy_s),
    };
    if (!made.request || !made.busy_s || (most_spans > 0 && !made.span)) {
        pr_run_record_free(&made);
        return pr_fail(
            PR_ERR_RESOURCE, "no memory to record %lld requests and %lld spans",
            (long long)requests, (long long)most_spans);
    }
    for (int64_t i = 0; i < requests; i++)
        made.request[i] = blank_row(i);
    *record = made;
    return PR_OK;
}

void pr_run_record_free(pr_run_record *record)
{
    free(record->request);
    free(record->span);
    free(record->busy_s);
    *record = (pr_run_record){0};
}
