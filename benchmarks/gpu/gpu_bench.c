// SPDX-License-Identifier: BSD-3-Clause
// Times the kernels of a GPU back end, each operation of gpu_operations.h, and writes one JSON line a row; what
// benchmarks/gpu/run.sh runs.
//
//   gpu_bench [--device cuda|hip|emulated|emulated64] [--out FILE] [--only TEXT] [--repeats N] [--small]
//
// --only: rows that have TEXT in their names. --small: tiny shapes, to see that every case runs. Lines are appended
// as they come, so those of a run that was cut short are kept.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/gpu/cases/gpu_cases.h"
#include "runtime/base/log.h"

enum { REPEATS = 11, REPEATS_SMALL = 3 };

typedef struct case_group {
    const char *name;
    pr_status (*run)(pr_gpu_meter *meter);
} case_group;

static const case_group groups[] = {
    {"launch", pr_launch_cases_run},       {"rows", pr_row_cases_run},
    {"routing", pr_routing_cases_run},     {"pages", pr_page_cases_run},
    {"attention", pr_attention_cases_run}, {"matrices", pr_matrix_cases_run},
    {"tokens", pr_token_cases_run},        {"exchange", pr_exchange_cases_run},
};

static pr_status usage(const char *text)
{
    return pr_fail(
        PR_ERR_ARGUMENT,
        "%s: gpu_bench [--device NAME] [--out FILE] [--only TEXT] [--repeats N] [--small]", text);
}

typedef struct bench_options {
    const char *device, *out;
} bench_options;

static pr_status parse_options(int argc, char **argv, pr_gpu_meter *meter, bench_options *options)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--small")) {
            meter->small = true;
            continue;
        }
        if (i + 1 == argc)
            return usage(argv[i]);
        const char *value = argv[i + 1];
        if (!strcmp(argv[i], "--device"))
            options->device = value;
        else if (!strcmp(argv[i], "--out"))
            options->out = value;
        else if (!strcmp(argv[i], "--only"))
            meter->only = value;
        else if (!strcmp(argv[i], "--repeats"))
            meter->repeats = atoi(value);
        else
            return usage(argv[i]);
        i++;
    }
    if (!meter->repeats)
        meter->repeats = meter->small ? REPEATS_SMALL : REPEATS;
    if (meter->repeats < 1 || meter->repeats > PR_GPU_METER_MOST_REPEATS)
        return usage("--repeats is 1 to 64");
    meter->sample_seconds = meter->small ? 0 : 2e-3;
    return PR_OK;
}

static void print_facts(pr_gpu_meter *meter)
{
    fprintf(
        meter->out,
        "{\"device\": \"%s\", \"architecture\": \"%s\", \"multiprocessors\": %d, \"warp\": %d, "
        "\"memory_bytes\": %lld, \"cache_bytes\": %lld, \"backend\": \"%s\", \"compiled\": "
        "\"%s\"}\n",
        meter->facts.name, meter->facts.architecture, meter->facts.multiprocessors,
        meter->facts.warp, (long long)meter->facts.memory_bytes,
        (long long)meter->facts.cache_bytes, meter->backend->name, meter->backend->compiled);
}

// A group that fails has said why; the others go on.
static pr_status run_groups(pr_gpu_meter *meter)
{
    pr_status first = PR_OK;
    PR_TRY(pr_launch_cases_copy(meter));
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        pr_status status = groups[i].run(meter);
        pr_gpu_meter_release(meter);
        if (status == PR_OK)
            continue;
        pr_log(PR_LOG_WARN, "the rest of the rows of group %s is missing", groups[i].name);
        if (first == PR_OK)
            first = status;
    }
    return first;
}

int main(int argc, char **argv)
{
    pr_gpu_meter meter = {.out = stdout};
    bench_options options = {.device = "cuda"};
    if (parse_options(argc, argv, &meter, &options) != PR_OK)
        return 2;
    if (options.out && !(meter.out = fopen(options.out, "a"))) {
        (void)pr_fail(PR_ERR_IO, "%s: %s", options.out, strerror(errno));
        return 1;
    }
    pr_status status = pr_gpu_meter_open(&meter, options.device);
    if (status == PR_OK) {
        print_facts(&meter);
        status = run_groups(&meter);
    }
    pr_gpu_meter_close(&meter);
    if (options.out && fclose(meter.out) != 0 && status == PR_OK)
        status = pr_fail(PR_ERR_IO, "%s: %s", options.out, strerror(errno));
    return status == PR_OK ? 0 : 1;
}
