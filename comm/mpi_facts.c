// SPDX-License-Identifier: BSD-3-Clause
#include "comm/mpi_facts.h"

#include <stdio.h>
#include <string.h>

#ifdef PR_HAVE_MPI

#include <mpi.h>
#ifdef OPEN_MPI
#include <mpi-ext.h>
#endif

// ---- one setting ----

// The number of the control variable, or -1. Names are unique in a library.
static int find_variable(const char *wanted, MPI_Datatype *type)
{
    int variables = 0;
    MPI_T_cvar_get_num(&variables);
    for (int i = 0; i < variables; i++) {
        char name[256];
        int name_length = sizeof name, text_length = 0, verbosity, binding, scope;
        MPI_T_enum values;
        if (MPI_T_cvar_get_info(
                i, name, &name_length, &verbosity, type, &values, NULL, &text_length, &binding,
                &scope) == MPI_SUCCESS &&
            strcmp(name, wanted) == 0)
            return i;
    }
    return -1;
}

static void read_text(const char *name, char *text, size_t size)
{
    MPI_Datatype type;
    MPI_T_cvar_handle handle;
    int length = 0, variable = find_variable(name, &type);
    char value[4096] = "";
    text[0] = '\0';
    if (variable < 0 || type != MPI_CHAR ||
        MPI_T_cvar_handle_alloc(variable, NULL, &handle, &length) != MPI_SUCCESS)
        return;
    if (length < (int)sizeof value && MPI_T_cvar_read(handle, value) == MPI_SUCCESS)
        snprintf(text, size, "%.*s", (int)size - 1, value);
    MPI_T_cvar_handle_free(&handle);
}

static bool read_flag(const char *name)
{
    MPI_Datatype type;
    MPI_T_cvar_handle handle;
    int count = 0, value = 0, variable = find_variable(name, &type);
    if (variable < 0 || type != MPI_INT ||
        MPI_T_cvar_handle_alloc(variable, NULL, &handle, &count) != MPI_SUCCESS)
        return false;
    if (count != 1 || MPI_T_cvar_read(handle, &value) != MPI_SUCCESS)
        value = 0;
    MPI_T_cvar_handle_free(&handle);
    return value != 0;
}

// ---- all of them ----

static void read_settings(pr_mpi_facts *facts)
{
    int provided;
    if (MPI_T_init_thread(MPI_THREAD_SINGLE, &provided) != MPI_SUCCESS)
        return;
    read_text("pml", facts->pml, sizeof facts->pml);
    read_text("btl", facts->btl, sizeof facts->btl);
    read_text("opal_common_ucx_tls", facts->ucx_tls, sizeof facts->ucx_tls);
    read_text("opal_common_ucx_devices", facts->ucx_devices, sizeof facts->ucx_devices);
    read_text("btl_tcp_if_include", facts->tcp_interfaces, sizeof facts->tcp_interfaces);
    read_text("mca_base_param_files", facts->files, sizeof facts->files);
    read_text("pmix_ext3x_library_version", facts->pmix, sizeof facts->pmix);
    facts->gpu_aware = read_flag("opal_built_with_cuda_support");
    facts->settings_known = true;
    MPI_T_finalize();
}

void pr_mpi_facts_read(pr_mpi_facts *facts)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0, version = 0, subversion = 0;
    *facts = (pr_mpi_facts){.kind = PR_MPI_OTHER};
    MPI_Get_version(&version, &subversion);
    facts->version = version;
    facts->subversion = subversion;
    MPI_Get_library_version(text, &length);
    int major = 0, minor = 0;
    if (sscanf(text, "Open MPI v%d.%d", &major, &minor) == 2)
        facts->kind = PR_MPI_OPEN;
    else if (strstr(text, "MPICH"))
        facts->kind = PR_MPI_MPICH;
    facts->major = major;
    facts->minor = minor;
#ifdef OPEN_MPI
    facts->built_major = OMPI_MAJOR_VERSION;
    facts->built_minor = OMPI_MINOR_VERSION;
#endif
    if (facts->kind == PR_MPI_OPEN)
        read_settings(facts);
}

static const char *level_name(int level)
{
    return level == MPI_THREAD_MULTIPLE     ? "MPI_THREAD_MULTIPLE"
           : level == MPI_THREAD_SERIALIZED ? "MPI_THREAD_SERIALIZED"
           : level == MPI_THREAD_FUNNELED   ? "MPI_THREAD_FUNNELED"
                                            : "MPI_THREAD_SINGLE";
}

void pr_mpi_facts_start(pr_mpi_facts *facts)
{
    int provided = MPI_THREAD_SINGLE, ranks = 1, node_ranks = 1;
    MPI_Comm node;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node) ==
        MPI_SUCCESS) {
        MPI_Comm_size(node, &node_ranks);
        MPI_Comm_free(&node);
    }
#if defined(OPEN_MPI) && defined(MPIX_CUDA_AWARE_SUPPORT)
    facts->gpu_ready = MPIX_Query_cuda_support() == 1;
#endif
    MPI_Finalize();
    facts->started = true;
    facts->thread_level_enough = provided >= MPI_THREAD_FUNNELED;
    snprintf(facts->thread_level, sizeof facts->thread_level, "%s", level_name(provided));
    facts->ranks = ranks;
    facts->node_ranks = node_ranks;
}

#else

void pr_mpi_facts_read(pr_mpi_facts *facts) { *facts = (pr_mpi_facts){.kind = PR_MPI_NONE}; }

void pr_mpi_facts_start(pr_mpi_facts *facts) { facts->started = false; }

#endif
