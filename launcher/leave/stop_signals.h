// SPDX-License-Identifier: BSD-3-Clause
// SIGINT, SIGTERM and SIGUSR1 on any rank: the first ends the run in order, on all ranks (run_watch.h tells
// rank 0). A second one on the same rank ends this process within 2 s, whatever hangs; a third at once.
// The second does not end it at once because launchers send some signals twice: an order that is being
// obeyed, and will be within the second, is not cut off by its echo.
// Threads: all functions from any.
#ifndef PR_LAUNCHER_STOP_SIGNALS_H
#define PR_LAUNCHER_STOP_SIGNALS_H

#include <stdatomic.h>

#include "comm/control.h"
#include "launcher/controller.h"

// From now to the end of the process.
pr_status pr_stop_signals_catch(void) PR_MUST_CHECK;

// The first signal on any rank that this one knows of, or 0. The pointer is for who looks often.
int pr_stop_signals_received(void);
const atomic_int *pr_stop_signals_flag(void);

// Another rank has one.
void pr_stop_signals_note(int number);

// Whom a signal calls, NULL: nobody any more. A signal that came before calls at once.
void pr_stop_signals_call_controller(pr_controller *controller);
void pr_stop_signals_call_watch(pr_control *watch);

// This process ends with the code if it still lives then.
void pr_stop_signals_leave_within(unsigned seconds, int code);

#endif
