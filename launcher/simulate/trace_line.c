// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/simulate/trace_line.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

// Longest prompt or output taken for real; also keeps sums of a few far from INT32_MAX.
enum { MOST_TOKENS = 1 << 28 };

static pr_status fail_line(const char *path, int64_t number, const char *what)
{
    return pr_fail(PR_ERR_FORMAT, "%s line %lld: %s", path, (long long)number, what);
}

// ---- JSON ----

static bool read_tokens(const json_t *object, const char *name, int32_t *tokens)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_integer(value))
        return false;
    json_int_t number = json_integer_value(value);
    *tokens = (int32_t)number;
    return number >= 1 && number <= MOST_TOKENS;
}

static const char *
read_ids(const json_t *array, int32_t block_tokens, pr_trace_line *line, pr_byte_buffer *ids)
{
    if (!array)
        return NULL;
    if (!json_is_array(array))
        return "\"hash_ids\" must be a list of integers";
    int64_t blocks = ((int64_t)line->prompt_tokens + block_tokens - 1) / block_tokens;
    if ((int64_t)json_array_size(array) != blocks)
        return "\"hash_ids\" must have one id for each block of \"input_length\": does "
               "--block-tokens fit the trace?";
    line->blocks = (int32_t)blocks;
    for (int64_t i = 0; i < blocks; i++) {
        const json_t *id = json_array_get(array, (size_t)i);
        if (!json_is_integer(id))
            return "\"hash_ids\" must be a list of integers";
        int64_t number = json_integer_value(id);
        pr_byte_buffer_append(ids, &number, sizeof number);
    }
    return NULL;
}

static const char *
read_object(const json_t *object, int32_t block_tokens, pr_trace_line *line, pr_byte_buffer *ids)
{
    const json_t *stamp = json_object_get(object, "timestamp");
    if (!json_is_object(object))
        return "each line must be a JSON object";
    if (!json_is_number(stamp) || json_number_value(stamp) < 0)
        return "\"timestamp\" must be a number of milliseconds";
    line->stamp_s = json_number_value(stamp) / 1000;
    if (!read_tokens(object, "input_length", &line->prompt_tokens))
        return "\"input_length\" must be a whole number from 1";
    if (!read_tokens(object, "output_length", &line->outputs))
        return "\"output_length\" must be a whole number from 1";
    return read_ids(json_object_get(object, "hash_ids"), block_tokens, line, ids);
}

pr_status pr_trace_line_read_json(
    const char *path,
    int64_t number,
    const char *text,
    int32_t block_tokens,
    pr_trace_line *line,
    pr_byte_buffer *ids)
{
    json_error_t error;
    json_t *object = json_loads(text, 0, &error);
    if (!object)
        return pr_fail(
            PR_ERR_FORMAT, "%s line %lld: not JSON: %s", path, (long long)number, error.text);
    *line = (pr_trace_line){0};
    const char *wrong = read_object(object, block_tokens, line, ids);
    json_decref(object);
    return wrong ? fail_line(path, number, wrong) : PR_OK;
}

// ---- CSV ----

// The column's text between its commas; false: the row has fewer.
static bool find_column(const char *text, int32_t column, const char **value, size_t *size_bytes)
{
    for (; column > 0; column--) {
        text = strchr(text, ',');
        if (!text)
            return false;
        text++;
    }
    *value = text;
    *size_bytes = strcspn(text, ",");
    return true;
}

static int32_t find_name(const char *text, const char *name)
{
    const char *value;
    size_t size_bytes;
    for (int32_t column = 0; find_column(text, column, &value, &size_bytes); column++) {
        if (size_bytes == strlen(name) && memcmp(value, name, size_bytes) == 0)
            return column;
    }
    return -1;
}

pr_status pr_trace_columns_read(const char *path, const char *text, pr_trace_columns *columns)
{
    *columns = (pr_trace_columns){
        .arrived_at = find_name(text, "arrived_at"),
        .prompt_tokens = find_name(text, "num_prefill_tokens"),
        .outputs = find_name(text, "num_decode_tokens"),
        .tenant = find_name(text, "tenant"),
    };
    if (columns->prompt_tokens < 0 || columns->outputs < 0)
        return fail_line(
            path, 1,
            "neither a JSON object nor a CSV header with num_prefill_tokens and num_decode_tokens");
    return PR_OK;
}

static bool read_number(const char *text, int32_t column, double *number)
{
    const char *value;
    char *end;
    size_t size_bytes;
    if (!find_column(text, column, &value, &size_bytes) || size_bytes == 0)
        return false;
    *number = strtod(value, &end);
    return end == value + size_bytes && isfinite(*number);
}

static bool read_count(const char *text, int32_t column, int32_t *count)
{
    double number;
    if (!read_number(text, column, &number) || number < 1 || number > MOST_TOKENS)
        return false;
    *count = (int32_t)number;
    return (double)*count == number;
}

// A number stands for itself, any other name for its hash.
static uint64_t read_tenant(const char *text, int32_t column)
{
    const char *value;
    char *end;
    size_t size_bytes;
    if (column < 0 || !find_column(text, column, &value, &size_bytes))
        return 0;
    uint64_t number = strtoull(value, &end, 10);
    return end == value + size_bytes ? number : pr_hash_bytes(0, value, size_bytes);
}

pr_status pr_trace_line_read_csv(
    const char *path,
    int64_t number,
    const char *text,
    const pr_trace_columns *columns,
    pr_trace_line *line)
{
    *line = (pr_trace_line){.stamp_s = (double)NAN};
    if (columns->arrived_at >= 0 &&
        (!read_number(text, columns->arrived_at, &line->stamp_s) || line->stamp_s < 0))
        return fail_line(path, number, "arrived_at must be a number of seconds");
    if (!read_count(text, columns->prompt_tokens, &line->prompt_tokens))
        return fail_line(path, number, "num_prefill_tokens must be a whole number from 1");
    if (!read_count(text, columns->outputs, &line->outputs))
        return fail_line(path, number, "num_decode_tokens must be a whole number from 1");
    line->tenant = read_tenant(text, columns->tenant);
    return PR_OK;
}
