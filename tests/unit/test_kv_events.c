// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "k8s-adapter/kv_events.h"
#include "runtime/base/log.h"

enum { BLOCK_TOKENS = 4 };

static const pr_layout layout = {
    .ranks = 4,
    .groups = 2,
    .group =
        {{.role = PR_ROLE_PREFILL, .ranks = 2, .tp = 2},
         {.role = PR_ROLE_DECODE, .first_rank = 2, .ranks = 2, .tp = 1}},
};

static pr_kv_events_params local_params(void)
{
    return (pr_kv_events_params){
        .endpoint = "tcp://127.0.0.1:*",
        .replay_endpoint = "tcp://127.0.0.1:*",
        .address = "127.0.0.1",
        .port = 8000,
        .model = "demo",
        .layout = &layout,
        .block_tokens = BLOCK_TOKENS,
        .replay_messages = 8,
        .high_water = 1000,
    };
}

#ifndef PR_HAVE_KV_EVENTS

static void without_zeromq_the_user_hears_what_to_install(void **state)
{
    (void)state;
    pr_kv_events_params params = local_params();
    pr_kv_events *events = NULL;
    pr_error_capture_begin();
    assert_int_equal(pr_kv_events_open(&params, &events), PR_ERR_UNSUPPORTED);
    assert_non_null(strstr(pr_error_text(), "libzmq3-dev"));
    pr_error_capture_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_zeromq_the_user_hears_what_to_install),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

#include <msgpack.h>
#include <zmq.h>

enum { WAIT_MS = 5000, FRAMES = 4, FRAME_BYTES = 1 << 18 };
static const uint64_t end_sequence = UINT64_MAX;

// One message as it comes, and its payload decoded.
typedef struct message {
    int frames;
    size_t size_bytes[FRAMES];
    unsigned char *frame[FRAMES];  // in `bytes`
    uint64_t sequence;
    msgpack_unpacked payload;
    unsigned char bytes[FRAMES * FRAME_BYTES];
} message;

static pr_kv_events *open_events(pr_kv_events_params params)
{
    pr_kv_events *events;
    assert_int_equal(pr_kv_events_open(&params, &events), PR_OK);
    return events;
}

static void *open_socket(void *context, int type, const char *endpoint)
{
    int wait_ms = WAIT_MS, linger_ms = 0, high_water = 0;
    void *socket = zmq_socket(context, type);
    assert_non_null(socket);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms), 0);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms), 0);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_RCVHWM, &high_water, sizeof high_water), 0);
    if (type == ZMQ_SUB)
        assert_int_equal(zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "kv@", 3), 0);
    assert_int_equal(zmq_connect(socket, endpoint), 0);
    return socket;
}

static bool receive(void *socket, message *got)
{
    got->frames = 0;
    int more;
    size_t size = sizeof more;
    do {
        assert_true(got->frames < FRAMES);
        unsigned char *room = got->bytes + got->frames * FRAME_BYTES;
        int length = zmq_recv(socket, room, FRAME_BYTES, 0);
        if (length < 0)
            return false;
        got->frame[got->frames] = room;
        got->size_bytes[got->frames++] = (size_t)length;
        assert_int_equal(zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size), 0);
    } while (more);
    assert_int_equal(got->frames, 3);
    assert_int_equal(got->size_bytes[1], 8);
    got->sequence = 0;
    for (int i = 0; i < 8; i++)
        got->sequence = got->sequence * 256 + got->frame[1][i];
    return true;
}

// [ts, [event, ...], rank] of the last frame.
static msgpack_object *decode(message *got)
{
    size_t at = 0;
    msgpack_unpacked_init(&got->payload);
    assert_int_equal(
        msgpack_unpack_next(&got->payload, (char *)got->frame[2], got->size_bytes[2], &at),
        MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(at, got->size_bytes[2]);
    msgpack_object *whole = &got->payload.data;
    assert_int_equal(whole->type, MSGPACK_OBJECT_ARRAY);
    assert_int_equal(whole->via.array.size, 3);
    assert_int_equal(whole->via.array.ptr[0].type, MSGPACK_OBJECT_FLOAT64);
    assert_true(whole->via.array.ptr[0].via.f64 > 1.6e9);
    assert_int_equal(whole->via.array.ptr[1].type, MSGPACK_OBJECT_ARRAY);
    return whole->via.array.ptr;
}

static bool is_text(const msgpack_object *object, const char *text)
{
    return object->type == MSGPACK_OBJECT_STR && object->via.str.size == strlen(text) &&
           memcmp(object->via.str.ptr, text, strlen(text)) == 0;
}

static const msgpack_object *field(const msgpack_object *event, const char *name)
{
    assert_int_equal(event->type, MSGPACK_OBJECT_MAP);
    for (uint32_t i = 0; i < event->via.map.size; i++) {
        if (is_text(&event->via.map.ptr[i].key, name))
            return &event->via.map.ptr[i].val;
    }
    fail_msg("the event has no %s", name);
    return NULL;
}

static void check_numbers(const msgpack_object *array, const uint64_t *number, uint32_t count)
{
    assert_int_equal(array->type, MSGPACK_OBJECT_ARRAY);
    assert_int_equal(array->via.array.size, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(array->via.array.ptr[i].type, MSGPACK_OBJECT_POSITIVE_INTEGER);
        assert_true(array->via.array.ptr[i].via.u64 == number[i]);
    }
}

// ---- What lanes tell ----

static void
store(pr_kv_events *events, int32_t lane, uint64_t chain, uint64_t parent, int32_t depth)
{
    const int32_t token[BLOCK_TOKENS] = {(int32_t)chain, 1, 2, 128000};
    pr_kv_block block = {
        .chain = chain,
        .parent = parent,
        .depth = depth,
        .salt = chain == 7777 ? 5 : 0,
        .tokens = BLOCK_TOKENS,
        .token = token,
    };
    pr_kv_listener listener = pr_kv_events_listener(events);
    listener.stored(listener.context, 1, lane, &block);
}

static void evict(pr_kv_events *events, int32_t group, int32_t lane, uint64_t chain)
{
    pr_kv_listener listener = pr_kv_events_listener(events);
    listener.evicted(listener.context, group, lane, chain);
}

static int64_t later_ns = 1;

// All that is pending goes out.
static void flush(pr_kv_events *events)
{
    pr_kv_events_flush(events, later_ns);
    later_ns += 60000000;
    pr_kv_events_flush(events, later_ns);
}

// Until the subscriber is there; everything before is lost to it.
static void join(pr_kv_events *events, void *subscriber, message *got)
{
    int wait_ms = 20;
    assert_int_equal(zmq_setsockopt(subscriber, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms), 0);
    bool there = false;
    for (int i = 0; i < 250 && !there; i++) {
        evict(events, 0, 0, 99);
        flush(events);
        there = receive(subscriber, got);
    }
    assert_true(there);
    while (receive(subscriber, got))
        continue;
    wait_ms = WAIT_MS;
    assert_int_equal(zmq_setsockopt(subscriber, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms), 0);
}

// ---- Tests ----

static void a_message_is_topic_sequence_and_vllms_maps(void **state)
{
    message *got = *state;
    void *context = zmq_ctx_new();
    pr_kv_events *events = open_events(local_params());
    void *subscriber = open_socket(context, ZMQ_SUB, pr_kv_events_endpoint(events));
    join(events, subscriber, got);
    uint64_t before = got->sequence;
    const uint64_t big = 0xfedcba9876543210u;
    store(events, 1, big, 11, 1);
    store(events, 1, 12, big, 2);  // goes on where the one before ends: one event
    store(events, 1, 13, big, 2);  // another child: a second
    evict(events, 1, 1, 12);
    evict(events, 1, 1, 13);
    flush(events);
    assert_true(receive(subscriber, got));
    assert_int_equal(got->size_bytes[0], strlen("kv@127.0.0.1:8000@demo"));
    assert_memory_equal(got->frame[0], "kv@127.0.0.1:8000@demo", got->size_bytes[0]);
    assert_true(got->sequence == before + 1);
    const msgpack_object *part = decode(got);
    assert_true(part[2].via.u64 == 2);  // one lane of the prefill group, and lane 0 before it
    assert_int_equal(part[1].via.array.size, 3);
    const msgpack_object *event = part[1].via.array.ptr;
    assert_true(is_text(field(&event[0], "type"), "BlockStored"));
    check_numbers(field(&event[0], "block_hashes"), (const uint64_t[]){big, 12}, 2);
    assert_int_equal(field(&event[0], "parent_block_hash")->type, MSGPACK_OBJECT_NIL);
    check_numbers(
        field(&event[0], "token_ids"),
        (const uint64_t[]){(uint32_t)big, 1, 2, 128000, 12, 1, 2, 128000}, 8);
    assert_true(field(&event[0], "block_size")->via.u64 == BLOCK_TOKENS);
    assert_int_equal(field(&event[0], "lora_id")->type, MSGPACK_OBJECT_NIL);
    assert_int_equal(field(&event[0], "lora_name")->type, MSGPACK_OBJECT_NIL);
    assert_int_equal(field(&event[0], "extra_keys")->type, MSGPACK_OBJECT_NIL);
    assert_true(is_text(field(&event[0], "medium"), "GPU"));
    check_numbers(field(&event[1], "block_hashes"), (const uint64_t[]){13}, 1);
    assert_true(field(&event[1], "parent_block_hash")->via.u64 == big);
    assert_true(is_text(field(&event[2], "type"), "BlockRemoved"));
    check_numbers(field(&event[2], "block_hashes"), (const uint64_t[]){12, 13}, 2);
    assert_true(is_text(field(&event[2], "medium"), "GPU"));
    msgpack_unpacked_destroy(&got->payload);
    zmq_close(subscriber);
    pr_kv_events_close(events);
    zmq_ctx_term(context);
}

static void arrays_hold_the_fields_in_vllms_order(void **state)
{
    message *got = *state;
    void *context = zmq_ctx_new();
    pr_kv_events_params params = local_params();
    params.arrays = true;
    pr_kv_events *events = open_events(params);
    void *subscriber = open_socket(context, ZMQ_SUB, pr_kv_events_endpoint(events));
    join(events, subscriber, got);
    store(events, 0, 7777, 3, 1);
    store(events, 0, 7778, 7777, 2);
    flush(events);
    assert_true(receive(subscriber, got));
    const msgpack_object *part = decode(got);
    assert_int_equal(part[1].via.array.size, 1);
    const msgpack_object *event = &part[1].via.array.ptr[0];
    assert_int_equal(event->type, MSGPACK_OBJECT_ARRAY);
    assert_int_equal(event->via.array.size, 9);
    const msgpack_object *value = event->via.array.ptr;
    assert_true(is_text(&value[0], "BlockStored"));
    check_numbers(&value[1], (const uint64_t[]){7777, 7778}, 2);
    assert_int_equal(value[2].type, MSGPACK_OBJECT_NIL);
    assert_int_equal(value[3].via.array.size, 8);
    assert_true(value[4].via.u64 == BLOCK_TOKENS);
    assert_true(is_text(&value[6], "GPU"));
    // The salted block has a key, its child inherits it; the salt itself is not told.
    const msgpack_object *keys = &value[8];
    assert_int_equal(keys->via.array.size, 2);
    assert_int_equal(keys->via.array.ptr[0].via.array.ptr[0].via.str.size, 16);
    assert_int_equal(keys->via.array.ptr[1].type, MSGPACK_OBJECT_NIL);
    msgpack_unpacked_destroy(&got->payload);
    zmq_close(subscriber);
    pr_kv_events_close(events);
    zmq_ctx_term(context);
}

static void ask_replay(void *dealer, uint64_t begin)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(begin >> (56 - 8 * i));
    assert_int_equal(zmq_send(dealer, "", 0, ZMQ_SNDMORE), 0);
    assert_int_equal(zmq_send(dealer, bytes, sizeof bytes, 0), 8);
}

// Serves until the end marker has come; how many messages came before it, and the first's number.
static int take_replay(pr_kv_events *events, void *dealer, message *got, uint64_t *first)
{
    int messages = 0, wait_ms = 20;
    assert_int_equal(zmq_setsockopt(dealer, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms), 0);
    for (int tries = 0; tries < 250; tries++) {
        pr_kv_events_flush(events, later_ns);
        while (receive(dealer, got)) {
            assert_int_equal(got->size_bytes[0], 0);
            if (got->sequence == end_sequence) {
                assert_int_equal(got->size_bytes[2], 0);
                return messages;
            }
            if (messages++ == 0)
                *first = got->sequence;
            assert_true(got->sequence == *first + (uint64_t)messages - 1);
            decode(got);
            msgpack_unpacked_destroy(&got->payload);
        }
    }
    fail_msg("no end of the replay");
    return 0;
}

static void the_last_messages_can_be_had_again(void **state)
{
    message *got = *state;
    void *context = zmq_ctx_new();
    pr_kv_events *events = open_events(local_params());  // three lanes: numbers 0 1 2 say "cleared"
    void *dealer = open_socket(context, ZMQ_DEALER, pr_kv_events_replay_endpoint(events));
    uint64_t first = 0;
    ask_replay(dealer, 0);
    assert_int_equal(take_replay(events, dealer, got, &first), 3);
    assert_int_equal(first, 0);
    for (uint64_t i = 0; i < 20; i++) {
        store(events, 0, 100 + i, 1, 1);
        flush(events);
    }
    ask_replay(dealer, 0);  // eight are kept: 15 to 22
    assert_int_equal(take_replay(events, dealer, got, &first), 8);
    assert_int_equal(first, 15);
    ask_replay(dealer, 21);
    assert_int_equal(take_replay(events, dealer, got, &first), 2);
    assert_int_equal(first, 21);
    ask_replay(dealer, 23);
    assert_int_equal(take_replay(events, dealer, got, &first), 0);
    // What is no request is dropped, and the next is answered.
    assert_int_equal(zmq_send(dealer, "short", 5, 0), 5);
    pr_kv_events_flush(events, later_ns);
    ask_replay(dealer, 22);
    assert_int_equal(take_replay(events, dealer, got, &first), 1);
    pr_kv_events_counts counts;
    pr_kv_events_count(events, &counts);
    assert_int_equal(counts.replays, 5);
    assert_int_equal(counts.stored, 20);
    assert_int_equal(counts.messages, 23);
    assert_int_equal(counts.dropped, 0);
    zmq_close(dealer);
    pr_kv_events_close(events);
    zmq_ctx_term(context);
}

static void a_few_blocks_wait_and_many_go_at_once(void **state)
{
    (void)state;
    pr_kv_events_counts counts;
    pr_kv_events *events = open_events(local_params());
    int64_t now = later_ns;
    store(events, 0, 1, 1, 1);
    pr_kv_events_flush(events, now);
    pr_kv_events_flush(events, now + 49000000);
    pr_kv_events_count(events, &counts);
    assert_int_equal(counts.messages, 3);
    pr_kv_events_flush(events, now + 50000000);
    pr_kv_events_count(events, &counts);
    assert_int_equal(counts.messages, 4);
    for (uint64_t i = 0; i < 16; i++)
        store(events, 0, 10 + i, 1, 1);
    pr_kv_events_flush(events, now + 50000001);
    pr_kv_events_count(events, &counts);
    assert_int_equal(counts.messages, 5);
    // More than a message holds: the full one goes by itself.
    for (uint64_t i = 0; i < 600; i++)
        store(events, 0, 1000 + i, 1, 1);
    pr_kv_events_count(events, &counts);
    assert_int_equal(counts.messages, 7);
    assert_int_equal(counts.stored, 617);
    pr_kv_events_close(events);
}

static void the_end_says_that_everything_is_cleared(void **state)
{
    message *got = *state;
    void *context = zmq_ctx_new();
    pr_kv_events *events = open_events(local_params());
    void *subscriber = open_socket(context, ZMQ_SUB, pr_kv_events_endpoint(events));
    join(events, subscriber, got);
    store(events, 1, 5, 1, 1);
    pr_kv_events_close(events);
    int stored = 0;
    for (uint64_t lane = 0; lane < 3; lane++) {
        assert_true(receive(subscriber, got));
        const msgpack_object *part = decode(got);
        const msgpack_object *event = &part[1].via.array.ptr[0];
        if (is_text(field(event, "type"), "BlockStored")) {
            stored++;
            lane--;
        } else {
            assert_true(is_text(field(event, "type"), "AllBlocksCleared"));
            assert_true(part[2].via.u64 == lane);
        }
        msgpack_unpacked_destroy(&got->payload);
    }
    assert_int_equal(stored, 1);
    zmq_close(subscriber);
    zmq_ctx_term(context);
}

static void a_slow_subscriber_holds_nobody_up(void **state)
{
    (void)state;
    pr_kv_events_params params = local_params();
    params.high_water = 4;
    params.replay_messages = 1;
    void *context = zmq_ctx_new();
    pr_kv_events *events = open_events(params);
    void *subscriber = open_socket(context, ZMQ_SUB, pr_kv_events_endpoint(events));
    for (uint64_t i = 0; i < 20000; i++) {
        store(events, 0, i, 1, 1);
        if (i % 16 == 15)
            pr_kv_events_flush(events, later_ns);
    }
    pr_kv_events_counts counts;
    pr_kv_events_count(events, &counts);
    assert_int_equal(counts.messages + counts.dropped, 3 + 20000 / 16);
    zmq_close(subscriber);
    pr_kv_events_close(events);
    zmq_ctx_term(context);
}

static void what_a_topic_cannot_carry_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *endpoint, *address, *model, *says;
        pr_status status;
    } given[] = {
        {"tcp://127.0.0.1:*", "localhost", "m", "literal IPv4", PR_ERR_ARGUMENT},
        {"tcp://127.0.0.1:*", "::1", "m", "literal IPv4", PR_ERR_ARGUMENT},
        {"tcp://127.0.0.1:*", "1.2.3.4", "a@b", "without @", PR_ERR_ARGUMENT},
        {"nonsense", "1.2.3.4", "m", "cannot connect nonsense", PR_ERR_IO},
        {"tcp://192.0.2.1:*", "1.2.3.4", "m", "cannot bind tcp://192.0.2.1:*", PR_ERR_IO},
        {"tcp://127.0.0.1:65536", "1.2.3.4", "m", "cannot connect tcp://127", PR_ERR_IO},
    };
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        pr_kv_events *events = NULL;
        pr_kv_events_params params = local_params();
        params.endpoint = given[i].endpoint;
        params.address = given[i].address;
        params.model = given[i].model;
        assert_int_equal(pr_kv_events_open(&params, &events), given[i].status);
        assert_non_null(strstr(pr_error_text(), given[i].says));
    }
    pr_error_capture_end();
}

static int make_room(void **state)
{
    *state = malloc(sizeof(message));
    return *state == NULL;
}

static int free_room(void **state)
{
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_topic_sequence_and_vllms_maps),
        cmocka_unit_test(arrays_hold_the_fields_in_vllms_order),
        cmocka_unit_test(the_last_messages_can_be_had_again),
        cmocka_unit_test(a_few_blocks_wait_and_many_go_at_once),
        cmocka_unit_test(the_end_says_that_everything_is_cleared),
        cmocka_unit_test(a_slow_subscriber_holds_nobody_up),
        cmocka_unit_test(what_a_topic_cannot_carry_is_refused),
    };
    return cmocka_run_group_tests(tests, make_room, free_room);
}

#endif
