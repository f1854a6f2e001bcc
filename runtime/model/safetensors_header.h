// SPDX-License-Identifier: BSD-3-Clause
// The JSON header of one safetensors file, checked.
//
//   {"__metadata__": {...}, name: {"dtype": "BF16", "shape": [..], "data_offsets": [begin, end]}}
//
// Offsets count from the end of the header. The data must be covered without holes or overlaps,
// as the format demands, so one missing or doubled byte is noticed here.
// Threads: any.
#ifndef PR_RUNTIME_MODEL_SAFETENSORS_HEADER_H
#define PR_RUNTIME_MODEL_SAFETENSORS_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

typedef struct pr_safetensors_entry {
    char *name;
    pr_dtype dtype;
    int32_t dimensions;  // 0..4
    int64_t shape[4];
    uint64_t begin, end;  // bytes of the data
} pr_safetensors_entry;

typedef struct pr_safetensors_header {
    size_t count;
    pr_safetensors_entry *entry;  // [count] ascending by begin
} pr_safetensors_header;

// text: the JSON alone, text_bytes long; data_bytes: what follows it in the file. path is for
// messages.
pr_status pr_safetensors_header_parse(
    const char *path,
    const void *text,
    size_t text_bytes,
    uint64_t data_bytes,
    pr_safetensors_header *header) PR_MUST_CHECK;
void pr_safetensors_header_release(pr_safetensors_header *header);

#endif
