// SPDX-License-Identifier: BSD-3-Clause
// The sequences a worker keeps between plans: tokens, block table, how far the KV is written.
//
//   token    [ prompt ........ | outputs ... ]     total
//   KV       [ written ....... )                   computed <= total
//   blocks   [ b3 ][ b7 ][ b1 ]                    capacity = blocks * B positions
//
// Slots are taken at create for max_num_seqs sequences of max_model_len tokens.
#ifndef PR_LAUNCHER_SEQUENCE_H
#define PR_LAUNCHER_SEQUENCE_H

#include "runtime/batch/plan.h"

typedef struct pr_sequence {
    pr_request *request;  // own copy; NULL: the slot is free
    uint32_t generation;
    int32_t total, computed;
    int32_t blocks;
    int32_t *token;  // [max_model_len + 1]
    int32_t *block;  // [ceil(max_model_len / B) + 1]
    bool waits;      // for its KV to arrive and a start
    bool hands_over;
} pr_sequence;

typedef struct pr_sequences {
    int32_t slots, block_tokens, max_tokens, max_blocks;
    pr_sequence *slot;  // [slots]
} pr_sequences;

pr_status pr_sequences_create(
    int32_t slots, int32_t max_model_len, int32_t block_tokens, pr_sequences **sequences)
    PR_MUST_CHECK;
void pr_sequences_destroy(pr_sequences *sequences);

pr_status pr_sequences_admit(pr_sequences *sequences, const pr_admission *admission) PR_MUST_CHECK;
pr_status pr_sequences_grant(pr_sequences *sequences, const pr_grant *grant) PR_MUST_CHECK;
pr_sequence *pr_sequences_find(pr_sequences *sequences, uint64_t id);  // NULL if there is none
void pr_sequence_release(pr_sequence *sequence);                       // the slot is free

// True if the sequence can compute its last token in the next step without a chunk of a plan.
static inline bool pr_sequence_decodes(const pr_sequence *sequence, int32_t block_tokens)
{
    return sequence->request && !sequence->waits && !sequence->hands_over &&
           sequence->computed == sequence->total - 1 &&
           sequence->total > sequence->request->prompt_tokens &&
           sequence->total <= sequence->blocks * block_tokens;
}

#endif
