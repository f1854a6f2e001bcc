// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/client/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/text/byte_buffer.h"

struct pr_terminal {
    int signals;      // descriptor
    sigset_t before;  // mask
    pr_byte_buffer frame;
};

static const char enter_screen[] = "\033[?1049h\033[?25l\033[?7l\033[2J";
static const char leave_screen[] = "\033[0m\033[?7h\033[?25h\033[?1049l";
static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};
static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

enum {
    CAUGHT = sizeof caught / sizeof caught[0],
    CRASHES = sizeof crashes / sizeof crashes[0],
    PLAIN_COLUMNS = 80,
    PLAIN_ROWS = 24,
};

// What a crash needs in order to restore: set before the screen is entered.
static struct termios cooked;

static void write_all(const char *text, size_t size_bytes)
{
    while (size_bytes > 0) {
        ssize_t written = write(STDOUT_FILENO, text, size_bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        text += written;
        size_bytes -= (size_t)written;
    }
}

static void enter(void)
{
    struct termios raw = cooked;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
    write_all(enter_screen, sizeof enter_screen - 1);
}

static void leave(void)
{
    write_all(leave_screen, sizeof leave_screen - 1);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &cooked);
}

// Only calls that are safe in a handler; the handler is already reset, so the signal then kills.
static void on_crash(int number)
{
    leave();
    raise(number);
}

static void catch_crashes(bool catch)
{
    struct sigaction action = {.sa_handler = catch ? on_crash : SIG_DFL};
    action.sa_flags = (int)SA_RESETHAND;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < CRASHES; i++)
        sigaction(crashes[i], &action, NULL);
}

pr_status pr_terminal_open(pr_terminal **terminal)
{
    pr_terminal *made = calloc(1, sizeof *made);
    sigset_t set;
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a terminal");
    if (tcgetattr(STDIN_FILENO, &cooked) != 0) {
        free(made);
        return pr_fail(PR_ERR_IO, "the terminal gives no attributes: %s", strerror(errno));
    }
    sigemptyset(&set);
    for (int i = 0; i < CAUGHT; i++)
        sigaddset(&set, caught[i]);
    made->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (made->signals < 0) {
        free(made);
        return pr_fail(PR_ERR_IO, "no descriptor for signals: %s", strerror(errno));
    }
    sigprocmask(SIG_BLOCK, &set, &made->before);
    catch_crashes(true);
    enter();
    *terminal = made;
    return PR_OK;
}

void pr_terminal_close(pr_terminal *terminal)
{
    if (!terminal)
        return;
    leave();
    catch_crashes(false);
    close(terminal->signals);
    sigprocmask(SIG_SETMASK, &terminal->before, NULL);
    pr_byte_buffer_free(&terminal->frame);
    free(terminal);
}

void pr_terminal_size(const pr_terminal *terminal, int32_t *columns, int32_t *rows)
{
    (void)terminal;
    struct winsize size = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row;
    *columns = known ? size.ws_col : PLAIN_COLUMNS;
    *rows = known ? size.ws_row : PLAIN_ROWS;
}

// The shell sees a process that stopped by itself, on a screen that is its own again.
static void suspend(void)
{
    leave();
    raise(SIGSTOP);
    enter();
}

static pr_terminal_event take_signal(pr_terminal *terminal, int *number)
{
    struct signalfd_siginfo info;
    if (read(terminal->signals, &info, sizeof info) != (ssize_t)sizeof info)
        return PR_TERMINAL_NOTHING;
    switch (info.ssi_signo) {
    case SIGTSTP:
        suspend();
        return PR_TERMINAL_RESIZE;
    case SIGCONT:
    case SIGWINCH:
        return PR_TERMINAL_RESIZE;
    default:
        *number = (int)info.ssi_signo;
        return PR_TERMINAL_END;
    }
}

pr_terminal_event
pr_terminal_wait(pr_terminal *terminal, int32_t timeout_ms, char *key, int *signal)
{
    struct pollfd ready[] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = terminal->signals, .events = POLLIN},
    };
    if (poll(ready, 2, timeout_ms) <= 0)
        return PR_TERMINAL_NOTHING;
    if (ready[1].revents)
        return take_signal(terminal, signal);
    if (read(STDIN_FILENO, key, 1) == 1)
        return PR_TERMINAL_KEY;
    *signal = 0;
    return PR_TERMINAL_END;
}

// Lines are cleared before they are written: behind one that fills the screen the cursor stands on its last cell.
void pr_terminal_draw(pr_terminal *terminal, const char *text, size_t size_bytes)
{
    pr_byte_buffer *frame = &terminal->frame;
    int32_t columns, rows, lines = 0;
    pr_terminal_size(terminal, &columns, &rows);
    pr_byte_buffer_clear(frame);
    pr_byte_buffer_append(frame, "\033[H", 3);
    for (size_t at = 0; at < size_bytes && lines < rows; lines++) {
        const char *end = memchr(text + at, '\n', size_bytes - at);
        size_t length = end ? (size_t)(end - text) - at : size_bytes - at;
        if (lines > 0)
            pr_byte_buffer_append(frame, "\r\n", 2);
        pr_byte_buffer_append(frame, "\033[K", 3);
        pr_byte_buffer_append(frame, text + at, length);
        at += length + (end != NULL);
    }
    if (lines < rows)
        pr_byte_buffer_append(frame, "\r\n\033[J", 5);
    write_all(frame->data, frame->failed ? 0 : frame->size_bytes);
}
