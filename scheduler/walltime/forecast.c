// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/walltime/forecast.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"

enum { MORE_ARRIVING = 256 };  // choices of requests that are not seated yet, beside all seats

// ---- Life ----

pr_status pr_forecast_create(pr_scheduler *scheduler)
{
    const pr_scheduler_params *params = &scheduler->params;
    pr_forecast *forecast = &scheduler->forecast;
    size_t seats = (size_t)scheduler->seats;
    forecast->most_arriving = MORE_ARRIVING;
    for (int32_t g = 0; g < scheduler->groups; g++)
        forecast->most_arriving += scheduler->group[g].lanes * scheduler->seats;
    for (int32_t role = 0; role < PR_ROLES; role++)
        pr_walltime_rates_begin(&forecast->rates[role], &params->cost);
    forecast->handover.prior_s = forecast->fetch.prior_s =
        pr_cost_model_transfer_s(&params->cost, params->max_model_len);
    forecast->lane = (pr_walltime_lane){
        .seats = scheduler->seats,
        .block_tokens = params->block_tokens,
        .chunk_rows = params->max_num_batched_tokens,
        .blocks = params->kv_blocks,
        .outputs = malloc(seats * sizeof(int32_t)),
        .tokens = malloc(seats * sizeof(int32_t)),
    };
    forecast->group.outputs = malloc(seats * sizeof(int32_t));
    forecast->group.tokens = malloc(seats * sizeof(int32_t));
    forecast->arriving = malloc((size_t)forecast->most_arriving * sizeof *forecast->arriving);
    if (!forecast->lane.outputs || !forecast->lane.tokens || !forecast->group.outputs ||
        !forecast->group.tokens || !forecast->arriving)
        return pr_fail(PR_ERR_RESOURCE, "no memory to predict when %zu sequences end", seats);
    return PR_OK;
}

void pr_forecast_destroy(pr_scheduler *scheduler)
{
    pr_forecast *forecast = &scheduler->forecast;
    free(forecast->lane.outputs);
    free(forecast->lane.tokens);
    free(forecast->group.outputs);
    free(forecast->group.tokens);
    free(forecast->arriving);
}

// ---- What a sequence has before it ----

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

// Outputs that its next step does not bring.
static int32_t outputs_after_next(const pr_sequence *sequence)
{
    int32_t left = sequence->request->sampling.max_tokens - pr_sequence_outputs(sequence);
    return larger(left - 1, 0);
}

// In the lane that computes it. Where its prompt goes elsewhere to decode, it holds that only.
static pr_walltime_member
computing(const pr_sequence *sequence, int32_t target, int32_t computed, bool decodes)
{
    bool chunk = computed < target;
    int32_t outputs = outputs_after_next(sequence) + !chunk;
    return (pr_walltime_member){
        .rows = target - computed,
        .before = computed,
        .outputs = decodes ? outputs : 0,
        .tokens = decodes ? pr_sequence_limit(sequence) : target,
    };
}

// In the lane that decodes what another has computed.
static pr_walltime_member decoding(const pr_sequence *sequence, bool arrives)
{
    bool first_missing = arrives && !sequence->first_token_known;
    return (pr_walltime_member){
        .outputs = outputs_after_next(sequence) + !first_missing,
        .tokens = pr_sequence_limit(sequence),
        .arrives = arrives,
    };
}

static pr_walltime_member seated_member(const pr_lane *lane, const pr_sequence *sequence)
{
    if (sequence->seat[PR_SEAT_DECODE].lane == lane)
        return decoding(sequence, sequence->phase == PR_PHASE_HANDOVER);
    pr_walltime_member member =
        computing(sequence, sequence->target, sequence->computed, lane->role != PR_ROLE_PREFILL);
    member.arrives = sequence->phase == PR_PHASE_GATHER;
    return member;
}

// Later choices of the sequence's request, which wait for its prompt.
static int32_t siblings_of(const pr_scheduler *scheduler, const pr_sequence *sequence)
{
    int32_t siblings = 0;
    for (const pr_sequence *at = scheduler->held.first; at; at = at->list_next)
        siblings += at->request->sibling_of == sequence->request->id;
    return siblings;
}

// The same again for each sibling, but for the prompt: that is in the cache then.
static void add_member(
    pr_forecast *forecast,
    const pr_walltime_rates *rates,
    const pr_walltime_member *member,
    int32_t siblings)
{
    pr_walltime_member sibling = *member;
    if (sibling.rows > forecast->lane.block_tokens)
        sibling.rows = forecast->lane.block_tokens;
    pr_walltime_lane_add(&forecast->lane, rates, member);
    for (int32_t i = 0; i < siblings; i++)
        pr_walltime_lane_add(&forecast->lane, rates, &sibling);
}

// ---- Forecasts ----

// A sequence that might start: in which lane, behind how many tokens that the lane holds.
typedef struct candidate {
    const pr_lane *lane;
    const pr_sequence *sequence;
    int32_t cached, siblings;
    bool fetches;  // a prefix from another lane, first
} candidate;

// What arrives in decode lanes from prefill lanes, most outputs first.
typedef struct arrivals {
    int32_t sequences, each;  // each: that one decode lane may get of them
    double offset_s;
} arrivals;

static pr_walltime_member candidate_member(const candidate *of)
{
    bool decodes = of->lane->role != PR_ROLE_PREFILL;
    pr_walltime_member member = computing(of->sequence, of->sequence->tokens, of->cached, decodes);
    member.arrives = of->fetches;
    return member;
}

static double wait_s(const pr_forecast *forecast, const pr_walltime_wait *wait)
{
    return pr_walltime_wait_most_s(wait, forecast->rates[0].trusts);
}

// Until the prefixes are there that are on their way now.
static double fetched_s(const pr_scheduler *scheduler, const candidate *of)
{
    bool waits = scheduler->gathers > 0 || of->fetches;
    return waits ? wait_s(&scheduler->forecast, &scheduler->forecast.fetch) : 0;
}

static void
fill_lane(pr_scheduler *scheduler, const pr_lane *lane, const candidate *of, const arrivals *coming)
{
    pr_forecast *forecast = &scheduler->forecast;
    const pr_walltime_rates *rates = &forecast->rates[lane->role];
    pr_walltime_lane_empty(&forecast->lane);
    for (int32_t i = 0; i < lane->sequences; i++) {
        const pr_sequence *sequence = lane->sequence[i];
        pr_walltime_member member = seated_member(lane, sequence);
        bool waited_for = scheduler->held.first && !sequence->prompt_published;
        if (!sequence->ending)
            add_member(forecast, rates, &member, waited_for ? siblings_of(scheduler, sequence) : 0);
    }
    if (of && of->lane == lane) {
        pr_walltime_member member = candidate_member(of);
        add_member(forecast, rates, &member, of->siblings);
    }
    for (int32_t i = 0; coming && i < coming->each; i++)
        pr_walltime_lane_add(&forecast->lane, rates, &forecast->arriving[i]);
}

static void fill_group(
    pr_scheduler *scheduler,
    const pr_group_state *group,
    const candidate *of,
    const arrivals *coming,
    bool exact)
{
    pr_forecast *forecast = &scheduler->forecast;
    forecast->lane.exact = exact;
    pr_walltime_group_empty(&forecast->group, exact);
    bool takes = !group->leaving && !group->lost;
    for (int32_t l = 0; l < group->lanes; l++) {
        fill_lane(scheduler, &group->lane[l], of, takes ? coming : NULL);
        pr_walltime_group_add(&forecast->group, &forecast->lane, &forecast->rates[group->role]);
    }
}

// False: more than can be counted.
static bool
add_arriving(pr_forecast *forecast, arrivals *coming, const pr_sequence *sequence, int32_t siblings)
{
    pr_walltime_member member = decoding(sequence, true);
    for (int32_t i = 0; member.outputs > 0 && i <= siblings; i++) {
        if (coming->sequences == forecast->most_arriving)
            return false;
        forecast->arriving[coming->sequences++] = member;
    }
    return true;
}

// What sits in prefill lanes, with the candidate, and how it spreads: the next one goes where the step is
// shortest, so a lane gets its share and hardly one more.
static bool find_arrivals(pr_scheduler *scheduler, const candidate *of, arrivals *coming)
{
    pr_forecast *forecast = &scheduler->forecast;
    int32_t lanes = 0;
    for (int32_t g = 0; g < scheduler->groups; g++) {
        const pr_group_state *group = &scheduler->group[g];
        if (group->role == PR_ROLE_DECODE && !group->leaving && !group->lost)
            lanes += group->lanes;
        for (int32_t l = 0; group->role == PR_ROLE_PREFILL && l < group->lanes; l++) {
            const pr_lane *lane = &group->lane[l];
            for (int32_t i = 0; i < lane->sequences; i++) {
                const pr_sequence *sequence = lane->sequence[i];
                if (!sequence->seat[PR_SEAT_DECODE].lane && !sequence->ending &&
                    !add_arriving(forecast, coming, sequence, siblings_of(scheduler, sequence)))
                    return false;
            }
        }
    }
    if (of->lane->role == PR_ROLE_PREFILL &&
        !add_arriving(forecast, coming, of->sequence, of->siblings))
        return false;
    pr_walltime_sort(forecast->arriving, coming->sequences);
    coming->each = coming->sequences;
    if (lanes > 1 && coming->sequences > 0)
        coming->each = (coming->sequences + lanes - 1) / lanes + 1;
    if (coming->each > coming->sequences)
        coming->each = coming->sequences;
    return true;
}

// When the last prompt of any prefill lane is computed, the candidate's included.
static double prefilled_s(pr_scheduler *scheduler, const candidate *of)
{
    const pr_walltime_rates *rates = &scheduler->forecast.rates[PR_ROLE_PREFILL];
    double last_s = 0;
    for (int32_t g = 0; g < scheduler->groups; g++) {
        if (scheduler->group[g].role != PR_ROLE_PREFILL)
            continue;
        fill_group(scheduler, &scheduler->group[g], of, NULL, false);
        last_s = fmax(last_s, pr_walltime_prefilled_s(&scheduler->forecast.group, rates));
    }
    return last_s + fetched_s(scheduler, of);
}

// When the candidate, and all that it shares steps with, have ended.
static double ended_s(pr_scheduler *scheduler, const candidate *of, bool exact)
{
    pr_forecast *forecast = &scheduler->forecast;
    arrivals coming = {0};
    double last_s = 0;
    if (of->lane->role == PR_ROLE_MIXED) {
        fill_group(scheduler, &scheduler->group[of->lane->group], of, NULL, exact);
        return pr_walltime_ended_s(
            &forecast->group, &forecast->rates[PR_ROLE_MIXED], fetched_s(scheduler, of));
    }
    if (!find_arrivals(scheduler, of, &coming))
        return (double)INFINITY;
    double prefill_s = prefilled_s(scheduler, of);
    coming.offset_s = prefill_s + wait_s(forecast, &forecast->handover);
    for (int32_t g = 0; g < scheduler->groups; g++) {
        const pr_group_state *group = &scheduler->group[g];
        if (group->role != PR_ROLE_DECODE)
            continue;
        fill_group(scheduler, group, of, &coming, exact);
        double group_s = pr_walltime_ended_s(
            &forecast->group, &forecast->rates[PR_ROLE_DECODE], coming.offset_s);
        last_s = fmax(last_s, group_s);
    }
    return fmax(last_s, prefill_s);
}

// ---- A request alone ----

static double
alone_in_lane_s(pr_forecast *forecast, pr_role role, const candidate *of, double *prefilled_s)
{
    const pr_walltime_rates *rates = &forecast->rates[role];
    bool decodes = role != PR_ROLE_PREFILL;
    pr_walltime_member member = computing(of->sequence, of->sequence->tokens, of->cached, decodes);
    forecast->lane.exact = false;
    pr_walltime_lane_empty(&forecast->lane);
    pr_walltime_group_empty(&forecast->group, false);
    add_member(forecast, rates, &member, of->siblings);
    pr_walltime_group_add(&forecast->group, &forecast->lane, rates);
    *prefilled_s = pr_walltime_prefilled_s(&forecast->group, rates);
    return pr_walltime_ended_s(&forecast->group, rates, 0);
}

static double alone_split_s(pr_forecast *forecast, const candidate *of)
{
    const pr_walltime_rates *rates = &forecast->rates[PR_ROLE_DECODE];
    double prefilled_s;
    (void)alone_in_lane_s(forecast, PR_ROLE_PREFILL, of, &prefilled_s);
    pr_walltime_member member = decoding(of->sequence, true);
    if (member.outputs == 0)
        return prefilled_s;
    pr_walltime_lane_empty(&forecast->lane);
    pr_walltime_group_empty(&forecast->group, false);
    add_member(forecast, rates, &member, of->siblings);
    pr_walltime_group_add(&forecast->group, &forecast->lane, rates);
    double offset_s = prefilled_s + wait_s(forecast, &forecast->handover);
    return pr_walltime_ended_s(&forecast->group, rates, offset_s);
}

static void trust(pr_forecast *forecast, bool trusts)
{
    for (int32_t role = 0; role < PR_ROLES; role++)
        forecast->rates[role].trusts = trusts;
}

static int32_t cached_anywhere(const pr_scheduler *scheduler, const pr_sequence *sequence)
{
    const pr_job *job = &sequence->job;
    pr_cache_candidate best;
    int32_t depth;
    if (pr_cache_map_candidates(
            pr_dispatch_cache_map(scheduler->dispatch), job->block, job->blocks, &depth, &best,
            1) == 0)
        return 0;
    int32_t tokens = best.depth * scheduler->map_blocks * scheduler->params.block_tokens;
    return tokens < sequence->tokens ? tokens : sequence->tokens - 1;
}

// With nobody beside it, and nothing held against the little that is known at first: if that is too long, it
// cannot end in time whatever happens.
double pr_forecast_alone_s(pr_scheduler *scheduler, const pr_sequence *sequence)
{
    pr_forecast *forecast = &scheduler->forecast;
    candidate of = {
        .sequence = sequence,
        .cached = cached_anywhere(scheduler, sequence),
        .siblings = siblings_of(scheduler, sequence),
    };
    bool has_role[PR_ROLES] = {0};
    for (int32_t g = 0; g < scheduler->groups; g++)
        has_role[scheduler->group[g].role] = true;
    double mixed_s = (double)INFINITY, split_s = (double)INFINITY, prefilled_s;
    trust(forecast, true);
    if (has_role[PR_ROLE_MIXED])
        mixed_s = alone_in_lane_s(forecast, PR_ROLE_MIXED, &of, &prefilled_s);
    if (has_role[PR_ROLE_PREFILL])
        split_s = alone_split_s(forecast, &of);
    return fmin(mixed_s, split_s);
}

bool pr_forecast_is_in_time(
    pr_scheduler *scheduler,
    const pr_lane *lane,
    const pr_sequence *sequence,
    bool fetches,
    double left_s)
{
    candidate of = {
        .lane = lane,
        .sequence = sequence,
        .cached = pr_kv_cache_match(
            lane->cache, sequence->request->salt, sequence->token, sequence->tokens),
        .siblings = siblings_of(scheduler, sequence),
        .fetches = fetches,
    };
    trust(&scheduler->forecast, scheduler->drain.running == 0);
    return ended_s(scheduler, &of, false) <= left_s || ended_s(scheduler, &of, true) <= left_s;
}

// ---- Learning ----

static void take_more(pr_step_work *most, const pr_step_work *work)
{
    if (work->prefill_rows > most->prefill_rows)
        most->prefill_rows = work->prefill_rows;
    if (work->prefill_pairs > most->prefill_pairs)
        most->prefill_pairs = work->prefill_pairs;
    if (work->decode_sequences > most->decode_sequences)
        most->decode_sequences = work->decode_sequences;
    if (work->decode_context > most->decode_context)
        most->decode_context = work->decode_context;
}

// A step is complete when the next one is reported.
void pr_forecast_report(pr_scheduler *scheduler, pr_group_state *group, const pr_report *report)
{
    pr_step_meter *meter = &group->meter;
    if (report->step_ns <= 0)
        return;
    if (meter->plan == report->plan && meter->step == report->step) {
        take_more(&meter->work, &report->work);
        return;
    }
    if (meter->plan > 0)
        pr_walltime_observe(
            &scheduler->forecast.rates[group->role], &meter->work, (double)meter->taken_ns * 1e-9);
    int64_t since_ns = meter->first_ns > meter->busy_ns ? meter->first_ns : meter->busy_ns;
    int64_t taken_ns = scheduler->now_ns - since_ns;
    *meter = (pr_step_meter){
        .plan = report->plan,
        .step = report->step,
        .work = report->work,
        .taken_ns = taken_ns > report->step_ns ? taken_ns : report->step_ns,
        .first_ns = scheduler->now_ns,
        .busy_ns = meter->busy_ns,
    };
}

void pr_forecast_fetched(pr_scheduler *scheduler, const pr_sequence *sequence)
{
    pr_walltime_wait_add(
        &scheduler->forecast.fetch, (double)(scheduler->now_ns - sequence->gather_begin_ns) * 1e-9);
}

void pr_forecast_handed_over(pr_scheduler *scheduler, const pr_sequence *sequence)
{
    pr_walltime_wait_add(
        &scheduler->forecast.handover,
        (double)(scheduler->now_ns - sequence->handover_begin_ns) * 1e-9);
}
