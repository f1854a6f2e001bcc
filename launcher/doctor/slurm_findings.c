// SPDX-License-Identifier: BSD-3-Clause
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/doctor/child_output.h"
#include "launcher/doctor/doctor_parts.h"
#include "launcher/doctor/srun_types.h"
#include "launcher/placement/rank_seat.h"

enum { SRUN_LIMIT_MS = 5000 };

static void look_at_plugins(pr_findings *findings, const pr_mpi_facts *facts, bool in_job)
{
    static const char *const words[] = {"srun", "--mpi=list", NULL};
    char text[4096], types[PR_SRUN_TYPES_BYTES];
    pr_child_end end = pr_child_output_of(words, SRUN_LIMIT_MS, text, sizeof text);
    if (end == PR_CHILD_MISSING || (end != PR_CHILD_DONE && !in_job))
        return;  // no Slurm here
    if (end != PR_CHILD_DONE) {
        pr_finding_add(
            findings, PR_FINDING_NOTE, "srun", "srun --mpi=list %s",
            end == PR_CHILD_LATE ? "did not answer within 5 s" : "failed");
        return;
    }
    pr_srun_types_list(text, types);
    bool pmix = strstr(types, "pmix") != NULL, open = facts->kind == PR_MPI_OPEN;
    pr_finding_level level = pmix || !open ? PR_FINDING_OK
                             : in_job      ? PR_FINDING_PROBLEM
                                           : PR_FINDING_NOTE;
    pr_finding *finding =
        pr_finding_add(findings, level, "srun", "can start MPI programs by: %s", types);
    if (!open)
        pr_finding_advise(finding, "MPICH needs srun --mpi=pmi2; Open MPI --mpi=pmix");
    else if (pmix)
        pr_finding_advise(finding, "srun --mpi=pmix polyreme ...");
    else
        pr_finding_advise(
            finding,
            "Open MPI needs pmix: install Slurm's plugin for it, or use mpirun in the job");
}

// Slurm's own words for srun --mpi if none is given.
static void look_at_default(pr_findings *findings, const pr_mpi_facts *facts)
{
    const char *type = getenv("SLURM_MPI_TYPE");
    if (!type || facts->kind != PR_MPI_OPEN || strncmp(type, "pmix", 4) == 0)
        return;
    pr_finding_advise(
        pr_finding_add(findings, PR_FINDING_NOTE, "srun", "its default here is --mpi=%s", type),
        "Open MPI needs --mpi=pmix: give it, or export SLURM_MPI_TYPE=pmix");
}

static void look_at_switches(pr_findings *findings)
{
    char switches[PR_SWITCH_BYTES];
    pr_rank_switches_of(
        getenv("SLURM_TOPOLOGY_ADDR"), getenv("SLURM_TOPOLOGY_ADDR_PATTERN"), switches);
    pr_finding_add(
        findings, PR_FINDING_OK, "switches",
        switches[0] ? "this node is under %s; groups are kept under few of them"
                    : "Slurm does not say which nodes are near%s",
        switches);
}

void pr_slurm_findings_add(pr_findings *findings, const pr_mpi_facts *facts)
{
    const char *job = getenv("SLURM_JOB_ID");
    if (job)
        pr_finding_add(
            findings, PR_FINDING_OK, "Slurm", "job %s; start with: srun --mpi=pmix polyreme ...",
            job);
    look_at_plugins(findings, facts, job != NULL);
    if (!job)
        return;
    look_at_default(findings, facts);
    if (facts->kind == PR_MPI_OPEN && !pr_doctor_environment_is("SLURM_PMIX_FENCE", "ring"))
        pr_finding_advise(
            pr_finding_add(findings, PR_FINDING_NOTE, "Slurm", "SLURM_PMIX_FENCE is not 'ring'"),
            "export SLURM_PMIX_FENCE=ring: with the default, starts over several nodes can crash");
    look_at_switches(findings);
}
