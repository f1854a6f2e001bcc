// SPDX-License-Identifier: BSD-3-Clause
#include "comm/recovery.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm/mpi_wait.h"
#include "runtime/base/log.h"

enum { ASK_EVERY_NS = 1000000 };

static struct {
    bool (*in_vain)(void *context);
    void *context;
    int64_t asked_ns;
} asked;

static const char replacement_variable[] = "PR_REPLACES_A_RANK";

bool pr_recovery_is_possible(void)
{
    const char *value = getenv("OMPI_MCA_orte_enable_recovery");
    return value && (strcmp(value, "1") == 0 || strcmp(value, "true") == 0) &&
           pr_world_is_launched();
}

void pr_recovery_limit(int32_t seconds)
{
    static timer_t timer;
    static bool created;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    if (!created && timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        return;  // then only the launcher ends it
    created = true;
    struct itimerspec limit = {.it_value.tv_sec = seconds};
    timer_settime(timer, 0, &limit, NULL);
}

bool pr_recovery_is_replacement(void) { return getenv(replacement_variable) != NULL; }

void pr_recovery_ask(bool (*in_vain)(void *context), void *context)
{
    asked.in_vain = in_vain;
    asked.context = context;
}

bool pr_recovery_is_in_vain(int64_t now_ns)
{
    if (!asked.in_vain || now_ns - asked.asked_ns < ASK_EVERY_NS)
        return false;
    asked.asked_ns = now_ns;
    return asked.in_vain(asked.context);
}

#ifdef PR_HAVE_MPI

#include <stdio.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, MOST_ARGUMENTS = 1024 };

// Of the process; written once at start-up or by the last replacement.
static char *hosts;  // [ranks][MPI_MAX_PROCESSOR_NAME]
static void *told;   // facts
static int64_t told_bytes;

static const char operation_name[] = "replacement of a lost rank";

pr_status pr_recovery_prepare(pr_world *world)
{
    char mine[MPI_MAX_PROCESSOR_NAME] = "";
    int length = 0;
    hosts = calloc((size_t)pr_world_ranks(world), sizeof mine);
    if (!hosts)
        return pr_fail(PR_ERR_RESOURCE, "no memory for host names");
    PR_TRY(pr_mpi_check(MPI_Get_processor_name(mine, &length), operation_name, -1));
    return pr_world_gather_all(world, mine, hosts, sizeof mine);
}

// ---- Both sides: one world of the living and the replacements ----

typedef struct world_notice {
    int32_t losses;
    int64_t facts_bytes;
} world_notice;

// Root 0 of the communicator says who is replaced, and what they are told.
static pr_status share(MPI_Comm comm, world_notice *notice, int32_t **lost, void **facts)
{
    PR_TRY(pr_mpi_check(MPI_Bcast(notice, sizeof *notice, MPI_BYTE, 0, comm), operation_name, -1));
    if (!*lost) {
        *lost = calloc((size_t)notice->losses + 1, sizeof **lost);
        *facts = malloc((size_t)notice->facts_bytes + 1);
    }
    if (!*lost || !*facts)
        return pr_fail(PR_ERR_RESOURCE, "no memory for what a replacement is told");
    PR_TRY(
        pr_mpi_check(MPI_Bcast(*lost, notice->losses, MPI_INT32_T, 0, comm), operation_name, -1));
    return pr_mpi_check(
        MPI_Bcast(*facts, (int)notice->facts_bytes, MPI_BYTE, 0, comm), operation_name, -1);
}

static pr_status number(MPI_Comm comm, int32_t rank, MPI_Comm *world)
{
    return pr_mpi_check(MPI_Comm_split(comm, 0, rank, world), operation_name, -1);
}

pr_status pr_recovery_join(MPI_Comm *comm)
{
    MPI_Comm parent, both;
    world_notice notice;
    int32_t *lost = NULL;
    int number_of_us = 0;
    MPI_Comm_get_parent(&parent);
    if (parent == MPI_COMM_NULL)
        return pr_fail(
            PR_ERR_ARGUMENT, "%s is set, but nobody has started us", replacement_variable);
    MPI_Comm_rank(MPI_COMM_WORLD, &number_of_us);
    PR_TRY(pr_mpi_check(MPI_Intercomm_merge(parent, 1, &both), operation_name, -1));
    PR_TRY(share(both, &notice, &lost, &told));
    told_bytes = notice.facts_bytes;
    pr_status status = number(both, lost[number_of_us], comm);
    free(lost);
    return status;
}

const void *pr_recovery_facts(int64_t *facts_bytes)
{
    *facts_bytes = told_bytes;
    return told;
}

// ---- Those that live ----

// A communicator of the world's ranks but the lost.
static pr_status
gather_living(pr_world *world, const int32_t *lost, int32_t losses, int32_t epoch, MPI_Comm *living)
{
    MPI_Group all, some;
    MPI_Comm comm = pr_world_comm(world);
    PR_TRY(pr_mpi_check(MPI_Comm_group(comm, &all), operation_name, -1));
    PR_TRY(pr_mpi_check(MPI_Group_excl(all, losses, lost, &some), operation_name, -1));
    PR_TRY(
        pr_mpi_check(MPI_Comm_create_group(comm, some, epoch % 32768, living), operation_name, -1));
    MPI_Comm_set_errhandler(*living, MPI_ERRORS_RETURN);
    MPI_Group_free(&all);
    MPI_Group_free(&some);
    return PR_OK;
}

// This process's command line: argument[0] is the program, by its path. In static memory.
static pr_status read_command(char *program, char **argument)
{
    static char line[PATH_BYTES * 4];
    ssize_t length = readlink("/proc/self/exe", program, PATH_BYTES - 1);
    FILE *file = fopen("/proc/self/cmdline", "r");
    size_t bytes = file ? fread(line, 1, sizeof line - 1, file) : 0;
    if (file)
        fclose(file);
    if (length < 1 || bytes == 0 || bytes == sizeof line - 1)
        return pr_fail(PR_ERR_UNSUPPORTED, "cannot read this process's command line");
    program[length] = '\0';
    int32_t arguments = 0;
    for (char *at = line + strlen(line) + 1; at < line + bytes; at += strlen(at) + 1) {
        if (arguments == MOST_ARGUMENTS - 1)
            return pr_fail(PR_ERR_UNSUPPORTED, "this process's command line is too long");
        argument[arguments++] = at;
    }
    argument[arguments] = NULL;
    return PR_OK;
}

typedef struct spawn_list {
    char **program;    // [losses]
    char ***argument;  // [losses]
    int *processes;    // [losses]
    MPI_Info *info;    // [losses]
} spawn_list;

static void free_list(spawn_list *list)
{
    free(list->program);
    free(list->argument);
    free(list->processes);
    free(list->info);
}

static pr_status
fill_list(const int32_t *lost, int32_t losses, char *program, char **argument, spawn_list *list)
{
    char directory[PATH_BYTES], environment[64];
    size_t n = (size_t)losses;
    *list = (spawn_list){
        .program = calloc(n, sizeof(char *)),
        .argument = calloc(n, sizeof(char **)),
        .processes = calloc(n, sizeof(int)),
        .info = calloc(n, sizeof(MPI_Info)),
    };
    if (!list->program || !list->argument || !list->processes || !list->info)
        return pr_fail(PR_ERR_RESOURCE, "no memory to start %d processes", losses);
    snprintf(environment, sizeof environment, "%s=1", replacement_variable);
    if (!getcwd(directory, sizeof directory))
        return pr_fail(PR_ERR_UNSUPPORTED, "cannot read the working directory");
    for (int32_t i = 0; i < losses; i++) {
        list->program[i] = program;
        list->argument[i] = argument;
        list->processes[i] = 1;
        MPI_Info_create(&list->info[i]);
        MPI_Info_set(list->info[i], "wdir", directory);
        MPI_Info_set(list->info[i], "env", environment);
        if (hosts)
            MPI_Info_set(list->info[i], "host", hosts + (size_t)lost[i] * MPI_MAX_PROCESSOR_NAME);
    }
    return PR_OK;
}

static pr_status spawn(MPI_Comm living, const int32_t *lost, int32_t losses, MPI_Comm *started)
{
    static char program[PATH_BYTES];
    static char *argument[MOST_ARGUMENTS];
    spawn_list list = {0};
    int root = 0;
    MPI_Comm_rank(living, &root);
    pr_status status = root == 0 ? read_command(program, argument) : PR_OK;
    if (status == PR_OK)
        status = fill_list(lost, losses, program, argument, &list);
    int good = status == PR_OK;  // all call, or none
    PR_TRY(pr_mpi_check(
        MPI_Allreduce(MPI_IN_PLACE, &good, 1, MPI_INT, MPI_MIN, living), operation_name, -1));
    if (good) {
        int code = MPI_Comm_spawn_multiple(
            losses, list.program, list.argument, list.processes, list.info, 0, living, started,
            MPI_ERRCODES_IGNORE);
        if (pr_mpi_check(code, operation_name, -1) != PR_OK)
            status = PR_ERR_UNSUPPORTED;
    } else if (status == PR_OK) {
        status = PR_ERR_UNSUPPORTED;
    }
    free_list(&list);
    return status;
}

static void *copy_of(const void *data, size_t size_bytes)
{
    void *copy = malloc(size_bytes + 1);
    return copy ? memcpy(copy, data, size_bytes) : NULL;
}

pr_status pr_recovery_replace(
    pr_world *world,
    const int32_t *lost,
    int32_t losses,
    int32_t epoch,
    const void *facts,
    int64_t facts_bytes)
{
    // All but the last stay as they are: to free them all would have to meet once more.
    MPI_Comm living, started, both, whole;
    world_notice notice = {.losses = losses, .facts_bytes = facts_bytes};
    int32_t *replaced = NULL;
    void *said = NULL;
    PR_TRY(gather_living(world, lost, losses, epoch, &living));
    PR_TRY(spawn(living, lost, losses, &started));
    PR_TRY(pr_mpi_check(MPI_Intercomm_merge(started, 0, &both), operation_name, -1));
    if (pr_world_rank(world) == 0) {
        replaced = copy_of(lost, (size_t)losses * sizeof *lost);
        said = copy_of(facts, (size_t)facts_bytes);
    }
    pr_status status = share(both, &notice, &replaced, &said);
    if (status == PR_OK)
        status = number(both, pr_world_rank(world), &whole);
    free(replaced);
    free(said);
    if (status == PR_OK)
        pr_world_adopt(world, whole);
    return status;
}

#else

pr_status pr_recovery_prepare(pr_world *world)
{
    (void)world;
    return PR_OK;
}

pr_status pr_recovery_replace(
    pr_world *world,
    const int32_t *lost,
    int32_t losses,
    int32_t epoch,
    const void *facts,
    int64_t facts_bytes)
{
    (void)world, (void)lost, (void)losses, (void)epoch, (void)facts, (void)facts_bytes;
    return pr_fail(PR_ERR_UNSUPPORTED, "this program was built without MPI");
}

const void *pr_recovery_facts(int64_t *facts_bytes)
{
    *facts_bytes = 0;
    return NULL;
}

#endif
