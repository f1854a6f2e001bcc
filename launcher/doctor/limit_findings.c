// SPDX-License-Identifier: BSD-3-Clause
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "launcher/doctor/child_output.h"
#include "launcher/doctor/doctor_parts.h"
#include "launcher/doctor/process_limits.h"
#include "launcher/doctor/text_file.h"
#include "launcher/engine/memory_budget.h"

enum { FEW_FILES = 1024, FEW_PROCESSES = 512, COPY_LIMIT_MS = 2000 };

// "8.0 MiB", "unlimited".
static void write_bytes(int64_t bytes, char text[24])
{
    if (bytes == PR_LIMIT_NONE)
        snprintf(text, 24, "unlimited");
    else
        pr_memory_text(bytes, text);
}

static void look_at_files(pr_findings *findings, const char *limits)
{
    pr_process_limit limit;
    if (!pr_process_limits_find(limits, "Max open files", &limit))
        return;
    bool few = limit.soft != PR_LIMIT_NONE && limit.soft < FEW_FILES;
    pr_finding *finding = pr_finding_add(
        findings, few ? PR_FINDING_NOTE : PR_FINDING_OK, "open files", "at most %" PRId64,
        limit.soft);
    if (few)
        pr_finding_advise(
            finding,
            "ulimit -n %" PRId64
            ": rank 0 keeps two connections to every rank, and one to every client",
            limit.hard == PR_LIMIT_NONE || limit.hard > 65536 ? 65536 : limit.hard);
}

static void
look_at_processes(pr_findings *findings, const char *limits, const pr_cgroup_limits *cgroup)
{
    pr_process_limit limit;
    if (!pr_process_limits_find(limits, "Max processes", &limit))
        return;
    int64_t most = limit.soft;
    bool of_group = cgroup->processes > 0 && (most == PR_LIMIT_NONE || cgroup->processes < most);
    most = of_group ? cgroup->processes : most;
    if (most == PR_LIMIT_NONE) {
        pr_finding_add(findings, PR_FINDING_OK, "processes", "unlimited");
        return;
    }
    bool few = most < FEW_PROCESSES;
    pr_finding *finding = pr_finding_add(
        findings, few ? PR_FINDING_NOTE : PR_FINDING_OK, "processes", "at most %" PRId64 "%s", most,
        of_group ? ", by this control group" : "");
    if (few)
        pr_finding_advise(
            finding, "threads count, of all ranks of a user or group on a node: %s",
            of_group ? "raise its pids.max (kubelet: podPidsLimit)" : "ulimit -u 4096");
}

static bool has_fabric(void)
{
    return access("/sys/class/infiniband", F_OK) == 0 || access("/sys/class/cxi", F_OK) == 0;
}

static void look_at_locked_memory(pr_findings *findings, const char *limits)
{
    pr_process_limit limit;
    char text[24];
    if (!pr_process_limits_find(limits, "Max locked memory", &limit))
        return;
    bool needed = limit.soft != PR_LIMIT_NONE && has_fabric();
    write_bytes(limit.soft, text);
    pr_finding *finding = pr_finding_add(
        findings, needed ? PR_FINDING_PROBLEM : PR_FINDING_OK, "locked memory", "at most %s", text);
    if (needed)
        pr_finding_advise(
            finding, "ulimit -l unlimited: fabrics with RDMA pin memory. Under Slurm slurmd's own "
                     "limit counts "
                     "(LimitMEMLOCK=infinity in its unit)");
}

static void look_at_address_space(pr_findings *findings, const char *limits)
{
    static const struct {
        const char *name, *flag;
    } part[] = {{"Max address space", "-v"}, {"Max data size", "-d"}};
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        pr_process_limit limit;
        char text[24];
        if (!pr_process_limits_find(limits, part[i].name, &limit) || limit.soft == PR_LIMIT_NONE)
            continue;
        write_bytes(limit.soft, text);
        pr_finding_advise(
            pr_finding_add(
                findings, PR_FINDING_NOTE, "address space", "%s is limited to %s", part[i].name + 4,
                text),
            "ulimit %s unlimited: weights are mapped, and KV memory is reserved before it is used",
            part[i].flag);
    }
}

static void look_at_core_dumps(pr_findings *findings, const char *limits)
{
    pr_process_limit limit;
    char pattern[256] = "", text[24];
    if (!pr_process_limits_find(limits, "Max core file size", &limit))
        return;
    pr_text_file_read("/proc/sys/kernel/core_pattern", pattern, sizeof pattern);
    if (limit.soft == 0) {
        pr_finding_add(
            findings, PR_FINDING_OK, "core dumps",
            "off; for a crash to report: ulimit -c unlimited");
        return;
    }
    write_bytes(limit.soft, text);
    pr_finding *finding = pr_finding_add(
        findings, PR_FINDING_OK, "core dumps", "at most %s each, by the pattern '%s'", text,
        pattern);
    if (pattern[0] == '|' || limit.soft == PR_LIMIT_NONE || limit.soft > (int64_t)1 << 30)
        pr_finding_advise(
            finding,
            "each rank writes its weights and KV if it crashes; ulimit -c 0 if that is too much");
}

static void look_at_shared_memory(pr_findings *findings)
{
    struct statvfs shm;
    char free_text[24];
    if (statvfs("/dev/shm", &shm) != 0) {
        pr_finding_advise(
            pr_finding_add(findings, PR_FINDING_PROBLEM, "/dev/shm", "is missing"),
            "mount a tmpfs there: ranks of one node talk through it");
        return;
    }
    int64_t bytes = (int64_t)shm.f_bavail * (int64_t)shm.f_frsize;
    bool small = bytes < (int64_t)256 << 20;
    pr_memory_text(bytes, free_text);
    pr_finding *finding = pr_finding_add(
        findings, small ? PR_FINDING_NOTE : PR_FINDING_OK, "/dev/shm", "%s free", free_text);
    if (small)
        pr_finding_advise(
            finding,
            "containers: start with --shm-size=1g or more (pods: an emptyDir with medium: Memory "
            "mounted there), or ranks of a node fall back to messages");
}

static void copy_from_parent(void *context, int output)
{
    char there[8], here[8] = "";
    struct iovec local = {here, sizeof here}, remote = {context, sizeof there};
    char answer = process_vm_readv(getppid(), &local, 1, &remote, 1, 0) == sizeof here ? 'y' : 'n';
    ssize_t written = write(output, &answer, 1);
    (void)written;
}

// Whether one rank may copy from another's memory: a child is no more to us than another rank is.
static void look_at_copying(pr_findings *findings)
{
    char word[8] = "copies", answer = 'n', scope[16] = "";
    int32_t bytes = 0;
    pr_child_output_call(copy_from_parent, word, COPY_LIMIT_MS, &answer, 1, &bytes);
    bool may = bytes == 1 && answer == 'y';
    bool yama = pr_text_file_read("/proc/sys/kernel/yama/ptrace_scope", scope, sizeof scope) &&
                scope[0] != '0';
    pr_finding *finding = pr_finding_add(
        findings, may ? PR_FINDING_OK : PR_FINDING_NOTE, "copying",
        may ? "ranks may copy from each other's memory (CMA)"
            : "ranks may not copy from each other's memory (CMA)%s%s",
        yama ? ": kernel.yama.ptrace_scope is " : "", yama ? scope : "");
    if (!may)
        pr_finding_advise(
            finding,
            "MPI copies twice instead. To spare it the attempt: export "
            "OMPI_MCA_btl_vader_single_copy_mechanism=none (Open MPI 5: "
            "OMPI_MCA_smsc=^cma)%s",
            yama ? "; or sysctl kernel.yama.ptrace_scope=0" : "; containers: --cap-add SYS_PTRACE");
}

void pr_limit_findings_add(pr_findings *findings, const pr_cgroup_limits *cgroup)
{
    char *limits = pr_text_file_load("/proc/self/limits");
    if (limits) {
        look_at_files(findings, limits);
        look_at_processes(findings, limits, cgroup);
        look_at_locked_memory(findings, limits);
        look_at_address_space(findings, limits);
        look_at_core_dumps(findings, limits);
    }
    free(limits);
    look_at_shared_memory(findings);
    look_at_copying(findings);
}
