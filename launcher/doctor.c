// SPDX-License-Identifier: BSD-3-Clause
// Each look_at_ function adds one or two findings; pr_doctor_examine lists them. The advice comes from
// what went wrong in practice with Open MPI 4.1, Slurm and containers.
#include "launcher/doctor.h"

#include <dirent.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "comm/world.h"
#include "kernels/cpu/cpu_device.h"
#include "launcher/commands.h"
#include "launcher/memory_budget.h"
#include "launcher/thread_choice.h"
#include "launcher/topology.h"
#include "runtime/base/log.h"

static const char *const level_names[] = {"ok", "warn", "fail"};

// The new finding, to which advice may be added.
__attribute__((format(printf, 4, 5))) static pr_finding *
add(pr_findings *findings, pr_finding_level level, const char *subject, const char *format, ...)
{
    if (findings->count == PR_MAX_FINDINGS)
        findings->count--;
    pr_finding *finding = &findings->finding[findings->count++];
    *finding = (pr_finding){.level = level, .subject = subject};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->text, sizeof finding->text, format, arguments);
    va_end(arguments);
    return finding;
}

static void advise(pr_finding *finding, const char *advice)
{
    snprintf(finding->advice, sizeof finding->advice, "%s", advice);
}

static bool environment_is(const char *name, const char *value)
{
    const char *set = getenv(name);
    return set && strcmp(set, value) == 0;
}

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
    add(findings, PR_FINDING_OK, "version", "polyreme %s, built with %s%s; %s, %s, %s", PR_VERSION,
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
        advise(
            add(findings, PR_FINDING_FAIL, "kernels", "no CPU device: %s", pr_error_text()),
            "this program cannot compute here");
        return;
    }
    bool slow = strcmp(device->isa, "reference") == 0;
    pr_finding *finding =
        add(findings, slow ? PR_FINDING_WARN : PR_FINDING_OK, "kernels", "%s kernels: %s",
            device->name, device->isa);
    if (slow)
        advise(finding, "this CPU lacks AVX2 with FMA: results are the same, only slow");
    pr_cpu_device_close(device);
}

static void look_at_cores(pr_findings *findings, const pr_topology *topology)
{
    add(findings, PR_FINDING_OK, "cores",
        "%d packages, %d NUMA nodes, %d cores, %d threads, of which %d are ours (%s)",
        (int)topology->packages, (int)topology->numa_nodes, (int)topology->cores,
        (int)topology->threads, (int)topology->usable_threads, topology->source);
    const char *local = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (!local || atoi(local) <= topology->usable_threads ||
        environment_is("OMPI_MCA_mpi_yield_when_idle", "1"))
        return;
    advise(
        add(findings, PR_FINDING_WARN, "cores", "%s ranks share %d threads", local,
            (int)topology->usable_threads),
        "export OMPI_MCA_mpi_yield_when_idle=1, or waiting ranks slow the others a hundredfold");
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
    pr_finding *finding = add(findings, PR_FINDING_OK, "threads", "a rank alone here: %s", text);
    if (here.ranks == 1)
        return;
    pr_thread_mpirun(&here, mpirun);
    snprintf(
        finding->advice, sizeof finding->advice, "start one rank for each NUMA node: %s", mpirun);
}

static void look_at_memory(pr_findings *findings, const pr_topology *topology)
{
    char total[24], available[24], limit[24];
    pr_memory_text(topology->memory_bytes, total);
    pr_memory_text(topology->available_bytes, available);
    pr_memory_text(topology->cgroup_limit_bytes, limit);
    bool tight = topology->available_bytes < (int64_t)1 << 30;
    pr_finding *finding = add(
        findings, tight ? PR_FINDING_WARN : PR_FINDING_OK, "memory", "%s, %s of it available%s%s",
        total, available, topology->cgroup_limit_bytes ? "; limit of this cgroup: " : "",
        topology->cgroup_limit_bytes ? limit : "");
    if (tight)
        advise(finding, "less than 1 GiB is free: only small models fit");
}

static void look_at_limits(pr_findings *findings)
{
    struct rlimit files, locked;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || getrlimit(RLIMIT_MEMLOCK, &locked) != 0)
        return;
    bool few = files.rlim_cur < 1024;
    pr_finding *finding =
        add(findings, few ? PR_FINDING_WARN : PR_FINDING_OK, "open files", "at most %" PRIu64,
            (uint64_t)files.rlim_cur);
    if (few)
        advise(finding, "ulimit -n 4096: rank 0 keeps a connection to every rank");
    if (locked.rlim_cur == RLIM_INFINITY) {
        add(findings, PR_FINDING_OK, "locked memory", "unlimited");
        return;
    }
    char limit[24];
    pr_memory_text((int64_t)locked.rlim_cur, limit);
    finding = add(findings, PR_FINDING_OK, "locked memory", "at most %s", limit);
    DIR *fabric = opendir("/sys/class/infiniband");
    if (fabric) {
        finding->level = PR_FINDING_WARN;
        advise(finding, "ulimit -l unlimited: RDMA fabrics need to pin memory");
        closedir(fabric);
    }
}

static void look_at_shared_memory(pr_findings *findings)
{
    struct statvfs shm;
    char free_text[24];
    if (statvfs("/dev/shm", &shm) != 0) {
        advise(
            add(findings, PR_FINDING_WARN, "/dev/shm", "is missing"),
            "mount a tmpfs there: MPI ranks of one node talk through it");
        return;
    }
    int64_t bytes = (int64_t)shm.f_bavail * (int64_t)shm.f_frsize;
    bool small = bytes < (int64_t)256 << 20;
    pr_memory_text(bytes, free_text);
    pr_finding *finding =
        add(findings, small ? PR_FINDING_WARN : PR_FINDING_OK, "/dev/shm", "%s free", free_text);
    if (small)
        advise(finding, "containers: start with --shm-size=1g or more, MPI needs it within a node");
}

static void look_at_mpi(pr_findings *findings)
{
    const char *library = pr_world_library();
    bool launched = pr_world_is_launched();
    if (strcmp(library, "none") == 0) {
        advise(
            add(findings, PR_FINDING_WARN, "MPI", "not built in: one process only"),
            "install libopenmpi-dev (or load an MPI module) and build again for many ranks");
        return;
    }
    add(findings, PR_FINDING_OK, "MPI", "%s; %s", library,
        launched ? "started under a launcher" : "not started under mpirun or srun: one process");
    if (!strstr(library, "Open MPI"))
        return;
    if (geteuid() == 0 && !environment_is("OMPI_ALLOW_RUN_AS_ROOT", "1"))
        advise(
            add(findings, PR_FINDING_WARN, "root", "Open MPI's mpirun refuses to run as root"),
            "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, or use another "
            "user");
    if (!environment_is("OMPI_MCA_mpi_yield_when_idle", "1"))
        advise(
            add(findings, PR_FINDING_OK, "yielding", "OMPI_MCA_mpi_yield_when_idle is not set"),
            "with more ranks than cores: export OMPI_MCA_mpi_yield_when_idle=1 "
            "OMPI_MCA_rmaps_base_oversubscribe=1");
}

// Debian and Ubuntu switch UCX off in Open MPI's system-wide settings.
static void look_at_ucx(pr_findings *findings)
{
#ifdef PR_HAVE_UCX
    add(findings, PR_FINDING_OK, "control plane", "UCX (or TCP sockets with --control tcp)");
#else
    advise(
        add(findings, PR_FINDING_OK, "control plane", "TCP sockets; built without UCX"),
        "install libucx-dev and build again to notice lost ranks in milliseconds");
#endif
    char line[256];
    bool off = false;
    FILE *file = fopen("/etc/openmpi/openmpi-mca-params.conf", "r");
    while (file && fgets(line, sizeof line, file))
        off |= strncmp(line, "pml", 3) == 0 && strstr(line, "^ucx") != NULL;
    if (file)
        fclose(file);
    if (off && !getenv("OMPI_MCA_pml"))
        advise(
            add(findings, PR_FINDING_OK, "data plane",
                "this system's settings switch UCX off in Open MPI (pml = ^ucx)"),
            "fine on one node; on InfiniBand: export OMPI_MCA_pml=ucx OMPI_MCA_osc=sm,ucx");
}

static void look_at_slurm(pr_findings *findings)
{
    const char *job = getenv("SLURM_JOB_ID");
    if (!job)
        return;
    add(findings, PR_FINDING_OK, "Slurm", "job %s; start with: srun --mpi=pmix polyreme ...", job);
    if (!environment_is("SLURM_PMIX_FENCE", "ring"))
        advise(
            add(findings, PR_FINDING_WARN, "Slurm", "SLURM_PMIX_FENCE is not 'ring'"),
            "export SLURM_PMIX_FENCE=ring: with the default, starts over several nodes can crash");
}

static void look_at_gpus(pr_findings *findings)
{
    if (access("/dev/nvidia0", F_OK) == 0 || access("/dev/kfd", F_OK) == 0)
        add(findings, PR_FINDING_OK, "GPU", "there is one; this version computes on the CPU only");
}

void pr_doctor_examine(pr_findings *findings)
{
    pr_topology topology;
    findings->count = 0;
    pr_topology_read(&topology);
    look_at_build(findings);
    look_at_kernels(findings);
    look_at_cores(findings, &topology);
    look_at_threads(findings, &topology);
    look_at_memory(findings, &topology);
    look_at_limits(findings);
    look_at_shared_memory(findings);
    look_at_mpi(findings);
    look_at_ucx(findings);
    look_at_slurm(findings);
    look_at_gpus(findings);
}

static void print_text(const pr_findings *findings)
{
    for (int32_t i = 0; i < findings->count; i++) {
        const pr_finding *finding = &findings->finding[i];
        printf("%-4s  %-14s %s\n", level_names[finding->level], finding->subject, finding->text);
        if (finding->advice[0])
            printf("      %-14s -> %s\n", "", finding->advice);
    }
}

static pr_status print_json(const pr_findings *findings)
{
    json_t *list = json_array();
    for (int32_t i = 0; i < findings->count; i++) {
        const pr_finding *finding = &findings->finding[i];
        json_array_append_new(
            list, json_pack(
                      "{s:s, s:s, s:s, s:s}", "level", level_names[finding->level], "subject",
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
    pr_doctor_examine(&findings);
    if (!options->json)
        print_text(&findings);
    else if (print_json(&findings) != PR_OK)
        return PR_EXIT_MEMORY;
    for (int32_t i = 0; i < findings.count; i++)
        failed |= findings.finding[i].level == PR_FINDING_FAIL;
    return failed ? PR_EXIT_INTERNAL : PR_EXIT_OK;
}
