// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/virtual/calibration.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"

enum { ROLES = 3, TERMS = 2 * PR_VIRTUAL_COLUMNS, ROUNDS = 3000, MOST_UPDATES = 40000000 };
enum { MOST_BOUNDARIES = 8, SHARES = 4, BISECTIONS = 20, MOST_MOVES = 2000 };

// The begin or end of a step.
typedef struct edge {
    int64_t time_ns;
    int64_t step;
    int32_t ranks;  // more, or less, in a step from here on
} edge;

typedef struct fit_state {
    const pr_recorded_run *run;
    edge *edge;      // [2 steps], by time
    double *excess;  // [steps] ranks in a step beyond the cores, while this one lasted; mean
    double *value;   // [steps] room for errors
    pr_virtual_step step[ROLES];
    pr_virtual_model *model;  // its windows
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

static pr_role role_of(const fit_state *fit, int64_t step) { return fit->run->step[step].role; }

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

// Means over time, from the integral of the excess at each step's begin and end.
static void note_excess(fit_state *fit, double cores)
{
    double integral = 0;
    int64_t before_ns = fit->edge[0].time_ns;
    int32_t ranks = 0;
    for (int64_t i = 0; i < fit->run->steps * 2; i++) {
        const edge *at = &fit->edge[i];
        double *excess = &fit->excess[at->step];
        integral += fmax(0, ranks - cores) * (double)(at->time_ns - before_ns);
        before_ns = at->time_ns;
        ranks += at->ranks;
        int64_t step_ns = fit->run->step[at->step].step_ns;
        if (at->ranks > 0)
            *excess = integral;
        else
            *excess = step_ns > 0 ? (integral - *excess) / (double)step_ns : 0;
    }
}

static void terms_of(const fit_state *fit, int64_t i, double term[TERMS])
{
    const pr_recorded_step *step = &fit->run->step[i];
    double slowness = pr_virtual_slowness(fit->model, step->told_ns - step->step_ns);
    pr_virtual_columns(&step->work, term);
    for (int32_t c = 0; c < PR_VIRTUAL_COLUMNS; c++) {
        term[c] *= slowness;
        term[PR_VIRTUAL_COLUMNS + c] = term[c] * fit->excess[i];
    }
}

static double predicted_s(const fit_state *fit, int64_t i)
{
    double term[TERMS], seconds = 0;
    const pr_virtual_step *step = &fit->step[role_of(fit, i)];
    terms_of(fit, i, term);
    for (int32_t c = 0; c < PR_VIRTUAL_COLUMNS; c++)
        seconds += step->alone[c] * term[c] + step->crowded[c] * term[PR_VIRTUAL_COLUMNS + c];
    return seconds;
}

// One round of Richardson and Lucy's iteration for all roles: every constant times the mean, weighted by
// its column, of taken / predicted. Constants stay positive, and the sum of all steps is right.
static void improve(fit_state *fit)
{
    double weight[ROLES][TERMS] = {{0}}, ratio[ROLES][TERMS] = {{0}};
    for (int64_t i = 0; i < fit->run->steps; i++) {
        if (!counts(&fit->run->step[i]))
            continue;
        double term[TERMS];
        double taken = (double)fit->run->step[i].step_ns * 1e-9 / predicted_s(fit, i);
        pr_role role = role_of(fit, i);
        terms_of(fit, i, term);
        for (int32_t t = 0; t < TERMS; t++) {
            weight[role][t] += term[t];
            ratio[role][t] += term[t] * taken;
        }
    }
    for (int32_t role = 0; role < ROLES; role++) {
        for (int32_t c = 0; c < PR_VIRTUAL_COLUMNS; c++) {
            int32_t t = PR_VIRTUAL_COLUMNS + c;
            fit->step[role].alone[c] *= weight[role][c] > 0 ? ratio[role][c] / weight[role][c] : 0;
            fit->step[role].crowded[c] *=
                weight[role][t] > 0 ? ratio[role][t] / weight[role][t] : 0;
        }
    }
}

// Starts where every term has an equal share in the time.
static void begin_fit(fit_state *fit)
{
    double sum[ROLES][TERMS] = {{0}}, taken_s[ROLES] = {0};
    for (int64_t i = 0; i < fit->run->steps; i++) {
        double term[TERMS];
        pr_role role = role_of(fit, i);
        if (!counts(&fit->run->step[i]))
            continue;
        terms_of(fit, i, term);
        taken_s[role] += (double)fit->run->step[i].step_ns * 1e-9;
        for (int32_t t = 0; t < TERMS; t++)
            sum[role][t] += term[t];
    }
    for (int32_t role = 0; role < ROLES; role++) {
        for (int32_t c = 0; c < PR_VIRTUAL_COLUMNS; c++) {
            double alone = sum[role][c], crowded = sum[role][PR_VIRTUAL_COLUMNS + c];
            fit->step[role].alone[c] = alone > 0 ? taken_s[role] / alone / TERMS : 0;
            fit->step[role].crowded[c] = crowded > 0 ? taken_s[role] / crowded / TERMS : 0;
        }
    }
}

// Minus the log likelihood, up to a constant: what the iteration makes smaller.
static double misfit(const fit_state *fit)
{
    double sum = 0;
    for (int64_t i = 0; i < fit->run->steps; i++) {
        if (!counts(&fit->run->step[i]))
            continue;
        double expected_s = predicted_s(fit, i);
        sum += expected_s - (double)fit->run->step[i].step_ns * 1e-9 * log(expected_s);
    }
    return sum;
}

static double fit_for_cores(fit_state *fit, double cores, int64_t rounds)
{
    note_excess(fit, cores);
    begin_fit(fit);
    for (int64_t i = 0; i < rounds; i++)
        improve(fit);
    return misfit(fit);
}

// What other work on the machine did to the steps of each window, the whole run being 1 in the mean.
static void fit_slowness(fit_state *fit, pr_virtual_model *model)
{
    enum { LEAST_NS = 250000000, LEAST_STEPS = 32 };
    const pr_recorded_run *run = fit->run;
    double taken_s[PR_VIRTUAL_WINDOWS] = {0}, expected_s[PR_VIRTUAL_WINDOWS] = {0}, all_s = 0;
    int64_t end_ns = run->step[run->steps - 1].told_ns;
    int64_t windows = run->steps / LEAST_STEPS + 1;
    windows = windows < PR_VIRTUAL_WINDOWS ? windows : PR_VIRTUAL_WINDOWS;
    int64_t window_ns = end_ns / windows + 1;
    window_ns = window_ns < LEAST_NS ? LEAST_NS : window_ns;
    for (int64_t i = 0; i < run->steps; i++) {
        const pr_recorded_step *step = &run->step[i];
        int64_t begin_ns = step->told_ns - step->step_ns;
        int64_t window = begin_ns > 0 ? begin_ns / window_ns : 0;
        if (!counts(step))
            continue;
        taken_s[window] += (double)step->step_ns * 1e-9;
        expected_s[window] += predicted_s(fit, i) / pr_virtual_slowness(model, begin_ns);
        all_s += (double)step->step_ns * 1e-9;
    }
    // A window with little in it is taken for an average one.
    double little_s = all_s / PR_VIRTUAL_WINDOWS / 8;
    for (int32_t w = 0; w < PR_VIRTUAL_WINDOWS; w++)
        model->slowness[w] = (taken_s[w] + little_s) / (expected_s[w] + little_s);
    model->window_ns = window_ns;
}

static void fit_steps(fit_state *fit, pr_virtual_model *model)
{
    enum { TURNS = 4 };
    const pr_layout *layout = &fit->run->layout;
    int64_t rounds = MOST_UPDATES / TERMS / fit->run->steps;
    rounds = rounds > ROUNDS ? ROUNDS : rounds + 20;
    int32_t most = layout->groups > 1 ? layout->ranks : 1;
    double best = (double)INFINITY;
    for (int32_t tried = 0, cores = most; tried < 16 && cores > 0; tried++) {
        double at = fit_for_cores(fit, cores, rounds / 4 + 10);
        if (at < best - fabs(best) * 1e-6 || tried == 0) {
            best = at;
            model->cores = cores;
        }
        cores = cores > 16 ? cores / 2 : cores - 1;
    }
    (void)fit_for_cores(fit, model->cores, rounds);
    for (int32_t turn = 0; turn < TURNS; turn++) {
        fit_slowness(fit, model);
        for (int64_t i = 0; i < rounds / TURNS; i++)
            improve(fit);
    }
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

static int64_t find_step(const pr_recorded_run *run, int32_t group, int64_t time_ns)
{
    int64_t low = 0, high = run->steps;
    while (low < high) {  // the first told at that time or later
        int64_t middle = low + (high - low) / 2;
        if (run->step[middle].told_ns < time_ns)
            low = middle + 1;
        else
            high = middle;
    }
    while (low < run->steps && run->step[low].group != group)
        low++;
    return low < run->steps ? low : -1;
}

// When the target says that the blocks are there, if they are there at there_ns: after some of its step
// boundaries, or as soon as it is idle.
static int64_t told_at(
    const pr_recorded_run *run, const pr_recorded_move *move, int64_t there_ns, int32_t boundaries)
{
    enum { IDLE_NS = 5000000 };
    int64_t told_ns = there_ns;
    int64_t at = boundaries > 0 ? find_step(run, move->to_group, there_ns) : -1;
    if (at >= 0 && run->step[at].told_ns - run->step[at].step_ns >= there_ns)
        return there_ns;
    for (int32_t i = 0; i < boundaries && at >= 0; i++, at = run->step[at].next) {
        if (i > 0 && run->step[at].told_ns - run->step[at].step_ns > told_ns + IDLE_NS)
            break;
        told_ns = run->step[at].told_ns;
    }
    return told_ns;
}

static bool was_told(const pr_recorded_move *move)
{
    return move->sent_ns >= 0 && move->there_ns >= move->sent_ns;
}

typedef struct wait_sums {
    double moves, blocks, taken_s, told_s, off_s;
} wait_sums;

static wait_sums sum_waits(const pr_recorded_run *run, const pr_virtual_model *model)
{
    wait_sums sums = {0};
    for (int64_t i = 0; i < run->moves && i < MOST_MOVES; i++) {
        const pr_recorded_move *move = &run->move[i];
        if (!was_told(move))
            continue;
        double seconds = model->transfer_s + model->transfer_block_s * move->blocks;
        int64_t there_ns = move->sent_ns + llround(seconds * 1e9);
        int64_t told_ns = told_at(run, move, there_ns, model->transfer_boundaries);
        sums.moves++;
        sums.blocks += move->blocks;
        sums.taken_s += (double)(move->there_ns - move->sent_ns) * 1e-9;
        sums.told_s += (double)(told_ns - move->sent_ns) * 1e-9;
        sums.off_s += fabs((double)(told_ns - move->there_ns)) * 1e-9;
    }
    return sums;
}

// The time for which the mean is right, of which the blocks make up a given share.
static double
fit_transfer_time(const pr_recorded_run *run, double block_share, pr_virtual_model *model)
{
    wait_sums sums = sum_waits(run, model);
    double low = 0, high = sums.taken_s / sums.moves;
    for (int32_t i = 0; i < BISECTIONS; i++) {
        double middle = (low + high) / 2;
        model->transfer_s = middle * (1 - block_share);
        model->transfer_block_s = middle * block_share * sums.moves / sums.blocks;
        wait_sums tried = sum_waits(run, model);
        if (tried.told_s < sums.taken_s)
            low = middle;
        else
            high = middle;
        sums.off_s = tried.off_s;
    }
    return sums.off_s;
}

static void fit_transfers(const pr_recorded_run *run, pr_virtual_model *model)
{
    pr_virtual_model tried = *model;
    double best_s = (double)INFINITY;
    wait_sums sums = sum_waits(run, model);
    if (!(sums.blocks > 0))
        return;
    for (int32_t boundaries = 0; boundaries <= MOST_BOUNDARIES; boundaries++) {
        for (int32_t share = 0; share <= SHARES; share++) {
            tried.transfer_boundaries = boundaries;
            double off_s = fit_transfer_time(run, (double)share / SHARES, &tried);
            if (off_s < best_s) {
                best_s = off_s;
                *model = tried;
            }
        }
    }
}

// A role that the record does not have gets what is known of the others.
static void fill_roles(pr_calibration *calibration)
{
    pr_virtual_step *step = calibration->model.step;
    const pr_calibration_quality *quality = calibration->quality;
    if (quality[PR_ROLE_MIXED].steps == 0) {
        step[PR_ROLE_MIXED] = step[PR_ROLE_DECODE];
        for (int32_t c = 1; c <= 2; c++) {  // rows and pairs
            step[PR_ROLE_MIXED].alone[c] = step[PR_ROLE_PREFILL].alone[c];
            step[PR_ROLE_MIXED].crowded[c] = step[PR_ROLE_PREFILL].crowded[c];
        }
        return;
    }
    if (quality[PR_ROLE_PREFILL].steps == 0)
        step[PR_ROLE_PREFILL] = step[PR_ROLE_MIXED];
    if (quality[PR_ROLE_DECODE].steps == 0)
        step[PR_ROLE_DECODE] = step[PR_ROLE_MIXED];
}

pr_status pr_calibration_fit(const pr_recorded_run *run, pr_calibration *calibration)
{
    pr_calibration made = {0};
    fit_state fit = {.run = run, .model = &made.model};
    pr_status status = PR_OK;
    if (run->steps == 0)
        return pr_fail(PR_ERR_REQUEST, "the record has no step to fit a model to");
    fit.edge = calloc((size_t)run->steps * 2, sizeof *fit.edge);
    fit.excess = calloc((size_t)run->steps, sizeof *fit.excess);
    fit.value = calloc((size_t)run->steps, sizeof *fit.value);
    if (!fit.edge || !fit.excess || !fit.value) {
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
    free(fit.excess);
    free(fit.value);
    return status;
}
