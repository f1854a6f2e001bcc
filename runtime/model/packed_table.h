// SPDX-License-Identifier: BSD-3-Clause
// What polyreme.weights holds: weights packed for one device, written by `polyreme convert`.
//
//   0      head, 64 bytes, little-endian, hashed
//   4096   blobs, each at a multiple of 4096: packed matrices (whole), tensors as they were stored
//   table  JSON to the end of the file, hashed; the head says where it begins
//
//   head   "polyreme" | u32 version | u32 0 | u64 table begin | u64 table bytes | u64 file bytes |
//          u64 hash of the table | u64 0 | u64 hash of the 56 bytes before
//   table  {"layout": L, "quantization": Q,
//           "matrices": {name: {"dtype", "shape": [rows, cols], "slices", "quantization",
//                               "offsets": [begin, end], "hash"}, ...},
//           "tensors": {name: {"dtype", "shape", "offsets", "hash"}, ...}}
//
// Offsets count from the start of the file. Hashes are pr_hash_bytes with seed 0, as 16 hex digits. The
// layout is the device's word for what the bytes of a matrix mean. Everything here is checked before use.
// Source: ours. Threads: any.
#ifndef PR_RUNTIME_MODEL_PACKED_TABLE_H
#define PR_RUNTIME_MODEL_PACKED_TABLE_H

#include "runtime/device.h"

enum { PR_PACKED_VERSION = 1, PR_PACKED_HEAD_BYTES = 64, PR_PACKED_ALIGNMENT = 4096 };

typedef struct pr_packed_head {
    uint64_t table_begin, table_bytes, table_hash;
} pr_packed_head;

typedef struct pr_packed_entry {
    char *name;
    bool is_matrix;  // else a tensor
    pr_dtype dtype;  // of a matrix: before it was packed
    int32_t dimensions;
    int64_t shape[4];
    int32_t slices;                // of a matrix
    pr_quantization quantization;  // of a matrix
    uint64_t begin, end;           // bytes of the file
    uint64_t hash;
} pr_packed_entry;

typedef struct pr_packed_table {
    char *layout;
    pr_quantization quantization;  // what convert was asked for
    size_t count;
    pr_packed_entry *entry;  // [count] ascending by begin
} pr_packed_table;

const char *pr_quantization_name(pr_quantization quantization);

void pr_packed_head_encode(const pr_packed_head *head, unsigned char bytes[PR_PACKED_HEAD_BYTES]);
// path is for messages. PR_ERR_FORMAT: not such a file, unfinished, damaged, cut off.
// PR_ERR_UNSUPPORTED: another version.
pr_status pr_packed_head_decode(
    const char *path,
    const unsigned char bytes[PR_PACKED_HEAD_BYTES],
    uint64_t file_bytes,
    pr_packed_head *head) PR_MUST_CHECK;

// data_end: where the table begins; no blob reaches beyond.
pr_status pr_packed_table_parse(
    const char *path,
    const void *text,
    size_t text_bytes,
    uint64_t data_end,
    pr_packed_table *table) PR_MUST_CHECK;
// The table's JSON, to be freed; NULL without memory.
char *pr_packed_table_print(const pr_packed_table *table);
void pr_packed_table_release(pr_packed_table *table);

#endif
