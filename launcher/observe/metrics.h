// SPDX-License-Identifier: BSD-3-Clause
// What a serving run measures, and its two forms: Prometheus text for /metrics (vLLM's names, so that dashboards
// and llm-d's scheduler read it unchanged, and polyreme_* for groups and ranks), and the JSON of
// /v1/polyreme/status for people, the page and `polyreme top`. Names, types and labels: docs/metrics.md.
// Threads: one, the HTTP server's. Memory: bounded, taken at create. Times are pr_clock_now_ns.
#ifndef PR_LAUNCHER_OBSERVE_METRICS_H
#define PR_LAUNCHER_OBSERVE_METRICS_H

#include <jansson.h>

#include "launcher/serve/snapshot.h"
#include "runtime/text/byte_buffer.h"

typedef struct pr_metrics pr_metrics;

typedef struct pr_metrics_params {
    const char *model_name;  // copied, as all text here
    const char *version;
    const char *layout_text;
    const char *job_id;  // or NULL
    int32_t max_model_len, block_tokens;
    int32_t kv_blocks;        // of all groups that decode
    int64_t begin_ns;         // now
    const pr_layout *layout;  // borrowed
} pr_metrics_params;

typedef enum pr_request_end {
    PR_REQUEST_STOP,
    PR_REQUEST_LENGTH,
    PR_REQUEST_ABORT,  // the client went away
    PR_REQUEST_ERROR,
    PR_REQUEST_ENDS,
} pr_request_end;

// The life of one sequence; 0 where it never came to that.
typedef struct pr_request_life {
    int64_t arrived_ns, scheduled_ns, first_token_ns, last_token_ns;
    int32_t prompt_tokens, cached_tokens, output_tokens;
    int32_t max_tokens;
    // Of the request that it belongs to, told with the last of its sequences; else 0: the choices n, and the
    // most output tokens of one of them.
    int32_t n, most_output_tokens;
    pr_request_end end;
} pr_request_life;

pr_status pr_metrics_create(const pr_metrics_params *params, pr_metrics **metrics) PR_MUST_CHECK;
void pr_metrics_destroy(pr_metrics *metrics);

// gap_ns < 0: the first token, ttft_ns after the arrival. Else gap_ns after the token before it.
void pr_metrics_token(pr_metrics *metrics, int64_t now_ns, int64_t ttft_ns, int64_t gap_ns);
// A sequence gets its first seat, once.
void pr_metrics_scheduled(
    pr_metrics *metrics, int64_t now_ns, int32_t prompt_tokens, int32_t cached_tokens);
// Times and lengths are counted of those that ended by stop or length.
void pr_metrics_request_ended(pr_metrics *metrics, int64_t now_ns, const pr_request_life *life);
// One reply. Any path may come: those that are not ours count as "other".
void pr_metrics_http(pr_metrics *metrics, const char *path, int32_t status);
void pr_metrics_snapshot(pr_metrics *metrics, const pr_snapshot *snapshot);  // copied

// Appends to text. connections and state ("loading", "ready", "draining") are of the moment.
void pr_metrics_print(
    const pr_metrics *metrics, int64_t now_ns, int32_t connections, pr_byte_buffer *text);
json_t *pr_metrics_status(
    const pr_metrics *metrics,
    int64_t now_ns,
    const char *state,
    int32_t connections);  // new; NULL: no memory

#endif
