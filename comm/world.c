// SPDX-License-Identifier: BSD-3-Clause
#include "comm/world.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/mpi_wait.h"
#include "comm/recovery.h"
#include "comm/watch.h"
#include "runtime/base/log.h"

struct pr_world {
    int32_t rank, ranks;
    int32_t *launched;  // [ranks], or NULL
#ifdef PR_HAVE_MPI
    bool has_mpi;    // false: started without a launcher, MPI is never called
    bool finalizes;  // we called MPI_Init
    MPI_Comm comm;
#endif
};

// Tasks that srun started together with this one; 1 outside of a step.
static int32_t tasks_of_srun(void)
{
    const char *rank = getenv("SLURM_PROCID"), *tasks = getenv("SLURM_STEP_NUM_TASKS");
    return rank && tasks ? (int32_t)strtol(tasks, NULL, 10) : 1;
}

bool pr_world_is_launched(void)
{
    static const char *const names[] = {
        "OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "PMI_FD"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (getenv(names[i]))
            return true;
    }
    return tasks_of_srun() > 1;
}

bool pr_world_is_first(void)
{
    if (pr_recovery_is_replacement())
        return false;
    static const char *const names[] = {
        "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *rank = getenv(names[i]);
        if (rank)
            return strtol(rank, NULL, 10) == 0;
    }
    return true;
}

#ifdef PR_HAVE_MPI

void pr_world_adopt(pr_world *world, MPI_Comm comm)
{
    int rank = 0, ranks = 1;
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &ranks);
    world->comm = comm;
    world->rank = rank;
    world->ranks = ranks;
}

static pr_status init_mpi(pr_world *world)
{
    int initialized = 0, provided = MPI_THREAD_SINGLE;
    if (pr_recovery_is_replacement())
        pr_recovery_limit(PR_RECOVERY_START_S);
    PR_TRY(pr_mpi_check(MPI_Initialized(&initialized), "MPI_Initialized", -1));
    if (!initialized) {
        PR_TRY(pr_mpi_check(
            MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread", -1));
        world->finalizes = true;
    } else {
        PR_TRY(pr_mpi_check(MPI_Query_thread(&provided), "MPI_Query_thread", -1));
    }
    if (provided < MPI_THREAD_FUNNELED)
        return pr_fail(PR_ERR_UNSUPPORTED, "this MPI library has no MPI_THREAD_FUNNELED");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm comm;
    if (pr_recovery_is_replacement())
        PR_TRY(pr_recovery_join(&comm));
    else
        PR_TRY(pr_mpi_check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup", -1));
    pr_world_adopt(world, comm);
    if (pr_recovery_is_replacement())
        pr_recovery_limit(0);
    if (world->ranks == 1 && tasks_of_srun() > 1)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "srun started %d tasks but MPI sees each of them alone: use srun --mpi=pmix",
            tasks_of_srun());
    return PR_OK;
}

pr_status pr_world_open(pr_world **world)
{
    pr_world *opened = calloc(1, sizeof *opened);
    if (!opened)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the world");
    opened->ranks = 1;
    opened->comm = MPI_COMM_NULL;
    opened->has_mpi = pr_world_is_launched();
    if (opened->has_mpi) {
        pr_status status = init_mpi(opened);
        if (status != PR_OK) {
            free(opened);
            return status;
        }
    }
    *world = opened;
    return PR_OK;
}

void pr_world_close(pr_world *world)
{
    if (!world)
        return;
    if (world->has_mpi) {
        MPI_Comm_free(&world->comm);
        if (world->finalizes)
            MPI_Finalize();
    }
    free(world->launched);
    free(world);
}

pr_status pr_world_reorder(pr_world *world, const int32_t *launched)
{
    int32_t rank = 0;
    MPI_Comm ordered;
    if (world->ranks == 1)
        return PR_OK;
    assert(!world->launched);
    while (launched[rank] != world->rank)
        rank++;
    pr_watch_collective("world order");
    int code = MPI_Comm_split(world->comm, 0, rank, &ordered);
    pr_watch_go();
    PR_TRY(pr_mpi_check(code, "world order", -1));
    MPI_Comm_set_errhandler(ordered, MPI_ERRORS_RETURN);
    MPI_Comm_free(&world->comm);
    world->comm = ordered;
    world->rank = rank;
    size_t bytes = (size_t)world->ranks * sizeof *launched;
    world->launched = malloc(bytes);
    if (!world->launched)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the order of %d ranks", world->ranks);
    memcpy(world->launched, launched, bytes);
    return PR_OK;
}

MPI_Comm pr_world_comm(const pr_world *world) { return world->comm; }

pr_status pr_world_max(pr_world *world, int64_t *value)
{
    if (world->ranks == 1)
        return PR_OK;
    pr_watch_collective("world max");
    int code = MPI_Allreduce(MPI_IN_PLACE, value, 1, MPI_INT64_T, MPI_MAX, world->comm);
    pr_watch_go();
    return pr_mpi_check(code, "world max", -1);
}

pr_status pr_world_broadcast(pr_world *world, void *data, int64_t size_bytes)
{
    char *byte = data;
    while (world->ranks > 1 && size_bytes > 0) {
        int part = size_bytes < INT_MAX ? (int)size_bytes : INT_MAX;
        pr_watch_collective("world broadcast");
        int code = MPI_Bcast(byte, part, MPI_BYTE, 0, world->comm);
        pr_watch_go();
        PR_TRY(pr_mpi_check(code, "world broadcast", -1));
        byte += part;
        size_bytes -= part;
    }
    return PR_OK;
}

pr_status pr_world_gather_all(pr_world *world, const void *mine, void *all, int64_t size_bytes)
{
    if (size_bytes > INT_MAX)
        return pr_fail(
            PR_ERR_ARGUMENT, "world gather of %lld bytes per rank", (long long)size_bytes);
    if (world->ranks == 1) {
        memcpy(all, mine, (size_t)size_bytes);
        return PR_OK;
    }
    int size = (int)size_bytes;
    pr_watch_collective("world gather");
    int code = MPI_Allgather(mine, size, MPI_BYTE, all, size, MPI_BYTE, world->comm);
    pr_watch_go();
    return pr_mpi_check(code, "world gather", -1);
}

void pr_world_abort(pr_world *world, int code)
{
    if (world && world->has_mpi)
        MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

const char *pr_world_library(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    if (text[0] == '\0' && MPI_Get_library_version(text, &length) != MPI_SUCCESS)
        return "unknown";
    text[strcspn(text, ",\n")] = '\0';
    return text;
}

#else

pr_status pr_world_open(pr_world **world)
{
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    if (!size)
        size = getenv("PMI_SIZE");
    if (tasks_of_srun() > 1 || (size && strtol(size, NULL, 10) > 1))
        return pr_fail(
            PR_ERR_UNSUPPORTED,
            "started as one of many ranks, but this program was built without MPI: start one "
            "process, or build with -DPOLYREME_MPI=ON");
    pr_world *opened = calloc(1, sizeof *opened);
    if (!opened)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the world");
    opened->ranks = 1;
    *world = opened;
    return PR_OK;
}

void pr_world_close(pr_world *world) { free(world); }

pr_status pr_world_reorder(pr_world *world, const int32_t *launched)
{
    (void)world;
    (void)launched;
    return PR_OK;
}

pr_status pr_world_max(pr_world *world, int64_t *value)
{
    (void)world;
    (void)value;
    return PR_OK;
}

pr_status pr_world_broadcast(pr_world *world, void *data, int64_t size_bytes)
{
    (void)world;
    (void)data;
    (void)size_bytes;
    return PR_OK;
}

pr_status pr_world_gather_all(pr_world *world, const void *mine, void *all, int64_t size_bytes)
{
    (void)world;
    memcpy(all, mine, (size_t)size_bytes);
    return PR_OK;
}

void pr_world_abort(pr_world *world, int code)
{
    (void)world;
    _exit(code);
}

const char *pr_world_library(void) { return "none"; }

#endif

const int32_t *pr_world_launched(const pr_world *world) { return world->launched; }

int32_t pr_world_rank(const pr_world *world) { return world->rank; }

int32_t pr_world_ranks(const pr_world *world) { return world->ranks; }
