// SPDX-License-Identifier: BSD-3-Clause
// The sequences a worker keeps between plans: tokens, block table, how far the KV is written.
//
//   token    [ prompt ........ | outputs ... ]     total
//   KV       [ written ....... )                   computed <= total
//   blocks   [ b3 ][ b7 ][ b1 ]                    capacity = blocks * B positions
//
// Slots are taken at create for max_num_seqs sequences of max_model_len tokens.
#ifndef PR_LAUNCHER_SLOT_H
#define PR_LAUNCHER_SLOT_H

#include "runtime/batch/plan.h"
#include "runtime/sampling/constraint.h"

typedef struct pr_slot {
    pr_request *request;  // own copy; NULL: the slot is free
    uint32_t generation;
    int32_t total, computed;
    int32_t blocks;
    int32_t *token;  // [max_model_len + 1]
    int32_t *block;  // [ceil(max_model_len / B) + 1]
    bool prefilled;  // its last chunk was computed, or its KV arrived and it was started
    bool hands_over;
    pr_constraint *constraint;  // where its outputs stand in its grammar; NULL: no grammar
} pr_slot;

typedef struct pr_slots {
    int32_t slots, block_tokens, max_tokens, max_blocks;
    pr_slot *slot;                // [slots]
    pr_constraints *constraints;  // borrowed
} pr_slots;

pr_status pr_slots_create(
    int32_t count,
    int32_t max_model_len,
    int32_t block_tokens,
    pr_constraints *constraints,
    pr_slots **slots) PR_MUST_CHECK;
void pr_slots_destroy(pr_slots *slots);

pr_status pr_slots_admit(pr_slots *slots, const pr_admission *admission) PR_MUST_CHECK;
pr_status pr_slots_grant(pr_slots *slots, const pr_grant *grant) PR_MUST_CHECK;
pr_slot *pr_slots_find(pr_slots *slots, uint64_t id);  // NULL if there is none
void pr_slot_release(pr_slot *slot);                   // the slot is free
void pr_slots_release_all(pr_slots *slots);
// One more token at the end; false when it does not fit the sequence's grammar.
bool pr_slot_add_token(pr_slot *slot, int32_t token) PR_MUST_CHECK;

// Keeps the token that was drawn as output `index` if the sequence goes on, and says whether it does. One that
// no longer fits its grammar (there was no possible token left to draw) ends.
pr_finish pr_slot_keep_sampled(pr_slot *slot, int32_t index, int32_t token);

// True if the sequence can compute its last token in the next step without a chunk of a plan.
static inline bool pr_slot_decodes(const pr_slot *slot, int32_t block_tokens)
{
    return slot->request && slot->prefilled && !slot->hands_over &&
           slot->computed == slot->total - 1 && slot->total <= slot->blocks * block_tokens;
}

#endif
