// SPDX-License-Identifier: BSD-3-Clause
// Metrics in Prometheus's text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats):
//
//   # HELP vllm:prompt_tokens_total ...
//   # TYPE vllm:prompt_tokens_total counter
//   vllm:prompt_tokens_total{model_name="demo",engine="0"} 17
//
// pr_metrics_print (metrics.h) is here. Threads: as metrics.h.
#ifndef PR_LAUNCHER_OBSERVE_METRICS_TEXT_H
#define PR_LAUNCHER_OBSERVE_METRICS_TEXT_H

#include "runtime/base/status.h"

// model_name="...",engine="0" with the name escaped; the caller frees.
pr_status pr_metrics_text_labels(const char *model_name, char **labels) PR_MUST_CHECK;

#endif
