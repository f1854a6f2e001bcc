// SPDX-License-Identifier: BSD-3-Clause
// What a layout would do on a named machine for requests of one size: time to first token, time per output
// token, throughput. From the cost models of its lanes (machine.h), without queueing: a bound for planning.
//
//   TTFT        prefill of the prompt by an idle lane
//   TPOT(B)     a decode step of B sequences that hold prompt + half the output each
//   mixed lane  a request costs its prefill + output x step(B) / B
//   split       prefill lanes and decode lanes in sequence: the slower side decides
#ifndef PR_LAUNCHER_PLAN_PREDICTION_H
#define PR_LAUNCHER_PLAN_PREDICTION_H

#include <jansson.h>

#include "launcher/plan/machine.h"

enum { PR_PREDICTED_BATCHES = 4 };

typedef struct pr_prediction {
    pr_machine machine;
    int32_t prompt_tokens, output_tokens;
    pr_cost_model prefill, decode;  // of the first lane that does it; the same if mixed
    bool split;
    double first_token_s, handover_s;  // handover: prefill to decode lane; 0 if mixed
    int32_t batches;
    int32_t batch[PR_PREDICTED_BATCHES];  // ascending; the last is what a lane holds at most
    double step_s[PR_PREDICTED_BATCHES];
    // Requests/s of all lanes; INFINITY for the decode side of mixed groups.
    double prefill_requests_per_s, decode_requests_per_s;
    double balanced;  // prefill lanes for each decode lane at which neither waits
} pr_prediction;

// facts->options names the machine and the size of requests. blocks: KV blocks of a lane, 0 if the
// model does not fit.
void pr_prediction_make(
    const pr_memory_facts *facts,
    const pr_machine *machine,
    const pr_layout *layout,
    int32_t blocks,
    pr_prediction *prediction);

void pr_prediction_print(const pr_prediction *prediction);
json_t *
pr_prediction_json(const pr_prediction *prediction);  // given to the caller; NULL: no memory

#endif
