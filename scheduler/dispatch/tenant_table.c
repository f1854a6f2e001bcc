// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/dispatch/tenant_table.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "scheduler/dispatch/job.h"

enum { FIRST_BUCKETS = 8 };

static bool tenant_before(const void *a, const void *b)
{
    return ((const pr_job_tenant *)a)->tenant < ((const pr_job_tenant *)b)->tenant;
}

static bool band_before(const void *a, const void *b)
{
    return ((const pr_job_band *)a)->priority < ((const pr_job_band *)b)->priority;
}

// ---- Open and close ----

pr_status pr_tenant_table_open(
    int32_t most_idle, bool (*job_before)(const void *a, const void *b), pr_tenant_table *table)
{
    pr_job_tenant **bucket = calloc(FIRST_BUCKETS, sizeof *bucket);
    if (!bucket)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a table of tenants");
    *table = (pr_tenant_table){
        .most_idle = most_idle,
        .job_before = job_before,
        .active = {.before = band_before, .index_offset = offsetof(pr_job_band, active_at)},
        .buckets = FIRST_BUCKETS,
        .bucket = bucket};
    return PR_OK;
}

static void free_tenant(pr_job_tenant *tenant)
{
    pr_min_heap_clear(&tenant->jobs);
    free(tenant);
}

static void free_band(pr_job_band *band)
{
    pr_min_heap_clear(&band->backlog);
    free(band);
}

void pr_tenant_table_close(pr_tenant_table *table)
{
    for (int32_t i = 0; i < table->buckets; i++) {
        pr_job_tenant *next;
        for (pr_job_tenant *at = table->bucket[i]; at; at = next) {
            next = at->same_bucket;
            free_tenant(at);
        }
    }
    for (int32_t i = 0; i < table->bands; i++)
        free_band(table->band[i]);
    pr_min_heap_clear(&table->active);
    free(table->band);
    free(table->bucket);
    free(table->weight);
}

// ---- Bands ----

static int32_t band_place(const pr_tenant_table *table, int32_t priority)
{
    int32_t low = 0, high = table->bands;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (table->band[middle]->priority < priority)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

pr_job_band *pr_tenant_table_band(const pr_tenant_table *table, int32_t priority)
{
    int32_t place = band_place(table, priority);
    bool known = place < table->bands && table->band[place]->priority == priority;
    return known ? table->band[place] : NULL;
}

static pr_status take_band(pr_tenant_table *table, int32_t priority, pr_job_band **band)
{
    *band = pr_tenant_table_band(table, priority);
    if (*band)
        return PR_OK;
    if (table->bands == table->band_capacity) {
        int32_t capacity = table->bands > 0 ? 2 * table->bands : 4;
        pr_job_band **bands = realloc(table->band, (size_t)capacity * sizeof *bands);
        if (!bands)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d priority bands", capacity);
        table->band = bands;
        table->band_capacity = capacity;
    }
    PR_TRY(pr_min_heap_reserve(&table->active, table->bands + 1));
    pr_job_band *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a priority band");
    made->priority = priority;
    made->active_at = -1;
    made->backlog.before = tenant_before;
    made->backlog.index_offset = offsetof(pr_job_tenant, backlog_at);
    int32_t place = band_place(table, priority);
    memmove(
        &table->band[place + 1], &table->band[place],
        (size_t)(table->bands - place) * sizeof(pr_job_band *));
    table->band[place] = made;
    table->bands++;
    *band = made;
    return PR_OK;
}

static void drop_band_if_empty(pr_tenant_table *table, pr_job_band *band)
{
    if (band->tenants > 0)
        return;
    int32_t place = band_place(table, band->priority);
    table->bands--;
    memmove(
        &table->band[place], &table->band[place + 1],
        (size_t)(table->bands - place) * sizeof(pr_job_band *));
    free_band(band);
}

// ---- Weights ----

static int32_t weight_place(const pr_tenant_table *table, uint64_t tenant)
{
    int32_t low = 0, high = table->weights;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (table->weight[middle].tenant < tenant)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static double weight_of(const pr_tenant_table *table, uint64_t tenant)
{
    int32_t place = weight_place(table, tenant);
    bool known = place < table->weights && table->weight[place].tenant == tenant;
    return known ? table->weight[place].weight : 1;
}

static pr_status insert_weight(pr_tenant_table *table, int32_t place, pr_tenant_weight entry)
{
    if (table->weights >= table->most_idle)
        return pr_fail(PR_ERR_RESOURCE, "more than %d tenants with weights", table->most_idle);
    if (table->weights == table->weight_capacity) {
        int32_t capacity = table->weights > 0 ? 2 * table->weights : 8;
        pr_tenant_weight *weight = realloc(table->weight, (size_t)capacity * sizeof *weight);
        if (!weight)
            return pr_fail(PR_ERR_RESOURCE, "no memory for the weights of %d tenants", capacity);
        table->weight = weight;
        table->weight_capacity = capacity;
    }
    memmove(
        &table->weight[place + 1], &table->weight[place],
        (size_t)(table->weights - place) * sizeof *table->weight);
    table->weight[place] = entry;
    table->weights++;
    return PR_OK;
}

pr_status pr_tenant_table_weigh(pr_tenant_table *table, uint64_t tenant, double weight)
{
    if (!(weight > 0) || isinf(weight))
        return pr_fail(PR_ERR_ARGUMENT, "a tenant's weight is %g: it must be above 0", weight);
    int32_t place = weight_place(table, tenant);
    if (place < table->weights && table->weight[place].tenant == tenant)
        table->weight[place].weight = weight;
    else
        PR_TRY(insert_weight(table, place, (pr_tenant_weight){.tenant = tenant, .weight = weight}));
    for (int32_t i = 0; i < table->buckets; i++) {
        for (pr_job_tenant *at = table->bucket[i]; at; at = at->same_bucket) {
            if (at->tenant == tenant)
                at->weight = weight;
        }
    }
    return PR_OK;
}

// ---- Tenants ----

static int32_t bucket_of(int32_t buckets, int32_t priority, uint64_t tenant)
{
    uint64_t hash = pr_hash_mix(tenant ^ ((uint64_t)(uint32_t)priority << 32));
    return (int32_t)(hash & (uint64_t)(buckets - 1));
}

pr_job_tenant *pr_tenant_table_find(const pr_tenant_table *table, int32_t priority, uint64_t tenant)
{
    pr_job_tenant *at = table->recent;
    if (at && at->tenant == tenant && at->band->priority == priority)
        return at;
    at = table->bucket[bucket_of(table->buckets, priority, tenant)];
    while (at && (at->tenant != tenant || at->band->priority != priority))
        at = at->same_bucket;
    return at;
}

static void become_idle(pr_tenant_table *table, pr_job_tenant *tenant)
{
    tenant->idle_before = table->idle_last;
    tenant->idle_after = NULL;
    if (table->idle_last)
        table->idle_last->idle_after = tenant;
    else
        table->idle_first = tenant;
    table->idle_last = tenant;
    table->idle++;
}

static void stop_idling(pr_tenant_table *table, pr_job_tenant *tenant)
{
    if (tenant->idle_before)
        tenant->idle_before->idle_after = tenant->idle_after;
    else
        table->idle_first = tenant->idle_after;
    if (tenant->idle_after)
        tenant->idle_after->idle_before = tenant->idle_before;
    else
        table->idle_last = tenant->idle_before;
    table->idle--;
}

static void forget_tenant(pr_tenant_table *table, pr_job_tenant *tenant)
{
    pr_job_band *band = tenant->band;
    pr_job_tenant **link =
        &table->bucket[bucket_of(table->buckets, band->priority, tenant->tenant)];
    while (*link != tenant)
        link = &(*link)->same_bucket;
    *link = tenant->same_bucket;
    stop_idling(table, tenant);
    if (table->recent == tenant)
        table->recent = NULL;
    if (band->latest == tenant) {
        band->floor = tenant->counter;
        band->latest = NULL;
    }
    band->tenants--;
    table->tenants--;
    free_tenant(tenant);
    drop_band_if_empty(table, band);
}

void pr_tenant_table_trim(pr_tenant_table *table)
{
    while (table->idle > table->most_idle)
        forget_tenant(table, table->idle_first);
}

static pr_status widen_table(pr_tenant_table *table)
{
    if (table->tenants < table->buckets)
        return PR_OK;
    int32_t buckets = 2 * table->buckets;
    pr_job_tenant **bucket = calloc((size_t)buckets, sizeof *bucket);
    if (!bucket)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a table of %d tenants", buckets);
    for (int32_t i = 0; i < table->buckets; i++) {
        pr_job_tenant *next;
        for (pr_job_tenant *at = table->bucket[i]; at; at = next) {
            next = at->same_bucket;
            int32_t place = bucket_of(buckets, at->band->priority, at->tenant);
            at->same_bucket = bucket[place];
            bucket[place] = at;
        }
    }
    free(table->bucket);
    table->bucket = bucket;
    table->buckets = buckets;
    return PR_OK;
}

// A new tenant is idle: it has no jobs yet.
static pr_status
make_tenant(pr_tenant_table *table, pr_job_band *band, uint64_t tenant, pr_job_tenant **made)
{
    PR_TRY(widen_table(table));
    PR_TRY(pr_min_heap_reserve(&band->backlog, band->tenants + 1));
    pr_job_tenant *at = calloc(1, sizeof *at);
    if (!at)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a tenant");
    at->tenant = tenant;
    at->band = band;
    at->weight = weight_of(table, tenant);
    at->backlog_at = -1;
    at->jobs.before = table->job_before;
    at->jobs.index_offset = offsetof(pr_job, key_at);
    int32_t place = bucket_of(table->buckets, band->priority, tenant);
    at->same_bucket = table->bucket[place];
    table->bucket[place] = at;
    table->tenants++;
    band->tenants++;
    become_idle(table, at);
    *made = at;
    return PR_OK;
}

pr_status pr_tenant_table_take(
    pr_tenant_table *table, int32_t priority, uint64_t tenant, pr_job_tenant **taken)
{
    pr_job_tenant *at = pr_tenant_table_find(table, priority, tenant);
    if (!at) {
        pr_job_band *band;
        PR_TRY(take_band(table, priority, &band));
        pr_status status = make_tenant(table, band, tenant, &at);
        if (status != PR_OK) {
            drop_band_if_empty(table, band);
            return status;
        }
    }
    table->recent = *taken = at;
    return PR_OK;
}

// ---- Backlog and service ----

void pr_tenant_table_wake(pr_tenant_table *table, pr_job_tenant *tenant)
{
    pr_job_band *band = tenant->band;
    // No credit for the time in which it asked for nothing.
    double floor = band->latest ? band->latest->counter : band->floor;
    if (band->backlog.count > 0)
        floor = band->backlog.node[0].key;
    if (tenant->counter < floor)
        tenant->counter = floor;
    stop_idling(table, tenant);
    pr_min_heap_put(&band->backlog, tenant->counter, tenant);
    if (band->active_at < 0)
        pr_min_heap_put(&table->active, band->priority, band);
}

void pr_tenant_table_rest(pr_tenant_table *table, pr_job_tenant *tenant)
{
    pr_job_band *band = tenant->band;
    pr_min_heap_take(&band->backlog, tenant->backlog_at);
    band->latest = tenant;
    if (band->backlog.count == 0)
        pr_min_heap_take(&table->active, band->active_at);
    become_idle(table, tenant);
    pr_tenant_table_trim(table);
}

void pr_tenant_table_charge(pr_tenant_table *table, pr_job_tenant *tenant, double service)
{
    table->recent = tenant;
    tenant->counter += service / tenant->weight;
    if (tenant->backlog_at >= 0)
        pr_min_heap_change(&tenant->band->backlog, tenant->backlog_at, tenant->counter);
}

// ---- Check ----

static void check_bands(const pr_tenant_table *table)
{
    int32_t tenants = 0, active = 0;
    for (int32_t i = 0; i < table->bands; i++) {
        const pr_job_band *band = table->band[i];
        assert(i == 0 || table->band[i - 1]->priority < band->priority);
        assert((band->active_at >= 0) == (band->jobs > 0) && band->tenants > 0);
        assert((band->backlog.count > 0) == (band->jobs > 0));
        pr_min_heap_check(&band->backlog);
        tenants += band->tenants;
        active += band->active_at >= 0;
    }
    assert(tenants == table->tenants && active == table->active.count);
    (void)tenants, (void)active;
}

void pr_tenant_table_check(const pr_tenant_table *table)
{
    pr_min_heap_check(&table->active);
    check_bands(table);
    int32_t idle = 0;
    for (int32_t i = 0; i < table->buckets; i++) {
        for (const pr_job_tenant *at = table->bucket[i]; at; at = at->same_bucket) {
            assert((at->backlog_at >= 0) == (at->jobs.count > 0));
            assert(at->backlog_at < 0 || at->band->backlog.node[at->backlog_at].key == at->counter);
            idle += at->jobs.count == 0;
        }
    }
    assert(idle == table->idle && idle <= table->most_idle);
    (void)idle;
}
