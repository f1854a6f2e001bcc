// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/leave/end_watch.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "launcher/job_choice.h"
#include "runtime/base/log.h"

enum { LOOK_S = 1 };

struct pr_end_watch {
    pr_job_choice choice;
    double reserve_s;
    _Atomic int64_t end_unix_s;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ends;
    bool ending;
};

static void tell(const pr_end_watch *watch, int64_t end_unix_s)
{
    double left_s = (double)(end_unix_s - (int64_t)time(NULL)) - watch->reserve_s;
    pr_log(
        PR_LOG_INFO,
        "walltime: the run's time ends in %.0f s (--walltime-reserve %g before the job's): what "
        "cannot end by then is not started",
        left_s, watch->reserve_s);
}

static void look(pr_end_watch *watch)
{
    pr_system_job job;
    if (pr_job_choice_read(&watch->choice, &job) != PR_OK)
        return;  // told; what was known stays
    if (job.end_unix_s == atomic_load(&watch->end_unix_s))
        return;
    atomic_store(&watch->end_unix_s, job.end_unix_s);
    if (job.end_unix_s > 0)
        tell(watch, job.end_unix_s);
    else
        pr_log(PR_LOG_INFO, "walltime: the run's time has no end any more");
}

static bool wait_a_little(pr_end_watch *watch)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LOOK_S;
    pthread_mutex_lock(&watch->lock);
    while (!watch->ending && pthread_cond_timedwait(&watch->ends, &watch->lock, &until) == 0)
        ;
    bool goes_on = !watch->ending;
    pthread_mutex_unlock(&watch->lock);
    return goes_on;
}

static void *run(void *argument)
{
    pr_end_watch *watch = argument;
    while (wait_a_little(watch))
        look(watch);
    return NULL;
}

pr_status pr_end_watch_open(const pr_options *options, pr_end_watch **watch)
{
    pr_end_watch *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory to watch the job's end");
    made->reserve_s = options->walltime_reserve;
    pr_status status;
    PR_TRY_GOTO(pr_job_choice_open(options, &made->choice), failed);
    look(made);
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->ends, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for others
    int error = pthread_create(&made->thread, NULL, run, made);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        status = pr_fail(PR_ERR_RESOURCE, "cannot start the thread that watches the job's end");
        goto failed;
    }
    pthread_setname_np(made->thread, "walltime");
    *watch = made;
    return PR_OK;
failed:
    free(made);
    return status;
}

void pr_end_watch_close(pr_end_watch *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watch->lock);
    watch->ending = true;
    pthread_cond_signal(&watch->ends);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    pthread_cond_destroy(&watch->ends);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

int64_t pr_end_watch_unix_s(const pr_end_watch *watch) { return atomic_load(&watch->end_unix_s); }
