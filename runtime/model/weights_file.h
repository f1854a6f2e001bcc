// SPDX-License-Identifier: BSD-3-Clause
// The tensors of a model directory: polyreme.weights (packed_table.h) if the model was converted, else
// model.safetensors or the files that model.safetensors.index.json names, mapped read-only. Only headers
// are read at open.
//
//   file: u64 header length | JSON {name: {dtype, shape, data_offsets}} | data
//
// Every length and offset is checked against the file before use; overlapping tensors, duplicate
// names, wrong sizes, a header beyond the file and a missing shard are refused with the file's name.
// Source: the safetensors format description (huggingface/safetensors README).
// Threads: immutable after open, but for the first error of the reader, which any number may use at once.
#ifndef PR_RUNTIME_MODEL_WEIGHTS_FILE_H
#define PR_RUNTIME_MODEL_WEIGHTS_FILE_H

#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"
#include "runtime/device.h"

#define PR_PACKED_NAME "polyreme.weights"

typedef struct pr_weights pr_weights;

typedef struct pr_tensor {
    const char *name;  // owned by the weights
    const void *data;  // mapped
    pr_dtype dtype;
    int32_t dimensions;  // 0..4
    int64_t shape[4];
    int64_t size_bytes;
} pr_tensor;

// A matrix of a converted model.
typedef struct pr_packed_tensor {
    const char *name;
    pr_packed_shape shape;
    const void *data;  // mapped
    int64_t size_bytes;
} pr_packed_tensor;

// How bytes come from the files.
typedef enum pr_load_mode {
    PR_LOAD_AUTO,
    PR_LOAD_MMAP,  // packed from the mapping; packed weights used in it
    PR_LOAD_READ,  // by read calls
} pr_load_mode;

pr_status pr_weights_open(const char *directory, pr_weights **weights) PR_MUST_CHECK;
void pr_weights_close(pr_weights *weights);

// NULL if there is none of that name. Silent.
const pr_tensor *pr_weights_find(const pr_weights *weights, const char *name);
const pr_packed_tensor *pr_weights_find_packed(const pr_weights *weights, const char *name);
int64_t pr_weights_total_bytes(const pr_weights *weights);

// Of a converted model: the layout of its matrices (NULL: not converted), and what they were quantised to.
const char *pr_weights_layout(const pr_weights *weights);
pr_quantization pr_weights_quantization(const pr_weights *weights);
// Reads a converted model whole and compares its hashes. PR_ERR_FORMAT names what is damaged.
pr_status pr_weights_verify(const pr_weights *weights) PR_MUST_CHECK;

// What PR_LOAD_AUTO comes to: read calls, which are never slower and twice as fast from a cold disk, and put
// packed weights on huge pages; the mapping where the file is in memory, which would hold them twice.
pr_load_mode pr_weights_load_mode(const pr_weights *weights, pr_load_mode wanted);
const pr_byte_reader *pr_weights_reader(const pr_weights *weights);
// Says why the reader failed: PR_ERR_IO.
pr_status pr_weights_fail_read(const pr_weights *weights);
// Asks the system to have these mapped bytes in memory soon.
void pr_weights_fetch(const pr_weights *weights, const void *from, size_t size_bytes);

// Checks one header in memory as open does (the fuzz target's door). header is the JSON alone,
// without the length before it; file_bytes is the length of the whole file, 8 + header_bytes +
// data, and data offsets are checked against it. path is for messages only.
pr_status pr_weights_check_header(
    const char *path, const void *header, uint64_t header_bytes, uint64_t file_bytes) PR_MUST_CHECK;

#endif
