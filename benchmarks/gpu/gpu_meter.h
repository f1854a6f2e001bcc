// SPDX-License-Identifier: BSD-3-Clause
// Times what a case puts into a stream, and writes its row: memory of one case, random data, launches that take
// turns through more bytes than the cache holds, medians.
//
// Threads: one. Errors: what the back end refuses ends the case with PR_ERR_RESOURCE or PR_ERR_INTERNAL.
#ifndef PR_BENCHMARKS_GPU_GPU_METER_H
#define PR_BENCHMARKS_GPU_GPU_METER_H

#include <stdio.h>

#include "kernels/gpu/gpu_backend.h"
#include "runtime/base/status.h"

enum {
    PR_GPU_METER_MOST_MEMORIES = 64,
    PR_GPU_METER_MOST_REPEATS = 64,
    PR_GPU_METER_MOST_COPIES = 64
};

typedef struct pr_gpu_meter {
    const pr_gpu_backend *backend;
    pr_gpu_facts facts;
    pr_gpu_stream *stream;
    pr_gpu_event *begin, *end;
    bool small;  // tiny shapes: shows that a case runs, not how fast
    int32_t repeats;
    double sample_seconds;  // least work between two events
    const char *only;       // rows whose names have it in them; NULL: all
    FILE *out;              // JSON lines
    double copy_bytes_per_second;
    void *memory[PR_GPU_METER_MOST_MEMORIES];  // of this case
    int32_t memories;
    void *random_floats, *random_bf16;  // a block of each, on the device
} pr_gpu_meter;

// Which of the copies of its data a launch takes: 0..copies-1, in turn.
typedef void (*pr_gpu_meter_launch)(void *context, int32_t copy);

typedef struct pr_gpu_meter_work {
    pr_gpu_meter_launch launch;
    void *context;
    int32_t copies;
} pr_gpu_meter_work;

typedef enum pr_gpu_meter_limit {
    PR_GPU_LIMIT_NONE,
    PR_GPU_LIMIT_COPY,   // GB/s of a large copy, measured here
    PR_GPU_LIMIT_DENSE,  // TFLOP/s of a large matmul, filled in by report.py from peer.py's
    PR_GPU_LIMIT_VALUE,  // `limit` itself
} pr_gpu_meter_limit;

typedef struct pr_gpu_meter_row {
    const char *name;
    const char *unit;  // "GB/s", "TFLOP/s": more is better; "us": less is
    double ours;
    pr_gpu_meter_limit limited_by;
    double limit;            // for PR_GPU_LIMIT_VALUE
    double target_fraction;  // of the limit, 0: none
    double target;           // in the unit, 0: none
    double seconds;          // of one launch
} pr_gpu_meter_row;

pr_status pr_gpu_meter_open(pr_gpu_meter *meter, const char *device) PR_MUST_CHECK;
void pr_gpu_meter_close(pr_gpu_meter *meter);

// Whether a row of this name is wanted.
bool pr_gpu_meter_wants(const pr_gpu_meter *meter, const char *name);

// Memory of this case, until pr_gpu_meter_release.
pr_status pr_gpu_meter_zeros(pr_gpu_meter *meter, size_t size_bytes, void **memory) PR_MUST_CHECK;
pr_status pr_gpu_meter_floats(pr_gpu_meter *meter, int64_t elements, float **memory) PR_MUST_CHECK;
pr_status pr_gpu_meter_bf16(pr_gpu_meter *meter, int64_t elements, void **memory) PR_MUST_CHECK;
pr_status pr_gpu_meter_put(pr_gpu_meter *meter, const void *from, size_t size_bytes, void **memory)
    PR_MUST_CHECK;
// Host: 0..count-1 in random order.
void pr_gpu_meter_shuffle(int32_t *order, int32_t count);
// The same on the device.
pr_status pr_gpu_meter_shuffled(pr_gpu_meter *meter, int32_t count, int32_t **memory) PR_MUST_CHECK;
// Host numbers below `bound` that are all different within each `group`.
void pr_gpu_meter_choose(int32_t *chosen, int32_t groups, int32_t group, int32_t bound);
void pr_gpu_meter_release(pr_gpu_meter *meter);

// How many copies of data of which one launch reads and writes so many bytes defeat the cache.
int32_t pr_gpu_meter_copies(const pr_gpu_meter *meter, double launch_bytes);

// Median seconds of one launch. Launches are recorded as a graph where the back end can, as decode steps are.
pr_status pr_gpu_meter_time(pr_gpu_meter *meter, const pr_gpu_meter_work *work, double *seconds)
    PR_MUST_CHECK;

// Sorts them.
double pr_gpu_meter_median(double *seconds, int32_t count);

void pr_gpu_meter_report(pr_gpu_meter *meter, const pr_gpu_meter_row *row);
// The two usual kinds of row.
void pr_gpu_meter_bandwidth(
    pr_gpu_meter *meter, const char *name, double bytes, double seconds, double target_fraction);
void pr_gpu_meter_arithmetic(pr_gpu_meter *meter, const pr_gpu_meter_row *row, double operations);

#endif
