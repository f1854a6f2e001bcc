// SPDX-License-Identifier: BSD-3-Clause
#include "slurm/slurm_job.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"

// Sonames by release: 36 is 20.11, 38 is 22.05, 44 is 25.11. Newer ones are tried in the hope that the two
// functions stay what they are.
enum { OLDEST_SONAME = 33, NEWEST_SONAME = 60, NAME_BYTES = 4096, MOST_COMPONENTS = 256 };
enum { SHORT_WAIT_MS = 3000, LONG_WAIT_MS = 60000 };

typedef struct client {
    char name[NAME_BYTES];
    int (*get_end_time)(uint32_t job, time_t *end);
} client;

// -1: not there, or not a number of ours.
static int64_t environment_number(const char *name)
{
    const char *text = getenv(name);
    if (!text || *text < '0' || *text > '9')
        return -1;
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    return *end || errno || number > UINT32_MAX ? -1 : (int64_t)number;
}

static bool is_here(void) { return environment_number("SLURM_JOB_ID") > 0; }

static int64_t components(void)
{
    int64_t size = environment_number("SLURM_HET_SIZE");
    return size > 0 && size <= MOST_COMPONENTS ? size : 0;
}

// 0: not known.
static int64_t component_id(int64_t component)
{
    char name[64];
    snprintf(name, sizeof name, "SLURM_JOB_ID_HET_GROUP_%" PRId64, component);
    int64_t id = environment_number(name);
    return id > 0 ? id : 0;
}

// ---- libslurm ----

static bool load(client *slurm, const char *name)
{
    // The plugins that libslurm loads (munge) look for its symbols among the global ones.
    void *handle = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    if (!handle)
        return false;
    void (*init)(const char *configuration) = NULL;
    *(void **)&slurm->get_end_time = dlsym(handle, "slurm_get_end_time");
    *(void **)&init = dlsym(handle, "slurm_init");
    if (!slurm->get_end_time) {
        dlclose(handle);
        return false;
    }
    snprintf(slurm->name, sizeof slurm->name, "%s", name);
    if (init)  // since 20.11
        init(NULL);
    return true;
}

// Sites that install Slurm under a prefix of its own have scontrol on the PATH, not its library in the
// linker's path: PREFIX/bin/scontrol stands beside PREFIX/lib.
static bool load_beside_scontrol(client *slurm)
{
    static const char *const folder[] = {"lib", "lib64", "lib/slurm", "lib64/slurm"};
    const char *path = getenv("PATH");
    char name[NAME_BYTES];
    for (const char *at = path ? path : ""; *at;) {
        int length = (int)strcspn(at, ":");
        snprintf(name, sizeof name, "%.*s/scontrol", length, at);
        for (int i = 0; i < 4 && access(name, X_OK) == 0; i++) {
            char library[NAME_BYTES];
            snprintf(
                library, sizeof library, "%.*s/../%s/libslurm.so",
                length > NAME_BYTES / 2 ? 0 : length, at, folder[i]);
            if (load(slurm, library))
                return true;
        }
        at += length + (at[length] == ':');
    }
    return false;
}

static bool find_library(client *slurm)
{
    char name[32];
    if (load_beside_scontrol(slurm))
        return true;
    for (int number = NEWEST_SONAME; number >= OLDEST_SONAME; number--) {
        snprintf(name, sizeof name, "libslurm.so.%d", number);
        if (load(slurm, name))
            return true;
    }
    return load(slurm, "libslurm.so");
}

static void ask_for(const client *slurm, int64_t id, int64_t *end_unix_s)
{
    time_t end = 0;
    if (slurm->get_end_time((uint32_t)id, &end) != 0 || end <= 0)
        pr_log(PR_LOG_DEBUG, "%s does not know when job %" PRId64 " ends", slurm->name, id);
    else if (*end_unix_s == 0 || end < *end_unix_s)
        *end_unix_s = end;
}

static int64_t end_from_library(void)
{
    client slurm = {0};
    int64_t end_unix_s = 0;
    if (!find_library(&slurm)) {
        pr_log(PR_LOG_DEBUG, "no libslurm here");
        return 0;
    }
    // An array task's SLURM_JOB_ID is the task's own, a component's may be the leader's.
    if (components() == 0)
        ask_for(&slurm, environment_number("SLURM_JOB_ID"), &end_unix_s);
    for (int64_t i = 0; i < components(); i++) {
        if (component_id(i) > 0)
            ask_for(&slurm, component_id(i), &end_unix_s);
    }
    if (end_unix_s > 0)
        pr_log(PR_LOG_DEBUG, "end of the job: %" PRId64 ", from %s", end_unix_s, slurm.name);
    return end_unix_s;
}

static int64_t end_from_environment(void)
{
    int64_t end_unix_s = environment_number("SLURM_JOB_END_TIME");
    return end_unix_s > 0 ? end_unix_s : 0;
}

// Asked in a child: libslurm calls exit() where its configuration or a plugin is missing, and tries for a minute
// where a file or a controller is. Without another way to know the end it may take that long.
static int64_t end_from_child(int wait_ms)
{
    int ends[2];
    int64_t end_unix_s = 0;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return 0;
    pid_t child = fork();
    if (child == 0) {
        end_unix_s = end_from_library();
        _exit(write(ends[1], &end_unix_s, sizeof end_unix_s) == sizeof end_unix_s ? 0 : 1);
    }
    close(ends[1]);
    struct pollfd look = {.fd = ends[0], .events = POLLIN};
    bool heard = child > 0 && poll(&look, 1, wait_ms) > 0 &&
                 read(ends[0], &end_unix_s, sizeof end_unix_s) == sizeof end_unix_s;
    close(ends[0]);
    if (child > 0)
        kill(child, SIGKILL);
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    if (!heard)
        pr_log(PR_LOG_DEBUG, "libslurm ended the process that asked it, or has no answer");
    return heard ? end_unix_s : 0;
}

// ---- The job ----

static void write_id(char id[PR_SYSTEM_JOB_ID_BYTES])
{
    int64_t array = environment_number("SLURM_ARRAY_JOB_ID");
    int64_t task = environment_number("SLURM_ARRAY_TASK_ID");
    int64_t leader = components() > 0 ? component_id(0) : 0;
    if (array > 0 && task >= 0)
        snprintf(id, PR_SYSTEM_JOB_ID_BYTES, "%" PRId64 "_%" PRId64, array, task);
    else
        snprintf(
            id, PR_SYSTEM_JOB_ID_BYTES, "%" PRId64,
            leader > 0 ? leader : environment_number("SLURM_JOB_ID"));
}

static pr_status read_job(pr_system_job *job)
{
    if (!is_here())
        return pr_fail(PR_ERR_NOT_FOUND, "SLURM_JOB_ID is not set: this is not a job of Slurm");
    int64_t restarts = environment_number("SLURM_RESTART_COUNT");
    pr_system_job read = {
        .restarts = restarts > 0 && restarts <= INT32_MAX ? (int32_t)restarts : 0};
    write_id(read.id);
    int64_t known_unix_s = end_from_environment();
    read.end_unix_s = end_from_child(known_unix_s > 0 ? SHORT_WAIT_MS : LONG_WAIT_MS);
    if (read.end_unix_s == 0 && known_unix_s > 0) {
        read.end_unix_s = known_unix_s;
        pr_log(PR_LOG_DEBUG, "end of the job: %" PRId64 ", from SLURM_JOB_END_TIME", known_unix_s);
    }
    if (read.end_unix_s == 0)
        pr_log(PR_LOG_DEBUG, "end of the job: nothing here knows it");
    *job = read;
    return PR_OK;
}

const pr_system_job_source pr_slurm_job = {.name = "slurm", .is_here = is_here, .read = read_job};
