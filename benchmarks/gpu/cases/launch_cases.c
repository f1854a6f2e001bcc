// SPDX-License-Identifier: BSD-3-Clause
// The copy that other rows are held against, and what a launch costs by itself.
#include "benchmarks/gpu/cases/gpu_cases.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { COPY_BYTES = 1 << 30, COPY_BYTES_SMALL = 1 << 16, LAUNCHES = 1000, LAUNCHES_SMALL = 10 };
enum { ROUNDS = 9 };

typedef struct copy_case {
    pr_gpu_meter *meter;
    char *from, *to;
    size_t size_bytes;
} copy_case;

static void launch_copy(void *context, int32_t copy)
{
    copy_case *c = context;
    (void)copy;
    (void)c->meter->backend->copy(c->to, c->from, c->size_bytes, c->meter->stream);
}

pr_status pr_launch_cases_copy(pr_gpu_meter *meter)
{
    copy_case c = {.meter = meter, .size_bytes = meter->small ? COPY_BYTES_SMALL : COPY_BYTES};
    void *from, *to;
    double seconds;
    PR_TRY(pr_gpu_meter_bf16(meter, (int64_t)c.size_bytes / 2, &from));
    PR_TRY(pr_gpu_meter_zeros(meter, c.size_bytes, &to));
    c.from = from;
    c.to = to;
    pr_gpu_meter_work work = {.launch = launch_copy, .context = &c, .copies = 1};
    PR_TRY(pr_gpu_meter_time(meter, &work, &seconds));
    meter->copy_bytes_per_second = 2 * (double)c.size_bytes / seconds;
    pr_gpu_meter_row row = {
        .name = "device copy",
        .unit = "GB/s",
        .ours = meter->copy_bytes_per_second / 1e9,
        .seconds = seconds,
    };
    pr_gpu_meter_report(meter, &row);
    pr_gpu_meter_release(meter);
    return PR_OK;
}

static void launch_add(void *context, int32_t copy)
{
    copy_case *c = context;
    (void)copy;
    pr_gpu_add_args args = {.elements = 1, .x = (float *)c->to, .y = (const float *)c->from};
    c->meter->backend->operations->add(c->meter->stream, &args);
}

// From the host's first call to the end of the last kernel: what a chain of tiny kernels costs.
static pr_status time_host(pr_gpu_meter *meter, copy_case *c, double *seconds)
{
    double sample[ROUNDS];
    int32_t launches = meter->small ? LAUNCHES_SMALL : LAUNCHES;
    for (int32_t round = 0; round < ROUNDS; round++) {
        int64_t begin_ns = pr_clock_now_ns();
        for (int32_t i = 0; i < launches; i++)
            launch_add(c, 0);
        if (!meter->backend->wait(meter->stream))
            return pr_fail(PR_ERR_INTERNAL, "a launch failed: %s", meter->backend->error());
        sample[round] = (double)(pr_clock_now_ns() - begin_ns) / 1e9 / launches;
    }
    *seconds = pr_gpu_meter_median(sample, ROUNDS);
    return PR_OK;
}

pr_status pr_launch_cases_run(pr_gpu_meter *meter)
{
    copy_case c = {.meter = meter};
    float *from, *to;
    double seconds;
    if (!pr_gpu_meter_wants(meter, "launch alone") &&
        !pr_gpu_meter_wants(meter, "launch in a graph"))
        return PR_OK;
    PR_TRY(pr_gpu_meter_floats(meter, 64, &from));
    PR_TRY(pr_gpu_meter_floats(meter, 64, &to));
    c.from = (char *)from;
    c.to = (char *)to;
    PR_TRY(time_host(meter, &c, &seconds));
    pr_gpu_meter_row row = {
        .name = "launch alone", .unit = "us", .ours = seconds * 1e6, .seconds = seconds};
    pr_gpu_meter_report(meter, &row);
    pr_gpu_meter_work work = {.launch = launch_add, .context = &c, .copies = 1};
    PR_TRY(pr_gpu_meter_time(meter, &work, &seconds));
    row = (pr_gpu_meter_row){
        .name = "launch in a graph", .unit = "us", .ours = seconds * 1e6, .seconds = seconds};
    pr_gpu_meter_report(meter, &row);
    pr_gpu_meter_release(meter);
    return PR_OK;
}
