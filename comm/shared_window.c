// SPDX-License-Identifier: BSD-3-Clause
#include "comm/shared_window.h"

#ifdef PR_HAVE_MPI

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "comm/group_ranks.h"
#include "comm/recovery.h"
#include "comm/watch.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { LINE = 64, FLAGS_BYTES = PR_SHARED_DOMAINS * LINE };
// A poll is some tens of nanoseconds: spin about 10 us, then give the core away. With more threads than
// cores the rank that is waited for may need this very core: spin for a handover between two cores only.
enum { HARD_POLLS = 256, CROWDED_POLLS = 16, YIELDS_PER_CLOCK = 16 };

struct pr_shared_window {
    const pr_group *group;
    int32_t timeout_ms, hard_polls;
    MPI_Comm node;
    MPI_Win win;
    char **segment;  // [ranks]
    uint64_t published[PR_SHARED_DOMAINS];
};

static const char operation_name[] = "shared window creation";

static _Atomic(uint64_t) *
flag_of(const pr_shared_window *window, int32_t rank, pr_shared_domain domain)
{
    return (_Atomic(uint64_t) *)(void *)(window->segment[rank] + (size_t)domain * LINE);
}

// Whether every rank says yes.
static pr_status all_of(const pr_group *group, bool mine, bool *all)
{
    int yes = mine;
    PR_TRY(pr_mpi_check(
        MPI_Allreduce(MPI_IN_PLACE, &yes, 1, MPI_INT, MPI_MIN, group->comm), operation_name, -1));
    *all = yes != 0;
    return PR_OK;
}

// MPI keeps the windows of a node in /dev/shm. Beyond its end a write is a signal, not an error, so there
// must be room for all segments in full, and for those of the node's other groups, taken to be alike.
static bool fits_shared_memory(const pr_group *group, int64_t total_bytes, char *why)
{
    const double margin = 1.1, mib = 1 << 20;
    struct statvfs file_system;
    if (statvfs("/dev/shm", &file_system) != 0)
        return true;
    double free_bytes = (double)file_system.f_bavail * (double)file_system.f_frsize;
    double need_bytes = margin * (double)total_bytes * group->node_ranks / group->ranks;
    snprintf(
        why, PR_SHARED_WHY_BYTES,
        "%.0f MiB of /dev/shm may be needed and %.0f are free: enlarge it (containers: "
        "--shm-size), "
        "or lower --max-num-batched-tokens",
        need_bytes / mib, free_bytes / mib);
    return free_bytes > need_bytes;
}

static pr_status
find_node(pr_shared_window *window, int64_t segment_bytes, bool *possible, char *why)
{
    const pr_group *group = window->group;
    int ranks_here = 0;
    int64_t total_bytes = 0;
    PR_TRY(pr_mpi_check(
        MPI_Comm_split_type(
            group->comm, MPI_COMM_TYPE_SHARED, group->rank, MPI_INFO_NULL, &window->node),
        operation_name, -1));
    MPI_Comm_set_errhandler(window->node, MPI_ERRORS_RETURN);
    MPI_Comm_size(window->node, &ranks_here);
    snprintf(why, PR_SHARED_WHY_BYTES, "they are on several nodes");
    PR_TRY(all_of(group, ranks_here == group->ranks, possible));
    if (!*possible)
        return PR_OK;
    PR_TRY(pr_mpi_check(
        MPI_Allreduce(&segment_bytes, &total_bytes, 1, MPI_INT64_T, MPI_SUM, group->comm),
        operation_name, -1));
    return all_of(group, fits_shared_memory(group, total_bytes, why), possible);
}

static pr_status allocate(pr_shared_window *window, size_t segment_bytes)
{
    void *base;
    MPI_Info info;
    MPI_Info_create(&info);
    MPI_Info_set(info, "alloc_shared_noncontig", "true");  // each segment on pages of its own
    int code = MPI_Win_allocate_shared(
        (MPI_Aint)segment_bytes, 1, info, window->node, &base, &window->win);
    MPI_Info_free(&info);
    PR_TRY(pr_mpi_check(code, operation_name, -1));
    for (int32_t rank = 0; rank < window->group->ranks; rank++) {
        MPI_Aint size;
        int unit;
        PR_TRY(pr_mpi_check(
            MPI_Win_shared_query(window->win, rank, &size, &unit, &window->segment[rank]),
            operation_name, -1));
        window->segment[rank] =
            (char *)(((uintptr_t)window->segment[rank] + LINE - 1) & ~(uintptr_t)(LINE - 1));
    }
    for (int32_t domain = 0; domain < PR_SHARED_DOMAINS; domain++)
        atomic_store(flag_of(window, window->group->rank, domain), 0);
    bool all;  // nobody looks at a flag before it is 0
    return all_of(window->group, true, &all);
}

pr_status pr_shared_window_create(
    pr_group *group,
    const pr_shared_window_params *params,
    pr_shared_window **window,
    char why[PR_SHARED_WHY_BYTES])
{
    bool possible = false;
    pr_shared_window *made = calloc(1, sizeof *made);
    char **segment = calloc((size_t)group->ranks, sizeof *segment);
    if (!made || !segment) {
        free(made);
        free(segment);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a shared window");
    }
    size_t segment_bytes = FLAGS_BYTES + params->data_bytes + 2 * LINE;
    made->group = group;
    made->timeout_ms = params->timeout_ms;
    made->hard_polls = params->shares_cores ? CROWDED_POLLS : HARD_POLLS;
    made->node = MPI_COMM_NULL;
    made->win = MPI_WIN_NULL;
    made->segment = segment;
    pr_watch_collective(operation_name);
    pr_status status = find_node(made, (int64_t)segment_bytes, &possible, why);
    if (status == PR_OK && possible)
        status = allocate(made, segment_bytes);
    pr_watch_go();
    if (status != PR_OK || !possible) {
        pr_shared_window_destroy(made);
        made = NULL;
    }
    *window = made;
    return status;
}

void pr_shared_window_destroy(pr_shared_window *window)
{
    if (!window)
        return;
    if (window->win != MPI_WIN_NULL)
        MPI_Win_free(&window->win);
    if (window->node != MPI_COMM_NULL)
        MPI_Comm_free(&window->node);
    free(window->segment);
    free(window);
}

char *pr_shared_window_data(const pr_shared_window *window, int32_t rank)
{
    return window->segment[rank] + FLAGS_BYTES;
}

void pr_shared_window_publish(pr_shared_window *window, pr_shared_domain domain)
{
    atomic_store_explicit(
        flag_of(window, window->group->rank, domain), ++window->published[domain],
        memory_order_release);
}

static bool has_published(const pr_shared_window *window, pr_shared_domain domain, int32_t rank)
{
    return atomic_load_explicit(flag_of(window, rank, domain), memory_order_acquire) >=
           window->published[domain];
}

static pr_status let_mpi_progress(const pr_shared_window *window, const char *operation)
{
    int waiting;
    return pr_mpi_check(
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, window->node, &waiting, MPI_STATUS_IGNORE),
        operation, -1);
}

static void pause_core(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static pr_status report_late(const pr_shared_window *window, int32_t rank, const char *operation)
{
    char place[PR_WATCH_PLACE_BYTES];
    pr_watch_place(place);
    return pr_fail(
        PR_ERR_TIMEOUT, "rank %d did not answer within %d ms in %s%s",
        window->group->first_rank + rank, window->timeout_ms, operation, place);
}

pr_status pr_shared_window_wait(
    const pr_shared_window *window, pr_shared_domain domain, int32_t rank, const char *operation)
{
    for (int32_t polls = 0; polls < window->hard_polls; polls++) {
        if (has_published(window, domain, rank))
            return PR_OK;
        pause_core();
    }
    int64_t begin_ns = pr_clock_now_ns();
    bool told = false;
    for (uint32_t yields = 1; !has_published(window, domain, rank); yields++) {
        sched_yield();
        if (yields % YIELDS_PER_CLOCK != 0)
            continue;
        PR_TRY(let_mpi_progress(window, operation));
        int64_t now_ns = pr_clock_now_ns(), waited_ns = now_ns - begin_ns;
        if (pr_recovery_is_in_vain(now_ns))
            return pr_mpi_give_up(operation);
        if (waited_ns > (int64_t)window->timeout_ms * 1000000)
            return report_late(window, rank, operation);
        if (told || waited_ns <= PR_WATCH_LOOK_MS * INT64_C(1000000))
            continue;
        pr_watch_wait(NULL, window->group->first_rank + rank);
        told = true;
    }
    if (told)
        pr_watch_go();
    return PR_OK;
}

#endif
