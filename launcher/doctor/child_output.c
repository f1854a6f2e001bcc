// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/doctor/child_output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/clock.h"

enum { EXIT_MISSING = 127 };

// Until the end of the output, the end of time, or, with a full buffer, the end of both. False: late.
static bool read_all(int from, int64_t deadline_ns, char *data, int32_t size, int32_t *read_bytes)
{
    char rest[4096];
    for (;;) {
        int64_t left_ms = (deadline_ns - pr_clock_now_ns()) / 1000000;
        struct pollfd poller = {.fd = from, .events = POLLIN};
        int ready = left_ms > 0 ? poll(&poller, 1, (int)left_ms) : 0;
        if (ready == 0)
            return false;
        if (ready < 0 && errno != EINTR)
            return true;
        bool full = *read_bytes == size;
        ssize_t got = read(
            from, full ? rest : data + *read_bytes,
            full ? sizeof rest : (size_t)(size - *read_bytes));
        if (got == 0 || (got < 0 && errno != EINTR))
            return true;
        if (got > 0 && !full)
            *read_bytes += (int32_t)got;
    }
}

// The output may end before the process does.
static bool await_exit(pid_t child, int64_t deadline_ns, int *status)
{
    while (waitpid(child, status, WNOHANG) == 0) {
        if (pr_clock_now_ns() > deadline_ns)
            return false;
        usleep(2000);
    }
    return true;
}

static void become_quiet(int output, bool keeps_output)
{
    int nothing = open("/dev/null", O_RDWR);
    setpgid(0, 0);
    dup2(nothing, STDIN_FILENO);
    dup2(keeps_output ? output : nothing, STDOUT_FILENO);
    dup2(keeps_output ? output : nothing, STDERR_FILENO);
}

static pr_child_end
watch_child(pid_t child, int from, int32_t limit_ms, char *data, int32_t size, int32_t *read_bytes)
{
    int status = 0;
    int64_t deadline_ns = pr_clock_now_ns() + (int64_t)limit_ms * 1000000;
    setpgid(child, child);  // whoever of both comes first
    bool ended = read_all(from, deadline_ns, data, size, read_bytes) &&
                 await_exit(child, deadline_ns, &status);
    close(from);
    kill(-child, SIGKILL);  // also what it left behind
    if (!ended) {
        waitpid(child, &status, 0);
        return PR_CHILD_LATE;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_MISSING)
        return PR_CHILD_MISSING;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? PR_CHILD_DONE : PR_CHILD_FAILED;
}

pr_child_end
pr_child_output_of(const char *const *argument, int32_t limit_ms, char *text, int32_t size_bytes)
{
    int ends[2];
    int32_t read_bytes = 0;
    text[0] = '\0';
    if (pipe2(ends, O_CLOEXEC) != 0)
        return PR_CHILD_MISSING;
    pid_t child = fork();
    if (child == 0) {
        become_quiet(ends[1], true);
        execvp(argument[0], (char *const *)(uintptr_t)argument);
        _exit(EXIT_MISSING);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return PR_CHILD_MISSING;
    }
    pr_child_end end = watch_child(child, ends[0], limit_ms, text, size_bytes - 1, &read_bytes);
    text[read_bytes] = '\0';
    return end;
}

pr_child_end pr_child_output_call(
    void (*work)(void *context, int output),
    void *context,
    int32_t limit_ms,
    void *data,
    int32_t size_bytes,
    int32_t *read_bytes)
{
    int ends[2];
    *read_bytes = 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return PR_CHILD_MISSING;
    pid_t child = fork();
    if (child == 0) {
        become_quiet(ends[1], false);
        work(context, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return PR_CHILD_MISSING;
    }
    return watch_child(child, ends[0], limit_ms, data, size_bytes, read_bytes);
}
