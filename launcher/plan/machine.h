// SPDX-License-Identifier: BSD-3-Clause
// Machines that `plan` can predict for, by name: what one device (one rank) can do, and a cost model of
// the scheduler's from that, for a model and a layout.
//
// Of one lane of a group (tp ranks), p = tp, times in seconds, "rate" = peak times the part that is reached:
//   read(B)  weights a rank reads for B rows a lane: all but the experts, and of the experts it holds the
//            expected part 1 - (1 - K/E)^(B lanes)
//   starts   layers x launch time + exchanges x start time
//   a  = read / memory rate + starts
//   b  = 2 weights of a token / p / matmul rate + bytes exchanged for a token / link rate
//   c  = 4 heads x head size x layers / p / attention rate
//   d0 = max(0, read(1) / memory rate - a row's matmul) + starts     the first row hides behind the reading
//   d1 = b with lm_head + (read(most) - read(1)) / (most - 1) / memory rate
//   d2 = KV bytes of a token / p / KV rate
//   alpha, beta: KV between lanes over the links of its tp ranks
// Exchange: an all-reduce moves 2 (p-1)/p of a row per rank; experts K rows there and back, the part that is
// on other nodes over the network. Rates of a link are one way.
// Source: roofline terms of Pope et al., Efficiently scaling transformer inference (2022); peaks from the
// vendors' data sheets, parts from published kernels' measurements. Threads: any; constant records.
// Where a device is a core, a rank has one for each of its threads: pr_machine_with_threads.
#ifndef PR_LAUNCHER_PLAN_MACHINE_H
#define PR_LAUNCHER_PLAN_MACHINE_H

#include <stdbool.h>

#include "launcher/engine/memory_budget.h"
#include "runtime/batch/layout.h"
#include "scheduler/cost/cost_model.h"

// As the table of options wants it.
#define PR_MACHINE_NAMES "a100|h100|h200|b200|gh200|mi250x|mi300a|mi300x|cpu"

typedef struct pr_machine {
    const char *name;
    const char *what;         // one device of it, for people
    const char *checked;      // against what the prediction was held, or NULL: not validated
    int32_t node_devices;     // one rank on each
    bool cores;               // a device is a core, and several may be one rank's
    double memory_bytes;      // of a device
    double memory_rate;       // bytes/s
    double node_memory_rate;  // all devices of a node share this; 0: each has its own
    double arithmetic_rate;   // multiply-adds x 2 / s, of the type that matmuls use
    double local_rate;        // bytes/s of one device to the others of its node
    double network_rate;      // bytes/s of one device out of the node
    // Parts of the peaks that are reached.
    double memory_part, kv_part, matmul_part, attention_part, local_part, network_part;
    double layer_s;                         // launches of one layer
    double local_start_s, network_start_s;  // of one exchange
    pr_dtype number;  // of activations that are exchanged, and of KV by default
} pr_machine;

// False if there is none of this name.
bool pr_machine_find(const char *name, pr_machine *machine);

// What one of `ranks` ranks on such cores computes with: the threads, or if 0 its share of a node. Other
// machines: 1.
int32_t pr_machine_threads(const pr_machine *machine, int32_t ranks, int32_t threads);

// The machine whose devices are so many cores of this one each; no more than a node has.
pr_machine pr_machine_with_threads(const pr_machine *machine, int32_t threads);

// The cost model of one lane of the group in a run of so many ranks; capacity_tokens: KV of that lane.
// facts->options gives chunk and batch.
void pr_machine_cost_of(
    const pr_machine *machine,
    const pr_memory_facts *facts,
    const pr_group_layout *group,
    int32_t ranks,
    int64_t capacity_tokens,
    pr_cost_model *cost);

#endif
