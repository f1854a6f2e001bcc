// SPDX-License-Identifier: BSD-3-Clause
// The endpoint: what is the same for every back end.
//
//   deliver -> order by sequence -> check -> inbox -> receive
//
// Heartbeat. The controller pings every peer each interval; a pong says whether the worker is
// waiting for a message (idle) and how many frames it had seen. Only a peer known to be idle can be
// silent: one that computes answers nothing, and may take long over it. Any message sent to a peer
// ends the knowledge that it is idle. A worker expects a ping each interval once it has heard one.
// Time during which this endpoint itself did not look is not counted against anyone.
//
// Naps. Calling a sleeping thread costs the caller a system call, so a worker that steps only posts what
// can wait. While posted messages come regularly, the controller looks by itself: when the next is due, then
// after an eighth of the time between two, and where it is late ever more rarely. Where none comes the
// controller falls asleep, and the next one calls it.
#include "comm/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "comm/control_link.h"
#include "comm/watch.h"
#include "runtime/base/clock.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

enum {
    LEAST_NAP_US = 100,
    LONGEST_GAP_MS = 1000,
    GAPS_AWAKE = 4,
    LEAST_AWAKE_MS = 100,
    NAPS_A_GAP = 8
};
enum { MISSED_PINGS = 6, SEND_LIMIT_MS = 10000, PART_MS = 1000, WINDOW_BYTES = 4 * 1024 * 1024 };

typedef struct control_peer {
    bool exists, lost;
    bool idle;                // controller: known to wait for a message
    bool heard;               // anything so far
    bool pong_due;            // worker: answer the ping
    bool drop_due;            // lost: the link has to be told
    uint32_t sent, received;  // frames
    int64_t heard_ns;
    pr_letter *early;     // arrived before their turn, ascending sequence
    pr_letter *obituary;  // the LOST message, taken at creation so that it cannot fail
} control_peer;

struct pr_control {
    int32_t rank, ranks;
    bool is_controller;
    bool waits;  // inside a receive that may sleep
    int64_t ping_ns, beat_ns, looked_ns;
    int wake_fd;
    pr_control_link *link;  // NULL: no remote peers
    pr_local_pair *pair;    // NULL: no local peer
    int side;
    bool reads_pair;  // what the last receive gave out is the pair's oldest message
    int64_t posted_ns,
        gap_ns;  // when the last posted message was sent, and the time between two; 0: unknown
    control_peer *peer;        // [ranks]
    pr_letter *first, **last;  // inbox
    pr_letter *current;        // what the last receive gave out
};

enum { OBITUARY_BYTES = 120 };

pr_letter *pr_letter_create(const pr_frame *frame)
{
    pr_letter *letter = malloc(sizeof *letter + frame->size_bytes);
    if (letter) {
        letter->next = NULL;
        letter->frame = *frame;
    }
    return letter;
}

static void free_letters(pr_letter *letter)
{
    while (letter) {
        pr_letter *next = letter->next;
        free(letter);
        letter = next;
    }
}

const char *pr_frame_fault(const pr_frame *frame)
{
    if (frame->magic != PR_FRAME_MAGIC)
        return "sent something that is not a control frame";
    if (frame->version != PR_FRAME_VERSION)
        return "speaks another version of the control plane";
    if (frame->size_bytes > PR_FRAME_MAX_BYTES)
        return "sent a frame that is too large";
    return NULL;
}

static uint64_t checksum_of(const pr_frame *frame, const void *data)
{
    uint64_t seed = pr_hash_bytes(0, frame, offsetof(pr_frame, checksum));
    return frame->size_bytes ? pr_hash_bytes(seed, data, frame->size_bytes) : seed;
}

static void put_in_inbox(pr_control *control, pr_letter *letter)
{
    letter->next = NULL;
    *control->last = letter;
    control->last = &letter->next;
}

// Puts the LOST message of a peer behind everything that came from it.
static void announce_loss(pr_control *control, int32_t rank, const char *reason)
{
    control_peer *peer = &control->peer[rank];
    pr_letter *letter = peer->obituary;
    peer->lost = true;
    peer->obituary = NULL;
    snprintf((char *)letter->data, OBITUARY_BYTES, "rank %d %s", rank, reason);
    letter->frame = (pr_frame){
        .kind = PR_MESSAGE_LOST,
        .from = rank,
        .size_bytes = (uint32_t)strlen((char *)letter->data) + 1};
    put_in_inbox(control, letter);
}

void pr_control_lose(pr_control *control, int32_t rank, const char *reason)
{
    if (!control->peer[rank].exists || control->peer[rank].lost)
        return;
    announce_loss(control, rank, reason);
    control->peer[rank].drop_due = true;
}

bool pr_control_welcome(pr_control *control, int32_t rank)
{
    control_peer *peer = &control->peer[rank];
    pr_letter *obituary = pr_letter_create(&(pr_frame){.size_bytes = OBITUARY_BYTES});
    if (!peer->exists || !peer->lost || peer->drop_due || !obituary) {
        free(obituary);
        return false;
    }
    free_letters(peer->early);
    *peer = (control_peer){.exists = true, .obituary = obituary, .heard_ns = control->looked_ns};
    return true;
}

static void take_pong(control_peer *peer, const pr_letter *letter)
{
    uint32_t idle_and_received[2] = {0, 0};
    if (letter->frame.size_bytes == sizeof idle_and_received)
        memcpy(idle_and_received, letter->data, sizeof idle_and_received);
    // What was sent since would have ended the wait: then this pong knows nothing of now.
    if (idle_and_received[0] && idle_and_received[1] == peer->sent)
        peer->idle = true;
}

// A letter whose turn has come. Takes it.
static void accept_letter(pr_control *control, int32_t from, pr_letter *letter)
{
    control_peer *peer = &control->peer[from];
    peer->received++;
    switch ((int)letter->frame.kind) {
    case PR_FRAME_PING:
        peer->pong_due = true;
        break;
    case PR_FRAME_PONG:
        take_pong(peer, letter);
        break;
    case PR_FRAME_BYE:
        pr_control_lose(control, from, "has left");
        break;
    case PR_MESSAGE_PLAN:
    case PR_MESSAGE_REPORT:
    case PR_MESSAGE_STOP:
    case PR_MESSAGE_FAULT:
    case PR_MESSAGE_COUNTS:
    case PR_MESSAGE_WATCH:
    case PR_MESSAGE_ORDER:
    case PR_MESSAGE_DONE:
        put_in_inbox(control, letter);
        return;
    default:
        pr_control_lose(control, from, "sent a message of an unknown kind");
    }
    free(letter);
}

void pr_control_deliver(pr_control *control, int32_t from, pr_letter *letter)
{
    control_peer *peer = &control->peer[from];
    const char *fault = pr_frame_fault(&letter->frame);
    if (!fault && (letter->frame.from != from || letter->frame.sequence < peer->received))
        fault = "sent a frame out of place";
    if (!fault && letter->frame.checksum != checksum_of(&letter->frame, letter->data))
        fault = "sent a frame with a wrong checksum";
    if (fault)
        pr_control_lose(control, from, fault);
    if (peer->lost) {
        free(letter);
        return;
    }
    peer->heard = true;
    peer->heard_ns = control->looked_ns;
    pr_letter **place = &peer->early;
    while (*place && (*place)->frame.sequence < letter->frame.sequence)
        place = &(*place)->next;
    if (*place && (*place)->frame.sequence == letter->frame.sequence) {
        pr_control_lose(control, from, "sent a frame twice");
        free(letter);
        return;
    }
    letter->next = *place;
    *place = letter;
    while (peer->early && peer->early->frame.sequence == peer->received && !peer->lost) {
        pr_letter *next = peer->early;
        peer->early = next->next;
        accept_letter(control, from, next);
    }
}

static void
send_frame(pr_control *control, int32_t to, int32_t kind, const void *data, size_t size_bytes)
{
    control_peer *peer = &control->peer[to];
    pr_frame frame = {
        .magic = PR_FRAME_MAGIC,
        .version = PR_FRAME_VERSION,
        .kind = (uint16_t)kind,
        .from = control->rank,
        .size_bytes = (uint32_t)size_bytes,
        .sequence = peer->sent++};
    frame.checksum = checksum_of(&frame, data);
    control->link->send(control->link, to, &frame, data);
}

// One round over the peers each interval: judge, then ping.
static void beat(pr_control *control)
{
    int64_t now_ns = control->looked_ns;
    for (int32_t i = 0; i < control->ranks; i++) {
        control_peer *peer = &control->peer[i];
        if (!peer->exists || peer->lost)
            continue;
        bool must_answer = control->is_controller ? peer->idle : peer->heard;
        if (must_answer && now_ns - peer->heard_ns > MISSED_PINGS * control->ping_ns) {
            char reason[64];
            snprintf(
                reason, sizeof reason, "is silent for %lld ms",
                (long long)((now_ns - peer->heard_ns) / 1000000));
            pr_control_lose(control, i, reason);
        } else if (
            control->is_controller &&
            control->link->queued_bytes(control->link, i) < WINDOW_BYTES) {
            send_frame(control, i, PR_FRAME_PING, NULL, 0);
        }
    }
    control->beat_ns = now_ns + control->ping_ns;
}

// After the link has moved: what its callbacks could not do themselves.
static void settle(pr_control *control, int32_t rank)
{
    control_peer *peer = &control->peer[rank];
    if (peer->pong_due && !peer->lost) {
        bool idle = control->waits && !control->first;  // a message beside the ping ends the wait
        uint32_t idle_and_received[2] = {idle, peer->received};
        send_frame(control, rank, PR_FRAME_PONG, idle_and_received, sizeof idle_and_received);
    }
    peer->pong_due = false;
    if (peer->drop_due) {
        peer->drop_due = false;
        control->link->drop(control->link, rank);
    }
}

static void look_at_pair(pr_control *control)
{
    if (!control->peer[control->rank].lost && pr_local_pair_has_left(control->pair, control->side))
        announce_loss(control, control->rank, "has ended its other thread");
}

static bool has_message(const pr_control *control)
{
    return control->first ||
           (control->pair && pr_local_pair_peek(control->pair, control->side, NULL));
}

// Moves everything that can move without waiting.
static void pump(pr_control *control)
{
    if (control->pair)
        look_at_pair(control);
    if (!control->link)
        return;
    int64_t now_ns = pr_clock_now_ns(), gap_ns = now_ns - control->looked_ns;
    control->looked_ns = now_ns;
    control->link->progress(control->link);
    for (int32_t i = 0; i < control->ranks; i++) {
        if (control->ping_ns > 0 && gap_ns > control->ping_ns)
            control->peer[i].heard_ns += gap_ns - control->ping_ns;
        if (control->peer[i].pong_due || control->peer[i].drop_due)
            settle(control, i);
    }
    if (control->ping_ns > 0 && now_ns >= control->beat_ns)
        beat(control);
}

// When to look for the next posted message, or 0: there is nothing to expect.
static int64_t next_look_ns(const pr_control *control, int64_t now_ns)
{
    int64_t gap_ns = control->gap_ns, waited_ns = now_ns - control->posted_ns;
    if (gap_ns == 0 ||
        (waited_ns > GAPS_AWAKE * gap_ns && waited_ns > LEAST_AWAKE_MS * INT64_C(1000000)))
        return 0;
    int64_t least_ns = LEAST_NAP_US * INT64_C(1000);
    int64_t nap_ns = (waited_ns > gap_ns ? waited_ns : gap_ns) / NAPS_A_GAP;
    int64_t due_ns = control->posted_ns + gap_ns + least_ns / 2;
    return due_ns > now_ns + least_ns ? due_ns : now_ns + (nap_ns > least_ns ? nap_ns : least_ns);
}

static void note_posted(pr_control *control, const pr_local_message *message)
{
    int64_t gap_ns = message->sent_ns - control->posted_ns;
    bool regular =
        message->posted && control->posted_ns > 0 && gap_ns < LONGEST_GAP_MS * INT64_C(1000000);
    control->gap_ns = regular ? gap_ns + 1 : 0;
    control->posted_ns = message->posted ? message->sent_ns : 0;
}

// Sleeps until something can be done or the deadline. Returns true if pr_control_wake was called.
static bool sleep_until(pr_control *control, int64_t deadline_ns)
{
    struct pollfd watched[3] = {{.fd = control->wake_fd, .events = POLLIN}};
    nfds_t count = 1;
    int64_t now_ns = pr_clock_now_ns();
    if (control->link) {
        if (!control->link->arm(control->link))
            return false;
        watched[count++] = (struct pollfd){.fd = control->link->fd, .events = POLLIN};
        if (control->ping_ns > 0 && control->beat_ns < deadline_ns)
            deadline_ns = control->beat_ns;
    }
    const struct pollfd *pair = NULL;
    if (control->pair && !control->peer[control->rank].lost) {
        int64_t look_ns = next_look_ns(control, now_ns);
        if (look_ns > 0 && look_ns < deadline_ns)
            deadline_ns = look_ns;
        if (pr_local_pair_rest(
                control->pair, control->side, look_ns > 0 ? PR_LOCAL_NAPPING : PR_LOCAL_ASLEEP))
            pair = &watched[count];
        else
            deadline_ns = now_ns;
        watched[count++] =
            (struct pollfd){.fd = pr_local_pair_fd(control->pair, control->side), .events = POLLIN};
    }
    int64_t wait_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    struct timespec wait = {.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000};
    int ready = ppoll(watched, count, deadline_ns == INT64_MAX ? NULL : &wait, NULL);
    if (control->pair)
        pr_local_pair_rise(
            control->pair, control->side, pair && ready > 0 && (pair->revents & POLLIN));
    if (ready <= 0 || !(watched[0].revents & POLLIN))
        return false;
    uint64_t wakes;
    return read(control->wake_fd, &wakes, sizeof wakes) == sizeof wakes;
}

// Gives out the oldest message of the inbox, or else of the pair.
static void give_out(pr_control *control, pr_message *message)
{
    pr_local_message local;
    pr_letter *letter = control->first;
    if (letter) {
        control->first = letter->next;
        if (!control->first)
            control->last = &control->first;
        control->current = letter;
        *message = (pr_message){
            .kind = (pr_message_kind)letter->frame.kind,
            .from = letter->frame.from,
            .data = letter->data,
            .size_bytes = letter->frame.size_bytes};
    } else if (control->pair && pr_local_pair_peek(control->pair, control->side, &local)) {
        control->reads_pair = true;
        note_posted(control, &local);
        *message = (pr_message){
            .kind = local.kind,
            .from = control->rank,
            .data = local.data,
            .size_bytes = local.size_bytes};
    }
}

static void take_back(pr_control *control)
{
    if (control->current)
        free(control->current);
    if (control->reads_pair)
        pr_local_pair_drop(control->pair, control->side);
    control->current = NULL;
    control->reads_pair = false;
}

pr_status pr_control_receive(pr_control *control, int32_t timeout_ms, pr_message *message)
{
    int64_t deadline_ns = INT64_MAX;
    if (timeout_ms >= 0)
        deadline_ns = pr_clock_now_ns() + (int64_t)timeout_ms * 1000000;
    take_back(control);
    control->waits = timeout_ms != 0;
    *message = (pr_message){.kind = PR_MESSAGE_NONE, .from = -1};
    for (;;) {
        pump(control);
        if (has_message(control) || timeout_ms == 0 || pr_clock_now_ns() >= deadline_ns)
            break;
        if (sleep_until(control, deadline_ns)) {
            pump(control);
            break;
        }
    }
    control->waits = false;
    give_out(control, message);
    return PR_OK;
}

static pr_status send_local(pr_control *control, const pr_message *message, bool posted)
{
    pr_status status = pr_local_pair_send(control->pair, control->side, message, posted);
    if (status == PR_ERR_PEER)
        return pr_fail(PR_ERR_PEER, "the other thread of rank %d has left", control->rank);
    return status;
}

// Makes progress until no more than limit_bytes wait for the peer.
static pr_status wait_for_room(pr_control *control, int32_t to, size_t limit_bytes)
{
    pr_control_link *link = control->link;
    int64_t begin_ns = 0;
    bool told = false;
    while (!control->peer[to].lost && link->queued_bytes(link, to) > limit_bytes) {
        int64_t now_ns = pr_clock_now_ns();
        if (begin_ns == 0)
            begin_ns = now_ns;
        if (now_ns - begin_ns > SEND_LIMIT_MS * INT64_C(1000000))
            return pr_fail(
                PR_ERR_TIMEOUT, "rank %d took no control message for %d ms", to, SEND_LIMIT_MS);
        if (!told && now_ns - begin_ns > PR_WATCH_LOOK_MS * INT64_C(1000000)) {
            pr_watch_wait("a control message", to);
            told = true;
        }
        pump(control);
        struct pollfd watched = {.fd = link->fd, .events = POLLIN};
        if (link->queued_bytes(link, to) > limit_bytes && link->arm(link))
            poll(&watched, 1, 10);
    }
    if (told)
        pr_watch_go();
    if (control->peer[to].lost)
        return pr_fail(PR_ERR_PEER, "rank %d is gone", to);
    return PR_OK;
}

pr_status pr_control_send(
    pr_control *control, int32_t to, pr_message_kind kind, const void *data, size_t size_bytes)
{
    if (size_bytes > PR_FRAME_MAX_BYTES)
        return pr_fail(PR_ERR_ARGUMENT, "a control message of %zu bytes is too large", size_bytes);
    if (control->pair && to == control->rank)
        return send_local(
            control, &(pr_message){.kind = kind, .data = data, .size_bytes = size_bytes}, false);
    if (to < 0 || to >= control->ranks || !control->peer[to].exists)
        return pr_fail(
            PR_ERR_ARGUMENT, "rank %d has no control connection to rank %d", control->rank, to);
    PR_TRY(wait_for_room(control, to, WINDOW_BYTES));
    control->peer[to].idle = false;
    send_frame(control, to, kind, data, size_bytes);
    // A worker may compute for long now: nothing must wait here for its next call. The controller
    // always comes back soon, and must not wait for one slow worker.
    return control->is_controller ? PR_OK : wait_for_room(control, to, 0);
}

pr_status pr_control_post(
    pr_control *control, int32_t to, pr_message_kind kind, const void *data, size_t size_bytes)
{
    if (!control->pair || to != control->rank || size_bytes > PR_FRAME_MAX_BYTES)
        return pr_control_send(control, to, kind, data, size_bytes);
    return send_local(
        control, &(pr_message){.kind = kind, .data = data, .size_bytes = size_bytes}, true);
}

void pr_control_wake(pr_control *control)
{
    int saved_errno = errno;
    uint64_t one = 1;
    ssize_t written = write(control->wake_fd, &one, sizeof one);
    (void)written;
    errno = saved_errno;
}

const char *pr_control_backend(const pr_control *control)
{
    return control->link ? control->link->name : "local";
}

static pr_status
create_endpoint(const pr_control_params *params, bool is_controller, pr_control **control)
{
    pr_control *created = calloc(1, sizeof *created);
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a control endpoint");
    created->rank = pr_world_rank(params->world);
    created->ranks = pr_world_ranks(params->world);
    created->is_controller = is_controller;
    created->last = &created->first;
    created->ping_ns = (int64_t)params->ping_ms * 1000000;
    created->looked_ns = pr_clock_now_ns();
    created->beat_ns = created->looked_ns + created->ping_ns;
    created->peer = calloc((size_t)created->ranks, sizeof *created->peer);
    created->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    bool complete = created->peer && created->wake_fd >= 0;
    for (int32_t i = 0; complete && i < created->ranks; i++) {
        created->peer[i].heard_ns = created->looked_ns;
        created->peer[i].exists = i != created->rank && (is_controller || i == 0);
        created->peer[i].obituary = pr_letter_create(&(pr_frame){.size_bytes = OBITUARY_BYTES});
        complete = created->peer[i].obituary;
    }
    if (!complete) {
        pr_control_destroy(created);
        return pr_fail(PR_ERR_RESOURCE, "no memory or event descriptor for a control endpoint");
    }
    *control = created;
    return PR_OK;
}

static pr_status open_link(const pr_control_params *params, pr_control *control)
{
    bool any = strcmp(params->backend, "auto") == 0;
    pr_world *world = params->world;
    if (!any && strcmp(params->backend, "ucx") != 0 && strcmp(params->backend, "tcp") != 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "control back end '%s' is unknown: use auto, ucx or tcp",
            params->backend);
    if (pr_world_ranks(world) == 1)
        return PR_OK;
    if (strcmp(params->backend, "tcp") != 0) {
        pr_status status = pr_control_ucx_create(world, control, any, &control->link);
        if (status != PR_ERR_UNSUPPORTED || !any)
            return status;
    }
    return pr_control_tcp_create(world, control, &control->link);
}

pr_status
pr_control_create(const pr_control_params *params, pr_control **worker, pr_control **controller)
{
    bool has_controller = pr_world_rank(params->world) == 0;
    pr_control *working = NULL, *controlling = NULL;
    pr_local_pair *pair = NULL;
    pr_status status;
    PR_TRY_GOTO(create_endpoint(params, false, &working), destroy_created);
    if (has_controller) {
        PR_TRY_GOTO(create_endpoint(params, true, &controlling), destroy_created);
        PR_TRY_GOTO(pr_local_pair_create(&pair), destroy_created);
        controlling->pair = working->pair = pair;
        controlling->side = 1;
    }
    pr_watch_collective("control plane creation");
    PR_TRY_GOTO(open_link(params, has_controller ? controlling : working), destroy_created);
    pr_watch_go();
    *worker = working;
    *controller = controlling;
    return PR_OK;
destroy_created:
    pr_control_destroy(working);
    pr_control_destroy(controlling);
    return status;
}

size_t pr_control_invite(pr_control *control, void *invitation)
{
    char *kind = invitation;
    if (!control->link)
        return 0;
    size_t size_bytes = control->link->invite(control->link, kind + 1, PR_INVITATION_BYTES - 1);
    *kind = control->link->name[0];
    return size_bytes > 0 ? size_bytes + 1 : 0;
}

pr_status pr_control_join(
    pr_world *world,
    int32_t ping_ms,
    const void *invitation,
    size_t size_bytes,
    pr_control **worker)
{
    const char *kind = invitation;
    pr_control *created;
    if (size_bytes < 2)
        return pr_fail(PR_ERR_INTERNAL, "an empty invitation to the control plane");
    pr_control_params params = {.world = world, .ping_ms = ping_ms};
    PR_TRY(create_endpoint(&params, false, &created));
    pr_status status =
        *kind == 't'
            ? pr_control_tcp_join(world, created, kind + 1, size_bytes - 1, &created->link)
            : pr_control_ucx_join(world, created, kind + 1, size_bytes - 1, &created->link);
    if (status != PR_OK) {
        pr_control_destroy(created);
        return status;
    }
    *worker = created;
    return PR_OK;
}

static bool has_live_peer(const pr_control *control)
{
    for (int32_t i = 0; i < control->ranks; i++) {
        if (control->peer[i].exists && !control->peer[i].lost)
            return true;
    }
    return false;
}

// Says goodbye and waits a while for the peers to hear it, so that our last words arrive: closing a
// connection at once could destroy them on the way.
static void part(pr_control *control)
{
    for (int32_t i = 0; i < control->ranks; i++) {
        if (control->peer[i].exists && !control->peer[i].lost)
            send_frame(control, i, PR_FRAME_BYE, NULL, 0);
    }
    int64_t deadline_ns = pr_clock_now_ns() + (int64_t)PART_MS * 1000000;
    for (;;) {
        pump(control);
        if (!has_live_peer(control) || pr_clock_now_ns() > deadline_ns)
            return;
        struct pollfd watched = {.fd = control->link->fd, .events = POLLIN};
        if (control->link->arm(control->link))
            poll(&watched, 1, 50);
    }
}

void pr_control_destroy(pr_control *control)
{
    if (!control)
        return;
    if (control->link) {
        part(control);
        control->link->destroy(control->link);
    }
    take_back(control);
    if (control->pair)
        pr_local_pair_release(control->pair, control->side);
    for (int32_t i = 0; control->peer && i < control->ranks; i++) {
        free_letters(control->peer[i].early);
        free(control->peer[i].obituary);
    }
    free_letters(control->first);
    if (control->wake_fd >= 0)
        close(control->wake_fd);
    free(control->peer);
    free(control);
}
