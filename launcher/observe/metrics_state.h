// SPDX-License-Identifier: BSD-3-Clause
// What metrics.c counts and metrics_text.c and metrics_status.c print. Nobody else includes it.
#ifndef PR_LAUNCHER_OBSERVE_METRICS_STATE_H
#define PR_LAUNCHER_OBSERVE_METRICS_STATE_H

#include "launcher/observe/histogram.h"
#include "launcher/observe/metrics.h"
#include "launcher/observe/recent.h"

enum { PR_HTTP_PATHS = 16, PR_HTTP_CLASSES = 6 };  // classes: status / 100, 0 for what is none

typedef enum pr_metrics_series {
    PR_SERIES_TTFT,
    PR_SERIES_GAP,
    PR_SERIES_TOKEN_TIME,  // mean of a request
    PR_SERIES_WHOLE,
    PR_SERIES_QUEUE,
    PR_SERIES_INFERENCE,
    PR_SERIES_PREFILL,
    PR_SERIES_DECODE,
    PR_SERIES_PROMPT_TOKENS,
    PR_SERIES_OUTPUT_TOKENS,
    PR_SERIES_MOST_OUTPUT_TOKENS,
    PR_SERIES_MAX_TOKENS,
    PR_SERIES_N,
    PR_SERIES,
} pr_metrics_series;

// Group counters some seconds ago, for means over the last 5 to 10 s.
typedef struct pr_metrics_base {
    int64_t time_ns;           // 0: none
    pr_group_snapshot *group;  // [groups]
} pr_metrics_base;

struct pr_metrics {
    pr_metrics_params params;
    char *text[4];  // what params' texts point to
    char *labels;   // model_name="...",engine="0"
    double begin_unix_s;
    pr_histogram_scale token_scale;
    pr_histogram series[PR_SERIES];
    int64_t prompt_tokens, cached_tokens, output_tokens;
    int64_t ended[PR_REQUEST_ENDS];
    int64_t http[PR_HTTP_PATHS][PR_HTTP_CLASSES];
    pr_recent_values recent_ttft, recent_gap, recent_whole;
    pr_recent_sum recent_prompt, recent_output;
    pr_snapshot now;  // zeros before the first
    pr_metrics_base base, next_base;
};

extern const char *const pr_http_path_names[PR_HTTP_PATHS];
extern const char *const pr_request_end_names[PR_REQUEST_ENDS];

// KV of the groups that decode now.
typedef struct pr_metrics_kv {
    int64_t blocks, used_blocks, cached_blocks;
} pr_metrics_kv;

pr_metrics_kv pr_metrics_kv_sum(const pr_metrics *metrics);
int32_t pr_metrics_running(const pr_metrics *metrics);

#endif
