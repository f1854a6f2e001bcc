// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/packed_table.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

static const char magic[8] = {'p', 'o', 'l', 'y', 'r', 'e', 'm', 'e'};
static const int64_t max_dimension = (int64_t)1 << 40;

static const char *const dtype_names[] = {[PR_F32] = "F32", [PR_BF16] = "BF16", [PR_F16] = "F16"};
static const char *const quantization_names[] = {
    [PR_QUANTIZATION_NONE] = "none",
    [PR_QUANTIZATION_INT8] = "int8",
    [PR_QUANTIZATION_INT4] = "int4",
    [PR_QUANTIZATION_FLOAT32] = "float32",
};
enum { QUANTIZATIONS = sizeof quantization_names / sizeof *quantization_names };

const char *pr_quantization_name(pr_quantization quantization)
{
    return quantization_names[quantization];
}

// ---- the head --------------------------------------------------------------------------------

enum {
    AT_VERSION = 8,
    AT_TABLE = 16,
    AT_TABLE_BYTES = 24,
    AT_FILE = 32,
    AT_HASH = 40,
    AT_SUM = 56
};

static void put(unsigned char *bytes, uint64_t value, int count)
{
    for (int i = 0; i < count; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get(const unsigned char *bytes, int count)
{
    uint64_t value = 0;
    for (int i = count - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

void pr_packed_head_encode(const pr_packed_head *head, unsigned char bytes[PR_PACKED_HEAD_BYTES])
{
    memset(bytes, 0, PR_PACKED_HEAD_BYTES);
    memcpy(bytes, magic, sizeof magic);
    put(bytes + AT_VERSION, PR_PACKED_VERSION, 4);
    put(bytes + AT_TABLE, head->table_begin, 8);
    put(bytes + AT_TABLE_BYTES, head->table_bytes, 8);
    put(bytes + AT_FILE, head->table_begin + head->table_bytes, 8);
    put(bytes + AT_HASH, head->table_hash, 8);
    put(bytes + AT_SUM, pr_hash_bytes(0, bytes, AT_SUM), 8);
}

pr_status pr_packed_head_decode(
    const char *path,
    const unsigned char bytes[PR_PACKED_HEAD_BYTES],
    uint64_t file_bytes,
    pr_packed_head *head)
{
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return pr_fail(
            PR_ERR_FORMAT, "%s: not a finished file of polyreme convert: convert the model again",
            path);
    // The version first: another one may have another head.
    if (get(bytes + AT_VERSION, 4) != PR_PACKED_VERSION)
        return pr_fail(
            PR_ERR_UNSUPPORTED, "%s: has format %u, this program reads %d: convert the model again",
            path, (unsigned)get(bytes + AT_VERSION, 4), (int)PR_PACKED_VERSION);
    if (get(bytes + AT_SUM, 8) != pr_hash_bytes(0, bytes, AT_SUM))
        return pr_fail(PR_ERR_FORMAT, "%s: the head is damaged: convert the model again", path);
    pr_packed_head found = {
        .table_begin = get(bytes + AT_TABLE, 8),
        .table_bytes = get(bytes + AT_TABLE_BYTES, 8),
        .table_hash = get(bytes + AT_HASH, 8),
    };
    if (get(bytes + AT_FILE, 8) != file_bytes)
        return pr_fail(
            PR_ERR_FORMAT,
            "%s: has %" PRIu64 " bytes, but was written with %" PRIu64
            ": copy it or convert the model again",
            path, file_bytes, get(bytes + AT_FILE, 8));
    if (found.table_begin < PR_PACKED_HEAD_BYTES || found.table_begin > file_bytes ||
        file_bytes - found.table_begin != found.table_bytes)
        return pr_fail(PR_ERR_FORMAT, "%s: the table lies outside the file", path);
    *head = found;
    return PR_OK;
}

// ---- the table, read -------------------------------------------------------------------------

// Which of the names the field is, or -1.
static int which(const json_t *field, const char *const *name, int names)
{
    const char *text = json_string_value(field);
    for (int i = 0; text && i < names; i++)
        if (strcmp(text, name[i]) == 0)
            return i;
    return -1;
}

static pr_status read_shape(const char *path, const json_t *field, pr_packed_entry *entry)
{
    size_t i;
    json_t *length;
    size_t dimensions = json_array_size(field);
    if (!json_is_array(field) || dimensions > 4 || (entry->is_matrix && dimensions != 2))
        return pr_fail(PR_ERR_FORMAT, "%s: '%s' has no well-formed shape", path, entry->name);
    entry->dimensions = (int32_t)dimensions;
    json_array_foreach(field, i, length)
    {
        entry->shape[i] = json_integer_value(length);
        if (!json_is_integer(length) || entry->shape[i] < 0 || entry->shape[i] > max_dimension)
            return pr_fail(
                PR_ERR_FORMAT, "%s: '%s' has a dimension that is no length", path, entry->name);
    }
    return PR_OK;
}

static pr_status
read_offsets(const char *path, const json_t *field, uint64_t data_end, pr_packed_entry *entry)
{
    const json_t *begin = json_array_get(field, 0), *end = json_array_get(field, 1);
    if (json_array_size(field) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < PR_PACKED_ALIGNMENT ||
        json_integer_value(begin) % PR_PACKED_ALIGNMENT != 0 ||
        json_integer_value(end) < json_integer_value(begin) ||
        (uint64_t)json_integer_value(end) > data_end)
        return pr_fail(PR_ERR_FORMAT, "%s: '%s' has no well-formed offsets", path, entry->name);
    entry->begin = (uint64_t)json_integer_value(begin);
    entry->end = (uint64_t)json_integer_value(end);
    return PR_OK;
}

static pr_status check_tensor_size(const char *path, const pr_packed_entry *entry)
{
    uint64_t found = entry->end - entry->begin, bytes = pr_dtype_bytes(entry->dtype);
    for (int32_t i = 0; i < entry->dimensions; i++) {
        if (entry->shape[i] > 0 && bytes > found / (uint64_t)entry->shape[i])
            return pr_fail(PR_ERR_FORMAT, "%s: '%s' is larger than its bytes", path, entry->name);
        bytes *= (uint64_t)entry->shape[i];
    }
    if (bytes != found)
        return pr_fail(
            PR_ERR_FORMAT, "%s: '%s' has %" PRIu64 " bytes, its shape and dtype need %" PRIu64,
            path, entry->name, found, bytes);
    return PR_OK;
}

static pr_status read_hash(const char *path, const json_t *field, pr_packed_entry *entry)
{
    const char *text = json_string_value(field);
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return pr_fail(PR_ERR_FORMAT, "%s: '%s' has no well-formed hash", path, entry->name);
    entry->hash = strtoull(text, NULL, 16);
    return PR_OK;
}

static pr_status
read_entry(const char *path, const json_t *object, uint64_t data_end, pr_packed_entry *entry)
{
    int dtype = which(json_object_get(object, "dtype"), dtype_names, 3);
    if (dtype < 0)
        return pr_fail(PR_ERR_FORMAT, "%s: '%s' has no known dtype", path, entry->name);
    entry->dtype = (pr_dtype)dtype;
    PR_TRY(read_shape(path, json_object_get(object, "shape"), entry));
    PR_TRY(read_offsets(path, json_object_get(object, "offsets"), data_end, entry));
    PR_TRY(read_hash(path, json_object_get(object, "hash"), entry));
    if (!entry->is_matrix)
        return check_tensor_size(path, entry);
    int quantization =
        which(json_object_get(object, "quantization"), quantization_names, QUANTIZATIONS);
    json_int_t slices = json_integer_value(json_object_get(object, "slices"));
    if (quantization < 0 || (slices != 1 && slices != PR_SLICES))
        return pr_fail(
            PR_ERR_FORMAT, "%s: '%s' has no known quantization or number of slices", path,
            entry->name);
    entry->quantization = (pr_quantization)quantization;
    entry->slices = (int32_t)slices;
    return PR_OK;
}

static pr_status read_group(
    const char *path, json_t *group, bool is_matrix, uint64_t data_end, pr_packed_table *table)
{
    const char *name;
    json_t *object;
    json_object_foreach(group, name, object)
    {
        pr_packed_entry *entry = &table->entry[table->count++];
        entry->is_matrix = is_matrix;
        entry->name = strdup(name);
        if (!entry->name)
            return pr_fail(PR_ERR_RESOURCE, "%s: no memory for the names", path);
        PR_TRY(read_entry(path, object, data_end, entry));
    }
    return PR_OK;
}

static int compare_begin(const void *left, const void *right)
{
    const pr_packed_entry *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;
}

static pr_status check_overlap(const char *path, pr_packed_table *table)
{
    qsort(table->entry, table->count, sizeof *table->entry, compare_begin);
    for (size_t i = 1; i < table->count; i++)
        if (table->entry[i].begin < table->entry[i - 1].end)
            return pr_fail(
                PR_ERR_FORMAT, "%s: '%s' and '%s' overlap", path, table->entry[i - 1].name,
                table->entry[i].name);
    return PR_OK;
}

static pr_status
read_table(const char *path, const json_t *root, uint64_t data_end, pr_packed_table *table)
{
    json_t *matrices = json_object_get(root, "matrices");
    json_t *tensors = json_object_get(root, "tensors");
    const char *layout = json_string_value(json_object_get(root, "layout"));
    int quantization =
        which(json_object_get(root, "quantization"), quantization_names, QUANTIZATIONS);
    if (!layout || quantization < 0 || !json_is_object(matrices) || !json_is_object(tensors))
        return pr_fail(
            PR_ERR_FORMAT, "%s: the table lacks layout, quantization, matrices or tensors", path);
    size_t count = json_object_size(matrices) + json_object_size(tensors);
    table->quantization = (pr_quantization)quantization;
    table->layout = strdup(layout);
    table->entry = calloc(count + 1, sizeof *table->entry);
    if (!table->layout || !table->entry)
        return pr_fail(PR_ERR_RESOURCE, "%s: no memory for %zu names", path, count);
    PR_TRY(read_group(path, matrices, true, data_end, table));
    PR_TRY(read_group(path, tensors, false, data_end, table));
    return check_overlap(path, table);
}

pr_status pr_packed_table_parse(
    const char *path,
    const void *text,
    size_t text_bytes,
    uint64_t data_end,
    pr_packed_table *table)
{
    json_error_t error;
    pr_packed_table made = {0};
    json_t *root = json_loadb(text, text_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return pr_fail(
            PR_ERR_FORMAT, "%s: the table is not JSON: %s (at byte %d)", path, error.text,
            error.position);
    pr_status status = read_table(path, root, data_end, &made);
    json_decref(root);
    if (status == PR_OK)
        *table = made;
    else
        pr_packed_table_release(&made);
    return status;
}

// ---- the table, written ----------------------------------------------------------------------

static json_t *describe(const pr_packed_entry *entry)
{
    char hash[17];
    snprintf(hash, sizeof hash, "%016" PRIx64, entry->hash);
    json_t *shape = json_array();
    for (int32_t i = 0; i < entry->dimensions; i++)
        json_array_append_new(shape, json_integer(entry->shape[i]));
    json_t *object = json_pack(
        "{s:s, s:o, s:[I, I], s:s}", "dtype", dtype_names[entry->dtype], "shape", shape, "offsets",
        (json_int_t)entry->begin, (json_int_t)entry->end, "hash", hash);
    if (object && entry->is_matrix) {
        json_object_set_new(object, "slices", json_integer(entry->slices));
        json_object_set_new(
            object, "quantization", json_string(quantization_names[entry->quantization]));
    }
    return object;
}

char *pr_packed_table_print(const pr_packed_table *table)
{
    json_t *matrices = json_object(), *tensors = json_object();
    for (size_t i = 0; i < table->count; i++) {
        const pr_packed_entry *entry = &table->entry[i];
        json_object_set_new(entry->is_matrix ? matrices : tensors, entry->name, describe(entry));
    }
    json_t *root = json_pack(
        "{s:s, s:s, s:o, s:o}", "layout", table->layout, "quantization",
        quantization_names[table->quantization], "matrices", matrices, "tensors", tensors);
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return text;
}

void pr_packed_table_release(pr_packed_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        free(table->entry[i].name);
    free(table->entry);
    free(table->layout);
    *table = (pr_packed_table){0};
}
