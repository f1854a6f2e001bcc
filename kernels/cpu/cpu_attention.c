// SPDX-License-Identifier: BSD-3-Clause
// Drives attention: a task is some rows of one segment and one KV head.
#include "kernels/cpu/cpu_state.h"

// Query rows of a task, so that a prefill of one sequence keeps many threads busy.
enum { TASK_ROWS = 32 };

typedef struct attention {
    const pr_cpu_kernels *kernels;
    const pr_attention_args *args;
} attention;

static int32_t row_tasks(const pr_segment *segment)
{
    return (segment->rows + TASK_ROWS - 1) / TASK_ROWS;
}

// Longest first: the last rows of a segment see most.
static void attend_some(void *context, int64_t task, int32_t thread)
{
    const attention *a = context;
    const pr_segment *segment = a->args->segment;
    int32_t kv_heads = a->args->kv_heads;
    (void)thread;
    for (; task >= (int64_t)row_tasks(segment) * kv_heads; segment++)
        task -= (int64_t)row_tasks(segment) * kv_heads;
    int32_t part = row_tasks(segment) - 1 - (int32_t)(task / kv_heads);
    int32_t begin = part * TASK_ROWS, end = begin + TASK_ROWS;
    a->kernels->attend(
        a->args, segment, (int32_t)(task % kv_heads), begin,
        end < segment->rows ? end : segment->rows);
}

static void attend(pr_device *device, const pr_attention_args *args)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    attention a = {&state->kernels, args};
    int64_t tasks = 0;
    for (int32_t s = 0; s < args->segments; s++)
        tasks += (int64_t)row_tasks(&args->segment[s]) * args->kv_heads;
    pr_cpu_team_run(state->team, attend_some, &a, tasks);
}

void pr_cpu_attention_fill(pr_device *device) { device->attention = attend; }
