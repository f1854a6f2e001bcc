// SPDX-License-Identifier: BSD-3-Clause
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "benchmarks/serve/load_case.h"
#include "benchmarks/serve/load_junk.h"
#include "benchmarks/serve/load_modes.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

// MOST_WAIT_MS: how long a client waits for a reply before it leaves.
enum { THROWERS = 24, KNOWN = 16, MOST_WAIT_MS = 400, REST_MS = 30000, STATUSES = 600 };

typedef struct thrower {
    struct mob *mob;
    pr_load_wire *wire;
    pr_byte_buffer junk;
    const char *kind;
    size_t sent_bytes;
    int64_t leave_ns;  // set when all is sent
    bool half_closed;
} thrower;

typedef struct mob {
    pr_load_target *target;
    pr_load_dice dice;
    thrower thrower[THROWERS];
    int64_t connections, sent_bytes;
    int64_t status[STATUSES];  // how many replies had it
    pr_status fault;
} mob;

// The junk that did it, as far as a line has room.
static void blame(thrower *of, const char *what)
{
    char shown[401];
    size_t bytes = of->junk.size_bytes < 400 ? of->junk.size_bytes : 400;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char byte = ((const unsigned char *)of->junk.data)[i];
        shown[i] = isprint(byte) ? (char)byte : '.';
    }
    shown[bytes] = '\0';
    if (of->mob->fault == PR_OK)
        of->mob->fault = pr_fail(PR_ERR_REQUEST, "junk (%s) %s: %s", of->kind, what, shown);
}

static void on_replied(void *context, pr_load_wire *wire)
{
    thrower *of = context;
    of->mob->status[wire->reply.status]++;
    if (wire->reply.status == 500)
        blame(of, "was answered 500");
}

static void on_closed(void *context, pr_load_wire *wire, bool clean)
{
    thrower *of = context;
    (void)clean;
    of->wire = NULL;
    if (wire->broken)
        blame(of, "was answered by what is no reply");
}

static const pr_load_user user = {.replied = on_replied, .closed = on_closed};

static pr_status begin(thrower *of)
{
    mob *all = of->mob;
    pr_byte_buffer_clear(&of->junk);
    of->kind = pr_load_junk_make(&all->dice, all->target, &of->junk);
    of->sent_bytes = 0;
    of->leave_ns = 0;
    of->half_closed = false;
    all->connections++;
    return pr_load_wire_open(&all->target->loop, &user, of, 0, &of->wire);
}

// One piece of the junk; after the last, the time to leave is drawn.
static void throw_piece(thrower *of)
{
    pr_load_dice *dice = &of->mob->dice;
    size_t left = of->junk.size_bytes - of->sent_bytes;
    size_t bytes = pr_load_dice_below(dice, 3) == 0 ? 1 + pr_load_dice_below(dice, left) : left;
    pr_load_wire_send(of->wire, (char *)of->junk.data + of->sent_bytes, bytes);
    of->sent_bytes += bytes;
    of->mob->sent_bytes += (int64_t)bytes;
    if (of->sent_bytes == of->junk.size_bytes)
        of->leave_ns =
            pr_clock_now_ns() + (int64_t)pr_load_dice_below(dice, MOST_WAIT_MS) * 1000000;
}

static pr_status step(thrower *of, int64_t now_ns)
{
    pr_load_dice *dice = &of->mob->dice;
    if (!of->wire)
        return begin(of);
    if (of->sent_bytes < of->junk.size_bytes) {
        throw_piece(of);
    } else if (of->wire->waiting && now_ns < of->leave_ns) {
        return PR_OK;
    } else if (!of->half_closed && pr_load_dice_below(dice, 8) == 0) {
        pr_load_wire_end_sending(of->wire);
        of->half_closed = true;
        of->leave_ns = now_ns + MOST_WAIT_MS * 1000000;
        of->wire->waiting = true;
    } else {
        // Mostly by a reset: a close leaves a port behind that is not to be used for a minute.
        pr_load_wire_close(of->wire, pr_load_dice_below(dice, 8) > 0);
        of->wire = NULL;
    }
    return PR_OK;
}

static pr_status throw_all(mob *all, int64_t end_ns)
{
    int64_t now_ns = pr_clock_now_ns();
    while (now_ns < end_ns && all->fault == PR_OK) {
        for (int32_t i = 0; i < THROWERS; i++)
            PR_TRY(step(&all->thrower[i], now_ns));
        pr_load_loop_turn(&all->target->loop, 2);
        now_ns = pr_clock_now_ns();
    }
    return all->fault;
}

static pr_status
check_all(pr_load_target *target, const pr_load_options *options, const pr_load_case *cases)
{
    for (int32_t i = 0; i < KNOWN; i++)
        PR_TRY(pr_load_case_check(target, &cases[i], i, options->tokens));
    return PR_OK;
}

static void print_rows(const mob *all)
{
    char measure[32];
    pr_load_target_row(all->target, "connections", (double)all->connections);
    pr_load_target_row(all->target, "bytes", (double)all->sent_bytes);
    for (int32_t i = 0; i < STATUSES; i++) {
        snprintf(measure, sizeof measure, "replies_%d", i);
        if (all->status[i] > 0)
            pr_load_target_row(all->target, measure, (double)all->status[i]);
    }
}

static void let_go(mob *all)
{
    for (int32_t i = 0; i < THROWERS; i++) {
        if (all->thrower[i].wire)
            pr_load_wire_close(all->thrower[i].wire, true);
        pr_byte_buffer_free(&all->thrower[i].junk);
    }
}

pr_status pr_load_garbage(pr_load_target *target, const pr_load_options *options)
{
    pr_load_case *cases = NULL;
    mob all = {.target = target, .dice.state = options->seed};
    PR_TRY(pr_load_case_gather(target, KNOWN, options->tokens, options->reference, &cases));
    int64_t before_bytes = pr_load_target_rss_bytes(target);
    for (int32_t i = 0; i < THROWERS; i++)
        all.thrower[i].mob = &all;
    pr_status status = throw_all(&all, pr_clock_now_ns() + options->count * INT64_C(1000000000));
    let_go(&all);
    print_rows(&all);
    if (status == PR_OK)
        status = pr_load_target_await_rest(target, REST_MS);
    if (status == PR_OK)
        status = check_all(target, options, cases);
    pr_load_target_row(target, "rss_before_bytes", (double)before_bytes);
    pr_load_target_row(target, "rss_after_bytes", (double)pr_load_target_rss_bytes(target));
    pr_load_case_free(cases, KNOWN);
    return status;
}
