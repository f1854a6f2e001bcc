// SPDX-License-Identifier: BSD-3-Clause
// A whole run of the scheduler against simulated workers (sim_worker.h): random requests, random
// interleaving of plan delivery, steps, reports, handovers and cancels. What can happen next is one
// of a list of actions; when none is left and requests are unfinished, the scheduler has hung.
#ifndef PR_TESTS_SIM_RUN_H
#define PR_TESTS_SIM_RUN_H

#include "kv_mirror.h"
#include "sim_worker.h"

typedef struct sim_config {
    uint64_t seed;
    const uint8_t *choice;  // [choices] decide before the seed does (a fuzz target's input)
    size_t choices;
    const char *layout;  // "mixed 1x4:2 prefill 1x2:2": role, groups x ranks : tp
    int32_t kv_blocks, block_tokens, max_model_len, budget, max_seqs, lease;
    int32_t requests;
    int32_t max_prompt, max_tokens;
    int32_t cancel_percent, damage_percent, priorities, siblings;
    int32_t resumed_percent;  // of the requests, which come with outputs of an earlier run
    bool prefix_caching;
    int32_t tenants, most_jobs;  // 0: one; no bound
    int32_t target_ms;           // of some requests, at most; 0: no targets
    int64_t tick_ns;             // at most so much time between two events; 0: no clock
    int64_t end_ns;              // the end is set now and then, at most so far ahead; 0: never
    const char *policy;          // NULL: lps
    pr_balance_params balance;
    int32_t loss_permille;  // of the turns, in which a group is lost; it comes back
    bool losses_stay;       // unless so: then others can do without it
    bool prompt_delivery;   // messages are always faster than steps
    FILE *record;
    kv_mirror *mirror;  // listens; NULL: nobody does
} sim_config;

typedef struct sim_result {
    uint64_t hash;
    int64_t events, steps, stalls, rows, cancelled, stopped, rejected, left, losses;
    int64_t outputs_before;
    pr_scheduler_counts counts;
} sim_result;

typedef struct sim_client {
    bool done, cancelled;
    int32_t next_index, max_tokens, choice;
} sim_client;

typedef struct sim_run {
    const sim_config *config;
    pr_layout layout;
    pr_scheduler_params params;
    pr_scheduler *scheduler;
    sim_world *world;
    sim_client *client;  // [requests + 1], by id
    int32_t submitted;
    bool paused;
    int64_t now_ns;
    sim_result result;
} sim_run;

static inline void sim_parse_layout(const char *text, pr_layout *layout)
{
    char role[16];
    int groups, ranks, tp, used;
    memset(layout, 0, sizeof *layout);
    while (sscanf(text, " %15s %dx%d:%d%n", role, &groups, &ranks, &tp, &used) == 4) {
        text += used;
        for (int i = 0; i < groups; i++) {
            layout->group[layout->groups++] = (pr_group_layout){
                .role = role[0] == 'm'   ? PR_ROLE_MIXED
                        : role[0] == 'p' ? PR_ROLE_PREFILL
                                         : PR_ROLE_DECODE,
                .first_rank = layout->ranks,
                .ranks = ranks,
                .tp = tp,
            };
            layout->ranks += ranks;
        }
    }
}

static inline pr_request *sim_make_request(sim_run *run, uint64_t id)
{
    sim_world *world = run->world;
    const sim_config *config = run->config;
    pr_request *request = calloc(1, sizeof *request);
    request->id = id;
    request->sibling_of = id;
    request->salt = sim_random(world, 8) == 0;
    request->priority = config->priorities ? (int32_t)sim_random(world, config->priorities) : 0;
    request->tenant = config->tenants ? sim_random(world, config->tenants) : 0;
    if (config->target_ms && sim_random(world, 2))
        request->ttft_target_ms = 1 + (int32_t)sim_random(world, (uint32_t)config->target_ms);
    request->sampling.max_tokens = 1 + (int32_t)sim_random(world, config->max_tokens);
    request->sampling.top_logprobs = -1;
    request->prompt_tokens = 1 + (int32_t)sim_random(world, config->max_prompt);
    request->prompt = malloc((size_t)request->prompt_tokens * sizeof(int32_t));
    // A prefix that some others have too, then a tail of its own.
    int32_t family = (int32_t)sim_random(world, 4);
    int32_t shared = (int32_t)sim_random(world, (uint32_t)request->prompt_tokens + 1);
    for (int32_t i = 0; i < request->prompt_tokens; i++)
        request->prompt[i] = i < shared ? family * 10 + i % 10 : (int32_t)sim_random(world, 1000);
    return request;
}

// Tokens that this sequence would have, as many as leave it unfinished.
static inline void sim_recall(sim_run *run, pr_request *request)
{
    int32_t room = run->params.max_model_len - request->prompt_tokens;
    int32_t most = request->sampling.max_tokens < room ? request->sampling.max_tokens : room;
    if (sim_random(run->world, 100) >= (uint32_t)run->config->resumed_percent || most < 2)
        return;
    int32_t wanted = (int32_t)sim_random(run->world, (uint32_t)most);
    request->output = malloc((size_t)wanted * sizeof(int32_t) + 1);
    for (int32_t i = 0; i < wanted; i++) {
        int32_t token = sim_token(request->id, request->sampling.choice, i);
        if (sim_finish(token, i, most) != PR_FINISH_NONE)
            break;
        request->output[request->outputs++] = token;
    }
}

static inline void sim_submit_one(sim_run *run, pr_request *request)
{
    sim_client *client = &run->client[request->id];
    if (run->config->resumed_percent > 0)
        sim_recall(run, request);
    if (pr_scheduler_submit(run->scheduler, request) != PR_OK) {
        client->done = true;
        run->result.rejected++;
        pr_request_destroy(request);
        return;
    }
    client->next_index = request->outputs;
    run->result.outputs_before += request->outputs;
    SIM_ASSERT(request->prompt_tokens + request->sampling.max_tokens <= run->params.max_model_len);
    client->max_tokens = request->sampling.max_tokens;
    client->choice = request->sampling.choice;
}

static inline void sim_submit(sim_run *run)
{
    pr_request *first = sim_make_request(run, (uint64_t)run->submitted++);
    int32_t siblings = 0;
    if (run->config->siblings)
        siblings = (int32_t)sim_random(run->world, (uint32_t)run->config->siblings + 1);
    for (int32_t c = 1; c <= siblings && run->submitted < run->config->requests; c++) {
        pr_request *next = calloc(1, sizeof *next);
        *next = *first;
        next->id = (uint64_t)run->submitted++;
        next->sampling.choice = c;
        next->prompt = sim_copy(first->prompt, first->prompt_tokens, sizeof(int32_t));
        // Half of them come before the one they wait for.
        sim_submit_one(run, next);
    }
    sim_submit_one(run, first);
}

static inline void sim_take_token(sim_run *run, const pr_token_report *token)
{
    sim_client *client = &run->client[token->id];
    SIM_ASSERT(!client->done && !client->cancelled);
    SIM_ASSERT(token->index == client->next_index);
    SIM_ASSERT(token->token == sim_token(token->id, client->choice, token->index));
    SIM_ASSERT(token->finish == sim_finish(token->token, token->index, client->max_tokens));
    client->next_index++;
    client->done = token->finish != PR_FINISH_NONE;
    run->result.stopped += token->finish == PR_FINISH_STOP;
}

static inline void sim_drain(sim_run *run)
{
    pr_decision decision;
    for (;;) {
        pr_scheduler_next(run->scheduler, &decision);
        if (decision.kind == PR_DECISION_NONE)
            break;
        if (decision.kind == PR_DECISION_TOKEN) {
            sim_take_token(run, decision.token);
        } else if (decision.kind == PR_DECISION_REJECTED) {
            sim_client *client = &run->client[decision.id];
            SIM_ASSERT(decision.reason && !client->done && !client->cancelled);
            client->done = true;
            run->result.rejected++;
        } else if (decision.kind == PR_DECISION_LEFT) {
            sim_client *client = &run->client[decision.id];
            SIM_ASSERT(!client->done && !client->cancelled);
            client->done = true;
            run->result.left++;
        } else {
            for (int32_t g = 0; g < run->layout.groups; g++)
                run->world->group[g].role = pr_scheduler_role(run->scheduler, g);
            sim_group *group = &run->world->group[decision.plan->group];
            SIM_ASSERT(!group->lost);
            group->issued = decision.plan->number;
            int32_t unfinished = group->wires + group->inboxes + (group->running != NULL);
            SIM_ASSERT(unfinished < SIM_PLANS);
            group->wire[group->wires++] = sim_plan_copy(decision.plan);
        }
    }
    // Nothing more until the next event.
    pr_scheduler_next(run->scheduler, &decision);
    SIM_ASSERT(decision.kind == PR_DECISION_NONE);
}

// Actions. A number each: 0 submit, 1 cancel, then per group wire and step, per rank its report,
// then handovers.
enum {
    SIM_SUBMIT,
    SIM_CANCEL,
    SIM_END,
    SIM_WIRE,
    SIM_STEP,
    SIM_REPORT,
    SIM_KV,
    SIM_LOSE,
    SIM_PAUSE,
    SIM_RESUME,
    SIM_BACK
};

typedef struct sim_action {
    int32_t kind, number;
    sim_handover *handover;
} sim_action;

// Whether the other groups could bring every request to its end.
static inline bool sim_can_lose(const sim_run *run, int32_t lost)
{
    int32_t groups[PR_ROLES] = {0};
    for (int32_t g = 0; g < run->layout.groups; g++) {
        if (g != lost && !run->world->group[g].lost)
            groups[pr_scheduler_role(run->scheduler, g)]++;
    }
    return groups[PR_ROLE_MIXED] + groups[PR_ROLE_PREFILL] > 0 &&
           (groups[PR_ROLE_PREFILL] == 0 || groups[PR_ROLE_DECODE] > 0);
}

static inline int32_t sim_list_losses(sim_run *run, sim_action *action)
{
    sim_world *world = run->world;
    int32_t n = 0, lost = -1;
    for (int32_t g = 0; g < run->layout.groups; g++)
        lost = world->group[g].lost ? g : lost;
    if (sim_random(world, 1000) < (uint32_t)run->config->loss_permille) {
        int32_t g = (int32_t)sim_random(world, (uint32_t)run->layout.groups);
        if (!world->group[g].lost && (!run->config->losses_stay || sim_can_lose(run, g)))
            action[n++] = (sim_action){.kind = SIM_LOSE, .number = g};
    }
    if (lost < 0 || run->config->losses_stay)
        return n;
    if (world->group[lost].settled)
        action[n++] = (sim_action){.kind = SIM_BACK, .number = lost};
    else if (!run->paused)
        action[n++] = (sim_action){.kind = SIM_PAUSE};
    if (run->paused && pr_scheduler_is_quiet(run->scheduler))
        action[n++] = (sim_action){.kind = SIM_RESUME};
    return n;
}

static inline int32_t sim_list_actions(sim_run *run, sim_action *action)
{
    sim_world *world = run->world;
    int32_t n = 0;
    if (run->submitted < run->config->requests)
        action[n++] = (sim_action){.kind = SIM_SUBMIT};
    if (run->submitted > 0 && sim_random(world, 1000) < (uint32_t)run->config->cancel_percent)
        action[n++] = (sim_action){.kind = SIM_CANCEL};
    if (run->config->end_ns && run->submitted > 0 && sim_random(world, 200) == 0)
        action[n++] = (sim_action){.kind = SIM_END};
    for (int32_t g = 0; g < run->layout.groups; g++) {
        if (world->group[g].wires > 0)
            action[n++] = (sim_action){.kind = SIM_WIRE, .number = g};
    }
    for (int32_t r = 0; r < run->layout.ranks; r++) {
        if (world->fifo[r])
            action[n++] = (sim_action){.kind = SIM_REPORT, .number = r};
    }
    for (sim_handover *at = world->handovers; at; at = at->next) {
        if (at->sent && at->expected)
            action[n++] = (sim_action){.kind = SIM_KV, .handover = at};
    }
    if (run->config->loss_permille)
        n += sim_list_losses(run, action + n);
    if (run->config->prompt_delivery && n > 0)
        return n;
    for (int32_t g = 0; g < run->layout.groups; g++) {
        if (sim_group_can_act(world, g))
            action[n++] = (sim_action){.kind = SIM_STEP, .number = g};
    }
    return n;
}

static inline void sim_deliver_report(sim_run *run, int32_t rank)
{
    sim_report *report = run->world->fifo[rank];
    run->world->fifo[rank] = report->next;
    pr_scheduler_report(run->scheduler, &report->report);
    free(report->token);
    free(report->chunk);
    free(report->arrival);
    free(report);
}

static inline void sim_cancel(sim_run *run)
{
    uint64_t id = sim_random(run->world, (uint32_t)run->submitted);
    sim_client *client = &run->client[id];
    pr_scheduler_cancel(run->scheduler, id);
    if (!client->done && !client->cancelled) {
        client->cancelled = true;
        run->result.cancelled++;
    }
}

// Mostly a new end, now and then none.
static inline void sim_set_end(sim_run *run)
{
    int64_t end_ns = run->now_ns + 1 + sim_random(run->world, (uint32_t)run->config->end_ns);
    pr_at_end at_end = sim_random(run->world, 2) ? PR_AT_END_LEAVE : PR_AT_END_REJECT;
    pr_scheduler_set_end(run->scheduler, sim_random(run->world, 4) ? end_ns : 0, at_end);
}

static inline void sim_act(sim_run *run, const sim_action *action)
{
    sim_world *world = run->world;
    sim_group *group = &world->group[action->number];
    switch (action->kind) {
    case SIM_SUBMIT:
        sim_submit(run);
        break;
    case SIM_CANCEL:
        sim_cancel(run);
        break;
    case SIM_END:
        sim_set_end(run);
        break;
    case SIM_WIRE:
        group->inbox[group->inboxes++] = group->wire[0];
        group->wire[0] = group->wire[1];
        group->wires--;
        break;
    case SIM_STEP:
        sim_group_act(world, action->number);
        break;
    case SIM_REPORT:
        sim_deliver_report(run, action->number);
        break;
    case SIM_LOSE:
        sim_lose_group(world, action->number);
        pr_scheduler_group_lost(run->scheduler, action->number);
        run->result.losses++;
        break;
    case SIM_PAUSE:
        pr_scheduler_pause(run->scheduler, true);
        run->paused = true;
        break;
    case SIM_RESUME:
        pr_scheduler_pause(run->scheduler, false);
        run->paused = false;
        for (int32_t g = 0; g < run->layout.groups; g++)
            world->group[g].settled = world->group[g].lost;
        break;
    case SIM_BACK:
        pr_scheduler_group_back(run->scheduler, action->number);
        group->lost = group->settled = false;
        group->last_plan = group->issued;
        break;
    default:
        sim_deliver_kv(
            world, action->handover,
            sim_random(world, 100) >= (uint32_t)run->config->damage_percent);
    }
}

static inline void sim_pass_time(sim_run *run)
{
    if (run->config->tick_ns == 0)
        return;
    run->now_ns += 1 + sim_random(run->world, (uint32_t)run->config->tick_ns);
    pr_scheduler_advance(run->scheduler, run->now_ns);
}

// What a group is said to hold agrees with what there is at all; nothing, when everybody has gone.
static inline void sim_check_loads(const sim_run *run, bool ended)
{
    int64_t seated = 0, cached = 0, unfinished = pr_scheduler_unfinished(run->scheduler);
    for (int32_t g = 0; g < run->layout.groups; g++) {
        pr_group_load load;
        pr_scheduler_group_load(run->scheduler, g, &load);
        seated += load.sequences;
        cached += load.cached_blocks;
        SIM_ASSERT(load.role == pr_scheduler_role(run->scheduler, g));
        SIM_ASSERT(load.blocks == run->params.kv_blocks * pr_layout_lanes(&run->layout, g));
        SIM_ASSERT(load.used_blocks >= 0 && load.used_blocks <= load.blocks);
        SIM_ASSERT(load.used_blocks > 0 || load.sequences == 0);
        SIM_ASSERT(load.cached_blocks >= 0 && load.cached_blocks <= load.blocks);
        SIM_ASSERT(run->config->prefix_caching || load.cached_blocks == 0);
        SIM_ASSERT(!run->world->group[g].lost || load.cached_blocks + load.sequences == 0);
        SIM_ASSERT(!ended || (load.sequences == 0 && load.used_blocks == 0));
    }
    SIM_ASSERT(!run->config->mirror || cached == run->config->mirror->blocks);
    // One that is handed over has two seats.
    SIM_ASSERT(seated <= 2 * (unfinished - pr_scheduler_waiting(run->scheduler)));
    SIM_ASSERT(seated >= unfinished - pr_scheduler_waiting(run->scheduler));
}

static inline void sim_loop(sim_run *run)
{
    sim_action action[4096];
    for (int64_t turn = 0;; turn++) {
        SIM_ASSERT(turn < 4000000);
        int32_t n = sim_list_actions(run, action);
        if (n == 0) {
            uint64_t hash = pr_scheduler_hash(run->scheduler);
            sim_drain(run);
            pr_scheduler_check(run->scheduler);
            int64_t wake_ns = pr_scheduler_wakes_ns(run->scheduler);
            if (hash != pr_scheduler_hash(run->scheduler))
                continue;
            if (wake_ns == INT64_MAX)
                return;
            run->now_ns = wake_ns > run->now_ns ? wake_ns : run->now_ns;
            pr_scheduler_advance(run->scheduler, run->now_ns);
            continue;
        }
        run->result.events++;
        sim_pass_time(run);
        if (run->config->balance.period_s > 0)
            pr_scheduler_advance(run->scheduler, 1 + turn * 1000000);
        sim_act(run, &action[sim_random(run->world, (uint32_t)n)]);
        pr_scheduler_check(run->scheduler);
        if (run->config->prompt_delivery || sim_random(run->world, 3) > 0)
            sim_drain(run);
        pr_scheduler_check(run->scheduler);
        sim_check_loads(run, false);
    }
}

static inline sim_result sim_run_all(const sim_config *config)
{
    sim_run run = {.config = config};
    sim_parse_layout(config->layout, &run.layout);
    run.params = (pr_scheduler_params){
        .layout = &run.layout,
        .kv_blocks = config->kv_blocks,
        .block_tokens = config->block_tokens,
        .max_model_len = config->max_model_len,
        .max_num_batched_tokens = config->budget,
        .max_num_seqs = config->max_seqs,
        .lease_steps = config->lease,
        .prefix_caching = config->prefix_caching,
        .policy = config->policy ? config->policy : "lps",
        .queue = sim_queue,
        .short_suffix = config->max_prompt / 4,
        .cost = sim_cost,
        .balance = config->balance,
    };
    if (config->mirror)
        run.params.listener = (pr_kv_listener){
            .context = config->mirror,
            .stored = kv_mirror_stored,
            .evicted = kv_mirror_evicted,
        };
    if (config->most_jobs)
        run.params.queue.most_jobs = config->most_jobs;
    SIM_ASSERT(pr_scheduler_create(&run.params, &run.scheduler) == PR_OK);
    if (config->record)
        pr_scheduler_record(run.scheduler, config->record);
    run.world = sim_world_create(&run.params, config->seed);
    run.world->choice = config->choice;
    run.world->choices = config->choices;
    run.client = calloc((size_t)config->requests + 1, sizeof *run.client);
    sim_loop(&run);
    SIM_ASSERT(run.submitted == config->requests);
    for (int32_t i = 0; i < config->requests; i++)
        SIM_ASSERT(run.client[i].done || run.client[i].cancelled);
    SIM_ASSERT(pr_scheduler_unfinished(run.scheduler) == 0);
    SIM_ASSERT(pr_scheduler_waiting(run.scheduler) == 0);
    sim_check_loads(&run, true);
    run.result.hash = pr_scheduler_hash(run.scheduler);
    run.result.steps = run.world->steps;
    run.result.stalls = run.world->stalls;
    run.result.rows = run.world->rows;
    pr_scheduler_count(run.scheduler, &run.result.counts);
    sim_world_destroy(run.world);
    pr_scheduler_destroy(run.scheduler);
    free(run.client);
    return run.result;
}

#endif
