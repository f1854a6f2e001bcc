// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/doctor/doctor.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/doctor/doctor_parts.h"
#include "runtime/base/log.h"

bool pr_doctor_environment_is(const char *name, const char *value)
{
    const char *set = getenv(name);
    return set && strcmp(set, value) == 0;
}

void pr_doctor_examine(const char *model, bool start_mpi, pr_findings *findings)
{
    pr_topology topology;
    pr_cgroup_limits cgroup;
    pr_mpi_facts facts;
    findings->count = 0;
    pr_topology_read(&topology);
    pr_cgroup_limits_read("", &cgroup);
    pr_machine_findings_add(findings, &topology, &cgroup);
    pr_limit_findings_add(findings, &cgroup);
    pr_mpi_findings_add(findings, start_mpi, &facts);
    pr_slurm_findings_add(findings, &facts);
    pr_file_findings_add(findings, model);
}

static void print_text(const pr_findings *findings)
{
    for (int32_t i = 0; i < findings->count; i++) {
        const pr_finding *finding = &findings->finding[i];
        printf(
            "%-7s  %-14s %s\n", pr_finding_level_name(finding->level), finding->subject,
            finding->text);
        if (finding->advice[0])
            printf("         %-14s -> %s\n", "", finding->advice);
    }
}

static pr_status print_json(const pr_findings *findings)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < findings->count; i++) {
        const pr_finding *finding = &findings->finding[i];
        json_array_append_new(
            list,
            json_pack(
                "{s:s, s:s, s:s, s:s}", "level", pr_finding_level_name(finding->level), "subject",
                finding->subject, "text", finding->text, "advice", finding->advice));
    }
    json_t *root = json_pack("{s:s, s:o}", "version", PR_VERSION, "findings", list);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text)
        return pr_fail(PR_ERR_RESOURCE, "out of memory while printing the findings");
    puts(text);
    free(text);
    return PR_OK;
}

int pr_doctor_command(const pr_options *options)
{
    pr_findings findings;
    bool failed = false;
    pr_doctor_examine(options->model, options->start_mpi, &findings);
    if (!options->json)
        print_text(&findings);
    else if (print_json(&findings) != PR_OK)
        return PR_EXIT_MEMORY;
    for (int32_t i = 0; i < findings.count; i++)
        failed |= findings.finding[i].level == PR_FINDING_PROBLEM;
    return failed ? PR_EXIT_INTERNAL : PR_EXIT_OK;
}
