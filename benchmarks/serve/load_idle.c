// SPDX-License-Identifier: BSD-3-Clause
#include <stdlib.h>

#include "benchmarks/serve/load_case.h"
#include "benchmarks/serve/load_modes.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { ASKED_MEANWHILE = 32, REPLY_MS = 60000 };

typedef struct sleepers {
    pr_load_target *target;
    pr_load_wire **wire;  // [count]
    int32_t count, replied, closed;
} sleepers;

static void on_replied(void *context, pr_load_wire *wire)
{
    sleepers *all = context;
    all->replied += wire->reply.status == 200;
}

static void on_closed(void *context, pr_load_wire *wire, bool clean)
{
    sleepers *all = context;
    (void)clean;
    all->closed++;
    for (int32_t i = 0; i < all->count; i++) {
        if (all->wire[i] == wire)
            all->wire[i] = NULL;
    }
}

static const pr_load_user user = {.replied = on_replied, .closed = on_closed};

// Each asks once, and all are answered.
static pr_status ask_all(sleepers *all)
{
    pr_byte_buffer request = {0};
    int64_t end_ns = pr_clock_now_ns() + REPLY_MS * INT64_C(1000000);
    all->replied = 0;
    pr_load_target_write(all->target, "/health", NULL, NULL, &request);
    for (int32_t i = 0; i < all->count; i++) {
        if (all->wire[i])
            pr_load_wire_send(all->wire[i], request.data, request.size_bytes);
    }
    pr_byte_buffer_free(&request);
    while (all->replied < all->count && all->closed == 0 && pr_clock_now_ns() < end_ns)
        pr_load_loop_turn(&all->target->loop, 100);
    if (all->replied < all->count)
        return pr_fail(
            PR_ERR_PEER, "of %d idle connections %d were answered, %d closed", all->count,
            all->replied, all->closed);
    return PR_OK;
}

static pr_status
ask_meanwhile(pr_load_target *target, const pr_load_options *options, pr_load_case *cases)
{
    float took_ms[ASKED_MEANWHILE];
    for (int32_t i = 0; i < ASKED_MEANWHILE; i++) {
        int64_t begin_ns = pr_clock_now_ns();
        PR_TRY(pr_load_case_check(target, &cases[i], i, options->tokens));
        took_ms[i] = (float)((double)(pr_clock_now_ns() - begin_ns) / 1e6);
    }
    pr_load_target_row(target, "requests_answered_meanwhile", ASKED_MEANWHILE);
    pr_load_target_quantiles(target, "request_ms", took_ms, ASKED_MEANWHILE);
    return PR_OK;
}

static pr_status sleep_long(sleepers *all, const pr_load_options *options, pr_load_case *cases)
{
    pr_load_target *target = all->target;
    int64_t before_bytes = pr_load_target_rss_bytes(target), begin_ns = pr_clock_now_ns();
    for (int32_t i = 0; i < all->count; i++)
        PR_TRY(pr_load_wire_open(&target->loop, &user, all, 0, &all->wire[i]));
    PR_TRY(ask_all(all));
    pr_load_target_row(target, "idle_connections", all->count);
    pr_load_target_row(target, "seconds_to_open", (double)(pr_clock_now_ns() - begin_ns) / 1e9);
    int64_t bytes = pr_load_target_rss_bytes(target);
    pr_load_target_row(target, "rss_before_bytes", (double)before_bytes);
    pr_load_target_row(target, "rss_with_idle_bytes", (double)bytes);
    pr_load_target_row(
        target, "rss_bytes_per_connection", (double)(bytes - before_bytes) / all->count);
    PR_TRY(ask_meanwhile(target, options, cases));
    return ask_all(all);
}

pr_status pr_load_idle(pr_load_target *target, const pr_load_options *options)
{
    pr_load_case *cases = NULL;
    sleepers all = {.target = target, .count = options->count};
    PR_TRY(
        pr_load_case_gather(target, ASKED_MEANWHILE, options->tokens, options->reference, &cases));
    all.wire = calloc((size_t)all.count, sizeof(pr_load_wire *));
    pr_status status = all.wire ? sleep_long(&all, options, cases)
                                : pr_fail(PR_ERR_RESOURCE, "no memory for connections");
    for (int32_t i = 0; all.wire && i < all.count; i++) {
        if (all.wire[i])
            pr_load_wire_close(all.wire[i], false);
    }
    free(all.wire);
    if (status == PR_OK)
        status = pr_load_target_await_rest(target, 10000);
    if (status == PR_OK)
        pr_load_target_row(target, "rss_after_bytes", (double)pr_load_target_rss_bytes(target));
    pr_load_case_free(cases, ASKED_MEANWHILE);
    return status;
}
