// SPDX-License-Identifier: BSD-3-Clause
#include "k8s-adapter/pod_job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/process_start.h"

static const char name_file[] = "/etc/podinfo/name";

enum { LONGEST_DEADLINE_S = 1000000000 };

static bool is_here(void)
{
    return getenv("KUBERNETES_SERVICE_HOST") || access(name_file, R_OK) == 0;
}

static bool take_id(const char *text, char id[PR_SYSTEM_JOB_ID_BYTES])
{
    if (!text || !*text)
        return false;
    // A longer name keeps its end, where pods of one set differ.
    size_t length = strcspn(text, "\n");
    const char *tail =
        length < PR_SYSTEM_JOB_ID_BYTES ? text : text + length - (PR_SYSTEM_JOB_ID_BYTES - 1);
    snprintf(id, PR_SYSTEM_JOB_ID_BYTES, "%.*s", (int)(length - (size_t)(tail - text)), tail);
    return *id;
}

static bool take_id_from_file(char id[PR_SYSTEM_JOB_ID_BYTES])
{
    char text[512] = "";
    FILE *file = fopen(name_file, "r");
    if (!file)
        return false;
    bool taken = fgets(text, sizeof text, file) && take_id(text, id);
    fclose(file);
    return taken;
}

// 0 if there is none.
static pr_status read_deadline(int64_t *deadline_s)
{
    const char *text = getenv("ACTIVE_DEADLINE_SECONDS");
    *deadline_s = 0;
    if (!text || !*text)
        return PR_OK;
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || number < 1 || number > LONGEST_DEADLINE_S)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "ACTIVE_DEADLINE_SECONDS is '%s': give the number of the manifest's "
            "activeDeadlineSeconds",
            text);
    *deadline_s = number;
    return PR_OK;
}

static pr_status read_job(pr_system_job *job)
{
    pr_system_job read = {0};
    int64_t deadline_s, start_unix_s = 0;
    if (!is_here())
        return pr_fail(PR_ERR_NOT_FOUND, "KUBERNETES_SERVICE_HOST is not set: this is not a pod");
    if (!take_id(getenv("POD_NAME"), read.id) && !take_id_from_file(read.id))
        (void)take_id(getenv("HOSTNAME"), read.id);
    PR_TRY(read_deadline(&deadline_s));
    if (deadline_s > 0) {
        PR_TRY(pr_process_start_read(1, &start_unix_s));
        read.end_unix_s = start_unix_s + deadline_s;
    }
    pr_log(
        PR_LOG_DEBUG, "end of the pod: %lld, from %s", (long long)read.end_unix_s,
        deadline_s > 0 ? "ACTIVE_DEADLINE_SECONDS" : "nothing: ACTIVE_DEADLINE_SECONDS is not set");
    *job = read;
    return PR_OK;
}

const pr_system_job_source pr_pod_job = {
    .name = "kubernetes", .is_here = is_here, .read = read_job};
