// SPDX-License-Identifier: BSD-3-Clause
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "launcher/doctor/doctor_parts.h"
#include "launcher/doctor/mount_table.h"
#include "launcher/doctor/text_file.h"
#include "launcher/engine/memory_budget.h"

typedef struct place {
    char path[PATH_MAX];
    pr_mount mount;
    char free_text[24];
    bool read_only;
} place;

static bool find_place(const char *path, const char *mountinfo, place *found)
{
    struct statvfs space;
    if (!realpath(path, found->path) || !pr_mount_table_find(mountinfo, found->path, &found->mount))
        return false;
    snprintf(found->free_text, sizeof found->free_text, "unknown space");
    found->read_only = false;
    if (statvfs(found->path, &space) == 0) {
        pr_memory_text((int64_t)space.f_bavail * (int64_t)space.f_frsize, found->free_text);
        found->read_only = (space.f_flag & ST_RDONLY) != 0;
    }
    return true;
}

static void look_at_model(pr_findings *findings, const char *model, const char *mountinfo)
{
    place at;
    if (!find_place(model, mountinfo, &at)) {
        pr_finding_add(findings, PR_FINDING_PROBLEM, "model", "%.200s: %s", model, strerror(errno));
        return;
    }
    bool parallel = at.mount.kind == PR_MOUNT_PARALLEL, network = at.mount.kind == PR_MOUNT_NETWORK;
    pr_finding *finding = pr_finding_add(
        findings, network ? PR_FINDING_NOTE : PR_FINDING_OK, "model", "%.200s: %s, %s", at.path,
        at.mount.type, pr_mount_kind_text(at.mount.kind));
    if (network)
        pr_finding_advise(
            finding, "all nodes read it through one server: copy it to each node's own disk first "
                     "(sbcast, or "
                     "srun --ntasks-per-node=1 cp -r), or to a parallel file system");
    else if (parallel && strcmp(at.mount.type, "lustre") == 0)
        pr_finding_advise(
            finding,
            "large files should be striped over several servers before they are written: lfs "
            "setstripe "
            "-c 8 -S 16M DIR, then copy the model there; lfs getstripe -c FILE says how it is");
    else if (parallel)
        pr_finding_advise(
            finding, "good for many nodes that start at once; --load read asks in large pieces");
    else if (at.mount.kind == PR_MOUNT_MEMORY)
        pr_finding_advise(
            finding, "it fills memory of its own, which counts in this control group; converted "
                     "models are used in place there (polyreme convert)");
    else if (at.mount.kind == PR_MOUNT_OVERLAY)
        pr_finding_advise(
            finding, "reads from an image's layers are slow the first time; a volume is better");
}

static void look_at_directory(pr_findings *findings, const char *mountinfo)
{
    place at;
    if (!find_place(".", mountinfo, &at)) {
        pr_finding_advise(
            pr_finding_add(
                findings, PR_FINDING_PROBLEM, "directory", "this directory cannot be found: %s",
                strerror(errno)),
            "srun starts ranks in the directory of the same name on each node: it must be there");
        return;
    }
    bool memory = at.mount.kind == PR_MOUNT_MEMORY;
    bool lost = at.read_only || memory || at.mount.kind == PR_MOUNT_OVERLAY;
    pr_finding *finding = pr_finding_add(
        findings, lost ? PR_FINDING_NOTE : PR_FINDING_OK, "directory", "%.200s: %s, %s, %s free%s",
        at.path, at.mount.type, pr_mount_kind_text(at.mount.kind), at.free_text,
        at.read_only ? ", read only" : "");
    if (at.read_only)
        pr_finding_advise(finding, "write outputs elsewhere: -o PATH");
    else if (lost)
        pr_finding_advise(
            finding,
            "what a batch writes here is gone with the %s: journals belong on a file system "
            "that the next job sees",
            memory ? "node" : "container");
}

void pr_file_findings_add(pr_findings *findings, const char *model)
{
    char *mountinfo = pr_text_file_load("/proc/self/mountinfo");
    if (!mountinfo)
        return;
    if (model)
        look_at_model(findings, model, mountinfo);
    else
        pr_finding_add(
            findings, PR_FINDING_OK, "model",
            "none named; polyreme doctor MODEL says where it lies");
    look_at_directory(findings, mountinfo);
    free(mountinfo);
}
