// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/batch_state.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "launcher/commands.h"
#include "launcher/journal/journal.h"
#include "runtime/base/atomic_file.h"
#include "runtime/base/log.h"

// A run elsewhere that has not renewed its file for so long is over.
enum { SILENT_S = 60, HOST_BYTES = 256 };

static const char *const phase_name[] = {"running", "preempted", "failed", "done"};

const char *pr_batch_phase_name(pr_batch_phase phase) { return phase_name[phase]; }

static pr_status make_path(const char *output, char path[PATH_MAX])
{
    if (snprintf(path, PATH_MAX, "%s.state", output) < PATH_MAX)
        return PR_OK;
    return pr_fail(PR_ERR_ARGUMENT, "the path of the output is too long: choose another with -o");
}

static void name_host(char host[HOST_BYTES])
{
    host[0] = host[HOST_BYTES - 1] = '\0';
    (void)!gethostname(host, HOST_BYTES - 1);
}

pr_status pr_batch_state_write(const char *output, const pr_batch_state *state)
{
    char path[PATH_MAX], host[HOST_BYTES];
    PR_TRY(make_path(output, path));
    name_host(host);
    json_t *root = json_pack(
        "{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:f, s:s, s:s, s:i, s:I}", "state",
        phase_name[state->phase], "reason", state->reason, "requests",
        state->requests >= 0 ? json_integer(state->requests) : json_null(), "answered",
        (json_int_t)state->answered, "refused", (json_int_t)state->refused, "begun",
        (json_int_t)state->begun, "end_unix_s", (json_int_t)state->end_unix_s, "idle_tail_s",
        state->idle_tail_s, "job", state->job, "host", host, "pid", (int)getpid(), "updated_unix_s",
        (json_int_t)time(NULL));
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the state of the batch");
    size_t length = strlen(text);
    text[length] = '\n';  // over the terminator: the file needs none
    pr_status status = pr_atomic_file_write(path, 0666, text, length + 1);
    free(text);
    return status;
}

pr_status pr_batch_state_remove(const char *output)
{
    char path[PATH_MAX];
    PR_TRY(make_path(output, path));
    if (unlink(path) == 0 || errno == ENOENT)
        return PR_OK;
    return pr_fail(
        PR_ERR_IO, "cannot remove %s, which is of an earlier run: %s", path, strerror(errno));
}

// Whether the process that wrote "running" may still run.
static bool may_live(const json_t *root)
{
    char host[HOST_BYTES];
    name_host(host);
    const char *where = json_string_value(json_object_get(root, "host"));
    if (where && strcmp(where, host) == 0) {
        pid_t pid = (pid_t)json_integer_value(json_object_get(root, "pid"));
        return pid > 1 && (kill(pid, 0) == 0 || errno == EPERM);
    }
    return time(NULL) - json_integer_value(json_object_get(root, "updated_unix_s")) < SILENT_S;
}

static bool fill(const json_t *root, pr_batch_state *state)
{
    const char *name = json_string_value(json_object_get(root, "state"));
    const char *reason = json_string_value(json_object_get(root, "reason"));
    const char *job = json_string_value(json_object_get(root, "job"));
    const json_t *requests = json_object_get(root, "requests");
    int phase = 0;
    while (name && phase <= PR_BATCH_DONE && strcmp(name, phase_name[phase]) != 0)
        phase++;
    if (!name || phase > PR_BATCH_DONE)
        return false;
    *state = (pr_batch_state){
        .phase = (pr_batch_phase)phase,
        .requests = json_is_integer(requests) ? json_integer_value(requests) : -1,
        .answered = json_integer_value(json_object_get(root, "answered")),
        .refused = json_integer_value(json_object_get(root, "refused")),
        .begun = json_integer_value(json_object_get(root, "begun")),
        .end_unix_s = json_integer_value(json_object_get(root, "end_unix_s")),
        .idle_tail_s = json_number_value(json_object_get(root, "idle_tail_s")),
    };
    snprintf(state->reason, sizeof state->reason, "%s", reason ? reason : "");
    snprintf(state->job, sizeof state->job, "%s", job ? job : "");
    if (state->phase == PR_BATCH_RUNNING && !may_live(root)) {
        state->phase = PR_BATCH_FAILED;
        snprintf(state->reason, sizeof state->reason, "it was killed");
    }
    return true;
}

pr_status pr_batch_state_read(const char *output, pr_batch_state *state, bool *there)
{
    char path[PATH_MAX];
    *there = false;
    PR_TRY(make_path(output, path));
    if (access(path, F_OK) != 0)
        return PR_OK;
    json_t *root = json_load_file(path, 0, NULL);
    *there = root && fill(root, state);
    if (!*there)
        pr_log(PR_LOG_WARN, "%s is not the state of a batch: it is left out of account", path);
    json_decref(root);
    return PR_OK;
}

// ---- The report ----

static int64_t count_begun(const pr_journal_index *index)
{
    int64_t begun = 0;
    for (int64_t i = 0; i < index->positions; i++)
        begun += !index->entry[i].done && index->entry[i].answers > 0;
    return begun;
}

// The journal knows more than a file that a killed run wrote seconds before its end.
static pr_status count_journal(const char *output, pr_batch_state *state)
{
    pr_journal_index index;
    PR_TRY(pr_journal_read(output, &index));
    state->answered = index.totals.answered;
    state->refused = index.totals.refused;
    state->begun = count_begun(&index);
    pr_journal_index_clear(&index);
    return PR_OK;
}

static void print(const pr_batch_state *state)
{
    printf("%s: ", phase_name[state->phase]);
    if (state->requests >= 0)
        printf("%lld requests, ", (long long)state->requests);
    printf("%lld answered, %lld refused", (long long)state->answered, (long long)state->refused);
    if (state->phase != PR_BATCH_DONE)
        printf(", %lld begun", (long long)state->begun);
    if (state->requests >= 0 && state->phase != PR_BATCH_DONE)
        printf(", %lld left", (long long)(state->requests - state->answered - state->refused));
    if (state->reason[0])
        printf("; %s", state->reason);
    putchar('\n');
}

int pr_batch_state_print(const char *output)
{
    pr_batch_state state = {.requests = -1};
    bool there, journal;
    pr_status status = pr_batch_state_read(output, &state, &there);
    if (status == PR_OK)
        status = pr_journal_exists(output, &journal);
    if (status == PR_OK && !there && !journal)
        status = pr_fail(
            PR_ERR_NOT_FOUND, "there is no batch of %s: give the file that `batch -o` was given",
            output);
    if (status == PR_OK && !there)  // killed before it could write its state
        state = (pr_batch_state){
            .phase = PR_BATCH_FAILED, .requests = -1, .reason = "it was killed while it began"};
    if (status == PR_OK && journal && state.phase != PR_BATCH_DONE)
        status = count_journal(output, &state);
    if (status != PR_OK)
        return pr_exit_code(status);
    print(&state);
    return state.phase == PR_BATCH_DONE ? PR_EXIT_OK : PR_EXIT_UNFINISHED;
}
