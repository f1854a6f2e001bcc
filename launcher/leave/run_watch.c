// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/leave/run_watch.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/control.h"
#include "comm/watch.h"
#include "launcher/leave/stop_signals.h"
#include "launcher/leave/watch_book.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { BEATS_A_LIMIT = 20, LEAST_BEAT_MS = 50, MOST_BEAT_MS = 500 };
// How long rank 0's connection may have ended before it is said; watch_book.c has that of the others'.
enum { LOST_PATIENCE_MS = 2000, STAGGERED_RANKS = 8 };
enum { ACCUSED_PATIENCE_MS = 10000, CONDEMN_MS = 200 };

// What a beat carries; rank 0's says nothing of its state.
typedef struct watch_report {
    pr_watch_state state;
    int32_t signal;
    int32_t leaves;  // from rank 0: it ends the job for a fault that it has told
} watch_report;
static_assert(sizeof(watch_report) == 112, "the report is a wire format");

struct pr_run_watch {
    pr_run_watch_params params;
    int32_t rank, ranks;
    int64_t beat_ns, limit_ns;
    pr_control *worker, *controller;  // on rank 0 both, of which it uses the latter
    pr_control *endpoint;
    pr_watch_book *book;  // rank 0
    const pr_layout *_Atomic layout;
    int32_t *_Atomic
        number;  // [ranks] by the connections' numbers, what they are since the world was ordered
    atomic_bool ends;
    atomic_bool condemned, condemned_all;  // asked for, done
    bool runs;
    pthread_t thread;
    // Of the thread.
    int64_t looked_ns, due_ns;
    int64_t zero_heard_ns;  // not rank 0
    int64_t zero_lost_ns;   // its connection ended, 0: has not
    int told_signal;
    bool released;         // the run has ended in order on the other side
    pr_status accusation;  // the last that ends the run, PR_OK: none
    int64_t accused_ns;
    char text[PR_WATCH_TEXT_BYTES];
};

// Connections are older than the order of the world.
static int32_t number_of(pr_run_watch *watch, int32_t from)
{
    const int32_t *number = atomic_load(&watch->number);
    return number ? number[from] : from;
}

static void accuse(pr_run_watch *watch, pr_status status, const char *text, int64_t now_ns)
{
    if (watch->accusation != PR_OK || atomic_load(&watch->ends))
        return;
    if (status == PR_ERR_TIMEOUT || watch->rank != 0) {
        watch->accusation = status;
        watch->accused_ns = now_ns;
        snprintf(watch->text, sizeof watch->text, "%s", text ? text : "");
    }
    watch->params.fault(watch->params.context, status, text);
}

// Who was to end the run may hang, too.
static void accuse_again(pr_run_watch *watch, int64_t now_ns)
{
    if (watch->accusation == PR_OK ||
        now_ns - watch->accused_ns <= ACCUSED_PATIENCE_MS * INT64_C(1000000))
        return;
    watch->accused_ns = now_ns;
    watch->params.fault(watch->params.context, watch->accusation, watch->text);
}

// A peer that cannot be told is noticed by its silence.
static void
tell(pr_run_watch *watch, int32_t rank, pr_message_kind kind, const watch_report *report)
{
    pr_error_capture_begin();
    pr_status sent =
        pr_control_send(watch->endpoint, rank, kind, report, report ? sizeof *report : 0);
    pr_error_capture_end();
    (void)sent;
}

static void tell_all(pr_run_watch *watch, pr_message_kind kind, const watch_report *report)
{
    for (int32_t rank = 1; rank < watch->ranks; rank++)
        tell(watch, rank, kind, report);
}

static void beat(pr_run_watch *watch, int64_t now_ns)
{
    bool condemned = atomic_load(&watch->condemned);
    watch_report report = {.signal = pr_stop_signals_received(), .leaves = condemned};
    pr_watch_read(&report.state);
    watch->told_signal = report.signal;
    if (watch->rank == 0) {
        pr_watch_book_hear(watch->book, 0, now_ns, &report.state);
        tell_all(watch, PR_MESSAGE_WATCH, &report);
        atomic_store(&watch->condemned_all, condemned);
    } else {
        tell(watch, 0, PR_MESSAGE_WATCH, &report);
    }
    watch->due_ns = now_ns + watch->beat_ns;
}

static void take_report(pr_run_watch *watch, const pr_message *message)
{
    watch_report report;
    int64_t now_ns = pr_clock_now_ns();
    if (message->size_bytes != sizeof report)
        return;
    memcpy(&report, message->data, sizeof report);
    if (report.signal != 0)
        pr_stop_signals_note(report.signal);
    if (watch->rank != 0 && report.leaves)
        accuse(watch, PR_ERR_PEER, NULL, now_ns);
    if (watch->rank != 0)
        watch->zero_heard_ns = now_ns;
    else if (report.leaves)
        pr_watch_book_leave(watch->book, number_of(watch, message->from));
    else
        pr_watch_book_hear(watch->book, number_of(watch, message->from), now_ns, &report.state);
}

static void take_message(pr_run_watch *watch, const pr_message *message)
{
    switch (message->kind) {
    case PR_MESSAGE_WATCH:
        take_report(watch, message);
        break;
    case PR_MESSAGE_STOP:
        watch->released = true;
        break;
    case PR_MESSAGE_LOST:
        if (watch->rank == 0)
            pr_watch_book_lose(watch->book, number_of(watch, message->from), pr_clock_now_ns());
        else
            watch->zero_lost_ns = pr_clock_now_ns();
        break;
    default:
        break;
    }
}

static void judge_all(pr_run_watch *watch, int64_t now_ns)
{
    char text[PR_WATCH_TEXT_BYTES];
    pr_watch_book_set_layout(watch->book, atomic_load(&watch->layout));
    switch (pr_watch_book_judge(watch->book, now_ns, text)) {
    case PR_WATCH_STUCK:
        accuse(watch, PR_ERR_TIMEOUT, text, now_ns);
        break;
    case PR_WATCH_LOST:
        accuse(watch, PR_ERR_PEER, text, now_ns);
        break;
    case PR_WATCH_STRANGE:
        pr_log(PR_LOG_WARN, "%s", text);
        break;
    case PR_WATCH_FINE:
        break;
    }
}

// The first rank speaks first: ending the job it spares the others the same line.
static void judge_zero(pr_run_watch *watch, int64_t now_ns)
{
    char text[PR_WATCH_TEXT_BYTES];
    int32_t place = watch->rank < STAGGERED_RANKS ? watch->rank : STAGGERED_RANKS;
    int64_t turn_ns = (place - 1) * watch->beat_ns, silent_ns = now_ns - watch->zero_heard_ns;
    if (watch->released)
        return;
    if (watch->zero_lost_ns != 0) {
        if (now_ns - watch->zero_lost_ns > LOST_PATIENCE_MS * INT64_C(1000000) + turn_ns)
            accuse(watch, PR_ERR_PEER, "rank 0 (the controller) is lost: this rank ends", now_ns);
        return;
    }
    if (watch->limit_ns == 0 || silent_ns <= watch->limit_ns + turn_ns)
        return;
    snprintf(
        text, sizeof text, "rank 0 (the controller) does not answer since %.1f s: this rank ends",
        (double)silent_ns * 1e-9);
    accuse(watch, PR_ERR_TIMEOUT, text, now_ns);
}

// A thread that was not run has heard nobody.
static void forgive_pause(pr_run_watch *watch, int64_t now_ns)
{
    int64_t gap_ns = now_ns - watch->looked_ns;
    watch->looked_ns = now_ns;
    if (gap_ns <= 2 * watch->beat_ns)
        return;
    watch->zero_heard_ns += gap_ns;
    if (watch->book)
        pr_watch_book_pause(watch->book, gap_ns);
}

static void *run(void *argument)
{
    pr_run_watch *watch = argument;
    while (!atomic_load(&watch->ends)) {
        int64_t now_ns = pr_clock_now_ns();
        forgive_pause(watch, now_ns);
        if (now_ns >= watch->due_ns || pr_stop_signals_received() != watch->told_signal ||
            atomic_load(&watch->condemned)) {
            beat(watch, now_ns);
            accuse_again(watch, now_ns);
            if (watch->rank == 0)
                judge_all(watch, now_ns);
            else
                judge_zero(watch, now_ns);
        }
        int64_t left_ns = watch->due_ns - pr_clock_now_ns();
        pr_message message;
        pr_status status = pr_control_receive(
            watch->endpoint, left_ns > 0 ? (int32_t)(left_ns / 1000000) + 1 : 0, &message);
        if (status != PR_OK)
            break;  // already told; the run goes on unwatched
        take_message(watch, &message);
    }
    return NULL;
}

static void set_times(pr_run_watch *watch)
{
    int64_t least_ns = LEAST_BEAT_MS * INT64_C(1000000), most_ns = MOST_BEAT_MS * INT64_C(1000000);
    watch->limit_ns = (int64_t)(watch->params.limit_s * 1e9);
    watch->beat_ns = watch->limit_ns / BEATS_A_LIMIT;
    if (watch->limit_ns == 0 || watch->beat_ns > most_ns)
        watch->beat_ns = most_ns;
    if (watch->beat_ns < least_ns)
        watch->beat_ns = least_ns;
    watch->looked_ns = watch->due_ns = watch->zero_heard_ns = pr_clock_now_ns();
}

static pr_status start_thread(pr_run_watch *watch)
{
    if (pthread_create(&watch->thread, NULL, run, watch) != 0)
        return pr_fail(PR_ERR_RESOURCE, "cannot start the watchdog's thread");
    pthread_setname_np(watch->thread, "watchdog");
    watch->runs = true;
    return PR_OK;
}

static pr_status make(const pr_run_watch_params *params, pr_run_watch **watch)
{
    pr_run_watch *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the watchdog");
    made->params = *params;
    made->rank = pr_world_rank(params->world);
    made->ranks = pr_world_ranks(params->world);
    *watch = made;
    return PR_OK;
}

static pr_status begin(pr_run_watch *watch)
{
    watch->endpoint = watch->rank == 0 ? watch->controller : watch->worker;
    set_times(watch);
    if (watch->rank == 0)
        PR_TRY(pr_watch_book_create(watch->ranks, watch->limit_ns, &watch->book));
    pr_stop_signals_call_watch(watch->endpoint);
    return start_thread(watch);
}

pr_status pr_run_watch_create(const pr_run_watch_params *params, pr_run_watch **watch)
{
    // Plain TCP, without pings: the beats are the pings, and nothing else shares these connections.
    pr_control_params control = {.world = params->world, .backend = "tcp"};
    pr_run_watch *made;
    *watch = NULL;
    if (pr_world_ranks(params->world) == 1)
        return PR_OK;
    PR_TRY(make(params, &made));
    pr_status status = pr_control_create(&control, &made->worker, &made->controller);
    if (status == PR_OK)
        status = begin(made);
    if (status == PR_OK)
        *watch = made;
    else
        pr_run_watch_destroy(made);
    return status;
}

// The connections are numbered as the launcher numbers ranks, which a replacement does not know.
size_t pr_run_watch_invite(pr_run_watch *watch, void *invitation)
{
    bool can = watch && watch->rank == 0 && !atomic_load(&watch->number);
    return can ? pr_control_invite(watch->endpoint, invitation) : 0;  // only reads
}

pr_status pr_run_watch_join(
    const pr_run_watch_params *params,
    const void *invitation,
    size_t size_bytes,
    pr_run_watch **watch)
{
    pr_run_watch *made;
    *watch = NULL;
    if (size_bytes == 0)
        return PR_OK;
    PR_TRY(make(params, &made));
    pr_status status = pr_control_join(params->world, 0, invitation, size_bytes, &made->worker);
    if (status == PR_OK)
        status = begin(made);
    if (status == PR_OK)
        *watch = made;
    else
        pr_run_watch_destroy(made);
    return status;
}

void pr_run_watch_destroy(pr_run_watch *watch)
{
    if (!watch)
        return;
    atomic_store(&watch->ends, true);
    pr_stop_signals_call_watch(NULL);
    if (watch->runs) {
        pr_control_wake(watch->endpoint);
        pthread_join(watch->thread, NULL);
        if (watch->rank == 0)
            tell_all(watch, PR_MESSAGE_STOP, NULL);
        else
            tell(watch, 0, PR_MESSAGE_WATCH, &(watch_report){.leaves = 1});
    }
    pr_control_destroy(watch->controller);
    pr_control_destroy(watch->worker);
    pr_watch_book_destroy(watch->book);
    free(atomic_load(&watch->number));
    free(watch);
}

void pr_run_watch_condemn(pr_run_watch *watch)
{
    if (!watch || watch->rank != 0)
        return;
    atomic_store(&watch->condemned, true);
    pr_control_wake(watch->endpoint);
    for (int i = 0; i < CONDEMN_MS && !atomic_load(&watch->condemned_all); i++)
        usleep(1000);
}

pr_status pr_run_watch_follow_order(pr_run_watch *watch)
{
    const int32_t *launched = watch ? pr_world_launched(watch->params.world) : NULL;
    if (!launched)
        return PR_OK;
    int32_t *number = calloc((size_t)watch->ranks, sizeof *number);
    if (!number)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the watchdog's numbers");
    for (int32_t i = 0; i < watch->ranks; i++)
        number[launched[i]] = i;
    atomic_store(&watch->number, number);
    return PR_OK;
}

void pr_run_watch_set_layout(pr_run_watch *watch, const pr_layout *layout)
{
    if (watch)
        atomic_store(&watch->layout, layout);
}
