// SPDX-License-Identifier: BSD-3-Clause
// One request on its way: its tokens so far, where it sits, how far its prefill is. And the table
// that finds it by id.
//
//   token:  [ prompt ............ | outputs known ... | not yet ]      planned: chunks sent up to here
//   seat[COMPUTE]: the lane that prefills it (a mixed lane also decodes it)
//   seat[DECODE]:  the lane of a decode group that gets or has its KV
//
// Order everywhere: lower priority number first, then first come.
// Memory: one allocation per sequence and one for its tokens, both at submit. Threads: one.
#ifndef PR_SCHEDULER_SEQUENCE_H
#define PR_SCHEDULER_SEQUENCE_H

#include "runtime/batch/request.h"
#include "runtime/cache/kv_cache.h"
#include "scheduler/dispatch/job.h"

struct pr_lane;

typedef enum pr_phase {
    PR_PHASE_WAITING,  // in dispatch or held for a sibling, no seat
    PR_PHASE_GATHER,  // a prefix moves to seat[COMPUTE] from another lane; its workers do not know it
    PR_PHASE_PREFILL,   // chunks left to plan
    PR_PHASE_HANDOVER,  // last chunk planned, KV moves to seat[DECODE]
    PR_PHASE_READY,     // KV is there and the first token known: start with the next plan
    PR_PHASE_DECODE,    // last chunk planned or started: the worker decodes it by itself
} pr_phase;

enum { PR_SEAT_COMPUTE, PR_SEAT_DECODE, PR_SEATS };

typedef struct pr_seat {
    struct pr_lane *lane;  // NULL: none
    pr_kv_sequence *kv;
    int32_t blocks_told;  // length of the block table as the worker knows it; 0: it knows nothing
} pr_seat;

typedef struct pr_sequence {
    pr_request *request;  // owned
    pr_job job;           // the same as dispatch sees it
    uint64_t *chain;      // [job.blocks] owned
    int32_t *token;       // [prompt_tokens + max_tokens]
    int32_t tokens;       // known: prompt and outputs
    int64_t arrival;      // number of its submit
    pr_phase phase;
    uint32_t generation;  // grows when the sequence loses its seats
    int32_t cached;       // leading tokens found in the prefix cache at admission, or fetched
    int32_t target;       // tokens to compute before it decodes
    int32_t planned;      // of these, sent as chunks
    int32_t computed;     // of these, known to be done
    bool prompt_published;
    bool ending;     // nobody wants more tokens, but a handover or gather is still in flight
    bool refused;    // found no decode lane for its last chunk
    bool accepted;   // it had a seat: it is not kept back for want of time
    bool returning;  // accepted, and waits
    bool moved;      // its group was lost, and no token came since
    pr_seat seat[PR_SEATS];

    struct pr_lane *source;  // GATHER: the lane whose blocks it fetches,
    pr_kv_sequence *pinned;  // held there
    int32_t fetched;         // and the leading tokens that there are then
    int64_t gather_begin_ns;
    int32_t gathers_lost;  // damaged in all

    int32_t tag;             // of the handover or gather in flight
    int32_t unsent;          // plans that name it and are not made yet
    int32_t arrivals;        // target ranks that reported
    int32_t handovers_lost;  // damaged in all
    int64_t handover_begin_ns;
    bool damaged;
    bool first_token_known;

    struct pr_sequence_list *list;  // that it is in, or NULL
    struct pr_sequence *list_prev, *list_next;
    struct pr_sequence *table_next;
} pr_sequence;

// The copy of the request's prompt is in `token`; the request is taken on success.
pr_status
pr_sequence_create(pr_request *request, int64_t arrival, pr_sequence **sequence) PR_MUST_CHECK;
void pr_sequence_destroy(pr_sequence *sequence);

static inline int32_t pr_sequence_outputs(const pr_sequence *sequence)
{
    return sequence->tokens - sequence->request->prompt_tokens;
}

// KV entries it can ever need: the last output is never fed.
static inline int32_t pr_sequence_limit(const pr_sequence *sequence)
{
    return sequence->request->prompt_tokens + sequence->request->sampling.max_tokens - 1;
}

// In order of appending. A sequence is in one list at most.
typedef struct pr_sequence_list {
    int32_t sequences;
    pr_sequence *first, *last;
} pr_sequence_list;

void pr_sequence_list_append(pr_sequence_list *list, pr_sequence *sequence);
void pr_sequence_list_remove(pr_sequence *sequence);  // it is in one

bool pr_sequence_before(const pr_sequence *a, const pr_sequence *b);

// The seat in which it decodes.
pr_seat *pr_sequence_decode_seat(pr_sequence *sequence);

typedef struct pr_sequence_table {
    int32_t sequences, buckets;  // buckets: power of two
    pr_sequence **bucket;
} pr_sequence_table;

pr_status pr_sequence_table_create(pr_sequence_table *table) PR_MUST_CHECK;
void pr_sequence_table_destroy(pr_sequence_table *table);  // and every sequence in it
pr_status pr_sequence_table_add(pr_sequence_table *table, pr_sequence *sequence) PR_MUST_CHECK;
void pr_sequence_table_remove(pr_sequence_table *table, pr_sequence *sequence);
pr_sequence *pr_sequence_table_find(const pr_sequence_table *table, uint64_t id);

#endif
