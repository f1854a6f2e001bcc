// SPDX-License-Identifier: BSD-3-Clause
#include "comm/shared_window.h"

#ifdef PR_HAVE_MPI

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "comm/group_ranks.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { LINE = 64, FLAGS_BYTES = PR_SHARED_DOMAINS * LINE };
// A poll is some tens of nanoseconds: spin about 10 us, then give the core away, where there are more
// ranks than cores to the one that is waited for.
enum { HARD_POLLS = 256, POLLS_PER_CLOCK = 64 };

struct pr_shared_window {
    const pr_group *group;
    int32_t timeout_ms;
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

// Open MPI keeps the windows of a node in /dev/shm. Beyond its end a write is a signal, not an error.
static bool fits_shared_memory(int64_t total_bytes)
{
    struct statvfs file_system;
    if (statvfs("/dev/shm", &file_system) != 0)
        return true;
    return (double)file_system.f_bavail * (double)file_system.f_frsize > 1.1 * (double)total_bytes;
}

static pr_status
find_node(pr_shared_window *window, int64_t segment_bytes, bool *possible, const char **why)
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
    *why = "its ranks are on several nodes";
    PR_TRY(all_of(group, ranks_here == group->ranks, possible));
    if (!*possible)
        return PR_OK;
    PR_TRY(pr_mpi_check(
        MPI_Allreduce(&segment_bytes, &total_bytes, 1, MPI_INT64_T, MPI_SUM, group->comm),
        operation_name, -1));
    *why = "/dev/shm is too small: enlarge it, or lower --max-num-batched-tokens";
    return all_of(group, fits_shared_memory(total_bytes), possible);
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
    size_t data_bytes,
    int32_t timeout_ms,
    pr_shared_window **window,
    const char **why)
{
    bool possible = false;
    pr_shared_window *made = calloc(1, sizeof *made);
    char **segment = calloc((size_t)group->ranks, sizeof *segment);
    if (!made || !segment) {
        free(made);
        free(segment);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a shared window");
    }
    size_t segment_bytes = FLAGS_BYTES + data_bytes + 2 * LINE;
    made->group = group;
    made->timeout_ms = timeout_ms;
    made->node = MPI_COMM_NULL;
    made->win = MPI_WIN_NULL;
    made->segment = segment;
    pr_status status = find_node(made, (int64_t)segment_bytes, &possible, why);
    if (status == PR_OK && possible)
        status = allocate(made, segment_bytes);
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

pr_status pr_shared_window_wait(
    const pr_shared_window *window, pr_shared_domain domain, int32_t rank, const char *operation)
{
    const _Atomic(uint64_t) *flag = flag_of(window, rank, domain);
    int64_t deadline_ns = 0;
    for (int32_t polls = 1;; polls++) {
        if (atomic_load_explicit(flag, memory_order_acquire) >= window->published[domain])
            return PR_OK;
        if (polls % POLLS_PER_CLOCK == 0) {
            int64_t now_ns = pr_clock_now_ns();
            if (deadline_ns == 0)
                deadline_ns = now_ns + (int64_t)window->timeout_ms * 1000000;
            else if (now_ns > deadline_ns)
                return pr_fail(
                    PR_ERR_TIMEOUT, "rank %d did not answer within %d ms in %s",
                    window->group->first_rank + rank, window->timeout_ms, operation);
        }
        if (polls > HARD_POLLS) {
            sched_yield();
            polls = polls > 1 << 20 ? HARD_POLLS : polls;
        }
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
}

#endif
