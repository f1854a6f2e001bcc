// SPDX-License-Identifier: BSD-3-Clause
// What this rank's worker thread does, for a thread of the same process that looks at it.
//
//   begin(operation, layer)   the next operation of the data plane; its number is the same on all ranks of
//                             a group that are equally far, because they run the same sequence
//   wait(what, peer) / go     within it, or outside of one: a wait, and its end
//   idle                      no plan: it may last for ever
//
// Cost: a few plain stores each; no lock, no clock, no system call. Since when something lasts is for
// the looker to find out.
// Threads: one writes, the one that called adopt; from others begin, wait, go, idle and step do nothing.
// Any may read; what it reads may be of two moments next to each other.
#ifndef PR_COMM_WATCH_H
#define PR_COMM_WATCH_H

#include <stdint.h>

enum { PR_WATCH_NAME_BYTES = 32, PR_WATCH_ALL = -1 };
// Waits end within microseconds or are worth noting: who polls notes one after so long.
enum { PR_WATCH_LOOK_MS = 100 };

typedef enum pr_watch_activity {
    PR_WATCH_COMPUTES,
    PR_WATCH_WAITS,
    PR_WATCH_IDLE,
} pr_watch_activity;

// Plain, little endian: it travels to rank 0 (docs/control-plane.md).
typedef struct pr_watch_state {
    uint64_t number;   // operations begun
    uint64_t changes;  // grows with everything that is noted
    uint64_t plan;     // 0: none yet
    int32_t step;      // of the plan
    int32_t layer;     // of the operation, -1: of none
    int32_t activity;  // pr_watch_activity
    int32_t peer;      // world rank that is waited for, PR_WATCH_ALL: any of several
    char operation[PR_WATCH_NAME_BYTES];
    char wait[PR_WATCH_NAME_BYTES];  // what for, "": for the operation's others
} pr_watch_state;

void pr_watch_adopt(void);

// The texts must live as long as the process.
void pr_watch_begin(const char *operation, int32_t layer);
void pr_watch_wait(const char *what, int32_t peer);  // what NULL: the operation itself
void pr_watch_go(void);
// A call that blocks until all ranks of the operation are there: begin and wait. Ends with go.
void pr_watch_collective(const char *operation);
void pr_watch_idle(void);
void pr_watch_step(uint64_t plan, int32_t step);

void pr_watch_read(pr_watch_state *state);

// " of layer 7, plan 12 step 3", as much as is known, for an error of the operation.
enum { PR_WATCH_PLACE_BYTES = 80 };
void pr_watch_place(char text[PR_WATCH_PLACE_BYTES]);

#endif
