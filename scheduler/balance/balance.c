// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/balance/balance.h"

#include <math.h>

const pr_balance_params pr_balance_standard = {.period_s = 20, .tpot_target_s = 0.1};

// The newest period's part of the smoothed load; the least load at which a move is worth a drain; the
// load that is too much, when nothing is waited for; how far below the load that it relieves the role
// that gives must stay; periods in a row that must agree.
static const double NEWEST = 0.5, BUSY = 0.7, TOO_MUCH = 1, MARGIN = 0.1;
enum { PERIODS_AGREEING = 2 };

void pr_balance_begin(pr_balance *balance, const pr_balance_params *params)
{
    *balance = (pr_balance){.params = *params, .token_share = 1, .pair_share = 1};
}

// ---- What happens ----

void pr_balance_arrive(
    pr_balance *balance, const pr_cost_model *cost, int32_t prompt_tokens, int32_t outputs_expected)
{
    double tokens = prompt_tokens;
    balance->now.chunks += ceil(tokens / cost->chunk_tokens);
    balance->now.prompt_tokens += tokens;
    balance->now.prompt_pairs += tokens * tokens / 2;
    // The first comes with the prefill.
    pr_balance_outputs(balance, outputs_expected - 1, prompt_tokens + outputs_expected / 2);
}

void pr_balance_start(pr_balance *balance, int32_t prompt_tokens, int32_t cached_tokens)
{
    double tokens = prompt_tokens, cached = cached_tokens;
    balance->all_tokens += tokens;
    balance->done_tokens += tokens - cached;
    balance->all_pairs += tokens * tokens;
    balance->done_pairs += tokens * tokens - cached * cached;
}

void pr_balance_outputs(pr_balance *balance, int64_t outputs, int64_t context_tokens)
{
    balance->now.outputs += (double)outputs;
    balance->now.output_context += (double)outputs * (double)context_tokens;
}

// ---- Loads ----

static double smoothed(double before, double now) { return before + NEWEST * (now - before); }

static void end_period(pr_balance *balance, double now_s)
{
    // Events come when they come: a longer period counts as one of the usual length.
    double scale = balance->params.period_s / (now_s - balance->begin_s);
    const pr_balance_work *now = &balance->now;
    pr_balance_work *load = &balance->load;
    pr_balance_work ended = {
        now->chunks * scale, now->prompt_tokens * scale, now->prompt_pairs * scale,
        now->outputs * scale, now->output_context * scale};
    if (!balance->smooth)
        *load = ended;
    load->chunks = smoothed(load->chunks, ended.chunks);
    load->prompt_tokens = smoothed(load->prompt_tokens, ended.prompt_tokens);
    load->prompt_pairs = smoothed(load->prompt_pairs, ended.prompt_pairs);
    load->outputs = smoothed(load->outputs, ended.outputs);
    load->output_context = smoothed(load->output_context, ended.output_context);
    if (balance->all_tokens > 0) {
        balance->token_share =
            smoothed(balance->token_share, balance->done_tokens / balance->all_tokens);
        balance->pair_share =
            smoothed(balance->pair_share, balance->done_pairs / balance->all_pairs);
    }
    balance->smooth = true;
    balance->now = (pr_balance_work){0};
    balance->all_tokens = balance->done_tokens = balance->all_pairs = balance->done_pairs = 0;
    balance->begin_s = now_s;
    balance->end_s = now_s + balance->params.period_s;
}

// Of one lane, per second of the clock: 1 is what it can do.
static double prefill_load(const pr_balance *balance, const pr_cost_model *cost)
{
    const pr_balance_work *load = &balance->load;
    double busy_s = cost->chunk_s * load->chunks * balance->token_share +
                    cost->chunk_token_s * load->prompt_tokens * balance->token_share +
                    cost->chunk_pair_s * load->prompt_pairs * balance->pair_share;
    return busy_s / balance->params.period_s;
}

// The largest batch of one lane that keeps the target and fits its memory.
static double lane_batch(const pr_balance *balance, const pr_cost_model *cost, double context)
{
    double of_one_s = cost->step_sequence_s + cost->step_context_s * context;
    double fits = fmin(cost->max_batch, (double)cost->capacity_tokens / fmax(context, 1));
    double in_time = (balance->params.tpot_target_s - cost->step_s) / fmax(of_one_s, 1e-12);
    // A target that even one sequence misses is none to go by.
    return fmax(in_time >= 1 ? fmin(fits, in_time) : fits, 1);
}

double pr_balance_lane_outputs(const pr_balance *balance, const pr_cost_model *cost, double context)
{
    double batch = lane_batch(balance, cost, context);
    double of_one_s = cost->step_sequence_s + cost->step_context_s * context;
    return batch / fmax(cost->step_s + batch * of_one_s, 1e-9);
}

// What arrives, or what is there if that is more: outputs may turn out longer than expected.
static double
decode_load(const pr_balance *balance, const pr_cost_model *cost, const pr_balance_side *decode)
{
    const pr_balance_work *load = &balance->load;
    double arriving = 0, there = 0;
    if (load->outputs > 0 && load->output_context > 0)
        arriving = load->outputs / balance->params.period_s /
                   pr_balance_lane_outputs(balance, cost, load->output_context / load->outputs);
    if (decode->sequences > 0)
        there =
            (double)decode->sequences /
            lane_batch(balance, cost, (double)decode->context_tokens / (double)decode->sequences);
    return fmax(arriving, there);
}

// ---- The decision ----

bool pr_balance_due(pr_balance *balance, double now_s)
{
    if (balance->params.period_s <= 0)
        return false;
    if (!balance->running) {
        balance->running = true;
        balance->begin_s = now_s;
        balance->end_s = now_s + balance->params.period_s;
    }
    return now_s >= balance->end_s;
}

// How many groups should go from a role with so many lanes to another, one after the other: while the
// one that gets is busy, and the one that gives stays clearly below it.
static int32_t
count_moves(double to_work, int32_t to_lanes, double from_work, const pr_balance_side *from)
{
    int32_t moves = 0, lanes = from->lanes;
    while (from->leaving > 0 && lanes > from->leaving) {
        double busy = to_work / to_lanes;
        lanes -= from->leaving;
        to_lanes += from->leaving;
        if (busy < BUSY || from_work / lanes > busy * (1 - MARGIN))
            break;
        moves++;
    }
    return moves;
}

// What this period says, by itself.
static pr_balance_move lean(
    const pr_balance *balance,
    double prefill_work,
    double decode_work,
    const pr_balance_side *prefill,
    const pr_balance_side *decode,
    int32_t *groups)
{
    bool to_prefill = balance->rho_prefill > balance->rho_decode;
    *groups = to_prefill ? count_moves(prefill_work, prefill->lanes, decode_work, decode)
                         : count_moves(decode_work, decode->lanes, prefill_work, prefill);
    if (*groups == 0)
        return PR_BALANCE_STAY;
    return to_prefill ? PR_BALANCE_TO_PREFILL : PR_BALANCE_TO_DECODE;
}

static pr_balance_move
rotate(pr_balance *balance, const pr_balance_side *prefill, const pr_balance_side *decode)
{
    bool may_prefill = decode->leaving > 0, may_decode = prefill->leaving > 0;
    bool was_prefill = balance->leaning == PR_BALANCE_TO_PREFILL;
    if (may_prefill && (!was_prefill || !may_decode))
        balance->leaning = PR_BALANCE_TO_PREFILL;
    else
        balance->leaning = may_decode ? PR_BALANCE_TO_DECODE : PR_BALANCE_STAY;
    return balance->leaning;
}

pr_balance_move pr_balance_decide(
    pr_balance *balance,
    double now_s,
    const pr_cost_model *cost,
    const pr_balance_side *prefill,
    const pr_balance_side *decode,
    bool draining,
    int32_t *groups)
{
    *groups = 1;
    end_period(balance, now_s);
    double prefill_work = prefill_load(balance, cost),
           decode_work = decode_load(balance, cost, decode);
    balance->rho_prefill = prefill_work / prefill->lanes;
    balance->rho_decode = decode_work / decode->lanes;
    if (draining)
        return PR_BALANCE_STAY;
    if (balance->params.rotate)
        return rotate(balance, prefill, decode);
    pr_balance_move move = lean(balance, prefill_work, decode_work, prefill, decode, groups);
    balance->agreed = move == balance->leaning ? balance->agreed + 1 : 1;
    balance->leaning = move;
    bool urgent = fmax(balance->rho_prefill, balance->rho_decode) > TOO_MUCH;
    return urgent || balance->agreed >= PERIODS_AGREEING ? move : PR_BALANCE_STAY;
}
