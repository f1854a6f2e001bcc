// SPDX-License-Identifier: BSD-3-Clause
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/world.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/gpu/gpu_choice.h"
#include "launcher/doctor/doctor_parts.h"
#include "launcher/doctor/text_file.h"
#include "launcher/engine/memory_budget.h"
#include "launcher/placement/thread_choice.h"
#include "runtime/base/log.h"

static void look_at_build(pr_findings *findings)
{
    const char *ucx = "without UCX", *mpi = "without MPI", *hwloc = "without hwloc";
#ifdef PR_HAVE_UCX
    ucx = "UCX";
#endif
#ifdef PR_HAVE_MPI
    mpi = "MPI";
#endif
#ifdef PR_HAVE_HWLOC
    hwloc = "hwloc";
#endif
#ifdef __clang__
    const char *compiler = "";  // its version text names it
#else
    const char *compiler = "gcc ";
#endif
    pr_finding_add(
        findings, PR_FINDING_OK, "version", "polyreme %s, built with %s%s; %s, %s, %s", PR_VERSION,
        compiler, __VERSION__, mpi, ucx, hwloc);
}

static void look_at_kernels(pr_findings *findings)
{
    pr_device *device;
    pr_error_capture_begin();
    pr_status status =
        pr_cpu_device_open(&(pr_cpu_device_params){.isa = "auto", .threads = 1}, &device);
    pr_error_capture_end();
    if (status != PR_OK) {
        pr_finding_advise(
            pr_finding_add(
                findings, PR_FINDING_PROBLEM, "kernels", "no CPU device: %s", pr_error_text()),
            "this program cannot compute here");
        return;
    }
    bool slow = strcmp(device->isa, "reference") == 0;
    pr_finding *finding = pr_finding_add(
        findings, slow ? PR_FINDING_NOTE : PR_FINDING_OK, "kernels", "%s kernels: %s", device->name,
        device->isa);
    if (slow)
        pr_finding_advise(finding, "this CPU lacks AVX2 with FMA: results are the same, only slow");
    pr_cpu_device_close(device);
}

static void look_at_cores(pr_findings *findings, const pr_topology *topology)
{
    pr_finding_add(
        findings, PR_FINDING_OK, "cores",
        "%d packages, %d NUMA nodes, %d cores, %d threads, of which %d are ours (%s)",
        (int)topology->packages, (int)topology->numa_nodes, (int)topology->cores,
        (int)topology->threads, (int)topology->usable_threads, topology->source);
    const char *local = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (!local || atoi(local) <= topology->usable_threads ||
        pr_doctor_environment_is("OMPI_MCA_mpi_yield_when_idle", "1"))
        return;
    pr_finding_advise(
        pr_finding_add(
            findings, PR_FINDING_PROBLEM, "cores", "%s ranks share %d threads and do not yield",
            local, (int)topology->usable_threads),
        "export OMPI_MCA_mpi_yield_when_idle=1, or waiting ranks slow the others a hundredfold");
}

// A mask may hold more cores than the group has time for.
static void
look_at_quota(pr_findings *findings, const pr_topology *topology, const pr_cgroup_limits *cgroup)
{
    if (cgroup->cpus <= 0)
        return;
    bool tight = cgroup->cpus < topology->usable_threads;
    int whole = cgroup->cpus < 1 ? 1 : (int)floor(cgroup->cpus);
    pr_finding *finding = pr_finding_add(
        findings, tight ? PR_FINDING_NOTE : PR_FINDING_OK, "CPU time",
        "this control group has time for %.1f CPUs, its mask has %d", cgroup->cpus,
        (int)topology->usable_threads);
    if (tight)
        pr_finding_advise(
            finding,
            "ranks x --threads should be %d at most, or all are stopped for a part of each tenth "
            "of "
            "a second; or ask for whole CPUs (a cpuset, Guaranteed pods with the static policy)",
            whole);
}

// Without MPI nothing is known of other ranks here: what one alone would do.
static void look_at_threads(pr_findings *findings, const pr_topology *topology)
{
    pr_thread_wish wish = {
        .bind = "auto",
        .granted = pr_world_is_launched() || !topology->whole,
    };
    pr_thread_choice choice;
    pr_rank_proposal here;
    char text[PR_THREAD_TEXT_BYTES], mpirun[PR_MPIRUN_TEXT_BYTES];
    pr_thread_choose(&topology->map, &topology->usable, 1, 0, &wish, &choice);
    pr_thread_propose(&topology->map, &topology->usable, &here);
    pr_thread_describe(&choice, text);
    pr_finding *finding =
        pr_finding_add(findings, PR_FINDING_OK, "threads", "a rank alone here: %s", text);
    if (here.ranks == 1)
        return;
    pr_thread_mpirun(&here, mpirun);
    pr_finding_advise(finding, "start one rank for each NUMA node: %s", mpirun);
}

static void
look_at_memory(pr_findings *findings, const pr_topology *topology, const pr_cgroup_limits *cgroup)
{
    char total[24], available[24], limit[24];
    pr_memory_text(topology->memory_bytes, total);
    pr_memory_text(topology->available_bytes, available);
    pr_memory_text(cgroup->memory_bytes, limit);
    bool tight = topology->available_bytes < (int64_t)1 << 30;
    bool limited = cgroup->memory_bytes > 0 && cgroup->memory_bytes < topology->memory_bytes;
    pr_finding *finding = pr_finding_add(
        findings, tight ? PR_FINDING_NOTE : PR_FINDING_OK, "memory", "%s, %s of it available%s%s",
        total, available, limited ? "; limit of this control group: " : "", limited ? limit : "");
    if (tight)
        pr_finding_advise(
            finding, "less than 1 GiB is free: only small models fit%s",
            limited ? "; ask for more (srun --mem, a pod's resources.limits.memory)" : "");
}

// "always [madvise] never"
static void look_at_huge_pages(pr_findings *findings)
{
    char line[128];
    if (!pr_text_file_read("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof line))
        return;
    bool never = strstr(line, "[never]") != NULL;
    pr_finding *finding = pr_finding_add(
        findings, never ? PR_FINDING_NOTE : PR_FINDING_OK, "huge pages",
        never ? "are switched off: weights lie on small pages" : "weights are laid on them");
    if (never)
        pr_finding_advise(
            finding,
            "root can change it: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; "
            "matmuls of one token gain most");
}

typedef struct gpu_list {
    pr_findings *findings;
    int32_t found;
} gpu_list;

static void add_gpu(void *context, const char *backend, int32_t index, const pr_gpu_facts *facts)
{
    gpu_list *list = context;
    char memory[24], free_bytes[24];
    pr_memory_text(facts->memory_bytes, memory);
    pr_memory_text(facts->free_bytes, free_bytes);
    pr_finding_add(
        list->findings, PR_FINDING_OK, "GPU", "--device %s:%d is %s (%s, %s), %s, %s of it free",
        backend, (int)index, facts->name, facts->architecture, facts->uuid, memory, free_bytes);
    list->found++;
}

static void look_at_gpus(pr_findings *findings)
{
    static const struct {
        const char *backend, *file;
    } kinds[] = {{"cuda", "/dev/nvidia0"}, {"hip", "/dev/kfd"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        gpu_list list = {.findings = findings};
        char why[256];
        pr_gpu_choice_list(kinds[i].backend, add_gpu, &list, why);
        if (list.found > 0 || access(kinds[i].file, F_OK) != 0)
            continue;
        pr_finding_advise(
            pr_finding_add(
                findings, PR_FINDING_NOTE, "GPU", "%s is there, but %s finds no device: %s",
                kinds[i].file, kinds[i].backend, why),
            "this program computes on the CPU here");
    }
}

void pr_machine_findings_add(
    pr_findings *findings, const pr_topology *topology, const pr_cgroup_limits *cgroup)
{
    look_at_build(findings);
    look_at_kernels(findings);
    look_at_cores(findings, topology);
    look_at_quota(findings, topology, cgroup);
    look_at_threads(findings, topology);
    look_at_memory(findings, topology, cgroup);
    look_at_huge_pages(findings);
    look_at_gpus(findings);
}
