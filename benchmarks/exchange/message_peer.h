// SPDX-License-Identifier: BSD-3-Clause
// What the shared exchange is measured against: the expert exchange as one writes it with MPI alone.
//
//   dispatch  MPI_Alltoall of counts | pack a row once for each rank that holds any of its experts |
//             MPI_Alltoallv | copy the rows of own experts, sorted by expert, then source, token, slot
//   combine   pack the results by source, token, slot | MPI_Alltoallv | point to each slot's
//   packed row: [K] int32 experts of the token, [H] float
//
// Every rank is a lane of its own. Memory is taken at creation, for the worst routing; what is not
// touched costs nothing. Threads: one. Collective over MPI_COMM_WORLD. Ends the job on any fault.
#ifndef PR_BENCHMARKS_MESSAGE_PEER_H
#define PR_BENCHMARKS_MESSAGE_PEER_H

#include <stdint.h>

typedef struct pr_message_peer pr_message_peer;

pr_message_peer *
pr_message_peer_create(int32_t experts, int32_t chosen, int32_t hidden, int32_t max_tokens);
void pr_message_peer_destroy(pr_message_peer *peer);

// *rows [received][H] and *count [local experts] are the peer's until the next dispatch.
int32_t pr_message_peer_dispatch(
    pr_message_peer *peer,
    int32_t tokens,
    const float *x,         // [T][H]
    const int32_t *expert,  // [T][K], kept until combine
    const float **rows,
    const int32_t **count);
void pr_message_peer_combine(
    pr_message_peer *peer,
    const float *results,  // [received][H]
    const float **slot);   // [T][K], each [H]

#endif
