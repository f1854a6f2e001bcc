// SPDX-License-Identifier: BSD-3-Clause
#include "benchmarks/gpu/gpu_meter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu/gpu_library.h"
#include "runtime/base/dtype.h"
#include "runtime/base/log.h"

enum {
    RANDOM_BYTES = 16 << 20,
    RANDOM_BYTES_SMALL = 1 << 16,
    MOST_LAUNCHES = 1024,
    WARM_UP_LAUNCHES = 3
};
static const double BYTES_PER_GB = 1e9, OPERATIONS_PER_TFLOP = 1e12;

static pr_status refused(const pr_gpu_meter *meter, const char *what)
{
    return pr_fail(
        PR_ERR_INTERNAL, "%s: %s was refused: %s", meter->backend->name, what,
        meter->backend->error());
}

// ---- Random data ----

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 11;
}

static size_t random_bytes(const pr_gpu_meter *meter)
{
    return meter->small ? RANDOM_BYTES_SMALL : RANDOM_BYTES;
}

// One block of each type on the device; memory of any size is filled from it.
static pr_status make_random(pr_gpu_meter *meter)
{
    size_t size_bytes = random_bytes(meter), floats = size_bytes / sizeof(float);
    uint64_t state = 1;
    float *f32 = malloc(size_bytes);
    uint16_t *bf16 = malloc(size_bytes);
    pr_status status = PR_ERR_RESOURCE;
    if (f32 && bf16) {
        for (size_t i = 0; i < floats; i++)
            f32[i] = (float)((double)next_random(&state) * 0x1p-52 - 1.0);
        for (size_t i = 0; i < 2 * floats; i++)
            bf16[i] = pr_f32_to_bf16((float)((double)next_random(&state) * 0x1p-52 - 1.0));
        status = pr_gpu_meter_put(meter, f32, size_bytes, &meter->random_floats);
        if (status == PR_OK)
            status = pr_gpu_meter_put(meter, bf16, size_bytes, &meter->random_bf16);
    } else {
        status = pr_fail(PR_ERR_RESOURCE, "no host memory for random data");
    }
    free(f32);
    free(bf16);
    meter->memories = 0;  // these two stay until the end
    return status;
}

static pr_status
fill_random(pr_gpu_meter *meter, const void *random, size_t size_bytes, void **memory)
{
    PR_TRY(pr_gpu_meter_zeros(meter, size_bytes, memory));
    size_t block = random_bytes(meter);
    for (size_t done = 0; done < size_bytes; done += block) {
        size_t left = size_bytes - done;
        if (!meter->backend->copy(
                (char *)*memory + done, random, left < block ? left : block, meter->stream))
            return refused(meter, "a copy");
    }
    return PR_OK;
}

// ---- Opening ----

pr_status pr_gpu_meter_open(pr_gpu_meter *meter, const char *device)
{
    PR_TRY(pr_gpu_library_open(device, &meter->backend));
    const pr_gpu_backend *backend = meter->backend;
    if (backend->devices() < 1)
        return pr_fail(PR_ERR_NOT_FOUND, "%s: no device: %s", device, backend->error());
    if (!backend->use(0) || !backend->facts(0, &meter->facts))
        return refused(meter, "device 0");
    meter->stream = backend->stream_create();
    meter->begin = backend->event_create(true);
    meter->end = backend->event_create(true);
    if (!meter->stream || !meter->begin || !meter->end)
        return refused(meter, "a stream or an event");
    return make_random(meter);
}

void pr_gpu_meter_close(pr_gpu_meter *meter)
{
    const pr_gpu_backend *backend = meter->backend;
    if (!backend)
        return;
    pr_gpu_meter_release(meter);
    if (meter->random_floats)
        backend->memory_release(meter->random_floats);
    if (meter->random_bf16)
        backend->memory_release(meter->random_bf16);
    if (meter->begin)
        backend->event_destroy(meter->begin);
    if (meter->end)
        backend->event_destroy(meter->end);
    if (meter->stream)
        backend->stream_destroy(meter->stream);
}

bool pr_gpu_meter_wants(const pr_gpu_meter *meter, const char *name)
{
    return !meter->only || strstr(name, meter->only);
}

// ---- Memory ----

pr_status pr_gpu_meter_zeros(pr_gpu_meter *meter, size_t size_bytes, void **memory)
{
    if (meter->memories == PR_GPU_METER_MOST_MEMORIES)
        return pr_fail(PR_ERR_INTERNAL, "a case takes more than %d memories", meter->memories);
    void *taken = meter->backend->memory_take(size_bytes ? size_bytes : 1);
    if (!taken)
        return pr_fail(
            PR_ERR_RESOURCE, "%s: no %zu bytes: %s", meter->backend->name, size_bytes,
            meter->backend->error());
    meter->memory[meter->memories++] = taken;
    *memory = taken;
    return PR_OK;
}

pr_status pr_gpu_meter_floats(pr_gpu_meter *meter, int64_t elements, float **memory)
{
    void *taken = NULL;
    PR_TRY(fill_random(meter, meter->random_floats, (size_t)elements * sizeof(float), &taken));
    *memory = taken;
    return PR_OK;
}

pr_status pr_gpu_meter_bf16(pr_gpu_meter *meter, int64_t elements, void **memory)
{
    return fill_random(meter, meter->random_bf16, (size_t)elements * sizeof(uint16_t), memory);
}

pr_status pr_gpu_meter_put(pr_gpu_meter *meter, const void *from, size_t size_bytes, void **memory)
{
    PR_TRY(pr_gpu_meter_zeros(meter, size_bytes, memory));
    if (!meter->backend->copy(*memory, from, size_bytes, meter->stream) ||
        !meter->backend->wait(meter->stream))
        return refused(meter, "a copy to the device");
    return PR_OK;
}

void pr_gpu_meter_shuffle(int32_t *order, int32_t count)
{
    uint64_t state = 7;
    for (int32_t i = 0; i < count; i++) {
        int32_t j = (int32_t)(next_random(&state) % (uint64_t)(i + 1));
        order[i] = order[j];
        order[j] = i;
    }
}

pr_status pr_gpu_meter_shuffled(pr_gpu_meter *meter, int32_t count, int32_t **memory)
{
    int32_t *order = malloc((size_t)count * sizeof *order);
    void *taken = NULL;
    if (!order)
        return pr_fail(PR_ERR_RESOURCE, "no host memory for an order of %d", count);
    pr_gpu_meter_shuffle(order, count);
    pr_status status = pr_gpu_meter_put(meter, order, (size_t)count * sizeof *order, &taken);
    free(order);
    *memory = taken;
    return status;
}

static bool is_among(const int32_t *chosen, int32_t count, int32_t value)
{
    for (int32_t i = 0; i < count; i++) {
        if (chosen[i] == value)
            return true;
    }
    return false;
}

void pr_gpu_meter_choose(int32_t *chosen, int32_t groups, int32_t group, int32_t bound)
{
    uint64_t state = 11;
    for (int32_t g = 0; g < groups; g++) {
        int32_t *row = chosen + (size_t)g * (size_t)group;
        for (int32_t i = 0; i < group; i++) {
            do {
                row[i] = (int32_t)(next_random(&state) % (uint64_t)bound);
            } while (is_among(row, i, row[i]));
        }
    }
}

void pr_gpu_meter_release(pr_gpu_meter *meter)
{
    while (meter->memories > 0)
        meter->backend->memory_release(meter->memory[--meter->memories]);
}

// ---- Time ----

int32_t pr_gpu_meter_copies(const pr_gpu_meter *meter, double launch_bytes)
{
    if (meter->small)
        return 2;
    double copies = ceil(3 * (double)meter->facts.cache_bytes / launch_bytes) + 1;
    return copies > PR_GPU_METER_MOST_COPIES ? PR_GPU_METER_MOST_COPIES : (int32_t)copies;
}

static void put_launches(const pr_gpu_meter_work *work, int32_t launches)
{
    for (int32_t i = 0; i < launches; i++)
        work->launch(work->context, i % work->copies);
}

// Seconds of so many launches, by the graph if there is one.
static pr_status time_once(
    pr_gpu_meter *meter,
    const pr_gpu_meter_work *work,
    pr_gpu_graph *graph,
    int32_t launches,
    double *seconds)
{
    const pr_gpu_backend *backend = meter->backend;
    if (!backend->event_record(meter->begin, meter->stream))
        return refused(meter, "an event");
    if (graph) {
        if (!backend->graph_run(graph, meter->stream))
            return refused(meter, "a graph");
    } else {
        put_launches(work, launches);
    }
    if (!backend->event_record(meter->end, meter->stream) || !backend->wait(meter->stream))
        return refused(meter, "a launch");
    *seconds = (double)backend->event_ms(meter->begin, meter->end) / 1e3;
    return PR_OK;
}

static int compare_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double pr_gpu_meter_median(double *seconds, int32_t count)
{
    qsort(seconds, (size_t)count, sizeof *seconds, compare_seconds);
    return seconds[count / 2];
}

static int32_t launches_of(const pr_gpu_meter *meter, int32_t copies, double seconds)
{
    double wanted = seconds > 0 ? ceil(meter->sample_seconds / seconds) : MOST_LAUNCHES;
    int32_t launches = wanted < MOST_LAUNCHES ? (int32_t)wanted : MOST_LAUNCHES;
    if (launches < copies && !meter->small)
        launches = copies;  // each copy is away for as long as all others take
    return launches > 0 ? launches : 1;
}

static pr_gpu_graph *
record_graph(pr_gpu_meter *meter, const pr_gpu_meter_work *work, int32_t launches)
{
    if (!meter->backend->graph_begin(meter->stream))
        return NULL;
    put_launches(work, launches);
    return meter->backend->graph_end(meter->stream);
}

pr_status pr_gpu_meter_time(pr_gpu_meter *meter, const pr_gpu_meter_work *work, double *seconds)
{
    double sample[PR_GPU_METER_MOST_REPEATS], once;
    int32_t warm_up = meter->small ? 1 : WARM_UP_LAUNCHES;
    PR_TRY(time_once(meter, work, NULL, warm_up, &once));
    PR_TRY(time_once(meter, work, NULL, warm_up, &once));
    int32_t launches = launches_of(meter, work->copies, once / warm_up);
    pr_gpu_graph *graph = record_graph(meter, work, launches);
    pr_status status = PR_OK;
    if (graph)
        status = time_once(meter, work, graph, launches, &once);
    for (int32_t i = 0; status == PR_OK && i < meter->repeats; i++)
        status = time_once(meter, work, graph, launches, &sample[i]);
    if (graph)
        meter->backend->graph_destroy(graph);
    PR_TRY(status);
    *seconds = pr_gpu_meter_median(sample, meter->repeats) / launches;
    return PR_OK;
}

// ---- Rows ----

static void print_number(FILE *out, const char *key, double value)
{
    if (value > 0 && isfinite(value))
        fprintf(out, ", \"%s\": %.6g", key, value);
    else
        fprintf(out, ", \"%s\": null", key);
}

void pr_gpu_meter_report(pr_gpu_meter *meter, const pr_gpu_meter_row *row)
{
    static const char *const names[] = {"none", "copy", "dense", "value"};
    double limit = row->limited_by == PR_GPU_LIMIT_COPY
                       ? meter->copy_bytes_per_second / BYTES_PER_GB
                       : row->limit;
    bool less_is_better = !strcmp(row->unit, "us");
    double fraction = 0;
    if (limit > 0)
        fraction = less_is_better ? limit / row->ours : row->ours / limit;
    FILE *out = meter->out;
    fprintf(out, "{\"name\": \"%s\", \"unit\": \"%s\"", row->name, row->unit);
    print_number(out, "ours", row->ours);
    fprintf(out, ", \"peer\": null");
    print_number(out, "limit", limit);
    print_number(out, "fraction", fraction);
    fprintf(out, ", \"limited_by\": \"%s\"", names[row->limited_by]);
    print_number(out, "target_fraction", row->target_fraction);
    print_number(out, "target", row->target);
    print_number(out, "seconds", row->seconds);
    fprintf(out, ", \"small\": %s}\n", meter->small ? "true" : "false");
    fflush(out);
}

void pr_gpu_meter_bandwidth(
    pr_gpu_meter *meter, const char *name, double bytes, double seconds, double target_fraction)
{
    pr_gpu_meter_row row = {
        .name = name,
        .unit = "GB/s",
        .ours = bytes / seconds / BYTES_PER_GB,
        .limited_by = PR_GPU_LIMIT_COPY,
        .target_fraction = target_fraction,
        .seconds = seconds,
    };
    pr_gpu_meter_report(meter, &row);
}

void pr_gpu_meter_arithmetic(pr_gpu_meter *meter, const pr_gpu_meter_row *row, double operations)
{
    pr_gpu_meter_row filled = *row;
    filled.unit = "TFLOP/s";
    filled.ours = operations / row->seconds / OPERATIONS_PER_TFLOP;
    filled.limited_by = PR_GPU_LIMIT_DENSE;
    pr_gpu_meter_report(meter, &filled);
}
