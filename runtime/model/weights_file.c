// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/weights_file.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/model/file_map.h"
#include "runtime/model/packed_table.h"
#include "runtime/model/safetensors_header.h"

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";
static const char packed_name[] = PR_PACKED_NAME;

enum { LENGTH_BYTES = 8, MAX_HEADER_BYTES = 100 << 20 };  // the format's own limit

typedef struct weights_file {
    char *name;  // within the directory
    pr_file_map map;
    pr_safetensors_header header;
} weights_file;

typedef struct placed_tensor {
    pr_tensor tensor;
    int32_t file;
} placed_tensor;

struct pr_weights {
    char *directory;
    int32_t files;
    weights_file *file;  // [files]
    size_t tensors;
    placed_tensor *tensor;  // [tensors] ascending by name
    int64_t total_bytes;
    // Of a converted model; table.layout is NULL in others.
    pr_packed_table table;
    size_t matrices;
    pr_packed_tensor *matrix;  // [matrices] ascending by name
    pr_byte_reader reader;
    atomic_int read_error;  // errno of the first read that failed, and its file
    _Atomic(const weights_file *) read_error_file;
};

static pr_status out_of_memory(const char *directory)
{
    return pr_fail(PR_ERR_RESOURCE, "%s: no memory for the tensor names", directory);
}

static void join_path(char *path, size_t path_bytes, const char *directory, const char *name)
{
    snprintf(path, path_bytes, "%s/%s", directory, name);
}

// ---- one file --------------------------------------------------------------------------------

static uint64_t read_length(const unsigned char *bytes)
{
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | bytes[i];
    return length;
}

static pr_status check_length(const char *path, uint64_t header_bytes, uint64_t file_bytes)
{
    if (file_bytes < LENGTH_BYTES || header_bytes > file_bytes - LENGTH_BYTES) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: the header of %llu bytes reaches beyond the file of %llu", path,
            (unsigned long long)header_bytes, (unsigned long long)file_bytes);
    }
    if (header_bytes > MAX_HEADER_BYTES) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: the header of %llu bytes is longer than the format allows", path,
            (unsigned long long)header_bytes);
    }
    return PR_OK;
}

static pr_status open_file(const char *directory, weights_file *file)
{
    char path[4352];
    join_path(path, sizeof path, directory, file->name);
    PR_TRY(pr_file_map_open(path, &file->map));
    if (file->map.size_bytes < LENGTH_BYTES)
        return pr_fail(
            PR_ERR_FORMAT, "%s: %" PRIu64 " bytes are too few for a safetensors file", path,
            file->map.size_bytes);
    uint64_t header_bytes = read_length(file->map.map);
    PR_TRY(check_length(path, header_bytes, file->map.size_bytes));
    return pr_safetensors_header_parse(
        path, file->map.map + LENGTH_BYTES, header_bytes,
        file->map.size_bytes - LENGTH_BYTES - header_bytes, &file->header);
}

static void close_file(weights_file *file)
{
    pr_safetensors_header_release(&file->header);
    pr_file_map_close(&file->map);
    free(file->name);
}

pr_status pr_weights_check_header(
    const char *path, const void *header, uint64_t header_bytes, uint64_t file_bytes)
{
    pr_safetensors_header parsed;
    PR_TRY(check_length(path, header_bytes, file_bytes));
    PR_TRY(pr_safetensors_header_parse(
        path, header, header_bytes, file_bytes - LENGTH_BYTES - header_bytes, &parsed));
    pr_safetensors_header_release(&parsed);
    return PR_OK;
}

// ---- the table of tensors --------------------------------------------------------------------

static int compare_name(const void *left, const void *right)
{
    const placed_tensor *a = left, *b = right;
    return strcmp(a->tensor.name, b->tensor.name);
}

static const placed_tensor *find_placed(const pr_weights *weights, const char *name)
{
    const placed_tensor wanted = {.tensor.name = name};
    return bsearch(
        &wanted, weights->tensor, weights->tensors, sizeof *weights->tensor, compare_name);
}

static void add_tensors(pr_weights *weights, int32_t number)
{
    const weights_file *file = &weights->file[number];
    const unsigned char *data = file->map.map + LENGTH_BYTES + read_length(file->map.map);
    for (size_t i = 0; i < file->header.count; i++) {
        const pr_safetensors_entry *entry = &file->header.entry[i];
        placed_tensor *placed = &weights->tensor[weights->tensors++];
        placed->file = number;
        placed->tensor = (pr_tensor){
            .name = entry->name,
            .data = data + entry->begin,
            .dtype = entry->dtype,
            .dimensions = entry->dimensions,
            .size_bytes = (int64_t)(entry->end - entry->begin),
        };
        memcpy(placed->tensor.shape, entry->shape, sizeof entry->shape);
        weights->total_bytes += placed->tensor.size_bytes;
    }
}

// Opens every named file and makes one sorted table of their tensors.
static pr_status open_files(pr_weights *weights)
{
    size_t count = 0;
    for (int32_t i = 0; i < weights->files; i++) {
        PR_TRY(open_file(weights->directory, &weights->file[i]));
        count += weights->file[i].header.count;
    }
    weights->tensor = calloc(count + 1, sizeof *weights->tensor);
    if (!weights->tensor)
        return out_of_memory(weights->directory);
    for (int32_t i = 0; i < weights->files; i++)
        add_tensors(weights, i);
    qsort(weights->tensor, weights->tensors, sizeof *weights->tensor, compare_name);
    for (size_t i = 1; i < weights->tensors; i++) {
        const placed_tensor *a = &weights->tensor[i - 1], *b = &weights->tensor[i];
        if (strcmp(a->tensor.name, b->tensor.name) == 0) {
            return pr_fail(
                PR_ERR_FORMAT, "%s: tensor '%s' is both in %s and in %s", weights->directory,
                a->tensor.name, weights->file[a->file].name, weights->file[b->file].name);
        }
    }
    return PR_OK;
}

// ---- the index -------------------------------------------------------------------------------

// A name with a directory in it could read anything on the system.
static pr_status check_plain_name(const char *path, const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length > 250 || name[0] == '.' || strchr(name, '/')) {
        return pr_fail(
            PR_ERR_FORMAT, "%s names the file '%.250s', which is not a plain file name", path,
            name);
    }
    return PR_OK;
}

static int32_t find_file(const pr_weights *weights, const char *name)
{
    for (int32_t i = weights->files - 1; i >= 0; i--)  // the index names them in runs
        if (strcmp(weights->file[i].name, name) == 0)
            return i;
    return -1;
}

static pr_status list_files(const char *path, json_t *map, pr_weights *weights)
{
    const char *tensor;
    json_t *value;
    if (json_object_size(map) == 0)
        return pr_fail(PR_ERR_FORMAT, "%s: weight_map is missing or empty", path);
    weights->file = calloc(json_object_size(map), sizeof *weights->file);
    if (!weights->file)
        return out_of_memory(weights->directory);
    json_object_foreach(map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name) {
            return pr_fail(
                PR_ERR_FORMAT, "%s: weight_map gives tensor '%s' no file name", path, tensor);
        }
        PR_TRY(check_plain_name(path, name));
        if (find_file(weights, name) >= 0)
            continue;
        weights->file[weights->files].name = strdup(name);
        if (!weights->file[weights->files].name)
            return out_of_memory(weights->directory);
        weights->files++;
    }
    return PR_OK;
}

static pr_status check_index(const char *path, json_t *map, const pr_weights *weights)
{
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value)
    {
        const placed_tensor *placed = find_placed(weights, name);
        if (!placed || strcmp(weights->file[placed->file].name, json_string_value(value)) != 0) {
            return pr_fail(
                PR_ERR_FORMAT, "%s: tensor '%s' is not in %s", path, name,
                json_string_value(value));
        }
    }
    return PR_OK;
}

static pr_status open_index(const char *path, pr_weights *weights)
{
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: line %d: %s", path, error.line > 0 ? error.line : 1, error.text);
    }
    pr_status status;
    json_t *map = json_object_get(root, "weight_map");
    PR_TRY_GOTO(list_files(path, map, weights), release);
    PR_TRY_GOTO(open_files(weights), release);
    status = check_index(path, map, weights);
release:
    json_decref(root);
    return status;
}

static pr_status open_single(pr_weights *weights)
{
    weights->file = calloc(1, sizeof *weights->file);
    if (!weights->file || !(weights->file[0].name = strdup(single_name)))
        return out_of_memory(weights->directory);
    weights->files = 1;
    return open_files(weights);
}

// ---- a converted model -----------------------------------------------------------------------

static pr_status open_table(const char *path, const pr_file_map *map, pr_packed_table *table)
{
    pr_packed_head head;
    if (map->size_bytes < PR_PACKED_HEAD_BYTES)
        return pr_fail(
            PR_ERR_FORMAT, "%s: %" PRIu64 " bytes are too few: convert the model again", path,
            map->size_bytes);
    PR_TRY(pr_packed_head_decode(path, map->map, map->size_bytes, &head));
    if (pr_hash_bytes(0, map->map + head.table_begin, head.table_bytes) != head.table_hash)
        return pr_fail(PR_ERR_FORMAT, "%s: the table is damaged: convert the model again", path);
    return pr_packed_table_parse(
        path, map->map + head.table_begin, head.table_bytes, head.table_begin, table);
}

static int compare_matrix(const void *left, const void *right)
{
    const pr_packed_tensor *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static void add_entry(pr_weights *weights, const pr_packed_entry *entry)
{
    const unsigned char *data = weights->file[0].map.map + entry->begin;
    int64_t size_bytes = (int64_t)(entry->end - entry->begin);
    weights->total_bytes += size_bytes;
    if (entry->is_matrix) {
        weights->matrix[weights->matrices++] = (pr_packed_tensor){
            .name = entry->name,
            .shape =
                {
                    .rows = entry->shape[0],
                    .cols = entry->shape[1],
                    .slices = entry->slices,
                    .dtype = entry->dtype,
                    .quantization = entry->quantization,
                },
            .data = data,
            .size_bytes = size_bytes,
        };
        return;
    }
    pr_tensor *tensor = &weights->tensor[weights->tensors++].tensor;
    *tensor = (pr_tensor){
        .name = entry->name,
        .data = data,
        .dtype = entry->dtype,
        .dimensions = entry->dimensions,
        .size_bytes = size_bytes,
    };
    memcpy(tensor->shape, entry->shape, sizeof entry->shape);
}

static pr_status open_packed(const char *path, pr_weights *weights)
{
    weights->file = calloc(1, sizeof *weights->file);
    if (!weights->file || !(weights->file[0].name = strdup(packed_name)))
        return out_of_memory(weights->directory);
    weights->files = 1;
    PR_TRY(pr_file_map_open(path, &weights->file[0].map));
    PR_TRY(open_table(path, &weights->file[0].map, &weights->table));
    weights->tensor = calloc(weights->table.count + 1, sizeof *weights->tensor);
    weights->matrix = calloc(weights->table.count + 1, sizeof *weights->matrix);
    if (!weights->tensor || !weights->matrix)
        return out_of_memory(weights->directory);
    for (size_t i = 0; i < weights->table.count; i++)
        add_entry(weights, &weights->table.entry[i]);
    qsort(weights->tensor, weights->tensors, sizeof *weights->tensor, compare_name);
    qsort(weights->matrix, weights->matrices, sizeof *weights->matrix, compare_matrix);
    return PR_OK;
}

static pr_status open_directory(pr_weights *weights)
{
    char path[4352];
    join_path(path, sizeof path, weights->directory, packed_name);
    if (access(path, F_OK) == 0)
        return open_packed(path, weights);
    join_path(path, sizeof path, weights->directory, single_name);
    if (access(path, F_OK) == 0)
        return open_single(weights);
    join_path(path, sizeof path, weights->directory, index_name);
    if (access(path, F_OK) == 0)
        return open_index(path, weights);
    return pr_fail(
        PR_ERR_NOT_FOUND, "%s: there is neither %s nor %s in this directory", weights->directory,
        single_name, index_name);
}

// ---- bytes by read calls ---------------------------------------------------------------------

static const weights_file *file_of(const pr_weights *weights, const void *from)
{
    for (int32_t i = 0; i < weights->files; i++)
        if (pr_file_map_has(&weights->file[i].map, from))
            return &weights->file[i];
    return NULL;
}

static bool read_bytes(void *context, const void *from, void *to, size_t size_bytes)
{
    pr_weights *weights = context;
    const weights_file *file = file_of(weights, from);
    int error = file ? pr_file_map_read(&file->map, from, to, size_bytes) : EFAULT, none = 0;
    if (error == 0)
        return true;
    if (atomic_compare_exchange_strong(&weights->read_error, &none, error))
        atomic_store(&weights->read_error_file, file);
    return false;
}

const pr_byte_reader *pr_weights_reader(const pr_weights *weights) { return &weights->reader; }

pr_status pr_weights_fail_read(const pr_weights *weights)
{
    const weights_file *file = atomic_load(&weights->read_error_file);
    return pr_fail(
        PR_ERR_IO, "%s/%s: cannot be read: %s", weights->directory, file ? file->name : "",
        strerror(atomic_load(&weights->read_error)));
}

void pr_weights_fetch(const pr_weights *weights, const void *from, size_t size_bytes)
{
    const weights_file *file = file_of(weights, from);
    if (file)
        pr_file_map_fetch(&file->map, from, size_bytes);
}

pr_load_mode pr_weights_load_mode(const pr_weights *weights, pr_load_mode wanted)
{
    if (wanted != PR_LOAD_AUTO)
        return wanted;
    return pr_file_map_is_in_memory(&weights->file[0].map) ? PR_LOAD_MMAP : PR_LOAD_READ;
}

// ---- the public side -------------------------------------------------------------------------

pr_status pr_weights_open(const char *directory, pr_weights **weights)
{
    if (strlen(directory) > 4000) {
        return pr_fail(PR_ERR_ARGUMENT, "the path of the weights has %zu bytes", strlen(directory));
    }
    pr_weights *made = calloc(1, sizeof *made);
    if (!made || !(made->directory = strdup(directory))) {
        free(made);
        return out_of_memory(directory);
    }
    made->reader = (pr_byte_reader){.read = read_bytes, .context = made};
    pr_status status = open_directory(made);
    if (status != PR_OK) {
        pr_weights_close(made);
        return status;
    }
    *weights = made;
    return PR_OK;
}

void pr_weights_close(pr_weights *weights)
{
    if (!weights)
        return;
    for (int32_t i = 0; i < weights->files; i++)
        close_file(&weights->file[i]);
    pr_packed_table_release(&weights->table);
    free(weights->matrix);
    free(weights->file);
    free(weights->tensor);
    free(weights->directory);
    free(weights);
}

const pr_tensor *pr_weights_find(const pr_weights *weights, const char *name)
{
    const placed_tensor *placed = find_placed(weights, name);
    return placed ? &placed->tensor : NULL;
}

const pr_packed_tensor *pr_weights_find_packed(const pr_weights *weights, const char *name)
{
    const pr_packed_tensor wanted = {.name = name};
    if (weights->matrices == 0)
        return NULL;
    return bsearch(
        &wanted, weights->matrix, weights->matrices, sizeof *weights->matrix, compare_matrix);
}

const char *pr_weights_layout(const pr_weights *weights) { return weights->table.layout; }

pr_quantization pr_weights_quantization(const pr_weights *weights)
{
    return weights->table.quantization;
}

pr_status pr_weights_verify(const pr_weights *weights)
{
    for (size_t i = 0; i < weights->table.count; i++) {
        const pr_packed_entry *entry = &weights->table.entry[i];
        const unsigned char *data = weights->file[0].map.map + entry->begin;
        if (pr_hash_bytes(0, data, entry->end - entry->begin) != entry->hash)
            return pr_fail(
                PR_ERR_FORMAT, "%s/%s: '%s' is damaged: convert the model again",
                weights->directory, packed_name, entry->name);
    }
    return PR_OK;
}

int64_t pr_weights_total_bytes(const pr_weights *weights) { return weights->total_bytes; }
