// SPDX-License-Identifier: BSD-3-Clause
// Microseconds of an expert exchange (dispatch and combine) and of a tensor reduce: through shared memory,
// by messages, by plain MPI collectives (message_peer.h; MPI_Allreduce), and of the memcpy that no way can
// spare. Under mpirun: exchange_rate [--quick]. One JSON row a line; exchange/run makes the table.
//
//   experts: R lanes of T tokens, H = 1024, 8 of 64 experts drawn at random. Nobody computes: the results
//     are in place from the check, and one float of each cache line of them is stored again on every side,
//     the limit's too, so that results are as fresh as experts leave them.
//     The origin's sum over the slots is one float of each cache line, read on every side.
//     limit: copy T * K rows from x, then read T * K results
//   reduce: tp = R. The branch is where a forward pass computes it, and stored again as results are. limit: a
//     copy that reads and writes together as many bytes as the lesser of (R + 1) n, every branch read and
//     the sum written once, and (3 + 1/R) n, the additions split: add a share of each branch (n + n / R),
//     read the shares (2 n);   n = T * H floats
//
// Sides take turns within each round; a sample is the slowest rank's time between barriers over as many
// repetitions as fill it; medians over the rounds; all samples are printed, in order of size. Before: shared, messages and peer must agree.
#include <math.h>
#include <mpi.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/group.h"
#include "comm/world.h"
#include "message_peer.h"
#include "runtime/base/hash.h"

enum { HIDDEN = 1024, EXPERTS = 64, CHOSEN = 8, ROUNDS = 7, BIG_ROUNDS = 3, BIG_TOKENS = 4096 };
enum { SPLIT_FLOATS = 1 << 14, LINE_FLOATS = 16, MOST_REPETITIONS = 20000 };
enum side { SHARED, MESSAGES, PEER, LIMIT, SIDES };

typedef struct scene {
    bool reduce, filling;  // what; results are written whole, for the check
    int32_t ranks, rank, tokens;
    pr_group *group;
    pr_parallel *parallel[2];  // SHARED, MESSAGES
    pr_message_peer *peer;
    float *x;            // [T][H]
    int32_t *expert;     // [T][K]
    float *results;      // [received][H], or more
    const float **slot;  // [T][K], each [H]
    float *from, *to;    // [limit_floats]
    size_t limit_floats;
    int64_t shared_operations;
} scene;

static pr_world *world;

__attribute__((format(printf, 2, 3))) static void must(bool condition, const char *format, ...)
{
    if (condition)
        return;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "exchange_rate: rank %d: ", pr_world_rank(world));
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    pr_world_abort(world, 1);
}

static void *take(size_t count, size_t size_bytes)
{
    void *memory = calloc(count + 1, size_bytes);
    must(memory, "no memory for %zu elements of %zu bytes", count, size_bytes);
    return memory;
}

static size_t floats_of(const scene *s) { return (size_t)s->tokens * HIDDEN; }

// ---- One operation of each side --------------------------------------------------------------

// What was computed was just written: one float of each cache line is stored again.
static void touch(float *memory, size_t floats)
{
    volatile float *line = memory;
    for (size_t i = 0; i < floats; i += LINE_FLOATS)
        line[i] = line[i];
}

static void write_results(
    const scene *s, const float *rows, const int32_t *count, int32_t received, float *results)
{
    size_t floats = (size_t)received * HIDDEN;
    if (!s->filling) {
        touch(results, floats);
        return;
    }
    memcpy(results, rows, floats * sizeof(float));
    int32_t first = (int32_t)pr_share_begin(EXPERTS, s->rank, s->ranks);
    int32_t last = (int32_t)pr_share_begin(EXPERTS, s->rank + 1, s->ranks);
    for (int32_t e = first; e < last; e++) {
        for (int32_t i = 0; i < count[e - first]; i++, results += HIDDEN)
            results[0] = (float)e;
    }
}

static void read_slots(const scene *s)
{
    for (int32_t i = 0; i < s->tokens * CHOSEN; i++) {
        volatile const float *line = s->slot[i];
        for (size_t j = 0; j < HIDDEN; j += LINE_FLOATS)
            (void)line[j];
    }
}

static void exchange_with(scene *s, pr_parallel *parallel)
{
    pr_dispatch_args args = {
        .tokens = s->tokens, .chosen = CHOSEN, .hidden = HIDDEN, .x = s->x, .expert = s->expert};
    must(parallel->expert_dispatch(parallel, &args) == PR_OK, "dispatch failed");
    float *results = args.results ? args.results : s->results;
    write_results(s, args.rows, args.count, args.received, results);
    pr_return_args back = {.rows = results, .slot = s->slot};
    must(parallel->expert_combine(parallel, &back) == PR_OK, "combine failed");
    read_slots(s);
}

// The branch is where the forward pass computes it; filling copies it there.
static void reduce_with(scene *s, pr_parallel *parallel)
{
    float *room = parallel->tensor_room(parallel), *branch = room ? room : s->x;
    if (s->filling && branch != s->x)
        memcpy(branch, s->x, floats_of(s) * sizeof(float));
    touch(branch, floats_of(s));
    must(
        parallel->tensor_reduce(parallel, branch, s->x, s->tokens, HIDDEN) == PR_OK,
        "reduce failed");
}

static void exchange_with_peer(scene *s)
{
    const float *rows;
    const int32_t *count;
    int32_t n = pr_message_peer_dispatch(s->peer, s->tokens, s->x, s->expert, &rows, &count);
    write_results(s, rows, count, n, s->results);
    pr_message_peer_combine(s->peer, s->results, s->slot);
    read_slots(s);
}

static void copy_experts(scene *s)
{
    size_t rows = (size_t)s->tokens * CHOSEN, row_bytes = HIDDEN * sizeof(float);
    for (size_t i = 0; i < rows; i++)
        memcpy(s->to + i * HIDDEN, s->x + i / CHOSEN * HIDDEN, row_bytes);
    write_results(s, NULL, NULL, (int32_t)rows, s->results);
    for (size_t i = 0; i < rows; i++)
        s->slot[i] = s->results + i * HIDDEN;
    read_slots(s);
}

static void run_once(scene *s, enum side side)
{
    s->shared_operations += side == SHARED;
    if (s->reduce && side >= PEER)
        touch(s->x, floats_of(s));
    if (side == LIMIT && s->reduce)
        memcpy(s->to, s->from, s->limit_floats * sizeof(float));
    else if (side == LIMIT)
        copy_experts(s);
    else if (side == PEER && s->reduce)
        MPI_Allreduce(MPI_IN_PLACE, s->x, (int)floats_of(s), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    else if (side == PEER)
        exchange_with_peer(s);
    else if (s->reduce)
        reduce_with(s, s->parallel[side]);
    else
        exchange_with(s, s->parallel[side]);
}

// ---- The scene -------------------------------------------------------------------------------

static void fill(scene *s)
{
    uint64_t state = (uint64_t)s->rank + 1;
    for (size_t i = 0; i < floats_of(s); i++) {
        state = pr_hash_mix(state + i);
        s->x[i] = (float)(int32_t)(state >> 32) * 0x1p-31f;
    }
    for (int32_t t = 0; t < s->tokens && !s->reduce; t++) {
        uint64_t taken = 0;
        for (int32_t k = 0; k < CHOSEN;) {
            state = pr_hash_mix(state + 1);
            int32_t expert = (int32_t)(state % EXPERTS);
            if (taken >> expert & 1)
                continue;
            taken |= (uint64_t)1 << expert;
            s->expert[t * CHOSEN + k++] = expert;
        }
    }
}

static void create_parallels(scene *s)
{
    pr_layout *layout = take(1, sizeof *layout);
    layout->ranks = s->ranks;
    layout->groups = 1;
    layout->group[0] = (pr_group_layout){.ranks = s->ranks, .tp = s->reduce ? s->ranks : 1};
    must(pr_group_create(world, layout, &s->group) == PR_OK, "no group");
    free(layout);
    for (int32_t side = SHARED; side <= MESSAGES; side++) {
        pr_comm_params params = {
            .experts = s->reduce ? 0 : EXPERTS,
            .chosen = s->reduce ? 0 : CHOSEN,
            .hidden = HIDDEN,
            .vocabulary = HIDDEN,
            .max_tokens = s->tokens,
            .max_outputs = 1,
            .timeout_ms = 60000,
            .shares_cores = s->ranks > sysconf(_SC_NPROCESSORS_ONLN),
            .exchange = side == SHARED ? PR_EXCHANGE_SHARED : PR_EXCHANGE_MESSAGES};
        must(
            pr_comm_parallel_create(s->group, &params, &s->parallel[side]) == PR_OK,
            "no exchange through memory that the ranks share");
    }
}

static void create(scene *s)
{
    size_t rows = (size_t)s->tokens * CHOSEN;
    create_parallels(s);
    s->x = take(floats_of(s), sizeof(float));
    s->limit_floats = rows * HIDDEN;
    if (s->reduce) {
        double times = fmin(s->ranks + 1, 3 + 1.0 / s->ranks);
        s->limit_floats = (size_t)((double)floats_of(s) * times / 2);
        s->from = take(s->limit_floats, sizeof(float));
        memset(s->from, 0, s->limit_floats * sizeof(float));
    } else {
        s->peer = pr_message_peer_create(EXPERTS, CHOSEN, HIDDEN, s->tokens);
        s->expert = take(rows, sizeof(int32_t));
        s->slot = take(rows, sizeof *s->slot);
        s->results = take(rows * (size_t)s->ranks * HIDDEN, sizeof(float));
    }
    s->to = take(s->limit_floats, sizeof(float));
    fill(s);
}

static void destroy(scene *s)
{
    for (int32_t side = SHARED; side <= MESSAGES; side++)
        pr_comm_parallel_destroy(s->parallel[side]);
    pr_group_destroy(s->group);
    if (s->peer)
        pr_message_peer_destroy(s->peer);
    free(s->x);
    free(s->expert);
    free(s->results);
    free(s->slot);
    free(s->from);
    free(s->to);
}

// ---- Check -----------------------------------------------------------------------------------

static void check_reduce(scene *s)
{
    size_t n = floats_of(s);
    float *shared = take(n, sizeof(float));
    s->filling = true;
    run_once(s, SHARED);
    memcpy(shared, s->x, n * sizeof(float));
    fill(s);
    run_once(s, MESSAGES);
    must(!memcmp(shared, s->x, n * sizeof(float)), "shared and messages differ in reduce");
    fill(s);
    run_once(s, PEER);
    for (size_t i = 0; i < n; i++)
        must(fabsf(shared[i] - s->x[i]) < 1e-5f, "MPI_Allreduce differs at %zu", i);
    free(shared);
    s->filling = false;
    memset(s->x, 0, n * sizeof(float));  // sums of sums would overflow
}

// Each slot must hold its token's row with the expert's number in front: on all sides the same bytes.
static void check_slots(const scene *s, enum side side)
{
    for (int32_t i = 0; i < s->tokens * CHOSEN; i++) {
        const float *slot = s->slot[i];
        const float *x = s->x + (size_t)(i / CHOSEN) * HIDDEN;
        must(
            slot[0] == (float)s->expert[i] && !memcmp(slot + 1, x + 1, (HIDDEN - 1) * sizeof *x),
            "side %d: wrong bytes in slot %d", side, i);
    }
}

static void check_experts(scene *s)
{
    for (enum side side = SHARED; side <= PEER; side++) {
        size_t size_bytes = (size_t)s->tokens * CHOSEN * sizeof *s->slot;
        for (int32_t time = 0; time < 2; time++) {
            memset(s->slot, 0, size_bytes);
            s->filling = time == 0;
            run_once(s, side);
            check_slots(s, side);
        }
    }
}

// ---- Measure ---------------------------------------------------------------------------------

// Seconds of an operation on the slowest rank.
static double sample(scene *s, enum side side, int32_t repetitions)
{
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime(), mine, slowest;
    for (int32_t i = 0; i < repetitions; i++)
        run_once(s, side);
    mine = (MPI_Wtime() - start) / repetitions;
    MPI_Allreduce(&mine, &slowest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return slowest;
}

static int32_t repetitions_in(double sample_s, double one_s)
{
    double n = sample_s / one_s;
    return n < 1 ? 1 : n > MOST_REPETITIONS ? MOST_REPETITIONS : (int32_t)n;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// samples_us[side]: in order of size.
static void measure(scene *s, int32_t rounds, double sample_s, double (*samples_us)[ROUNDS])
{
    int32_t repetitions[SIDES];
    for (enum side side = SHARED; side < SIDES; side++) {
        double one = sample(s, side, 1);
        one = sample(s, side, repetitions_in(sample_s / 10, one));
        repetitions[side] = repetitions_in(sample_s, one);
    }
    for (int32_t round = 0; round < rounds; round++) {
        for (int32_t i = 0; i < SIDES; i++) {
            enum side side = (enum side)((round + i) % SIDES);
            samples_us[side][round] = sample(s, side, repetitions[side]) * 1e6;
        }
    }
    for (int32_t side = 0; side < SIDES; side++)
        qsort(samples_us[side], (size_t)rounds, sizeof(double), compare);
}

// Bytes that all ranks together write to shared memory in one operation.
static int64_t expected_bytes(const scene *s)
{
    int64_t n = s->tokens * HIDDEN, ranks = s->ranks;
    if (s->reduce)
        return 4 * (ranks * n + (ranks > 2 && n >= SPLIT_FLOATS ? n : 0));
    int64_t out = 4 * s->tokens * (HIDDEN + CHOSEN) + 4,
            back = 4 * s->tokens * CHOSEN * (HIDDEN + 1);
    return ranks * (out + back);
}

static int64_t written_bytes(const scene *s)
{
    pr_comm_counts counts;
    pr_comm_parallel_count(s->parallel[SHARED], &counts);
    int64_t mine = counts.reduce_bytes + counts.dispatch_bytes + counts.combine_bytes, all;
    MPI_Allreduce(&mine, &all, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    must(all % s->shared_operations == 0, "operations of one shape wrote unlike bytes");
    return all / s->shared_operations;
}

static void print_row(const scene *s, int32_t rounds, double (*samples_us)[ROUNDS], int64_t written)
{
    static const char *const names[SIDES] = {"ours", "messages", "peer", "limit"};
    double median_us[SIDES];
    printf(
        "{\"name\": \"%s, %d ranks, %d tokens\", \"ranks\": %d, \"tokens\": %d, \"unit\": \"us\", ",
        s->reduce ? "tensor reduce" : "expert exchange", s->ranks, s->tokens, s->ranks, s->tokens);
    for (int32_t side = 0; side < SIDES; side++) {
        median_us[side] = samples_us[side][rounds / 2];
        printf("\"%s\": %.2f, \"%s_samples\": [", names[side], median_us[side], names[side]);
        for (int32_t round = 0; round < rounds; round++)
            printf("%s%.2f", round ? ", " : "", samples_us[side][round]);
        printf("], ");
    }
    printf(
        "\"ratio\": %.3f, \"times_limit\": %.3f, \"fraction\": %.3f, \"bytes_written\": %lld, "
        "\"bytes_expected\": %lld}\n",
        median_us[SHARED] / median_us[PEER], median_us[SHARED] / median_us[LIMIT],
        median_us[LIMIT] / median_us[SHARED], (long long)written, (long long)expected_bytes(s));
    fflush(stdout);
}

static void run_case(bool reduce, int32_t tokens, bool quick)
{
    scene s = {.reduce = reduce, .tokens = tokens};
    double samples_us[SIDES][ROUNDS];
    s.ranks = pr_world_ranks(world);
    s.rank = pr_world_rank(world);
    create(&s);
    if (reduce)
        check_reduce(&s);
    else
        check_experts(&s);
    int32_t rounds = quick || tokens == BIG_TOKENS ? BIG_ROUNDS : ROUNDS;
    measure(&s, rounds, quick ? 0.005 : 0.02, samples_us);
    int64_t written = written_bytes(&s);
    if (s.rank == 0)
        print_row(&s, rounds, samples_us, written);
    destroy(&s);
}

int main(int argc, char **argv)
{
    static const int32_t tokens[] = {1, 4, 16, 64, 256, 1024, BIG_TOKENS};
    bool quick = argc == 2 && !strcmp(argv[1], "--quick");
    if (argc > 2 || (argc == 2 && !quick) || !pr_world_is_launched()) {
        fprintf(stderr, "usage: mpirun -n 2|4|8 exchange_rate [--quick]\n");
        return 2;
    }
    if (pr_world_open(&world) != PR_OK)
        return 1;
    int32_t ranks = pr_world_ranks(world);
    must(ranks == 2 || ranks == 4 || ranks == 8, "%d ranks: start 2, 4 or 8", ranks);
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i += quick ? 2 : 1) {
        if (quick && tokens[i] == BIG_TOKENS)
            continue;
        run_case(false, tokens[i], quick);
        run_case(true, tokens[i], quick);
    }
    pr_world_close(world);
    return 0;
}
