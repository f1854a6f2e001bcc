// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/start/load_watch.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "launcher/engine/memory_budget.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { BAR_WIDTH = 24, BAR_MS = 200, FIRST_BAR_MS = 1000, FIRST_LINE_MS = 5000 };

// False: the load has ended meanwhile.
static bool sleep_ms(pr_load_watch *watch, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    while (sem_timedwait(&watch->ended, &until) != 0)
        if (errno != EINTR)
            return true;
    return false;
}

static void show(pr_load_watch *watch, int64_t begin_ns)
{
    int64_t total = atomic_load(&watch->total_bytes), loaded = atomic_load(&watch->loaded_bytes);
    double seconds = (double)(pr_clock_now_ns() - begin_ns) * 1e-9;
    char loaded_text[24], total_text[24], bar[BAR_WIDTH + 1];
    if (loaded > total)
        loaded = total;
    pr_memory_text(loaded, loaded_text);
    pr_memory_text(total, total_text);
    if (!watch->terminal) {
        pr_log(
            PR_LOG_INFO, "%s: %s of %s after %.0f s", watch->what, loaded_text, total_text,
            seconds);
        return;
    }
    for (int i = 0; i < BAR_WIDTH; i++)
        bar[i] = (int64_t)i * total < loaded * BAR_WIDTH ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    fprintf(
        stderr, "\r[%s] %s: %s of %s, %.2f GB/s \033[K", bar, watch->what, loaded_text, total_text,
        (double)loaded / seconds * 1e-9);
    fflush(stderr);
}

static void *watch_load(void *argument)
{
    pr_load_watch *watch = argument;
    int64_t begin_ns = pr_clock_now_ns(), wait_ms = watch->terminal ? FIRST_BAR_MS : FIRST_LINE_MS;
    bool drawn = false;
    while (sleep_ms(watch, wait_ms)) {
        show(watch, begin_ns);
        drawn = true;
        bool long_log = pr_clock_now_ns() - begin_ns > (int64_t)60000000000;
        wait_ms = watch->terminal ? BAR_MS : long_log ? 6 * FIRST_LINE_MS : FIRST_LINE_MS;
    }
    if (watch->terminal && drawn)
        fputs("\r\033[K", stderr);
    return NULL;
}

void pr_load_watch_begin(pr_load_watch *watch, const char *what)
{
    *watch = (pr_load_watch){.what = what, .terminal = isatty(STDERR_FILENO)};
    if (sem_init(&watch->ended, 0, 0) != 0)
        return;
    watch->started = pthread_create(&watch->thread, NULL, watch_load, watch) == 0;
    if (!watch->started)
        sem_destroy(&watch->ended);
}

void pr_load_watch_end(pr_load_watch *watch)
{
    if (!watch->started)
        return;
    sem_post(&watch->ended);
    pthread_join(watch->thread, NULL);
    sem_destroy(&watch->ended);
    watch->started = false;
}
