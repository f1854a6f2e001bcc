// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/sampling/constraint.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

enum { KEPT_UNUSED = 32 };

// A compiled grammar, in a list from the last used to the longest unused.
typedef struct shared_grammar {
    struct shared_grammar *older;
    pr_grammar *grammar;
    uint64_t hash, serial;
    int32_t users;
    pr_grammar_source source;  // its text follows
} shared_grammar;

struct pr_constraints {
    const pr_token_bytes *table;
    int32_t vocabulary;
    pr_token_masks *masks;  // NULL until the first admission
    shared_grammar *newest;
    int32_t grammars;
    uint64_t serials;
};

struct pr_constraint {
    pr_constraints *owner;
    shared_grammar *shared;
    pr_matcher_state state;
};

pr_status
pr_constraints_create(const pr_token_bytes *table, int32_t vocabulary, pr_constraints **constraints)
{
    pr_constraints *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for grammars");
    made->table = table;
    made->vocabulary = vocabulary;
    *constraints = made;
    return PR_OK;
}

static void free_shared(shared_grammar *shared)
{
    pr_grammar_destroy(shared->grammar);
    free(shared);
}

void pr_constraints_destroy(pr_constraints *constraints)
{
    if (!constraints)
        return;
    while (constraints->newest) {
        shared_grammar *shared = constraints->newest;
        constraints->newest = shared->older;
        free_shared(shared);
    }
    pr_token_masks_destroy(constraints->masks);
    free(constraints);
}

// ---- Compiled grammars

static bool is_same(const shared_grammar *shared, uint64_t hash, const pr_grammar_source *source)
{
    return shared->hash == hash && shared->source.kind == source->kind &&
           shared->source.size_bytes == source->size_bytes &&
           (source->size_bytes == 0 ||
            memcmp(shared->source.text, source->text, (size_t)source->size_bytes) == 0);
}

// Frees the longest unused ones beyond those that are kept.
static void forget_unused(pr_constraints *constraints)
{
    int32_t unused = 0;
    for (shared_grammar **link = &constraints->newest; *link;) {
        shared_grammar *shared = *link;
        unused += shared->users == 0;
        if (shared->users > 0 || unused <= KEPT_UNUSED) {
            link = &shared->older;
            continue;
        }
        *link = shared->older;
        constraints->grammars--;
        free_shared(shared);
    }
}

static pr_status make_shared(
    pr_constraints *constraints,
    const pr_grammar_source *source,
    uint64_t hash,
    shared_grammar **shared)
{
    shared_grammar *made = calloc(1, sizeof *made + (size_t)source->size_bytes);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a grammar of %d bytes", source->size_bytes);
    *made = (shared_grammar){.hash = hash, .source = *source, .serial = ++constraints->serials};
    made->source.text = (char *)(made + 1);
    if (source->size_bytes > 0)
        memcpy(made->source.text, source->text, (size_t)source->size_bytes);
    pr_status status = pr_grammar_compile(source, &made->grammar);
    if (status != PR_OK) {
        free(made);
        return status;
    }
    constraints->grammars++;
    *shared = made;
    return PR_OK;
}

static pr_status
share(pr_constraints *constraints, const pr_grammar_source *source, shared_grammar **shared)
{
    uint64_t hash = pr_hash_bytes(
        (uint64_t)source->kind, source->text ? source->text : "", (size_t)source->size_bytes);
    shared_grammar **link = &constraints->newest;
    while (*link && !is_same(*link, hash, source))
        link = &(*link)->older;
    shared_grammar *found = *link;
    if (found)
        *link = found->older;
    else
        PR_TRY(make_shared(constraints, source, hash, &found));
    found->older = constraints->newest;
    constraints->newest = found;
    found->users++;
    forget_unused(constraints);
    *shared = found;
    return PR_OK;
}

// ---- Constraints

pr_status pr_constraints_admit(
    pr_constraints *constraints, const pr_grammar_source *source, pr_constraint **constraint)
{
    if (!constraints->masks) {
        pr_token_masks_params params = {
            .table = constraints->table,
            .vocabulary = constraints->vocabulary,
            .cache_bytes = PR_CONSTRAINT_MASK_BYTES,
        };
        PR_TRY(pr_token_masks_create(&params, &constraints->masks));
    }
    pr_constraint *made = malloc(sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a sequence's grammar");
    made->owner = constraints;
    pr_status status = share(constraints, source, &made->shared);
    if (status != PR_OK) {
        free(made);
        return status;
    }
    pr_token_masks_begin(constraints->masks, made->shared->grammar, &made->state);
    *constraint = made;
    return PR_OK;
}

void pr_constraint_release(pr_constraint *constraint)
{
    if (!constraint)
        return;
    constraint->shared->users--;
    free(constraint);
}

void pr_constraint_find_mask(const pr_constraint *constraint, pr_constraint_mask *mask)
{
    pr_token_mask found;
    pr_token_masks_find(
        constraint->owner->masks, constraint->shared->grammar, constraint->shared->serial,
        &constraint->state, &found);
    *mask = (pr_constraint_mask){
        .allowed = found.bit, .any = found.any, .may_end = constraint->state.ends};
}

bool pr_constraint_take(pr_constraint *constraint, int32_t token)
{
    return pr_token_masks_advance(
        constraint->owner->masks, constraint->shared->grammar, token, &constraint->state);
}

int32_t pr_constraints_grammars(const pr_constraints *constraints) { return constraints->grammars; }
