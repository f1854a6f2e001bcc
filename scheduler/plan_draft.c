// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/plan_draft.h"

#include <assert.h>
#include <stdlib.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

pr_status pr_plan_draft_create(pr_plan_draft *draft, int32_t group, int32_t seats, int32_t pins)
{
    size_t n = (size_t)seats, moves = n + (size_t)pins;
    *draft = (pr_plan_draft){
        .seats = seats,
        .moves = seats + pins,
        .plan = {.group = group},
        .drop = malloc(n * sizeof(pr_drop)),
        .copy = malloc(n * sizeof(pr_copy)),
        .admission = malloc(n * sizeof(pr_admission)),
        .grant = malloc(n * sizeof(pr_grant)),
        .start = malloc(n * sizeof(pr_start)),
        .handover = malloc(moves * sizeof(pr_handover)),
        .chunk = malloc(n * sizeof(pr_chunk)),
        .admitted = malloc(n * sizeof(pr_sequence *)),
        .handed = malloc(moves * sizeof(pr_sequence *)),
    };
    draft->plan.drop = draft->drop;
    draft->plan.copy = draft->copy;
    draft->plan.admission = draft->admission;
    draft->plan.grant = draft->grant;
    draft->plan.start = draft->start;
    draft->plan.handover = draft->handover;
    draft->plan.chunk = draft->chunk;
    if (!draft->drop || !draft->copy || !draft->admission || !draft->grant || !draft->start ||
        !draft->handover || !draft->chunk || !draft->admitted || !draft->handed)
        return pr_fail(PR_ERR_RESOURCE, "no memory for plans of %d sequences", (int)seats);
    return PR_OK;
}

void pr_plan_draft_destroy(pr_plan_draft *draft)
{
    free(draft->drop);
    free(draft->copy);
    free(draft->admission);
    free(draft->grant);
    free(draft->start);
    free(draft->handover);
    free(draft->chunk);
    free(draft->admitted);
    free(draft->handed);
}

void pr_plan_draft_clear(pr_plan_draft *draft)
{
    pr_plan *plan = &draft->plan;
    plan->drops = plan->copies = plan->admissions = plan->grants = 0;
    plan->starts = plan->handovers = plan->chunks = 0;
}

void pr_plan_draft_drop(pr_plan_draft *draft, const pr_sequence *sequence)
{
    assert(draft->plan.drops < draft->seats);
    draft->drop[draft->plan.drops++] =
        (pr_drop){.id = sequence->request->id, .generation = sequence->generation};
}

void pr_plan_draft_admit(pr_plan_draft *draft, pr_sequence *sequence, int32_t seat)
{
    assert(draft->plan.admissions < draft->seats);
    const pr_lane *lane = sequence->seat[seat].lane;
    const pr_request *request = sequence->request;
    bool arrives = seat == PR_SEAT_DECODE;
    draft->admitted[draft->plan.admissions] = sequence;
    draft->admission[draft->plan.admissions++] = (pr_admission){
        .request = request,
        .generation = sequence->generation,
        .lane = lane->lane,
        .outputs = pr_sequence_outputs(sequence),
        .output = sequence->token + request->prompt_tokens,
        .computed = arrives ? 0 : sequence->cached,
        .arrives = arrives,
        .hands_over = lane->role == PR_ROLE_PREFILL,
    };
}

void pr_plan_draft_copy(pr_plan_draft *draft, const pr_lane *lane, const pr_kv_copy *copy)
{
    assert(draft->plan.copies < draft->seats);
    draft->copy[draft->plan.copies++] =
        (pr_copy){.lane = lane->lane, .from = copy->from, .to = copy->to};
}

void pr_plan_draft_start(pr_plan_draft *draft, const pr_sequence *sequence)
{
    assert(draft->plan.starts < draft->seats);
    draft->start[draft->plan.starts++] = (pr_start){
        .id = sequence->request->id,
        .index = pr_sequence_outputs(sequence) - 1,
        .token = sequence->token[sequence->tokens - 1],
    };
}

void pr_plan_draft_chunk(pr_plan_draft *draft, const pr_sequence *sequence, int32_t count)
{
    assert(draft->plan.chunks < draft->seats);
    draft->chunk[draft->plan.chunks++] =
        (pr_chunk){.id = sequence->request->id, .start = sequence->planned, .count = count};
}

// Blocks [first_block, end_block) of the sequence's table.
static pr_handover *add_move(
    pr_plan_draft *draft,
    pr_sequence *sequence,
    const pr_lane *from,
    const pr_lane *to,
    int32_t first_block,
    int32_t end_block)
{
    assert(draft->plan.handovers < draft->moves);
    draft->handed[draft->plan.handovers] = sequence;
    sequence->unsent++;
    pr_handover *handover = &draft->handover[draft->plan.handovers++];
    *handover = (pr_handover){
        .id = sequence->request->id,
        .generation = sequence->generation,
        .tag = sequence->tag,
        .from_group = from->group,
        .from_lane = from->lane,
        .to_group = to->group,
        .to_lane = to->lane,
        .blocks = end_block - first_block,
        .first_block = first_block,
    };
    return handover;
}

void pr_plan_draft_handover(pr_plan_draft *draft, pr_sequence *sequence, int32_t first_block)
{
    const pr_lane *from = sequence->seat[PR_SEAT_COMPUTE].lane;
    const pr_lane *to = sequence->seat[PR_SEAT_DECODE].lane;
    add_move(draft, sequence, from, to, first_block, pr_lane_blocks(from, sequence->target));
}

void pr_plan_draft_gather(pr_plan_draft *draft, pr_sequence *sequence)
{
    const pr_lane *from = sequence->source;
    const pr_lane *to = sequence->seat[PR_SEAT_COMPUTE].lane;
    int32_t first_block = sequence->planned / to->block_tokens;
    add_move(draft, sequence, from, to, first_block, sequence->fetched / to->block_tokens)->gather =
        true;
}

void pr_plan_draft_forget_moves(pr_plan_draft *draft, pr_sequence *sequence)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < draft->plan.handovers; i++) {
        if (draft->handed[i] == sequence) {
            sequence->unsent--;
            continue;
        }
        draft->handed[kept] = draft->handed[i];
        draft->handover[kept++] = draft->handover[i];
    }
    draft->plan.handovers = kept;
}

static const int32_t *table_of(const pr_sequence *sequence, int32_t seat, int32_t *blocks)
{
    return pr_kv_sequence_blocks(sequence->seat[seat].kv, blocks);
}

// A grant is what a block table has grown by since the worker was last told. Of a sequence that it
// does not know it is told by the admission.
static void add_grant(pr_plan_draft *draft, pr_sequence *sequence, int32_t seat)
{
    int32_t blocks;
    const int32_t *block = table_of(sequence, seat, &blocks);
    int32_t told = sequence->seat[seat].blocks_told;
    if (told == 0 || blocks == told)
        return;
    assert(draft->plan.grants < draft->seats);
    draft->grant[draft->plan.grants++] =
        (pr_grant){.id = sequence->request->id, .blocks = blocks - told, .block = block + told};
    sequence->seat[seat].blocks_told = blocks;
}

void pr_plan_draft_finish(pr_plan_draft *draft, const pr_lane *lane, int32_t lanes)
{
    int32_t blocks;
    for (int32_t i = 0; i < draft->plan.admissions; i++) {
        pr_admission *admission = &draft->admission[i];
        int32_t seat = admission->arrives ? PR_SEAT_DECODE : PR_SEAT_COMPUTE;
        admission->block = table_of(draft->admitted[i], seat, &admission->blocks);
        draft->admitted[i]->seat[seat].blocks_told = admission->blocks;
    }
    for (int32_t l = 0; l < lanes; l++) {
        for (int32_t i = 0; i < lane[l].sequences; i++) {
            pr_sequence *sequence = lane[l].sequence[i];
            add_grant(draft, sequence, sequence->seat[PR_SEAT_COMPUTE].lane != &lane[l]);
        }
    }
    for (int32_t i = 0; i < draft->plan.handovers; i++) {
        pr_handover *handover = &draft->handover[i];
        int32_t first = handover->first_block;
        pr_sequence *sequence = draft->handed[i];
        sequence->unsent--;
        const int32_t *computed = table_of(sequence, PR_SEAT_COMPUTE, &blocks) + first;
        if (handover->gather) {
            handover->from_block = pr_kv_sequence_blocks(sequence->pinned, &blocks) + first;
            handover->to_block = computed;
        } else {
            handover->from_block = computed;
            handover->to_block = table_of(sequence, PR_SEAT_DECODE, &blocks) + first;
        }
    }
}

bool pr_plan_draft_empty(const pr_plan_draft *draft)
{
    const pr_plan *plan = &draft->plan;
    return plan->drops + plan->copies + plan->admissions + plan->grants + plan->starts +
               plan->handovers + plan->chunks ==
           0;
}

static uint64_t hash_words(uint64_t hash, const int64_t *word, size_t words)
{
    return pr_hash_bytes(hash, word, words * sizeof *word);
}

#define HASH(...)                                                                                  \
    hash_words(                                                                                    \
        hash, (const int64_t[]){__VA_ARGS__},                                                      \
        sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static uint64_t hash_ints(uint64_t hash, const int32_t *value, int32_t values)
{
    return pr_hash_bytes(hash, value, (size_t)values * sizeof *value);
}

static uint64_t hash_tables(uint64_t hash, const pr_plan *plan)
{
    for (int32_t i = 0; i < plan->admissions; i++) {
        const pr_admission *a = &plan->admission[i];
        hash = HASH(a->request->id, a->generation, a->lane, a->computed, a->arrives, a->hands_over);
        hash = hash_ints(hash, a->output, a->outputs);
        hash = hash_ints(hash, a->block, a->blocks);
    }
    for (int32_t i = 0; i < plan->grants; i++) {
        hash = HASH(plan->grant[i].id, plan->grant[i].blocks);
        hash = hash_ints(hash, plan->grant[i].block, plan->grant[i].blocks);
    }
    for (int32_t i = 0; i < plan->handovers; i++) {
        const pr_handover *h = &plan->handover[i];
        int64_t kind = (int64_t)h->gather << 32;
        hash = HASH(h->id, h->generation, h->tag | kind, h->from_group, h->from_lane, h->to_group);
        hash = HASH(h->to_lane, h->first_block);
        hash = hash_ints(hash, h->from_block, h->blocks);
        hash = hash_ints(hash, h->to_block, h->blocks);
    }
    return hash;
}

uint64_t pr_plan_draft_hash(uint64_t hash, const pr_plan *plan)
{
    hash = HASH(plan->number, plan->group, plan->max_steps, plan->drops, plan->copies);
    hash = HASH(plan->admissions, plan->grants, plan->starts, plan->handovers, plan->chunks);
    for (int32_t i = 0; i < plan->drops; i++)
        hash = HASH(plan->drop[i].id, plan->drop[i].generation);
    for (int32_t i = 0; i < plan->copies; i++)
        hash = HASH(plan->copy[i].lane, plan->copy[i].from, plan->copy[i].to);
    for (int32_t i = 0; i < plan->starts; i++)
        hash = HASH(plan->start[i].id, plan->start[i].index, plan->start[i].token);
    for (int32_t i = 0; i < plan->chunks; i++)
        hash = HASH(plan->chunk[i].id, plan->chunk[i].start, plan->chunk[i].count);
    return hash_tables(hash, plan);
}
