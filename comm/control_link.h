// SPDX-License-Identifier: BSD-3-Clause
// Between an endpoint (control.c) and what carries its frames: control_tcp.c, control_ucx.c, and the
// in-process pair of queues, control_local.c. Private to comm/. The frame: docs/control-plane.md.
//
// A link moves frames and notices broken connections. The endpoint does everything else: order,
// checks, heartbeats, the inbox, waiting. Nothing in a link blocks but creating and destroying it.
#ifndef PR_COMM_CONTROL_LINK_H
#define PR_COMM_CONTROL_LINK_H

#include <assert.h>

#include "comm/control.h"

enum {
    PR_FRAME_MAGIC = 0x66637250,  // "Prcf"
    PR_FRAME_VERSION = 1,
    PR_FRAME_MAX_BYTES = 256 * 1024 * 1024,
};

// Kinds beyond pr_message_kind, seen by endpoints only.
typedef enum pr_frame_kind {
    PR_FRAME_PING = 100,  // controller -> worker
    PR_FRAME_PONG = 101,  // the answer: {u32 idle, u32 frames received}
    PR_FRAME_BYE = 102,   // the endpoint is being destroyed
} pr_frame_kind;

// Little endian, in front of every message's data.
typedef struct pr_frame {
    uint32_t magic;
    uint16_t version, kind;
    int32_t from;
    uint32_t size_bytes;  // of the data
    uint32_t sequence;    // frames from this peer before this one
    uint32_t reserved;    // 0
    uint64_t checksum;    // of the 24 bytes before and the data
} pr_frame;
static_assert(sizeof(pr_frame) == 32, "the frame is a wire format");

typedef struct pr_letter {
    struct pr_letter *next;
    pr_frame frame;
    uint64_t data[];  // frame.size_bytes
} pr_letter;

// From malloc with room for the frame's data; NULL without memory.
pr_letter *pr_letter_create(const pr_frame *frame);

// NULL if the frame can be what it says, else what is wrong with it. Does not look at the data.
const char *pr_frame_fault(const pr_frame *frame);

typedef struct pr_control_link pr_control_link;
struct pr_control_link {
    const char *name;
    int fd;  // readable when progress has something to do
    void *state;
    void (*send)(pr_control_link *link, int32_t to, const pr_frame *frame, const void *data);
    size_t (*queued_bytes)(const pr_control_link *link, int32_t to);
    void (*progress)(pr_control_link *link);
    bool (*arm)(pr_control_link *link);  // before sleeping on fd; false: progress again first
    void (*drop)(pr_control_link *link, int32_t peer);  // the endpoint has given the peer up
    // Rank 0: writes what a process needs to take a lost rank's place; returns its bytes, 0 if it cannot.
    size_t (*invite)(pr_control_link *link, void *buffer, size_t capacity_bytes);
    void (*destroy)(pr_control_link *link);  // closes what is still open
};

// What a link says to its endpoint, from within progress or send.
void pr_control_deliver(pr_control *control, int32_t from, pr_letter *letter);  // letter is given
void pr_control_lose(pr_control *control, int32_t peer, const char *reason);
// A process has come in the place of a peer. False: the peer was not lost.
bool pr_control_welcome(pr_control *control, int32_t peer);

// Collective over the world; every rank gets the same answer. UCX: PR_ERR_UNSUPPORTED, and nothing
// logged when `quiet`, where it is not built in or some rank cannot open it.
pr_status
pr_control_tcp_create(pr_world *world, pr_control *control, pr_control_link **link) PR_MUST_CHECK;
pr_status pr_control_ucx_create(
    pr_world *world, pr_control *control, bool quiet, pr_control_link **link) PR_MUST_CHECK;

// Of one process that takes the place of a lost rank: by the invitation of rank 0's link.
pr_status pr_control_tcp_join(
    pr_world *world,
    pr_control *control,
    const void *invitation,
    size_t size_bytes,
    pr_control_link **link) PR_MUST_CHECK;
pr_status pr_control_ucx_join(
    pr_world *world,
    pr_control *control,
    const void *invitation,
    size_t size_bytes,
    pr_control_link **link) PR_MUST_CHECK;

// Where rank 0 goes on listening after the star is connected, for processes that replace lost ranks.
typedef struct pr_tcp_door pr_tcp_door;
void pr_control_tcp_door_close(pr_tcp_door *door);
int pr_control_tcp_door_fd(const pr_tcp_door *door);
size_t pr_control_tcp_door_invite(const pr_tcp_door *door, void *buffer, size_t capacity_bytes);
// One caller: its socket and rank, or -1.
int pr_control_tcp_door_accept(const pr_tcp_door *door, int32_t *rank);
// The other side: *sockets as from connect.
pr_status pr_control_tcp_door_enter(
    pr_world *world, const void *invitation, size_t size_bytes, int **sockets) PR_MUST_CHECK;

// Connects the star: *sockets is [ranks], from malloc, -1 where there is no connection. *door is NULL but
// on rank 0 where lost ranks may be replaced. Collective.
pr_status pr_control_tcp_connect(pr_world *world, int **sockets, pr_tcp_door **door) PR_MUST_CHECK;

// Two queues between two endpoints of one process; side 0 and 1. The last release frees.
typedef struct pr_local_pair pr_local_pair;
pr_status pr_local_pair_create(pr_local_pair **pair) PR_MUST_CHECK;
void pr_local_pair_release(pr_local_pair *pair, int side);
int pr_local_pair_fd(const pr_local_pair *pair, int side);  // readable: called, or the other left

typedef struct pr_local_message {
    pr_message_kind kind;
    size_t size_bytes;
    const void *data;  // valid until drop
    bool posted;
    int64_t sent_ns;
} pr_local_message;

// posted: does not end the other side's nap. PR_ERR_PEER, and nothing told, if the other side has left.
pr_status pr_local_pair_send(
    pr_local_pair *pair, int from_side, const pr_message *message, bool posted) PR_MUST_CHECK;
// The oldest message, which stays until drop; message may be NULL.
bool pr_local_pair_peek(pr_local_pair *pair, int side, pr_local_message *message);
void pr_local_pair_drop(pr_local_pair *pair, int side);

// Before and after waiting for the descriptor. rest: false if there is no need to wait.
typedef enum pr_local_rest { PR_LOCAL_AWAKE, PR_LOCAL_NAPPING, PR_LOCAL_ASLEEP } pr_local_rest;
bool pr_local_pair_rest(pr_local_pair *pair, int side, pr_local_rest how);
void pr_local_pair_rise(pr_local_pair *pair, int side, bool called);  // called: it was readable

bool pr_local_pair_has_left(pr_local_pair *pair, int side);  // the other side, and nothing unread

#endif
