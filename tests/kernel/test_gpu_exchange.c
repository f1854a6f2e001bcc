// SPDX-License-Identifier: BSD-3-Clause
// Virtual ranks: R regions, R streams in one process. Each rank's rows, their order and the results in their slots
// against a plain loop that does what comm/expert_exchange.c does. Values pass through untouched, so all is exact.
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu/gpu_exchange.h"
#include "tests/kernel/gpu_under_test.h"

enum { MOST_RANKS = 8, MOST_TOKENS = 67, STEPS = 5 };

typedef struct group_shape {
    int32_t ranks, tp, experts, chosen, hidden, most_tokens;
    int32_t tokens[STEPS];  // of lane 0; lane i has those of step + i
    int32_t favourite;      // an expert that every token chooses, or -1
} group_shape;

typedef struct virtual_rank {
    pr_gpu_stream *stream;
    pr_gpu_exchange end;
    pr_gpu_exchange_dispatch_args dispatch;
    pr_gpu_exchange_combine_args combine;
    float *x, *results;
    int32_t *expert, *tokens_used;
} virtual_rank;

typedef struct virtual_world {
    const pr_gpu_backend *gpu;
    group_shape shape;
    int32_t lanes;
    unsigned char **region;  // [R], device memory
    virtual_rank rank[MOST_RANKS];
    float *x[MOST_RANKS];         // [lanes][T][H], the host's
    int32_t *expert[MOST_RANKS];  // [lanes][T][K]
    int32_t tokens[MOST_RANKS];   // of each lane in this step
} virtual_world;

static uint32_t next_number(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static void *take(const virtual_world *world, size_t size_bytes)
{
    void *memory = world->gpu->memory_take(size_bytes ? size_bytes : 1);
    assert_non_null(memory);
    return memory;
}

static void
put(const virtual_world *world, virtual_rank *rank, void *to, const void *from, size_t bytes)
{
    assert_true(world->gpu->copy(to, from, bytes, rank->stream));
    assert_true(world->gpu->wait(rank->stream));
}

static void *get(const virtual_world *world, virtual_rank *rank, const void *from, size_t bytes)
{
    void *to = malloc(bytes ? bytes : 1);
    assert_non_null(to);
    put(world, rank, to, from, bytes);
    return to;
}

static void open_rank(virtual_world *world, int32_t r)
{
    const group_shape *shape = &world->shape;
    virtual_rank *rank = &world->rank[r];
    size_t tokens = (size_t)shape->most_tokens, pairs = tokens * (size_t)shape->chosen;
    int32_t first = (int32_t)((int64_t)shape->experts * r / shape->ranks);
    int32_t end = (int32_t)((int64_t)shape->experts * (r + 1) / shape->ranks);
    size_t most_rows = (size_t)world->lanes * pairs;
    rank->stream = world->gpu->stream_create();
    rank->end = (pr_gpu_exchange){
        .ranks = shape->ranks,
        .rank = r,
        .tp = shape->tp,
        .experts = shape->experts,
        .chosen = shape->chosen,
        .hidden = shape->hidden,
        .most_tokens = shape->most_tokens,
        .first_expert = first,
        .local_experts = end - first,
        .layout = pr_gpu_exchange_lay_out(
            shape->ranks, shape->tp, shape->chosen, shape->hidden, shape->most_tokens),
        .limit_ns = 20000000000,
        .region = (unsigned char *const *)world->region,
        .sequence = take(world, 3 * sizeof(uint32_t)),
        .sent = take(world, (size_t)shape->ranks * sizeof(int32_t)),
        .arrived = take(world, (size_t)shape->ranks * sizeof(int32_t)),
        .error = world->gpu->pinned_take(sizeof(uint64_t)),
    };
    size_t places = (size_t)shape->ranks * (size_t)rank->end.layout.share_tokens;
    rank->end.place = take(world, places * sizeof(int32_t));
    rank->end.own = take(world, rank->end.layout.size_bytes);
    put(world, rank, &world->region[r], &rank->end.own, sizeof rank->end.own);
    rank->x = take(world, tokens * (size_t)shape->hidden * sizeof(float));
    rank->expert = take(world, pairs * sizeof(int32_t));
    rank->dispatch = (pr_gpu_exchange_dispatch_args){
        .exchange = &rank->end,
        .tokens = shape->most_tokens,
        .x = rank->x,
        .expert = rank->expert,
        .count = take(world, (size_t)rank->end.local_experts * sizeof(int32_t)),
        .total = take(world, sizeof(int32_t)),
        .row_of = take(world, most_rows * sizeof(int32_t)),
        .origin = take(world, 2 * most_rows * sizeof(int32_t)),
        .most_rows = (int32_t)most_rows,
    };
    rank->results = take(world, most_rows * (size_t)shape->hidden * sizeof(float));
    rank->combine = (pr_gpu_exchange_combine_args){
        .exchange = &rank->end,
        .total = rank->dispatch.total,
        .origin = rank->dispatch.origin,
        .results = rank->results,
        .tokens = shape->most_tokens,
        .slot = take(world, pairs * sizeof(float *)),
    };
    rank->tokens_used = take(world, sizeof(int32_t));
}

static virtual_world *open_world(const pr_gpu_backend *gpu, const group_shape *shape)
{
    virtual_world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->gpu = gpu;
    world->shape = *shape;
    world->lanes = shape->ranks / shape->tp;
    size_t tokens = (size_t)shape->most_tokens;
    world->region = take(world, (size_t)shape->ranks * sizeof *world->region);
    for (int32_t r = 0; r < shape->ranks; r++)
        open_rank(world, r);
    for (int32_t lane = 0; lane < world->lanes; lane++) {
        world->x[lane] = calloc(tokens * (size_t)shape->hidden, sizeof(float));
        world->expert[lane] = calloc(tokens * (size_t)shape->chosen, sizeof(int32_t));
        assert_non_null(world->x[lane]);
        assert_non_null(world->expert[lane]);
    }
    return world;
}

static void close_world(virtual_world *world)
{
    for (int32_t r = 0; r < world->shape.ranks; r++) {
        virtual_rank *rank = &world->rank[r];
        void *taken[] = {rank->end.sequence,    rank->end.sent,        rank->end.arrived,
                         rank->end.place,       rank->end.own,         rank->x,
                         rank->expert,          rank->dispatch.count,  rank->dispatch.total,
                         rank->dispatch.row_of, rank->dispatch.origin, rank->results,
                         rank->combine.slot,    rank->tokens_used};
        for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
            world->gpu->memory_release(taken[i]);
        world->gpu->pinned_release(rank->end.error);
        world->gpu->stream_destroy(rank->stream);
    }
    world->gpu->memory_release(world->region);
    for (int32_t lane = 0; lane < world->lanes; lane++) {
        free(world->x[lane]);
        free(world->expert[lane]);
    }
    free(world);
}

// Distinct random experts for each token; the favourite is one of them, in a random slot.
static void choose(const virtual_world *world, int32_t lane, uint32_t *state)
{
    const group_shape *shape = &world->shape;
    for (int32_t t = 0; t < world->tokens[lane]; t++) {
        int32_t *expert = world->expert[lane] + t * shape->chosen;
        for (int32_t k = 0; k < shape->chosen; k++) {
            bool again = true;
            while (again) {
                expert[k] = (int32_t)(next_number(state) % (uint32_t)shape->experts);
                again = false;
                for (int32_t j = 0; j < k; j++)
                    again |= expert[j] == expert[k];
            }
        }
        bool has = shape->favourite < 0;
        for (int32_t k = 0; k < shape->chosen; k++)
            has |= expert[k] == shape->favourite;
        if (!has)
            expert[next_number(state) % (uint32_t)shape->chosen] = shape->favourite;
    }
}

static void fill_step(virtual_world *world, int32_t step)
{
    const group_shape *shape = &world->shape;
    uint32_t state = (uint32_t)(step * 977 + 1);
    for (int32_t lane = 0; lane < world->lanes; lane++) {
        world->tokens[lane] = shape->tokens[(step + lane) % STEPS];
        choose(world, lane, &state);
        for (int32_t i = 0; i < world->tokens[lane] * shape->hidden; i++)
            world->x[lane][i] = (float)next_number(&state);
    }
    for (int32_t r = 0; r < shape->ranks; r++) {
        virtual_rank *rank = &world->rank[r];
        int32_t lane = r / shape->tp;
        size_t tokens = (size_t)world->tokens[lane];
        put(world, rank, rank->x, world->x[lane], tokens * (size_t)shape->hidden * sizeof(float));
        put(world, rank, rank->expert, world->expert[lane],
            tokens * (size_t)shape->chosen * sizeof(int32_t));
        put(world, rank, rank->tokens_used, &world->tokens[lane], sizeof(int32_t));
    }
}

// The result that an expert makes of element i of a row.
static float result_of(float x, int32_t expert) { return x * 0.5f + (float)expert; }

// The rows of rank r as comm's exchange would deliver them: checked, and their results made.
static void check_arrivals(virtual_world *world, int32_t r)
{
    const group_shape *shape = &world->shape;
    virtual_rank *rank = &world->rank[r];
    int32_t chosen = shape->chosen, hidden = shape->hidden, n = 0;
    int32_t *total = get(world, rank, rank->dispatch.total, sizeof *total);
    size_t most = (size_t)rank->dispatch.most_rows;
    int32_t *count =
        get(world, rank, rank->dispatch.count, (size_t)rank->end.local_experts * sizeof *count);
    int32_t *row_of = get(world, rank, rank->dispatch.row_of, most * sizeof *row_of);
    int32_t *origin = get(world, rank, rank->dispatch.origin, 2 * most * sizeof *origin);
    size_t rows = 2 * (size_t)shape->ranks * (size_t)rank->end.layout.share_tokens;
    float *arrived =
        get(world, rank, pr_gpu_exchange_rows(&rank->end), rows * (size_t)hidden * sizeof(float));
    float *results = calloc(most * (size_t)hidden + 1, sizeof *results);
    assert_non_null(results);
    for (int32_t e = 0; e < rank->end.local_experts; e++) {
        int32_t begin = n;
        for (int32_t pair = 0; pair < world->lanes * shape->most_tokens * chosen; pair++) {
            int32_t lane = pair / (shape->most_tokens * chosen);
            int32_t slot = pair % (shape->most_tokens * chosen), t = slot / chosen;
            if (t >= world->tokens[lane] || world->expert[lane][slot] != rank->end.first_expert + e)
                continue;
            int32_t tp_rank = 0;  // of whoever's share the token is in
            while (t >= (int32_t)((int64_t)world->tokens[lane] * (tp_rank + 1) / shape->tp))
                tp_rank++;
            assert_int_equal(origin[2 * n], lane * shape->tp + tp_rank);
            assert_int_equal(origin[2 * n + 1], slot);
            const float *row = arrived + (size_t)row_of[n] * (size_t)hidden;
            assert_memory_equal(
                row, world->x[lane] + (size_t)t * (size_t)hidden, (size_t)hidden * sizeof(float));
            for (int32_t i = 0; i < hidden; i++)
                results[(size_t)n * (size_t)hidden + (size_t)i] =
                    result_of(row[i], rank->end.first_expert + e);
            n++;
        }
        assert_int_equal(count[e], n - begin);
    }
    if (rank->end.local_experts > 0)
        assert_int_equal(*total, n);
    put(world, rank, rank->results, results, (size_t)n * (size_t)hidden * sizeof(float));
    free(results);
    free(arrived);
    free(origin);
    free(row_of);
    free(count);
    free(total);
}

static void check_results(virtual_world *world, int32_t r)
{
    const group_shape *shape = &world->shape;
    virtual_rank *rank = &world->rank[r];
    int32_t lane = r / shape->tp, pairs = world->tokens[lane] * shape->chosen;
    size_t row_bytes = (size_t)shape->hidden * sizeof(float);
    float **slot = get(world, rank, rank->combine.slot, (size_t)pairs * sizeof *slot);
    for (int32_t i = 0; i < pairs; i++) {
        float *result = get(world, rank, slot[i], row_bytes);
        const float *x = world->x[lane] + (size_t)(i / shape->chosen) * (size_t)shape->hidden;
        for (int32_t h = 0; h < shape->hidden; h++)
            assert_true(result[h] == result_of(x[h], world->expert[lane][i]));
        free(result);
    }
    free(slot);
}

// Every rank's first halves are in their streams before any second half.
static void run_step(virtual_world *world, int32_t step)
{
    const pr_gpu_operations *operations = world->gpu->operations;
    int32_t ranks = world->shape.ranks;
    fill_step(world, step);
    for (int32_t i = 0; i < ranks; i++) {
        virtual_rank *rank = &world->rank[(i + step) % ranks];
        bool counted = step % 2 == 1;  // the count is the device's, as in a graph
        rank->dispatch.tokens_used = counted ? rank->tokens_used : NULL;
        rank->dispatch.tokens =
            counted ? world->shape.most_tokens : world->tokens[rank->end.rank / world->shape.tp];
        rank->combine.tokens = rank->dispatch.tokens;
        operations->exchange_dispatch_send(rank->stream, &rank->dispatch);
    }
    for (int32_t r = 0; r < ranks; r++)
        operations->exchange_dispatch_receive(world->rank[r].stream, &world->rank[r].dispatch);
    for (int32_t r = 0; r < ranks; r++)
        check_arrivals(world, r);
    for (int32_t r = 0; r < ranks; r++)
        operations->exchange_combine_send(world->rank[r].stream, &world->rank[r].combine);
    for (int32_t r = 0; r < ranks; r++)
        operations->exchange_combine_receive(world->rank[r].stream, &world->rank[r].combine);
    for (int32_t r = 0; r < ranks; r++) {
        check_results(world, r);
        assert_int_equal(*world->rank[r].end.error, 0);
    }
}

static void run_shape(void **state, const group_shape *shape)
{
    const gpus_under_test *gpus = *state;
    for (int32_t i = 0; i < gpus->count; i++) {
        virtual_world *world = open_world(gpus->gpu[i], shape);
        for (int32_t step = 0; step < STEPS; step++)
            run_step(world, step);
        close_world(world);
    }
}

static void one_rank_sends_to_itself(void **state)
{
    run_shape(state, &(group_shape){1, 1, 8, 2, 16, 7, {7, 0, 1, 5, 7}, -1});
}

static void rows_of_two_ranks_are_in_order(void **state)
{
    run_shape(state, &(group_shape){2, 1, 8, 3, 12, 13, {13, 1, 0, 7, 13}, -1});
}

static void ranks_may_hold_unequal_numbers_of_experts(void **state)
{
    run_shape(state, &(group_shape){3, 1, 7, 4, 20, 11, {11, 2, 0, 0, 5}, -1});
}

static void ranks_without_experts_take_part(void **state)
{
    run_shape(state, &(group_shape){4, 1, 3, 2, 8, 5, {5, 0, 1, 3, 5}, -1});
}

static void eight_ranks_and_a_favourite_expert(void **state)
{
    run_shape(state, &(group_shape){8, 1, 16, 4, 4, MOST_TOKENS, {67, 1, 0, 31, 64}, 5});
}

static void the_ranks_of_a_lane_share_the_sending_and_all_get_results(void **state)
{
    run_shape(state, &(group_shape){4, 2, 8, 2, 16, 9, {9, 1, 0, 4, 9}, -1});
}

static void a_hidden_size_may_be_odd(void **state)
{
    run_shape(state, &(group_shape){2, 1, 4, 2, 7, 3, {3, 1, 0, 2, 3}, -1});
}

// More tokens than threads: slots go on from tile to tile.
static void many_tokens_are_scanned_in_tiles(void **state)
{
    run_shape(state, &(group_shape){2, 1, 4, 2, 4, 521, {521, 257, 256, 1, 255}, 3});
}

// The tree of `ranks` values, as runtime/parallel.h has it.
static float tree_of(const float *value, int32_t ranks)
{
    return ranks == 1 ? value[0]
                      : tree_of(value, ranks / 2) + tree_of(value + ranks / 2, ranks / 2);
}

// Branches of all ranks of all lanes, and the sum of each lane on each of its ranks.
static void check_reduce(virtual_world *world, int32_t elements, uint32_t seed)
{
    const group_shape *shape = &world->shape;
    const pr_gpu_operations *operations = world->gpu->operations;
    size_t size_bytes = (size_t)elements * sizeof(float);
    float *branch[MOST_RANKS], *memory[MOST_RANKS];
    pr_gpu_exchange_reduce_args args[MOST_RANKS];
    for (int32_t r = 0; r < shape->ranks; r++) {
        virtual_rank *rank = &world->rank[r];
        branch[r] = malloc(size_bytes + 1);
        assert_non_null(branch[r]);
        for (int32_t i = 0; i < elements; i++)
            branch[r][i] = (float)next_number(&seed) / 1023.0f - 8000.0f;
        memory[r] = take(world, size_bytes);
        put(world, rank, memory[r], branch[r], size_bytes);
        args[r] = (pr_gpu_exchange_reduce_args){
            .exchange = &rank->end, .elements = elements, .branch = memory[r], .sum = memory[r]};
        operations->exchange_reduce_send(rank->stream, &args[r]);
    }
    for (int32_t r = 0; r < shape->ranks; r++)
        operations->exchange_reduce_receive(world->rank[r].stream, &args[r]);
    for (int32_t r = 0; r < shape->ranks; r++) {
        float *sum = get(world, &world->rank[r], memory[r], size_bytes);
        for (int32_t i = 0; i < elements; i++) {
            float value[MOST_RANKS];
            for (int32_t j = 0; j < shape->tp; j++)
                value[j] = branch[r / shape->tp * shape->tp + j][i];
            assert_true(sum[i] == tree_of(value, shape->tp));
        }
        free(sum);
        world->gpu->memory_release(memory[r]);
        assert_int_equal(*world->rank[r].end.error, 0);
    }
    for (int32_t r = 0; r < shape->ranks; r++)
        free(branch[r]);
}

static void branches_are_added_in_the_order_of_the_tree(void **state)
{
    const gpus_under_test *gpus = *state;
    const group_shape shapes[] = {
        {2, 2, 2, 1, 29, 7, {0}, -1},
        {4, 2, 4, 2, 29, 7, {0}, -1},
        {4, 4, 4, 2, 29, 7, {0}, -1},
        {8, 8, 8, 2, 29, 7, {0}, -1}};
    for (int32_t i = 0; i < gpus->count; i++) {
        for (size_t j = 0; j < sizeof shapes / sizeof shapes[0]; j++) {
            virtual_world *world = open_world(gpus->gpu[i], &shapes[j]);
            const int32_t elements[] = {7 * 29, 1, 29, 4, 203};
            for (uint32_t step = 0; step < sizeof elements / sizeof elements[0]; step++)
                check_reduce(world, elements[step], step);
            close_world(world);
        }
    }
}

static void a_rank_that_never_comes_leaves_its_name(void **state)
{
    const gpus_under_test *gpus = *state;
    for (int32_t i = 0; i < gpus->count; i++) {
        const group_shape three = {3, 1, 6, 2, 8, 4, {4, 4, 4, 4, 4}, -1};
        virtual_world *world = open_world(gpus->gpu[i], &three);
        const pr_gpu_operations *operations = gpus->gpu[i]->operations;
        run_step(world, 0);
        fill_step(world, 1);
        for (int32_t r = 0; r < 3; r++)
            world->rank[r].end.limit_ns = 1000000;
        for (int32_t r = 0; r < 2; r++)  // rank 2 is gone
            operations->exchange_dispatch_send(world->rank[r].stream, &world->rank[r].dispatch);
        for (int32_t r = 0; r < 2; r++) {
            virtual_rank *rank = &world->rank[r];
            operations->exchange_dispatch_receive(rank->stream, &rank->dispatch);
            operations->exchange_combine_send(rank->stream, &rank->combine);
            operations->exchange_combine_receive(rank->stream, &rank->combine);
            assert_true(world->gpu->wait(rank->stream));
            pr_gpu_exchange_error error = pr_gpu_exchange_error_of(*rank->end.error);
            assert_int_equal(error.rank, 2);
            assert_int_equal(error.operation, PR_GPU_EXCHANGE_DISPATCH);
            assert_int_equal(error.sequence, 2);
            int32_t *total = get(world, rank, rank->dispatch.total, sizeof *total);
            assert_int_equal(*total, 0);
            free(total);
        }
        close_world(world);
    }
}

static void results_that_never_come_are_told_of_combine(void **state)
{
    const gpus_under_test *gpus = *state;
    for (int32_t i = 0; i < gpus->count; i++) {
        const group_shape two = {2, 1, 4, 2, 8, 4, {4, 4, 4, 4, 4}, -1};
        virtual_world *world = open_world(gpus->gpu[i], &two);
        const pr_gpu_operations *operations = gpus->gpu[i]->operations;
        fill_step(world, 0);
        for (int32_t r = 0; r < 2; r++)
            operations->exchange_dispatch_send(world->rank[r].stream, &world->rank[r].dispatch);
        for (int32_t r = 0; r < 2; r++)
            operations->exchange_dispatch_receive(world->rank[r].stream, &world->rank[r].dispatch);
        virtual_rank *rank = &world->rank[1];
        rank->end.limit_ns = 1000000;
        operations->exchange_combine_send(rank->stream, &rank->combine);
        operations->exchange_combine_receive(rank->stream, &rank->combine);
        assert_true(world->gpu->wait(rank->stream));
        pr_gpu_exchange_error error = pr_gpu_exchange_error_of(*rank->end.error);
        assert_int_equal(error.rank, 0);
        assert_int_equal(error.operation, PR_GPU_EXCHANGE_COMBINE);
        assert_int_equal(error.sequence, 1);
        close_world(world);
    }
}

static int open_gpus(void **state)
{
    static gpus_under_test gpus;
    *state = &gpus;
    gpus = gpu_under_test_open();
    return 0;
}

static int close_gpus(void **state)
{
    gpu_under_test_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_sends_to_itself),
        cmocka_unit_test(rows_of_two_ranks_are_in_order),
        cmocka_unit_test(ranks_may_hold_unequal_numbers_of_experts),
        cmocka_unit_test(ranks_without_experts_take_part),
        cmocka_unit_test(eight_ranks_and_a_favourite_expert),
        cmocka_unit_test(the_ranks_of_a_lane_share_the_sending_and_all_get_results),
        cmocka_unit_test(a_hidden_size_may_be_odd),
        cmocka_unit_test(many_tokens_are_scanned_in_tiles),
        cmocka_unit_test(branches_are_added_in_the_order_of_the_tree),
        cmocka_unit_test(a_rank_that_never_comes_leaves_its_name),
        cmocka_unit_test(results_that_never_come_are_told_of_combine),
    };
    return cmocka_run_group_tests(tests, open_gpus, close_gpus);
}
