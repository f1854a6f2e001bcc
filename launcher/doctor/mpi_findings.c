// SPDX-License-Identifier: BSD-3-Clause
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/world.h"
#include "launcher/doctor/child_output.h"
#include "launcher/doctor/doctor_parts.h"
#include "launcher/doctor/mca_settings.h"
#include "launcher/doctor/text_file.h"

enum { READ_LIMIT_MS = 10000, START_LIMIT_MS = 20000, MPIRUN_LIMIT_MS = 5000 };

// ---- the library, asked in a child ----

static void send_facts(void *context, int output)
{
    const bool *start = context;
    pr_mpi_facts facts;
    pr_mpi_facts_read(&facts);
    // Twice: what is known before the start survives a start that hangs.
    ssize_t written = write(output, &facts, sizeof facts);
    if (*start && written == sizeof facts) {
        pr_mpi_facts_start(&facts);
        written = write(output, &facts, sizeof facts);
    }
    (void)written;
}

// False: not even the first answer came.
static bool ask(bool start, pr_mpi_facts *facts, pr_child_end *end)
{
    pr_mpi_facts answer[2];
    int32_t bytes = 0;
    *end = pr_child_output_call(
        send_facts, &start, start ? START_LIMIT_MS : READ_LIMIT_MS, answer, sizeof answer, &bytes);
    int32_t answers = bytes / (int32_t)sizeof answer[0];
    if (answers > 0)
        *facts = answer[answers - 1];
    return answers > 0;
}

// ---- findings ----

static void look_at_library(pr_findings *findings, const pr_mpi_facts *facts)
{
    pr_finding *finding = pr_finding_add(
        findings, PR_FINDING_OK, "MPI", "%s, MPI %d.%d; %s", pr_world_library(),
        (int)facts->version, (int)facts->subversion,
        pr_world_is_launched() ? "started under a launcher"
                               : "not started under mpirun or srun: one process");
    if (facts->kind == PR_MPI_OPEN && facts->major != facts->built_major) {
        finding->level = PR_FINDING_PROBLEM;
        pr_finding_advise(
            finding,
            "this program was compiled for Open MPI %d.%d: build it again, or load that module",
            (int)facts->built_major, (int)facts->built_minor);
    } else if (facts->kind == PR_MPI_OPEN && facts->major >= 5) {
        pr_finding_advise(
            finding,
            "Open MPI 5: mpirun's settings are PRRTE's (mpirun --map-by :OVERSUBSCRIBE, "
            "--bind-to), "
            "the shared memory btl is called sm, and going on without a lost rank was not tried "
            "(docs/recovery.md is about 4.1)");
    } else if (facts->kind == PR_MPI_MPICH) {
        pr_finding_advise(
            finding, "MPICH: under Slurm use srun --mpi=pmi2 unless it was built with PMIx; its "
                     "mpiexec ends "
                     "all ranks when one is lost, so restart with --resume");
    }
}

// A launcher of another MPI starts every process as a world of its own.
static void look_at_mpirun(pr_findings *findings, const pr_mpi_facts *facts)
{
    static const char *const words[] = {"mpirun", "--version", NULL};
    char text[2048];
    pr_child_end end = pr_child_output_of(words, MPIRUN_LIMIT_MS, text, sizeof text);
    bool ours = facts->kind == PR_MPI_MPICH ? strstr(text, "HYDRA") != NULL
                                            : strstr(text, "Open MPI") || strstr(text, "prte");
    int major = 0, minor = 0;
    const char *number = strstr(text, "(Open MPI) ");
    bool versioned = number && sscanf(number, "(Open MPI) %d.%d", &major, &minor) == 2;
    text[strcspn(text, "\n")] = '\0';
    if (end == PR_CHILD_MISSING) {
        pr_finding_advise(
            pr_finding_add(findings, PR_FINDING_NOTE, "mpirun", "is not in the PATH"),
            "srun --mpi=pmix starts ranks without it; else install openmpi-bin or load the module");
        return;
    }
    if (end != PR_CHILD_DONE) {
        pr_finding_add(findings, PR_FINDING_NOTE, "mpirun", "--version failed: %.200s", text);
        return;
    }
    if (facts->kind == PR_MPI_OTHER || (ours && (!versioned || major == facts->major))) {
        pr_finding_add(findings, PR_FINDING_OK, "mpirun", "%.200s", text);
        return;
    }
    pr_finding_advise(
        pr_finding_add(
            findings, PR_FINDING_PROBLEM, "mpirun", "is of another MPI than this program: %.200s",
            text),
        "every process would be a world of its own: load the module that this program was built "
        "with, "
        "or give the other mpirun's whole path");
}

static void look_at_start(pr_findings *findings, const pr_mpi_facts *facts, pr_child_end end)
{
    if (!facts->started) {
        pr_finding_advise(
            pr_finding_add(
                findings, PR_FINDING_PROBLEM, "MPI start", "%s",
                end == PR_CHILD_LATE ? "did not come back within 20 s"
                                     : "failed; the library's own words are lost here"),
            "see it fail: mpirun -n 1 polyreme generate MODEL -p x. Often a fabric's driver, a "
            "full "
            "/tmp, or an srun without --mpi=pmix");
        return;
    }
    pr_finding *finding = pr_finding_add(
        findings, facts->thread_level_enough ? PR_FINDING_OK : PR_FINDING_PROBLEM, "MPI start",
        "works: %d rank%s, %d on this node; %s provided, MPI_THREAD_FUNNELED needed",
        (int)facts->ranks, facts->ranks == 1 ? "" : "s", (int)facts->node_ranks,
        facts->thread_level);
    if (!facts->thread_level_enough)
        pr_finding_advise(finding, "this MPI was built without threads: build or load another");
}

static void look_at_threads_of_mpi(pr_findings *findings)
{
    pr_finding_advise(
        pr_finding_add(
            findings, PR_FINDING_OK, "MPI start", "not tried; MPI_THREAD_FUNNELED is needed"),
        "polyreme doctor --start-mpi tries it, also under mpirun or srun");
}

// Which of Open MPI's files gives a setting, for people who want to change it.
static void name_origin(const pr_mpi_facts *facts, const char *setting, char text[320])
{
    char variable[64], files[PR_MPI_FILES_BYTES], value[PR_MCA_VALUE_BYTES], *rest = files;
    snprintf(variable, sizeof variable, "OMPI_MCA_%s", setting);
    snprintf(files, sizeof files, "%s", facts->files);
    if (getenv(variable)) {
        snprintf(text, 320, " (by %s)", variable);
        return;
    }
    text[0] = '\0';
    for (const char *path; (path = strsep(&rest, ",:"));) {
        char *settings = pr_text_file_load(path);
        if (settings && pr_mca_settings_find(settings, setting, value)) {
            snprintf(text, 320, " (by %.280s)", path);
            rest = NULL;  // the first file counts
        }
        free(settings);
    }
}

static bool has_fabric(const char *driver)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/class/%s", driver);
    return access(path, F_OK) == 0;
}

// ob1 carries messages by TCP between nodes, UCX by whatever the fabric is.
static void look_at_transports(pr_findings *findings, const pr_mpi_facts *facts)
{
    char origin[320];
    bool fabric = has_fabric("infiniband"), may_ucx = pr_mca_settings_allow(facts->pml, "ucx");
    bool only_ucx = strcmp(facts->pml, "ucx") == 0;
    bool all_tls = strstr(facts->ucx_tls, "any") != NULL;
    if (!facts->settings_known) {
        pr_finding_add(
            findings, PR_FINDING_OK, "data plane",
            "this MPI does not say what carries its messages");
        return;
    }
    name_origin(facts, "pml", origin);
    pr_finding *finding = pr_finding_add(
        findings, PR_FINDING_OK, "data plane", "pml %s%s, btl %s, UCX over %s",
        facts->pml[0] ? facts->pml : "any", origin, facts->btl[0] ? facts->btl : "any",
        facts->ucx_tls[0] ? facts->ucx_tls : "its own choice");
    if (only_ucx && !fabric && !all_tls) {
        finding->level = PR_FINDING_PROBLEM;
        pr_finding_advise(
            finding,
            "without InfiniBand Open MPI refuses UCX ('PML ucx cannot be selected'): export "
            "OMPI_MCA_opal_common_ucx_tls=any OMPI_MCA_opal_common_ucx_devices=any");
    } else if (fabric && !may_ucx) {
        finding->level = PR_FINDING_NOTE;
        pr_finding_advise(
            finding,
            "there is a fabric, and these settings switch UCX off, so messages between nodes go by "
            "TCP: export OMPI_MCA_pml=ucx OMPI_MCA_osc=sm,ucx");
    } else if (!may_ucx) {
        pr_finding_advise(
            finding, "shared memory within a node, TCP between nodes; with InfiniBand: export "
                     "OMPI_MCA_pml=ucx OMPI_MCA_osc=sm,ucx");
    }
    if (has_fabric("cxi"))
        pr_finding_advise(
            pr_finding_add(findings, PR_FINDING_NOTE, "fabric", "Slingshot (cxi)"),
            "it needs an MPI with libfabric: Cray's, or Open MPI with mtl ofi and btl ofi allowed");
}

// Bridges of containers are up, but lead nowhere: Open MPI would try to reach other nodes through them.
static void look_at_interfaces(pr_findings *findings, const pr_mpi_facts *facts)
{
    char bridges[160] = "";
    size_t used = 0;
    DIR *folder = opendir("/sys/class/net");
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) && used < sizeof bridges;) {
        char path[512], state[16] = "";
        snprintf(path, sizeof path, "/sys/class/net/%s/bridge", entry->d_name);
        if (entry->d_name[0] == '.' || access(path, F_OK) != 0)
            continue;
        snprintf(path, sizeof path, "/sys/class/net/%s/operstate", entry->d_name);
        if (pr_text_file_read(path, state, sizeof state) && strcmp(state, "down") != 0)
            used += (size_t)snprintf(
                bridges + used, sizeof bridges - used, "%s%.40s", used ? ", " : "", entry->d_name);
    }
    closedir(folder);
    if (bridges[0] == '\0' || facts->tcp_interfaces[0])
        return;
    pr_finding_advise(
        pr_finding_add(
            findings, PR_FINDING_NOTE, "network", "Open MPI may use the bridge %s", bridges),
        "runs over several nodes can hang in it: export OMPI_MCA_btl_tcp_if_include=eth0 "
        "OMPI_MCA_oob_tcp_if_include=eth0, with the name of the network between nodes");
}

static void look_at_gpu_support(pr_findings *findings, const pr_mpi_facts *facts)
{
    bool gpu = access("/dev/nvidia0", F_OK) == 0 || access("/dev/kfd", F_OK) == 0;
    if (facts->kind != PR_MPI_OPEN || !facts->settings_known)
        return;
    pr_finding_add(
        findings, PR_FINDING_OK, "GPU buffers",
        facts->gpu_aware ? "Open MPI was built with CUDA%s"
                         : "Open MPI was built without CUDA: it takes buffers in host memory%s",
        !gpu               ? ""
        : facts->gpu_ready ? ", and finds it"
                           : ", as this version of ours has them");
}

static void look_at_habits(pr_findings *findings, const pr_mpi_facts *facts)
{
    if (facts->kind != PR_MPI_OPEN)
        return;
    if (geteuid() == 0 && !pr_doctor_environment_is("OMPI_ALLOW_RUN_AS_ROOT", "1"))
        pr_finding_advise(
            pr_finding_add(
                findings, PR_FINDING_NOTE, "root", "Open MPI's mpirun refuses to run as root"),
            "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, or use another "
            "user");
    if (!pr_doctor_environment_is("OMPI_MCA_mpi_yield_when_idle", "1"))
        pr_finding_advise(
            pr_finding_add(
                findings, PR_FINDING_OK, "yielding", "OMPI_MCA_mpi_yield_when_idle is not set"),
            "with more ranks than cores: export OMPI_MCA_mpi_yield_when_idle=1 "
            "OMPI_MCA_rmaps_base_oversubscribe=1");
}

static void look_at_control_plane(pr_findings *findings)
{
#ifdef PR_HAVE_UCX
    pr_finding_add(
        findings, PR_FINDING_OK, "control plane", "UCX (or TCP sockets with --control tcp)");
#else
    pr_finding_advise(
        pr_finding_add(findings, PR_FINDING_OK, "control plane", "TCP sockets; built without UCX"),
        "install libucx-dev and build again to notice lost ranks in milliseconds");
#endif
}

void pr_mpi_findings_add(pr_findings *findings, bool start, pr_mpi_facts *facts)
{
    pr_child_end end;
    *facts = (pr_mpi_facts){.kind = PR_MPI_NONE};
    if (strcmp(pr_world_library(), "none") == 0) {
        pr_finding_advise(
            pr_finding_add(findings, PR_FINDING_NOTE, "MPI", "not built in: one process only"),
            "install libopenmpi-dev (or load an MPI module) and build again for many ranks");
        return;
    }
    if (!ask(start, facts, &end)) {
        facts->kind = PR_MPI_OTHER;
        pr_finding_advise(
            pr_finding_add(
                findings, PR_FINDING_PROBLEM, "MPI", "%s, which %s when it is asked about itself",
                pr_world_library(), end == PR_CHILD_LATE ? "hangs" : "crashes"),
            "its installation is broken: try ompi_info, and ldd on this program");
        return;
    }
    look_at_library(findings, facts);
    look_at_mpirun(findings, facts);
    if (start)
        look_at_start(findings, facts, end);
    else
        look_at_threads_of_mpi(findings);
    look_at_transports(findings, facts);
    look_at_interfaces(findings, facts);
    look_at_control_plane(findings);
    look_at_gpu_support(findings, facts);
    look_at_habits(findings, facts);
}
