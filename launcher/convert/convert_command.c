// SPDX-License-Identifier: BSD-3-Clause
// `polyreme convert`: a model directory with its weights packed once and for all, and a check of one.
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/world.h"
#include "kernels/cpu/cpu_device.h"
#include "launcher/commands.h"
#include "launcher/convert/convert_files.h"
#include "launcher/engine/memory_budget.h"
#include "launcher/placement/thread_choice.h"
#include "launcher/placement/topology.h"
#include "launcher/start/load_watch.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/model/packed_writer.h"
#include "runtime/model/shard_walk.h"

typedef struct conversion {
    const pr_options *options;
    pr_model *model;
    pr_weights *weights;
    pr_device *device;
    pr_shard *shard;  // empty: the walk's
    pr_packed_writer *writer;
    pr_load_watch watch;
    int32_t matrices, files;
    int64_t written_bytes;
} conversion;

// ---- the parts -------------------------------------------------------------------------------

static pr_status write_matrix(void *context, const pr_shard_matrix *part, pr_matrix **place)
{
    conversion *c = context;
    const pr_packed_shape shape = pr_packed_shape_of(&part->source);
    pr_packed_entry entry = {
        .name = (char *)(uintptr_t)part->name,  // copied by the writer
        .is_matrix = true,
        .dtype = shape.dtype,
        .dimensions = 2,
        .shape = {shape.rows, shape.cols},
        .slices = shape.slices,
        .quantization = shape.quantization,
    };
    pr_matrix *matrix;
    (void)place;
    PR_TRY(c->device->matrix_create(c->device, &part->source, &matrix));
    pr_status status = pr_packed_writer_add(
        c->writer, &entry, c->device->matrix_packed(matrix), c->device->packed_bytes(&shape));
    c->device->matrix_destroy(c->device, matrix);
    c->matrices++;
    atomic_fetch_add(
        &c->watch.loaded_bytes, shape.rows * shape.cols * (int64_t)pr_dtype_bytes(shape.dtype));
    return status;
}

static pr_status write_tensor(conversion *c, const pr_tensor *tensor)
{
    pr_packed_entry entry = {
        .name = (char *)(uintptr_t)tensor->name,
        .dtype = tensor->dtype,
        .dimensions = tensor->dimensions,
    };
    memcpy(entry.shape, tensor->shape, sizeof entry.shape);
    atomic_fetch_add(&c->watch.loaded_bytes, tensor->size_bytes);
    return pr_packed_writer_add(c->writer, &entry, tensor->data, (size_t)tensor->size_bytes);
}

static pr_status write_vector(void *context, const pr_shard_vector *part, float **place)
{
    (void)place;
    return write_tensor(context, part->tensor);
}

static pr_status write_table(void *context, const pr_tensor *tensor)
{
    return write_tensor(context, tensor);
}

// ---- the whole -------------------------------------------------------------------------------

static pr_status open_device(conversion *c)
{
    int32_t threads = c->options->threads;
    pr_topology topology;
    if (threads == 0) {
        pr_topology_read(&topology);
        threads = topology.usable_threads;
    }
    if (threads < 1 || threads > PR_MAX_THREADS)
        threads = threads < 1 ? 1 : PR_MAX_THREADS;
    return pr_cpu_device_open(
        &(pr_cpu_device_params){.isa = "auto", .threads = threads}, &c->device);
}

static pr_status open_source(conversion *c)
{
    const pr_options *options = c->options;
    PR_TRY(pr_model_open(options->model, &c->model));
    PR_TRY(pr_weights_open(options->model, &c->weights));
    bool converted = pr_weights_layout(c->weights) != NULL;
    if (options->verify && !converted)
        return pr_fail(
            PR_ERR_ARGUMENT, "%s holds no %s to verify: convert it first", options->model,
            PR_PACKED_NAME);
    if (options->verify)
        return PR_OK;
    if (converted)
        return pr_fail(
            PR_ERR_ARGUMENT, "%s is converted already: name the original model", options->model);
    if (!options->output)
        return pr_fail(PR_ERR_ARGUMENT, "where to? Name a new directory with --output DIR");
    return open_device(c);
}

static pr_status write_weights(conversion *c)
{
    char path[PATH_MAX];
    const pr_shard_params params = {
        .model = c->model,
        .weights = c->weights,
        .place = {.tp = 1, .ranks = 1},
        .quantization = pr_options_quantization(c->options),
        .device = c->device,
    };
    const pr_shard_visitor visitor = {c, write_matrix, write_vector, write_table};
    if (snprintf(path, sizeof path, "%s/%s", c->options->output, PR_PACKED_NAME) >=
        (int)sizeof path)
        return pr_fail(PR_ERR_ARGUMENT, "--output %s: the path is too long", c->options->output);
    PR_TRY(pr_shard_make(&params, &c->shard));
    PR_TRY(pr_packed_writer_open(path, c->device->packed_layout, params.quantization, &c->writer));
    atomic_store(&c->watch.total_bytes, pr_weights_total_bytes(c->weights));
    PR_TRY(pr_shard_walk(&params, &visitor, c->shard));
    PR_TRY(pr_packed_writer_finish(c->writer));
    c->written_bytes = pr_packed_writer_bytes(c->writer);
    return PR_OK;
}

static pr_status convert(conversion *c)
{
    bool made;
    const char *output = c->options->output;
    PR_TRY(pr_convert_files_make_directory(output, &made));
    pr_load_watch_begin(&c->watch, "converting");
    pr_status status = write_weights(c);
    pr_load_watch_end(&c->watch);
    if (status == PR_OK)
        status = pr_convert_files_copy(c->options->model, output, &c->files);
    if (status != PR_OK) {
        pr_packed_writer_close(c->writer);
        c->writer = NULL;
        if (made)
            (void)rmdir(output);  // only if nothing is in it
    }
    return status;
}

static pr_status verify(conversion *c)
{
    char text[24];
    PR_TRY(pr_weights_verify(c->weights));
    pr_memory_text(pr_weights_total_bytes(c->weights), text);
    printf(
        "%s: %s of weights are as converted (layout %s, quantization %s)\n", c->options->model,
        text, pr_weights_layout(c->weights),
        pr_quantization_name(pr_weights_quantization(c->weights)));
    return PR_OK;
}

static void sum_up(const conversion *c, double seconds)
{
    char read_text[24], written_text[24];
    pr_memory_text(pr_weights_total_bytes(c->weights), read_text);
    pr_memory_text(c->written_bytes, written_text);
    printf(
        "%s: %s became %s in %d matrices (quantization %s), with %d other files, in %.1f s\n",
        c->options->output, read_text, written_text, (int)c->matrices,
        pr_quantization_name(pr_options_quantization(c->options)), (int)c->files, seconds);
}

int pr_convert_command(const pr_options *options)
{
    conversion c = {.options = options};
    int64_t begin_ns = pr_clock_now_ns();
    if (!pr_world_is_first())
        return PR_EXIT_OK;
    pr_status status = open_source(&c);
    if (status == PR_OK)
        status = options->verify ? verify(&c) : convert(&c);
    if (status == PR_OK && !options->verify)
        sum_up(&c, (double)(pr_clock_now_ns() - begin_ns) * 1e-9);
    pr_packed_writer_close(c.writer);
    pr_shard_unload(c.shard);
    pr_cpu_device_close(c.device);
    pr_weights_close(c.weights);
    pr_model_close(c.model);
    return pr_exit_code(status);
}
