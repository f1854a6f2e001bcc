// SPDX-License-Identifier: BSD-3-Clause
// Where each rank of a job sits: node, NUMA domain, and the switches above the node. Names go in, numbers
// come out, so that nothing later compares text.
//
//   names    n1 under s0.s1, n2 under s0.s1, n3 under s0.s2
//   seats    node 0   switches 0 0 0         "", "s0", "s0.s1"
//            node 1   switches 0 0 0
//            node 2   switches 0 0 1         "", "s0", "s0.s2"
//
// The names of switches are Slurm's: SLURM_TOPOLOGY_ADDR, "s0.s1.n1", with a topology plugin that knows of
// them. Threads: any; pure.
#ifndef PR_LAUNCHER_PLACEMENT_RANK_SEAT_H
#define PR_LAUNCHER_PLACEMENT_RANK_SEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum {
    PR_HOST_BYTES = 68,     // Linux allows 64
    PR_SWITCH_BYTES = 188,  // of a path
    PR_SWITCH_LEVELS = 3,   // the lowest ones of a path; what is above counts as one
};

typedef struct pr_rank_names {
    char host[PR_HOST_BYTES];
    char switches[PR_SWITCH_BYTES];  // "s0.s1", "" if unknown
    int32_t numa;                    // within the host; -1: none in particular
} pr_rank_names;

// Numbers count from 0 in the order of the first rank there, so the first rank's are 0.
typedef struct pr_rank_seat {
    int32_t switches[PR_SWITCH_LEVELS];  // the last is the node's own; all ranks 0 where unknown
    int32_t node;
    int32_t numa;  // the host's own number, or -1
} pr_rank_seat;

// What happened to the switches' names.
typedef enum pr_switch_fact {
    PR_SWITCHES_UNKNOWN,  // no rank knows one
    PR_SWITCHES_ONE,      // all nodes are under the same
    PR_SWITCHES_MANY,
    PR_SWITCHES_DISCARDED,  // ranks of one node disagree: the environment is another node's
} pr_switch_fact;

pr_status pr_rank_seats_number(
    const pr_rank_names *names,  // [ranks]
    int32_t ranks,
    pr_rank_seat *seat,  // [ranks]
    pr_switch_fact *fact) PR_MUST_CHECK;

// The switches of Slurm's address: all parts of it but those that its pattern, "switch.switch.node", calls
// otherwise. address, pattern: may be NULL.
void pr_rank_switches_of(const char *address, const char *pattern, char switches[PR_SWITCH_BYTES]);

// How far two seats are from each other: 0 the same node, 1 under one switch, up to PR_SWITCH_LEVELS + 1.
int32_t pr_rank_seat_distance(const pr_rank_seat *a, const pr_rank_seat *b);

#endif
