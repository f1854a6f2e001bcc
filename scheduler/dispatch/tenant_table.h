// SPDX-License-Identifier: BSD-3-Clause
// Tenants and bands of a job queue: who has jobs that wait, in which order they are served, what each
// has received. Part of job_queue, which alone includes it; the jobs' own heaps are its business.
//
//   active: bands with jobs, by priority --> backlog: tenants with jobs, by counter --> jobs by key
//   idle:   tenants without jobs, longest idle first; beyond most_idle they are forgotten
//
// A tenant here is one of a band: the same number in two bands is two. A hash table over (priority,
// tenant) finds it. A band lives as long as it has tenants. Cost: O(log); a new band O(bands).
#ifndef PR_SCHEDULER_DISPATCH_TENANT_TABLE_H
#define PR_SCHEDULER_DISPATCH_TENANT_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "scheduler/dispatch/min_heap.h"

// Predicted work and prompt tokens of waiting jobs.
typedef struct pr_job_load {
    double work_s;
    int64_t prompt_tokens;
} pr_job_load;

typedef struct pr_job_tenant pr_job_tenant;

typedef struct pr_job_band {
    int32_t priority;
    int32_t tenants;      // backlogged and idle
    int32_t jobs;         // that wait
    int32_t active_at;    // in the heap of bands with jobs; -1: no jobs
    pr_min_heap backlog;  // tenants with jobs, by counter
    pr_job_load load;
    pr_job_tenant *latest;  // whose jobs ran out last; NULL: forgotten, floor holds its counter
    double floor;
} pr_job_band;

struct pr_job_tenant {
    uint64_t tenant;
    pr_job_band *band;
    double counter, weight;
    pr_min_heap jobs;  // by key
    pr_job_load load;
    int32_t backlog_at;  // -1: no jobs
    pr_job_tenant *same_bucket;
    pr_job_tenant *idle_before, *idle_after;  // while it has no jobs
};

typedef struct pr_tenant_weight {
    uint64_t tenant;
    double weight;
} pr_tenant_weight;

typedef struct pr_tenant_table {
    int32_t most_idle;  // and most weights
    bool (*job_before)(const void *a, const void *b);

    int32_t bands, band_capacity;
    pr_job_band **band;  // [bands], ascending priority
    pr_min_heap active;

    int32_t tenants, buckets;
    pr_job_tenant **bucket;  // [buckets], a power of two
    pr_job_tenant *recent;   // the last one asked for
    int32_t idle;
    pr_job_tenant *idle_first, *idle_last;

    int32_t weights, weight_capacity;
    pr_tenant_weight *weight;  // [weights], ascending tenant
} pr_tenant_table;

// job_before: the order of jobs with equal keys.
pr_status pr_tenant_table_open(
    int32_t most_idle,
    bool (*job_before)(const void *a, const void *b),
    pr_tenant_table *table) PR_MUST_CHECK;
void pr_tenant_table_close(pr_tenant_table *table);

pr_job_band *pr_tenant_table_band(const pr_tenant_table *table, int32_t priority);  // or NULL
pr_job_tenant *
pr_tenant_table_find(const pr_tenant_table *table, int32_t priority, uint64_t tenant);  // or NULL

// Finds the tenant or makes it. A new one is idle: it is to be woken, or trimmed away.
pr_status pr_tenant_table_take(
    pr_tenant_table *table, int32_t priority, uint64_t tenant, pr_job_tenant **taken) PR_MUST_CHECK;
void pr_tenant_table_trim(pr_tenant_table *table);

// Its first job is about to wait: its counter is lifted. Its last one has gone: it may be forgotten.
void pr_tenant_table_wake(pr_tenant_table *table, pr_job_tenant *tenant);
void pr_tenant_table_rest(pr_tenant_table *table, pr_job_tenant *tenant);

// So much service divided by its weight.
void pr_tenant_table_charge(pr_tenant_table *table, pr_job_tenant *tenant, double service);
pr_status
pr_tenant_table_weigh(pr_tenant_table *table, uint64_t tenant, double weight) PR_MUST_CHECK;

void pr_tenant_table_check(const pr_tenant_table *table);

#endif
