// SPDX-License-Identifier: BSD-3-Clause
// The order is the tenant table's three kinds of heaps, one within the other; with a guard there is one
// more over all jobs, by arrival.
#include "scheduler/dispatch/job_queue.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "scheduler/dispatch/min_heap.h"
#include "scheduler/dispatch/tenant_table.h"

struct pr_job_queue {
    pr_job_queue_params params;
    int32_t jobs;
    pr_job_load load;
    pr_tenant_table table;
    pr_min_heap by_age;
    pr_job *overdue;  // what the guard put first when last asked
};

// Among equal keys.
static bool job_before(const void *a, const void *b)
{
    const pr_job *left = a, *right = b;
    if (left->arrival_s != right->arrival_s)
        return left->arrival_s < right->arrival_s;
    return left->id < right->id;
}

// ---- Create and destroy ----

pr_status pr_job_queue_create(const pr_job_queue_params *params, pr_job_queue **queue)
{
    if (params->most_jobs < 1 || params->most_tenants < 0 || !(params->prompt_weight >= 0) ||
        !(params->output_weight >= 0) || !(params->guard_s >= 0))
        return pr_fail(PR_ERR_ARGUMENT, "a job queue's maxima, weights or guard are out of bounds");
    pr_job_queue *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a job queue");
    pr_status status = pr_tenant_table_open(params->most_tenants, job_before, &made->table);
    if (status != PR_OK) {
        free(made);
        return status;
    }
    made->params = *params;
    made->by_age.before = job_before;
    made->by_age.index_offset = offsetof(pr_job, age_at);
    *queue = made;
    return PR_OK;
}

void pr_job_queue_destroy(pr_job_queue *queue)
{
    if (!queue)
        return;
    pr_tenant_table_close(&queue->table);
    pr_min_heap_clear(&queue->by_age);
    free(queue);
}

// All are one when the queue is not fair.
static uint64_t tenant_of(const pr_job_queue *queue, uint64_t tenant)
{
    return queue->params.fair ? tenant : 0;
}

static pr_job_tenant *find_tenant(const pr_job_queue *queue, int32_t priority, uint64_t tenant)
{
    return pr_tenant_table_find(&queue->table, priority, tenant_of(queue, tenant));
}

pr_status pr_job_queue_weigh(pr_job_queue *queue, uint64_t tenant, double weight)
{
    return pr_tenant_table_weigh(&queue->table, tenant, weight);
}

// ---- Jobs come and go ----

static void add_load(pr_job_load *to, double work_s, int32_t prompt_tokens)
{
    to->work_s += work_s;
    to->prompt_tokens += prompt_tokens;
}

// `left`: jobs that still count. Without any the sum is 0: rounding does not pile up.
static void remove_load(pr_job_load *to, double work_s, int32_t prompt_tokens, int32_t left)
{
    to->work_s -= work_s;
    to->prompt_tokens -= prompt_tokens;
    if (left == 0 || to->work_s < 0)
        to->work_s = 0;
}

static pr_status reserve_place(pr_job_queue *queue, pr_job_tenant *tenant)
{
    PR_TRY(pr_min_heap_reserve(&tenant->jobs, tenant->jobs.count + 1));
    if (!isinf(queue->params.guard_s))
        PR_TRY(pr_min_heap_reserve(&queue->by_age, queue->by_age.count + 1));
    return PR_OK;
}

pr_status pr_job_queue_put(pr_job_queue *queue, pr_job *job)
{
    assert(!isnan(job->key) && !isnan(job->arrival_s));
    if (queue->jobs >= queue->params.most_jobs)
        return PR_ERR_RESOURCE;
    pr_job_tenant *tenant;
    uint64_t whose = tenant_of(queue, job->tenant);
    PR_TRY(pr_tenant_table_take(&queue->table, job->priority, whose, &tenant));
    pr_status status = reserve_place(queue, tenant);
    if (status != PR_OK) {
        pr_tenant_table_trim(&queue->table);
        return status;
    }
    if (tenant->jobs.count == 0)
        pr_tenant_table_wake(&queue->table, tenant);
    job->queue_tenant = tenant;
    job->queued_work_s = job->remaining_s;
    job->age_at = -1;
    pr_min_heap_put(&tenant->jobs, job->key, job);
    if (!isinf(queue->params.guard_s))
        pr_min_heap_put(&queue->by_age, job->arrival_s, job);
    add_load(&tenant->load, job->queued_work_s, job->prompt_tokens);
    add_load(&tenant->band->load, job->queued_work_s, job->prompt_tokens);
    add_load(&queue->load, job->queued_work_s, job->prompt_tokens);
    tenant->band->jobs++;
    queue->jobs++;
    return PR_OK;
}

void pr_job_queue_take(pr_job_queue *queue, pr_job *job)
{
    pr_job_tenant *tenant = job->queue_tenant;
    pr_job_band *band = tenant->band;
    assert(tenant->jobs.node[job->key_at].item == job);
    pr_min_heap_take(&tenant->jobs, job->key_at);
    if (job->age_at >= 0)
        pr_min_heap_take(&queue->by_age, job->age_at);
    if (queue->overdue == job)
        queue->overdue = NULL;
    job->queue_tenant = NULL;
    band->jobs--;
    queue->jobs--;
    remove_load(&tenant->load, job->queued_work_s, job->prompt_tokens, tenant->jobs.count);
    remove_load(&band->load, job->queued_work_s, job->prompt_tokens, band->jobs);
    remove_load(&queue->load, job->queued_work_s, job->prompt_tokens, queue->jobs);
    if (tenant->jobs.count == 0)
        pr_tenant_table_rest(&queue->table, tenant);
}

// ---- Order ----

static pr_job *first_in_order(const pr_job_queue *queue)
{
    const pr_job_band *band = pr_min_heap_first(&queue->table.active);
    if (!band)
        return NULL;
    const pr_job_tenant *tenant = pr_min_heap_first(&band->backlog);
    return pr_min_heap_first(&tenant->jobs);
}

pr_job *pr_job_queue_first(pr_job_queue *queue, double now_s)
{
    pr_job *oldest = pr_min_heap_first(&queue->by_age);
    bool guarded = oldest && now_s - oldest->arrival_s > queue->params.guard_s;
    queue->overdue = guarded ? oldest : NULL;
    return guarded ? oldest : first_in_order(queue);
}

// The job behind this one: its tenant's others, then the band's other tenants, then the other bands,
// each in the order its heap lies in memory.
static pr_job *next_in_heaps(const pr_job_queue *queue, const pr_job *job)
{
    const pr_job_tenant *tenant = job->queue_tenant;
    const pr_job_band *band = tenant->band;
    if (job->key_at + 1 < tenant->jobs.count)
        return tenant->jobs.node[job->key_at + 1].item;
    if (tenant->backlog_at + 1 < band->backlog.count) {
        tenant = band->backlog.node[tenant->backlog_at + 1].item;
        return pr_min_heap_first(&tenant->jobs);
    }
    if (band->active_at + 1 >= queue->table.active.count)
        return NULL;
    band = queue->table.active.node[band->active_at + 1].item;
    tenant = pr_min_heap_first(&band->backlog);
    return pr_min_heap_first(&tenant->jobs);
}

pr_job *pr_job_queue_after(pr_job_queue *queue, const pr_job *job)
{
    assert(job->queue_tenant);
    pr_job *next = job == queue->overdue ? first_in_order(queue) : next_in_heaps(queue, job);
    if (next && next == queue->overdue)
        next = next_in_heaps(queue, next);  // came first already
    return next;
}

// ---- Service ----

void pr_job_queue_serve(
    pr_job_queue *queue, const pr_job *job, int64_t prompt_tokens, int64_t outputs)
{
    pr_job_tenant *tenant = find_tenant(queue, job->priority, job->tenant);
    if (!tenant)
        return;  // forgotten
    double service = queue->params.prompt_weight * (double)prompt_tokens +
                     queue->params.output_weight * (double)outputs;
    pr_tenant_table_charge(&queue->table, tenant, service);
}

double pr_job_queue_service(const pr_job_queue *queue, int32_t priority, uint64_t tenant)
{
    const pr_job_tenant *at = find_tenant(queue, priority, tenant);
    return at ? at->counter : 0;
}

int32_t pr_job_queue_jobs(const pr_job_queue *queue) { return queue->jobs; }

int64_t pr_job_queue_prompt_tokens(const pr_job_queue *queue) { return queue->load.prompt_tokens; }

double pr_job_queue_work(const pr_job_queue *queue) { return queue->load.work_s; }

int32_t pr_job_queue_jobs_of(const pr_job_queue *queue, int32_t priority)
{
    const pr_job_band *band = pr_tenant_table_band(&queue->table, priority);
    return band ? band->jobs : 0;
}

// ---- What starts before a job ----

enum { FAN = PR_MIN_HEAP_FAN };

// The next node of a heap in preorder that is not below `index`; -1: none.
static int32_t skip_subtree(int32_t index, int32_t count)
{
    while (index > 0 && (index % FAN == 0 || index + 1 >= count))
        index = (index - 1) / FAN;
    return index > 0 ? index + 1 : -1;
}

// Jobs of a tenant before this one. Below a job that is not, none is.
static pr_job_load ahead_of_own(const pr_job_tenant *tenant, const pr_job *job, double enough_s)
{
    pr_job_load ahead = {0};
    const pr_min_heap *heap = &tenant->jobs;
    int32_t index = heap->count > 0 ? 0 : -1;
    while (index >= 0 && ahead.work_s <= enough_s) {
        const pr_job *at = heap->node[index].item;
        bool before = at->key != job->key ? at->key < job->key : job_before(at, job);
        if (before)
            add_load(&ahead, at->queued_work_s, at->prompt_tokens);
        index = before && FAN * index + 1 < heap->count ? FAN * index + 1
                                                        : skip_subtree(index, heap->count);
    }
    return ahead;
}

// Work that another tenant gets done until the counter passes this value.
static double work_until(const pr_job_queue *queue, const pr_job_tenant *other, double counter)
{
    double tokens_weighed = queue->params.prompt_weight * (double)other->load.prompt_tokens;
    double allowed = (counter - other->counter) * other->weight;
    if (allowed <= 0)
        return 0;
    if (allowed >= tokens_weighed)
        return other->load.work_s;
    return other->load.work_s * allowed / tokens_weighed;
}

double pr_job_queue_ahead(const pr_job_queue *queue, const pr_job *job, double enough_s)
{
    double ahead_s = 0;
    for (int32_t i = 0; i < queue->table.bands && queue->table.band[i]->priority < job->priority;
         i++)
        ahead_s += queue->table.band[i]->load.work_s;
    const pr_job_band *band = pr_tenant_table_band(&queue->table, job->priority);
    if (!band || ahead_s > enough_s)
        return ahead_s;
    const pr_job_tenant *own = find_tenant(queue, job->priority, job->tenant);
    pr_job_load before = {0};
    double counter = band->backlog.count > 0 ? band->backlog.node[0].key : 0;
    if (own) {
        before = ahead_of_own(own, job, enough_s - ahead_s);
        double reached =
            own->counter + queue->params.prompt_weight * (double)before.prompt_tokens / own->weight;
        counter = reached > counter ? reached : counter;
    }
    ahead_s += before.work_s;
    for (int32_t i = 0; i < band->backlog.count && ahead_s <= enough_s; i++) {
        const pr_job_tenant *other = band->backlog.node[i].item;
        if (other != own)
            ahead_s += work_until(queue, other, counter);
    }
    return ahead_s;
}

// ---- Check ----

static void check_tenant(const pr_job_queue *queue, const pr_job_tenant *tenant)
{
    pr_min_heap_check(&tenant->jobs);
    int64_t prompt_tokens = 0;
    for (int32_t i = 0; i < tenant->jobs.count; i++) {
        const pr_job *job = tenant->jobs.node[i].item;
        assert(job->queue_tenant == tenant && job->priority == tenant->band->priority);
        assert(tenant_of(queue, job->tenant) == tenant->tenant);
        assert((job->age_at >= 0) == !isinf(queue->params.guard_s));
        prompt_tokens += job->prompt_tokens;
    }
    assert(prompt_tokens == tenant->load.prompt_tokens);
    (void)queue, (void)prompt_tokens;
}

void pr_job_queue_check(const pr_job_queue *queue)
{
    const pr_tenant_table *table = &queue->table;
    pr_tenant_table_check(table);
    pr_min_heap_check(&queue->by_age);
    int32_t jobs = 0, jobs_of_bands = 0;
    for (int32_t i = 0; i < table->buckets; i++) {
        for (const pr_job_tenant *at = table->bucket[i]; at; at = at->same_bucket) {
            check_tenant(queue, at);
            jobs += at->jobs.count;
        }
    }
    for (int32_t i = 0; i < table->bands; i++)
        jobs_of_bands += table->band[i]->jobs;
    assert(jobs == queue->jobs && jobs_of_bands == jobs);
    assert(isinf(queue->params.guard_s) || queue->by_age.count == jobs);
    (void)jobs, (void)jobs_of_bands;
}
