// SPDX-License-Identifier: BSD-3-Clause
// kv_events.h where libzmq or msgpack was not found: nothing can be opened, so nothing else is ever called.
#include "k8s-adapter/kv_events.h"

#include <stddef.h>

#include "runtime/base/log.h"

pr_status pr_kv_events_open(const pr_kv_events_params *params, pr_kv_events **events)
{
    (void)events;
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "KV events at %s: this program was built without ZeroMQ and msgpack; install libzmq3-dev "
        "and "
        "libmsgpack-dev and build again, or leave KV events off",
        params->endpoint);
}

void pr_kv_events_close(pr_kv_events *events) { (void)events; }

pr_kv_listener pr_kv_events_listener(pr_kv_events *events)
{
    (void)events;
    return (pr_kv_listener){0};
}

void pr_kv_events_flush(pr_kv_events *events, int64_t now_ns)
{
    (void)events;
    (void)now_ns;
}

void pr_kv_events_count(const pr_kv_events *events, pr_kv_events_counts *counts)
{
    (void)events;
    *counts = (pr_kv_events_counts){0};
}

const char *pr_kv_events_endpoint(const pr_kv_events *events)
{
    (void)events;
    return "";
}

const char *pr_kv_events_replay_endpoint(const pr_kv_events *events)
{
    (void)events;
    return "";
}
