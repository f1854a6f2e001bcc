// SPDX-License-Identifier: BSD-3-Clause
// What the load client does to a server. Each prints its rows; a failure is one line that says what did not hold.
// Threads: one.
#ifndef PR_BENCHMARKS_SERVE_LOAD_MODES_H
#define PR_BENCHMARKS_SERVE_LOAD_MODES_H

#include "benchmarks/serve/load_target.h"

typedef struct pr_load_options {
    int32_t count;    // streams, idle connections, bad readers of each kind, seconds of garbage
    int32_t tokens;   // of each reply
    int32_t rounds;   // streams: so many times
    int32_t limit_s;  // slow: within which the server has let go of every bad client
    uint64_t seed;    // garbage
    const char *reference;  // file of replies that are known, or NULL
} pr_load_options;

// count streams at once, each text, token count and reason compared with the same request answered before.
pr_status pr_load_streams(pr_load_target *target, const pr_load_options *options) PR_MUST_CHECK;
// count connections that have asked once and keep silent; others are answered meanwhile, and they still are at the end.
pr_status pr_load_idle(pr_load_target *target, const pr_load_options *options) PR_MUST_CHECK;
// count clients of each bad kind: those who do not read, or a byte a second, close half, reset, send half a request.
pr_status pr_load_slow(pr_load_target *target, const pr_load_options *options) PR_MUST_CHECK;
// count seconds of bytes that are no requests, or nearly; then the replies are those of before.
pr_status pr_load_garbage(pr_load_target *target, const pr_load_options *options) PR_MUST_CHECK;

#endif
