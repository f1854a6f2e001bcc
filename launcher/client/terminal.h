// SPDX-License-Identifier: BSD-3-Clause
// The terminal as a screen of its own: alternate screen, keys without Enter, resize, and the way back. Whatever ends
// the program, the terminal is as it was before: a signal that asks for the end comes as an event, a crash
// restores it on its way out, and Ctrl-Z gives it back until the program goes on.
//
// Signals come through a descriptor, not through handlers: there is nothing to race with.
// Threads: one, and one terminal in a process.
#ifndef PR_LAUNCHER_CLIENT_TERMINAL_H
#define PR_LAUNCHER_CLIENT_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_terminal pr_terminal;

typedef enum pr_terminal_event {
    PR_TERMINAL_NOTHING,  // the time is over
    PR_TERMINAL_KEY,
    PR_TERMINAL_RESIZE,  // or the screen must be drawn anew
    PR_TERMINAL_END,     // by a signal, or the terminal is gone
} pr_terminal_event;

// Standard input and output are the terminal.
pr_status pr_terminal_open(pr_terminal **terminal) PR_MUST_CHECK;
void pr_terminal_close(pr_terminal *terminal);  // the screen that was before is back

void pr_terminal_size(const pr_terminal *terminal, int32_t *columns, int32_t *rows);
// Waits at most timeout_ms (0: only looks). key is set for KEY; signal for END: its number, 0 if the input ended.
pr_terminal_event
pr_terminal_wait(pr_terminal *terminal, int32_t timeout_ms, char *key, int *signal);
// Draws lines divided by LF, no wider and no more than the screen.
void pr_terminal_draw(pr_terminal *terminal, const char *text, size_t size_bytes);

#endif
