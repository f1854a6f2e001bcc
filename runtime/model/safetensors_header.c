// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/model/safetensors_header.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

// No dimension of a real tensor is larger; four of them cannot overflow 64 bits unnoticed because
// the product is compared with the file after each step.
static const int64_t max_dimension = (int64_t)1 << 40;

static pr_status
read_dtype(const char *path, const char *name, const json_t *field, pr_dtype *dtype)
{
    static const struct {
        const char *name;
        pr_dtype dtype;
    } known[] = {{"F32", PR_F32}, {"BF16", PR_BF16}, {"F16", PR_F16}};
    const char *text = json_string_value(field);
    if (!text)
        return pr_fail(PR_ERR_FORMAT, "%s: tensor '%s' has no dtype", path, name);
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, known[i].name) == 0) {
            *dtype = known[i].dtype;
            return PR_OK;
        }
    }
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "%s: tensor '%s' has dtype '%s', which is not supported: F32, BF16 and F16 are", path, name,
        text);
}

// Bytes of a tensor, or a failure if the shape is not one or is larger than the file's data.
static pr_status read_shape(
    const char *path,
    const json_t *field,
    uint64_t data_bytes,
    pr_safetensors_entry *entry,
    uint64_t *size_bytes)
{
    uint64_t bytes = pr_dtype_bytes(entry->dtype);
    size_t i;
    json_t *dimension;
    if (!json_is_array(field))
        return pr_fail(PR_ERR_FORMAT, "%s: tensor '%s' has no shape", path, entry->name);
    if (json_array_size(field) > 4) {
        return pr_fail(
            PR_ERR_UNSUPPORTED, "%s: tensor '%s' has %zu dimensions, at most 4 are supported", path,
            entry->name, json_array_size(field));
    }
    json_array_foreach(field, i, dimension)
    {
        int64_t length = json_integer_value(dimension);
        if (!json_is_integer(dimension) || length < 0 || length > max_dimension) {
            return pr_fail(
                PR_ERR_FORMAT, "%s: tensor '%s' has a dimension that is no length", path,
                entry->name);
        }
        if (length > 0 && bytes > data_bytes / (uint64_t)length) {
            return pr_fail(
                PR_ERR_FORMAT, "%s: tensor '%s' is larger than the file", path, entry->name);
        }
        bytes *= (uint64_t)length;
        entry->shape[i] = length;
    }
    entry->dimensions = (int32_t)json_array_size(field);
    *size_bytes = bytes;
    return PR_OK;
}

static pr_status read_offsets(
    const char *path, const json_t *field, uint64_t data_bytes, pr_safetensors_entry *entry)
{
    const json_t *begin = json_array_get(field, 0), *end = json_array_get(field, 1);
    if (json_array_size(field) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin)) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: tensor '%s' has no well-formed data_offsets", path, entry->name);
    }
    entry->begin = (uint64_t)json_integer_value(begin);
    entry->end = (uint64_t)json_integer_value(end);
    if (entry->end > data_bytes) {
        return pr_fail(
            PR_ERR_FORMAT,
            "%s: tensor '%s' ends at byte %llu of the data, but the file has only %llu: it is "
            "truncated",
            path, entry->name, (unsigned long long)entry->end, (unsigned long long)data_bytes);
    }
    return PR_OK;
}

static pr_status read_entry(
    const char *path,
    const char *name,
    const json_t *description,
    uint64_t data_bytes,
    pr_safetensors_entry *entry)
{
    uint64_t size_bytes = 0;
    if (!json_is_object(description))
        return pr_fail(PR_ERR_FORMAT, "%s: tensor '%s' is not described by an object", path, name);
    entry->name = strdup(name);
    if (!entry->name)
        return pr_fail(PR_ERR_RESOURCE, "%s: no memory for the tensor names", path);
    PR_TRY(read_dtype(path, name, json_object_get(description, "dtype"), &entry->dtype));
    PR_TRY(read_offsets(path, json_object_get(description, "data_offsets"), data_bytes, entry));
    PR_TRY(read_shape(path, json_object_get(description, "shape"), data_bytes, entry, &size_bytes));
    if (size_bytes != entry->end - entry->begin) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: tensor '%s' has %llu bytes of data, its shape and dtype need %llu",
            path, name, (unsigned long long)(entry->end - entry->begin),
            (unsigned long long)size_bytes);
    }
    return PR_OK;
}

static int compare_begin(const void *left, const void *right)
{
    const pr_safetensors_entry *a = left, *b = right;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return a->end < b->end ? -1 : a->end > b->end;  // an empty tensor before its neighbour
}

// Sorted entries must follow each other without a hole and end with the data.
static pr_status
check_cover(const char *path, const pr_safetensors_header *header, uint64_t data_bytes)
{
    uint64_t covered = 0;
    for (size_t i = 0; i < header->count; i++) {
        const pr_safetensors_entry *entry = &header->entry[i];
        if (entry->begin != covered) {
            return pr_fail(
                PR_ERR_FORMAT, "%s: tensor '%s' begins at byte %llu of the data, %s byte %llu",
                path, entry->name, (unsigned long long)entry->begin,
                entry->begin < covered ? "overlapping another that ends at" : "leaving a hole from",
                (unsigned long long)covered);
        }
        covered = entry->end;
    }
    if (covered != data_bytes) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: %llu bytes follow the last tensor", path,
            (unsigned long long)(data_bytes - covered));
    }
    return PR_OK;
}

static pr_status
read_entries(const char *path, json_t *root, uint64_t data_bytes, pr_safetensors_header *header)
{
    const char *name;
    json_t *description;
    if (!json_is_object(root))
        return pr_fail(PR_ERR_FORMAT, "%s: the header is not a JSON object", path);
    header->entry = calloc(json_object_size(root) + 1, sizeof *header->entry);
    if (!header->entry)
        return pr_fail(PR_ERR_RESOURCE, "%s: no memory for the tensor names", path);
    json_object_foreach(root, name, description)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        header->count++;  // first, so that a failed entry is released too
        PR_TRY(read_entry(path, name, description, data_bytes, &header->entry[header->count - 1]));
    }
    qsort(header->entry, header->count, sizeof *header->entry, compare_begin);
    return check_cover(path, header, data_bytes);
}

pr_status pr_safetensors_header_parse(
    const char *path,
    const void *text,
    size_t text_bytes,
    uint64_t data_bytes,
    pr_safetensors_header *header)
{
    json_error_t error;
    pr_safetensors_header made = {0};
    json_t *root = json_loadb(text, text_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        return pr_fail(
            PR_ERR_FORMAT, "%s: the header is not JSON: %s (at byte %d)", path, error.text,
            error.position);
    }
    pr_status status = read_entries(path, root, data_bytes, &made);
    json_decref(root);
    if (status == PR_OK)
        *header = made;
    else
        pr_safetensors_header_release(&made);
    return status;
}

void pr_safetensors_header_release(pr_safetensors_header *header)
{
    for (size_t i = 0; i < header->count; i++)
        free(header->entry[i].name);
    free(header->entry);
    *header = (pr_safetensors_header){0};
}
