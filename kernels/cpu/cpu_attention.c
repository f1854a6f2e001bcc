// SPDX-License-Identifier: BSD-3-Clause
// Drives attention: a task is some rows of one segment and one KV head.
//
// Segments go in order of their length, longest first, so that no thread begins the longest task when the
// others end. Within a segment the heads follow each other, so that the threads share K and V of one or two
// of them in the last cache; of a head the last rows come first, which see most.
#include "kernels/cpu/cpu_state.h"

enum {
    TASK_QUERIES = 64,   // enough for the bytes of K and V to cost nothing
    FEWEST_QUERIES = 8,  // still share a pass over K and V
    TASKS_PER_THREAD = 4,
    ROUND_SEGMENTS = 1024,
    LENGTHS = 32,  // powers of two
};

typedef struct attention {
    const pr_cpu_kernels *kernels;
    const pr_attention_args *args;
    int32_t task_rows, segments;
    int32_t order[ROUND_SEGMENTS];           // segments, the longest first
    int64_t first_task[ROUND_SEGMENTS + 1];  // [segments + 1] in that order
} attention;

static int64_t parts_of(const pr_segment *segment, int32_t task_rows)
{
    return (segment->rows + task_rows - 1) / task_rows;
}

static int32_t length_of(const pr_segment *segment)
{
    int32_t positions = segment->start_position + segment->rows;
    return positions <= 1 ? 0 : LENGTHS - 1 - __builtin_clz((unsigned)positions);
}

// As long as there are few tasks they get fewer rows.
static int32_t choose_task_rows(const pr_attention_args *args, int32_t threads)
{
    int32_t group = args->query_heads / args->kv_heads;
    int32_t rows = TASK_QUERIES / group > 0 ? TASK_QUERIES / group : 1;
    for (; threads > 1 && rows > 1 && rows / 2 * group >= FEWEST_QUERIES; rows /= 2) {
        int64_t tasks = 0;
        for (int32_t s = 0; s < args->segments; s++)
            tasks += parts_of(&args->segment[s], rows) * args->kv_heads;
        if (tasks >= (int64_t)TASKS_PER_THREAD * threads)
            break;
    }
    return rows;
}

static void attend_some(void *context, int64_t task, int32_t thread)
{
    const attention *a = context;
    int32_t place = pr_cpu_task_owner(a->first_task, a->segments, task);
    (void)thread;
    const pr_segment *segment = &a->args->segment[a->order[place]];
    int64_t parts = parts_of(segment, a->task_rows);
    task -= a->first_task[place];
    int32_t begin = (int32_t)(parts - 1 - task % parts) * a->task_rows, end = begin + a->task_rows;
    a->kernels->attend(
        a->args, segment, (int32_t)(task / parts), begin,
        end < segment->rows ? end : segment->rows);
}

// Sorts by length: a count for every power of two, then places.
static void sort_segments(attention *a)
{
    const pr_segment *segment = a->args->segment;
    int32_t place[LENGTHS] = {0};
    for (int32_t s = 0; s < a->segments; s++) {
        for (int32_t length = 0; length < length_of(&segment[s]); length++)
            place[length]++;
    }
    for (int32_t s = 0; s < a->segments; s++)
        a->order[place[length_of(&segment[s])]++] = s;
    a->first_task[0] = 0;
    for (int32_t i = 0; i < a->segments; i++)
        a->first_task[i + 1] =
            a->first_task[i] + parts_of(&segment[a->order[i]], a->task_rows) * a->args->kv_heads;
}

static void attend(pr_device *device, const pr_attention_args *args)
{
    pr_cpu_state *state = pr_cpu_state_of(device);
    pr_attention_args round = *args;
    attention a;  // not initialised as a whole: it is large
    a.kernels = &state->kernels;
    a.args = &round;
    a.task_rows = choose_task_rows(args, pr_cpu_team_threads(state->team));
    for (int32_t done = 0; done < args->segments; done += a.segments) {
        int32_t left = args->segments - done;
        a.segments = left < ROUND_SEGMENTS ? left : ROUND_SEGMENTS;
        round.segment = args->segment + done;
        round.segments = a.segments;
        sort_segments(&a);
        pr_cpu_team_run(state->team, attend_some, &a, a.first_task[a.segments]);
    }
}

void pr_cpu_attention_fill(pr_device *device) { device->attention = attend; }
