// SPDX-License-Identifier: BSD-3-Clause
// When what runs in a group will have ended, at the latest: the arithmetic behind a time limit. A request
// is only started if it, and all that it would slow down, ends in time by this estimate.
//
//   chunk steps:  Np (t0 + t3 B + t4 K) + t1 rows + t2 pairs      of the prompts still to compute
//   decode steps: sum over k of t0 + t3 B(k) + t4 K(k)            B(k): those with more than k outputs left
//   more members than the pool or the seats hold at their full length: one wave after the other
//
// Outputs count with their bound (max_tokens), never with a guess. Constants t are fitted to the run's own
// steps, from report to report, so that gaps, messages and stalls are in them. Where the run has not been,
// the fit is not believed: a smaller batch, or less KV, than any seen takes as long as the least seen, a larger one
// longer in proportion, more KV as much longer as the prior says. On top come, for each
// kind of step, how much slower than the fit steps were (the worse of a long and a short memory) and five
// standard deviations of such a sum, from single steps and from blocks of 32 (slow spells).
// Source: ours; the shape of the formulas is the cost model's (cost/cost_model.h).
// Cost: O(members), with `exact` a sort of them. No memory but what is given at create. Threads: one.
#ifndef PR_SCHEDULER_WALLTIME_WALLTIME_H
#define PR_SCHEDULER_WALLTIME_WALLTIME_H

#include "scheduler/cost/step_fit.h"

// Steps with a chunk, and those that only decode.
typedef enum pr_walltime_kind {
    PR_WALLTIME_CHUNK,
    PR_WALLTIME_DECODE,
    PR_WALLTIME_KINDS
} pr_walltime_kind;

// How long steps of a kind took, beside what the fit had predicted.
typedef struct pr_walltime_pace {
    int64_t steps;
    double taken_s, predicted_s;    // decayed over some hundred steps
    double lately_s, foreseen_s;    // over some dozen
    double weight, square;          // of steps' relative errors, decayed
    int32_t block_steps;            // in the block that is being filled
    double block_taken_s, block_s;  // its time, taken and predicted
    double blocks, block_square;    // as weight and square
} pr_walltime_pace;

// Which batches decode steps had, in octaves, and how much KV at most.
enum { PR_WALLTIME_OCTAVES = 16 };
typedef struct pr_walltime_batches {
    int32_t steps, least, most;  // sequences
    int64_t least_context;
} pr_walltime_batches;

// What is known of steps of groups of one role. Work is that of the busiest lane, term by term.
typedef struct pr_walltime_rates {
    pr_step_fit fit;
    pr_cost_model prior;
    pr_walltime_pace pace[PR_WALLTIME_KINDS];
    pr_walltime_batches batches[PR_WALLTIME_OCTAVES];
    int64_t most_context;
    bool
        trusts;  // the little that is known at first, and twice the prior; else they count many times
} pr_walltime_rates;

void pr_walltime_rates_begin(pr_walltime_rates *rates, const pr_cost_model *prior);
void pr_walltime_observe(pr_walltime_rates *rates, const pr_step_work *work, double seconds);
// At most so long take steps that the fit expects to take `seconds`, the longest of them `longest_s`.
double pr_walltime_most_s(
    const pr_walltime_rates *rates, pr_walltime_kind kind, double seconds, double longest_s);

// A time that has no work to go by (a handover): mean and spread, slowly forgetting.
typedef struct pr_walltime_wait {
    double prior_s, weight, sum, square;
} pr_walltime_wait;

void pr_walltime_wait_add(pr_walltime_wait *wait, double seconds);
double pr_walltime_wait_most_s(const pr_walltime_wait *wait, bool trusts);  // as of rates

// One sequence in a lane, or that would be there.
typedef struct pr_walltime_member {
    int32_t rows, before;  // tokens to compute here before it decodes, behind so many that are done
    int32_t outputs;       // at most, to be decoded here
    int32_t tokens;        // KV it holds at its end
    bool arrives;          // after what the group's forecast is told as the offset
} pr_walltime_member;

// Most outputs first.
void pr_walltime_sort(pr_walltime_member *member, int32_t members);

// One lane filled member by member, in the order in which they would get blocks.
typedef struct pr_walltime_lane {
    // Filled once.
    int32_t seats, block_tokens, chunk_rows;  // chunk_rows: of a step, decoding ones included
    int64_t blocks;
    bool exact;                 // keeps the members' outputs and lengths
    int32_t *outputs, *tokens;  // [seats] scratch
    // Of the first wave.
    int32_t members, decoders;  // decoders: with outputs to decode here, now or later
    int64_t used_blocks, rows, pairs;
    int64_t context;                                      // of the decoders, at their ends
    int32_t most_decoding, most_starting, most_arriving;  // outputs of those that decode, have
                                                          // rows left, arrive
    // Of the wave that is being filled after it, and the times of all before that.
    int32_t later_members, later_outputs;
    int64_t later_blocks, later_rows, later_pairs, later_context;
    double later_s;
} pr_walltime_lane;

// Keeps what was filled once.
void pr_walltime_lane_empty(pr_walltime_lane *lane);
void pr_walltime_lane_add(
    pr_walltime_lane *lane, const pr_walltime_rates *rates, const pr_walltime_member *member);

// A group: its lanes step together.
typedef struct pr_walltime_group {
    int32_t *outputs, *tokens;  // [seats of a lane] descending: the most at each place of any lane
    bool exact;
    int32_t decoders, chunk_steps;
    int64_t rows, pairs, context;
    int32_t most_decoding, most_starting, most_arriving;
    double later_s;
} pr_walltime_group;

// Empties the group; a lane is counted in when it is full. Lanes of one group are all exact, or none is.
void pr_walltime_group_empty(pr_walltime_group *group, bool exact);
void pr_walltime_group_add(
    pr_walltime_group *group, pr_walltime_lane *lane, const pr_walltime_rates *rates);

// From now until the prompts are computed; until everything has ended, arrivals after offset_s.
double pr_walltime_prefilled_s(const pr_walltime_group *group, const pr_walltime_rates *rates);
double pr_walltime_ended_s(
    const pr_walltime_group *group, const pr_walltime_rates *rates, double offset_s);

#endif
