// SPDX-License-Identifier: BSD-3-Clause
// Tells the world which KV blocks the lanes hold, as vLLM does, so that llm-d's scheduler sends a prompt where its
// beginning lies: ZeroMQ PUB, three frames a message, msgpack inside. docs/kv-events.md.
//
//   lane told a block --> pending --flush--> one message a lane: topic | sequence, 8 bytes big endian | payload
//                                              \--> the last messages, for who asks the replay socket
//
// What cannot be sent is dropped and counted: a flush never waits. A subscriber sees a gap in the sequence and asks.
// Memory: bounded: pending blocks, and replay_messages messages of at most PR_KV_EVENTS_REPLAY_BYTES in all.
// Threads: one (the controller's); ZeroMQ's own does the network. Only where libzmq and msgpack were found.
// Source: vLLM vllm/distributed/kv_events.py; llm-d-router pkg/kvevents/engineadapter/vllm_adapter.go.
#ifndef PR_K8S_ADAPTER_KV_EVENTS_H
#define PR_K8S_ADAPTER_KV_EVENTS_H

#include <stdbool.h>

#include "runtime/batch/layout.h"
#include "runtime/cache/kv_cache.h"

enum { PR_KV_EVENTS_REPLAY_BYTES = 64 << 20, PR_KV_EVENTS_ENDPOINT_BYTES = 256 };

typedef struct pr_kv_events pr_kv_events;

typedef struct pr_kv_events_params {
    const char *endpoint;         // "tcp://*:5557" or "ipc://..." binds, "tcp://host:5557" connects
    const char *replay_endpoint;  // binds; NULL: no replay
    const char *address;          // literal IPv4 and port of serving, as the scheduler knows them
    int32_t port;
    const char *model;        // as requests name it
    const pr_layout *layout;  // gives lanes their numbers: group by group
    int32_t block_tokens;
    int32_t replay_messages;  // kept; at least 1
    int32_t high_water;       // messages ZeroMQ holds for a slow subscriber before it drops
    bool arrays;              // events as arrays, for readers older than vLLM's maps
} pr_kv_events_params;

typedef struct pr_kv_events_counts {
    int64_t stored, removed;    // blocks told
    int64_t messages, dropped;  // messages sent; refused by ZeroMQ or for want of memory
    int64_t replays;            // requests answered
} pr_kv_events_counts;

// PR_ERR_UNSUPPORTED: built without ZeroMQ or msgpack. PR_ERR_ARGUMENT: an address or model that a topic cannot
// carry. PR_ERR_IO: an endpoint cannot be had. Says first that all blocks are cleared.
pr_status pr_kv_events_open(const pr_kv_events_params *params, pr_kv_events **events) PR_MUST_CHECK;
// Says that all blocks are cleared, waits at most a second for it to go out.
void pr_kv_events_close(pr_kv_events *events);

// For pr_scheduler_params.
pr_kv_listener pr_kv_events_listener(pr_kv_events *events);

// Once a round: sends what is pending, at 16 blocks or after 50 ms, and answers one who asks for a replay.
void pr_kv_events_flush(pr_kv_events *events, int64_t now_ns);

void pr_kv_events_count(const pr_kv_events *events, pr_kv_events_counts *counts);

// Where the socket is, with the port that "tcp://127.0.0.1:*" was given.
const char *pr_kv_events_endpoint(const pr_kv_events *events);
const char *pr_kv_events_replay_endpoint(const pr_kv_events *events);

#endif
