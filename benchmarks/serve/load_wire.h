// SPDX-License-Identifier: BSD-3-Clause
// Many connections of one thread to one server, in either order of manners: send, read a reply, be silent, read
// slowly, stop in the middle, reset.
//
//   open -> send bytes, send bytes ... -> [body, body ...] replied -> send the next ...
//                                                        \ closed (by the server, or it broke)
//
// Threads: one for each loop.
#ifndef PR_BENCHMARKS_SERVE_LOAD_WIRE_H
#define PR_BENCHMARKS_SERVE_LOAD_WIRE_H

#include "benchmarks/serve/load_reply.h"
#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"

typedef struct pr_load_loop {
    int epoll;
    int32_t port;  // of 127.0.0.1
    int32_t open;  // wires
} pr_load_loop;

typedef struct pr_load_wire pr_load_wire;

typedef struct pr_load_user {
    pr_load_body *body;                       // of the reply; NULL: nobody wants it
    void (*replied)(void *, pr_load_wire *);  // whole; its status is in wire->reply
    // The server closed or reset, or sent what is no reply. The wire is freed after it. clean: between
    // replies, or at the end of one that ends so.
    void (*closed)(void *, pr_load_wire *, bool clean);
} pr_load_user;

struct pr_load_wire {
    pr_load_loop *loop;
    int descriptor;
    const pr_load_user *user;
    void *context;
    pr_byte_buffer out;
    size_t sent_bytes;
    pr_load_reply reply;
    int64_t received_bytes;
    bool reads;    // otherwise what comes stays in the socket
    bool waiting;  // for a reply that has not begun or not ended
    bool broken;   // what came is no reply
    bool busy;     // within a callback: freed after it
    bool doomed, resets;
};

pr_status pr_load_loop_open(int32_t port, pr_load_loop *loop) PR_MUST_CHECK;
void pr_load_loop_close(pr_load_loop *loop);
// Lets happen what happens within so many milliseconds, at most.
void pr_load_loop_turn(pr_load_loop *loop, int32_t timeout_ms);

// receive_bytes: of the socket's buffer; 0: the system's.
pr_status pr_load_wire_open(
    pr_load_loop *loop,
    const pr_load_user *user,
    void *context,
    int receive_bytes,
    pr_load_wire **wire) PR_MUST_CHECK;
void pr_load_wire_send(pr_load_wire *wire, const void *bytes, size_t size_bytes);
void pr_load_wire_read(pr_load_wire *wire, bool reads);
// Takes up to so many bytes although the wire does not read.
void pr_load_wire_sip(pr_load_wire *wire, size_t size_bytes);
void pr_load_wire_end_sending(pr_load_wire *wire);  // half a close
// Freed, without a callback; with reset the server is told by one. Within callbacks only the wire that is called.
void pr_load_wire_close(pr_load_wire *wire, bool reset);

#endif
