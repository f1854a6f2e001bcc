// SPDX-License-Identifier: BSD-3-Clause
// What happened lately, in bounded memory: quantiles over the last minute, sums over the last seconds. Time is
// cut into slots; a slot that is used again is emptied first.
//
//   slot:   |  0 |  1 | ... | 11 |      quantile: all slots younger than a minute
//            5 s each                   value -> bucket 8 log2(value / 10 us): 9 % wide
//
// Threads: one. Times are pr_clock_now_ns. Source: ours (buckets as in HdrHistogram, coarser).
#ifndef PR_LAUNCHER_OBSERVE_RECENT_H
#define PR_LAUNCHER_OBSERVE_RECENT_H

#include <stdint.h>

enum { PR_RECENT_SLOTS = 12, PR_RECENT_SLOT_S = 5, PR_RECENT_BUCKETS = 216, PR_RECENT_SECONDS = 5 };

typedef struct pr_recent_values {
    int64_t slot_number[PR_RECENT_SLOTS];  // time / slot length, + 1; 0: never used
    int32_t count[PR_RECENT_SLOTS][PR_RECENT_BUCKETS];
} pr_recent_values;

void pr_recent_values_add(pr_recent_values *recent, int64_t now_ns, double value_s);
// The value that `part` (0..1) of the last minute's do not exceed, as the bucket's middle; 0 if there were none.
double pr_recent_values_quantile(const pr_recent_values *recent, int64_t now_ns, double part);

typedef struct pr_recent_sum {
    int64_t second[PR_RECENT_SECONDS + 1];  // as slot_number
    int64_t amount[PR_RECENT_SECONDS + 1];
} pr_recent_sum;

void pr_recent_sum_add(pr_recent_sum *recent, int64_t now_ns, int64_t amount);
// Per second, over the last five whole seconds and what has passed of this one.
double pr_recent_sum_rate(const pr_recent_sum *recent, int64_t now_ns);

#endif
