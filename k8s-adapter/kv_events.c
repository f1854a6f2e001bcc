// SPDX-License-Identifier: BSD-3-Clause
#include "k8s-adapter/kv_events.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <zmq.h>

#include "k8s-adapter/kv_batch.h"
#include "runtime/base/log.h"

enum {
    REPLAYS_WAITING = 16,  // of one peer
    TOPIC_BYTES = 512,
    SEQUENCE_BYTES = 8,
    FLUSH_BLOCKS = 16,
    CLOSE_MS = 1000,
    MESSAGES_MOST = 1 << 20,
};
static const int64_t flush_ns = 50000000;

typedef struct kept {
    uint64_t sequence;
    zmq_msg_t payload;  // shares its bytes with what was sent
} kept;

struct pr_kv_events {
    pr_kv_events_params params;
    char topic[TOPIC_BYTES];
    char endpoint[PR_KV_EVENTS_ENDPOINT_BYTES], replay_endpoint[PR_KV_EVENTS_ENDPOINT_BYTES];
    unsigned char secret[PR_KV_BATCH_SECRET_BYTES];
    int32_t *first_lane;  // [groups] number of its first lane over all groups
    int32_t lanes;
    pr_kv_batch **batch;  // [lanes]
    void *context, *publisher, *replay;
    uint64_t sequence;  // of the next message
    kept *kept;         // ring [replay_messages]
    int32_t oldest, keeps;
    size_t kept_bytes;
    pr_kv_events_counts counts;
};

// ---- Messages ----

static void put_big_endian(unsigned char *bytes, uint64_t value)
{
    for (int i = 0; i < SEQUENCE_BYTES; i++)
        bytes[i] = (unsigned char)(value >> (8 * (SEQUENCE_BYTES - 1 - i)));
}

static uint64_t get_big_endian(const unsigned char *bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < SEQUENCE_BYTES; i++)
        value = value << 8 | bytes[i];
    return value;
}

static double unix_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void forget_oldest(pr_kv_events *events)
{
    kept *oldest = &events->kept[events->oldest];
    events->kept_bytes -= zmq_msg_size(&oldest->payload);
    zmq_msg_close(&oldest->payload);
    events->oldest = (events->oldest + 1) % events->params.replay_messages;
    events->keeps--;
}

static void keep(pr_kv_events *events, zmq_msg_t *payload)
{
    if (!events->replay)
        return;
    size_t size_bytes = zmq_msg_size(payload);
    while (events->keeps > 0 && (events->keeps == events->params.replay_messages ||
                                 events->kept_bytes + size_bytes > PR_KV_EVENTS_REPLAY_BYTES))
        forget_oldest(events);
    int32_t at = (events->oldest + events->keeps) % events->params.replay_messages;
    kept *newest = &events->kept[at];
    newest->sequence = events->sequence;
    zmq_msg_init(&newest->payload);
    zmq_msg_copy(&newest->payload, payload);
    events->kept_bytes += size_bytes;
    events->keeps++;
}

// Takes the payload.
static bool send_message(pr_kv_events *events, zmq_msg_t *payload)
{
    unsigned char sequence[SEQUENCE_BYTES];
    const int more = ZMQ_DONTWAIT | ZMQ_SNDMORE;
    put_big_endian(sequence, events->sequence);
    bool sent = zmq_send(events->publisher, events->topic, strlen(events->topic), more) >= 0 &&
                zmq_send(events->publisher, sequence, sizeof sequence, more) >= 0 &&
                zmq_msg_send(payload, events->publisher, ZMQ_DONTWAIT) >= 0;
    if (!sent)
        zmq_msg_close(payload);
    return sent;
}

// A message that is dropped keeps its number: who listens sees the gap and asks for it.
static void flush_batch(pr_kv_events *events, pr_kv_batch *batch)
{
    msgpack_sbuffer buffer;
    zmq_msg_t payload;
    if (batch->blocks == 0)
        return;
    msgpack_sbuffer_init(&buffer);
    bool made = pr_kv_batch_encode(batch, unix_s(), events->params.arrays, &buffer) &&
                zmq_msg_init_size(&payload, buffer.size) == 0;
    if (made) {
        memcpy(zmq_msg_data(&payload), buffer.data, buffer.size);
        keep(events, &payload);
        made = send_message(events, &payload);
    }
    msgpack_sbuffer_destroy(&buffer);
    events->sequence++;
    if (made)
        events->counts.messages++;
    else
        events->counts.dropped++;
}

// ---- What lanes tell ----

static pr_kv_batch *room_for(pr_kv_events *events, int32_t group, int32_t lane)
{
    pr_kv_batch *batch = events->batch[events->first_lane[group] + lane];
    if (batch->blocks == PR_KV_BATCH_BLOCKS)
        flush_batch(events, batch);
    return batch;
}

static void stored(void *context, int32_t group, int32_t lane, const pr_kv_block *block)
{
    pr_kv_events *events = context;
    pr_kv_batch_store(room_for(events, group, lane), block, events->secret);
    events->counts.stored++;
}

static void evicted(void *context, int32_t group, int32_t lane, uint64_t chain)
{
    pr_kv_events *events = context;
    pr_kv_batch_remove(room_for(events, group, lane), chain);
    events->counts.removed++;
}

pr_kv_listener pr_kv_events_listener(pr_kv_events *events)
{
    return (pr_kv_listener){.context = events, .stored = stored, .evicted = evicted};
}

static void clear_all(pr_kv_events *events)
{
    for (int32_t i = 0; i < events->lanes; i++) {
        flush_batch(events, events->batch[i]);
        pr_kv_batch_clear(events->batch[i]);
        flush_batch(events, events->batch[i]);
    }
}

// ---- Replay ----

// Reads one request: who asks, and the last frame, which is where to begin. False: there is none.
static bool receive_request(void *socket, zmq_msg_t *who, uint64_t *begin, bool *valid)
{
    zmq_msg_t frame;
    zmq_msg_init(who);
    if (zmq_msg_recv(who, socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(who);
        return false;
    }
    *valid = false;
    bool more = zmq_msg_more(who);
    while (more) {
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            return true;
        }
        more = zmq_msg_more(&frame);
        *valid = !more && zmq_msg_size(&frame) == SEQUENCE_BYTES;
        if (*valid)
            *begin = get_big_endian(zmq_msg_data(&frame));
        zmq_msg_close(&frame);
    }
    return true;
}

// [who, "", sequence, payload]. A peer that takes no more loses what follows; it sees the gap.
static bool reply(void *socket, zmq_msg_t *who, uint64_t number, zmq_msg_t *payload)
{
    unsigned char sequence[SEQUENCE_BYTES];
    const int more = ZMQ_DONTWAIT | ZMQ_SNDMORE;
    zmq_msg_t to, body;
    put_big_endian(sequence, number);
    zmq_msg_init(&to);
    zmq_msg_copy(&to, who);
    zmq_msg_init(&body);
    if (payload)
        zmq_msg_copy(&body, payload);
    bool sent = zmq_msg_send(&to, socket, more) >= 0 && zmq_send(socket, "", 0, more) >= 0 &&
                zmq_send(socket, sequence, sizeof sequence, more) >= 0 &&
                zmq_msg_send(&body, socket, ZMQ_DONTWAIT) >= 0;
    if (!sent) {
        zmq_msg_close(&to);
        zmq_msg_close(&body);
    }
    return sent;
}

static void answer_replay(pr_kv_events *events)
{
    zmq_msg_t who;
    uint64_t begin = 0;
    bool valid;
    if (!events->replay || !receive_request(events->replay, &who, &begin, &valid))
        return;
    bool sent = valid;
    for (int32_t i = 0; sent && i < events->keeps; i++) {
        kept *each = &events->kept[(events->oldest + i) % events->params.replay_messages];
        if (each->sequence >= begin)
            sent = reply(events->replay, &who, each->sequence, &each->payload);
    }
    if (sent && reply(events->replay, &who, UINT64_MAX, NULL))
        events->counts.replays++;
    zmq_msg_close(&who);
}

void pr_kv_events_flush(pr_kv_events *events, int64_t now_ns)
{
    for (int32_t i = 0; i < events->lanes; i++) {
        pr_kv_batch *batch = events->batch[i];
        if (batch->blocks == 0)
            continue;
        if (batch->oldest_ns == 0)
            batch->oldest_ns = now_ns;
        if (batch->blocks < FLUSH_BLOCKS && now_ns - batch->oldest_ns < flush_ns)
            continue;
        flush_batch(events, batch);
        batch->oldest_ns = 0;
    }
    answer_replay(events);
}

// ---- Sockets ----

static pr_status fail_endpoint(const char *what, const char *endpoint)
{
    return pr_fail(
        PR_ERR_IO,
        "KV events cannot %s %s: %s: give tcp://*:PORT to bind or tcp://HOST:PORT to "
        "connect",
        what, endpoint, zmq_strerror(zmq_errno()));
}

// As vLLM reads it: what names no single peer is bound.
static bool binds(const char *endpoint)
{
    return strchr(endpoint, '*') || strstr(endpoint, "::") || strncmp(endpoint, "ipc:", 4) == 0 ||
           strncmp(endpoint, "inproc:", 7) == 0;
}

// ZeroMQ takes the low 16 bits of a port that is too large.
static int attach(void *socket, const char *endpoint, bool bind)
{
    const char *colon = strrchr(endpoint, ':');
    if (colon && strncmp(endpoint, "tcp:", 4) == 0 && strtol(colon + 1, NULL, 10) > 65535) {
        errno = EINVAL;
        return -1;
    }
    return bind ? zmq_bind(socket, endpoint) : zmq_connect(socket, endpoint);
}

static void note_endpoint(void *socket, char *endpoint)
{
    size_t room = PR_KV_EVENTS_ENDPOINT_BYTES;
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &room) != 0)
        endpoint[0] = '\0';
}

static bool set_option(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static void *make_socket(pr_kv_events *events, int type, int32_t high_water)
{
    void *socket = zmq_socket(events->context, type);
    if (!socket)
        return NULL;
    // A peer that reads no replies is told so by an error, and its replay ends. ZeroMQ hears late, on a
    // busy machine, what a peer has read: hence room for many replays, whose payloads are shared.
    if (set_option(socket, ZMQ_SNDHWM, high_water) && set_option(socket, ZMQ_LINGER, CLOSE_MS) &&
        (type != ZMQ_ROUTER || set_option(socket, ZMQ_ROUTER_MANDATORY, 1)))
        return socket;
    zmq_close(socket);
    return NULL;
}

static pr_status open_sockets(pr_kv_events *events)
{
    const pr_kv_events_params *params = &events->params;
    const char *replay = params->replay_endpoint;
    events->context = zmq_ctx_new();
    events->publisher = events->context ? make_socket(events, ZMQ_PUB, params->high_water) : NULL;
    // All that is kept, and the end, fits one who has read what it asked for before: ZeroMQ notes what was
    // read when it is half of the mark.
    if (replay && events->publisher)
        events->replay =
            make_socket(events, ZMQ_ROUTER, REPLAYS_WAITING * (params->replay_messages + 1));
    if (!events->publisher || (replay && !events->replay))
        return pr_fail(
            PR_ERR_RESOURCE, "no ZeroMQ socket for KV events: %s", zmq_strerror(zmq_errno()));
    bool bind = binds(params->endpoint);
    if (attach(events->publisher, params->endpoint, bind) != 0)
        return fail_endpoint(bind ? "bind" : "connect", params->endpoint);
    note_endpoint(events->publisher, events->endpoint);
    if (replay && attach(events->replay, replay, true) != 0)
        return fail_endpoint("bind", replay);
    if (replay)
        note_endpoint(events->replay, events->replay_endpoint);
    return PR_OK;
}

// ---- Life ----

static pr_status make_topic(pr_kv_events *events)
{
    const pr_kv_events_params *params = &events->params;
    struct in_addr address;
    if (inet_pton(AF_INET, params->address, &address) != 1)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "KV events need the literal IPv4 address that the scheduler knows, not '%s': give "
            "--host one",
            params->address);
    int length = snprintf(
        events->topic, sizeof events->topic, "kv@%s:%d@%s", params->address, (int)params->port,
        params->model);
    if (length >= (int)sizeof events->topic || strchr(params->model, '@'))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "the model name '%s' cannot be in the topic of KV events: give --served-model-name a "
            "shorter one without @",
            params->model);
    return PR_OK;
}

static pr_status make_batches(pr_kv_events *events)
{
    const pr_layout *layout = events->params.layout;
    events->first_lane = calloc((size_t)layout->groups + 1, sizeof(int32_t));
    if (!events->first_lane)
        return pr_fail(PR_ERR_RESOURCE, "no memory for KV events");
    int32_t lanes = 0;
    for (int32_t g = 0; g < layout->groups; g++) {
        events->first_lane[g] = lanes;
        lanes += pr_layout_lanes(layout, g);
    }
    events->batch = calloc((size_t)lanes, sizeof *events->batch);
    events->kept = calloc((size_t)events->params.replay_messages, sizeof *events->kept);
    if (!events->batch || !events->kept)
        return pr_fail(PR_ERR_RESOURCE, "no memory for KV events");
    for (; events->lanes < lanes; events->lanes++)
        PR_TRY(pr_kv_batch_create(
            events->lanes, events->params.block_tokens, &events->batch[events->lanes]));
    return PR_OK;
}

static void destroy(pr_kv_events *events)
{
    while (events->keeps > 0)
        forget_oldest(events);
    if (events->replay)
        zmq_close(events->replay);
    if (events->publisher)
        zmq_close(events->publisher);
    if (events->context)
        zmq_ctx_term(events->context);
    for (int32_t i = 0; i < events->lanes; i++)
        pr_kv_batch_destroy(events->batch[i]);
    free(events->batch);
    free(events->first_lane);
    free(events->kept);
    free(events);
}

pr_status pr_kv_events_open(const pr_kv_events_params *params, pr_kv_events **events)
{
    pr_status status;
    if (params->replay_messages < 1 || params->replay_messages > MESSAGES_MOST ||
        params->high_water < 1)
        return pr_fail(
            PR_ERR_ARGUMENT, "KV events keep 1 to %d messages for a replay, not %d", MESSAGES_MOST,
            (int)params->replay_messages);
    pr_kv_events *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for KV events");
    made->params = *params;
    if (getrandom(made->secret, sizeof made->secret, 0) != (ssize_t)sizeof made->secret) {
        status = pr_fail(PR_ERR_IO, "the system gives no random bytes: %s", strerror(errno));
        goto undo;
    }
    PR_TRY_GOTO(make_topic(made), undo);
    PR_TRY_GOTO(make_batches(made), undo);
    PR_TRY_GOTO(open_sockets(made), undo);
    clear_all(made);
    *events = made;
    return PR_OK;

undo:
    destroy(made);
    return status;
}

void pr_kv_events_close(pr_kv_events *events)
{
    if (!events)
        return;
    clear_all(events);
    destroy(events);
}

void pr_kv_events_count(const pr_kv_events *events, pr_kv_events_counts *counts)
{
    *counts = events->counts;
}

const char *pr_kv_events_endpoint(const pr_kv_events *events) { return events->endpoint; }

const char *pr_kv_events_replay_endpoint(const pr_kv_events *events)
{
    return events->replay_endpoint;
}
