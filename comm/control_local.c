// SPDX-License-Identifier: BSD-3-Clause
// Rank 0's controller thread and worker thread: a queue in each direction, one writer and one reader, no
// lock. Messages are copied into a ring, so that one that finds room costs no memory; what does not fit
// goes into a larger ring that follows, and the reader frees the old one when it has read it.
//
//   ring   | record | record | ..free.. | skip |      record = header, data, padding to 16 bytes
//
// A system call wakes a reader only if it rests: asleep for any message, napping for what is urgent.
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "comm/control_link.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"

enum { LEAST_RING_BYTES = 1 << 20, RECORD_ALIGNMENT = 16 };

typedef struct local_record {
    uint32_t size_bytes;
    uint16_t kind;    // PR_MESSAGE_NONE: skip to the ring's beginning
    uint16_t posted;  // can wait until the reader looks
    int64_t sent_ns;
} local_record;
static_assert(sizeof(local_record) == RECORD_ALIGNMENT, "data follows a record's header, aligned");

typedef struct local_ring {
    size_t capacity;  // a power of two
    _Atomic(struct local_ring *)
        next;  // where the writer went on; nothing is written here any more
    _Alignas(64) atomic_size_t written;  // bytes, ever
    _Alignas(64) atomic_size_t released;
    _Alignas(64) unsigned char byte[];
} local_ring;

typedef struct local_queue {
    _Alignas(64) local_ring *writing;
    _Alignas(64) local_ring *reading;
    _Alignas(64) atomic_int rest;  // pr_local_rest of the reader
    atomic_bool left;              // the side that reads this queue is gone
    int fd;                        // readable: the reader has been called
} local_queue;

struct pr_local_pair {
    local_queue queue[2];  // [reading side]
    atomic_int sides;
};

static local_ring *create_ring(size_t record_bytes)
{
    size_t capacity = LEAST_RING_BYTES;
    while (capacity < 2 * record_bytes)
        capacity *= 2;
    local_ring *ring = aligned_alloc(64, sizeof *ring + capacity);
    if (!ring)
        return NULL;
    memset(ring, 0, sizeof *ring);
    ring->capacity = capacity;
    return ring;
}

static void call_reader(const local_queue *queue)
{
    uint64_t one = 1;
    ssize_t written = write(queue->fd, &one, sizeof one);
    (void)written;  // fails only when the counter is full, and then it is readable
}

static void destroy_pair(pr_local_pair *pair)
{
    for (int side = 0; side < 2; side++) {
        local_queue *queue = &pair->queue[side];
        for (local_ring *ring = queue->reading, *next; ring; ring = next) {
            next = atomic_load(&ring->next);
            free(ring);
        }
        if (queue->fd >= 0)
            close(queue->fd);
    }
    free(pair);
}

pr_status pr_local_pair_create(pr_local_pair **pair)
{
    pr_local_pair *created = aligned_alloc(64, sizeof *created);
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the control queues");
    memset(created, 0, sizeof *created);
    atomic_init(&created->sides, 2);
    bool complete = true;
    for (int side = 0; side < 2; side++) {
        local_queue *queue = &created->queue[side];
        queue->reading = queue->writing = create_ring(0);
        queue->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        complete &= queue->reading != NULL && queue->fd >= 0;
    }
    if (!complete) {
        destroy_pair(created);
        return pr_fail(
            PR_ERR_RESOURCE,
            "no memory or event descriptor for the control queues: raise ulimit -n");
    }
    *pair = created;
    return PR_OK;
}

void pr_local_pair_release(pr_local_pair *pair, int side)
{
    atomic_store(&pair->queue[side].left, true);
    call_reader(&pair->queue[!side]);
    if (atomic_fetch_sub(&pair->sides, 1) == 1)
        destroy_pair(pair);
}

int pr_local_pair_fd(const pr_local_pair *pair, int side) { return pair->queue[side].fd; }

// ---- Writing ----

static size_t record_bytes_of(size_t size_bytes)
{
    size_t data_bytes = (size_bytes + RECORD_ALIGNMENT - 1) / RECORD_ALIGNMENT * RECORD_ALIGNMENT;
    return sizeof(local_record) + data_bytes;
}

// The ring in which a record fits in one piece, after a skip if need be, and where; NULL without memory.
static local_ring *find_room(local_queue *queue, size_t record_bytes, size_t *written)
{
    local_ring *ring = queue->writing;
    size_t at = atomic_load_explicit(&ring->written, memory_order_relaxed);
    size_t used = at - atomic_load_explicit(&ring->released, memory_order_acquire);
    size_t to_end = ring->capacity - (at & (ring->capacity - 1));
    size_t skipped = to_end < record_bytes ? to_end : 0;
    if (used + skipped + record_bytes > ring->capacity) {
        local_ring *larger = create_ring(record_bytes);
        if (!larger)
            return NULL;
        queue->writing = larger;
        atomic_store_explicit(&ring->next, larger, memory_order_release);
        *written = 0;
        return larger;
    }
    if (skipped > 0) {
        local_record skip = {.size_bytes = (uint32_t)(skipped - sizeof skip)};
        memcpy(ring->byte + (at & (ring->capacity - 1)), &skip, sizeof skip);
    }
    *written = at + skipped;
    return ring;
}

pr_status
pr_local_pair_send(pr_local_pair *pair, int from_side, const pr_message *message, bool posted)
{
    local_queue *queue = &pair->queue[!from_side];
    local_record record = {
        .size_bytes = (uint32_t)message->size_bytes,
        .kind = (uint16_t)message->kind,
        .posted = posted,
        .sent_ns = pr_clock_now_ns()};
    size_t at = 0, record_bytes = record_bytes_of(message->size_bytes);
    if (atomic_load(&queue->left))
        return PR_ERR_PEER;
    local_ring *ring = find_room(queue, record_bytes, &at);
    if (!ring)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a message of %zu bytes", record_bytes);
    unsigned char *to = ring->byte + (at & (ring->capacity - 1));
    memcpy(to, &record, sizeof record);
    if (message->size_bytes)
        memcpy(to + sizeof record, message->data, message->size_bytes);
    // The writer publishes, then looks how the reader rests; the reader says so, then looks for news.
    atomic_store(&ring->written, at + record_bytes);
    int rest = atomic_load(&queue->rest);
    if ((rest == PR_LOCAL_ASLEEP || (rest == PR_LOCAL_NAPPING && !posted)) &&
        atomic_exchange(&queue->rest, PR_LOCAL_AWAKE) != PR_LOCAL_AWAKE)
        call_reader(queue);
    return PR_OK;
}

// ---- Reading ----

// The header of the oldest record, or NULL.
static const local_record *find_record(local_queue *queue)
{
    for (;;) {
        local_ring *ring = queue->reading;
        local_ring *next = atomic_load_explicit(&ring->next, memory_order_acquire);
        size_t at = atomic_load_explicit(&ring->released, memory_order_relaxed);
        if (at != atomic_load(&ring->written)) {
            const void *record = ring->byte + (at & (ring->capacity - 1));
            const local_record *found = record;
            if (found->kind != PR_MESSAGE_NONE)
                return found;
            atomic_store_explicit(
                &ring->released, at + sizeof *found + found->size_bytes, memory_order_release);
        } else if (next) {
            queue->reading = next;
            free(ring);
        } else {
            return NULL;
        }
    }
}

bool pr_local_pair_peek(pr_local_pair *pair, int side, pr_local_message *message)
{
    const local_record *record = find_record(&pair->queue[side]);
    if (record && message)
        *message = (pr_local_message){
            .kind = (pr_message_kind)record->kind,
            .size_bytes = record->size_bytes,
            .data = record + 1,
            .posted = record->posted,
            .sent_ns = record->sent_ns};
    return record != NULL;
}

void pr_local_pair_drop(pr_local_pair *pair, int side)
{
    local_queue *queue = &pair->queue[side];
    const local_record *record = find_record(queue);
    assert(record);
    atomic_fetch_add_explicit(
        &queue->reading->released, record_bytes_of(record->size_bytes), memory_order_release);
}

bool pr_local_pair_rest(pr_local_pair *pair, int side, pr_local_rest how)
{
    local_queue *queue = &pair->queue[side];
    atomic_store(&queue->rest, (int)how);
    return !find_record(queue) && !atomic_load(&pair->queue[!side].left);
}

void pr_local_pair_rise(pr_local_pair *pair, int side, bool called)
{
    local_queue *queue = &pair->queue[side];
    atomic_store(&queue->rest, PR_LOCAL_AWAKE);
    uint64_t count;
    ssize_t got = called ? read(queue->fd, &count, sizeof count) : 0;
    (void)got;  // nonblocking: nothing to clear is fine
}

bool pr_local_pair_has_left(pr_local_pair *pair, int side)
{
    return atomic_load(&pair->queue[!side].left) && !find_record(&pair->queue[side]);
}
