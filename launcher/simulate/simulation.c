// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/simulation.h"

#include <stdio.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"

static const double SLOWEST = 1.0 / 64, FASTEST = 256, RESOLUTION = 0.01;

// ---- Progress: a bar on a terminal, a line now and then in a log ----

enum { BAR_WIDTH = 24 };

static const int64_t SECOND_NS = 1000000000;

typedef struct progress {
    const char *policy;
    double speed;
    bool terminal;
    int64_t begin_ns, last_ns;
} progress;

static void show_progress(void *context, int64_t done, int64_t requests)
{
    progress *shown = context;
    int64_t now_ns = pr_clock_now_ns();
    if (now_ns - shown->last_ns < (shown->terminal ? SECOND_NS / 5 : 10 * SECOND_NS))
        return;
    shown->last_ns = now_ns;
    double seconds = (double)(now_ns - shown->begin_ns) * 1e-9;
    if (!shown->terminal) {
        pr_log(
            PR_LOG_INFO, "%s at speed %.3g: %lld of %lld requests after %.0f s", shown->policy,
            shown->speed, (long long)done, (long long)requests, seconds);
        return;
    }
    char bar[BAR_WIDTH + 1];
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < done * BAR_WIDTH / requests ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    fprintf(
        stderr, "\r[%s] %s at speed %.3g: %lld/%lld requests, %.0f/s \033[K", bar, shown->policy,
        shown->speed, (long long)done, (long long)requests, (double)done / seconds);
    fflush(stderr);
}

// ---- One run ----

pr_status pr_simulation_run(
    const pr_simulation *simulation,
    const char *policy,
    double speed,
    pr_run_record *record,
    pr_run_point *point)
{
    int64_t begin_ns = pr_clock_now_ns();
    progress shown = {policy, speed, isatty(STDERR_FILENO) != 0, begin_ns, begin_ns};
    pr_fleet_params fleet = simulation->fleet;
    pr_fleet_counts counts = {0};
    fleet.policy = policy;
    fleet.speed = speed;
    fleet.progress = show_progress;
    fleet.context = &shown;
    pr_run_record made;
    PR_TRY(pr_run_record_create(
        simulation->trace->requests, simulation->most_spans, fleet.prefill_groups,
        fleet.decode_groups, &made));
    pr_status status = pr_fleet_run(&fleet, simulation->trace, &made, &counts);
    if (shown.terminal && shown.last_ns != begin_ns)
        fputs("\r\033[K", stderr);
    *point = (pr_run_point){
        .policy = policy,
        .speed = speed,
        .wall_s = (double)(pr_clock_now_ns() - begin_ns) * 1e-9,
        .role_changes = counts.role_changes,
        .events = counts.events,
        .decisions = counts.decisions,
    };
    if (status == PR_OK)
        status = pr_statistics_compute(&made, fleet.cost, &point->statistics);
    if (status == PR_OK)
        *record = made;
    else
        pr_run_record_free(&made);
    return status;
}

// ---- Capacity ----

typedef struct search {
    const pr_simulation *simulation;
    const char *policy;
    const pr_simulation_target *target;
    bool found;
    pr_run_record *record;  // of the fastest run that met the target
    pr_run_point *point;
} search;

static pr_status try_speed(search *all, double speed, bool *met)
{
    pr_run_record record;
    pr_run_point point;
    PR_TRY(pr_simulation_run(all->simulation, all->policy, speed, &record, &point));
    const pr_statistics *statistics = &point.statistics;
    double goodput = all->target->slo_b ? statistics->goodput_b : statistics->goodput_a;
    double limit_s = all->target->ttft_limit_s;
    *met = goodput >= all->target->goodput && (limit_s <= 0 || statistics->ttft_s.p99 <= limit_s);
    pr_log(
        PR_LOG_INFO, "%s at speed %.4g: %.1f %% within the target, TTFT p99 %.1f s: %s",
        all->policy, speed, goodput * 100, statistics->ttft_s.p99, *met ? "met" : "missed");
    if (!*met) {
        pr_run_record_free(&record);
        return PR_OK;
    }
    if (all->found)
        pr_run_record_free(all->record);
    *all->record = record;
    *all->point = point;
    all->found = true;
    return PR_OK;
}

// Two speeds, a factor of two apart, between which the target begins to be missed.
static pr_status bracket(search *all, double *low, double *high)
{
    bool met;
    double speed = 1;
    PR_TRY(try_speed(all, speed, &met));
    bool up = met;
    while (met == up) {
        speed = up ? speed * 2 : speed / 2;
        if (speed > FASTEST)
            return pr_fail(
                PR_ERR_ARGUMENT, "%s meets the target at any speed: take fewer groups",
                all->policy);
        if (speed < SLOWEST)
            return pr_fail(
                PR_ERR_ARGUMENT,
                "%s misses the target at any speed: a request alone takes too long on these groups",
                all->policy);
        PR_TRY(try_speed(all, speed, &met));
    }
    *low = up ? speed / 2 : speed;
    *high = *low * 2;
    return PR_OK;
}

static pr_status bisect(search *all)
{
    double low = 0, high = 0;
    bool met;
    PR_TRY(bracket(all, &low, &high));
    while (high - low > RESOLUTION) {
        double middle = (low + high) / 2;
        PR_TRY(try_speed(all, middle, &met));
        *(met ? &low : &high) = middle;
    }
    return PR_OK;
}

pr_status pr_simulation_capacity(
    const pr_simulation *simulation,
    const char *policy,
    const pr_simulation_target *target,
    pr_run_record *record,
    pr_run_point *point)
{
    search all = {
        .simulation = simulation,
        .policy = policy,
        .target = target,
        .record = record,
        .point = point,
    };
    pr_status status = bisect(&all);
    if (status != PR_OK && all.found)
        pr_run_record_free(record);
    return status;
}
