// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/observe/step_tally.h"

#include <stdlib.h>
#include <string.h>

#include "launcher/observe/histogram.h"
#include "runtime/base/log.h"

enum { OPEN_STEPS = 8 };

typedef struct open_step {
    uint64_t plan;  // 0: unused
    uint32_t step;
    int64_t step_ns;  // of the slowest lane
    int64_t tokens;
} open_step;

typedef struct group_tally {
    open_step open[OPEN_STEPS];  // ring
    int32_t oldest;
    int64_t steps, step_ns, prefill_tokens, decode_tokens;
} group_tally;

struct pr_step_tally {
    int32_t groups;
    int64_t bucket[PR_ITERATION_BUCKETS], sum;
    group_tally *group;  // [groups]
};

pr_status pr_step_tally_create(int32_t groups, pr_step_tally **tally)
{
    pr_step_tally *made = calloc(1, sizeof *made);
    if (made)
        made->group = calloc((size_t)groups, sizeof *made->group);
    if (!made || !made->group) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory to count the steps of %d groups", (int)groups);
    }
    made->groups = groups;
    *tally = made;
    return PR_OK;
}

void pr_step_tally_destroy(pr_step_tally *tally)
{
    if (!tally)
        return;
    free(tally->group);
    free(tally);
}

static void count_iteration(int64_t *bucket, int64_t *sum, const open_step *step)
{
    bucket[pr_histogram_place(&pr_histogram_iteration, (double)step->tokens)]++;
    *sum += step->tokens;
}

// The step's place in the ring; a new step takes the oldest's.
static open_step *find_step(pr_step_tally *tally, group_tally *group, const pr_report *report)
{
    for (int32_t i = 0; i < OPEN_STEPS; i++) {
        if (group->open[i].plan == report->plan && group->open[i].step == report->step)
            return &group->open[i];
    }
    open_step *step = &group->open[group->oldest];
    group->oldest = (group->oldest + 1) % OPEN_STEPS;
    if (step->plan > 0)
        count_iteration(tally->bucket, &tally->sum, step);
    *step = (open_step){.plan = report->plan, .step = report->step};
    group->steps++;
    return step;
}

void pr_step_tally_add(pr_step_tally *tally, const pr_report *report)
{
    bool stepped = report->step_ns > 0 && report->plan > 0;
    if (!stepped || report->group < 0 || report->group >= tally->groups)
        return;
    group_tally *group = &tally->group[report->group];
    open_step *step = find_step(tally, group, report);
    if (report->step_ns > step->step_ns) {
        group->step_ns += report->step_ns - step->step_ns;
        step->step_ns = report->step_ns;
    }
    step->tokens += report->work.prefill_rows + report->work.decode_sequences;
    group->prefill_tokens += report->work.prefill_rows;
    group->decode_tokens += report->work.decode_sequences;
}

void pr_step_tally_read(const pr_step_tally *tally, pr_snapshot *snapshot)
{
    memcpy(snapshot->iteration_bucket, tally->bucket, sizeof tally->bucket);
    snapshot->iteration_sum = tally->sum;
    for (int32_t g = 0; g < tally->groups; g++) {
        const group_tally *group = &tally->group[g];
        for (int32_t i = 0; i < OPEN_STEPS; i++) {
            if (group->open[i].plan > 0)
                count_iteration(
                    snapshot->iteration_bucket, &snapshot->iteration_sum, &group->open[i]);
        }
        pr_group_snapshot *to = &snapshot->group[g];
        to->steps = group->steps;
        to->step_s = (double)group->step_ns * 1e-9;
        to->prefill_tokens = group->prefill_tokens;
        to->decode_tokens = group->decode_tokens;
    }
}
