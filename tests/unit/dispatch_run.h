// SPDX-License-Identifier: BSD-3-Clause
// A random run of dispatch (scheduler/dispatch/dispatch.h) against a model of its callers: jobs that come
// and go in every way the contract allows, lanes that open, close, leave and come back, caches that
// evict. All that dispatch says is checked against the model's own books. The numbers of a run come
// from one generator, so it can be repeated.
#ifndef PR_TESTS_DISPATCH_RUN_H
#define PR_TESTS_DISPATCH_RUN_H

#include "dispatch_books.h"

// ---- Events ----

static inline dr_job *dr_pick(dr_run *run, pr_job_state state)
{
    int32_t first = (int32_t)dr_random(run, DR_JOBS);
    for (int32_t i = 0; i < DR_JOBS; i++) {
        dr_job *at = &run->job[(first + i) % DR_JOBS];
        if (at->used && at->job.state == state)
            return at;
    }
    return NULL;
}

static inline dr_job *dr_free_slot(dr_run *run)
{
    for (int32_t i = 0; i < DR_JOBS; i++) {
        if (!run->job[i].used)
            return &run->job[i];
    }
    return NULL;
}

static inline void dr_fill(dr_run *run, dr_job *job)
{
    *job = (dr_job){.used = true};
    uint32_t family = dr_random(run, DR_FAMILIES), tail = dr_random(run, DR_TAILS);
    int32_t shared = (int32_t)dr_random(run, DR_DEPTH + 1);
    for (int32_t i = 0; i < DR_DEPTH; i++) {
        uint32_t row = i < shared ? 0 : 1 + tail;
        job->block[i] = 1 + (family * (1 + DR_TAILS) + row) * DR_DEPTH + (uint32_t)i;
    }
    job->outputs_left = 1 + (int32_t)dr_random(run, 12);
    job->job = (pr_job){
        .id = ++run->next_id,
        .arrival_s = run->now_s,
        .prompt_tokens = 1 + (int32_t)dr_random(run, DR_BLOCK * (DR_DEPTH + 1) - 1),
        .outputs_expected = (int32_t)dr_random(run, 10),
        .priority = (int32_t)dr_random(run, DR_BANDS),
        .tenant = dr_random(run, DR_TENANTS),
        .block = job->block,
    };
    job->job.blocks = job->job.prompt_tokens / DR_BLOCK;
    if (dr_random(run, 4) == 0)
        job->job.ttft_target_s = 1e-3 * dr_random(run, 400);
    if (dr_random(run, 6) == 0)
        job->job.expires_s = run->now_s + 1e-3 * (1 + dr_random(run, 400));
}

static inline bool dr_may_shed(const dr_run *run, const dr_job *job)
{
    return job->job.ttft_target_s > 0 && job->job.outputs == 0 &&
           job->job.priority > run->config->flow.sheddable_above;
}

static inline void dr_arrive(dr_run *run)
{
    dr_job *job = dr_free_slot(run);
    if (!job)
        return;
    dr_fill(run, job);
    int32_t waiting = pr_dispatch_waiting(run->dispatch);
    pr_status status = pr_dispatch_arrive(run->dispatch, &job->job, run->now_s);
    dr_note(run, status, job->job.refused, job->job.bound_lane);
    if (status == PR_OK) {
        DR_ASSERT(run, job->job.state == PR_JOB_WAITING && waiting < run->config->most_jobs);
        DR_ASSERT(run, job->job.bound_lane < 0 || !run->kind->late);
        DR_ASSERT(run, job->job.bound_lane < 0 || !run->retired[job->job.bound_lane]);
        run->accepted++;
        dr_enters(run, job);
        return;
    }
    DR_ASSERT(run, status == PR_ERR_RESOURCE && job->job.state == PR_JOB_NEW);
    DR_ASSERT(run, job->job.refused != PR_FLOW_QUEUE_JOBS || waiting >= run->config->most_jobs);
    DR_ASSERT(
        run, job->job.refused != PR_FLOW_QUEUE_TOKENS || run->config->flow.most_prompt_tokens > 0);
    DR_ASSERT(run, job->job.refused != PR_FLOW_TARGET || dr_may_shed(run, job));
    DR_ASSERT(run, job->job.refused != PR_FLOW_PASS && job->job.refused != PR_FLOW_EXPIRED);
    run->refused++;
    job->used = false;
}

static inline void dr_cancel(dr_run *run, dr_job *job)
{
    bool central = dr_waits_central(job);
    pr_dispatch_cancel(run->dispatch, &job->job);
    if (central)
        dr_exits(run, job);
    DR_ASSERT(run, job->job.state == PR_JOB_NEW && job->job.decode_lane < 0);
    job->used = false;
    run->cancelled++;
}

// The job comes back as the live scheduler brings it back: its outputs are part of its prompt then.
static inline void dr_put_back(dr_run *run, dr_job *job)
{
    pr_dispatch_cancel(run->dispatch, &job->job);
    if (job->job.outputs > 0)
        job->job.ttft_target_s = 0;
    job->job.prompt_tokens += job->job.outputs;
    job->job.outputs = 0;
    dr_uncharge(run, job);
    pr_dispatch_put_back(run->dispatch, &job->job, run->now_s);
    DR_ASSERT(run, job->job.state == PR_JOB_WAITING && job->job.decode_lane < 0);
    dr_enters(run, job);
    run->put_back++;
}

static inline void dr_open(dr_run *run, int32_t lane, bool open)
{
    run->open[lane] = open && !run->retired[lane];
    pr_dispatch_open(run->dispatch, lane, open);
}

static inline void dr_retire(dr_run *run, int32_t lane, bool retired)
{
    bool changes = run->retired[lane] != retired;
    bool central[DR_JOBS];
    for (int32_t i = 0; i < DR_JOBS; i++)
        central[i] = dr_waits_central(&run->job[i]);
    for (int32_t i = 0; i < DR_JOBS && retired; i++) {
        dr_job *at = &run->job[i];
        if (at->used && at->job.state == PR_JOB_RUNNING && at->job.lane == lane) {
            dr_put_back(run, at);
            central[i] = dr_waits_central(at);
        }
    }
    run->retired[lane] = retired;
    if (changes)
        run->open[lane] = false;
    pr_dispatch_retire(run->dispatch, lane, retired, run->now_s);
    for (int32_t i = 0; i < DR_JOBS; i++) {
        const dr_job *at = &run->job[i];
        if (!central[i] && dr_waits_central(at))
            dr_enters(run, at);
        if (central[i] && !dr_waits_central(at))
            dr_exits(run, at);
        bool bound = at->used && at->job.state == PR_JOB_WAITING && at->job.bound_lane >= 0;
        DR_ASSERT(run, !bound || !run->retired[at->job.bound_lane]);
    }
}

static inline void dr_progress(dr_run *run, dr_job *job)
{
    int32_t left = job->job.prompt_tokens - job->job.computed_tokens;
    int32_t done = (int32_t)dr_random(run, (uint32_t)left);
    pr_dispatch_progress(run->dispatch, &job->job, job->job.computed_tokens + done, run->now_s);
    job->miss -= done;
    DR_ASSERT(run, job->job.computed_tokens < job->job.prompt_tokens && job->miss >= 0);
    if (dr_random(run, 3) > 0)
        return;
    int32_t lane = job->job.lane;
    if (!pr_dispatch_yields(run->dispatch, &job->job, run->now_s))
        return;
    DR_ASSERT(run, (run->kind->preempts || !run->kind->late) && job->job.state == PR_JOB_WAITING);
    DR_ASSERT(run, job->job.bound_lane == lane);
    dr_note(run, (int64_t)job->job.id, lane, -1);
    run->yields++;
}

static inline void dr_join(dr_run *run, dr_job *job)
{
    int64_t room[DR_LANES];
    for (int32_t d = 0; d < run->config->decode_lanes; d++)
        room[d] = dr_random(run, 5) ? (int64_t)dr_random(run, 800) : -1;
    bool told = dr_random(run, 4) > 0;
    int32_t lane = pr_dispatch_decode_lane(run->dispatch, &job->job, told ? room : NULL);
    DR_ASSERT(run, lane >= -1 && lane < run->config->decode_lanes && (told || lane >= 0));
    DR_ASSERT(run, !told || lane < 0 || room[lane] > job->job.prompt_tokens);
    for (int32_t d = 0; d < run->config->decode_lanes && lane < 0; d++)
        DR_ASSERT(run, room[d] <= job->job.prompt_tokens);
    dr_note(run, (int64_t)job->job.id, lane, -2);
    if (lane < 0)
        return;
    pr_dispatch_joined(run->dispatch, &job->job, lane);
    int32_t outputs =
        job->job.outputs > job->job.outputs_expected ? job->job.outputs : job->job.outputs_expected;
    job->committed = job->job.prompt_tokens + outputs;
}

static inline void dr_prefilled(dr_run *run, dr_job *job)
{
    int32_t lane = job->job.lane;
    if (dr_random(run, 2) && job->job.decode_lane < 0)
        dr_join(run, job);  // at its last chunk, before it is done
    job->job.computed_tokens = job->job.prompt_tokens;
    pr_dispatch_prefilled(run->dispatch, &job->job, run->now_s);
    DR_ASSERT(
        run, job->job.state == (job->job.decode_lane < 0 ? PR_JOB_PREFILLED : PR_JOB_DECODING));
    pr_block_lru_insert(run->cache[lane], job->block, job->job.blocks);
}

static inline void dr_generated(dr_run *run, dr_job *job)
{
    int32_t outputs = 1 + (int32_t)dr_random(run, 3);
    pr_dispatch_generated(run->dispatch, &job->job, outputs);
    dr_serve(run, job, 0, outputs);
    job->outputs_left -= outputs;
    int64_t all = (int64_t)job->job.prompt_tokens + job->job.outputs;
    if (all > job->committed)
        job->committed = all;
    if (job->outputs_left > 0)
        return;
    pr_dispatch_left(run->dispatch, &job->job);
    DR_ASSERT(run, job->job.state == PR_JOB_NEW && job->job.decode_lane < 0);
    job->used = false;
    run->finished++;
}

// ---- Decisions ----

static inline int32_t dr_in_service(const dr_run *run, int32_t *open)
{
    int32_t in_service = 0;
    *open = 0;
    for (int32_t l = 0; l < run->config->prefill_lanes; l++) {
        in_service += !run->retired[l];
        *open += run->open[l];
    }
    return in_service;
}

static inline bool dr_band_is_held(const dr_run *run, int32_t band)
{
    int32_t open, in_service = dr_in_service(run, &open);
    double busy = in_service > 0 ? 1 - (double)open / in_service : 1, ceiling = 1;
    const pr_flow_params *flow = &run->config->flow;
    for (int32_t i = 0; i < flow->ceilings && flow->ceiling[i].priority <= band; i++)
        ceiling = flow->ceiling[i].saturation;
    return fmax(busy, run->saturation) >= ceiling;
}

// Nothing was decided: then nothing can start.
static inline void dr_check_idle(dr_run *run)
{
    int32_t open;
    dr_in_service(run, &open);
    int32_t first_band = DR_BANDS;
    for (int32_t i = 0; i < DR_JOBS; i++) {
        const dr_job *at = &run->job[i];
        if (!at->used || at->job.state != PR_JOB_WAITING)
            continue;
        DR_ASSERT(run, at->job.expires_s == 0 || at->job.expires_s > run->now_s);
        if (at->job.bound_lane >= 0)
            DR_ASSERT(run, !run->open[at->job.bound_lane]);
        else if (at->job.priority < first_band)
            first_band = at->job.priority;
    }
    if (first_band < DR_BANDS && run->kind->late && open > 0)
        DR_ASSERT(run, dr_band_is_held(run, first_band));
}

// Whether the guard's first is held back with its band: then the guard helps nobody.
static inline bool dr_guard_is_held(const dr_run *run)
{
    const dr_job *oldest = NULL;
    for (int32_t i = 0; i < DR_JOBS; i++) {
        const dr_job *at = &run->job[i];
        if (dr_waits_central(at) && (!oldest || at->job.id < oldest->job.id))
            oldest = at;
    }
    return oldest && run->now_s - oldest->job.arrival_s > run->config->guard_s &&
           dr_band_is_held(run, oldest->job.priority);
}

// Waiting in the same queue, and before it in the documented order: overdue first, then the band, then the
// tenant that received least, then the key.
static inline void dr_check_order(dr_run *run, const dr_job *first)
{
    bool central = first->job.bound_lane < 0;
    double guard_s = central && dr_guard_is_held(run) ? (double)INFINITY : run->config->guard_s;
    bool overdue = run->now_s - first->job.arrival_s > guard_s;
    const dr_tenant *own = dr_tenant_of(run, first);
    for (int32_t i = 0; i < DR_JOBS; i++) {
        const dr_job *at = &run->job[i];
        if (!at->used || at == first || at->job.state != PR_JOB_WAITING ||
            at->job.bound_lane != first->job.bound_lane)
            continue;
        if (central && dr_band_is_held(run, at->job.priority))
            continue;  // the guard does not lift what is held back
        bool at_overdue = run->now_s - at->job.arrival_s > guard_s;
        DR_ASSERT(run, overdue || !at_overdue);
        if (overdue) {
            DR_ASSERT(run, !at_overdue || at->job.arrival_s >= first->job.arrival_s);
            continue;
        }
        DR_ASSERT(run, at->job.priority >= first->job.priority);
        if (at->job.priority > first->job.priority)
            continue;
        const dr_tenant *other = dr_tenant_of(run, at);
        if (central && other != own)
            DR_ASSERT(run, other->counter >= own->counter);
        else
            DR_ASSERT(run, !run->kind->keeps_keys || at->job.key >= first->job.key);
    }
}

static inline void dr_check_gathers(dr_run *run, const dr_job *job, const pr_verdict *verdict)
{
    int32_t lane = verdict->lane, local = verdict->local_blocks, at = local, g = 0;
    DR_ASSERT(run, local == dr_depth(run, job, lane));
    DR_ASSERT(run, verdict->depth >= local && verdict->depth <= job->job.blocks);
    if (run->kind->imagined) {
        DR_ASSERT(run, verdict->gathers == 0);
        return;
    }
    while (at < verdict->depth) {
        if (g < verdict->gathers && verdict->gather[g].first == at) {
            const pr_gather *gather = &verdict->gather[g++];
            DR_ASSERT(run, gather->lane != lane && gather->blocks > 0);
            for (int32_t i = 0; i < gather->blocks; i++, at++)
                DR_ASSERT(run, run->held[gather->lane][job->block[at]] && at < verdict->depth);
        } else {
            DR_ASSERT(run, run->held[lane][job->block[at]]);
            at++;
        }
    }
    DR_ASSERT(run, g == verdict->gathers);
    run->gathers += verdict->gathers;
}

static inline void
dr_started(dr_run *run, dr_job *job, const pr_verdict *verdict, const pr_job *before)
{
    DR_ASSERT(run, run->open[verdict->lane] && !run->retired[verdict->lane]);
    DR_ASSERT(run, before->bound_lane < 0 || before->bound_lane == verdict->lane);
    DR_ASSERT(run, job->job.state == PR_JOB_RUNNING && job->job.lane == verdict->lane);
    run->started++;
    if (before->bound_lane < 0)
        dr_exits(run, job);
    if (before->computed_tokens > 0) {  // it made way
        DR_ASSERT(run, job->job.computed_tokens == before->computed_tokens);
        DR_ASSERT(run, verdict->gathers == 0);
    } else {
        dr_check_gathers(run, job, verdict);
        DR_ASSERT(run, job->job.computed_tokens == dr_cached(job, verdict->depth));
        job->miss = job->job.prompt_tokens - job->job.computed_tokens;
    }
    if (!job->charged) {
        job->charged = job->miss;
        dr_serve(run, job, job->charged, 0);
    }
}

// One decision, checked; false: there was none.
static inline bool dr_decide(dr_run *run)
{
    pr_job *before = malloc(DR_JOBS * sizeof *before);
    DR_ASSERT(run, before);
    for (int32_t i = 0; i < DR_JOBS; i++)
        before[i] = run->job[i].job;
    pr_verdict verdict;
    pr_dispatch_next(run->dispatch, run->now_s, &verdict);
    dr_job *job = NULL;
    if (verdict.kind == PR_VERDICT_NONE) {
        dr_check_idle(run);
    } else {
        job = (dr_job *)(void *)verdict.job;  // its first field
        const pr_job *was = &before[job - run->job];
        dr_note(run, verdict.kind, (int64_t)job->job.id, verdict.lane);
        dr_note(run, verdict.local_blocks, verdict.depth, verdict.gathers);
        DR_ASSERT(run, job->used && was->state == PR_JOB_WAITING);
        if (verdict.kind == PR_VERDICT_REJECT) {
            DR_ASSERT(run, verdict.reason && job->job.state == PR_JOB_NEW);
            bool expired = was->expires_s > 0 && was->expires_s <= run->now_s;
            bool late = dr_may_shed(run, job) &&
                        run->now_s + was->remaining_s > was->arrival_s + was->ttft_target_s;
            DR_ASSERT(run, job->job.refused == PR_FLOW_EXPIRED ? expired : late);
            run->rejected++;
            run->expired += expired;
            if (was->bound_lane < 0)
                dr_exits(run, job);
            job->used = false;
        } else {
            pr_job now = job->job;
            job->job = *was;
            if (!run->kind->preempts)
                dr_check_order(run, job);
            job->job = now;
            dr_started(run, job, &verdict, was);
        }
    }
    free(before);
    return job != NULL;
}

// All that can be decided now; after a start the lane is often closed, and the job sometimes refused.
static inline void dr_decide_all(dr_run *run)
{
    while (dr_decide(run)) {
        dr_check(run);
        for (int32_t l = 0; l < run->config->prefill_lanes; l++) {
            if (pr_dispatch_lane(run->dispatch, l)->running >= DR_RUNNING ||
                dr_random(run, 16) == 0)
                dr_open(run, l, false);
        }
        dr_job *job = dr_random(run, 12) == 0 ? dr_pick(run, PR_JOB_RUNNING) : NULL;
        if (job) {
            dr_open(run, job->job.lane, false);
            dr_put_back(run, job);
        }
        dr_check(run);
    }
}

// ---- A run ----

static inline void dr_create(dr_run *run)
{
    const dr_config *config = run->config;
    run->cost = (pr_cost_model){
        .chunk_s = 1e-3,
        .chunk_token_s = 1e-4,
        .chunk_pair_s = 1e-7,
        .step_s = 1e-3,
        .step_sequence_s = 1e-4,
        .step_context_s = 1e-7,
        .transfer_s = 1e-4,
        .transfer_bytes_per_s = 1e9,
        .kv_bytes_per_token = (double)(config->seed % 3 + 1) * 1e4,
        .chunk_tokens = 64,
        .max_batch = 64,
        .capacity_tokens = 1 << 20,
    };
    pr_dispatch_params params = {
        .prefill_lanes = config->prefill_lanes,
        .decode_lanes = config->decode_lanes,
        .block_tokens = DR_BLOCK,
        .cache_blocks = config->cache_blocks,
        .cost = &run->cost,
        .policy = config->policy,
        .seed = config->seed,
        .queue =
            {
                .fair = config->fair,
                .prompt_weight = 1,
                .output_weight = 2,
                .guard_s = config->guard_s,
                .most_jobs = config->most_jobs,
                .most_tenants = DR_BANDS * DR_TENANTS,
            },
        .flow = config->flow,
    };
    DR_ASSERT(run, pr_dispatch_create(&params, &run->dispatch) == PR_OK);
    size_t name = strcspn(config->policy, "/:");
    for (int32_t i = 0; (run->kind = pr_policy_kind_at(i)); i++) {
        if (strlen(run->kind->name) == name && !strncmp(run->kind->name, config->policy, name))
            break;
    }
    DR_ASSERT(run, run->kind);
    run->job = calloc(DR_JOBS, sizeof *run->job);
    for (int32_t l = 0; l < config->prefill_lanes; l++) {
        run->watcher[l].run = run;
        run->watcher[l].lane = l;
        pr_block_lru_watch watch = {&run->watcher[l], dr_stored, dr_evicted};
        DR_ASSERT(run, pr_block_lru_create(config->cache_blocks, &watch, &run->cache[l]) == PR_OK);
    }
    for (int32_t b = 0; b < DR_BANDS; b++)
        run->latest[b] = -1;
}

static inline void dr_lane_event(dr_run *run)
{
    int32_t lane = (int32_t)dr_random(run, (uint32_t)run->config->prefill_lanes);
    uint32_t what = dr_random(run, 40);
    if (what < 2)
        dr_retire(run, lane, what == 0);
    else if (what < 5)
        dr_retire(run, lane, false);
    else if (what < 6)
        pr_block_lru_insert(
            run->cache[lane], run->job[dr_random(run, DR_JOBS)].block,
            0);  // nothing new: no effect
    else
        dr_open(
            run, lane, what < 30 && pr_dispatch_lane(run->dispatch, lane)->running < DR_RUNNING);
}

static inline void dr_job_event(dr_run *run)
{
    static const pr_job_state state[] = {
        PR_JOB_RUNNING, PR_JOB_RUNNING, PR_JOB_PREFILLED, PR_JOB_DECODING, PR_JOB_DECODING};
    uint32_t what = dr_random(run, 100);
    if (what < 4) {
        dr_job *any = &run->job[dr_random(run, DR_JOBS)];
        if (any->used)
            dr_cancel(run, any);
        return;
    }
    dr_job *job = dr_pick(run, state[what % 5]);
    if (!job)
        return;
    if (what < 8)
        dr_put_back(run, job);
    else if (what % 5 == 0)
        dr_progress(run, job);
    else if (what % 5 == 1)
        dr_prefilled(run, job);
    else if (what % 5 == 2)
        dr_join(run, job);
    else
        dr_generated(run, job);
}

static inline void dr_event(dr_run *run, bool arrivals)
{
    uint32_t what = dr_random(run, 16);
    run->events++;
    run->now_s += dr_random(run, 3) ? 0 : 1e-3 * dr_random(run, 20);
    if (what < 4 && arrivals)
        dr_arrive(run);
    else if (what < 7)
        dr_lane_event(run);
    else if (what < 8) {
        run->saturation = dr_random(run, 8) / 6.0;
        pr_dispatch_saturate(run->dispatch, run->saturation);
    } else
        dr_job_event(run);
    dr_check(run);
    if (dr_random(run, 3))
        dr_decide_all(run);
}

static inline int32_t dr_unfinished(const dr_run *run)
{
    int32_t jobs = 0;
    for (int32_t i = 0; i < DR_JOBS; i++)
        jobs += run->job[i].used;
    return jobs;
}

// Nothing new comes, all lanes are in service and nothing is held back: every job ends.
static inline void dr_drain(dr_run *run)
{
    run->saturation = 0;
    pr_dispatch_saturate(run->dispatch, 0);
    for (int32_t l = 0; l < run->config->prefill_lanes; l++)
        dr_retire(run, l, false);
    for (int64_t turn = 0; dr_unfinished(run) > 0; turn++) {
        DR_ASSERT(run, turn < 100000);
        run->events++;
        run->now_s += 1e-3;
        for (int32_t l = 0; l < run->config->prefill_lanes; l++)
            dr_open(run, l, pr_dispatch_lane(run->dispatch, l)->running < DR_RUNNING);
        dr_decide_all(run);
        dr_job *job;
        if ((job = dr_pick(run, PR_JOB_RUNNING)))
            dr_prefilled(run, job);
        if ((job = dr_pick(run, PR_JOB_PREFILLED)))
            dr_join(run, job);
        if ((job = dr_pick(run, PR_JOB_DECODING)))
            dr_generated(run, job);
        dr_check(run);
    }
    DR_ASSERT(run, pr_dispatch_waiting(run->dispatch) == 0);
    DR_ASSERT(run, isinf(pr_dispatch_wakes_s(run->dispatch)));
    DR_ASSERT(run, run->accepted == run->finished + run->rejected + run->cancelled);
}

// Destroys what it made; the sums stay in *run.
static inline void dr_run_all(const dr_config *config, dr_run *run)
{
    memset(run, 0, sizeof *run);
    run->config = config;
    run->random = config->seed;
    dr_create(run);
    while (run->events < config->events)
        dr_event(run, true);
    dr_drain(run);
    pr_dispatch_check(run->dispatch);
    for (int32_t l = 0; l < config->prefill_lanes; l++)
        pr_block_lru_destroy(run->cache[l]);
    pr_dispatch_destroy(run->dispatch);
    free(run->job);
}

#endif
