// SPDX-License-Identifier: BSD-3-Clause
// Tensor reduce and gather of one lane, and the group's agreement.
// ranks: 1 2 3 4 6 8
#include "tests/mpi/mpi_test.h"

enum { MAX_TOKENS = 37, HIDDEN = 512, OUTPUTS = 9, VOCABULARY = 211, SLICES = 8 };

static pr_group *group;
static pr_parallel *parallel;

static void open_group(int32_t tp, pr_exchange exchange)
{
    pr_layout *layout = mpi_test_layout(tp);
    MUST(pr_group_create(mpi_test_world, layout, &group));
    pr_comm_params params = {
        .hidden = HIDDEN,
        .vocabulary = VOCABULARY,
        .max_tokens = MAX_TOKENS,
        .max_outputs = OUTPUTS,
        .timeout_ms = 20000,
        .exchange = exchange};
    MUST(pr_comm_parallel_create(group, &params, &parallel));
    free(layout);
}

static void close_group(void)
{
    pr_comm_parallel_destroy(parallel);
    pr_group_destroy(group);
}

// The fixed tree over slices [first, first + count).
static float tree(uint64_t key, uint64_t element, int32_t first, int32_t count)
{
    if (count == 1)
        return noise_float(key, element, (uint64_t)first);
    return tree(key, element, first, count / 2) + tree(key, element, first + count / 2, count / 2);
}

// Messages carry the branch once for each level of the tree; shared memory has it once, and the share
// that a rank adds for the others.
static int64_t reduce_bytes(int32_t tp, int64_t floats, pr_exchange exchange)
{
    int64_t levels = 0;
    for (int32_t step = 1; step < tp; step *= 2)
        levels++;
    if (exchange == PR_EXCHANGE_MESSAGES)
        return levels * floats * 4;
    int64_t share = pr_share_begin(floats, parallel->tp_rank + 1, tp) -
                    pr_share_begin(floats, parallel->tp_rank, tp);
    return tp == 1 ? 0 : (floats + (tp > 2 && floats >= 16384 ? share : 0)) * 4;
}

static void reduce_equals_the_one_rank_tree_bit_by_bit(int32_t tp, pr_exchange exchange)
{
    static float x[MAX_TOKENS * HIDDEN], apart[MAX_TOKENS * HIDDEN];
    int32_t part = SLICES / tp;
    int64_t sent = 0;
    open_group(tp, exchange);
    for (int32_t round = 0; round < 12; round++) {
        uint64_t key = (uint64_t)(round * 100 + parallel->lane);
        int32_t tokens = round == 0 ? MAX_TOKENS : (int32_t)(noise(key, 1, 1) % (MAX_TOKENS + 1));
        float *room = parallel->tensor_room(parallel);
        EXPECT(
            (room != NULL) == (tp > 1 && exchange == PR_EXCHANGE_SHARED), "room %p", (void *)room);
        float *branch = round % 3 == 0 ? x : round % 3 == 1 && room ? room : apart;
        for (int32_t i = 0; i < tokens * HIDDEN; i++)
            branch[i] = tree(key, (uint64_t)i, parallel->tp_rank * part, part);
        MUST(parallel->tensor_reduce(parallel, branch, x, tokens, HIDDEN));
        for (int32_t i = 0; i < tokens * HIDDEN; i++) {
            float want = tree(key, (uint64_t)i, 0, SLICES);
            EXPECT(memcmp(&x[i], &want, 4) == 0, "element %d is not the tree's", i);
        }
        sent += reduce_bytes(tp, (int64_t)tokens * HIDDEN, exchange);
    }
    pr_comm_counts counts;
    pr_comm_parallel_count(parallel, &counts);
    EXPECT(counts.reduce_bytes == sent, "counted %lld bytes", (long long)counts.reduce_bytes);
    close_group();
    agree(__func__);
}

static void gather_puts_uneven_column_parts_side_by_side(int32_t tp, pr_exchange exchange)
{
    static float part[OUTPUTS * VOCABULARY], whole[OUTPUTS * VOCABULARY];
    open_group(tp, exchange);
    for (int32_t round = 0; round <= OUTPUTS; round++) {
        uint64_t key = (uint64_t)(round * 100 + parallel->lane);
        int32_t begin = (int32_t)pr_share_begin(VOCABULARY, parallel->tp_rank, tp);
        int32_t end = (int32_t)pr_share_begin(VOCABULARY, parallel->tp_rank + 1, tp);
        for (int32_t t = 0, i = 0; t < round; t++) {
            for (int32_t c = begin; c < end; c++)
                part[i++] = noise_float(key, (uint64_t)t, (uint64_t)c);
        }
        memset(whole, 0, sizeof whole);
        MUST(parallel->tensor_gather(parallel, part, whole, round, VOCABULARY));
        for (int32_t t = 0; t < round; t++) {
            for (int32_t c = 0; c < VOCABULARY; c++) {
                float want = noise_float(key, (uint64_t)t, (uint64_t)c);
                EXPECT(memcmp(&whole[t * VOCABULARY + c], &want, 4) == 0, "row %d column %d", t, c);
            }
        }
    }
    close_group();
    agree(__func__);
}

static void every_rank_hears_the_largest_value(void)
{
    open_group(1, PR_EXCHANGE_AUTO);
    for (int64_t round = 0; round < 200; round++) {
        bool largest = parallel->rank == round % parallel->ranks;
        int64_t value = round * 1000003 - (largest ? 0 : 1 + parallel->rank);
        MUST(pr_group_agree(group, &value, 20000));
        EXPECT(value == round * 1000003, "heard %lld", (long long)value);
    }
    close_group();
    agree(__func__);
}

// The leader stays silent: the others get an error that names it, and can leave.
static void a_silent_leader_is_a_timeout_that_names_it(void)
{
    if (pr_world_ranks(mpi_test_world) == 1)
        return;
    open_group(1, PR_EXCHANGE_MESSAGES);
    if (parallel->rank == 1) {
        int64_t value = 0;
        pr_error_capture_begin();
        EXPECT(pr_group_agree(group, &value, 50) == PR_ERR_TIMEOUT, "no timeout");
        pr_error_capture_end();
        EXPECT(
            strcmp(pr_error_text(), "rank 0 did not answer within 50 ms in group agreement") == 0,
            "says '%s'", pr_error_text());
    }
    agree(__func__);
    int64_t value = 7;  // the pending receive takes it, so that leaving is orderly
    if (parallel->rank != 1)
        MUST(pr_group_agree(group, &value, 20000));
}

int main(void)
{
    mpi_test_begin();
    for (int32_t tp = 1; tp <= 8; tp *= 2) {
        if (pr_world_ranks(mpi_test_world) % tp != 0)
            continue;
        for (pr_exchange how = PR_EXCHANGE_SHARED; how <= PR_EXCHANGE_MESSAGES; how++) {
            reduce_equals_the_one_rank_tree_bit_by_bit(tp, how);
            gather_puts_uneven_column_parts_side_by_side(tp, how);
        }
    }
    every_rank_hears_the_largest_value();
    a_silent_leader_is_a_timeout_that_names_it();
    return mpi_test_end();
}
