// SPDX-License-Identifier: BSD-3-Clause
// A thread on every rank that looks at the rank's own work and speaks with rank 0's, over a star of
// connections of its own, so that it works whatever the other threads hang in, from the first stage of
// the start to the end.
//
//   every beat   rank r -> 0   what it does (comm/watch.h), and a signal it got
//                0 -> rank r   that rank 0 lives, and a signal that any rank got
//
// A beat is a twentieth of the limit, 50 to 500 ms. Rank 0 judges (watch_book.h). The others judge rank 0
// only: silent for the limit, or gone. Time in which a thread itself was not run counts against nobody.
// Cost: one thread, and on rank 0 one connection and two small messages a beat for each rank.
// Threads: create and destroy on the main thread; collective.
#ifndef PR_LAUNCHER_RUN_WATCH_H
#define PR_LAUNCHER_RUN_WATCH_H

#include "comm/control.h"
#include "comm/world.h"
#include "runtime/batch/layout.h"

typedef struct pr_run_watch pr_run_watch;

typedef struct pr_run_watch_params {
    pr_world *world;
    double limit_s;  // --watchdog; 0: nobody is blamed
    // From the watch's thread. PR_ERR_TIMEOUT: a rank does not answer; PR_ERR_PEER, once for each: one has
    // been gone for some seconds, or without text: rank 0 ends the job and has told why. One that ends the
    // run comes again after 10 s, should the process still live.
    void (*fault)(void *context, pr_status status, const char *text);
    void *context;
} pr_run_watch_params;

// NULL in a world of one rank: signals call the controller themselves.
pr_status
pr_run_watch_create(const pr_run_watch_params *params, pr_run_watch **watch) PR_MUST_CHECK;
void pr_run_watch_destroy(pr_run_watch *watch);

// On rank 0, from any thread: what the watch of a process that takes a lost rank's place joins with. Returns
// its bytes, 0 if it cannot be done: then that process is not watched.
size_t pr_run_watch_invite(pr_run_watch *watch, void *invitation);  // [PR_INVITATION_BYTES]
pr_status pr_run_watch_join(
    const pr_run_watch_params *params,
    const void *invitation,
    size_t size_bytes,
    pr_run_watch **watch) PR_MUST_CHECK;

// On rank 0, from any thread but the watch's, before it ends the job for a fault it has told: the others end
// in silence, also where the launcher would let them live. Returns when that is on its way, or in 0.2 s.
void pr_run_watch_condemn(pr_run_watch *watch);

// After the world was ordered, at most once: from now on it speaks of the new numbers.
pr_status pr_run_watch_follow_order(pr_run_watch *watch) PR_MUST_CHECK;

// For the names in what it says; borrowed until destroy.
void pr_run_watch_set_layout(pr_run_watch *watch, const pr_layout *layout);

#endif
