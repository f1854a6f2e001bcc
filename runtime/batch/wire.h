// SPDX-License-Identifier: BSD-3-Clause
// Reading and writing of little-endian messages. The same code that writes a message first measures
// it, and the same code that reads one first checks and measures it: with no memory given, a writer
// counts bytes and a reader counts what its record will need. So a message costs one allocation.
//
//   header, 16 bytes: magic u32 | version u16 | kind u16 | length of all u64       then the body
//
// A reader never trusts: the first fault is kept in `fault`, from then on every value is 0. Counts are
// compared with the bytes that are left before anything is done with them.
// Threads: none of its own. Layouts of the messages: docs/messages.md.
#ifndef PR_RUNTIME_BATCH_WIRE_H
#define PR_RUNTIME_BATCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_WIRE_HEADER_BYTES = 16 };

typedef enum pr_wire_kind { PR_WIRE_PLAN = 1, PR_WIRE_REPORT = 2 } pr_wire_kind;

typedef struct pr_wire_writer {
    unsigned char *data;  // NULL: only measure
    size_t size_bytes;    // written, or measured
} pr_wire_writer;

typedef struct pr_wire_reader {
    const unsigned char *data;
    size_t size_bytes, at;
    char *memory;       // NULL: only check and measure
    size_t used;        // of memory
    const char *fault;  // NULL: none so far
} pr_wire_reader;

typedef void pr_wire_put(pr_wire_writer *writer, const void *record);
typedef void pr_wire_get(pr_wire_reader *reader, void *record);

// Writes header and body after the first *size_bytes bytes of *buffer, which is grown by realloc.
pr_status pr_wire_encode(
    pr_wire_kind kind,
    pr_wire_put *put,
    const void *record,
    unsigned char **buffer,
    size_t *size_bytes) PR_MUST_CHECK;

// The length of header and body, and writing them where there is room for them.
size_t pr_wire_measure(pr_wire_put *put, const void *record);
void pr_wire_write(
    pr_wire_kind kind,
    pr_wire_put *put,
    const void *record,
    size_t size_bytes,
    unsigned char *data);

// Checks header and body and reads them into one allocation that begins with the record and that the
// caller frees. `get` fills the record and takes its arrays with pr_wire_take. Errors:
// PR_ERR_FORMAT, PR_ERR_UNSUPPORTED (another version), PR_ERR_RESOURCE.
pr_status pr_wire_decode(
    pr_wire_kind kind,
    pr_wire_get *get,
    size_t record_bytes,
    const void *data,
    size_t size_bytes,
    void **record) PR_MUST_CHECK;

void pr_wire_put_u8(pr_wire_writer *writer, uint8_t value);
void pr_wire_put_u16(pr_wire_writer *writer, uint16_t value);
void pr_wire_put_u32(pr_wire_writer *writer, uint32_t value);
void pr_wire_put_u64(pr_wire_writer *writer, uint64_t value);
void pr_wire_put_i32(pr_wire_writer *writer, int32_t value);
void pr_wire_put_f32(pr_wire_writer *writer, float value);
void pr_wire_put_i32s(pr_wire_writer *writer, const int32_t *value, int32_t count);
void pr_wire_put_bytes(pr_wire_writer *writer, const void *data, int32_t count);

uint8_t pr_wire_get_u8(pr_wire_reader *reader);
uint16_t pr_wire_get_u16(pr_wire_reader *reader);
uint32_t pr_wire_get_u32(pr_wire_reader *reader);
uint64_t pr_wire_get_u64(pr_wire_reader *reader);
int32_t pr_wire_get_i32(pr_wire_reader *reader);
float pr_wire_get_f32(pr_wire_reader *reader);
bool pr_wire_get_bool(pr_wire_reader *reader);      // 0 or 1
int32_t pr_wire_get_index(pr_wire_reader *reader);  // 0..INT32_MAX
float pr_wire_get_finite(pr_wire_reader *reader);

// A number of elements that take at least so many bytes each in what is left.
int32_t pr_wire_get_count(pr_wire_reader *reader, size_t element_bytes);

// An array of `count` indices inside the record's memory; NULL when measuring or when empty.
int32_t *pr_wire_get_indices(pr_wire_reader *reader, int32_t count);

// An array of `count` bytes inside the record's memory; NULL when measuring or when empty.
void *pr_wire_get_bytes(pr_wire_reader *reader, int32_t count);

// Memory for an array, 8-byte aligned; NULL when measuring or when empty.
void *pr_wire_take(pr_wire_reader *reader, int32_t count, size_t element_bytes);

// Notes a fault unless `holds`.
void pr_wire_require(pr_wire_reader *reader, bool holds, const char *fault);

#endif
