// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "kernels/cpu/cpu_team.h"
#include "runtime/base/log.h"

enum { MOST_THREADS = 8, MOST_TASKS = 64 };

static pr_cpu_team *create_team(int32_t threads, bool shares_cores)
{
    pr_cpu_team *team;
    assert_int_equal(pr_cpu_team_create(threads, NULL, shares_cores, &team), PR_OK);
    assert_int_equal(pr_cpu_team_threads(team), threads);
    return team;
}

static void pause_us(int64_t us)
{
    nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}, NULL);
}

// Plain memory: only the team makes a task's writes visible, to the caller and to the next run.
typedef struct tally {
    int32_t runs[MOST_TASKS];
    volatile bool busy[MOST_THREADS];
    int32_t threads;
    bool fault;
    uint64_t value[2][MOST_TASKS];
    int32_t from;  // of value
} tally;

static void count_task(void *context, int64_t task, int32_t thread)
{
    tally *of = context;
    of->runs[task]++;
    if (thread < 0 || thread >= of->threads || of->busy[thread]) {
        of->fault = true;
        return;
    }
    of->busy[thread] = true;
    of->busy[thread] = false;
}

static void run_and_check(pr_cpu_team *team, tally *of, int32_t tasks)
{
    memset(of->runs, 0, sizeof of->runs);
    of->threads = pr_cpu_team_threads(team);
    pr_cpu_team_run(team, count_task, of, tasks);
    for (int32_t i = 0; i < MOST_TASKS; i++)
        assert_int_equal(of->runs[i], i < tasks);
    assert_false(of->fault);
}

static void every_task_runs_once_on_1_to_8_threads(void **state)
{
    (void)state;
    tally of = {0};
    for (int32_t threads = 1; threads <= MOST_THREADS; threads++) {
        pr_cpu_team *team = create_team(threads, threads > 2);
        for (int32_t run = 0; run < 3000; run++)
            run_and_check(team, &of, run % 18);
        run_and_check(team, &of, MOST_TASKS);
        pr_cpu_team_destroy(team);
    }
}

static void a_team_larger_than_the_machine_that_was_not_told_so_still_ends(void **state)
{
    (void)state;
    tally of = {0};
    pr_cpu_team *team = create_team(MOST_THREADS, false);
    for (int32_t run = 0; run < 300; run++)
        run_and_check(team, &of, 1 + run % 18);
    pr_cpu_team_destroy(team);
}

// Every task reads what another task wrote in the run before.
static void mix_task(void *context, int64_t task, int32_t thread)
{
    (void)thread;
    tally *of = context;
    uint64_t from = of->value[of->from][(task * 5 + 3) % MOST_TASKS];
    of->value[!of->from][task] = from * 6364136223846793005u + (uint64_t)task;
}

static void a_run_sees_what_the_run_before_wrote(void **state)
{
    (void)state;
    enum { RUNS = 4000 };
    tally alone = {0}, together = {0};
    pr_cpu_team *one = create_team(1, false), *three = create_team(3, true);
    for (int32_t run = 0; run < RUNS; run++) {
        pr_cpu_team_run(one, mix_task, &alone, MOST_TASKS);
        pr_cpu_team_run(three, mix_task, &together, MOST_TASKS);
        alone.from = together.from = !alone.from;
    }
    assert_memory_equal(alone.value, together.value, sizeof alone.value);
    pr_cpu_team_destroy(one);
    pr_cpu_team_destroy(three);
}

// Two tasks that wait for each other: only two threads at once can end the run.
typedef struct meeting {
    atomic_int arrived;
    int32_t expected;
    cpu_set_t set[MOST_THREADS];
} meeting;

static void meet(void *context, int64_t task, int32_t thread)
{
    (void)task;
    meeting *of = context;
    sched_getaffinity(0, sizeof of->set[thread], &of->set[thread]);
    atomic_fetch_add(&of->arrived, 1);
    while (atomic_load(&of->arrived) < of->expected)
        sched_yield();
}

static void threads_that_sleep_are_woken(void **state)
{
    (void)state;
    for (int32_t shared = 0; shared < 2; shared++) {
        pr_cpu_team *team = create_team(3, shared);
        for (int32_t run = 0; run < 40; run++) {
            meeting of = {.expected = 3};
            pr_cpu_team_run(team, meet, &of, 3);
            assert_int_equal(of.arrived, 3);
            pause_us(run % 4 * 1000);  // the longest is past every spin
        }
        pr_cpu_team_destroy(team);
    }
}

static void work_comes_while_threads_fall_asleep(void **state)
{
    (void)state;
    tally of = {0};
    pr_cpu_team *team = create_team(4, true);
    for (int32_t run = 0; run < 1500; run++) {
        run_and_check(team, &of, 2 + run % 5);
        pause_us(60 + run % 80);  // around the end of the spin
    }
    pr_cpu_team_destroy(team);
}

static void a_team_ends_asleep_awake_and_unused(void **state)
{
    (void)state;
    tally of = {0};
    for (int32_t round = 0; round < 60; round++) {
        pr_cpu_team *team = create_team(2 + round % 7, round % 2);
        if (round % 3 > 0)
            run_and_check(team, &of, 5);
        if (round % 3 > 1)
            pause_us(3000);
        pr_cpu_team_destroy(team);
    }
    pr_cpu_team_destroy(NULL);
}

static double used_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static void an_idle_team_uses_no_processor(void **state)
{
    (void)state;
    tally of = {0};
    pr_cpu_team *team = create_team(4, false);
    run_and_check(team, &of, 8);
    pause_us(100000);  // all have stopped spinning, also where they had to take turns
    double begin_s = used_s();
    pause_us(200000);
    assert_true(used_s() - begin_s < 0.02);
    pr_cpu_team_destroy(team);
}

static void other_threads_are_bound_and_the_caller_is_not(void **state)
{
    (void)state;
    cpu_set_t before, after;
    int32_t cpu[3] = {-1, -1, -1};
    sched_getaffinity(0, sizeof before, &before);
    for (int32_t i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &before))
            cpu[1] = cpu[0] = i;  // the last one
    }
    pr_cpu_team *team;
    assert_int_equal(pr_cpu_team_create(3, cpu, true, &team), PR_OK);
    meeting of = {.expected = 3};
    pr_cpu_team_run(team, meet, &of, 3);
    assert_int_equal(CPU_COUNT(&of.set[1]), 1);
    assert_true(CPU_ISSET(cpu[1], &of.set[1]));
    assert_true(CPU_EQUAL(&of.set[2], &before));  // -1: nowhere
    sched_getaffinity(0, sizeof after, &after);
    assert_true(CPU_EQUAL(&before, &after));
    pr_cpu_team_destroy(team);
}

static void a_binding_that_the_system_refuses_is_no_fault(void **state)
{
    (void)state;
    tally of = {0};
    const int32_t cpu[2] = {-1, CPU_SETSIZE - 1};
    pr_cpu_team *team;
    assert_int_equal(pr_cpu_team_create(2, cpu, false, &team), PR_OK);
    run_and_check(team, &of, 7);
    pr_cpu_team_destroy(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once_on_1_to_8_threads),
        cmocka_unit_test(a_team_larger_than_the_machine_that_was_not_told_so_still_ends),
        cmocka_unit_test(a_run_sees_what_the_run_before_wrote),
        cmocka_unit_test(threads_that_sleep_are_woken),
        cmocka_unit_test(work_comes_while_threads_fall_asleep),
        cmocka_unit_test(a_team_ends_asleep_awake_and_unused),
        cmocka_unit_test(an_idle_team_uses_no_processor),
        cmocka_unit_test(other_threads_are_bound_and_the_caller_is_not),
        cmocka_unit_test(a_binding_that_the_system_refuses_is_no_fault),
    };
    return cmocka_run_group_tests_name("cpu_team", tests, NULL, NULL);
}
