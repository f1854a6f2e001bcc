// SPDX-License-Identifier: BSD-3-Clause
// What one rank's memory holds: weights, working memory, and as many KV blocks as are useful and fit.
// The same arithmetic sizes a run and is what `plan` prints.
//
//   memory of a rank  = packed weights | working memory (estimate) | KV blocks
//   KV blocks of a lane = the smaller of what is left of the memory and what max-num-seqs sequences
//                         of max-model-len tokens need; at least one such sequence
//
// Pure arithmetic; nothing is allocated.
#ifndef PR_LAUNCHER_ENGINE_MEMORY_BUDGET_H
#define PR_LAUNCHER_ENGINE_MEMORY_BUDGET_H

#include <stddef.h>
#include <stdint.h>

#include "launcher/options.h"
#include "runtime/batch/layout.h"
#include "runtime/device.h"
#include "runtime/model/model.h"
#include "runtime/model/weights_file.h"

typedef struct pr_memory_facts {
    const pr_options *options;
    const pr_model *model;
    pr_dtype weight_dtype;
    pr_quantization converted;  // of a converted model, else none: what the options say counts
    // pr_device.matrix_bytes of the device that will hold the weights.
    size_t (*matrix_bytes)(
        int64_t rows, int64_t cols, pr_dtype dtype, pr_quantization quantization);
    bool has_table;         // the embedding takes device memory, too: it is no file of the host's
    int64_t memory_bytes;   // of one rank
    int32_t max_model_len;  // resolved: pr_memory_facts_fill
} pr_memory_facts;

// Fills the facts. weights may be NULL (only a config.json is there): bfloat16 is assumed.
// `sharers` ranks share what is free on the device unless --memory says otherwise. Errors:
// PR_ERR_ARGUMENT if --max-model-len exceeds the model's.
pr_status pr_memory_facts_fill(
    const pr_options *options,
    const pr_model *model,
    const pr_weights *weights,
    const pr_device *device,
    int32_t sharers,
    pr_memory_facts *facts) PR_MUST_CHECK;

// What the matrices are quantised to.
pr_quantization pr_memory_quantization(const pr_memory_facts *facts);

// Of the fullest rank of a group of `ranks` ranks with `tp`.
typedef struct pr_memory_budget {
    int32_t experts;        // local, of the fullest rank
    int64_t weight_bytes;   // packed
    int64_t work_bytes;     // activations, logits, exchange buffers: an estimate
    int64_t block_bytes;    // one KV block, all layers
    int64_t blocks_fit;     // beside weights and working memory; may be negative
    int64_t blocks_useful;  // max-num-seqs sequences of max-model-len tokens
    int64_t blocks_least;   // one sequence of max-model-len tokens
} pr_memory_budget;

void pr_memory_budget_of(
    const pr_memory_facts *facts, int32_t ranks, int32_t tp, pr_memory_budget *budget);

// Device bytes of the weights of a rank with so many local experts.
int64_t pr_memory_weight_bytes(const pr_memory_facts *facts, int32_t experts, int32_t tp);

// KV blocks of every lane (the smallest group decides), or --kv-blocks if given and enough for one
// sequence. Errors: PR_ERR_RESOURCE says which group is too full and what to lower.
pr_status pr_memory_budget_blocks(
    const pr_memory_facts *facts, const pr_layout *layout, int32_t *blocks) PR_MUST_CHECK;

// "1.5 GiB", "96.0 KiB".
void pr_memory_text(int64_t bytes, char text[24]);

#endif
