// SPDX-License-Identifier: BSD-3-Clause
// Grammars of the sequences of one rank: each sequence has a constraint, where its outputs stand in its
// grammar. Sequences with the same source share one compiled grammar; a few are kept after their last use.
//
//   admit: compile or share   ->  find_mask, take, find_mask, take, ...  ->  release
//
// Memory: admit takes it (a constraint, and with the first one the masks of token_mask.h); find_mask and
// take take none. Threads: one per thread.
#ifndef PR_RUNTIME_SAMPLING_CONSTRAINT_H
#define PR_RUNTIME_SAMPLING_CONSTRAINT_H

#include "runtime/sampling/token_mask.h"

enum { PR_CONSTRAINT_MASK_BYTES = 32 << 20 };  // of the cache of masks

typedef struct pr_constraints pr_constraints;
typedef struct pr_constraint pr_constraint;

typedef struct pr_constraint_mask {
    const uint64_t *allowed;  // [ceil(V / 64)]; valid until the next find of any constraint
    bool any;                 // a bit is set
    bool may_end;             // the text so far is complete
} pr_constraint_mask;

// The table is borrowed.
pr_status pr_constraints_create(
    const pr_token_bytes *table, int32_t vocabulary, pr_constraints **constraints) PR_MUST_CHECK;
// All constraints must be released before.
void pr_constraints_destroy(pr_constraints *constraints);

// PR_ERR_REQUEST: the source does not compile. Nothing is there after an error.
pr_status pr_constraints_admit(
    pr_constraints *constraints,
    const pr_grammar_source *source,
    pr_constraint **constraint) PR_MUST_CHECK;
void pr_constraint_release(pr_constraint *constraint);  // NULL is fine

void pr_constraint_find_mask(const pr_constraint *constraint, pr_constraint_mask *mask);
// One more token; false, with the constraint unchanged, when it does not fit.
bool pr_constraint_take(pr_constraint *constraint, int32_t token);

// How many grammars are compiled at the moment, in use or kept.
int32_t pr_constraints_grammars(const pr_constraints *constraints);

#endif
