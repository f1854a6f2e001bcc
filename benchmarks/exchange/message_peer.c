// SPDX-License-Identifier: BSD-3-Clause
#include "message_peer.h"

#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/parallel.h"

// Counts and places by rank, of one MPI_Alltoallv.
typedef struct parts {
    int32_t *count, *first;
} parts;

struct pr_message_peer {
    int32_t ranks, experts, chosen, hidden;
    int32_t first_expert, local_experts;
    int32_t tokens, received;
    const int32_t *expert;  // [T][K], the caller's
    int32_t *home;          // [E] rank that holds the expert
    int32_t *last, *next;   // [ranks] or [local experts]
    int32_t *count;         // [local experts]
    int32_t *place;         // [received] where in rows an entry is
    // rows out and in; entries out and in on the way back; the same in floats, for MPI
    parts sent, arrived, back, returned;
    parts floats_from, floats_to;
    float *packed, *arrivals;  // [..][K + H]
    float *rows;               // [received][H]
    float *results, *answers;  // [..][H] packed results, out and in
};

static void *take(size_t count, size_t size_bytes)
{
    void *memory = malloc(count * size_bytes + 1);
    if (!memory) {
        fprintf(stderr, "no memory for %zu elements of %zu bytes\n", count, size_bytes);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return memory;
}

static parts take_parts(int32_t ranks)
{
    return (parts){take((size_t)ranks, sizeof(int32_t)), take((size_t)ranks, sizeof(int32_t))};
}

static void free_parts(parts of)
{
    free(of.count);
    free(of.first);
}

pr_message_peer *
pr_message_peer_create(int32_t experts, int32_t chosen, int32_t hidden, int32_t max_tokens)
{
    pr_message_peer *peer = take(1, sizeof *peer);
    int rank, ranks;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int32_t begin = (int32_t)pr_share_begin(experts, rank, ranks);
    *peer = (pr_message_peer){.ranks = ranks, .experts = experts, .chosen = chosen};
    peer->hidden = hidden;
    peer->first_expert = begin;
    peer->local_experts = (int32_t)pr_share_begin(experts, rank + 1, ranks) - begin;
    size_t tokens = (size_t)max_tokens, width = (size_t)(hidden + chosen);
    size_t reached = (size_t)(ranks < chosen ? ranks : chosen);
    size_t here = (size_t)(peer->local_experts < chosen ? peer->local_experts : chosen);
    size_t entries = tokens * (size_t)ranks * here;
    peer->home = take((size_t)experts, sizeof(int32_t));
    for (int32_t r = 0; r < ranks; r++) {
        for (int64_t e = pr_share_begin(experts, r, ranks);
             e < pr_share_begin(experts, r + 1, ranks); e++)
            peer->home[e] = r;
    }
    peer->last = take((size_t)ranks, sizeof(int32_t));
    peer->next = take((size_t)(ranks + experts), sizeof(int32_t));
    peer->count = take((size_t)experts, sizeof(int32_t));
    peer->place = take(entries, sizeof(int32_t));
    peer->sent = take_parts(ranks);
    peer->arrived = take_parts(ranks);
    peer->back = take_parts(ranks);
    peer->returned = take_parts(ranks);
    peer->floats_from = take_parts(ranks);
    peer->floats_to = take_parts(ranks);
    peer->packed = take(tokens * reached, width * sizeof(float));
    peer->arrivals = take(tokens * (size_t)ranks, width * sizeof(float));
    peer->rows = take(entries, (size_t)hidden * sizeof(float));
    peer->results = take(entries, (size_t)hidden * sizeof(float));
    peer->answers = take(tokens * (size_t)chosen, (size_t)hidden * sizeof(float));
    return peer;
}

void pr_message_peer_destroy(pr_message_peer *peer)
{
    free(peer->home);
    free(peer->last);
    free(peer->next);
    free(peer->count);
    free(peer->place);
    free_parts(peer->sent);
    free_parts(peer->arrived);
    free_parts(peer->back);
    free_parts(peer->returned);
    free_parts(peer->floats_from);
    free_parts(peer->floats_to);
    free(peer->packed);
    free(peer->arrivals);
    free(peer->rows);
    free(peer->results);
    free(peer->answers);
    free(peer);
}

static int32_t place_parts(parts of, int32_t ranks)
{
    int32_t n = 0;
    for (int32_t rank = 0; rank < ranks; rank++) {
        of.first[rank] = n;
        n += of.count[rank];
    }
    return n;
}

static void scale_parts(parts to, parts of, int32_t ranks, int32_t width)
{
    for (int32_t rank = 0; rank < ranks; rank++) {
        to.count[rank] = of.count[rank] * width;
        to.first[rank] = of.first[rank] * width;
    }
}

// Rows of `width` floats. An int counts the floats of 2,000,000 rows.
static void exchange_rows(
    pr_message_peer *peer, const float *from, parts out, float *to, parts in, int32_t width)
{
    scale_parts(peer->floats_from, out, peer->ranks, width);
    scale_parts(peer->floats_to, in, peer->ranks, width);
    MPI_Alltoallv(
        from, peer->floats_from.count, peer->floats_from.first, MPI_FLOAT, to,
        peer->floats_to.count, peer->floats_to.first, MPI_FLOAT, MPI_COMM_WORLD);
}

static void count_sent(pr_message_peer *peer)
{
    size_t size_bytes = (size_t)peer->ranks * sizeof(int32_t);
    memset(peer->sent.count, 0, size_bytes);
    memset(peer->returned.count, 0, size_bytes);
    memset(peer->last, -1, size_bytes);
    for (int32_t i = 0; i < peer->tokens * peer->chosen; i++) {
        int32_t rank = peer->home[peer->expert[i]], token = i / peer->chosen;
        peer->returned.count[rank]++;
        peer->sent.count[rank] += peer->last[rank] != token;
        peer->last[rank] = token;
    }
    place_parts(peer->sent, peer->ranks);
    place_parts(peer->returned, peer->ranks);
}

static void pack_rows(pr_message_peer *peer, const float *x)
{
    size_t hidden = (size_t)peer->hidden, chosen = (size_t)peer->chosen;
    size_t size_bytes = (size_t)peer->ranks * sizeof(int32_t);
    memcpy(peer->next, peer->sent.first, size_bytes);
    memset(peer->last, -1, size_bytes);
    for (int32_t i = 0; i < peer->tokens * peer->chosen; i++) {
        int32_t rank = peer->home[peer->expert[i]], token = i / peer->chosen;
        if (peer->last[rank] == token)
            continue;
        peer->last[rank] = token;
        float *row = peer->packed + (size_t)peer->next[rank]++ * (hidden + chosen);
        memcpy(row, peer->expert + (size_t)token * chosen, chosen * sizeof(int32_t));
        memcpy(row + chosen, x + (size_t)token * hidden, hidden * sizeof(float));
    }
}

static bool is_here(const pr_message_peer *peer, int32_t expert)
{
    return expert >= peer->first_expert && expert < peer->first_expert + peer->local_experts;
}

static const int32_t *experts_of(const pr_message_peer *peer, int32_t row)
{
    return (const int32_t *)(peer->arrivals + (size_t)row * (size_t)(peer->hidden + peer->chosen));
}

static void count_arrived(pr_message_peer *peer)
{
    memset(peer->count, 0, (size_t)peer->local_experts * sizeof(int32_t));
    memset(peer->back.count, 0, (size_t)peer->ranks * sizeof(int32_t));
    for (int32_t rank = 0; rank < peer->ranks; rank++) {
        for (int32_t row = 0; row < peer->arrived.count[rank]; row++) {
            const int32_t *expert = experts_of(peer, peer->arrived.first[rank] + row);
            for (int32_t k = 0; k < peer->chosen; k++) {
                if (!is_here(peer, expert[k]))
                    continue;
                peer->count[expert[k] - peer->first_expert]++;
                peer->back.count[rank]++;
            }
        }
    }
    peer->received = place_parts(peer->back, peer->ranks);
}

static void sort_rows(pr_message_peer *peer, int32_t arrived)
{
    size_t hidden = (size_t)peer->hidden;
    for (int32_t e = 0, first = 0; e < peer->local_experts; e++) {
        peer->next[e] = first;
        first += peer->count[e];
    }
    for (int32_t row = 0, entry = 0; row < arrived; row++) {
        const int32_t *expert = experts_of(peer, row);
        const float *from = (const float *)expert + peer->chosen;
        for (int32_t k = 0; k < peer->chosen; k++) {
            if (!is_here(peer, expert[k]))
                continue;
            int32_t to = peer->next[expert[k] - peer->first_expert]++;
            peer->place[entry++] = to;
            memcpy(peer->rows + (size_t)to * hidden, from, hidden * sizeof(float));
        }
    }
}

int32_t pr_message_peer_dispatch(
    pr_message_peer *peer,
    int32_t tokens,
    const float *x,
    const int32_t *expert,
    const float **rows,
    const int32_t **count)
{
    peer->tokens = tokens;
    peer->expert = expert;
    count_sent(peer);
    MPI_Alltoall(
        peer->sent.count, 1, MPI_INT32_T, peer->arrived.count, 1, MPI_INT32_T, MPI_COMM_WORLD);
    int32_t arrived = place_parts(peer->arrived, peer->ranks);
    pack_rows(peer, x);
    exchange_rows(
        peer, peer->packed, peer->sent, peer->arrivals, peer->arrived, peer->hidden + peer->chosen);
    count_arrived(peer);
    sort_rows(peer, arrived);
    *rows = peer->rows;
    *count = peer->count;
    return peer->received;
}

void pr_message_peer_combine(pr_message_peer *peer, const float *results, const float **slot)
{
    size_t hidden = (size_t)peer->hidden;
    for (int32_t entry = 0; entry < peer->received; entry++)
        memcpy(
            peer->results + (size_t)entry * hidden, results + (size_t)peer->place[entry] * hidden,
            hidden * sizeof(float));
    exchange_rows(peer, peer->results, peer->back, peer->answers, peer->returned, peer->hidden);
    memcpy(peer->next, peer->returned.first, (size_t)peer->ranks * sizeof(int32_t));
    for (int32_t i = 0; i < peer->tokens * peer->chosen; i++) {
        int32_t rank = peer->home[peer->expert[i]], entry = peer->next[rank]++;
        slot[i] = peer->answers + (size_t)entry * hidden;
    }
}
