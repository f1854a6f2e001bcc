// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/plan/split_search.h"

#include <string.h>

#include "runtime/base/log.h"

enum { FIRST_TRIES = 8 };

// ---- One split ----

static pr_status measure(
    const pr_simulation *simulation,
    const char *policy,
    const pr_simulation_target *target,
    pr_split *split)
{
    pr_simulation divided = *simulation;
    pr_run_record record;
    divided.fleet.prefill_groups = split->prefill;
    divided.fleet.decode_groups = split->decode;
    pr_log(PR_LOG_INFO, "%d prefill and %d decode groups", (int)split->prefill, (int)split->decode);
    pr_error_capture_begin();
    pr_status status = pr_simulation_capacity(&divided, policy, target, &record, &split->point);
    pr_error_capture_end();
    split->meets = status == PR_OK;
    if (split->meets)
        pr_run_record_free(&record);
    if (status != PR_ERR_ARGUMENT)
        return status;
    bool always_meets = split->point.speed > 0;
    if (!always_meets)
        return PR_OK;
    return pr_fail(
        PR_ERR_ARGUMENT,
        "%d prefill and %d decode groups meet the target at any speed: take fewer groups or more "
        "requests",
        (int)split->prefill, (int)split->decode);
}

// ---- All ----

static bool is_tried(const pr_split_search *search, int32_t prefill)
{
    for (int32_t i = 0; i < search->splits; i++) {
        if (search->split[i].prefill == prefill)
            return true;
    }
    return false;
}

static void find_best(pr_split_search *search)
{
    search->best = -1;
    for (int32_t i = 0; i < search->splits; i++) {
        const pr_split *split = &search->split[i];
        if (split->meets &&
            (search->best < 0 || split->point.speed > search->split[search->best].point.speed))
            search->best = i;
    }
}

// Puts the new split in its place: most decode first.
static void insert(pr_split_search *search, const pr_split *split)
{
    int32_t at = search->splits++;
    while (at > 0 && search->split[at - 1].prefill > split->prefill) {
        search->split[at] = search->split[at - 1];
        at--;
    }
    search->split[at] = *split;
    find_best(search);
}

static pr_status try_split(
    const pr_simulation *simulation,
    const char *policy,
    const pr_simulation_target *target,
    int32_t groups,
    int32_t prefill,
    pr_split_search *search)
{
    if (prefill < 1 || prefill >= groups || is_tried(search, prefill) ||
        search->splits == PR_SPLITS_MOST)
        return PR_OK;
    pr_split split = {.prefill = prefill, .decode = groups - prefill};
    PR_TRY(measure(simulation, policy, target, &split));
    insert(search, &split);
    return PR_OK;
}

pr_status pr_split_search_run(
    const pr_simulation *simulation,
    const char *policy,
    const pr_simulation_target *target,
    int32_t groups,
    pr_split_search *search)
{
    memset(search, 0, sizeof *search);
    search->best = -1;
    if (groups < 2)
        return pr_fail(PR_ERR_ARGUMENT, "%d groups cannot be divided: give two or more", groups);
    int32_t step = (groups + FIRST_TRIES - 1) / FIRST_TRIES;
    for (int32_t prefill = step; prefill < groups; prefill += step)
        PR_TRY(try_split(simulation, policy, target, groups, prefill, search));
    if (step > 1)
        PR_TRY(try_split(simulation, policy, target, groups, groups - 1, search));
    while (step > 1 && search->best >= 0) {
        int32_t middle = search->split[search->best].prefill;
        step = (step + 1) / 2;
        PR_TRY(try_split(simulation, policy, target, groups, middle - step, search));
        PR_TRY(try_split(simulation, policy, target, groups, middle + step, search));
    }
    return PR_OK;
}
