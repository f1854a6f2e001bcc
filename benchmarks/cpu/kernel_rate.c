// SPDX-License-Identifier: BSD-3-Clause
// GFLOP/s and GB/s of pr_device.matmul for each type of weights, beside the float32 matmuls of OpenBLAS,
// BLIS and oneDNN, alternating. One JSON line for each shape, number of rows and type.
//
//   kernel_rate [--threads N] [--isa NAME] [--types BF16,F16,F32,int8,int4] [--quick]
//
// Every call takes another copy of the weights, 256 MB in all: they come from memory, as in a model.
// Between two candidates the processor is left alone until the other's threads sleep.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "benchmarks/cpu/blas_library.h"
#include "kernels/cpu/cpu_device.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { TYPES = 5, CANDIDATES = TYPES + PR_BLAS_LIBRARIES, MOST_ROWS = 512, MOST_ROUNDS = 5 };
enum { MOST_COPIES = 128, SETTLE_MS = 30 };
static const int64_t WEIGHTS_BYTES = (int64_t)256 << 20;

typedef struct weight_type {
    const char *name;
    pr_dtype dtype;
    pr_quantization quantization;
} weight_type;

static const weight_type types[TYPES] = {
    {"BF16", PR_BF16, PR_QUANTIZATION_NONE}, {"F16", PR_F16, PR_QUANTIZATION_NONE},
    {"F32", PR_F32, PR_QUANTIZATION_NONE},   {"int8", PR_BF16, PR_QUANTIZATION_INT8},
    {"int4", PR_BF16, PR_QUANTIZATION_INT4},
};

typedef struct rate_shape {
    const char *name;
    int32_t outputs, cols, slices;
    int32_t most_rows;
} rate_shape;

static const rate_shape shapes[] = {
    {"4096x4096", 4096, 4096, 1, 512},
    {"q 2048x1024", 2048, 1024, 1, 512},
    {"o 1024x2048", 1024, 2048, PR_SLICES, 512},
    {"gate 3072x1024", 3072, 1024, 1, 512},
    {"down 1024x3072", 1024, 3072, PR_SLICES, 512},
    {"head 151936x1024", 151936, 1024, 1, 32},
};
static const int32_t row_counts[] = {1, 8, 32, 128, 512};

typedef struct rate_bench {
    pr_device *device;
    pr_blas_library *library;
    bool wanted[TYPES];
    int32_t rounds;
    int64_t sample_ns;
    const rate_shape *shape;
    int32_t rows, copies[CANDIDATES];
    pr_matrix *matrix[TYPES][MOST_COPIES];
    float *weight;  // [copies][outputs][cols] for the libraries, and what ours is made from
    float *x, *y;
    double seconds[CANDIDATES][MOST_ROUNDS];  // of one call
} rate_bench;

// ---- Weights ----

static float random_float(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) * 0x1p-52 - 1.0);
}

static int32_t copies_of(const rate_shape *shape, double element_bytes)
{
    double bytes = (double)shape->outputs * shape->cols * element_bytes;
    int32_t copies = (int32_t)ceil((double)WEIGHTS_BYTES / bytes);
    return copies < MOST_COPIES ? copies : MOST_COPIES;
}

static double element_bytes(const rate_bench *bench, int32_t type)
{
    const rate_shape *shape = bench->shape;
    size_t bytes = bench->device->matrix_bytes(
        shape->outputs, shape->cols, types[type].dtype, types[type].quantization);
    return (double)bytes / shape->outputs / shape->cols;
}

// The first copy of the float weights as a matrix of that type, as often as needed.
static pr_status make_matrices(rate_bench *bench, int32_t type)
{
    const rate_shape *shape = bench->shape;
    size_t elements = (size_t)shape->outputs * (size_t)shape->cols;
    void *stored = malloc(elements * sizeof(float));
    if (!stored)
        return pr_fail(PR_ERR_RESOURCE, "no memory for weights of %s", shape->name);
    for (size_t i = 0; i < elements; i++) {
        if (types[type].dtype == PR_F32)
            ((float *)stored)[i] = bench->weight[i];
        else if (types[type].dtype == PR_BF16)
            ((uint16_t *)stored)[i] = pr_f32_to_bf16(bench->weight[i]);
        else
            ((uint16_t *)stored)[i] = (uint16_t)(0x3000 + i % 1024);  // 0.125 to 0.25
    }
    pr_matrix_source source = {
        .data = stored,
        .dtype = types[type].dtype,
        .stride = shape->cols,
        .row_end = shape->outputs,
        .col_end = shape->cols,
        .slices = shape->slices,
        .quantization = types[type].quantization,
    };
    bench->copies[type] = copies_of(shape, element_bytes(bench, type));
    pr_status status = PR_OK;
    for (int32_t i = 0; status == PR_OK && i < bench->copies[type]; i++)
        status = bench->device->matrix_create(bench->device, &source, &bench->matrix[type][i]);
    free(stored);
    return status;
}

static pr_status take_shape(rate_bench *bench, const rate_shape *shape)
{
    size_t elements = (size_t)shape->outputs * (size_t)shape->cols;
    int32_t copies = copies_of(shape, sizeof(float));
    uint64_t state = 1;
    bench->shape = shape;
    bench->weight = malloc(elements * (size_t)copies * sizeof(float));
    bench->x = malloc((size_t)MOST_ROWS * (size_t)shape->cols * sizeof(float));
    bench->y = malloc((size_t)shape->most_rows * (size_t)shape->outputs * sizeof(float));
    if (!bench->weight || !bench->x || !bench->y)
        return pr_fail(PR_ERR_RESOURCE, "no memory for weights of %s", shape->name);
    for (size_t i = 0; i < elements; i++)
        bench->weight[i] = random_float(&state);
    for (int32_t i = 1; i < copies; i++)
        memcpy(bench->weight + (size_t)i * elements, bench->weight, elements * sizeof(float));
    for (size_t i = 0; i < (size_t)MOST_ROWS * (size_t)shape->cols; i++)
        bench->x[i] = random_float(&state);
    for (int32_t i = TYPES; i < CANDIDATES; i++)
        bench->copies[i] = copies;
    PR_TRY(bench->device->reserve(bench->device, shape->most_rows, shape->cols, 0));
    for (int32_t type = 0; type < TYPES; type++) {
        if (bench->wanted[type])
            PR_TRY(make_matrices(bench, type));
    }
    return PR_OK;
}

static void release_shape(rate_bench *bench)
{
    for (int32_t type = 0; type < TYPES; type++) {
        for (int32_t i = 0; i < MOST_COPIES; i++) {
            if (bench->matrix[type][i])
                bench->device->matrix_destroy(bench->device, bench->matrix[type][i]);
            bench->matrix[type][i] = NULL;
        }
    }
    free(bench->weight);
    free(bench->x);
    free(bench->y);
    bench->weight = bench->x = bench->y = NULL;
}

// ---- Timing ----

static bool is_wanted(const rate_bench *bench, int32_t candidate)
{
    return candidate < TYPES ? bench->wanted[candidate]
                             : bench->library[candidate - TYPES].call != NULL;
}

static void call(rate_bench *bench, int32_t candidate, int32_t copy)
{
    const rate_shape *shape = bench->shape;
    if (candidate < TYPES) {
        pr_matmul_args args = {
            .rows = bench->rows,
            .x = bench->x,
            .matrix = bench->matrix[candidate][copy],
            .y = bench->y};
        bench->device->matmul(bench->device, &args, 1);
        return;
    }
    size_t elements = (size_t)shape->outputs * (size_t)shape->cols;
    pr_blas_args args = {
        .rows = bench->rows,
        .cols = shape->cols,
        .outputs = shape->outputs,
        .x = bench->x,
        .weight = bench->weight + (size_t)copy * elements,
        .y = bench->y,
    };
    pr_blas_library *library = &bench->library[candidate - TYPES];
    library->matmul(library, &args);
}

// Seconds of one call, of as many as the sample's time takes.
static double time_calls(rate_bench *bench, int32_t candidate)
{
    int32_t copy = 0, copies = bench->copies[candidate];
    call(bench, candidate, copies - 1);
    int64_t calls = 0, begin_ns = pr_clock_now_ns(), spent_ns = 0;
    while (spent_ns < bench->sample_ns) {
        call(bench, candidate, copy);
        copy = (copy + 1) % copies;
        calls++;
        spent_ns = pr_clock_now_ns() - begin_ns;
    }
    return (double)spent_ns * 1e-9 / (double)calls;
}

static int compare_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double gflop_s(rate_bench *bench, int32_t candidate)
{
    double *seconds = bench->seconds[candidate];
    qsort(seconds, (size_t)bench->rounds, sizeof *seconds, compare_seconds);
    double flop = 2.0 * bench->rows * bench->shape->outputs * bench->shape->cols;
    return flop / seconds[bench->rounds / 2] * 1e-9;
}

static void print_rows(rate_bench *bench)
{
    double library[PR_BLAS_LIBRARIES] = {0};
    for (int32_t i = 0; i < PR_BLAS_LIBRARIES; i++) {
        if (is_wanted(bench, TYPES + i))
            library[i] = gflop_s(bench, TYPES + i);
    }
    for (int32_t type = 0; type < TYPES; type++) {
        if (!bench->wanted[type])
            continue;
        double rate = gflop_s(bench, type), bytes = element_bytes(bench, type);
        const double *seconds = bench->seconds[type];
        printf(
            "{\"shape\": \"%s\", \"rows\": %d, \"type\": \"%s\", \"gflop_s\": %.2f, \"gb_s\": "
            "%.2f, "
            "\"flop_per_byte\": %.3f, \"ours_spread\": %.3f, \"libraries\": {",
            bench->shape->name, bench->rows, types[type].name, rate,
            rate / (2.0 * bench->rows) * bytes, 2.0 * bench->rows / bytes,
            (seconds[bench->rounds - 1] - seconds[0]) / seconds[bench->rounds / 2]);
        for (int32_t i = 0; i < PR_BLAS_LIBRARIES; i++)
            printf("%s\"%s\": %.2f", i ? ", " : "", bench->library[i].name, library[i]);
        printf("}}\n");
    }
    fflush(stdout);
}

static void measure(rate_bench *bench, int32_t rows)
{
    const struct timespec settle = {.tv_nsec = SETTLE_MS * 1000000L};
    bench->rows = rows;
    for (int32_t round = 0; round < bench->rounds; round++) {
        for (int32_t candidate = 0; candidate < CANDIDATES; candidate++) {
            if (!is_wanted(bench, candidate))
                continue;
            nanosleep(&settle, NULL);
            bench->seconds[candidate][round] = time_calls(bench, candidate);
        }
    }
    print_rows(bench);
}

// ---- Flags ----

static bool want_types(rate_bench *bench, char *list)
{
    memset(bench->wanted, 0, sizeof bench->wanted);
    for (char *name = strtok(list, ","); name; name = strtok(NULL, ",")) {
        int32_t type = 0;
        while (type < TYPES && strcmp(types[type].name, name) != 0)
            type++;
        if (type == TYPES)
            return false;
        bench->wanted[type] = true;
    }
    return true;
}

static pr_status
read_flags(int arguments, char **argument, rate_bench *bench, pr_cpu_device_params *device)
{
    for (int i = 1; i < arguments; i++) {
        char *value = i + 1 < arguments ? argument[i + 1] : NULL;
        if (strcmp(argument[i], "--quick") == 0) {
            bench->rounds = 3;
            bench->sample_ns = 15000000;
            continue;
        }
        if (value && strcmp(argument[i], "--threads") == 0 && atoi(value) > 0)
            device->threads = atoi(value);
        else if (value && strcmp(argument[i], "--isa") == 0)
            device->isa = value;
        else if (!value || strcmp(argument[i], "--types") != 0 || !want_types(bench, value))
            return pr_fail(
                PR_ERR_ARGUMENT,
                "%s: kernel_rate [--threads N] [--isa NAME] [--types BF16,F16,F32,int8,int4]"
                " [--quick]",
                argument[i]);
        i++;
    }
    return PR_OK;
}

static pr_status run(int arguments, char **argument)
{
    static rate_bench bench = {
        .wanted = {true, true, true, true, true}, .rounds = MOST_ROUNDS, .sample_ns = 40000000};
    pr_cpu_device_params params = {.isa = "auto", .threads = 1};
    PR_TRY(read_flags(arguments, argument, &bench, &params));
    PR_TRY(pr_cpu_device_open(&params, &bench.device));
    bench.library = pr_blas_library_open_all(params.threads);
    for (int32_t i = 0; i < PR_BLAS_LIBRARIES; i++) {
        if (!bench.library[i].call)
            printf(
                "{\"note\": \"%s is left out: not installed (Debian: %s)\"}\n",
                bench.library[i].name, bench.library[i].package);
    }
    pr_status status = PR_OK;
    for (size_t i = 0; status == PR_OK && i < sizeof shapes / sizeof shapes[0]; i++) {
        status = take_shape(&bench, &shapes[i]);
        for (size_t j = 0; status == PR_OK && j < sizeof row_counts / sizeof row_counts[0]; j++) {
            if (row_counts[j] <= shapes[i].most_rows)
                measure(&bench, row_counts[j]);
        }
        release_shape(&bench);
    }
    pr_cpu_device_close(bench.device);
    return status;
}

int main(int arguments, char **argument) { return run(arguments, argument) == PR_OK ? 0 : 1; }
