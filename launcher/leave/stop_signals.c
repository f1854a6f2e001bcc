// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/leave/stop_signals.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

enum { PATIENCE_S = 1 };

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

static void on_alarm(int number)
{
    (void)number;
    _exit(atomic_load(&exit_code));
}

void pr_stop_signals_leave_within(unsigned seconds, int code)
{
    int none = 0;
    atomic_compare_exchange_strong(&exit_code, &none, code);
    unsigned left = alarm(seconds);
    if (left > 0 && left < seconds)
        alarm(left);
}

void pr_stop_signals_catch(void)
{
    static const int caught[] = {
        SIGINT, SIGTERM, SIGUSR1};  // the last is Slurm's, ahead of the end
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        sigaction(caught[i], &action, NULL);
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
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
