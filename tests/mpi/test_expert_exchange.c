// SPDX-License-Identifier: BSD-3-Clause
// Rows to the ranks of their experts and back, against what each rank computes by itself.
// ranks: 1 2 3 4 5 8
#include "tests/mpi/mpi_test.h"

enum { MAX_TOKENS = 23, MAX_HIDDEN = 700, MAX_LANES = 8, MAX_CHOSEN = 5 };

typedef struct scene {
    pr_exchange exchange;
    pr_parallel *parallel;
    int32_t experts, chosen, hidden;
    uint64_t round;
    enum { RANDOM, ALL_TO_ONE, NO_TOKENS } pattern;
} scene;

static int32_t tokens_of(const scene *s, int32_t lane)
{
    if (s->pattern == NO_TOKENS)
        return 0;
    return (int32_t)(noise(s->round, (uint64_t)lane, 11) % (MAX_TOKENS + 1)) *
           (noise(s->round, (uint64_t)lane, 12) % 4 != 0);
}

// K different experts of a token.
static int32_t expert_of(const scene *s, int32_t lane, int32_t token, int32_t slot)
{
    if (s->pattern == ALL_TO_ONE)
        return (int32_t)((s->round + (uint64_t)slot) % (uint64_t)s->experts);
    uint64_t first = noise(s->round, (uint64_t)lane * 1000 + (uint64_t)token, 13);
    return (int32_t)((first + (uint64_t)(slot * 3 % s->experts)) % (uint64_t)s->experts);
}

static float value_of(const scene *s, int32_t lane, int32_t token, int32_t column)
{
    return noise_float(s->round * 64 + (uint64_t)lane, (uint64_t)token, (uint64_t)column);
}

static float result_of(float value, int32_t expert) { return value * 3.0f + (float)expert; }

static void fill(const scene *s, float *x, int32_t *expert)
{
    int32_t lane = s->parallel->lane;
    for (int32_t t = 0; t < tokens_of(s, lane); t++) {
        for (int32_t c = 0; c < s->hidden; c++)
            x[t * s->hidden + c] = value_of(s, lane, t, c);
        for (int32_t k = 0; k < s->chosen; k++)
            expert[t * s->chosen + k] = expert_of(s, lane, t, k);
    }
}

// What this rank must get: by expert, then lane, token, slot.
static void check_arrived(const scene *s, const pr_dispatch_args *args)
{
    const pr_parallel *parallel = s->parallel;
    int32_t begin = (int32_t)pr_share_begin(s->experts, parallel->rank, parallel->ranks);
    int32_t end = (int32_t)pr_share_begin(s->experts, parallel->rank + 1, parallel->ranks);
    int32_t n = 0;
    for (int32_t e = begin; e < end; e++) {
        int32_t before = n;
        for (int32_t lane = 0; lane < parallel->lanes; lane++) {
            for (int32_t i = 0; i < tokens_of(s, lane) * s->chosen; i++) {
                int32_t t = i / s->chosen;
                if (expert_of(s, lane, t, i % s->chosen) != e)
                    continue;
                for (int32_t c = 0; n < args->received && c < s->hidden; c++)
                    EXPECT(
                        args->rows[n * s->hidden + c] == value_of(s, lane, t, c),
                        "round %d expert %d row %d", (int)s->round, e, n);
                n++;
            }
        }
        EXPECT(args->count[e - begin] == n - before, "count of expert %d", e);
    }
    EXPECT(args->received == n, "received %d rows, wanted %d", args->received, n);
}

static void compute(const scene *s, const pr_dispatch_args *args, float *results)
{
    const pr_parallel *parallel = s->parallel;
    int32_t begin = (int32_t)pr_share_begin(s->experts, parallel->rank, parallel->ranks);
    int32_t end = (int32_t)pr_share_begin(s->experts, parallel->rank + 1, parallel->ranks);
    for (int32_t e = begin, n = 0; e < end; e++) {
        for (int32_t i = 0; i < args->count[e - begin]; i++, n++) {
            for (int32_t c = 0; c < s->hidden; c++)
                results[n * s->hidden + c] = result_of(args->rows[n * s->hidden + c], e);
        }
    }
}

// Bytes that this rank must have written in the round: its share once, its results once.
static void add_shared_bytes(const scene *s, const pr_dispatch_args *args, pr_comm_counts *want)
{
    const pr_parallel *parallel = s->parallel;
    int32_t tokens = tokens_of(s, parallel->lane);
    int64_t share = pr_share_begin(tokens, parallel->tp_rank + 1, parallel->tp) -
                    pr_share_begin(tokens, parallel->tp_rank, parallel->tp);
    if (parallel->ranks == 1)
        return;
    want->dispatch_bytes += share * (s->hidden + s->chosen) * 4 + 4;
    want->combine_bytes += (int64_t)args->received * (s->hidden + 1) * 4;
}

// Bytes that this rank must have sent in the round.
static void add_bytes(const scene *s, const pr_dispatch_args *args, pr_comm_counts *want)
{
    const pr_parallel *parallel = s->parallel;
    int32_t tokens = tokens_of(s, parallel->lane);
    for (int32_t rank = 0; rank < parallel->ranks; rank++) {
        int32_t begin = (int32_t)pr_share_begin(s->experts, rank, parallel->ranks);
        int32_t end = (int32_t)pr_share_begin(s->experts, rank + 1, parallel->ranks);
        if (rank == parallel->rank || begin == end)
            continue;
        want->dispatch_bytes += 8;
        int32_t first = (int32_t)pr_share_begin(tokens, parallel->tp_rank, parallel->tp);
        int32_t last = (int32_t)pr_share_begin(tokens, parallel->tp_rank + 1, parallel->tp);
        for (int32_t t = first; t < last; t++) {
            int32_t entries = 0;
            for (int32_t k = 0; k < s->chosen; k++) {
                int32_t e = expert_of(s, parallel->lane, t, k);
                entries += e >= begin && e < end;
            }
            want->dispatch_bytes += entries * 8 + (entries > 0) * s->hidden * 4;
        }
    }
    int32_t own = 0;  // results for this rank's own lane go to its other tp ranks only
    int32_t begin = (int32_t)pr_share_begin(s->experts, parallel->rank, parallel->ranks);
    int32_t end = (int32_t)pr_share_begin(s->experts, parallel->rank + 1, parallel->ranks);
    for (int32_t i = 0; i < tokens * s->chosen; i++) {
        int32_t e = expert_of(s, parallel->lane, i / s->chosen, i % s->chosen);
        own += e >= begin && e < end;
    }
    if (parallel->ranks > 1)
        want->combine_bytes += ((int64_t)args->received * parallel->tp - own) * s->hidden * 4;
    else
        want->dispatch_bytes = 0;
}

static void run_round(scene *s, pr_comm_counts *want)
{
    static float x[MAX_TOKENS * MAX_HIDDEN];
    static const float *slot[MAX_TOKENS * MAX_CHOSEN];
    static float results[MAX_LANES * MAX_TOKENS * MAX_CHOSEN * MAX_HIDDEN];
    static int32_t expert[MAX_TOKENS * MAX_CHOSEN];
    pr_parallel *parallel = s->parallel;
    int32_t tokens = tokens_of(s, parallel->lane);
    fill(s, x, expert);
    pr_dispatch_args args = {
        .tokens = tokens, .chosen = s->chosen, .hidden = s->hidden, .x = x, .expert = expert};
    MUST(parallel->expert_dispatch(parallel, &args));
    check_arrived(s, &args);
    if (s->exchange == PR_EXCHANGE_SHARED)
        add_shared_bytes(s, &args, want);
    else
        add_bytes(s, &args, want);
    float *computed = args.results && s->round % 2 ? args.results : results;
    compute(s, &args, computed);
    MUST(parallel->expert_combine(parallel, &(pr_return_args){.rows = computed, .slot = slot}));
    for (int32_t i = 0; i < tokens * s->chosen; i++) {
        int32_t t = i / s->chosen;
        for (int32_t c = 0; c < s->hidden; c++)
            EXPECT(
                slot[i][c] == result_of(value_of(s, parallel->lane, t, c), expert[i]),
                "round %d token %d slot %d", (int)s->round, t, i % s->chosen);
    }
}

static void rows_go_to_their_experts_and_return_to_their_slots(
    pr_exchange exchange, int32_t tp, int32_t experts, int32_t chosen, int32_t hidden)
{
    pr_layout *layout = mpi_test_layout(tp);
    pr_group *group;
    scene s = {.exchange = exchange, .experts = experts, .chosen = chosen, .hidden = hidden};
    pr_comm_params params = {
        .experts = experts,
        .chosen = chosen,
        .hidden = s.hidden,
        .vocabulary = 8,
        .max_tokens = MAX_TOKENS,
        .max_outputs = 1,
        .timeout_ms = 20000,
        .exchange = exchange};
    pr_comm_counts want = {0}, counts;
    MUST(pr_group_create(mpi_test_world, layout, &group));
    MUST(pr_comm_parallel_create(group, &params, &s.parallel));
    for (s.round = 0; s.round < 30; s.round++) {
        s.pattern = s.round % 10 == 3 ? ALL_TO_ONE : s.round % 10 == 7 ? NO_TOKENS : RANDOM;
        run_round(&s, &want);
    }
    pr_comm_parallel_count(s.parallel, &counts);
    EXPECT(
        counts.dispatch_bytes == want.dispatch_bytes, "dispatch: counted %lld, wanted %lld",
        (long long)counts.dispatch_bytes, (long long)want.dispatch_bytes);
    EXPECT(
        counts.combine_bytes == want.combine_bytes, "combine: counted %lld, wanted %lld",
        (long long)counts.combine_bytes, (long long)want.combine_bytes);
    pr_comm_parallel_destroy(s.parallel);
    pr_group_destroy(group);
    free(layout);
    char name[160];
    snprintf(
        name, sizeof name, "%s: %s, tp %d, %d experts, %d chosen, %d wide", __func__,
        exchange == PR_EXCHANGE_SHARED ? "shared" : "messages", tp, experts, chosen, hidden);
    agree(name);
}

static void all_shapes(pr_exchange exchange, int32_t tp)
{
    rows_go_to_their_experts_and_return_to_their_slots(exchange, tp, 16, 4, 7);
    rows_go_to_their_experts_and_return_to_their_slots(exchange, tp, 16, 4, MAX_HIDDEN);
    rows_go_to_their_experts_and_return_to_their_slots(exchange, tp, 11, 5, 7);
    rows_go_to_their_experts_and_return_to_their_slots(exchange, tp, 2, 2, 7);
    rows_go_to_their_experts_and_return_to_their_slots(exchange, tp, 1, 1, 1);
}

// Rank 0 stays silent: the others get an error that names it, whatever carries the rows. A broken group
// stays until the process ends.
static pr_group *broken_group[2];
static pr_parallel *broken_parallel[2];

static void a_silent_rank_is_a_timeout_that_names_it(pr_exchange exchange)
{
    if (pr_world_ranks(mpi_test_world) == 1)
        return;
    pr_layout *layout = mpi_test_layout(1);
    pr_group **group = &broken_group[exchange == PR_EXCHANGE_SHARED];
    pr_parallel **parallel = &broken_parallel[exchange == PR_EXCHANGE_SHARED];
    pr_comm_params params = {
        .experts = 16,
        .chosen = 2,
        .hidden = 8,
        .vocabulary = 8,
        .max_tokens = MAX_TOKENS,
        .max_outputs = 1,
        .timeout_ms = 50,
        .exchange = exchange};
    MUST(pr_group_create(mpi_test_world, layout, group));
    MUST(pr_comm_parallel_create(*group, &params, parallel));
    EXPECT(pr_comm_parallel_exchange(*parallel) == exchange, "another exchange");
    if ((*parallel)->rank == 1) {
        float x;
        int32_t expert;
        pr_dispatch_args args = {.chosen = 2, .hidden = 8, .x = &x, .expert = &expert};
        pr_error_capture_begin();
        EXPECT((*parallel)->expert_dispatch(*parallel, &args) == PR_ERR_TIMEOUT, "no timeout");
        pr_error_capture_end();
        EXPECT(
            strcmp(pr_error_text(), "rank 0 did not answer within 50 ms in expert dispatch") == 0,
            "says '%s'", pr_error_text());
    }
    free(layout);
    agree(__func__);
}

int main(void)
{
    mpi_test_begin();
    for (int32_t tp = 1; tp <= 4; tp *= 2) {
        if (pr_world_ranks(mpi_test_world) % tp != 0)
            continue;
        all_shapes(PR_EXCHANGE_SHARED, tp);
        all_shapes(PR_EXCHANGE_MESSAGES, tp);
    }
    a_silent_rank_is_a_timeout_that_names_it(PR_EXCHANGE_SHARED);
    a_silent_rank_is_a_timeout_that_names_it(PR_EXCHANGE_MESSAGES);
    return mpi_test_end();
}
