// SPDX-License-Identifier: BSD-3-Clause
// Four kinds of heaps: bands by priority, a band's backlogged tenants by counter, a tenant's jobs by
// key; and, across all of them, jobs by arrival (only with a guard).
// Tenants are found through a hash table over (priority, tenant); one without jobs stands in the idle
// list, longest idle first. A band lives as long as it has tenants.
#include "scheduler/dispatch/job_queue.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "scheduler/dispatch/min_heap.h"

enum { FIRST_BUCKETS = 8 };

// Predicted work and prompt tokens of waiting jobs.
typedef struct waiting_load {
    double work_s;
    int64_t prompt_tokens;
} waiting_load;

typedef struct pr_job_tenant pr_job_tenant;

typedef struct job_band {
    int32_t priority;
    int32_t tenants;      // backlogged and idle
    int32_t jobs;         // that wait
    int32_t active_at;    // in the queue's heap of bands with jobs; -1: no jobs
    pr_min_heap backlog;  // tenants with jobs, by counter
    waiting_load load;
    pr_job_tenant *latest;  // whose jobs ran out last; NULL: forgotten, floor holds its counter
    double floor;
} job_band;

struct pr_job_tenant {
    uint64_t tenant;
    job_band *band;
    double counter, weight;
    pr_min_heap jobs;  // by key
    waiting_load load;
    int32_t backlog_at;  // -1: no jobs
    pr_job_tenant *same_bucket;
    pr_job_tenant *idle_before, *idle_after;  // while it has no jobs
};

typedef struct tenant_weight {
    uint64_t tenant;
    double weight;
} tenant_weight;

struct pr_job_queue {
    pr_job_queue_params params;
    int32_t jobs;
    waiting_load load;
    pr_min_heap by_band, by_age;
    pr_job *overdue;  // what the guard put first when last asked

    int32_t bands, band_capacity;
    job_band **band;  // [bands], ascending priority

    int32_t tenants, buckets;
    pr_job_tenant **bucket;  // [buckets], a power of two
    pr_job_tenant *recent;   // the last one found
    int32_t idle;
    pr_job_tenant *idle_first, *idle_last;

    int32_t weights, weight_capacity;
    tenant_weight *weight;  // [weights], ascending tenant
};

// ---- Orders among equal keys ----

static bool job_before(const void *a, const void *b)
{
    const pr_job *left = a, *right = b;
    if (left->arrival_s != right->arrival_s)
        return left->arrival_s < right->arrival_s;
    return left->id < right->id;
}

static bool tenant_before(const void *a, const void *b)
{
    return ((const pr_job_tenant *)a)->tenant < ((const pr_job_tenant *)b)->tenant;
}

static bool band_before(const void *a, const void *b)
{
    return ((const job_band *)a)->priority < ((const job_band *)b)->priority;
}

// ---- Create and destroy ----

pr_status pr_job_queue_create(const pr_job_queue_params *params, pr_job_queue **queue)
{
    if (params->most_jobs < 1 || params->most_tenants < 0 || !(params->prompt_weight >= 0) ||
        !(params->output_weight >= 0) || !(params->guard_s >= 0))
        return pr_fail(PR_ERR_ARGUMENT, "a job queue's maxima, weights or guard are out of bounds");
    pr_job_queue *made = calloc(1, sizeof *made);
    pr_job_tenant **bucket = calloc(FIRST_BUCKETS, sizeof *bucket);
    if (!made || !bucket) {
        free(made);
        free(bucket);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a job queue");
    }
    made->params = *params;
    made->by_band.before = band_before;
    made->by_band.index_offset = offsetof(job_band, active_at);
    made->by_age.before = job_before;
    made->by_age.index_offset = offsetof(pr_job, age_at);
    made->bucket = bucket;
    made->buckets = FIRST_BUCKETS;
    *queue = made;
    return PR_OK;
}

static void free_tenant(pr_job_tenant *tenant)
{
    pr_min_heap_clear(&tenant->jobs);
    free(tenant);
}

static void free_band(job_band *band)
{
    pr_min_heap_clear(&band->backlog);
    free(band);
}

void pr_job_queue_destroy(pr_job_queue *queue)
{
    if (!queue)
        return;
    for (int32_t i = 0; i < queue->buckets; i++) {
        pr_job_tenant *next;
        for (pr_job_tenant *at = queue->bucket[i]; at; at = next) {
            next = at->same_bucket;
            free_tenant(at);
        }
    }
    for (int32_t i = 0; i < queue->bands; i++)
        free_band(queue->band[i]);
    pr_min_heap_clear(&queue->by_band);
    pr_min_heap_clear(&queue->by_age);
    free(queue->band);
    free(queue->bucket);
    free(queue->weight);
    free(queue);
}

// ---- Weights ----

static int32_t weight_place(const pr_job_queue *queue, uint64_t tenant)
{
    int32_t low = 0, high = queue->weights;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (queue->weight[middle].tenant < tenant)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static double weight_of(const pr_job_queue *queue, uint64_t tenant)
{
    int32_t place = weight_place(queue, tenant);
    bool known = place < queue->weights && queue->weight[place].tenant == tenant;
    return known ? queue->weight[place].weight : 1;
}

static pr_status insert_weight(pr_job_queue *queue, int32_t place, tenant_weight entry)
{
    if (queue->weights >= queue->params.most_tenants)
        return pr_fail(
            PR_ERR_RESOURCE, "more than %d tenants with weights", queue->params.most_tenants);
    if (queue->weights == queue->weight_capacity) {
        int32_t capacity = queue->weights > 0 ? 2 * queue->weights : 8;
        tenant_weight *weight = realloc(queue->weight, (size_t)capacity * sizeof *weight);
        if (!weight)
            return pr_fail(PR_ERR_RESOURCE, "no memory for the weights of %d tenants", capacity);
        queue->weight = weight;
        queue->weight_capacity = capacity;
    }
    memmove(
        &queue->weight[place + 1], &queue->weight[place],
        (size_t)(queue->weights - place) * sizeof *queue->weight);
    queue->weight[place] = entry;
    queue->weights++;
    return PR_OK;
}

pr_status pr_job_queue_weigh(pr_job_queue *queue, uint64_t tenant, double weight)
{
    if (!(weight > 0) || isinf(weight))
        return pr_fail(PR_ERR_ARGUMENT, "a tenant's weight is %g: it must be above 0", weight);
    int32_t place = weight_place(queue, tenant);
    if (place < queue->weights && queue->weight[place].tenant == tenant)
        queue->weight[place].weight = weight;
    else
        PR_TRY(insert_weight(queue, place, (tenant_weight){.tenant = tenant, .weight = weight}));
    for (int32_t i = 0; i < queue->buckets; i++) {
        for (pr_job_tenant *at = queue->bucket[i]; at; at = at->same_bucket) {
            if (at->tenant == tenant)
                at->weight = weight;
        }
    }
    return PR_OK;
}

// ---- Bands ----

static int32_t band_place(const pr_job_queue *queue, int32_t priority)
{
    int32_t low = 0, high = queue->bands;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (queue->band[middle]->priority < priority)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static job_band *find_band(const pr_job_queue *queue, int32_t priority)
{
    int32_t place = band_place(queue, priority);
    bool known = place < queue->bands && queue->band[place]->priority == priority;
    return known ? queue->band[place] : NULL;
}

static pr_status take_band(pr_job_queue *queue, int32_t priority, job_band **band)
{
    *band = find_band(queue, priority);
    if (*band)
        return PR_OK;
    if (queue->bands == queue->band_capacity) {
        int32_t capacity = queue->bands > 0 ? 2 * queue->bands : 4;
        job_band **bands = realloc(queue->band, (size_t)capacity * sizeof *bands);
        if (!bands)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d priority bands", capacity);
        queue->band = bands;
        queue->band_capacity = capacity;
    }
    PR_TRY(pr_min_heap_reserve(&queue->by_band, queue->bands + 1));
    job_band *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a priority band");
    made->priority = priority;
    made->active_at = -1;
    made->backlog.before = tenant_before;
    made->backlog.index_offset = offsetof(pr_job_tenant, backlog_at);
    int32_t place = band_place(queue, priority);
    memmove(
        &queue->band[place + 1], &queue->band[place],
        (size_t)(queue->bands - place) * sizeof(job_band *));
    queue->band[place] = made;
    queue->bands++;
    *band = made;
    return PR_OK;
}

static void drop_band_if_empty(pr_job_queue *queue, job_band *band)
{
    if (band->tenants > 0)
        return;
    int32_t place = band_place(queue, band->priority);
    queue->bands--;
    memmove(
        &queue->band[place], &queue->band[place + 1],
        (size_t)(queue->bands - place) * sizeof(job_band *));
    free_band(band);
}

// ---- Tenants ----

static int32_t bucket_of(int32_t buckets, int32_t priority, uint64_t tenant)
{
    uint64_t hash = pr_hash_mix(tenant ^ ((uint64_t)(uint32_t)priority << 32));
    return (int32_t)(hash & (uint64_t)(buckets - 1));
}

static pr_job_tenant *find_tenant(const pr_job_queue *queue, int32_t priority, uint64_t tenant)
{
    if (!queue->params.fair)
        tenant = 0;
    pr_job_tenant *at = queue->recent;
    if (at && at->tenant == tenant && at->band->priority == priority)
        return at;
    at = queue->bucket[bucket_of(queue->buckets, priority, tenant)];
    while (at && (at->tenant != tenant || at->band->priority != priority))
        at = at->same_bucket;
    return at;
}

static void become_idle(pr_job_queue *queue, pr_job_tenant *tenant)
{
    tenant->idle_before = queue->idle_last;
    tenant->idle_after = NULL;
    if (queue->idle_last)
        queue->idle_last->idle_after = tenant;
    else
        queue->idle_first = tenant;
    queue->idle_last = tenant;
    queue->idle++;
}

static void stop_idling(pr_job_queue *queue, pr_job_tenant *tenant)
{
    if (tenant->idle_before)
        tenant->idle_before->idle_after = tenant->idle_after;
    else
        queue->idle_first = tenant->idle_after;
    if (tenant->idle_after)
        tenant->idle_after->idle_before = tenant->idle_before;
    else
        queue->idle_last = tenant->idle_before;
    queue->idle--;
}

static void forget_tenant(pr_job_queue *queue, pr_job_tenant *tenant)
{
    job_band *band = tenant->band;
    pr_job_tenant **link =
        &queue->bucket[bucket_of(queue->buckets, band->priority, tenant->tenant)];
    while (*link != tenant)
        link = &(*link)->same_bucket;
    *link = tenant->same_bucket;
    stop_idling(queue, tenant);
    if (queue->recent == tenant)
        queue->recent = NULL;
    if (band->latest == tenant) {
        band->floor = tenant->counter;
        band->latest = NULL;
    }
    band->tenants--;
    queue->tenants--;
    free_tenant(tenant);
    drop_band_if_empty(queue, band);
}

static void forget_longest_idle(pr_job_queue *queue)
{
    while (queue->idle > queue->params.most_tenants)
        forget_tenant(queue, queue->idle_first);
}

static pr_status widen_table(pr_job_queue *queue)
{
    if (queue->tenants < queue->buckets)
        return PR_OK;
    int32_t buckets = 2 * queue->buckets;
    pr_job_tenant **bucket = calloc((size_t)buckets, sizeof *bucket);
    if (!bucket)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a table of %d tenants", buckets);
    for (int32_t i = 0; i < queue->buckets; i++) {
        pr_job_tenant *next;
        for (pr_job_tenant *at = queue->bucket[i]; at; at = next) {
            next = at->same_bucket;
            int32_t place = bucket_of(buckets, at->band->priority, at->tenant);
            at->same_bucket = bucket[place];
            bucket[place] = at;
        }
    }
    free(queue->bucket);
    queue->bucket = bucket;
    queue->buckets = buckets;
    return PR_OK;
}

// A new tenant is idle: it has no jobs yet.
static pr_status
make_tenant(pr_job_queue *queue, job_band *band, uint64_t tenant, pr_job_tenant **made)
{
    PR_TRY(widen_table(queue));
    PR_TRY(pr_min_heap_reserve(&band->backlog, band->tenants + 1));
    pr_job_tenant *at = calloc(1, sizeof *at);
    if (!at)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a tenant");
    at->tenant = tenant;
    at->band = band;
    at->weight = weight_of(queue, tenant);
    at->backlog_at = -1;
    at->jobs.before = job_before;
    at->jobs.index_offset = offsetof(pr_job, key_at);
    int32_t place = bucket_of(queue->buckets, band->priority, tenant);
    at->same_bucket = queue->bucket[place];
    queue->bucket[place] = at;
    queue->tenants++;
    band->tenants++;
    become_idle(queue, at);
    *made = at;
    return PR_OK;
}

static pr_status take_tenant(pr_job_queue *queue, const pr_job *job, pr_job_tenant **tenant)
{
    *tenant = find_tenant(queue, job->priority, job->tenant);
    if (!*tenant) {
        job_band *band;
        PR_TRY(take_band(queue, job->priority, &band));
        pr_status status = make_tenant(queue, band, queue->params.fair ? job->tenant : 0, tenant);
        if (status != PR_OK) {
            drop_band_if_empty(queue, band);
            return status;
        }
    }
    queue->recent = *tenant;
    return PR_OK;
}

// ---- Jobs come and go ----

// A tenant that was idle gets no credit for the time it asked for nothing.
static void join_backlog(pr_job_queue *queue, pr_job_tenant *tenant)
{
    job_band *band = tenant->band;
    double floor = band->latest ? band->latest->counter : band->floor;
    if (band->backlog.count > 0)
        floor = band->backlog.node[0].key;
    if (tenant->counter < floor)
        tenant->counter = floor;
    stop_idling(queue, tenant);
    pr_min_heap_put(&band->backlog, tenant->counter, tenant);
    if (band->active_at < 0)
        pr_min_heap_put(&queue->by_band, band->priority, band);
}

static void leave_backlog(pr_job_queue *queue, pr_job_tenant *tenant)
{
    job_band *band = tenant->band;
    pr_min_heap_take(&band->backlog, tenant->backlog_at);
    band->latest = tenant;
    if (band->backlog.count == 0)
        pr_min_heap_take(&queue->by_band, band->active_at);
    become_idle(queue, tenant);
    forget_longest_idle(queue);
}

static void add_load(waiting_load *to, double work_s, int32_t prompt_tokens)
{
    to->work_s += work_s;
    to->prompt_tokens += prompt_tokens;
}

// `left`: jobs that still count. Without any the sum is 0: rounding does not pile up.
static void remove_load(waiting_load *to, double work_s, int32_t prompt_tokens, int32_t left)
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
    PR_TRY(take_tenant(queue, job, &tenant));
    pr_status status = reserve_place(queue, tenant);
    if (status != PR_OK) {
        forget_longest_idle(queue);
        return status;
    }
    if (tenant->jobs.count == 0)
        join_backlog(queue, tenant);
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
    job_band *band = tenant->band;
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
        leave_backlog(queue, tenant);
}

// ---- Order ----

static pr_job *first_in_order(const pr_job_queue *queue)
{
    const job_band *band = pr_min_heap_first(&queue->by_band);
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
    const job_band *band = tenant->band;
    if (job->key_at + 1 < tenant->jobs.count)
        return tenant->jobs.node[job->key_at + 1].item;
    if (tenant->backlog_at + 1 < band->backlog.count) {
        tenant = band->backlog.node[tenant->backlog_at + 1].item;
        return pr_min_heap_first(&tenant->jobs);
    }
    if (band->active_at + 1 >= queue->by_band.count)
        return NULL;
    band = queue->by_band.node[band->active_at + 1].item;
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
    queue->recent = tenant;
    double service = queue->params.prompt_weight * (double)prompt_tokens +
                     queue->params.output_weight * (double)outputs;
    tenant->counter += service / tenant->weight;
    if (tenant->backlog_at >= 0)
        pr_min_heap_change(&tenant->band->backlog, tenant->backlog_at, tenant->counter);
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
    const job_band *band = find_band(queue, priority);
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
static waiting_load ahead_of_own(const pr_job_tenant *tenant, const pr_job *job, double enough_s)
{
    waiting_load ahead = {0};
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
    for (int32_t i = 0; i < queue->bands && queue->band[i]->priority < job->priority; i++)
        ahead_s += queue->band[i]->load.work_s;
    const job_band *band = find_band(queue, job->priority);
    if (!band || ahead_s > enough_s)
        return ahead_s;
    const pr_job_tenant *own = find_tenant(queue, job->priority, job->tenant);
    waiting_load before = {0};
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
        assert(!queue->params.fair || job->tenant == tenant->tenant);
        assert((job->age_at >= 0) == !isinf(queue->params.guard_s));
        prompt_tokens += job->prompt_tokens;
    }
    assert(prompt_tokens == tenant->load.prompt_tokens);
    assert((tenant->backlog_at >= 0) == (tenant->jobs.count > 0));
    assert(
        tenant->backlog_at < 0 ||
        tenant->band->backlog.node[tenant->backlog_at].key == tenant->counter);
    (void)queue, (void)prompt_tokens;
}

static void check_bands(const pr_job_queue *queue)
{
    int32_t jobs = 0, tenants = 0, active = 0;
    for (int32_t i = 0; i < queue->bands; i++) {
        const job_band *band = queue->band[i];
        assert(i == 0 || queue->band[i - 1]->priority < band->priority);
        assert((band->active_at >= 0) == (band->jobs > 0) && band->tenants > 0);
        pr_min_heap_check(&band->backlog);
        jobs += band->jobs;
        tenants += band->tenants;
        active += band->active_at >= 0;
    }
    assert(jobs == queue->jobs && tenants == queue->tenants && active == queue->by_band.count);
    (void)jobs, (void)tenants, (void)active;
}

void pr_job_queue_check(const pr_job_queue *queue)
{
    pr_min_heap_check(&queue->by_band);
    pr_min_heap_check(&queue->by_age);
    check_bands(queue);
    int32_t jobs = 0, idle = 0;
    for (int32_t i = 0; i < queue->buckets; i++) {
        for (const pr_job_tenant *at = queue->bucket[i]; at; at = at->same_bucket) {
            check_tenant(queue, at);
            jobs += at->jobs.count;
            idle += at->jobs.count == 0;
        }
    }
    assert(jobs == queue->jobs && idle == queue->idle && idle <= queue->params.most_tenants);
    assert(isinf(queue->params.guard_s) || queue->by_age.count == jobs);
    (void)jobs, (void)idle;
}
