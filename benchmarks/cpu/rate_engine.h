// SPDX-License-Identifier: BSD-3-Clause
// One rank with a model, opened as the program opens it, and the KV cache that a measurement needs.
//
//   sequence i of S, length L:  [b17][b4][b90]...   blocks in a fixed random order over the whole store,
//                               as in a cache that has been in use
//
// Threads: one. Everything about how a device and a shard are opened is in rate_engine.c's open_parts.
#ifndef PR_BENCHMARKS_CPU_RATE_ENGINE_H
#define PR_BENCHMARKS_CPU_RATE_ENGINE_H

#include "runtime/model/forward.h"

enum { PR_RATE_BLOCK_TOKENS = 16, PR_RATE_STEP_TOKENS = 512, PR_RATE_MOST_SEQUENCES = 64 };

typedef struct pr_rate_options {
    const char *model, *isa;
    const char *states;  // directory for saved prompts
    int32_t threads;
    pr_quantization quantization;
    pr_dtype kv_dtype;
} pr_rate_options;

typedef struct pr_rate_engine {
    pr_rate_options options;
    pr_device *device;
    pr_model *model;
    pr_weights *weights;
    pr_shard *shard;
    pr_parallel *parallel;
    pr_kv_store *store;  // NULL while there is none
    pr_forward *forward;
    int32_t sequences, length;  // what the store is for
    int32_t filled;             // tokens that every sequence holds
    int32_t *block;             // [sequences][ceil(length / B)]
} pr_rate_engine;

// All of *engine is set; the options' strings are borrowed.
pr_status pr_rate_engine_open(const pr_rate_options *options, pr_rate_engine *engine) PR_MUST_CHECK;
void pr_rate_engine_close(pr_rate_engine *engine);

// Room for so many sequences of so many tokens. A store of that shape is kept, with what it holds.
pr_status
pr_rate_engine_reserve(pr_rate_engine *engine, int32_t sequences, int32_t length) PR_MUST_CHECK;
void pr_rate_engine_release(pr_rate_engine *engine);
const int32_t *pr_rate_engine_blocks(const pr_rate_engine *engine, int32_t sequence);

// The KV of sequence 0's first `context` tokens, to and from a file of the states directory. Restored
// into every sequence. Errors: PR_ERR_NOT_FOUND (no such file yet), PR_ERR_IO.
pr_status pr_rate_engine_save(const pr_rate_engine *engine, int32_t context) PR_MUST_CHECK;
pr_status pr_rate_engine_restore(pr_rate_engine *engine, int32_t context) PR_MUST_CHECK;

#endif
