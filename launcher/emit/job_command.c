// SPDX-License-Identifier: BSD-3-Clause
// `polyreme job`: which job this is and when it ends, for scripts and people; job_choice.h asks it too.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "launcher/commands.h"
#include "launcher/job_choice.h"
#include "runtime/base/log.h"

static pr_status print_json(const char *source, const pr_system_job *job)
{
    json_t *root = json_pack(
        "{s:s, s:s, s:i, s:I}", "source", source, "id", job->id, "restarts", (int)job->restarts,
        "end_unix_s", (json_int_t)job->end_unix_s);
    char *text = root ? json_dumps(root, 0) : NULL;
    json_decref(root);
    if (!text)
        return pr_fail(PR_ERR_FORMAT, "the id of the job is not UTF-8");
    puts(text);
    free(text);
    return PR_OK;
}

static void print_text(const char *source, const pr_system_job *job)
{
    time_t end = (time_t)job->end_unix_s;
    struct tm parts;
    char when[32];
    printf("%s job %s, started %d times before", source, job->id, (int)job->restarts);
    if (end == 0) {
        puts(", no end is known");
        return;
    }
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", localtime_r(&end, &parts));
    printf(", ends %s, in %lld s\n", when, (long long)(end - time(NULL)));
}

int pr_job_command(const pr_options *options)
{
    const pr_system_job_source *source = pr_job_choice_source();
    pr_system_job job = {0};
    pr_status status = source ? source->read(&job)
                              : pr_fail(
                                    PR_ERR_NOT_FOUND,
                                    "neither SLURM_JOB_ID nor KUBERNETES_SERVICE_HOST is set: this "
                                    "process runs in no job");
    if (status != PR_OK)
        return pr_exit_code(status);
    if (!options->json)
        print_text(source->name, &job);
    else
        status = print_json(source->name, &job);
    return pr_exit_code(status);
}
