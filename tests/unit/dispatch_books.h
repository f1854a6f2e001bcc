// SPDX-License-Identifier: BSD-3-Clause
// The books that dispatch_run.h keeps of a run of dispatch, from what it did and was told: who waits and
// runs where, what each lane holds, what each tenant has received.
#ifndef PR_TESTS_DISPATCH_BOOKS_H
#define PR_TESTS_DISPATCH_BOOKS_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "scheduler/dispatch/dispatch.h"
#include "scheduler/policy/block_lru.h"
#include "scheduler/policy/policy.h"

enum {
    DR_BLOCK = 16,     // tokens
    DR_DEPTH = 12,     // blocks of the longest prompt
    DR_FAMILIES = 12,  // prompts of one family share a prefix
    DR_TAILS = 4,
    DR_JOBS = 48,
    DR_LANES = 8,
    DR_RUNNING = 3,  // of one lane
    DR_BANDS = 3,
    DR_TENANTS = 4,
    DR_UNIVERSE = DR_FAMILIES * (1 + DR_TAILS) * DR_DEPTH,
};

#define DR_ASSERT(run, condition)                                                                  \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(                                                                               \
                stderr, "%s:%d: %s (policy %s, seed %llu, event %lld)\n", __FILE__, __LINE__,      \
                #condition, (run)->config->policy, (unsigned long long)(run)->config->seed,        \
                (long long)(run)->events);                                                         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

typedef struct dr_config {
    uint64_t seed;
    const char *policy;
    int64_t events;
    int32_t prefill_lanes, decode_lanes, cache_blocks;
    bool fair;
    double guard_s;
    int32_t most_jobs;
    pr_flow_params flow;
} dr_config;

typedef struct dr_job {
    pr_job job;
    uint64_t block[DR_DEPTH];
    bool used;
    int32_t outputs_left;
    int32_t miss;     // of a running one: uncached and not done
    int32_t charged;  // to its tenant
    int64_t committed;
} dr_job;

// What a tenant of a band has received, and how many of its jobs wait in the central queue.
typedef struct dr_tenant {
    double counter;
    int32_t jobs;
} dr_tenant;

typedef struct dr_run {
    const dr_config *config;
    const pr_policy_kind *kind;
    pr_cost_model cost;
    pr_dispatch *dispatch;
    dr_job *job;  // [DR_JOBS]
    bool open[DR_LANES], retired[DR_LANES];
    pr_block_lru *cache[DR_LANES];
    struct dr_watcher {
        struct dr_run *run;
        int32_t lane;
    } watcher[DR_LANES];
    bool held[DR_LANES][DR_UNIVERSE + 1];
    dr_tenant tenant[DR_BANDS][DR_TENANTS];
    int32_t latest[DR_BANDS];  // whose jobs ran out last; -1: nobody's
    uint64_t random, next_id, hash;
    double now_s, saturation;
    int64_t events, accepted, refused, rejected, started, finished, cancelled, gathers, put_back;
    int64_t expired, yields;
} dr_run;

static inline uint32_t dr_random(dr_run *run, uint32_t below)
{
    run->random += 0x9e3779b97f4a7c15u;
    return (uint32_t)((pr_hash_mix(run->random) >> 33) % below);
}

static inline void dr_note(dr_run *run, int64_t a, int64_t b, int64_t c)
{
    int64_t word[] = {a, b, c};
    run->hash = pr_hash_bytes(run->hash, word, sizeof word);
}

// ---- The model's books ----

static inline void dr_stored(void *context, uint64_t block)
{
    struct dr_watcher *watcher = context;
    watcher->run->held[watcher->lane][block] = true;
    DR_ASSERT(
        watcher->run,
        pr_cache_map_add(pr_dispatch_cache_map(watcher->run->dispatch), block, watcher->lane) ==
            PR_OK);
}

static inline void dr_evicted(void *context, uint64_t block)
{
    struct dr_watcher *watcher = context;
    watcher->run->held[watcher->lane][block] = false;
    pr_cache_map_remove(pr_dispatch_cache_map(watcher->run->dispatch), block, watcher->lane);
}

static inline int32_t dr_depth(const dr_run *run, const dr_job *job, int32_t lane)
{
    int32_t depth = 0;
    while (depth < job->job.blocks && run->held[lane][job->block[depth]])
        depth++;
    return depth;
}

static inline int32_t dr_cached(const dr_job *job, int32_t depth)
{
    int32_t tokens = depth * DR_BLOCK;
    return tokens < job->job.prompt_tokens ? tokens : job->job.prompt_tokens - 1;
}

// The tenant's books are kept for the central queue alone.
static inline dr_tenant *dr_tenant_of(dr_run *run, const dr_job *job)
{
    return &run->tenant[job->job.priority][run->config->fair ? job->job.tenant : 0];
}

static inline bool dr_waits_central(const dr_job *job)
{
    return job->used && job->job.state == PR_JOB_WAITING && job->job.bound_lane < 0;
}

// The smallest counter of those of the band that have jobs; INFINITY: nobody has.
static inline double dr_floor(const dr_run *run, int32_t band)
{
    double floor = (double)INFINITY;
    for (int32_t t = 0; t < DR_TENANTS; t++) {
        if (run->tenant[band][t].jobs > 0)
            floor = fmin(floor, run->tenant[band][t].counter);
    }
    return floor;
}

static inline void dr_enters(dr_run *run, const dr_job *job)
{
    if (!dr_waits_central(job))
        return;
    dr_tenant *tenant = dr_tenant_of(run, job);
    int32_t band = job->job.priority;
    if (tenant->jobs++ > 0)
        return;
    tenant->jobs = 0;
    double floor = dr_floor(run, band);
    tenant->jobs = 1;
    if (isinf(floor))
        floor = run->latest[band] < 0 ? 0 : run->tenant[band][run->latest[band]].counter;
    tenant->counter = fmax(tenant->counter, floor);
}

static inline void dr_exits(dr_run *run, const dr_job *job)
{
    dr_tenant *tenant = dr_tenant_of(run, job);
    DR_ASSERT(run, tenant->jobs > 0);
    if (--tenant->jobs == 0)
        run->latest[job->job.priority] = (int32_t)(tenant - run->tenant[job->job.priority]);
}

static inline void dr_serve(dr_run *run, const dr_job *job, int32_t prompt, int32_t outputs)
{
    dr_tenant_of(run, job)->counter += prompt + 2.0 * outputs;
}

static inline void dr_uncharge(dr_run *run, dr_job *job)
{
    dr_serve(run, job, -job->charged, 0);
    job->charged = 0;
}

// ---- Recount ----

static inline void dr_check_lane(dr_run *run, int32_t l)
{
    const pr_lane_load *load = pr_dispatch_lane(run->dispatch, l);
    int32_t queued = 0, running = 0;
    int64_t prompt = 0, miss = 0;
    for (int32_t i = 0; i < DR_JOBS; i++) {
        const dr_job *at = &run->job[i];
        bool waits = at->used && at->job.state == PR_JOB_WAITING && at->job.bound_lane == l;
        bool runs = at->used && at->job.state == PR_JOB_RUNNING && at->job.lane == l;
        queued += waits;
        running += runs;
        prompt += waits || runs ? at->job.prompt_tokens : 0;
        miss += runs ? at->miss : waits ? at->job.predicted_tokens : 0;
        DR_ASSERT(run, !runs || !run->retired[l]);
        DR_ASSERT(run, !runs || at->miss == at->job.predicted_tokens);
    }
    DR_ASSERT(run, load->queued == queued && load->running == running);
    DR_ASSERT(run, load->prompt_tokens == prompt && load->miss_tokens == miss);
    DR_ASSERT(run, load->open == run->open[l] && load->retired == run->retired[l]);
}

static inline void dr_check_decode(dr_run *run, int32_t d)
{
    const pr_decode_load *load = pr_dispatch_decode(run->dispatch, d);
    pr_decode_load sum = {0};
    for (int32_t i = 0; i < DR_JOBS; i++) {
        const dr_job *at = &run->job[i];
        if (!at->used || at->job.decode_lane != d)
            continue;
        sum.sequences++;
        sum.context_tokens += at->job.prompt_tokens + at->job.outputs;
        sum.committed_tokens += at->committed;
    }
    DR_ASSERT(run, load->sequences == sum.sequences);
    DR_ASSERT(run, load->context_tokens == sum.context_tokens);
    DR_ASSERT(run, load->committed_tokens == sum.committed_tokens);
}

static inline void dr_check(dr_run *run)
{
    int32_t waiting = 0;
    for (int32_t i = 0; i < DR_JOBS; i++)
        waiting += run->job[i].used && run->job[i].job.state == PR_JOB_WAITING;
    DR_ASSERT(run, pr_dispatch_waiting(run->dispatch) == waiting);
    for (int32_t l = 0; l < run->config->prefill_lanes; l++)
        dr_check_lane(run, l);
    for (int32_t d = 0; d < run->config->decode_lanes; d++)
        dr_check_decode(run, d);
    if (run->events % 64 == 0)
        pr_dispatch_check(run->dispatch);
}

#endif
