// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/job_choice.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "k8s-adapter/pod_job.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/process_start.h"
#include "slurm/slurm_job.h"

enum { FIRST_WAIT_MS = 5000, MOST_NUMBERS = 3, MOST_DIGITS = 9 };
static const int64_t ask_again_ns = 30 * 1000000000LL, give_up_ns = 120 * 1000000000LL;

const pr_system_job_source *pr_job_choice_source(void)
{
    static const pr_system_job_source *const all[] = {&pr_slurm_job, &pr_pod_job};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (all[i]->is_here())
            return all[i];
    }
    return NULL;
}

// ---- DURATION ----

// At most MOST_NUMBERS numbers between colons; false if anything else is there.
static bool take_numbers(const char *text, int64_t number[MOST_NUMBERS], int32_t *numbers)
{
    for (*numbers = 0; *numbers < MOST_NUMBERS;) {
        int digits = 0;
        int64_t value = 0;
        for (; isdigit((unsigned char)*text) && digits <= MOST_DIGITS; text++, digits++)
            value = value * 10 + (*text - '0');
        if (digits == 0 || digits > MOST_DIGITS)
            return false;
        number[(*numbers)++] = value;
        if (*text == '\0')
            return true;
        if (*text++ != ':')
            return false;
    }
    return false;
}

// After days the numbers begin with hours; without, one number is minutes, two are minutes and seconds.
static int64_t sum_up(int64_t days, const int64_t number[MOST_NUMBERS], int32_t numbers)
{
    static const int64_t unit_s[] = {3600, 60, 1};
    int32_t first = days < 0 && numbers < 3 ? 1 : 0;
    int64_t seconds = days > 0 ? days * 86400 : 0;
    for (int32_t i = 0; i < numbers; i++)
        seconds += number[i] * unit_s[first + i];
    return seconds;
}

pr_status pr_job_choice_parse_duration(const char *option, const char *text, int64_t *seconds)
{
    int64_t number[MOST_NUMBERS] = {0}, days = -1;
    int32_t numbers = 0, day_numbers = 0;
    char before[16];
    const char *dash = strchr(text, '-'), *rest = text;
    bool good = true;
    if (dash) {
        snprintf(before, sizeof before, "%.*s", (int)(dash - text), text);
        good = dash - text < (int)sizeof before && take_numbers(before, number, &day_numbers) &&
               day_numbers == 1;
        days = number[0];
        rest = dash + 1;
    }
    good = good && take_numbers(rest, number, &numbers);
    int64_t sum = good ? sum_up(days, number, numbers) : 0;
    if (sum <= 0)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "%s '%s': give a time as for Slurm: MINUTES, M:S, H:M:S, D-H, D-H:M or D-H:M:S", option,
            text);
    *seconds = sum;
    return PR_OK;
}

// ---- The process that asks ----

static pr_status begin_asking(pr_job_choice *choice, bool shows_errors)
{
    static char name[] = "polyreme", command[] = "job", json[] = "--json", level[] = "--log-level",
                error[] = "error", debug[] = "debug";
    char *arguments[] = {name, command, json, level, shows_errors ? debug : error, NULL};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return pr_fail(PR_ERR_RESOURCE, "no pipe to ask for the job's end: %s", strerror(errno));
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    if (!shows_errors)  // libslurm's own words go there
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int error_number =
        posix_spawn(&choice->asker, "/proc/self/exe", &actions, &attributes, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(ends[1]);
    choice->asked_ns = pr_clock_now_ns();
    choice->answer_bytes = 0;
    choice->pipe = ends[0];
    if (error_number == 0)
        return PR_OK;
    choice->asker = 0;
    close(ends[0]);
    return pr_fail(
        PR_ERR_RESOURCE, "no process to ask for the job's end: %s", strerror(error_number));
}

static void end_asking(pr_job_choice *choice)
{
    close(choice->pipe);
    kill(choice->asker, SIGKILL);
    while (waitpid(choice->asker, NULL, 0) < 0 && errno == EINTR)
        ;
    choice->asker = 0;
}

// False: the answer is not one, and the job stays what it was.
static bool take_answer(pr_job_choice *choice)
{
    json_t *root = json_loadb(choice->answer, (size_t)choice->answer_bytes, 0, NULL);
    const char *id = json_string_value(json_object_get(root, "id"));
    json_t *end = json_object_get(root, "end_unix_s"),
           *restarts = json_object_get(root, "restarts");
    bool good = id && json_is_integer(end) && json_is_integer(restarts);
    if (good) {
        snprintf(choice->job.id, sizeof choice->job.id, "%s", id);
        choice->job.restarts = (int32_t)json_integer_value(restarts);
        choice->job.end_unix_s = json_integer_value(end);
    }
    json_decref(root);
    return good;
}

// Reads what is there, up to timeout_ms; true when the asker has said all. A source without an answer is no error.
static bool hear(pr_job_choice *choice, int timeout_ms)
{
    int64_t until_ns = pr_clock_now_ns() + timeout_ms * 1000000LL;
    for (;;) {
        int64_t left_ms = (until_ns - pr_clock_now_ns()) / 1000000;
        struct pollfd look = {.fd = choice->pipe, .events = POLLIN};
        if (poll(&look, 1, left_ms > 0 ? (int)left_ms : 0) <= 0 || look.revents == 0)
            return false;
        int32_t room = PR_JOB_ANSWER_BYTES - choice->answer_bytes;
        ssize_t taken = read(choice->pipe, choice->answer + choice->answer_bytes, (size_t)room);
        if (taken > 0)
            choice->answer_bytes += (int32_t)taken;
        else if (taken == 0 || errno != EINTR)
            return true;
    }
}

// ---- The choice ----

static pr_status read_option(const pr_options *options, pr_job_choice *choice)
{
    const char *walltime = options->walltime ? options->walltime : "auto";
    int64_t seconds, start_unix_s;
    choice->no_end = strcmp(walltime, "off") == 0;
    if (choice->no_end || strcmp(walltime, "auto") == 0)
        return PR_OK;
    PR_TRY(pr_job_choice_parse_duration("--walltime", walltime, &seconds));
    PR_TRY(pr_process_start_read(0, &start_unix_s));
    choice->own_end_unix_s = start_unix_s + seconds;
    return PR_OK;
}

static void tell(const pr_job_choice *choice)
{
    const pr_system_job *job = &choice->job;
    int64_t left_s = job->end_unix_s - (int64_t)time(NULL);
    if (job->end_unix_s > 0)
        pr_log(
            PR_LOG_INFO, "%s job %s ends in %lld s", choice->source->name, job->id,
            (long long)left_s);
    else if (choice->own_end_unix_s == 0)
        pr_log(
            PR_LOG_WARN,
            "this is a job of %s, but it does not say when it ends: give --walltime, or see "
            "`polyreme job --log-level debug`",
            choice->source->name);
}

pr_status pr_job_choice_open(const pr_options *options, pr_job_choice *choice)
{
    *choice = (pr_job_choice){.source = pr_job_choice_source()};
    PR_TRY(read_option(options, choice));
    if (!choice->source)
        return PR_OK;
    bool shows_errors = options->log_level && strcmp(options->log_level, "debug") == 0;
    PR_TRY(begin_asking(choice, shows_errors));
    if (hear(choice, FIRST_WAIT_MS)) {
        (void)take_answer(choice);
        end_asking(choice);
    }
    if (!choice->no_end)
        tell(choice);
    return PR_OK;
}

static pr_status ask_again(pr_job_choice *choice)
{
    int64_t age_ns = pr_clock_now_ns() - choice->asked_ns;
    if (choice->asker != 0) {
        if (hear(choice, 0))
            (void)take_answer(choice);
        else if (age_ns < give_up_ns)
            return PR_OK;
        end_asking(choice);
    }
    return age_ns < ask_again_ns ? PR_OK : begin_asking(choice, false);
}

pr_status pr_job_choice_read(pr_job_choice *choice, pr_system_job *job)
{
    if (choice->source)
        PR_TRY(ask_again(choice));
    *job = choice->job;
    if (choice->no_end)
        job->end_unix_s = 0;
    else if (
        job->end_unix_s == 0 ||
        (choice->own_end_unix_s > 0 && choice->own_end_unix_s < job->end_unix_s))
        job->end_unix_s = choice->own_end_unix_s;
    return PR_OK;
}
