// SPDX-License-Identifier: BSD-3-Clause
// Requests of a recorded or modelled workload, from a file: who arrives when, with how many tokens, and
// which prefix blocks it shares with whom.
//
//   Mooncake JSONL   {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [ids]}
//   Azure CSV        arrived_at (s), num_prefill_tokens, num_decode_tokens [, tenant]
//   lengths only     num_prefill_tokens, num_decode_tokens (ShareGPT-like): arrivals are made, Poisson
// Plain or gzip, told apart by content. Ids: equal id = equal prefix up to and including that block; a
// trace without ids shares nothing.
// "spread": m lines with one stamp t become t + k (t_next - t) / m, k = 0..m-1 (last stamp: 3 s);
// "raw" keeps the stamps. Copies of a request arrive as neighbours in the file would, and are spread so.
// Memory: one record per request and 8 bytes per block, both times the copies.
#ifndef PR_LAUNCHER_SIMULATE_TRACE_H
#define PR_LAUNCHER_SIMULATE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_trace_request {
    double arrival_s;  // at speed 1, after spreading; ascending
    int32_t prompt_tokens, outputs;
    uint64_t tenant;
    int32_t priority;                     // these three: 0 in every file; callers may set them
    double ttft_target_s, tpot_target_s;  // 0: none
    int32_t blocks;
    const uint64_t *block;  // [blocks] hashes of the trace's ids; the last may cover a part
} pr_trace_request;

typedef struct pr_trace {
    int64_t requests;
    pr_trace_request *request;  // [requests]
    int32_t block_tokens;       // of the ids; 0: no ids
    uint64_t *block;            // all blocks, in one allocation
    bool made_arrivals;         // the file has none: a Poisson process
    char sha256[65];            // of the file as it lies on disk
} pr_trace;

typedef struct pr_trace_params {
    const char *path;
    int32_t block_tokens;  // Mooncake: 512 unless the caller says otherwise
    bool raw;              // keep stamps as they are
    int64_t most;          // first so many requests of the file, cut after spreading; 0: all
    int32_t
        copies;  // weak scaling: so many replicas with disjoint ids, block 0 shared; 1: as it is
    double rate_per_s;  // arrivals of a trace without stamps
    uint64_t seed;
} pr_trace_params;

// Errors: PR_ERR_NOT_FOUND, PR_ERR_FORMAT (line number and what is wrong with it).
pr_status pr_trace_read(const pr_trace_params *params, pr_trace *trace) PR_MUST_CHECK;
void pr_trace_free(pr_trace *trace);

#endif
