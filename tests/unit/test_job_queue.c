// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/hash.h"
#include "scheduler/dispatch/job_queue.h"

static uint64_t random_state;

static int32_t below(int32_t limit)
{
    return (int32_t)(pr_hash_mix(++random_state) % (uint64_t)limit);
}

static void assert_near(double is, double expected, double tolerance)
{
    if (!(fabs(is - expected) <= tolerance))
        fail_msg("%.9g is not %.9g within %g", is, expected, tolerance);
}

static pr_job_queue *make(bool fair, double guard_s, int32_t most_jobs, int32_t most_tenants)
{
    pr_job_queue *queue;
    assert_int_equal(
        pr_job_queue_create(
            &(pr_job_queue_params){
                .fair = fair,
                .prompt_weight = 1,
                .output_weight = 2,
                .guard_s = guard_s,
                .most_jobs = most_jobs,
                .most_tenants = most_tenants},
            &queue),
        PR_OK);
    return queue;
}

static void put(pr_job_queue *queue, pr_job *job)
{
    assert_int_equal(pr_job_queue_put(queue, job), PR_OK);
}

// ---- The model: arrays and the rules of the header, nothing else ----

enum { MODEL_JOBS = 300, MODEL_BANDS = 3, MODEL_TENANTS = 6 };

typedef struct model {
    bool fair;
    double guard_s;
    pr_job job[MODEL_JOBS];
    bool waits[MODEL_JOBS];
    double counter[MODEL_BANDS][MODEL_TENANTS];
    int32_t latest[MODEL_BANDS];  // tenant whose jobs ran out last; -1: none did
} model;

static int32_t model_tenant(const model *m, const pr_job *job)
{
    return m->fair ? (int32_t)job->tenant : 0;
}

static int32_t model_backlog(const model *m, int32_t band, int32_t tenant)
{
    int32_t jobs = 0;
    for (int32_t i = 0; i < MODEL_JOBS; i++)
        jobs += m->waits[i] && m->job[i].priority == band && model_tenant(m, &m->job[i]) == tenant;
    return jobs;
}

static void model_put(model *m, int32_t index)
{
    int32_t band = m->job[index].priority, tenant = model_tenant(m, &m->job[index]);
    if (model_backlog(m, band, tenant) == 0) {
        double floor = (double)INFINITY;
        for (int32_t t = 0; t < MODEL_TENANTS; t++) {
            if (model_backlog(m, band, t) > 0)
                floor = fmin(floor, m->counter[band][t]);
        }
        if (isinf(floor))
            floor = m->latest[band] >= 0 ? m->counter[band][m->latest[band]] : 0;
        m->counter[band][tenant] = fmax(m->counter[band][tenant], floor);
    }
    m->waits[index] = true;
}

static void model_take(model *m, int32_t index)
{
    int32_t band = m->job[index].priority, tenant = model_tenant(m, &m->job[index]);
    m->waits[index] = false;
    if (model_backlog(m, band, tenant) == 0)
        m->latest[band] = tenant;
}

static bool model_before(const model *m, const pr_job *a, const pr_job *b, double now_s)
{
    bool a_overdue = now_s - a->arrival_s > m->guard_s,
         b_overdue = now_s - b->arrival_s > m->guard_s;
    if (a_overdue != b_overdue)
        return a_overdue;
    if (!a_overdue) {
        if (a->priority != b->priority)
            return a->priority < b->priority;
        int32_t a_tenant = model_tenant(m, a), b_tenant = model_tenant(m, b);
        double a_counter = m->counter[a->priority][a_tenant];
        double b_counter = m->counter[b->priority][b_tenant];
        if (a_counter != b_counter)
            return a_counter < b_counter;
        if (a_tenant != b_tenant)
            return a_tenant < b_tenant;
        if (a->key != b->key)
            return a->key < b->key;
    }
    if (a->arrival_s != b->arrival_s)
        return a->arrival_s < b->arrival_s;
    return a->id < b->id;
}

static pr_job *model_first(model *m, double now_s)
{
    pr_job *first = NULL;
    for (int32_t i = 0; i < MODEL_JOBS; i++) {
        if (m->waits[i] && (!first || model_before(m, &m->job[i], first, now_s)))
            first = &m->job[i];
    }
    return first;
}

static void step(model *m, pr_job_queue *queue, double now_s)
{
    int32_t index = below(MODEL_JOBS);
    pr_job *job = &m->job[index];
    int32_t what = below(10);
    if (what < 5 && !m->waits[index]) {
        *job = (pr_job){
            .id = (uint64_t)index,
            .arrival_s = now_s - below(3),
            .priority = below(MODEL_BANDS),
            .tenant = (uint64_t)below(MODEL_TENANTS),
            .prompt_tokens = 1 + below(100),
            .remaining_s = below(8),
            .key = below(8)};
        model_put(m, index);
        put(queue, job);
    } else if (what == 5 && m->waits[index]) {
        model_take(m, index);
        pr_job_queue_take(queue, job);
    } else if (what == 6 && job->prompt_tokens > 0) {
        int64_t outputs = below(20) - 5;
        pr_job_queue_serve(queue, job, job->prompt_tokens, outputs);
        m->counter[job->priority][model_tenant(m, job)] +=
            (double)(job->prompt_tokens + 2 * outputs);
    } else if (what > 6) {
        pr_job *first = pr_job_queue_first(queue, now_s);
        if (!first)
            return;
        model_take(m, (int32_t)(first - m->job));
        pr_job_queue_take(queue, first);
    }
}

static void run_against_model(bool fair, double guard_s)
{
    model *m = calloc(1, sizeof *m);
    m->fair = fair;
    m->guard_s = guard_s;
    for (int32_t band = 0; band < MODEL_BANDS; band++)
        m->latest[band] = -1;
    pr_job_queue *queue = make(fair, guard_s, MODEL_JOBS, MODEL_BANDS * MODEL_TENANTS);
    int32_t jobs_seen = 0;
    for (int32_t i = 0; i < 20000; i++) {
        double now_s = i * 0.05;
        step(m, queue, now_s);
        assert_ptr_equal(pr_job_queue_first(queue, now_s), model_first(m, now_s));
        if (i % 50 == 0)
            pr_job_queue_check(queue);
        int32_t waiting = 0;
        for (int32_t j = 0; j < MODEL_JOBS; j++)
            waiting += m->waits[j];
        assert_int_equal(pr_job_queue_jobs(queue), waiting);
        jobs_seen = waiting > jobs_seen ? waiting : jobs_seen;
    }
    assert_true(jobs_seen > 30);
    for (int32_t band = 0; band < MODEL_BANDS; band++) {
        for (int32_t t = 0; t < (fair ? MODEL_TENANTS : 1); t++)
            assert_near(pr_job_queue_service(queue, band, (uint64_t)t), m->counter[band][t], 0);
    }
    pr_job_queue_destroy(queue);
    free(m);
}

static void random_operations_agree_with_a_model(void **state)
{
    (void)state;
    run_against_model(true, 10);
    run_against_model(true, (double)INFINITY);
    run_against_model(false, 10);
    run_against_model(false, (double)INFINITY);
}

static void every_waiting_job_comes_once_behind_the_first(void **state)
{
    (void)state;
    enum { JOBS = 200 };
    for (int32_t round = 0; round < 20; round++) {
        pr_job_queue *queue = make(true, 50, JOBS, 8);
        pr_job job[JOBS];
        bool seen[JOBS] = {false};
        for (int32_t i = 0; i < JOBS; i++) {
            job[i] = (pr_job){
                .id = (uint64_t)i,
                .arrival_s = below(100),
                .priority = below(4),
                .tenant = (uint64_t)below(5),
                .key = below(20)};
            put(queue, &job[i]);
        }
        int32_t jobs = 0;
        for (const pr_job *at = pr_job_queue_first(queue, 40 + 10 * round); at;
             at = pr_job_queue_after(queue, at)) {
            assert_false(seen[at->id]);
            seen[at->id] = true;
            jobs++;
        }
        assert_int_equal(jobs, JOBS);
        pr_job_queue_destroy(queue);
    }
}

static void a_returning_tenant_gets_no_credit_for_its_absence(void **state)
{
    (void)state;
    pr_job_queue *queue = make(true, (double)INFINITY, 10, 10);
    pr_job a = {.id = 1, .tenant = 1}, b = {.id = 2, .tenant = 2}, c = {.id = 3, .tenant = 3};
    put(queue, &a);
    pr_job_queue_serve(queue, &a, 1000, 0);
    put(queue, &b);  // new: lifted to the only backlogged one
    assert_near(pr_job_queue_service(queue, 0, 2), 1000, 0);
    pr_job_queue_serve(queue, &b, 500, 0);
    pr_job_queue_take(queue, &a);
    pr_job_queue_take(queue, &b);
    put(queue, &c);  // nobody waits: lifted to the one that waited last
    assert_near(pr_job_queue_service(queue, 0, 3), 1500, 0);
    put(queue, &b);
    put(queue, &a);  // 1000, lifted to the smallest, 1500
    assert_near(pr_job_queue_service(queue, 0, 1), 1500, 0);
    pr_job_queue_serve(queue, &a, 100, 10);  // outputs count twice
    assert_near(pr_job_queue_service(queue, 0, 1), 1620, 0);
    pr_job_queue_serve(queue, &a, -100, -10);
    assert_ptr_equal(pr_job_queue_first(queue, 0), &a);
    pr_job_queue_destroy(queue);
}

static void a_tenant_of_weight_three_gets_three_times_the_service(void **state)
{
    (void)state;
    enum { JOBS = 400 };
    pr_job_queue *queue = make(true, (double)INFINITY, 2 * JOBS, 10);
    assert_int_equal(pr_job_queue_weigh(queue, 7, 3), PR_OK);
    static pr_job job[2 * JOBS];
    int32_t served[2] = {0};
    for (int32_t i = 0; i < 2 * JOBS; i++) {
        job[i] = (pr_job){.id = (uint64_t)i, .tenant = i % 2 == 0 ? 7 : 8, .prompt_tokens = 10};
        put(queue, &job[i]);
    }
    for (int32_t i = 0; i < JOBS; i++) {
        pr_job *first = pr_job_queue_first(queue, 0);
        pr_job_queue_take(queue, first);
        pr_job_queue_serve(queue, first, first->prompt_tokens, 0);
        served[first->tenant - 7]++;
    }
    assert_in_range(served[0], 299, 301);
    pr_job_queue_destroy(queue);
}

static void the_guard_puts_the_longest_waiting_before_bands_and_keys(void **state)
{
    (void)state;
    pr_job_queue *queue = make(true, 60, 10, 10);
    pr_job high = {.id = 1, .arrival_s = 50, .priority = -1, .key = 0};
    pr_job low = {.id = 2, .arrival_s = 1, .priority = 5, .key = 99};
    pr_job lower = {.id = 3, .arrival_s = 0, .priority = 6, .key = 100};
    put(queue, &high);
    put(queue, &low);
    put(queue, &lower);
    assert_ptr_equal(pr_job_queue_first(queue, 60), &high);
    assert_ptr_equal(pr_job_queue_first(queue, 60.5), &lower);
    pr_job_queue_take(queue, &lower);
    assert_ptr_equal(pr_job_queue_first(queue, 60.5), &high);
    assert_ptr_equal(pr_job_queue_first(queue, 61.5), &low);
    pr_job_queue_destroy(queue);
}

static void a_full_queue_refuses_and_forgets_idle_tenants(void **state)
{
    (void)state;
    pr_job_queue *queue = make(true, 60, 2, 3);
    pr_job full[3] = {{.id = 0}, {.id = 1}, {.id = 2}};
    put(queue, &full[0]);
    put(queue, &full[1]);
    assert_int_equal(pr_job_queue_put(queue, &full[2]), PR_ERR_RESOURCE);
    pr_job_queue_take(queue, &full[0]);
    pr_job_queue_take(queue, &full[1]);
    for (int32_t i = 0; i < 1000; i++) {
        pr_job job = {
            .id = (uint64_t)i, .tenant = (uint64_t)i, .priority = i % 100, .prompt_tokens = 7};
        put(queue, &job);
        pr_job_queue_serve(queue, &job, 7, 0);
        pr_job_queue_take(queue, &job);
        pr_job_queue_check(queue);  // among others: idle tenants <= 3
    }
    assert_near(pr_job_queue_service(queue, 99, 999), 7, 0);
    assert_near(pr_job_queue_service(queue, 0, 900), 0, 0);
    pr_job_queue_destroy(queue);
}

// Serves everything that starts before `probe` in the queue's own order.
static double served_before(pr_job_queue *queue, pr_job *probe)
{
    double served_s = 0;
    for (pr_job *at = pr_job_queue_first(queue, 0); at != probe;
         at = pr_job_queue_first(queue, 0)) {
        served_s += at->remaining_s;
        pr_job_queue_take(queue, at);
        pr_job_queue_serve(queue, at, at->prompt_tokens, 0);
    }
    return served_s;
}

static void work_ahead_is_what_starts_before(void **state)
{
    (void)state;
    enum { JOBS = 500 };
    static pr_job job[JOBS + 1];
    for (int32_t tenants = 1; tenants <= 4; tenants += 3) {
        for (int32_t round = 0; round < 50; round++) {
            pr_job_queue *queue = make(true, (double)INFINITY, JOBS + 1, 10);
            for (int32_t i = 0; i <= JOBS; i++) {
                int32_t tokens = 100 + below(100);
                job[i] = (pr_job){
                    .id = (uint64_t)i,
                    .priority = i == JOBS ? 1 : below(3),
                    .tenant = (uint64_t)below(tenants),
                    .prompt_tokens = tokens,
                    .remaining_s = tokens * 0.01,
                    .key = i == JOBS ? below(100) : below(100) + tokens * 1e-3};
                if (i < JOBS)
                    put(queue, &job[i]);
            }
            double ahead_s = pr_job_queue_ahead(queue, &job[JOBS], (double)INFINITY);
            double enough_s = pr_job_queue_ahead(queue, &job[JOBS], ahead_s / 3);
            put(queue, &job[JOBS]);
            double served_s = served_before(queue, &job[JOBS]);
            assert_true(enough_s > ahead_s / 3 && enough_s <= ahead_s);
            // One tenant: exact. More: the fluid share of each is off by at most one job, 2 s.
            assert_near(ahead_s, served_s, tenants == 1 ? 1e-6 : 2.0 * (tenants - 1));
            pr_job_queue_destroy(queue);
        }
    }
}

static double cycle_ns(int32_t jobs, int32_t tenants, bool fair, double guard_s)
{
    enum { CYCLES = 300000 };
    pr_job_queue *queue = make(fair, guard_s, jobs, 100000);
    pr_job *job = calloc((size_t)jobs, sizeof *job);
    for (int32_t i = 0; i < jobs; i++) {
        job[i].id = (uint64_t)i;
        job[i].arrival_s = i * 1e-3;
        job[i].key = below(1000000) * 1e-6 * jobs * 1e-3 + i * 1e-3 / 8;
        job[i].tenant = (uint64_t)below(tenants);
        job[i].prompt_tokens = 100;
        put(queue, &job[i]);
    }
    double best_ns = (double)INFINITY;
    double now_s = jobs * 1e-3;
    for (int32_t round = 0; round < 3; round++) {
        int64_t begin_ns = pr_clock_now_ns();
        for (int32_t i = 0; i < CYCLES; i++, now_s += 1e-3) {
            pr_job *first = pr_job_queue_first(queue, now_s);
            pr_job_queue_take(queue, first);
            if (fair)
                pr_job_queue_serve(queue, first, first->prompt_tokens, 0);
            first->arrival_s = now_s;
            first->key = now_s / 8 + below(1000000) * 1e-6 * jobs * 1e-3;
            put(queue, first);
        }
        best_ns = fmin(best_ns, (double)(pr_clock_now_ns() - begin_ns) / CYCLES);
    }
    pr_job_queue_destroy(queue);
    free(job);
    return best_ns;
}

static void a_cycle_costs_little_and_grows_by_the_logarithm(void **state)
{
    (void)state;
    double small_ns = cycle_ns(1000, 1, false, (double)INFINITY), large_ns = 0;
    print_message("first + take + put, ns: 1 tenant, 1k jobs %.0f", small_ns);
    print_message(", 10k %.0f", cycle_ns(10000, 1, false, (double)INFINITY));
    print_message(", 100k %.0f", large_ns = cycle_ns(100000, 1, false, (double)INFINITY));
    print_message("; guarded 10k %.0f", cycle_ns(10000, 1, false, 1e9));
    print_message("; + serve: 10k jobs of 1 tenant %.0f", cycle_ns(10000, 1, true, 1e9));
    print_message(", 100 tenants %.0f", cycle_ns(10000, 100, true, 1e9));
    print_message(", 10k tenants %.0f\n", cycle_ns(10000, 10000, true, 1e9));
    assert_true(large_ns < 25 * small_ns);  // a list would take 100 times as long
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_a_model),
        cmocka_unit_test(every_waiting_job_comes_once_behind_the_first),
        cmocka_unit_test(a_returning_tenant_gets_no_credit_for_its_absence),
        cmocka_unit_test(a_tenant_of_weight_three_gets_three_times_the_service),
        cmocka_unit_test(the_guard_puts_the_longest_waiting_before_bands_and_keys),
        cmocka_unit_test(a_full_queue_refuses_and_forgets_idle_tenants),
        cmocka_unit_test(work_ahead_is_what_starts_before),
        cmocka_unit_test(a_cycle_costs_little_and_grows_by_the_logarithm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
