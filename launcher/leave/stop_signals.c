// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/leave/stop_signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "launcher/commands.h"
#include "runtime/base/log.h"

enum { PATIENCE_S = 1 };

static timer_t timer;  // not alarm: others use it, and would take it back
static atomic_int received, deliveries, exit_code;
static pr_controller *_Atomic controller_to_call;
static pr_control *_Atomic watch_to_call;

static void call_all(void)
{
    pr_controller *controller = atomic_load(&controller_to_call);
    pr_control *watch = atomic_load(&watch_to_call);
    if (controller)
        pr_controller_interrupt(controller);
    if (watch)
        pr_control_wake(watch);
}

void pr_stop_signals_note(int number)
{
    int none = 0;
    if (atomic_compare_exchange_strong(&received, &none, number))
        call_all();
}

static void on_signal(int number)
{
    int saved_errno = errno;
    int earlier = atomic_fetch_add(&deliveries, 1);
    if (earlier == 0)
        pr_stop_signals_note(number);
    else if (earlier == 1)
        pr_stop_signals_leave_within(PATIENCE_S, 128 + number);
    else
        _exit(128 + number);
    errno = saved_errno;
}

// The timer below, or the alarm of calls that may not end (comm/recovery.h).
static void on_alarm(int number)
{
    int code = atomic_load(&exit_code);
    (void)number;
    _exit(code ? code : PR_EXIT_TRANSPORT);
}

void pr_stop_signals_leave_within(unsigned seconds, int code)
{
    int none = 0;
    struct itimerspec end = {.it_value.tv_sec = seconds}, before = {0};
    atomic_compare_exchange_strong(&exit_code, &none, code);
    if (timer_gettime(timer, &before) == 0 &&
        before.it_value.tv_sec + before.it_value.tv_nsec > 0 &&
        before.it_value.tv_sec < (time_t)seconds)
        return;
    timer_settime(timer, 0, &end, NULL);
}

pr_status pr_stop_signals_catch(void)
{
    static const int caught[] = {
        SIGINT, SIGTERM, SIGUSR1};  // the last is Slurm's, ahead of the end
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        return pr_fail(PR_ERR_RESOURCE, "the system gives no timer: %s", strerror(errno));
    sigaction(SIGALRM, &action, NULL);
    action.sa_handler = on_signal;
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        sigaction(caught[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    return PR_OK;
}

int pr_stop_signals_received(void) { return atomic_load(&received); }

const atomic_int *pr_stop_signals_flag(void) { return &received; }

void pr_stop_signals_call_controller(pr_controller *controller)
{
    atomic_store(&controller_to_call, controller);
    if (pr_stop_signals_received() && controller)
        pr_controller_interrupt(controller);
}

void pr_stop_signals_call_watch(pr_control *watch)
{
    atomic_store(&watch_to_call, watch);
    if (pr_stop_signals_received() && watch)
        pr_control_wake(watch);
}
