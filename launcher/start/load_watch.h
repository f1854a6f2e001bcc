// SPDX-License-Identifier: BSD-3-Clause
// How far a long load of weights is: a bar on a terminal after a second, else a line in the log after five
// and then now and then. Loading itself only counts.
// Threads: its own, which reads the count, between begin and end.
#ifndef PR_LAUNCHER_START_LOAD_WATCH_H
#define PR_LAUNCHER_START_LOAD_WATCH_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct pr_load_watch {
    atomic_int_fast64_t loaded_bytes;  // the loader's to add to
    atomic_int_fast64_t total_bytes;   // 0 until known
    const char *what;                  // "loading weights"
    bool terminal, started;
    sem_t ended;
    pthread_t thread;
} pr_load_watch;

// what stays borrowed until end.
void pr_load_watch_begin(pr_load_watch *watch, const char *what);
void pr_load_watch_end(pr_load_watch *watch);  // clears the bar

#endif
