// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/batch/wire.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/batch/plan.h"

static const uint32_t magic = 0x314d5250u;  // "PRM1" as bytes
static const size_t least_buffer_bytes = 256;

static const char *kind_name(pr_wire_kind kind) { return kind == PR_WIRE_PLAN ? "plan" : "report"; }

static void put_bytes(pr_wire_writer *writer, uint64_t value, size_t bytes)
{
    if (writer->data) {
        for (size_t i = 0; i < bytes; i++)
            writer->data[writer->size_bytes + i] = (unsigned char)(value >> (8 * i));
    }
    writer->size_bytes += bytes;
}

void pr_wire_put_u8(pr_wire_writer *writer, uint8_t value) { put_bytes(writer, value, 1); }

void pr_wire_put_u16(pr_wire_writer *writer, uint16_t value) { put_bytes(writer, value, 2); }

void pr_wire_put_u32(pr_wire_writer *writer, uint32_t value) { put_bytes(writer, value, 4); }

void pr_wire_put_u64(pr_wire_writer *writer, uint64_t value) { put_bytes(writer, value, 8); }

void pr_wire_put_i32(pr_wire_writer *writer, int32_t value)
{
    put_bytes(writer, (uint32_t)value, 4);
}

void pr_wire_put_f32(pr_wire_writer *writer, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    put_bytes(writer, bits, 4);
}

void pr_wire_put_i32s(pr_wire_writer *writer, const int32_t *value, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        pr_wire_put_i32(writer, value[i]);
}

void pr_wire_put_bytes(pr_wire_writer *writer, const void *data, int32_t count)
{
    if (writer->data && count > 0)
        memcpy(writer->data + writer->size_bytes, data, (size_t)count);
    writer->size_bytes += (size_t)count;
}

size_t pr_wire_measure(pr_wire_put *put, const void *record)
{
    pr_wire_writer writer = {.data = NULL, .size_bytes = PR_WIRE_HEADER_BYTES};
    put(&writer, record);
    return writer.size_bytes;
}

void pr_wire_write(
    pr_wire_kind kind, pr_wire_put *put, const void *record, size_t size_bytes, unsigned char *data)
{
    pr_wire_writer writer = {.data = data};
    pr_wire_put_u32(&writer, magic);
    pr_wire_put_u16(&writer, PR_WIRE_VERSION);
    pr_wire_put_u16(&writer, (uint16_t)kind);
    pr_wire_put_u64(&writer, size_bytes);
    put(&writer, record);
}

pr_status pr_wire_encode(
    pr_wire_kind kind,
    pr_wire_put *put,
    const void *record,
    unsigned char **buffer,
    size_t *size_bytes)
{
    size_t length = pr_wire_measure(put, record), capacity = least_buffer_bytes;
    while (capacity < *size_bytes + length)  // few sizes, so that a reused buffer seldom moves
        capacity *= 2;
    unsigned char *grown = realloc(*buffer, capacity);
    if (!grown)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for a %s message of %zu bytes", kind_name(kind), length);
    *buffer = grown;
    pr_wire_write(kind, put, record, length, grown + *size_bytes);
    *size_bytes += length;
    return PR_OK;
}

void pr_wire_require(pr_wire_reader *reader, bool holds, const char *fault)
{
    if (!holds && !reader->fault)
        reader->fault = fault;
}

static uint64_t get_bytes(pr_wire_reader *reader, size_t bytes)
{
    pr_wire_require(reader, bytes <= reader->size_bytes - reader->at, "it ends too early");
    if (reader->fault)
        return 0;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)reader->data[reader->at + i] << (8 * i);
    reader->at += bytes;
    return value;
}

uint8_t pr_wire_get_u8(pr_wire_reader *reader) { return (uint8_t)get_bytes(reader, 1); }

uint16_t pr_wire_get_u16(pr_wire_reader *reader) { return (uint16_t)get_bytes(reader, 2); }

uint32_t pr_wire_get_u32(pr_wire_reader *reader) { return (uint32_t)get_bytes(reader, 4); }

uint64_t pr_wire_get_u64(pr_wire_reader *reader) { return get_bytes(reader, 8); }

int32_t pr_wire_get_i32(pr_wire_reader *reader) { return (int32_t)get_bytes(reader, 4); }

float pr_wire_get_f32(pr_wire_reader *reader)
{
    uint32_t bits = pr_wire_get_u32(reader);
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

float pr_wire_get_finite(pr_wire_reader *reader)
{
    float value = pr_wire_get_f32(reader);
    pr_wire_require(reader, isfinite(value), "a number is not finite");
    return value;
}

bool pr_wire_get_bool(pr_wire_reader *reader)
{
    uint8_t value = pr_wire_get_u8(reader);
    pr_wire_require(reader, value <= 1, "a truth value is neither 0 nor 1");
    return value == 1;
}

int32_t pr_wire_get_index(pr_wire_reader *reader)
{
    int32_t value = pr_wire_get_i32(reader);
    pr_wire_require(reader, value >= 0, "an index or count is negative");
    return reader->fault ? 0 : value;
}

int32_t pr_wire_get_count(pr_wire_reader *reader, size_t element_bytes)
{
    int32_t count = pr_wire_get_index(reader);
    size_t left = reader->size_bytes - reader->at;
    pr_wire_require(
        reader, (size_t)count <= left / element_bytes, "a count is larger than the message");
    return reader->fault ? 0 : count;
}

void *pr_wire_take(pr_wire_reader *reader, int32_t count, size_t element_bytes)
{
    size_t start = reader->used;
    reader->used += ((size_t)count * element_bytes + 7) & ~(size_t)7;
    return reader->memory && count > 0 ? reader->memory + start : NULL;
}

void *pr_wire_get_bytes(pr_wire_reader *reader, int32_t count)
{
    void *array = pr_wire_take(reader, count, 1);
    pr_wire_require(reader, (size_t)count <= reader->size_bytes - reader->at, "it ends too early");
    if (reader->fault)
        return NULL;
    if (array)
        memcpy(array, reader->data + reader->at, (size_t)count);
    reader->at += (size_t)count;
    return array;
}

int32_t *pr_wire_get_indices(pr_wire_reader *reader, int32_t count)
{
    int32_t *array = pr_wire_take(reader, count, sizeof *array);
    for (int32_t i = 0; i < count && !reader->fault; i++) {
        int32_t value = pr_wire_get_index(reader);
        if (array)
            array[i] = value;
    }
    return array;
}

static pr_status check_header(pr_wire_reader *reader, pr_wire_kind kind)
{
    uint32_t found_magic = pr_wire_get_u32(reader);
    uint16_t version = pr_wire_get_u16(reader), found_kind = pr_wire_get_u16(reader);
    uint64_t length = pr_wire_get_u64(reader);
    pr_wire_require(reader, found_magic == magic, "it does not begin with PRM1");
    if (!reader->fault && version != PR_WIRE_VERSION)
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "a %s message has version %u and this program speaks %d: run one build on all ranks",
            kind_name(kind), version, PR_WIRE_VERSION);
    pr_wire_require(reader, found_kind == (uint16_t)kind, "it is of another kind");
    pr_wire_require(reader, length == reader->size_bytes, "its length field is wrong");
    return PR_OK;
}

pr_status pr_wire_decode(
    pr_wire_kind kind,
    pr_wire_get *get,
    size_t record_bytes,
    const void *data,
    size_t size_bytes,
    void **record)
{
    union {
        pr_plan plan;
        pr_report report;
    } scratch;
    assert(record_bytes <= sizeof scratch);
    pr_wire_reader reader = {.data = data, .size_bytes = size_bytes};
    pr_status status = check_header(&reader, kind);
    if (status == PR_OK) {
        pr_wire_take(&reader, 1, record_bytes);
        get(&reader, &scratch);
        pr_wire_require(&reader, reader.at == size_bytes, "it goes on after its end");
        if (reader.fault)
            status = pr_fail(
                PR_ERR_FORMAT, "a %s message of %zu bytes is malformed at byte %zu: %s",
                kind_name(kind), size_bytes, reader.at, reader.fault);
    }
    if (status != PR_OK)
        return status;
    char *memory = malloc(reader.used);
    if (!memory)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for a %s of %zu bytes", kind_name(kind), reader.used);
    reader = (pr_wire_reader){
        .data = data, .size_bytes = size_bytes, .at = PR_WIRE_HEADER_BYTES, .memory = memory};
    get(&reader, pr_wire_take(&reader, 1, record_bytes));
    *record = memory;
    return PR_OK;
}
