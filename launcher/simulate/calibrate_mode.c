// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/calibrate_mode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/virtual/calibration.h"
#include "runtime/base/log.h"

static pr_status read_run(const char *path, pr_recorded_run *run)
{
    FILE *events = fopen(path, "r");
    if (!events)
        return pr_fail(
            PR_ERR_NOT_FOUND, "cannot read the record %s: %s: make one with batch --record FILE",
            path, strerror(errno));
    pr_status status = pr_recorded_run_read(events, run);
    fclose(events);
    if (status == PR_OK && !run->complete)
        pr_log(PR_LOG_WARN, "the record has no end: the run that wrote it did not finish");
    return status;
}

// Settings of the run that were given now instead of taken from the record.
static int32_t change_settings(const pr_options *options, pr_scheduler_params *params)
{
    int32_t changes = 0;
    const struct {
        const char *name;
        int32_t *into, value;
    } setting[] = {
        {"max-num-seqs", &params->max_num_seqs, options->max_num_seqs},
        {"max-num-batched-tokens", &params->max_num_batched_tokens,
         options->max_num_batched_tokens},
        {"lease-steps", &params->lease_steps, options->lease_steps},
        {"kv-blocks", &params->kv_blocks, options->kv_blocks},
        {"max-model-len", &params->max_model_len, options->max_model_len},
    };
    for (size_t i = 0; i < sizeof setting / sizeof setting[0]; i++) {
        if (!pr_options_given(options, setting[i].name) || *setting[i].into == setting[i].value)
            continue;
        printf(
            "%s: %d instead of %d\n", setting[i].name, (int)setting[i].value,
            (int)*setting[i].into);
        *setting[i].into = setting[i].value;
        changes++;
    }
    if (pr_options_given(options, "enable-prefix-caching") &&
        options->enable_prefix_caching != params->prefix_caching) {
        params->prefix_caching = options->enable_prefix_caching;
        printf("prefix caching: %s\n", params->prefix_caching ? "on" : "off");
        changes++;
    }
    return changes;
}

static void print_fit(const pr_calibration *calibration)
{
    const pr_virtual_model *model = &calibration->model;
    for (pr_role role = PR_ROLE_MIXED; role <= PR_ROLE_DECODE; role++) {
        const pr_calibration_quality *quality = &calibration->quality[role];
        const pr_virtual_step *step = &model->step[role];
        if (quality->steps == 0)
            continue;
        const double *a = step->alone, *c = step->crowded;
        printf(
            "%-7s alone  %.3g ms + %.3g us/row + %.3g ns/pair + %.3g us/sequence + %.3g ns/key\n",
            pr_role_name(role), a[0] * 1e3, a[1] * 1e6, a[2] * 1e9, a[3] * 1e6, a[4] * 1e9);
        printf(
            "        crowd  %.3g ms + %.3g us/row + %.3g ns/pair + %.3g us/sequence + %.3g "
            "ns/key\n",
            c[0] * 1e3, c[1] * 1e6, c[2] * 1e9, c[3] * 1e6, c[4] * 1e9);
        printf(
            "               %lld steps, R2 %.3f, error p50 %.1f %%, p99 %.0f %%\n",
            (long long)quality->steps, quality->r2, quality->error_p50 * 100,
            quality->error_p99 * 100);
    }
    printf("crowd          per rank in a step beyond %.0f\n", model->cores);
    printf(
        "waits          message %.3f ms, between steps %.3f ms, transfer %.3f ms + %.2f "
        "us/block + %d boundaries\n",
        (double)model->message_ns * 1e-6, (double)model->gap_ns * 1e-6, model->transfer_s * 1e3,
        model->transfer_block_s * 1e6, (int)model->transfer_boundaries);
}

static void print_row(const char *name, double recorded, double predicted)
{
    printf("%-22s %12.4g %12.4g %8.3f\n", name, recorded, predicted, predicted / recorded);
}

static void print_comparison(const pr_run_summary *recorded, const pr_run_summary *predicted)
{
    const pr_run_summary *r = recorded, *p = predicted;
    printf("\n%-22s %12s %12s %8s\n", "", "recorded", "predicted", "ratio");
    print_row("TTFT mean, ms", r->ttft_s.mean * 1e3, p->ttft_s.mean * 1e3);
    print_row("TTFT p50, ms", r->ttft_s.p50 * 1e3, p->ttft_s.p50 * 1e3);
    print_row("TTFT p99, ms", r->ttft_s.p99 * 1e3, p->ttft_s.p99 * 1e3);
    print_row("TBT mean, ms", r->tbt_s.mean * 1e3, p->tbt_s.mean * 1e3);
    print_row("TBT p50, ms", r->tbt_s.p50 * 1e3, p->tbt_s.p50 * 1e3);
    print_row("TBT p99, ms", r->tbt_s.p99 * 1e3, p->tbt_s.p99 * 1e3);
    print_row("latency mean, ms", r->latency_s.mean * 1e3, p->latency_s.mean * 1e3);
    print_row("output tokens/s", r->outputs_per_s, p->outputs_per_s);
    print_row("prefix hits, tokens", (double)r->hit_tokens, (double)p->hit_tokens);
    print_row("requests answered", (double)r->ended, (double)p->ended);
}

static pr_status predict(const pr_options *options, pr_recorded_run *run)
{
    pr_calibration calibration;
    pr_scheduler_params params = run->params;
    pr_run_measure measure = {0};
    pr_run_summary recorded, predicted;
    pr_virtual_result result;
    pr_virtual_run_params virtual_run = {
        .scheduler = &params,
        .load = &run->load,
        .model = &calibration.model,
    };
    pr_status status;
    PR_TRY_GOTO(pr_calibration_fit(run, &calibration), free);
    print_fit(&calibration);
    change_settings(options, &params);
    PR_TRY_GOTO(pr_virtual_run(&virtual_run, &measure, &result), free);
    PR_TRY_GOTO(pr_run_measure_sum_up(&run->measure, &recorded), free);
    PR_TRY_GOTO(pr_run_measure_sum_up(&measure, &predicted), free);
    print_comparison(&recorded, &predicted);
    printf("decision hash %016llx\n", (unsigned long long)result.hash);

free:
    pr_run_measure_free(&measure);
    return status;
}

int pr_calibrate_mode(const pr_options *options)
{
    pr_recorded_run *run = calloc(1, sizeof *run);
    pr_status status = run ? read_run(options->calibrate, run)
                           : pr_fail(PR_ERR_RESOURCE, "no memory for a record");
    if (status == PR_OK)
        status = predict(options, run);
    if (run)
        pr_recorded_run_free(run);
    free(run);
    return pr_exit_code(status);
}
