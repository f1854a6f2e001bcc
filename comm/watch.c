// SPDX-License-Identifier: BSD-3-Clause
#include "comm/watch.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

// Relaxed loads and stores are plain ones on every machine we know, and no race to a sanitizer.
typedef struct watch_record {
    _Atomic(uint64_t) number, changes, plan;
    _Atomic(int32_t) step, layer, activity, peer;
    const char *_Atomic operation, *_Atomic wait;
} watch_record;

static watch_record record = {.layer = -1, .peer = PR_WATCH_ALL};
static _Thread_local bool writes;

#define PUT(field, value) atomic_store_explicit(&record.field, value, memory_order_relaxed)
#define GET(field) atomic_load_explicit(&record.field, memory_order_relaxed)

void pr_watch_adopt(void) { writes = true; }

static void note(pr_watch_activity activity)
{
    PUT(activity, activity);
    PUT(changes, GET(changes) + 1);
}

void pr_watch_begin(const char *operation, int32_t layer)
{
    if (!writes)
        return;
    PUT(number, GET(number) + 1);
    PUT(operation, operation);
    PUT(layer, layer);
    PUT(wait, NULL);
    note(PR_WATCH_COMPUTES);
}

void pr_watch_wait(const char *what, int32_t peer)
{
    if (!writes)
        return;
    PUT(wait, what);
    PUT(peer, peer);
    note(PR_WATCH_WAITS);
}

void pr_watch_collective(const char *operation)
{
    pr_watch_begin(operation, -1);
    pr_watch_wait(NULL, PR_WATCH_ALL);
}

void pr_watch_go(void)
{
    if (writes)
        note(PR_WATCH_COMPUTES);
}

void pr_watch_idle(void)
{
    if (writes)
        note(PR_WATCH_IDLE);
}

void pr_watch_step(uint64_t plan, int32_t step)
{
    if (!writes)
        return;
    PUT(plan, plan);
    PUT(step, step);
    note(PR_WATCH_COMPUTES);
}

static void copy_name(char to[PR_WATCH_NAME_BYTES], const char *from)
{
    memset(to, 0, PR_WATCH_NAME_BYTES);
    if (from)
        memcpy(to, from, strnlen(from, PR_WATCH_NAME_BYTES - 1));
}

void pr_watch_read(pr_watch_state *state)
{
    *state = (pr_watch_state){
        .number = GET(number),
        .changes = GET(changes),
        .plan = GET(plan),
        .step = GET(step),
        .layer = GET(layer),
        .activity = GET(activity),
        .peer = GET(peer),
    };
    copy_name(state->operation, GET(operation));
    copy_name(state->wait, GET(wait));
}

void pr_watch_place(char text[PR_WATCH_PLACE_BYTES])
{
    int32_t layer = GET(layer);
    uint64_t plan = GET(plan);
    int used = 0;
    text[0] = '\0';
    if (layer >= 0)
        used = snprintf(text, PR_WATCH_PLACE_BYTES, " of layer %d", (int)layer);
    if (plan > 0)
        snprintf(
            text + used, PR_WATCH_PLACE_BYTES - (size_t)used, ", plan %llu step %d",
            (unsigned long long)plan, (int)GET(step));
}
