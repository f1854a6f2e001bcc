// SPDX-License-Identifier: BSD-3-Clause
// The server under load: where it is, one request asked and awaited, what /proc and /metrics say of it, and the rows
// that the measures become on standard output:
//   {"mode": "streams", "measure": "events_per_s", "value": 41234.5}
// Threads: one.
#ifndef PR_BENCHMARKS_SERVE_LOAD_TARGET_H
#define PR_BENCHMARKS_SERVE_LOAD_TARGET_H

#include "benchmarks/serve/load_wire.h"
#include "launcher/serve/endpoint_file.h"

typedef struct pr_load_target {
    pr_endpoint endpoint;
    char fields[1024];        // of every request's head: host, key
    char thread_folder[128];  // of the server's HTTP thread in /proc; "": not found
    pr_load_loop loop;
    const char *mode;  // of the rows
} pr_load_target;

// Serving on this machine's 127.0.0.1; the file is that of --endpoint-file.
pr_status
pr_load_target_open(const char *path, const char *mode, pr_load_target *target) PR_MUST_CHECK;
void pr_load_target_close(pr_load_target *target);

// A request's bytes, appended. name: its X-Request-Id, or NULL. body NULL: a GET.
void pr_load_target_write(
    const pr_load_target *target,
    const char *path,
    const char *name,
    const char *body,
    pr_byte_buffer *out);

typedef struct pr_load_answer {
    int32_t status;
    pr_byte_buffer text;  // NUL-terminated, the NUL not counted
} pr_load_answer;

// On a connection of its own, the loop's others going on meanwhile. PR_ERR_TIMEOUT, PR_ERR_PEER.
pr_status pr_load_target_ask(
    pr_load_target *target,
    const char *path,
    const char *name,
    const char *body,
    int32_t timeout_ms,
    pr_load_answer *answer) PR_MUST_CHECK;

// The sum of a metric's samples, whatever their labels.
pr_status
pr_load_target_metric(pr_load_target *target, const char *name, double *value) PR_MUST_CHECK;
// Waits until nothing is under way: no open sequence, no KV block held, no connection but ours.
pr_status pr_load_target_await_rest(pr_load_target *target, int32_t timeout_ms) PR_MUST_CHECK;

typedef struct pr_load_cpu {
    int64_t all_ns, user_ns;  // user: the rest is the kernel's, mostly sending
} pr_load_cpu;

// Of the HTTP thread so far; zeros: not known.
pr_load_cpu pr_load_target_cpu(const pr_load_target *target);
int64_t pr_load_target_rss_bytes(const pr_load_target *target);
bool pr_load_target_lives(const pr_load_target *target);

void pr_load_target_row(const pr_load_target *target, const char *measure, double value);
// Of values in any order, which are sorted: rows NAME_p50, _p90, _p99 and _max.
void pr_load_target_quantiles(
    const pr_load_target *target, const char *name, float *value, size_t values);

#endif
