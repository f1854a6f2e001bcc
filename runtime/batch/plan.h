// SPDX-License-Identifier: BSD-3-Clause
// What one group does next (plan, rank 0 -> every rank of the group) and what came of it (report,
// lane leaders -> rank 0). Plans carry deltas: a worker keeps its sequences between plans.
//
// Life of a sequence in a group:
//   admit -> chunk, chunk, ... (prefill; the last one samples) -> decodes by itself each step, feeding
//   its own tokens, while it has room in its granted blocks -> stops by itself (stop token, max_tokens)
//   or by drop. A decode group admits with `arrives`: its KV comes by a handover, it starts when
//   `start` names it. A prefill group admits with `hand_over`: it never decodes.
//
// Execution of a plan, at a step boundary, in this order: drops, copies, admissions, grants, starts,
// handovers noted; then one step with all chunks plus one token of every sequence that can decode;
// then up to max_steps - 1 further steps of decoding until the next plan is there. Plans are numbered
// from 1 per group and executed in order, each exactly once. A plan with max_steps 0 runs no step.
//
// A drop or grant may name a sequence that ended by itself meanwhile; it then has no effect.
//
// generation: counts the admissions of one sequence (it grows when a preempted one comes back);
// reports of an older generation are ignored.
//
// Wire form: docs/messages.md. Little endian, versioned, every length checked; decode never trusts.
#ifndef PR_RUNTIME_BATCH_PLAN_H
#define PR_RUNTIME_BATCH_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/batch/request.h"

enum { PR_WIRE_VERSION = 3 };

typedef struct pr_admission {
    const pr_request *request;  // borrowed when encoding, taken by the worker after decoding
    uint32_t generation;
    int32_t lane;
    int32_t outputs;        // tokens generated before (a preempted sequence that comes back)
    const int32_t *output;  // [outputs]
    int32_t computed;       // leading tokens whose KV already lies in the blocks (prefix cache)
    int32_t blocks;
    const int32_t *block;  // [blocks] first part of the block table
    bool arrives;          // KV comes by handover; wait for start
    bool hands_over;       // stop after the last chunk's token; the decode group goes on
} pr_admission;

// More blocks at the end of a sequence's table.
typedef struct pr_grant {
    uint64_t id;
    int32_t blocks;
    const int32_t *block;  // [blocks]
} pr_grant;

// Compute tokens [start, start + count) of a sequence's prompt + outputs in the first step. If they
// reach its end, the next token is sampled.
typedef struct pr_chunk {
    uint64_t id;
    int32_t start, count;
} pr_chunk;

typedef struct pr_drop {
    uint64_t id;
    uint32_t generation;
} pr_drop;

typedef struct pr_copy {
    int32_t lane, from, to;
} pr_copy;

// Moves whole blocks of a sequence between lanes. Stands in the plans of both groups (of one group:
// once); each target rank reports when its heads of all layers are there.
//   not gather: a sequence goes on to its decode lane. The source sends layer by layer during the step
//               of its last chunk. Both plans come from one round of the scheduler.
//   gather:     a prefix that the source has written before goes to the lane that will compute the
//               sequence. The source sends beside its steps, which do not wait for it; the blocks
//               stay as they are until the arrival. The target may expect it earlier, and knows the
//               sequence only afterwards: the admission comes then.
typedef struct pr_handover {
    uint64_t id;
    uint32_t generation;
    int32_t tag;  // unique among those in flight between two groups, 0..32767
    int32_t from_group, from_lane, to_group, to_lane;
    int32_t blocks;
    const int32_t *from_block;  // [blocks]
    const int32_t *to_block;    // [blocks]
    int32_t first_block;        // index of the first within the sequence's table
    bool gather;
} pr_handover;

// The KV has arrived: decode from `token`, output number `index` (0-based).
typedef struct pr_start {
    uint64_t id;
    int32_t index, token;
} pr_start;

typedef struct pr_plan {
    uint64_t number;
    int32_t group;
    int32_t max_steps;
    int32_t drops, copies, admissions, grants, starts, handovers, chunks;
    const pr_drop *drop;
    const pr_copy *copy;
    const pr_admission *admission;
    const pr_grant *grant;
    const pr_start *start;
    const pr_handover *handover;
    const pr_chunk *chunk;
} pr_plan;

typedef enum pr_finish {
    PR_FINISH_NONE,
    PR_FINISH_STOP,    // stop token; stop_token says which
    PR_FINISH_LENGTH,  // max_tokens or the context's end
    PR_FINISH_HANDED,  // the prefill part is done
} pr_finish;

typedef struct pr_logprob {
    int32_t token;
    float logprob;
} pr_logprob;

// One sampled token.
typedef struct pr_token_report {
    uint64_t id;
    uint32_t generation;
    int32_t index;  // 0-based output number
    int32_t token;
    pr_finish finish;
    float logprob;  // of the token, natural log, before penalties and temperature; 0 if not asked
    int32_t tops;   // most likely tokens, descending, ties: lower token first
    const pr_logprob *top;  // [tops]
} pr_token_report;

// One token of a prompt, given those before it; of requests with sampling.prompt_logprobs >= 0.
typedef struct pr_prompt_logprob {
    uint64_t id;
    uint32_t generation;
    int32_t index;  // position in the prompt, from 1
    int32_t token;
    float logprob;  // as those of pr_token_report
    int32_t tops;
    const pr_logprob *top;  // [tops]
} pr_prompt_logprob;

// A chunk done: tokens [0, computed) of the sequence are in the KV blocks.
typedef struct pr_chunk_report {
    uint64_t id;
    uint32_t generation;
    int32_t computed;
} pr_chunk_report;

// A handover arrived (or failed its checks) at one target rank.
typedef struct pr_arrival_report {
    uint64_t id;
    uint32_t generation;
    bool intact;
} pr_arrival_report;

// What one step computed in one lane: what its time depends on (scheduler/cost/cost_model.h, step_fit.h).
typedef struct pr_step_work {
    int32_t prefill_rows;      // tokens of chunks
    int32_t decode_sequences;  // with one row each
    int64_t prefill_pairs;     // query-key pairs of the chunks: count start + count (count + 1) / 2
    int64_t decode_context;    // keys that the decode rows see, themselves included
} pr_step_work;

// What one rank has to say after one step. Only lane leaders report tokens and chunks; every rank
// of a target lane reports arrivals. Prompt logprobs travel in reports of their own, as many as it
// takes, before the one that says that their chunk is done: no decision depends on them.
typedef struct pr_report {
    uint64_t plan;  // number of the plan the step belonged to
    uint32_t step;  // 0-based step within the plan
    int32_t group, lane;
    bool
        plan_finished;  // no further step runs under this plan: nothing to do, or the next is there.
                        // Each plan's last report of at least one lane says so, also with no step
    int64_t step_ns;
    pr_step_work work;
    int32_t tokens, chunks, arrivals;
    const pr_token_report *token;
    const pr_chunk_report *chunk;
    const pr_arrival_report *arrival;
    int32_t prompt_logprobs;  // if any: nothing else is in the report
    const pr_prompt_logprob *prompt_logprob;
} pr_report;

// Writes the wire form after the first *size_bytes bytes of a buffer that is grown as needed (*buffer
// from malloc, or NULL with *size_bytes = 0; the caller frees). *size_bytes grows by its length.
pr_status
pr_plan_encode(const pr_plan *plan, unsigned char **buffer, size_t *size_bytes) PR_MUST_CHECK;
pr_status
pr_report_encode(const pr_report *report, unsigned char **buffer, size_t *size_bytes) PR_MUST_CHECK;

// The same in memory that the caller keeps: the length of the wire form, and the form itself.
size_t pr_report_measure(const pr_report *report);
void pr_report_write(const pr_report *report, size_t size_bytes, unsigned char *data);

// Decodes into one allocation that the caller frees with pr_plan_free / pr_report_free. The plan's
// requests are inside the same allocation (copy with pr_request_copy to keep one). Errors:
// PR_ERR_FORMAT (truncated, lengths, bounds, wrong kind), PR_ERR_UNSUPPORTED (another version).
pr_status pr_plan_decode(const void *data, size_t size_bytes, pr_plan **plan) PR_MUST_CHECK;
pr_status pr_report_decode(const void *data, size_t size_bytes, pr_report **report) PR_MUST_CHECK;
void pr_plan_free(pr_plan *plan);
void pr_report_free(pr_report *report);

#endif
