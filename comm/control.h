// SPDX-License-Identifier: BSD-3-Clause
// The control plane: plans, reports, wake-ups and heartbeats between rank 0 and every other rank (a
// star). Own connections, not MPI, so that an idle rank sleeps in poll and a dead peer is noticed in
// milliseconds (UCX) or at once (TCP reset), one stuck while waiting for a message by missed pongs.
// Back ends: UCX active messages over its tcp transport with wake-up (control_ucx.c), plain TCP sockets
// with the same framing (control_tcp.c). Framing: docs/control-plane.md.
// Rank 0's own worker thread and controller thread speak through the same interface: a pair of
// in-process queues (control_local.c), also with one process and no MPI.
// Threads: an endpoint belongs to one thread; rank 0 has two endpoints (controller, worker).
#ifndef PR_COMM_CONTROL_H
#define PR_COMM_CONTROL_H

#include <stddef.h>

#include "comm/world.h"

typedef struct pr_control pr_control;

typedef enum pr_message_kind {
    PR_MESSAGE_NONE,    // nothing within the timeout
    PR_MESSAGE_PLAN,    // 0 -> worker
    PR_MESSAGE_REPORT,  // worker -> 0
    PR_MESSAGE_STOP,    // 0 -> worker: leave after this
    PR_MESSAGE_FAULT,   // worker -> 0: one line of text, the worker cannot go on
    PR_MESSAGE_COUNTS,  // worker -> 0 at the end: the run's counters
    PR_MESSAGE_WATCH,   // both ways: a beat of the watchdog's own star
    PR_MESSAGE_ORDER,   // 0 -> worker: a group has lost a rank (launcher/recover/order.h)
    PR_MESSAGE_DONE,    // worker -> 0: the order is carried out
    PR_MESSAGE_LOST,    // made by the endpoint itself: `from` is gone or silent; data: why, as text
} pr_message_kind;

typedef struct pr_message {
    pr_message_kind kind;
    int32_t from;
    const void *data;  // 8-byte aligned, owned by the endpoint, valid until its next call
    size_t size_bytes;
} pr_message;

typedef struct pr_control_params {
    pr_world *world;
    const char *backend;  // "auto", "ucx", "tcp"
    int32_t ping_ms;      // heartbeat interval; an idle peer silent for 6 of them is lost. 0 = none
} pr_control_params;

// Collective over the world. *worker: this rank's worker endpoint (peer: rank 0). *controller: on rank 0
// the controller's endpoint (peers: all ranks, itself included), NULL elsewhere.
pr_status pr_control_create(
    const pr_control_params *params, pr_control **worker, pr_control **controller) PR_MUST_CHECK;
void pr_control_destroy(pr_control *control);

// Copies the data; may be called while messages from the peer are unread. A worker's returns when the
// system has taken the data, the controller's waits only while the peer's window is full; at most
// 10 s, making progress. PR_ERR_PEER if the peer is gone, PR_ERR_TIMEOUT.
pr_status pr_control_send(
    pr_control *control, int32_t to, pr_message_kind kind, const void *data, size_t size_bytes)
    PR_MUST_CHECK;

// The same, for what can wait a little: between the threads of one process it does not end a nap of the
// receiver's (control.c), so that it costs no system call. Then it is seen within an eighth of the time
// between two such messages.
pr_status pr_control_post(
    pr_control *control, int32_t to, pr_message_kind kind, const void *data, size_t size_bytes)
    PR_MUST_CHECK;

// The next message, waiting up to timeout_ms (0: only what is there; -1: for ever, waking for
// heartbeats). kind NONE on timeout or when woken by pr_control_wake.
pr_status
pr_control_receive(pr_control *control, int32_t timeout_ms, pr_message *message) PR_MUST_CHECK;

// Rank 0's controller endpoint: writes what a process needs to take the place of a lost rank; returns its
// bytes, 0 if it cannot be done. Such a process joins with it: its worker endpoint, as from create.
enum { PR_INVITATION_BYTES = 2048 };
size_t pr_control_invite(pr_control *control, void *invitation);  // [PR_INVITATION_BYTES]
pr_status pr_control_join(
    pr_world *world,
    int32_t ping_ms,
    const void *invitation,
    size_t size_bytes,
    pr_control **worker) PR_MUST_CHECK;

// Wakes a receive of this endpoint from another thread or a signal handler (async-signal-safe).
void pr_control_wake(pr_control *control);

const char *pr_control_backend(const pr_control *control);  // "ucx", "tcp", "local"

#endif
