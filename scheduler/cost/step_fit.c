// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/cost/step_fit.h"

#include <math.h>
#include <string.h>

enum {
    COLUMNS = PR_FIT_COLUMNS,
    WINDOW = 4096,      // observations after which the past counts 1/e
    WARM_UP = 32,       // first observations, before any error means something
    SOLVE_OFTEN = 256,  // so many observations are solved one by one, then every SOLVE_EVERY-th
    SOLVE_EVERY = 16,
    MOST_COUNTED = 65536,  // errors in the buckets before all are halved
};

static const double PRIOR_WEIGHT = 1e-3;  // of the observation that said most about the column
static const double LEAST_CLIP = 0.05;
static const double CLIP_MEDIANS = 4;

// ---- the sketch of errors: 8 linear buckets to the octave from 2^-16 ----

enum { LEAST_EXPONENT = -16, TO_THE_OCTAVE = 8 };

static int32_t bucket_of(double error)
{
    int exponent;
    double mantissa = frexp(error, &exponent);  // [0.5, 1)
    int32_t bucket = (exponent - 1 - LEAST_EXPONENT) * TO_THE_OCTAVE +
                     (int32_t)((2 * mantissa - 1) * TO_THE_OCTAVE);
    if (!(error > 0) || bucket < 0)
        return 0;
    return bucket < PR_FIT_BUCKETS ? bucket : PR_FIT_BUCKETS - 1;
}

static void count_error(pr_step_fit *fit, double error)
{
    if (fit->error_count >= MOST_COUNTED) {
        fit->error_count = 0;
        for (int32_t i = 0; i < PR_FIT_BUCKETS; i++)
            fit->error_count += fit->bucket[i] /= 2;
    }
    fit->bucket[bucket_of(fabs(error))]++;
    fit->error_count++;
}

// Middle of the bucket in which the quantile lies.
static double error_quantile(const pr_step_fit *fit, double quantile)
{
    if (fit->error_count == 0)
        return 0;
    double rank = quantile * fit->error_count, seen = 0;
    int32_t i = 0;
    for (; i < PR_FIT_BUCKETS - 1; i++) {
        seen += fit->bucket[i];
        if (seen >= rank)
            break;
    }
    double step = (i % TO_THE_OCTAVE + 0.5) / TO_THE_OCTAVE;
    return ldexp(1 + step, LEAST_EXPONENT + i / TO_THE_OCTAVE);
}

// ---- the solve ----

typedef struct normal_equations {
    int32_t columns;
    double matrix[COLUMNS][COLUMNS], right[COLUMNS], scale[COLUMNS];
} normal_equations;

// Information and prior of the free columns, each column scaled to a diagonal of 1.
static void
fill(const pr_step_fit *fit, const int32_t *column, int32_t columns, normal_equations *of)
{
    of->columns = columns;
    for (int32_t i = 0; i < columns; i++) {
        int32_t c = column[i];
        double prior = fit->leverage[c] > 0 ? PRIOR_WEIGHT * fit->leverage[c] : 1;
        of->matrix[i][i] = fit->information[c][c] + prior;
        of->right[i] = fit->moment[c] + prior * fit->prior[c];
        of->scale[i] = 1 / sqrt(of->matrix[i][i]);
    }
    for (int32_t i = 0; i < columns; i++) {
        of->right[i] *= of->scale[i];
        for (int32_t k = 0; k < i; k++)
            of->matrix[i][k] = fit->information[column[i]][column[k]] * of->scale[i] * of->scale[k];
        of->matrix[i][i] = 1;
    }
}

// By Cholesky; the solution replaces the right side. The prior keeps the pivots above 0 but for rounding.
static void solve_in_place(normal_equations *of)
{
    for (int32_t i = 0; i < of->columns; i++) {
        for (int32_t k = 0; k <= i; k++) {
            double sum = of->matrix[i][k];
            for (int32_t j = 0; j < k; j++)
                sum -= of->matrix[i][j] * of->matrix[k][j];
            of->matrix[i][k] = k < i ? sum / of->matrix[k][k] : sqrt(fmax(sum, 1e-12));
        }
        for (int32_t j = 0; j < i; j++)
            of->right[i] -= of->matrix[i][j] * of->right[j];
        of->right[i] /= of->matrix[i][i];
    }
    for (int32_t i = of->columns - 1; i >= 0; i--) {
        for (int32_t j = i + 1; j < of->columns; j++)
            of->right[i] -= of->matrix[j][i] * of->right[j];
        of->right[i] /= of->matrix[i][i];
    }
    for (int32_t i = 0; i < of->columns; i++)
        of->right[i] *= of->scale[i];
}

// The constants, the most negative one held at 0 until none is.
static void solve(pr_step_fit *fit)
{
    int32_t column[COLUMNS], columns = fit->columns;
    for (int32_t i = 0; i < columns; i++)
        column[i] = i;
    memset(fit->constant, 0, sizeof fit->constant);
    while (columns > 0) {
        normal_equations equations;
        fill(fit, column, columns, &equations);
        solve_in_place(&equations);
        int32_t worst = -1;
        double most = 0;
        for (int32_t i = 0; i < columns; i++) {
            double scaled = equations.right[i] / equations.scale[i];
            if (scaled < most) {
                most = scaled;
                worst = i;
            }
        }
        if (worst < 0) {
            for (int32_t i = 0; i < columns; i++)
                fit->constant[column[i]] = equations.right[i];
            break;
        }
        columns--;
        memmove(&column[worst], &column[worst + 1], (size_t)(columns - worst) * sizeof *column);
    }
    fit->clip = fmax(LEAST_CLIP, CLIP_MEDIANS * error_quantile(fit, 0.5));
}

// ---- observations ----

static double predict(const pr_step_fit *fit, const double *x)
{
    double seconds = 0;
    for (int32_t i = 0; i < fit->columns; i++)
        seconds += fit->constant[i] * x[i];
    return seconds;
}

// The weight of an observation, after its error was counted. While little is known, errors count
// relative to the time itself; later to the prediction, as the time's own noise would bias the fit.
static double weigh(pr_step_fit *fit, const double *x, double seconds)
{
    if (fit->observations < WARM_UP)
        return 1 / (seconds * seconds);
    double predicted = predict(fit, x);
    double unit = fmax(predicted, seconds / 4);
    double error = (seconds - predicted) / unit;
    double clip = fit->clip;
    count_error(fit, error);
    fit->error_sum += fmax(-clip, fmin(clip, error));
    fit->error_weight += 1;
    return (fabs(error) > clip ? clip / fabs(error) : 1) / (unit * unit);
}

static void add(pr_step_fit *fit, const double *x, double seconds)
{
    const double kept = 1 - 1.0 / WINDOW;
    fit->error_sum *= kept;
    fit->error_weight *= kept;
    double weight = weigh(fit, x, seconds);
    for (int32_t i = 0; i < fit->columns; i++) {
        for (int32_t k = 0; k <= i; k++)
            fit->information[i][k] = fit->information[i][k] * kept + weight * x[i] * x[k];
        fit->moment[i] = fit->moment[i] * kept + weight * x[i] * seconds;
        fit->leverage[i] = fmax(fit->leverage[i], weight * x[i] * x[i]);
        if (x[i] == 0 && fit->leverage[i] > 0)
            fit->prior[i] = fit->constant[i];
    }
    fit->square = fit->square * kept + weight * seconds * seconds;
    fit->observations++;
    if (fit->observations <= SOLVE_OFTEN || fit->observations % SOLVE_EVERY == 0)
        solve(fit);
}

void pr_step_fit_quality(const pr_step_fit *fit, pr_fit_quality *quality)
{
    *quality = (pr_fit_quality){.observations = fit->observations, .judged = fit->error_count};
    if (fit->observations == 0)
        return;
    double explained = 0;  // 2 t m - t I t: the square less the squared errors
    for (int32_t i = 0; i < fit->columns; i++) {
        double row = 0;
        for (int32_t k = 0; k < fit->columns; k++)
            row += fit->information[i > k ? i : k][i > k ? k : i] * fit->constant[k];
        explained += fit->constant[i] * (2 * fit->moment[i] - row);
    }
    double mean = fit->moment[0] * fit->moment[0] / fit->information[0][0];
    double varied = fit->square - mean;
    quality->r2 = varied > 1e-12 * fit->square ? (explained - mean) / varied : 0;
    quality->error_mean = fit->error_weight > 0 ? fit->error_sum / fit->error_weight : 0;
    quality->error_p50 = error_quantile(fit, 0.5);
    quality->error_p99 = error_quantile(fit, 0.99);
}

static void begin(pr_step_fit *fit, int32_t columns, const double *prior)
{
    *fit = (pr_step_fit){.columns = columns, .clip = LEAST_CLIP};
    memcpy(fit->prior, prior, (size_t)columns * sizeof *prior);
    memcpy(fit->constant, prior, (size_t)columns * sizeof *prior);
}

// ---- steps ----

static void columns_of(const pr_step_work *work, double x[COLUMNS])
{
    x[0] = 1;
    x[1] = work->prefill_rows;
    x[2] = (double)work->prefill_pairs - 0.5 * work->prefill_rows;
    x[3] = work->decode_sequences;
    x[4] = (double)work->decode_context;
}

void pr_step_fit_begin(pr_step_fit *fit, const pr_cost_model *prior)
{
    double constant[COLUMNS] = {0};
    if (prior) {
        constant[0] = fmax(prior->chunk_s, prior->step_s);
        constant[1] = prior->chunk_token_s;
        constant[2] = prior->chunk_pair_s;
        constant[3] = prior->step_sequence_s;
        constant[4] = prior->step_context_s;
    }
    begin(fit, COLUMNS, constant);
}

void pr_step_fit_add(pr_step_fit *fit, const pr_step_work *work, double seconds)
{
    if (!(seconds > 0) || (work->prefill_rows <= 0 && work->decode_sequences <= 0))
        return;
    double x[COLUMNS];
    columns_of(work, x);
    add(fit, x, seconds);
}

double pr_step_fit_predict_s(const pr_step_fit *fit, const pr_step_work *work)
{
    double x[COLUMNS];
    columns_of(work, x);
    return predict(fit, x);
}

void pr_step_fit_apply(const pr_step_fit *fit, pr_cost_model *model)
{
    if (fit->leverage[1] > 0) {
        model->chunk_s = fit->constant[0];
        model->chunk_token_s = fit->constant[1];
        model->chunk_pair_s = fit->constant[2];
    }
    if (fit->leverage[3] > 0) {
        model->step_s = fit->constant[0];
        model->step_sequence_s = fit->constant[3];
        model->step_context_s = fit->constant[4];
    }
}

// ---- transfers ----

void pr_step_fit_transfer_begin(pr_step_fit *fit, const pr_cost_model *prior)
{
    double constant[2] = {0};
    if (prior) {
        constant[0] = prior->transfer_s;
        constant[1] = 1 / prior->transfer_bytes_per_s;
    }
    begin(fit, 2, constant);
}

void pr_step_fit_transfer_add(pr_step_fit *fit, int64_t bytes, double seconds)
{
    const double x[2] = {1, (double)bytes};
    if (seconds > 0 && bytes > 0)
        add(fit, x, seconds);
}

void pr_step_fit_transfer_apply(const pr_step_fit *fit, pr_cost_model *model)
{
    if (fit->observations == 0)
        return;
    model->transfer_s = fit->constant[0];
    if (fit->constant[1] > 0)
        model->transfer_bytes_per_s = 1 / fit->constant[1];
}
