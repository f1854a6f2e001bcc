// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/virtual/calibration.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "scheduler/step_fit.h"

enum { ROLES = 3, CORES_TRIED = 64, BISECTIONS = 40 };

// The begin or end of a step.
typedef struct edge {
    int64_t time_ns;
    int64_t step;
    int32_t ranks;  // more, or less, at work from here on
} edge;

typedef struct fit_state {
    const pr_recorded_run *run;
    edge *edge;      // [2 steps], by time
    double *work_s;  // [steps] what a step would have taken alone
    double *value;   // [steps] room for errors
    pr_virtual_step step[ROLES];
} fit_state;

static int by_time(const void *left, const void *right)
{
    const edge *a = left, *b = right;
    if (a->time_ns != b->time_ns)
        return a->time_ns < b->time_ns ? -1 : 1;
    return (a->step > b->step) - (a->step < b->step);
}

static int ascending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static pr_role role_of(const fit_state *fit, int64_t step)
{
    return fit->run->layout.group[fit->run->step[step].group].role;
}

static bool counts(const pr_recorded_step *step)
{
    return step->step_ns > 0 && step->work.prefill_rows + step->work.decode_sequences > 0;
}

static void list_edges(fit_state *fit)
{
    const pr_recorded_run *run = fit->run;
    for (int64_t i = 0; i < run->steps; i++) {
        const pr_recorded_step *step = &run->step[i];
        int32_t ranks = run->layout.group[step->group].ranks;
        fit->edge[2 * i] = (edge){step->told_ns - step->step_ns, i, ranks};
        fit->edge[2 * i + 1] = (edge){step->told_ns, i, -ranks};
    }
    qsort(fit->edge, (size_t)run->steps * 2, sizeof(edge), by_time);
}

// What each step would have taken alone, if so many cores served all ranks alike.
static void share_cores(fit_state *fit, double cores)
{
    double clock_s = 0;
    int64_t before_ns = fit->edge[0].time_ns;
    int32_t ranks = 0;
    for (int64_t i = 0; i < fit->run->steps * 2; i++) {
        const edge *at = &fit->edge[i];
        double slowdown = cores > 0 && ranks > cores ? ranks / cores : 1;
        clock_s += (double)(at->time_ns - before_ns) * 1e-9 / slowdown;
        before_ns = at->time_ns;
        ranks += at->ranks;
        fit->work_s[at->step] = at->ranks > 0 ? clock_s : clock_s - fit->work_s[at->step];
    }
}

static void fit_role(fit_state *fit, pr_role role)
{
    const pr_recorded_run *run = fit->run;
    pr_step_fit learnt;
    double taken_s = 0, predicted_s = 0;
    pr_step_fit_begin(&learnt, NULL);
    for (int64_t i = 0; i < run->steps; i++) {
        if (role_of(fit, i) == role && counts(&run->step[i]))
            pr_step_fit_add(&learnt, &run->step[i].work, fit->work_s[i]);
    }
    for (int64_t i = 0; i < run->steps; i++) {
        if (role_of(fit, i) != role || !counts(&run->step[i]))
            continue;
        taken_s += fit->work_s[i];
        predicted_s += pr_step_fit_predict_s(&learnt, &run->step[i].work);
    }
    double scale = predicted_s > 0 ? taken_s / predicted_s : 0;
    fit->step[role] = (pr_virtual_step){
        .base_s = learnt.constant[0] * scale,
        .row_s = learnt.constant[1] * scale,
        .pair_s = learnt.constant[2] * scale,
        .sequence_s = learnt.constant[3] * scale,
        .context_s = learnt.constant[4] * scale,
    };
}

static double predicted_s(const fit_state *fit, int64_t i)
{
    const pr_recorded_step *step = &fit->run->step[i];
    double slowdown = fit->work_s[i] > 0 ? (double)step->step_ns * 1e-9 / fit->work_s[i] : 1;
    return pr_virtual_step_s(&fit->step[role_of(fit, i)], &step->work) * slowdown;
}

// Fits all roles as if there were so many cores. Returns how far off the steps are, in seconds.
static double try_cores(fit_state *fit, double cores)
{
    double off_s = 0;
    share_cores(fit, cores);
    for (pr_role role = PR_ROLE_MIXED; role <= PR_ROLE_DECODE; role++)
        fit_role(fit, role);
    for (int64_t i = 0; i < fit->run->steps; i++) {
        if (counts(&fit->run->step[i]))
            off_s += fabs((double)fit->run->step[i].step_ns * 1e-9 - predicted_s(fit, i));
    }
    return off_s;
}

static void fit_steps(fit_state *fit, pr_virtual_model *model)
{
    double ranks = fit->run->layout.ranks;
    double best_s = try_cores(fit, 0);
    model->cores = 0;
    for (int32_t i = 0; i < CORES_TRIED; i++) {
        double cores = 0.5 + (ranks - 0.5) * i / CORES_TRIED;
        double off_s = try_cores(fit, cores);
        if (off_s < best_s * 0.999) {
            best_s = off_s;
            model->cores = cores;
        }
    }
    (void)try_cores(fit, model->cores);
    for (int32_t role = 0; role < ROLES; role++)
        model->step[role] = fit->step[role];
}

static void judge_role(const fit_state *fit, pr_role role, pr_calibration_quality *quality)
{
    const pr_recorded_run *run = fit->run;
    double sum = 0, squares = 0, off = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < run->steps; i++) {
        if (role_of(fit, i) != role || !counts(&run->step[i]))
            continue;
        double taken_s = (double)run->step[i].step_ns * 1e-9, expected_s = predicted_s(fit, i);
        sum += taken_s;
        squares += taken_s * taken_s;
        off += (taken_s - expected_s) * (taken_s - expected_s);
        fit->value[n++] = expected_s > 0 ? fabs(taken_s / expected_s - 1) : (double)INFINITY;
    }
    *quality = (pr_calibration_quality){.steps = n};
    if (n == 0)
        return;
    double spread = squares - sum * sum / (double)n;
    qsort(fit->value, (size_t)n, sizeof(double), ascending);
    quality->r2 = spread > 0 ? 1 - off / spread : 1;
    quality->error_p50 = fit->value[(n - 1) / 2];
    quality->error_p99 = fit->value[(n - 1) * 99 / 100];
}

// ---- Waits ----

static int64_t mean_ns(const pr_recorded_waits *waits)
{
    return waits->waits > 0 && waits->sum_ns > 0 ? waits->sum_ns / waits->waits : 0;
}

// When the target says that the blocks are there, if they are there at there_ns: at the end of the step
// that it is in, or at once.
static int64_t told_at(const pr_recorded_run *run, const pr_recorded_move *move, int64_t there_ns)
{
    int64_t low = 0, high = run->steps;
    while (low < high) {  // the first step told after that
        int64_t middle = low + (high - low) / 2;
        if (run->step[middle].told_ns < there_ns)
            low = middle + 1;
        else
            high = middle;
    }
    while (low < run->steps && run->step[low].group != move->to_group)
        low++;
    bool in_step = low < run->steps && run->step[low].told_ns - run->step[low].step_ns < there_ns;
    return in_step ? run->step[low].told_ns : there_ns;
}

static bool was_told(const pr_recorded_move *move)
{
    return move->sent_ns >= 0 && move->there_ns >= move->sent_ns;
}

static double mean_told_s(const pr_recorded_run *run, double transfer_s, double block_s)
{
    double sum_s = 0;
    int64_t moves = 0;
    for (int64_t i = 0; i < run->moves; i++) {
        const pr_recorded_move *move = &run->move[i];
        if (!was_told(move))
            continue;
        double seconds = transfer_s + block_s * move->blocks;
        sum_s +=
            (double)(told_at(run, move, move->sent_ns + llround(seconds * 1e9)) - move->sent_ns) *
            1e-9;
        moves++;
    }
    return moves > 0 ? sum_s / (double)moves : 0;
}

// The slope over the blocks by least squares, then the constant for which the mean wait is right.
static void fit_transfers(const pr_recorded_run *run, pr_virtual_model *model)
{
    double n = 0, x = 0, y = 0, xx = 0, xy = 0;
    for (int64_t i = 0; i < run->moves; i++) {
        const pr_recorded_move *move = &run->move[i];
        if (!was_told(move))
            continue;
        double blocks = move->blocks, seconds = (double)(move->there_ns - move->sent_ns) * 1e-9;
        n++;
        x += blocks;
        y += seconds;
        xx += blocks * blocks;
        xy += blocks * seconds;
    }
    if (n == 0)
        return;
    double spread = xx - x * x / n, slope = spread > 0 ? (xy - x * y / n) / spread : 0;
    model->transfer_block_s = fmin(fmax(slope, 0), y / x);
    double low = 0, high = y / n;
    for (int32_t i = 0; i < BISECTIONS; i++) {
        double middle = (low + high) / 2;
        if (mean_told_s(run, middle, model->transfer_block_s) < y / n)
            low = middle;
        else
            high = middle;
    }
    model->transfer_s = low;
}

// A role that the record does not have gets what is known of the others.
static void fill_roles(pr_calibration *calibration)
{
    pr_virtual_step *step = calibration->model.step;
    const pr_calibration_quality *quality = calibration->quality;
    if (quality[PR_ROLE_MIXED].steps == 0) {
        step[PR_ROLE_MIXED] = step[PR_ROLE_DECODE];
        step[PR_ROLE_MIXED].row_s = step[PR_ROLE_PREFILL].row_s;
        step[PR_ROLE_MIXED].pair_s = step[PR_ROLE_PREFILL].pair_s;
        return;
    }
    if (quality[PR_ROLE_PREFILL].steps == 0)
        step[PR_ROLE_PREFILL] = step[PR_ROLE_MIXED];
    if (quality[PR_ROLE_DECODE].steps == 0)
        step[PR_ROLE_DECODE] = step[PR_ROLE_MIXED];
}

pr_status pr_calibration_fit(const pr_recorded_run *run, pr_calibration *calibration)
{
    fit_state fit = {.run = run};
    pr_calibration made = {0};
    pr_status status = PR_OK;
    if (run->steps == 0)
        return pr_fail(PR_ERR_REQUEST, "the record has no step to fit a model to");
    fit.edge = calloc((size_t)run->steps * 2, sizeof *fit.edge);
    fit.work_s = calloc((size_t)run->steps, sizeof *fit.work_s);
    fit.value = calloc((size_t)run->steps, sizeof *fit.value);
    if (!fit.edge || !fit.work_s || !fit.value) {
        status = pr_fail(PR_ERR_RESOURCE, "no memory to fit %lld steps", (long long)run->steps);
        goto free;
    }
    list_edges(&fit);
    fit_steps(&fit, &made.model);
    for (pr_role role = PR_ROLE_MIXED; role <= PR_ROLE_DECODE; role++)
        judge_role(&fit, role, &made.quality[role]);
    fill_roles(&made);
    made.model.gap_ns = mean_ns(&run->gaps);
    made.model.message_ns = mean_ns(&run->trips) / 2;
    fit_transfers(run, &made.model);
    *calibration = made;

free:
    free(fit.edge);
    free(fit.work_s);
    free(fit.value);
    return status;
}
