// SPDX-License-Identifier: BSD-3-Clause
// How dispatch chooses: a policy is one row in a table of functions, found by name.
//
//   early binding   arrive: filter -> score (weighted sum) -> pick a lane; the lane's queue orders
//   late binding    a lane opens: the central queue orders, `lane` picks among the open lanes
//   at the start    `gather`: which missing leading blocks are worth fetching
//   last chunk      `decode`: the lane that decodes
//
// Spec: NAME[/ORDER][:KEY=VALUE,...], e.g. "lps", "lps:ageing=16", "mpxlnr/srpt",
// "llmd:prefix=3,queue=2,kv=2". ORDER: "fifo" (arrival), "srpt" (predicted remaining prefill time),
// "aged" (the same less wait / ageing, ageing = 8). KEY: `ageing`, the policy's scorers (the value is
// the weight), its own options.
// The anchors are re-implementations of published algorithms as facts: each file names its sources.
// A policy sees the ledger, the cache map, the cost model and what it remembers itself; never the true
// output length, never a clock. Threads: one.
#ifndef PR_SCHEDULER_POLICY_POLICY_H
#define PR_SCHEDULER_POLICY_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "scheduler/dispatch/job.h"

struct pr_dispatch;
struct pr_verdict;
typedef struct pr_policy pr_policy;

enum { PR_POLICY_SCORERS = 4, PR_POLICY_OPTIONS = 6, PR_POLICY_CLOCKS = 8 };

typedef enum pr_policy_order {
    PR_ORDER_FIFO,
    PR_ORDER_SRPT,
    PR_ORDER_AGED,
} pr_policy_order;

// Writes a score for each prefill lane, the higher the better.
typedef struct pr_policy_scorer {
    const char *name;  // NULL: end of the list
    double weight;
    void (*score)(pr_policy *policy, const pr_job *job, double *score);  // [prefill_lanes]
} pr_policy_scorer;

typedef struct pr_policy_option {
    const char *name;  // NULL: end of the list
    double value, least, most;
} pr_policy_option;

// What is fetched before a job's first chunk: the leading blocks [local, depth).
typedef struct pr_policy_fetch {
    int32_t depth;
    int32_t source;  // the lane they come from; -1: any that holds them
    bool imagined;   // they are there, from nowhere
    bool keep;       // they become part of the lane's own cache
} pr_policy_fetch;

// NULL functions: the default that is told.
typedef struct pr_policy_kind {
    const char *name, *alias;  // alias may be NULL
    const char *about;
    pr_policy_order order;
    bool eases;        // aged: the more waits, the slower (pr_policy_arrived)
    bool late;         // jobs wait in the central queue (else they are bound at arrival)
    bool preempts;     // late: a waiting job may displace a running one at a chunk's end (early, in
                       // any order but fifo, it may)
    bool keeps_keys;   // a job's key stays what it was when it came: O(log jobs), else O(jobs)
    bool imagined;     // it needs what no machine has: a bound, for simulation only
    bool random_ties;  // between equal scores; else the lower lane
    pr_policy_scorer scorer[PR_POLICY_SCORERS + 1];
    pr_policy_option option[PR_POLICY_OPTIONS + 1];

    pr_status (*create)(pr_policy *policy);  // makes policy->state; NULL: it has none
    void (*destroy)(pr_policy *policy);

    // Which lanes may be scored; default: those in service. in[prefill_lanes] holds that already.
    void (*filter)(pr_policy *policy, const pr_job *job, bool *in);
    // The lane of an arriving job, instead of filter and scorers.
    int32_t (*pick)(pr_policy *policy, const pr_job *job);
    // After the choice: what the policy remembers of it. Early: at arrival; late: at the start.
    void (*bound)(pr_policy *policy, pr_job *job, int32_t lane);
    // It starts as the verdict says (job->computed_tokens are cached or fetched).
    void (*started)(pr_policy *policy, pr_job *job, const struct pr_verdict *verdict);
    // Its last chunk is done, or it was cancelled before.
    void (*unbound)(pr_policy *policy, pr_job *job, int32_t lane);

    // Predicted prefill time of a job that arrives, for its key; default: with the deepest prefix
    // that its lane (early) or any lane (late) holds.
    double (*remaining)(pr_policy *policy, const pr_job *job);
    // Late binding only, must be there: the open lane for a job, -1: none of the open ones.
    int32_t (*lane)(pr_policy *policy, const pr_job *job);
    // Default: fetches nothing. local: leading blocks that the lane holds.
    void (*gather)(
        pr_policy *policy, const pr_job *job, int32_t lane, int32_t local, pr_policy_fetch *fetch);
    // The decode lane, default: least prompt + expected outputs of all that are assigned.
    int32_t (*decode)(pr_policy *policy, const pr_job *job, const int64_t *room);
} pr_policy_kind;

// How far waiting has come, in seconds of prefill that it makes up for.
typedef struct pr_policy_clock {
    double aged_s, at_s;  // set then
} pr_policy_clock;

struct pr_policy {
    const pr_policy_kind *kind;
    struct pr_dispatch *dispatch;
    pr_policy_order order;
    double ageing;                            // wait that makes up for one second of prefill
    double weight[PR_POLICY_SCORERS];         // of kind->scorer
    double option[PR_POLICY_OPTIONS];         // of kind->option
    pr_policy_clock clock[PR_POLICY_CLOCKS];  // by priority, modulo
    double *score, *total;                    // [prefill_lanes] each
    bool *in;                                 // [prefill_lanes]
    void *state;
};

// Errors: PR_ERR_ARGUMENT with what is wrong in the spec and what there is.
pr_status
pr_policy_create(const char *spec, struct pr_dispatch *dispatch, pr_policy **policy) PR_MUST_CHECK;
void pr_policy_destroy(pr_policy *policy);

// Whether a spec is well formed, without a dispatch: for the command line. live: and whether machines can
// do it; some policies are bounds for the simulator.
pr_status pr_policy_check_spec(const char *spec, bool live) PR_MUST_CHECK;

// The kinds there are, in order of the table; NULL: no more.
const pr_policy_kind *pr_policy_kind_at(int32_t index);

// Early binding: the lane of a job.
int32_t pr_policy_pick(pr_policy *policy, const pr_job *job);
// Sets job->aged_s, for its key. Ageing spares the longest prompts at the cost of the others. While lanes
// keep up that is little; when more comes than they can do, it would make all wait for the few. So a
// policy that eases takes ageing times the seconds of work of the band that wait for each lane, from one
// on: the clock that the band ages by goes slower for all of it, and the order does not change.
void pr_policy_arrived(pr_policy *policy, pr_job *job);
// Sets job->remaining_s and job->key.
void pr_policy_order_job(pr_policy *policy, pr_job *job);
double pr_policy_remaining_s(pr_policy *policy, const pr_job *job);  // as it is now
double pr_policy_key(const pr_policy *policy, const pr_job *job, double remaining_s);

// splitmix64: a number in 0..n-1.
int32_t pr_policy_random(pr_policy *policy, int32_t n);

// The families, each in its file.
extern const pr_policy_kind pr_policy_random_kind, pr_policy_round_robin, pr_policy_least_requests,
    pr_policy_least_tokens, pr_policy_two_choices;
extern const pr_policy_kind pr_policy_affinity, pr_policy_sglang, pr_policy_llmd, pr_policy_llmdpd,
    pr_policy_llmdprecise, pr_policy_llmdspec;
extern const pr_policy_kind pr_policy_dynamo, pr_policy_llumnix, pr_policy_conductor,
    pr_policy_conductorg, pr_policy_mpx, pr_policy_mpxnr;
extern const pr_policy_kind pr_policy_mpxl, pr_policy_mpxlnr, pr_policy_mpxp, pr_policy_pooled;
extern const pr_policy_kind pr_policy_lps;

#endif
