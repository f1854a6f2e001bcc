// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/policy/policy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "scheduler/dispatch/dispatch_state.h"

static const pr_policy_kind *const KIND[] = {
    &pr_policy_lps,          &pr_policy_random_kind,
    &pr_policy_round_robin,  &pr_policy_least_requests,
    &pr_policy_least_tokens, &pr_policy_two_choices,
    &pr_policy_affinity,     &pr_policy_sglang,
    &pr_policy_llmd,         &pr_policy_llmdpd,
    &pr_policy_llmdprecise,  &pr_policy_llmdspec,
    &pr_policy_dynamo,       &pr_policy_llumnix,
    &pr_policy_conductor,    &pr_policy_conductorg,
    &pr_policy_mpx,          &pr_policy_mpxnr,
    &pr_policy_mpxl,         &pr_policy_mpxlnr,
    &pr_policy_mpxp,         &pr_policy_pooled,
};

enum { KINDS = sizeof KIND / sizeof KIND[0] };

static const double AGEING = 8;            // seconds of wait that weigh one second of prefill
static const double MOVED_AHEAD_S = 1e12;  // before any other key

const pr_policy_kind *pr_policy_kind_at(int32_t index)
{
    return index >= 0 && index < KINDS ? KIND[index] : NULL;
}

// ---- spec ----

static bool is(const char *name, const char *text, size_t length)
{
    return name && strlen(name) == length && memcmp(name, text, length) == 0;
}

static const pr_policy_kind *find_kind(const char *text, size_t length)
{
    for (int i = 0; i < KINDS; i++) {
        if (is(KIND[i]->name, text, length) || is(KIND[i]->alias, text, length))
            return KIND[i];
    }
    return NULL;
}

static pr_status fail_unknown_kind(const char *text, size_t length)
{
    char names[512] = "";
    size_t used = 0;
    for (int i = 0; i < KINDS; i++) {
        size_t name = strlen(KIND[i]->name);
        if (used + name + 2 > sizeof names)
            break;
        names[used++] = ' ';
        memcpy(names + used, KIND[i]->name, name + 1);
        used += name;
    }
    return pr_fail(
        PR_ERR_ARGUMENT, "policy '%.*s' is unknown; there are:%s", (int)length, text, names);
}

static pr_status set_order(const char *text, size_t length, pr_policy *policy)
{
    static const char *const NAME[] = {"fifo", "srpt", "aged"};
    for (int i = 0; i < 3; i++) {
        if (is(NAME[i], text, length)) {
            policy->order = (pr_policy_order)i;
            return PR_OK;
        }
    }
    return pr_fail(
        PR_ERR_ARGUMENT, "policy: the order '%.*s' is none of fifo, srpt, aged", (int)length, text);
}

// One KEY=VALUE.
static pr_status set_option(const char *text, size_t length, pr_policy *policy)
{
    const pr_policy_kind *kind = policy->kind;
    const char *equals = memchr(text, '=', length);
    size_t key = equals ? (size_t)(equals - text) : length;
    char *end = NULL;
    double value = equals ? strtod(equals + 1, &end) : 0;
    if (!equals || end == equals + 1 || end != text + length || !isfinite(value))
        return pr_fail(
            PR_ERR_ARGUMENT, "policy %s: '%.*s' is not KEY=NUMBER", kind->name, (int)length, text);
    double *field = NULL;
    double least = 0, most = 1e9;
    if (is("ageing", text, key)) {
        field = &policy->ageing;
        least = 1e-3;
    }
    for (int i = 0; !field && kind->scorer[i].name; i++) {
        if (is(kind->scorer[i].name, text, key))
            field = &policy->weight[i];
    }
    for (int i = 0; !field && kind->option[i].name; i++) {
        if (!is(kind->option[i].name, text, key))
            continue;
        field = &policy->option[i];
        least = kind->option[i].least;
        most = kind->option[i].most;
    }
    if (!field)
        return pr_fail(
            PR_ERR_ARGUMENT, "policy %s: there is no option '%.*s'", kind->name, (int)key, text);
    if (value < least || value > most)
        return pr_fail(
            PR_ERR_ARGUMENT, "policy %s: %.*s is %g, must be %g to %g", kind->name, (int)key, text,
            value, least, most);
    *field = value;
    return PR_OK;
}

static pr_status parse(const char *spec, pr_policy *policy)
{
    size_t name = strcspn(spec, "/:");
    const pr_policy_kind *kind = find_kind(spec, name);
    if (!kind)
        return fail_unknown_kind(spec, name);
    policy->kind = kind;
    policy->order = kind->order;
    policy->ageing = AGEING;
    for (int i = 0; kind->scorer[i].name; i++)
        policy->weight[i] = kind->scorer[i].weight;
    for (int i = 0; kind->option[i].name; i++)
        policy->option[i] = kind->option[i].value;
    const char *at = spec + name;
    if (*at == '/') {
        size_t length = strcspn(at + 1, ":");
        PR_TRY(set_order(at + 1, length, policy));
        at += 1 + length;
    }
    while (*at) {  // at ':' or ','
        size_t length = strcspn(at + 1, ",");
        PR_TRY(set_option(at + 1, length, policy));
        at += 1 + length;
    }
    return PR_OK;
}

pr_status pr_policy_check_spec(const char *spec, bool live)
{
    pr_policy policy = {0};
    PR_TRY(parse(spec, &policy));
    if (live && policy.kind->imagined)
        return pr_fail(
            PR_ERR_ARGUMENT, "policy %s is a bound for `polyreme simulate`: no machine can do it",
            policy.kind->name);
    return PR_OK;
}

// ---- life ----

pr_status pr_policy_create(const char *spec, pr_dispatch *dispatch, pr_policy **policy)
{
    pr_policy *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "policy: no memory");
    made->dispatch = dispatch;
    pr_status status;
    PR_TRY_GOTO(parse(spec, made), free_policy);
    size_t lanes = (size_t)dispatch->params.prefill_lanes;
    made->score = calloc(2 * lanes, sizeof *made->score);
    made->in = calloc(lanes, sizeof *made->in);
    if (!made->score || !made->in) {
        status = pr_fail(PR_ERR_RESOURCE, "policy: no memory for %zu lanes", lanes);
        goto free_policy;
    }
    made->total = made->score + lanes;
    if (made->kind->create)
        PR_TRY_GOTO(made->kind->create(made), free_policy);
    *policy = made;
    return PR_OK;
free_policy:
    free(made->score);
    free(made->in);
    free(made);
    return status;
}

void pr_policy_destroy(pr_policy *policy)
{
    if (!policy)
        return;
    if (policy->kind->destroy)
        policy->kind->destroy(policy);
    free(policy->score);
    free(policy->in);
    free(policy);
}

// ---- choices ----

int32_t pr_policy_random(pr_policy *policy, int32_t n)
{
    uint64_t x = policy->dispatch->random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    // (x n) >> 64, in halves.
    uint64_t m = (uint64_t)n;
    return (int32_t)(((x >> 32) * m + ((x & UINT32_MAX) * m >> 32)) >> 32);
}

// The lane with the best total among those that are in; the n-th of equal ones by lot where ties are
// random.
static int32_t pick_best(pr_policy *policy, int32_t lanes)
{
    int32_t best = -1, equal = 0;
    for (int32_t l = 0; l < lanes; l++) {
        if (!policy->in[l])
            continue;
        if (best < 0 || policy->total[l] > policy->total[best]) {
            best = l;
            equal = 1;
        } else if (policy->total[l] == policy->total[best]) {
            equal++;
        }
    }
    if (!policy->kind->random_ties || equal < 2)
        return best;
    int32_t skip = pr_policy_random(policy, equal);
    for (int32_t l = best; l < lanes; l++) {
        if (policy->in[l] && policy->total[l] == policy->total[best] && skip-- == 0)
            return l;
    }
    return best;
}

int32_t pr_policy_pick(pr_policy *policy, const pr_job *job)
{
    const pr_policy_kind *kind = policy->kind;
    if (kind->pick)
        return kind->pick(policy, job);
    int32_t lanes = policy->dispatch->params.prefill_lanes;
    for (int32_t l = 0; l < lanes; l++) {
        policy->in[l] = !policy->dispatch->lane[l].retired;
        policy->total[l] = 0;
    }
    if (kind->filter)
        kind->filter(policy, job, policy->in);
    for (int i = 0; kind->scorer[i].name; i++) {
        kind->scorer[i].score(policy, job, policy->score);
        for (int32_t l = 0; l < lanes; l++)
            policy->total[l] += policy->weight[i] * policy->score[l];
    }
    return pick_best(policy, lanes);
}

// With what is known to be cached where it will run, or anywhere while that is open.
double pr_policy_remaining_s(pr_policy *policy, const pr_job *job)
{
    const pr_dispatch *dispatch = policy->dispatch;
    if (job->computed_tokens > 0)
        return pr_cost_model_prefill_s(dispatch->cost, job->prompt_tokens, job->computed_tokens);
    if (policy->kind->remaining)
        return policy->kind->remaining(policy, job);
    int32_t depth = job->bound_lane < 0 ? pr_dispatch_union_depth(dispatch, job)
                                        : pr_dispatch_local_depth(dispatch, job, job->bound_lane);
    return pr_dispatch_prefill_s(dispatch, job, depth);
}

double pr_policy_key(const pr_policy *policy, const pr_job *job, double remaining_s)
{
    if (job->moved)
        return job->arrival_s - MOVED_AHEAD_S;
    switch (policy->order) {
    case PR_ORDER_SRPT:
        return remaining_s;
    case PR_ORDER_AGED:
        return remaining_s + (policy->kind->eases ? job->aged_s : job->arrival_s / policy->ageing);
    default:
        return job->arrival_s;
    }
}

// Predicted work of the job's band that waits for each lane, as if jobs of all bands were alike.
static double backlog_s(const pr_dispatch *dispatch, int32_t priority)
{
    const pr_job_queue *queue = dispatch->central;
    int32_t jobs = pr_job_queue_jobs(queue), lanes = dispatch->in_service;
    if (jobs == 0 || lanes == 0)
        return 0;
    double share = (double)pr_job_queue_jobs_of(queue, priority) / jobs;
    return pr_job_queue_work(queue) * share / lanes;
}

void pr_policy_arrived(pr_policy *policy, pr_job *job)
{
    const pr_dispatch *dispatch = policy->dispatch;
    pr_policy_clock *clock = &policy->clock[(uint32_t)job->priority % PR_POLICY_CLOCKS];
    double ageing = policy->ageing * fmax(1, backlog_s(dispatch, job->priority));
    clock->aged_s += (dispatch->now_s - clock->at_s) / ageing;
    clock->at_s = dispatch->now_s;
    job->aged_s = clock->aged_s;
}

void pr_policy_order_job(pr_policy *policy, pr_job *job)
{
    job->remaining_s = pr_policy_remaining_s(policy, job);
    job->key = pr_policy_key(policy, job, job->remaining_s);
}
