// SPDX-License-Identifier: BSD-3-Clause
// The tensors of a model directory: model.safetensors, or the files that
// model.safetensors.index.json names, mapped read-only. Only headers are read at open.
//
//   file: u64 header length | JSON {name: {dtype, shape, data_offsets}} | data
//
// Every length and offset is checked against the file before use; overlapping tensors, duplicate
// names, wrong sizes, a header beyond the file and a missing shard are refused with the file's name.
// Source: the safetensors format description (huggingface/safetensors README).
// Threads: immutable after open.
#ifndef PR_RUNTIME_MODEL_WEIGHTS_FILE_H
#define PR_RUNTIME_MODEL_WEIGHTS_FILE_H

#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

typedef struct pr_weights pr_weights;

typedef struct pr_tensor {
    const char *name;  // owned by the weights
    const void *data;  // mapped
    pr_dtype dtype;
    int32_t dimensions;  // 0..4
    int64_t shape[4];
    int64_t size_bytes;
} pr_tensor;

pr_status pr_weights_open(const char *directory, pr_weights **weights) PR_MUST_CHECK;
void pr_weights_close(pr_weights *weights);

// NULL if there is none of that name. Silent.
const pr_tensor *pr_weights_find(const pr_weights *weights, const char *name);
int64_t pr_weights_total_bytes(const pr_weights *weights);

// Checks one header in memory as open does (the fuzz target's door). header is the JSON alone,
// without the length before it; file_bytes is the length of the whole file, 8 + header_bytes +
// data, and data offsets are checked against it. path is for messages only.
pr_status pr_weights_check_header(
    const char *path, const void *header, uint64_t header_bytes, uint64_t file_bytes) PR_MUST_CHECK;

#endif
