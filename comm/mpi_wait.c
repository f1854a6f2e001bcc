// SPDX-License-Identifier: BSD-3-Clause
#include "comm/mpi_wait.h"

#include "comm/recovery.h"
#include "runtime/base/log.h"

#ifdef PR_HAVE_MPI

#include <sched.h>

#include "comm/watch.h"
#include "runtime/base/clock.h"

enum { HARD_POLLS = 64, POLLS_PER_CLOCK = 16, NOBODY = -2 };

pr_status pr_mpi_check(int code, const char *operation, int32_t peer)
{
    if (code == MPI_SUCCESS)
        return PR_OK;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    if (peer < 0)
        return pr_fail(PR_ERR_PEER, "%s failed: %s", operation, text);
    return pr_fail(PR_ERR_PEER, "%s with rank %d failed: %s", operation, peer, text);
}

void pr_mpi_pause(int32_t *spins)
{
    if (++*spins > HARD_POLLS)
        sched_yield();
}

pr_status pr_mpi_give_up(const char *operation)
{
    return pr_fail(PR_ERR_PEER, "%s is given up: a rank that it needs is lost", operation);
}

// Names the request that keeps us waiting.
static pr_status report_late(
    MPI_Request *request,
    const int32_t *peer,
    int32_t requests,
    const char *operation,
    int32_t timeout_ms)
{
    char place[PR_WATCH_PLACE_BYTES];
    pr_watch_place(place);
    for (int32_t i = 0; i < requests; i++) {
        int done = 0;
        PR_TRY(pr_mpi_check(MPI_Test(&request[i], &done, MPI_STATUS_IGNORE), operation, peer[i]));
        if (!done && peer[i] < 0)
            return pr_fail(
                PR_ERR_TIMEOUT, "a rank did not answer within %d ms in %s%s", timeout_ms, operation,
                place);
        if (!done)
            return pr_fail(
                PR_ERR_TIMEOUT, "rank %d did not answer within %d ms in %s%s", peer[i], timeout_ms,
                operation, place);
    }
    return PR_OK;
}

// The collective test says only that some request failed; testing each says which.
static pr_status report_failed(
    MPI_Request *request, const int32_t *peer, int32_t requests, const char *operation, int code)
{
    for (int32_t i = 0; i < requests; i++) {
        int done = 0;
        PR_TRY(pr_mpi_check(MPI_Test(&request[i], &done, MPI_STATUS_IGNORE), operation, peer[i]));
    }
    return pr_mpi_check(code, operation, -1);
}

// Whom this rank waits for: the first whose message is not there. *told: the one noted, or NOBODY.
static void
tell_watch(const MPI_Request *request, const int32_t *peer, int32_t requests, int32_t *told)
{
    int32_t i = 0;
    for (int done = 1; i < requests; i++) {
        if (MPI_Request_get_status(request[i], &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || !done)
            break;
    }
    if (i == requests || peer[i] == *told)
        return;
    *told = peer[i];
    pr_watch_wait(NULL, *told);
}

pr_status pr_mpi_wait_all(
    MPI_Request *request,
    const int32_t *peer,
    int32_t requests,
    const char *operation,
    int32_t timeout_ms)
{
    int64_t begin_ns = 0, look_ns = PR_WATCH_LOOK_MS * INT64_C(1000000);
    int32_t told = NOBODY;
    for (int32_t spins = 0;;) {
        int done = 0;
        int code = MPI_Testall(requests, request, &done, MPI_STATUSES_IGNORE);
        if (code != MPI_SUCCESS)
            return report_failed(request, peer, requests, operation, code);
        if (done)
            break;
        if (spins % POLLS_PER_CLOCK == 0) {
            int64_t now_ns = pr_clock_now_ns();
            if (begin_ns == 0)
                begin_ns = now_ns;
            if (now_ns - begin_ns > (int64_t)timeout_ms * 1000000)
                return report_late(request, peer, requests, operation, timeout_ms);
            if (pr_recovery_is_in_vain(now_ns))
                return pr_mpi_give_up(operation);
            if (now_ns - begin_ns > look_ns) {
                tell_watch(request, peer, requests, &told);
                look_ns += PR_WATCH_LOOK_MS * INT64_C(1000000);
            }
        }
        pr_mpi_pause(&spins);
    }
    if (told != NOBODY)
        pr_watch_go();
    return PR_OK;
}

#endif
