// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/cpu/cpu_team.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"

// Longer than the gap between two steps and than a time slice of another process, shorter than anyone notices on an idle machine. Where threads
// share cores, who spins keeps the one away that is waited for: yield at once, sleep soon.
enum { SPIN_US = 5000, SPIN_SHARED_US = 100 };
enum { SPINS_PER_LOOK = 256, SPINS_BEFORE_YIELD = 20000, SPINS_BEFORE_YIELD_SHARED = 256 };

typedef struct member {
    pr_cpu_team *team;
    pthread_t thread;
    int32_t number;
    sem_t wake;
    _Alignas(64) atomic_bool asleep;
} member;

struct pr_cpu_team {
    // generation << 32 | next task; next = CLOSED while the work is being written.
    _Alignas(64) atomic_uint_fast64_t claim;
    _Alignas(64) atomic_int_fast64_t done;
    _Alignas(64) _Atomic(pr_shared_work) work;
    _Atomic(void *) context;
    atomic_uint_fast64_t tasks;
    atomic_bool ending;
    uint32_t generation;
    int32_t threads, started;
    bool shares_cores;
    member *others;  // [threads - 1]: threads 1, 2, ...
};

static const uint64_t CLOSED = UINT32_MAX;

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Runs tasks of one generation until none is left or another has begun.
static void take_part(pr_cpu_team *team, uint64_t generation, int32_t thread)
{
    pr_shared_work work = atomic_load_explicit(&team->work, memory_order_acquire);
    void *context = atomic_load_explicit(&team->context, memory_order_acquire);
    uint64_t tasks = atomic_load_explicit(&team->tasks, memory_order_acquire);
    uint_fast64_t seen = atomic_load_explicit(&team->claim, memory_order_acquire);
    while (seen >> 32 == generation && (seen & UINT32_MAX) < tasks) {
        if (!atomic_compare_exchange_weak_explicit(
                &team->claim, &seen, seen + 1, memory_order_acq_rel, memory_order_acquire))
            continue;
        work(context, (int64_t)(seen & UINT32_MAX), thread);
        atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
        seen = atomic_load_explicit(&team->claim, memory_order_acquire);
    }
}

// Whether the claim word shows work that this thread has not seen.
static bool is_news(uint64_t claim, uint64_t generation)
{
    return claim >> 32 != generation && (claim & UINT32_MAX) != CLOSED;
}

static uint64_t spin(pr_cpu_team *team, uint64_t generation)
{
    int64_t end_ns =
        pr_clock_now_ns() + (team->shares_cores ? SPIN_SHARED_US : SPIN_US) * INT64_C(1000);
    uint64_t claim;
    do {
        for (int i = 0; i < SPINS_PER_LOOK; i++) {
            claim = atomic_load_explicit(&team->claim, memory_order_acquire);
            if (is_news(claim, generation) ||
                atomic_load_explicit(&team->ending, memory_order_relaxed))
                return claim;
            relax();
        }
        if (team->shares_cores)
            (void)sched_yield();
    } while (pr_clock_now_ns() < end_ns);
    return claim;
}

static void sleep_until_called(member *self, uint64_t generation)
{
    pr_cpu_team *team = self->team;
    atomic_store(&self->asleep, true);
    // The caller publishes, then looks who sleeps; we say that we sleep, then look for news.
    bool stay = !is_news(atomic_load(&team->claim), generation) && !atomic_load(&team->ending);
    if (!stay && atomic_exchange(&self->asleep, false))
        return;
    while (sem_wait(&self->wake) != 0 && errno == EINTR)
        ;
}

static void *serve(void *argument)
{
    member *self = argument;
    pr_cpu_team *team = self->team;
    uint64_t generation = 0;
    while (!atomic_load_explicit(&team->ending, memory_order_acquire)) {
        uint64_t claim = spin(team, generation);
        if (is_news(claim, generation)) {
            generation = claim >> 32;
            take_part(team, generation, self->number);
        } else if (!atomic_load_explicit(&team->ending, memory_order_acquire)) {
            sleep_until_called(self, generation);
        }
    }
    return NULL;
}

static void wake_sleepers(pr_cpu_team *team)
{
    for (int32_t i = 0; i < team->started; i++) {
        member *other = &team->others[i];
        if (atomic_load(&other->asleep) && atomic_exchange(&other->asleep, false))
            sem_post(&other->wake);
    }
}

void pr_cpu_team_run(pr_cpu_team *team, pr_shared_work work, void *context, int64_t tasks)
{
    assert(tasks >= 0 && (uint64_t)tasks < CLOSED);
    if (team->threads == 1 || tasks <= 1) {
        for (int64_t task = 0; task < tasks; task++)
            work(context, task, 0);
        return;
    }
    team->generation += team->generation == UINT32_MAX ? 2 : 1;  // never 0: "nothing seen yet"
    uint64_t generation = team->generation;
    atomic_store_explicit(&team->claim, generation << 32 | CLOSED, memory_order_release);
    atomic_store_explicit(&team->work, work, memory_order_release);
    atomic_store_explicit(&team->context, context, memory_order_release);
    atomic_store_explicit(&team->tasks, (uint64_t)tasks, memory_order_release);
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    atomic_store(&team->claim, generation << 32);
    wake_sleepers(team);
    take_part(team, generation, 0);
    int limit = team->shares_cores ? SPINS_BEFORE_YIELD_SHARED : SPINS_BEFORE_YIELD;
    for (int spins = 0; atomic_load_explicit(&team->done, memory_order_acquire) < tasks;) {
        if (spins < limit) {
            spins++;
            relax();
        } else {
            (void)sched_yield();  // a thread with a task is not running: more threads than cores
        }
    }
}

static void bind_thread(pthread_t thread, int32_t cpu)
{
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    (void)pthread_setaffinity_np(thread, sizeof set, &set);  // a wish: the cgroup may have shrunk
#else
    (void)thread;
    (void)cpu;
#endif
}

static pr_status start_others(pr_cpu_team *team, const int32_t *cpu)
{
    for (int32_t i = 0; i < team->threads - 1; i++) {
        member *other = &team->others[i];
        other->team = team;
        other->number = i + 1;
        atomic_init(&other->asleep, false);
        if (sem_init(&other->wake, 0, 0) != 0)
            return pr_fail(PR_ERR_RESOURCE, "no semaphore for thread %d", i + 1);
        int code = pthread_create(&other->thread, NULL, serve, other);
        if (code != 0) {
            sem_destroy(&other->wake);
            return pr_fail(
                PR_ERR_RESOURCE, "thread %d of %d does not start (%s): lower --threads", i + 1,
                team->threads, strerror(code));
        }
        team->started++;
        pthread_setname_np(other->thread, "kernels");
        if (cpu != NULL && cpu[i + 1] >= 0)
            bind_thread(other->thread, cpu[i + 1]);
    }
    return PR_OK;
}

pr_status
pr_cpu_team_create(int32_t threads, const int32_t *cpu, bool shares_cores, pr_cpu_team **team)
{
    assert(threads >= 1 && threads <= PR_MAX_THREADS);
    pr_cpu_team *made = aligned_alloc(64, sizeof *made);
    if (made == NULL)
        return pr_fail(PR_ERR_RESOURCE, "no memory for %d threads", threads);
    memset(made, 0, sizeof *made);
    made->threads = threads;
    made->shares_cores = shares_cores;
    if (threads > 1) {
        size_t size_bytes = (size_t)(threads - 1) * sizeof(member);
        made->others = aligned_alloc(64, size_bytes);
        if (made->others == NULL) {
            free(made);
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d threads", threads);
        }
        memset(made->others, 0, size_bytes);
    }
    pr_status status = start_others(made, cpu);
    if (status != PR_OK) {
        pr_cpu_team_destroy(made);
        return status;
    }
    *team = made;
    return PR_OK;
}

void pr_cpu_team_destroy(pr_cpu_team *team)
{
    if (team == NULL)
        return;
    atomic_store(&team->ending, true);
    wake_sleepers(team);
    for (int32_t i = 0; i < team->started; i++) {
        pthread_join(team->others[i].thread, NULL);
        sem_destroy(&team->others[i].wake);
    }
    free(team->others);
    free(team);
}

int32_t pr_cpu_team_threads(const pr_cpu_team *team) { return team->threads; }
