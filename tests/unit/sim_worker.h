// SPDX-License-Identifier: BSD-3-Clause
// Workers without a model, for tests of the scheduler: they execute plans as runtime/batch/plan.h
// says and check every KV access. Instead of KV, each position of each block holds the identity of
// the token prefix it was computed from; before a token is sampled, every position of its context
// must hold the right identity. So a block reused too early, a missed copy or a handover into the
// wrong block shows at once. The token itself is a function of (id, choice, index): a preempted
// sequence that comes back must go on with the same tokens.
#ifndef PR_TESTS_SIM_WORKER_H
#define PR_TESTS_SIM_WORKER_H

#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "scheduler/scheduler.h"

#define SIM_ASSERT(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { SIM_MAX_TOKENS = 512, SIM_MAX_BLOCKS = 512, SIM_STOP_RATE = 37, SIM_PLANS = 2 };

// How simulated runs dispatch: on a slow device with a fast fabric.
static const pr_job_queue_params sim_queue = {
    .fair = true,
    .prompt_weight = 1,
    .output_weight = 2,
    .guard_s = 60,
    .most_jobs = 1 << 20,
    .most_tenants = 64,
};
static const pr_cost_model sim_cost = {
    .chunk_s = 1e-3,
    .chunk_token_s = 1e-4,
    .chunk_pair_s = 1e-8,
    .step_s = 1e-3,
    .step_sequence_s = 1e-4,
    .step_context_s = 1e-8,
    .transfer_s = 1e-4,
    .transfer_bytes_per_s = 1e9,
    .kv_bytes_per_token = 1024,
    .chunk_tokens = 16,
    .max_batch = 64,
    .capacity_tokens = 1 << 20,
};

typedef struct sim_sequence {
    struct sim_sequence *next;
    uint64_t id;
    uint32_t generation;
    int32_t lane, choice, prompt_tokens, max_tokens;
    int32_t token[SIM_MAX_TOKENS], tokens;
    uint64_t prefix[SIM_MAX_TOKENS];  // identity of token[0..i]
    uint64_t salt;
    int32_t block[SIM_MAX_BLOCKS], blocks;
    int32_t computed;
    bool arrives, hands_over, decoding, active;
} sim_sequence;

typedef struct sim_report {
    struct sim_report *next;
    pr_report report;
    pr_token_report *token;
    pr_chunk_report *chunk;
    pr_arrival_report *arrival;
} sim_report;

typedef struct sim_handover {
    struct sim_handover *next;
    pr_handover handover;
    int32_t from_block[SIM_MAX_BLOCKS], to_block[SIM_MAX_BLOCKS];
    uint64_t prefix[SIM_MAX_TOKENS];  // a gather's: by position in its blocks
    int32_t tokens;
    bool sent, expected;
    int32_t delivered;  // ranks
} sim_handover;

typedef struct sim_group {
    pr_role role;
    pr_plan *wire[SIM_PLANS], *inbox[SIM_PLANS], *running;
    int32_t wires, inboxes;
    bool lost, settled;
    uint64_t issued;  // number of the last plan that the scheduler made for it
    uint64_t last_plan;
    int32_t step;
    sim_sequence *sequences;
    uint64_t **kv;  // [lanes][blocks * B]
} sim_group;

typedef struct sim_world {
    const pr_scheduler_params *params;
    const pr_layout *layout;
    sim_group *group;
    sim_report **fifo;  // [world ranks] oldest first
    sim_handover *handovers;
    uint64_t random;
    const uint8_t *choice;  // numbers drawn come from these bytes while there are any
    size_t choices;
    int64_t steps, stalls, rows;
} sim_world;

static inline uint32_t sim_random(sim_world *world, uint32_t below)
{
    if (world->choices > 0) {
        world->choices--;
        return *world->choice++ % below;
    }
    world->random += 0x9e3779b97f4a7c15u;
    return (uint32_t)((pr_hash_mix(world->random) >> 33) % below);
}

static inline int32_t sim_token(uint64_t id, int32_t choice, int32_t index)
{
    return (int32_t)(pr_hash_mix(id * 1000003 + (uint64_t)choice * 7919 + (uint64_t)index) % 1000);
}

static inline pr_finish sim_finish(int32_t token, int32_t index, int32_t max_tokens)
{
    if (token % SIM_STOP_RATE == 0)
        return PR_FINISH_STOP;
    return index + 1 == max_tokens ? PR_FINISH_LENGTH : PR_FINISH_NONE;
}

// Deep copies.

static inline void *sim_copy(const void *from, int32_t count, size_t size)
{
    void *to = malloc((size_t)count * size + 1);
    SIM_ASSERT(to);
    if (count > 0)
        memcpy(to, from, (size_t)count * size);
    return to;
}

static inline pr_plan *sim_plan_copy(const pr_plan *plan)
{
    pr_plan *made = sim_copy(plan, 1, sizeof *plan);
    made->drop = sim_copy(plan->drop, plan->drops, sizeof(pr_drop));
    made->copy = sim_copy(plan->copy, plan->copies, sizeof(pr_copy));
    made->start = sim_copy(plan->start, plan->starts, sizeof(pr_start));
    made->chunk = sim_copy(plan->chunk, plan->chunks, sizeof(pr_chunk));
    pr_admission *admission = sim_copy(plan->admission, plan->admissions, sizeof(pr_admission));
    for (int32_t i = 0; i < plan->admissions; i++) {
        pr_request *request = sim_copy(admission[i].request, 1, sizeof(pr_request));
        request->prompt = sim_copy(request->prompt, request->prompt_tokens, sizeof(int32_t));
        admission[i].request = request;
        admission[i].output = sim_copy(admission[i].output, admission[i].outputs, sizeof(int32_t));
        admission[i].block = sim_copy(admission[i].block, admission[i].blocks, sizeof(int32_t));
    }
    made->admission = admission;
    pr_grant *grant = sim_copy(plan->grant, plan->grants, sizeof(pr_grant));
    for (int32_t i = 0; i < plan->grants; i++)
        grant[i].block = sim_copy(grant[i].block, grant[i].blocks, sizeof(int32_t));
    made->grant = grant;
    pr_handover *handover = sim_copy(plan->handover, plan->handovers, sizeof(pr_handover));
    for (int32_t i = 0; i < plan->handovers; i++) {
        handover[i].from_block =
            sim_copy(handover[i].from_block, handover[i].blocks, sizeof(int32_t));
        handover[i].to_block = sim_copy(handover[i].to_block, handover[i].blocks, sizeof(int32_t));
    }
    made->handover = handover;
    return made;
}

static inline void sim_free(const void *pointer) { free((void *)(uintptr_t)pointer); }

static inline void sim_plan_free(pr_plan *plan)
{
    for (int32_t i = 0; i < plan->admissions; i++) {
        sim_free(plan->admission[i].request->prompt);
        sim_free(plan->admission[i].request);
        sim_free(plan->admission[i].output);
        sim_free(plan->admission[i].block);
    }
    for (int32_t i = 0; i < plan->grants; i++)
        sim_free(plan->grant[i].block);
    for (int32_t i = 0; i < plan->handovers; i++) {
        sim_free(plan->handover[i].from_block);
        sim_free(plan->handover[i].to_block);
    }
    sim_free(plan->drop);
    sim_free(plan->copy);
    sim_free(plan->start);
    sim_free(plan->chunk);
    sim_free(plan->admission);
    sim_free(plan->grant);
    sim_free(plan->handover);
    free(plan);
}

// World.

static inline sim_world *sim_world_create(const pr_scheduler_params *params, uint64_t seed)
{
    sim_world *world = calloc(1, sizeof *world);
    world->params = params;
    world->layout = params->layout;
    world->random = seed;
    world->group = calloc((size_t)params->layout->groups, sizeof *world->group);
    world->fifo = calloc((size_t)params->layout->ranks, sizeof *world->fifo);
    for (int32_t g = 0; g < params->layout->groups; g++) {
        int32_t lanes = pr_layout_lanes(params->layout, g);
        world->group[g].role = params->layout->group[g].role;
        world->group[g].kv = calloc((size_t)lanes, sizeof(uint64_t *));
        for (int32_t l = 0; l < lanes; l++)
            world->group[g].kv[l] =
                calloc((size_t)params->kv_blocks * (size_t)params->block_tokens, sizeof(uint64_t));
    }
    return world;
}

static inline void sim_world_destroy(sim_world *world)
{
    for (int32_t g = 0; g < world->layout->groups; g++) {
        sim_group *group = &world->group[g];
        for (int32_t l = 0; l < pr_layout_lanes(world->layout, g); l++)
            free(group->kv[l]);
        free(group->kv);
        SIM_ASSERT(!group->running && group->wires == 0 && group->inboxes == 0);
        SIM_ASSERT(!group->sequences);
    }
    SIM_ASSERT(!world->handovers);
    free(world->group);
    free(world->fifo);
    free(world);
}

static inline sim_sequence *sim_find(sim_group *group, uint64_t id)
{
    sim_sequence *at = group->sequences;
    while (at && at->id != id)
        at = at->next;
    return at;
}

static inline void sim_remove(sim_group *group, sim_sequence *sequence)
{
    sim_sequence **at = &group->sequences;
    while (*at != sequence)
        at = &(*at)->next;
    *at = sequence->next;
    free(sequence);
}

static inline void sim_append(sim_sequence *sequence, int32_t token)
{
    int32_t n = sequence->tokens++;
    SIM_ASSERT(n < SIM_MAX_TOKENS);
    sequence->token[n] = token;
    uint64_t before = n > 0 ? sequence->prefix[n - 1] : sequence->salt + 1;
    sequence->prefix[n] = pr_hash_mix(before * 31 + (uint64_t)token + 1);
}

static inline uint64_t *
sim_kv(sim_world *world, int32_t group, const sim_sequence *sequence, int32_t position)
{
    int32_t B = world->params->block_tokens;
    SIM_ASSERT(position / B < sequence->blocks);
    int32_t block = sequence->block[position / B];
    SIM_ASSERT(block >= 0 && block < world->params->kv_blocks);
    return &world->group[group].kv[sequence->lane][block * B + position % B];
}

static inline void
sim_verify(sim_world *world, int32_t group, const sim_sequence *sequence, int32_t tokens)
{
    for (int32_t i = 0; i < tokens; i++)
        SIM_ASSERT(*sim_kv(world, group, sequence, i) == sequence->prefix[i]);
}

static inline int32_t sim_capacity(const sim_world *world, const sim_sequence *sequence)
{
    return sequence->blocks * world->params->block_tokens;
}

// The group's ranks are gone with all they hold; what they have reported may still come.
static inline void sim_lose_group(sim_world *world, int32_t g)
{
    sim_group *group = &world->group[g];
    size_t positions = (size_t)world->params->kv_blocks * (size_t)world->params->block_tokens;
    group->lost = true;
    group->settled = false;
    while (group->wires > 0)
        sim_plan_free(group->wire[--group->wires]);
    while (group->inboxes > 0)
        sim_plan_free(group->inbox[--group->inboxes]);
    if (group->running)
        sim_plan_free(group->running);
    group->running = NULL;
    while (group->sequences)
        sim_remove(group, group->sequences);
    for (int32_t l = 0; l < pr_layout_lanes(world->layout, g); l++)
        memset(group->kv[l], 0, positions * sizeof(uint64_t));
    for (sim_handover **at = &world->handovers; *at;) {
        sim_handover *handover = *at;
        if (handover->handover.from_group != g && handover->handover.to_group != g) {
            at = &handover->next;
            continue;
        }
        *at = handover->next;
        free(handover);
    }
}

// Execution of a plan.

static inline sim_handover *sim_find_handover(sim_world *world, const pr_handover *handover)
{
    for (sim_handover *at = world->handovers; at; at = at->next) {
        if (at->handover.tag != handover->tag)
            continue;
        SIM_ASSERT(at->handover.id == handover->id && at->handover.gather == handover->gather);
        SIM_ASSERT(at->handover.generation == handover->generation);
        return at;
    }
    sim_handover *made = calloc(1, sizeof *made);
    made->handover = *handover;
    memcpy(made->from_block, handover->from_block, (size_t)handover->blocks * sizeof(int32_t));
    memcpy(made->to_block, handover->to_block, (size_t)handover->blocks * sizeof(int32_t));
    made->next = world->handovers;
    world->handovers = made;
    return made;
}

static inline void sim_admit(sim_world *world, int32_t g, const pr_admission *admission)
{
    sim_group *group = &world->group[g];
    const pr_request *request = admission->request;
    SIM_ASSERT(!sim_find(group, request->id));
    SIM_ASSERT(admission->blocks <= SIM_MAX_BLOCKS);
    sim_sequence *made = calloc(1, sizeof *made);
    made->id = request->id;
    made->generation = admission->generation;
    made->lane = admission->lane;
    made->choice = request->sampling.choice;
    made->prompt_tokens = request->prompt_tokens;
    made->max_tokens = request->sampling.max_tokens;
    made->salt = request->salt;
    for (int32_t i = 0; i < request->prompt_tokens; i++)
        sim_append(made, request->prompt[i]);
    for (int32_t i = 0; i < admission->outputs; i++) {
        SIM_ASSERT(admission->output[i] == sim_token(request->id, made->choice, i));
        sim_append(made, admission->output[i]);
    }
    made->blocks = admission->blocks;
    memcpy(made->block, admission->block, (size_t)admission->blocks * sizeof(int32_t));
    made->computed = admission->computed;
    made->arrives = admission->arrives;
    made->hands_over = admission->hands_over;
    SIM_ASSERT(!made->arrives || group->role == PR_ROLE_DECODE);
    SIM_ASSERT(made->hands_over == (group->role == PR_ROLE_PREFILL));
    SIM_ASSERT(sim_capacity(world, made) >= made->tokens);
    made->next = group->sequences;
    group->sequences = made;
    sim_verify(world, g, made, made->computed);
    int32_t seats = 0;
    for (sim_sequence *at = group->sequences; at; at = at->next)
        seats += at->lane == made->lane;
    SIM_ASSERT(seats <= world->params->max_num_seqs);
}

static inline void sim_drop(sim_world *world, int32_t g, const pr_drop *drop)
{
    sim_sequence *sequence = sim_find(&world->group[g], drop->id);
    if (!sequence || sequence->generation != drop->generation)
        return;
    for (sim_handover *at = world->handovers; at; at = at->next)
        SIM_ASSERT(at->handover.id != drop->id || at->handover.generation != drop->generation);
    sim_remove(&world->group[g], sequence);
}

static inline void sim_start(sim_world *world, int32_t g, const pr_start *start)
{
    sim_sequence *sequence = sim_find(&world->group[g], start->id);
    SIM_ASSERT(sequence && sequence->arrives && !sequence->decoding);
    SIM_ASSERT(sequence->computed == sequence->tokens);
    SIM_ASSERT(start->index == sequence->tokens - sequence->prompt_tokens);
    SIM_ASSERT(start->token == sim_token(sequence->id, sequence->choice, start->index));
    sim_append(sequence, start->token);
    sequence->decoding = true;
}

// A gather's blocks must stay as they are from here until it is delivered.
static inline void sim_send_gather(sim_world *world, sim_handover *noted)
{
    const pr_handover *h = &noted->handover;
    int32_t B = world->params->block_tokens;
    const uint64_t *kv = world->group[h->from_group].kv[h->from_lane];
    SIM_ASSERT(!noted->sent && world->group[h->from_group].role != PR_ROLE_DECODE);
    noted->sent = true;
    noted->tokens = h->blocks * B;
    SIM_ASSERT(h->blocks > 0 && noted->tokens <= SIM_MAX_TOKENS);
    for (int32_t p = 0; p < noted->tokens; p++)
        noted->prefix[p] = kv[noted->from_block[p / B] * B + p % B];
}

static inline void sim_begin_plan(sim_world *world, int32_t g, const pr_plan *plan)
{
    sim_group *group = &world->group[g];
    int32_t B = world->params->block_tokens;
    SIM_ASSERT(plan->number == group->last_plan + 1 && plan->group == g);
    group->last_plan = plan->number;
    group->step = 0;
    for (int32_t i = 0; i < plan->drops; i++)
        sim_drop(world, g, &plan->drop[i]);
    for (int32_t i = 0; i < plan->copies; i++) {
        uint64_t *kv = group->kv[plan->copy[i].lane];
        memcpy(
            &kv[plan->copy[i].to * B], &kv[plan->copy[i].from * B], (size_t)B * sizeof(uint64_t));
    }
    for (int32_t i = 0; i < plan->admissions; i++)
        sim_admit(world, g, &plan->admission[i]);
    for (int32_t i = 0; i < plan->grants; i++) {
        sim_sequence *sequence = sim_find(group, plan->grant[i].id);
        for (int32_t b = 0; sequence && b < plan->grant[i].blocks; b++)
            sequence->block[sequence->blocks++] = plan->grant[i].block[b];
    }
    for (int32_t i = 0; i < plan->starts; i++)
        sim_start(world, g, &plan->start[i]);
    for (int32_t i = 0; i < plan->handovers; i++) {
        const pr_handover *handover = &plan->handover[i];
        if (world->group[handover->from_group].lost || world->group[handover->to_group].lost)
            continue;
        sim_handover *noted = sim_find_handover(world, handover);
        SIM_ASSERT(!memcmp(noted->to_block, handover->to_block, (size_t)handover->blocks * 4));
        SIM_ASSERT(!memcmp(noted->from_block, handover->from_block, (size_t)handover->blocks * 4));
        SIM_ASSERT(handover->to_group == g || handover->from_group == g);
        bool to_decode = world->group[handover->to_group].role == PR_ROLE_DECODE;
        SIM_ASSERT(handover->gather != to_decode);
        if (handover->to_group == g)
            noted->expected = true;
        if (handover->gather && handover->from_group == g)
            sim_send_gather(world, noted);
    }
}

static inline bool sim_decodes(const sim_world *world, const sim_sequence *sequence)
{
    return sequence->decoding && sequence->tokens <= sim_capacity(world, sequence);
}

static inline bool sim_can_step(const sim_world *world, int32_t g, bool first)
{
    const sim_group *group = &world->group[g];
    if (group->running->max_steps == 0)
        return false;
    bool rows = first && group->running->chunks > 0;
    for (const sim_sequence *at = group->sequences; at; at = at->next)
        rows = rows || sim_decodes(world, at);
    return rows;
}

static inline sim_report *sim_push_report(sim_world *world, int32_t rank, const pr_report *report)
{
    sim_report *made = calloc(1, sizeof *made);
    made->report = *report;
    made->token = sim_copy(report->token, report->tokens, sizeof(pr_token_report));
    made->chunk = sim_copy(report->chunk, report->chunks, sizeof(pr_chunk_report));
    made->arrival = sim_copy(report->arrival, report->arrivals, sizeof(pr_arrival_report));
    made->report.token = made->token;
    made->report.chunk = made->chunk;
    made->report.arrival = made->arrival;
    sim_report **at = &world->fifo[rank];
    while (*at)
        at = &(*at)->next;
    *at = made;
    return made;
}

static inline void sim_send_kv(sim_world *world, int32_t g, const sim_sequence *sequence)
{
    const pr_plan *plan = world->group[g].running;
    for (int32_t i = 0; i < plan->handovers; i++) {
        if (plan->handover[i].id != sequence->id || plan->handover[i].from_group != g ||
            plan->handover[i].gather || world->group[plan->handover[i].to_group].lost)
            continue;
        sim_handover *handover = sim_find_handover(world, &plan->handover[i]);
        handover->sent = true;
        handover->tokens = sequence->tokens;
        memcpy(handover->prefix, sequence->prefix, sizeof handover->prefix);
    }
}

// Writes the KV of the step's rows and marks the sequences that sample.
static inline void sim_compute(sim_world *world, int32_t g, int32_t *rows, pr_chunk_report *done)
{
    sim_group *group = &world->group[g];
    const pr_plan *plan = group->running;
    for (sim_sequence *at = group->sequences; at; at = at->next) {
        at->active = sim_decodes(world, at);
        world->stalls += at->decoding && !at->active;
        if (!at->active)
            continue;
        SIM_ASSERT(at->computed == at->tokens - 1);
        *sim_kv(world, g, at, at->computed) = at->prefix[at->computed];
        at->computed++;
        rows[at->lane]++;
    }
    for (int32_t i = 0; group->step == 0 && i < plan->chunks; i++) {
        const pr_chunk *chunk = &plan->chunk[i];
        sim_sequence *sequence = sim_find(group, chunk->id);
        SIM_ASSERT(sequence && !sequence->decoding && !sequence->arrives && chunk->count > 0);
        SIM_ASSERT(chunk->start == sequence->computed);
        SIM_ASSERT(chunk->start + chunk->count <= sequence->tokens);
        for (int32_t p = chunk->start; p < chunk->start + chunk->count; p++)
            *sim_kv(world, g, sequence, p) = sequence->prefix[p];
        sequence->computed += chunk->count;
        rows[sequence->lane] += chunk->count;
        sequence->active = sequence->computed == sequence->tokens;
        done[i] = (pr_chunk_report){chunk->id, sequence->generation, sequence->computed};
        if (!sequence->active)
            sim_verify(world, g, sequence, sequence->computed);
        else
            sim_send_kv(world, g, sequence);
    }
}

static inline pr_token_report sim_sample(sim_world *world, int32_t g, sim_sequence *sequence)
{
    sim_verify(world, g, sequence, sequence->tokens);
    int32_t index = sequence->tokens - sequence->prompt_tokens;
    int32_t token = sim_token(sequence->id, sequence->choice, index);
    sim_append(sequence, token);
    pr_finish finish = sim_finish(token, index, sequence->max_tokens);
    sequence->decoding = true;
    if (sequence->hands_over && finish == PR_FINISH_NONE)
        finish = PR_FINISH_HANDED;
    return (pr_token_report){
        .id = sequence->id,
        .generation = sequence->generation,
        .index = index,
        .token = token,
        .finish = finish,
    };
}

static inline void sim_report_step(
    sim_world *world,
    int32_t g,
    const pr_chunk_report *chunk,
    const int32_t *chunk_lane,
    int32_t chunks,
    bool finished,
    const pr_token_report *token,
    const int32_t *token_lane,
    int32_t tokens)
{
    for (int32_t l = 0; l < pr_layout_lanes(world->layout, g); l++) {
        pr_token_report of_lane[1024];
        pr_chunk_report chunk_of_lane[1024];
        pr_report report = {
            .plan = world->group[g].last_plan,
            .step = (uint32_t)world->group[g].step,
            .group = g,
            .lane = l,
            .plan_finished = finished,
            .token = of_lane,
            .chunk = chunk_of_lane,
        };
        for (int32_t i = 0; i < tokens; i++) {
            if (token_lane[i] == l)
                of_lane[report.tokens++] = token[i];
        }
        for (int32_t i = 0; i < chunks; i++) {
            if (chunk_lane[i] == l)
                chunk_of_lane[report.chunks++] = chunk[i];
        }
        // A lane without rows may say nothing, as long as one of the group does.
        if (l == 0 || report.tokens + report.chunks > 0 || sim_random(world, 2))
            sim_push_report(world, pr_layout_rank(world->layout, g, l, 0), &report);
    }
}

static inline void sim_step(sim_world *world, int32_t g)
{
    sim_group *group = &world->group[g];
    int32_t rows[64] = {0};
    int32_t lane[1024], chunk_lane[1024];
    pr_token_report token[1024];
    pr_chunk_report chunk[1024];
    int32_t tokens = 0;
    int32_t chunks = group->step == 0 ? group->running->chunks : 0;
    sim_compute(world, g, rows, chunk);
    for (int32_t i = 0; i < chunks; i++)
        chunk_lane[i] = sim_find(group, chunk[i].id)->lane;
    for (int32_t l = 0; l < pr_layout_lanes(world->layout, g); l++) {
        SIM_ASSERT(rows[l] <= world->params->max_num_batched_tokens);
        world->rows += rows[l];
    }
    sim_sequence *next;
    for (sim_sequence *at = group->sequences; at; at = next) {
        next = at->next;
        if (!at->active)
            continue;
        lane[tokens] = at->lane;
        token[tokens] = sim_sample(world, g, at);
        if (token[tokens].finish != PR_FINISH_NONE)
            sim_remove(group, at);
        tokens++;
    }
    bool last = group->step + 1 >= group->running->max_steps || !sim_can_step(world, g, false) ||
                (group->inboxes > 0 && sim_random(world, 2));
    world->steps++;
    sim_report_step(world, g, chunk, chunk_lane, chunks, last, token, lane, tokens);
    group->step++;
    if (last) {
        sim_plan_free(group->running);
        group->running = NULL;
    }
}

static inline bool sim_group_can_act(const sim_world *world, int32_t g)
{
    return world->group[g].running || world->group[g].inboxes > 0;
}

// One step boundary and, if there is something to compute, the step.
static inline void sim_group_act(sim_world *world, int32_t g)
{
    sim_group *group = &world->group[g];
    if (group->inboxes > 0) {
        if (group->running)
            sim_plan_free(group->running);
        group->running = group->inbox[0];
        group->inbox[0] = group->inbox[1];
        group->inboxes--;
        sim_begin_plan(world, g, group->running);
        if (!sim_can_step(world, g, true)) {
            SIM_ASSERT(group->running->chunks == 0);
            sim_report_step(world, g, NULL, NULL, 0, true, NULL, NULL, 0);
            sim_plan_free(group->running);
            group->running = NULL;
            return;
        }
    }
    sim_step(world, g);
}

static inline void sim_copy_gather(sim_world *world, const sim_handover *handover, bool intact)
{
    const pr_handover *h = &handover->handover;
    int32_t B = world->params->block_tokens;
    const uint64_t *from = world->group[h->from_group].kv[h->from_lane];
    uint64_t *to = world->group[h->to_group].kv[h->to_lane];
    SIM_ASSERT(!sim_find(&world->group[h->to_group], h->id));
    for (int32_t p = 0; p < handover->tokens; p++) {
        SIM_ASSERT(from[handover->from_block[p / B] * B + p % B] == handover->prefix[p]);
        to[handover->to_block[p / B] * B + p % B] = intact ? handover->prefix[p] : 1;
    }
}

static inline void sim_copy_handover(sim_world *world, const sim_handover *handover, bool intact)
{
    const pr_handover *h = &handover->handover;
    int32_t B = world->params->block_tokens;
    sim_sequence *target = sim_find(&world->group[h->to_group], h->id);
    SIM_ASSERT(target && target->generation == h->generation && target->lane == h->to_lane);
    const uint64_t *from = world->group[h->from_group].kv[h->from_lane];
    uint64_t *to = world->group[h->to_group].kv[h->to_lane];
    SIM_ASSERT((h->first_block + h->blocks) * B >= handover->tokens);
    for (int32_t p = h->first_block * B; p < handover->tokens; p++) {
        int32_t i = p / B - h->first_block;
        SIM_ASSERT(target->block[p / B] == handover->to_block[i]);
        SIM_ASSERT(from[handover->from_block[i] * B + p % B] == handover->prefix[p]);
        to[handover->to_block[i] * B + p % B] = intact ? handover->prefix[p] : 1;
    }
    if (handover->delivered + 1 < world->layout->group[h->to_group].tp)
        return;
    SIM_ASSERT(target->tokens == handover->tokens);
    target->computed = target->tokens;
}

// One rank of the target lane receives.
static inline void sim_deliver_kv(sim_world *world, sim_handover *handover, bool intact)
{
    const pr_handover *h = &handover->handover;
    if (h->gather)
        sim_copy_gather(world, handover, intact);
    else
        sim_copy_handover(world, handover, intact);
    int32_t rank = pr_layout_rank(world->layout, h->to_group, h->to_lane, handover->delivered);
    pr_arrival_report arrival = {h->id, h->generation, intact};
    pr_report report = {
        .plan = world->group[h->to_group].last_plan,
        .group = h->to_group,
        .lane = h->to_lane,
        .plan_finished = !world->group[h->to_group].running,
        .arrivals = 1,
        .arrival = &arrival,
    };
    sim_push_report(world, rank, &report);
    if (++handover->delivered < world->layout->group[h->to_group].tp)
        return;
    sim_handover **at = &world->handovers;
    while (*at != handover)
        at = &(*at)->next;
    *at = handover->next;
    free(handover);
}

#endif
