// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/walltime/walltime.h"

#include <math.h>

enum {
    LONG_STEPS = 512,  // after which the past counts 1/e
    SHORT_STEPS = 24,
    BLOCK_STEPS = 32,
    LONG_BLOCKS = 64,
    WAITS = 32,
    ENOUGH_STEPS = 6,  // to know an octave of batches
    START_STEPS = 3,   // a plan finds one step running and one plan waiting; one for good measure
};

static const double DEVIATIONS = 5;
static const double MARGIN = 1.02;
static const double TRUSTED_PRIOR = 2;
// How much blocks waver, as if so many had been seen: what a run shows at first is one moment's machine.
static const double BELIEVED_SPREAD = 0.12, BLOCKS_BELIEVED = 4;

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

// ---- what steps take ----

void pr_walltime_rates_begin(pr_walltime_rates *rates, const pr_cost_model *prior)
{
    *rates = (pr_walltime_rates){.prior = *prior};
    pr_step_fit_begin(&rates->fit, prior);
}

static double decayed(double sum, int32_t memory, double more)
{
    return sum * (1 - 1.0 / memory) + more;
}

static void end_block(pr_walltime_pace *pace)
{
    double error = pace->block_taken_s / pace->block_s - pace->taken_s / pace->predicted_s;
    pace->blocks = decayed(pace->blocks, LONG_BLOCKS, 1);
    pace->block_square = decayed(pace->block_square, LONG_BLOCKS, error * error);
    pace->block_steps = 0;
    pace->block_taken_s = pace->block_s = 0;
}

static int32_t octave(int32_t sequences)
{
    int32_t octave = 0;
    while (sequences >> (octave + 1) > 0 && octave < PR_WALLTIME_OCTAVES - 1)
        octave++;
    return octave;
}

static void see_batch(pr_walltime_rates *rates, const pr_step_work *work)
{
    pr_walltime_batches *seen = &rates->batches[octave(work->decode_sequences)];
    if (seen->steps == 0 || work->decode_sequences < seen->least)
        seen->least = work->decode_sequences;
    if (seen->steps == 0 || work->decode_context < seen->least_context)
        seen->least_context = work->decode_context;
    if (work->decode_sequences > seen->most)
        seen->most = work->decode_sequences;
    if (seen->steps < ENOUGH_STEPS)
        seen->steps++;
    if (work->decode_context > rates->most_context)
        rates->most_context = work->decode_context;
}

void pr_walltime_observe(pr_walltime_rates *rates, const pr_step_work *work, double seconds)
{
    if (!(seconds > 0) || (work->prefill_rows <= 0 && work->decode_sequences <= 0))
        return;
    bool chunk = work->prefill_rows > 0;
    pr_walltime_pace *pace = &rates->pace[chunk ? PR_WALLTIME_CHUNK : PR_WALLTIME_DECODE];
    pr_step_fit_add(&rates->fit, work, seconds);
    double predicted_s = pr_step_fit_predict_s(&rates->fit, work);
    if (!(predicted_s > 0))
        return;
    if (!chunk)
        see_batch(rates, work);
    pace->steps++;
    pace->taken_s = decayed(pace->taken_s, LONG_STEPS, seconds);
    pace->predicted_s = decayed(pace->predicted_s, LONG_STEPS, predicted_s);
    pace->lately_s = decayed(pace->lately_s, SHORT_STEPS, seconds);
    pace->foreseen_s = decayed(pace->foreseen_s, SHORT_STEPS, predicted_s);
    double error = seconds / predicted_s - pace->taken_s / pace->predicted_s;
    pace->weight = decayed(pace->weight, LONG_STEPS, 1);
    pace->square = decayed(pace->square, LONG_STEPS, error * error);
    pace->block_taken_s += seconds;
    pace->block_s += predicted_s;
    if (++pace->block_steps == BLOCK_STEPS)
        end_block(pace);
}

// The first steps are judged with caution: a prior may be wrong by an order of magnitude, and a few steps do
// not show how much a machine wavers.
static double caution(int64_t steps)
{
    double seen = (double)steps;
    return 1 + 4 / (2 + seen) + 16 / ((1 + seen) * (1 + seen));
}

double pr_walltime_most_s(
    const pr_walltime_rates *rates, pr_walltime_kind kind, double seconds, double longest_s)
{
    const pr_walltime_pace *pace = &rates->pace[kind];
    if (!(seconds > 0))
        return 0;
    if (pace->steps == 0)
        return seconds * (rates->trusts ? TRUSTED_PRIOR : caution(0));
    double pace_is = fmax(pace->taken_s / pace->predicted_s, pace->lately_s / pace->foreseen_s);
    double variance = pace->square / pace->weight;
    double of_blocks = (pace->block_square + BLOCKS_BELIEVED * BELIEVED_SPREAD * BELIEVED_SPREAD) /
                       (pace->blocks + BLOCKS_BELIEVED);
    variance = fmax(variance, BLOCK_STEPS * of_blocks);
    double spread_s = DEVIATIONS * sqrt(variance * seconds * fmin(longest_s, seconds));
    return (pace_is * seconds * MARGIN + spread_s) * (rates->trusts ? 1 : caution(pace->steps));
}

void pr_walltime_wait_add(pr_walltime_wait *wait, double seconds)
{
    wait->weight = decayed(wait->weight, WAITS, 1);
    wait->sum = decayed(wait->sum, WAITS, seconds);
    wait->square = decayed(wait->square, WAITS, seconds * seconds);
}

double pr_walltime_wait_most_s(const pr_walltime_wait *wait, bool trusts)
{
    if (!(wait->weight > 0))
        return wait->prior_s * (trusts ? TRUSTED_PRIOR : caution(0));
    double mean = wait->sum / wait->weight;
    double variance = fmax(0, wait->square / wait->weight - mean * mean);
    double most_s = mean + DEVIATIONS * sqrt(variance);
    return trusts ? most_s : most_s * caution((int64_t)wait->weight);
}

static double fitted_s(const pr_walltime_rates *rates, int32_t sequences, int64_t context)
{
    pr_step_work work = {.decode_sequences = sequences, .decode_context = context};
    return pr_step_fit_predict_s(&rates->fit, &work);
}

// The octave of the nearest batch that was seen and is at least as large; if none is, of the largest. NULL:
// none was seen.
static const pr_walltime_batches *known_batch(const pr_walltime_rates *rates, int32_t sequences)
{
    const pr_walltime_batches *largest = NULL;
    for (int32_t i = 0; i < PR_WALLTIME_OCTAVES; i++) {
        const pr_walltime_batches *seen = &rates->batches[i];
        if (seen->steps < ENOUGH_STEPS)
            continue;
        if (sequences <= seen->most)
            return seen;
        largest = seen;
    }
    return largest;
}

// KV beyond what was seen: as the prior has it beside the rest of a step, at the level that was measured.
static double
unseen_context_s(const pr_walltime_rates *rates, int32_t sequences, int64_t context, double taken_s)
{
    double unseen = (double)(context - rates->most_context);
    double by_prior_s = pr_cost_model_step_s(&rates->prior, sequences, rates->most_context);
    if (unseen <= 0 || !(by_prior_s > 0))
        return 0;
    double by_prior = rates->prior.step_context_s * taken_s / by_prior_s;
    return unseen * fmax(rates->fit.constant[4], by_prior);
}

static double step_s(const pr_walltime_rates *rates, int32_t sequences, int64_t context)
{
    const pr_walltime_batches *known = known_batch(rates, sequences);
    if (!known || sequences == 0)
        return fitted_s(rates, sequences, context);
    int32_t batch = larger(known->least, sequences < known->most ? sequences : known->most);
    int64_t seen = context < rates->most_context ? context : rates->most_context;
    double taken_s =
        fitted_s(rates, batch, seen > known->least_context ? seen : known->least_context);
    if (sequences > batch)
        taken_s *= (double)sequences / batch;
    return taken_s + unseen_context_s(rates, batch, context, taken_s);
}

// What rows add to the steps they are in.
static double rows_s(const pr_walltime_rates *rates, int64_t rows, int64_t pairs)
{
    const double *t = rates->fit.constant;
    return t[1] * (double)rows + t[2] * ((double)pairs - (double)rows / 2);
}

// ---- a lane ----

void pr_walltime_lane_empty(pr_walltime_lane *lane)
{
    *lane = (pr_walltime_lane){
        .seats = lane->seats,
        .block_tokens = lane->block_tokens,
        .chunk_rows = lane->chunk_rows,
        .blocks = lane->blocks,
        .exact = lane->exact,
        .outputs = lane->outputs,
        .tokens = lane->tokens,
    };
}

static int64_t pairs_of(int64_t rows, int64_t before)
{
    return rows * before + rows * (rows + 1) / 2;
}

static int64_t chunk_steps(int64_t rows, int32_t rows_of_step)
{
    return (rows + larger(rows_of_step, 1) - 1) / larger(rows_of_step, 1);
}

// A later wave computes its prompts anew, and decodes when the one before it has ended.
static double later_wave_s(const pr_walltime_lane *lane, const pr_walltime_rates *rates)
{
    if (lane->later_members == 0)
        return 0;
    double one_s = step_s(rates, lane->later_members, lane->later_context);
    double steps = (double)chunk_steps(lane->later_rows, lane->chunk_rows - lane->later_members);
    double prefill_s = steps * one_s + rows_s(rates, lane->later_rows, lane->later_pairs);
    double longest_s = one_s + rows_s(rates, lane->chunk_rows, 0);
    return pr_walltime_most_s(rates, PR_WALLTIME_CHUNK, prefill_s, longest_s) +
           pr_walltime_most_s(rates, PR_WALLTIME_DECODE, lane->later_outputs * one_s, one_s);
}

static void add_later(
    pr_walltime_lane *lane,
    const pr_walltime_rates *rates,
    const pr_walltime_member *member,
    int64_t blocks)
{
    if (lane->later_blocks + blocks > lane->blocks || lane->later_members == lane->seats) {
        lane->later_s += later_wave_s(lane, rates);
        lane->later_members = lane->later_outputs = 0;
        lane->later_blocks = lane->later_rows = lane->later_pairs = lane->later_context = 0;
    }
    lane->later_members++;
    lane->later_blocks += blocks;
    lane->later_rows += member->tokens;
    lane->later_pairs += pairs_of(member->tokens, 0);
    lane->later_context += member->tokens;
    lane->later_outputs = larger(lane->later_outputs, member->outputs);
}

void pr_walltime_lane_add(
    pr_walltime_lane *lane, const pr_walltime_rates *rates, const pr_walltime_member *member)
{
    int64_t blocks = (member->tokens + lane->block_tokens - 1) / lane->block_tokens;
    // Who comes after one that found no room waits behind it.
    if (lane->later_members > 0 || lane->members == lane->seats ||
        lane->used_blocks + blocks > lane->blocks) {
        add_later(lane, rates, member, blocks);
        return;
    }
    lane->members++;
    lane->used_blocks += blocks;
    if (member->outputs > 0) {
        if (lane->exact) {
            lane->outputs[lane->decoders] = member->outputs;
            lane->tokens[lane->decoders] = member->tokens;
        }
        lane->decoders++;
        lane->context += member->tokens;
    }
    lane->rows += member->rows;
    lane->pairs += pairs_of(member->rows, member->before);
    if (member->arrives) {
        lane->most_arriving = larger(lane->most_arriving, member->outputs);
    } else if (member->rows > 0) {
        lane->most_starting = larger(lane->most_starting, member->outputs);
    } else {
        lane->most_decoding = larger(lane->most_decoding, member->outputs);
    }
}

// ---- a group ----

void pr_walltime_group_empty(pr_walltime_group *group, bool exact)
{
    *group =
        (pr_walltime_group){.outputs = group->outputs, .tokens = group->tokens, .exact = exact};
}

// Shell's sort: qsort may allocate.
static void sort_descending(int32_t *value, int32_t values)
{
    for (int32_t gap = values / 2; gap > 0; gap /= 2) {
        for (int32_t i = gap; i < values; i++) {
            int32_t moved = value[i], at = i;
            for (; at >= gap && value[at - gap] < moved; at -= gap)
                value[at] = value[at - gap];
            value[at] = moved;
        }
    }
}

void pr_walltime_sort(pr_walltime_member *member, int32_t members)
{
    for (int32_t gap = members / 2; gap > 0; gap /= 2) {
        for (int32_t i = gap; i < members; i++) {
            pr_walltime_member moved = member[i];
            int32_t at = i;
            for (; at >= gap && member[at - gap].outputs < moved.outputs; at -= gap)
                member[at] = member[at - gap];
            member[at] = moved;
        }
    }
}

static void merge(int32_t *most, int32_t members, int32_t *of_lane, int32_t of_lane_members)
{
    sort_descending(of_lane, of_lane_members);
    for (int32_t i = 0; i < of_lane_members; i++)
        most[i] = i < members ? larger(most[i], of_lane[i]) : of_lane[i];
}

void pr_walltime_group_add(
    pr_walltime_group *group, pr_walltime_lane *lane, const pr_walltime_rates *rates)
{
    if (group->exact) {
        merge(group->outputs, group->decoders, lane->outputs, lane->decoders);
        merge(group->tokens, group->decoders, lane->tokens, lane->decoders);
    }
    int64_t steps = chunk_steps(lane->rows, lane->chunk_rows - lane->decoders);
    group->decoders = larger(group->decoders, lane->decoders);
    group->chunk_steps = larger(group->chunk_steps, (int32_t)steps);
    group->rows = lane->rows > group->rows ? lane->rows : group->rows;
    group->pairs = lane->pairs > group->pairs ? lane->pairs : group->pairs;
    group->context = lane->context > group->context ? lane->context : group->context;
    group->most_decoding = larger(group->most_decoding, lane->most_decoding);
    group->most_starting = larger(group->most_starting, lane->most_starting);
    group->most_arriving = larger(group->most_arriving, lane->most_arriving);
    group->later_s = fmax(group->later_s, lane->later_s + later_wave_s(lane, rates));
}

// So many decode steps from now, while those that have fewer outputs left drop out.
static double
exact_decode_s(const pr_walltime_group *group, const pr_walltime_rates *rates, int32_t steps)
{
    double seconds = 0;
    int64_t context = 0;
    int32_t done = 0;
    for (int32_t i = 0; i < group->decoders; i++)
        context += group->tokens[i];
    for (int32_t i = group->decoders - 1; i >= 0 && done < steps; i--) {
        int32_t until = group->outputs[i] < steps ? group->outputs[i] : steps;
        if (until > done) {
            seconds += (until - done) * step_s(rates, i + 1, context);
            done = until;
        }
        context -= group->tokens[i];
    }
    return seconds;
}

static double
decode_s(const pr_walltime_group *group, const pr_walltime_rates *rates, int32_t outputs)
{
    double one_s = step_s(rates, group->decoders, group->context);
    double seconds = group->exact ? exact_decode_s(group, rates, outputs) : outputs * one_s;
    return pr_walltime_most_s(rates, PR_WALLTIME_DECODE, seconds, one_s);
}

// The chunks' own time, which also those wait for that decode beside them; with `steps`, the steps too.
static double
chunks_s(const pr_walltime_group *group, const pr_walltime_rates *rates, int32_t steps)
{
    if (group->rows == 0)
        return 0;
    double one_s = step_s(rates, group->decoders, group->context);
    double seconds = rows_s(rates, group->rows, group->pairs);
    double longest_s = one_s + seconds / group->chunk_steps;
    return pr_walltime_most_s(rates, PR_WALLTIME_CHUNK, seconds + steps * one_s, longest_s);
}

// A start waits for steps under way.
static double start_s(const pr_walltime_group *group, const pr_walltime_rates *rates)
{
    return START_STEPS * step_s(rates, group->decoders, group->context);
}

double pr_walltime_prefilled_s(const pr_walltime_group *group, const pr_walltime_rates *rates)
{
    return start_s(group, rates) + chunks_s(group, rates, group->chunk_steps) + group->later_s;
}

double
pr_walltime_ended_s(const pr_walltime_group *group, const pr_walltime_rates *rates, double offset_s)
{
    double beside_s = chunks_s(group, rates, 0);
    double ended_s = 0;
    if (group->most_decoding > 0)
        ended_s = beside_s + decode_s(group, rates, group->most_decoding);
    if (group->rows > 0)
        ended_s = fmax(
            ended_s, chunks_s(group, rates, group->chunk_steps) +
                         decode_s(group, rates, group->most_starting));
    if (group->most_arriving > 0)
        ended_s = fmax(
            ended_s, offset_s + chunks_s(group, rates, group->chunk_steps) +
                         decode_s(group, rates, group->most_arriving));
    return ended_s + start_s(group, rates) + group->later_s;
}
