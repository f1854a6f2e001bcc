// SPDX-License-Identifier: BSD-3-Clause
#include "comm/shared_exchange.h"

#ifdef PR_HAVE_MPI

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "comm/group_ranks.h"
#include "runtime/base/log.h"

// Floats of a reduce from which more than two ranks split the additions: below, a second wait costs more
// than the others' reading.
enum { SPLIT_FLOATS = 1 << 14, MOST_TP = 8, BLOCK = 16 };

// Where the parts of every rank's segment begin, in bytes.
typedef struct places {
    size_t lane[2], rows, experts, share, result, place, first, end;
} places;

struct pr_shared_exchange {
    pr_group *group;
    pr_comm_counts *counts;
    pr_comm_params params;
    pr_shared_window *window;
    places at;
    size_t capacity;  // floats of a lane buffer
    uint64_t lane_operations;
    int32_t first_expert, local_experts;
    int32_t arrivals;  // most entries of a step, on any rank
    int32_t *home;     // [E] group rank that holds the expert
    int32_t *count;    // [local experts]
    int32_t *next;     // [max of local experts, ranks]
    float *rows;       // [arrivals][H], sorted by expert, handed out
    int32_t *chosen;   // [T][K] experts of the step
    int32_t tokens, received;
};

static size_t rounded(size_t size_bytes) { return (size_bytes + 63) / 64 * 64; }

static size_t longest_share(const pr_shared_exchange *exchange)
{
    return (size_t)exchange->params.max_tokens / (size_t)exchange->group->tp + 1;
}

// The same on every rank: each reads the others' segments by it.
static void lay_out(pr_shared_exchange *exchange)
{
    const pr_comm_params *params = &exchange->params;
    places *at = &exchange->at;
    size_t tp = (size_t)exchange->group->tp;
    size_t reduce = (size_t)params->max_tokens * (size_t)params->hidden;
    size_t gather = (size_t)params->max_outputs * ((size_t)params->vocabulary / tp + 1);
    size_t row_bytes = (size_t)params->hidden * sizeof(float), end = 0;
    size_t lanes = (size_t)exchange->group->ranks / tp;
    bool experts = params->experts > 0;
    exchange->capacity = tp == 1 ? 0 : reduce > gather ? reduce : gather;
    const struct {
        size_t *place, size_bytes;
    } parts[] = {
        {&at->lane[0], exchange->capacity * sizeof(float)},
        {&at->lane[1], exchange->capacity * sizeof(float)},
        {&at->rows, experts ? longest_share(exchange) * row_bytes : 0},
        {&at->experts,
         experts ? longest_share(exchange) * (size_t)params->chosen * sizeof(int32_t) : 0},
        {&at->share, sizeof(int32_t)},
        {&at->result, (size_t)exchange->arrivals * row_bytes},
        {&at->place, (size_t)exchange->arrivals * sizeof(int32_t)},
        {&at->first, (lanes + 1) * sizeof(int32_t)},
        {&at->end, 0},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        *parts[i].place = end;
        end += rounded(parts[i].size_bytes);
    }
}

static void *part_of(const pr_shared_exchange *exchange, int32_t rank, size_t place)
{
    return pr_shared_window_data(exchange->window, rank) + place;
}

static int32_t lane_rank(const pr_group *group, int32_t tp_rank)
{
    return group->lane * group->tp + tp_rank;
}

static pr_status wait_for_lane(const pr_shared_exchange *exchange, const char *operation)
{
    const pr_group *group = exchange->group;
    for (int32_t r = 0; r < group->tp; r++)
        PR_TRY(pr_shared_window_wait(
            exchange->window, PR_SHARED_LANE, lane_rank(group, r), operation));
    return PR_OK;
}

static pr_status wait_for_group(const pr_shared_exchange *exchange, const char *operation)
{
    for (int32_t r = 0; r < exchange->group->ranks; r++)
        PR_TRY(pr_shared_window_wait(exchange->window, PR_SHARED_GROUP, r, operation));
    return PR_OK;
}

// ---- Creation --------------------------------------------------------------------------------

static pr_status take_memory(pr_shared_exchange *exchange)
{
    const pr_comm_params *params = &exchange->params;
    size_t ranks = (size_t)exchange->group->ranks, experts = (size_t)exchange->local_experts;
    exchange->home = pr_group_take((size_t)params->experts, sizeof(int32_t));
    exchange->count = pr_group_take(experts, sizeof(int32_t));
    exchange->next = pr_group_take(experts > ranks ? experts : ranks, sizeof(int32_t));
    exchange->rows = pr_group_take(
        experts ? (size_t)exchange->arrivals : 0, (size_t)params->hidden * sizeof(float));
    exchange->chosen =
        pr_group_take((size_t)params->max_tokens * (size_t)params->chosen, sizeof(int32_t));
    if (!exchange->home || !exchange->count || !exchange->next || !exchange->rows ||
        !exchange->chosen)
        return pr_fail(
            PR_ERR_RESOURCE,
            "no memory to exchange %d rows of %d floats between experts: lower "
            "--max-num-batched-tokens",
            exchange->arrivals, params->hidden);
    return PR_OK;
}

// A rank that failed alone would leave the others in the collective calls that follow.
static pr_status take_memory_together(pr_shared_exchange *exchange)
{
    pr_status status = take_memory(exchange);
    int64_t failed = status != PR_OK;
    PR_TRY(pr_group_agree(exchange->group, &failed, exchange->params.timeout_ms));
    if (failed && status == PR_OK)
        return pr_fail(
            PR_ERR_RESOURCE,
            "another rank of the group has no memory to exchange %d rows: lower "
            "--max-num-batched-tokens",
            exchange->arrivals);
    return status;
}

static void fill_shape(pr_shared_exchange *exchange)
{
    const pr_comm_params *params = &exchange->params;
    const pr_group *group = exchange->group;
    int64_t experts = params->experts, most_local = 0;
    for (int32_t rank = 0; rank < group->ranks; rank++) {
        int64_t begin = pr_share_begin(experts, rank, group->ranks);
        int64_t local = pr_share_begin(experts, rank + 1, group->ranks) - begin;
        most_local = local > most_local ? local : most_local;
        if (rank == group->rank) {
            exchange->first_expert = (int32_t)begin;
            exchange->local_experts = (int32_t)local;
        }
    }
    int64_t here = most_local < params->chosen ? most_local : params->chosen;
    exchange->arrivals = (int32_t)(here * params->max_tokens * (group->ranks / group->tp));
}

pr_status pr_shared_exchange_create(
    pr_group *group,
    const pr_comm_params *params,
    pr_comm_counts *counts,
    pr_shared_exchange **exchange,
    char why[PR_SHARED_WHY_BYTES])
{
    pr_shared_exchange *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the exchange");
    *made = (pr_shared_exchange){.group = group, .counts = counts, .params = *params};
    assert(group->tp <= MOST_TP);
    fill_shape(made);
    lay_out(made);
    pr_status status;
    PR_TRY_GOTO(take_memory_together(made), destroy_made);
    pr_group_find_homes(group, params->experts, made->home);
    PR_TRY_GOTO(
        pr_shared_window_create(
            group,
            &(pr_shared_window_params){
                .data_bytes = made->at.end,
                .timeout_ms = params->timeout_ms,
                .shares_cores = params->shares_cores},
            &made->window, why),
        destroy_made);
    if (!made->window) {
        pr_shared_exchange_destroy(made);
        made = NULL;
    }
    *exchange = made;
    return PR_OK;
destroy_made:
    pr_shared_exchange_destroy(made);
    return status;
}

void pr_shared_exchange_destroy(pr_shared_exchange *exchange)
{
    if (!exchange)
        return;
    if (!exchange->group->broken)
        pr_shared_window_destroy(exchange->window);
    free(exchange->home);
    free(exchange->count);
    free(exchange->next);
    free(exchange->rows);
    free(exchange->chosen);
    free(exchange);
}

// ---- Tensor reduce and gather ----------------------------------------------------------------

// The tree over p[0..tp-1][i, i + n) for n elements, all read before the first is written: `to` may be one
// of the branches.
static inline void
add_block(const float *const *p, int32_t tp, float *to, int64_t i, const int32_t n)
{
    float sum[BLOCK];
    if (tp == 2) {
        for (int32_t j = 0; j < n; j++)
            sum[j] = p[0][i + j] + p[1][i + j];
    } else if (tp == 4) {
        for (int32_t j = 0; j < n; j++)
            sum[j] = (p[0][i + j] + p[1][i + j]) + (p[2][i + j] + p[3][i + j]);
    } else {
        for (int32_t j = 0; j < n; j++)
            sum[j] = ((p[0][i + j] + p[1][i + j]) + (p[2][i + j] + p[3][i + j])) +
                     ((p[4][i + j] + p[5][i + j]) + (p[6][i + j] + p[7][i + j]));
    }
    memcpy(to + i, sum, (size_t)n * sizeof(float));
}

// Whole blocks have a constant length, which the compiler turns into vectors.
static void add_tree(const float *const *p, int32_t tp, float *to, int64_t n)
{
    int64_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        add_block(p, tp, to, i, BLOCK);
    if (i < n)
        add_block(p, tp, to, i, (int32_t)(n - i));
}

// This rank's lane buffers take turns: one may still be read while the next operation begins.
static size_t next_lane_buffer(pr_shared_exchange *exchange)
{
    return exchange->at.lane[exchange->lane_operations++ % 2];
}

float *pr_shared_exchange_room(const pr_shared_exchange *exchange)
{
    return part_of(
        exchange, exchange->group->rank, exchange->at.lane[exchange->lane_operations % 2]);
}

static pr_status publish_to_lane(
    pr_shared_exchange *exchange,
    size_t place,
    const float *from,
    int64_t floats,
    const char *operation)
{
    float *buffer = part_of(exchange, exchange->group->rank, place);
    assert((size_t)floats <= exchange->capacity);
    if (from != buffer)
        memcpy(buffer, from, (size_t)floats * sizeof(float));
    pr_shared_window_publish(exchange->window, PR_SHARED_LANE);
    return wait_for_lane(exchange, operation);
}

pr_status pr_shared_exchange_reduce(
    pr_shared_exchange *exchange, const float *mine, float *sum, int32_t tokens, int32_t cols)
{
    static const char operation[] = "tensor reduce";
    const pr_group *group = exchange->group;
    int32_t tp = group->tp;
    int64_t n = (int64_t)tokens * cols;
    size_t place = next_lane_buffer(exchange);
    const float *branch[MOST_TP], *part[MOST_TP];
    PR_TRY(publish_to_lane(exchange, place, mine, n, operation));
    exchange->counts->reduce_bytes += n * (int64_t)sizeof(float);
    for (int32_t r = 0; r < tp; r++)
        branch[r] = part_of(exchange, lane_rank(group, r), place);
    if (tp == 2 || n < SPLIT_FLOATS) {
        add_tree(branch, tp, sum, n);
        return PR_OK;
    }
    // Only this rank reads its own share of any branch, so the sums may stand in its place.
    int64_t begin = pr_share_begin(n, group->tp_rank, tp);
    int64_t end = pr_share_begin(n, group->tp_rank + 1, tp);
    float *share = (float *)part_of(exchange, group->rank, place) + begin;
    for (int32_t r = 0; r < tp; r++)
        part[r] = branch[r] + begin;
    add_tree(part, tp, share, end - begin);
    exchange->counts->reduce_bytes += (end - begin) * (int64_t)sizeof(float);
    pr_shared_window_publish(exchange->window, PR_SHARED_LANE);
    PR_TRY(wait_for_lane(exchange, operation));
    for (int32_t r = 0; r < tp; r++) {
        begin = pr_share_begin(n, r, tp);
        end = pr_share_begin(n, r + 1, tp);
        memcpy(sum + begin, branch[r] + begin, (size_t)(end - begin) * sizeof(float));
    }
    return PR_OK;
}

pr_status pr_shared_exchange_gather(
    pr_shared_exchange *exchange, const float *part, float *whole, int32_t tokens, int32_t cols)
{
    const pr_group *group = exchange->group;
    int64_t begin = pr_share_begin(cols, group->tp_rank, group->tp);
    int64_t mine = pr_share_begin(cols, group->tp_rank + 1, group->tp) - begin;
    size_t place = next_lane_buffer(exchange);
    PR_TRY(publish_to_lane(exchange, place, part, mine * tokens, "tensor gather"));
    exchange->counts->gather_bytes += mine * tokens * (int64_t)sizeof(float);
    for (int32_t r = 0; r < group->tp; r++) {
        const float *from = part_of(exchange, lane_rank(group, r), place);
        begin = pr_share_begin(cols, r, group->tp);
        int64_t width = pr_share_begin(cols, r + 1, group->tp) - begin;
        for (int64_t t = 0; t < tokens; t++)
            memcpy(whole + t * cols + begin, from + t * width, (size_t)width * sizeof(float));
    }
    return PR_OK;
}

// ---- Experts ---------------------------------------------------------------------------------

// This rank's share of its lane's tokens: rows and experts.
static void publish_share(pr_shared_exchange *exchange, const pr_dispatch_args *args)
{
    const pr_group *group = exchange->group;
    int64_t begin = pr_share_begin(args->tokens, group->tp_rank, group->tp);
    int64_t rows = pr_share_begin(args->tokens, group->tp_rank + 1, group->tp) - begin;
    int32_t *share = part_of(exchange, group->rank, exchange->at.share);
    size_t row_bytes = (size_t)args->hidden * sizeof(float);
    size_t experts_bytes = (size_t)args->chosen * sizeof(int32_t);
    *share = (int32_t)rows;
    memcpy(
        part_of(exchange, group->rank, exchange->at.experts), args->expert + begin * args->chosen,
        (size_t)rows * experts_bytes);
    memcpy(
        part_of(exchange, group->rank, exchange->at.rows), args->x + begin * args->hidden,
        (size_t)rows * row_bytes);
    exchange->counts->dispatch_bytes +=
        rows * (int64_t)(row_bytes + experts_bytes) + (int64_t)sizeof(int32_t);
    pr_shared_window_publish(exchange->window, PR_SHARED_GROUP);
}

static bool is_here(const pr_shared_exchange *exchange, int32_t expert)
{
    return expert >= exchange->first_expert &&
           expert < exchange->first_expert + exchange->local_experts;
}

// Entries of every local expert, and where each lane's begin. What a rank says of its share is another
// process's word: it is checked.
static pr_status count_entries(pr_shared_exchange *exchange, int32_t *lane_first)
{
    const pr_group *group = exchange->group;
    int32_t chosen = exchange->params.chosen, entries = 0;
    memset(exchange->count, 0, (size_t)exchange->local_experts * sizeof(int32_t));
    for (int32_t rank = 0; rank < group->ranks; rank++) {
        int32_t rows = *(const int32_t *)part_of(exchange, rank, exchange->at.share);
        const int32_t *expert = part_of(exchange, rank, exchange->at.experts);
        if (rank % group->tp == 0)
            lane_first[rank / group->tp] = entries;
        if (rows < 0 || (size_t)rows > longest_share(exchange))
            return pr_fail(
                PR_ERR_PEER, "rank %d sent a malformed share in expert dispatch",
                group->first_rank + rank);
        for (int64_t i = 0; i < (int64_t)rows * chosen; i++) {
            if (!is_here(exchange, expert[i]))
                continue;
            exchange->count[expert[i] - exchange->first_expert]++;
            entries++;
        }
    }
    lane_first[group->ranks / group->tp] = exchange->received = entries;
    if (entries > exchange->arrivals)
        return pr_fail(
            PR_ERR_PEER, "%d rows arrived in expert dispatch, room for %d", entries,
            exchange->arrivals);
    return PR_OK;
}

// Counting sort by local expert, stable in order of source rank, token, slot.
static void sort_rows(pr_shared_exchange *exchange)
{
    const pr_group *group = exchange->group;
    int32_t chosen = exchange->params.chosen, entry = 0;
    int64_t hidden = exchange->params.hidden;
    int32_t *place = part_of(exchange, group->rank, exchange->at.place);
    for (int32_t e = 0, first = 0; e < exchange->local_experts; e++) {
        exchange->next[e] = first;
        first += exchange->count[e];
    }
    for (int32_t rank = 0; rank < group->ranks; rank++) {
        int32_t rows = *(const int32_t *)part_of(exchange, rank, exchange->at.share);
        const int32_t *expert = part_of(exchange, rank, exchange->at.experts);
        const float *row = part_of(exchange, rank, exchange->at.rows);
        for (int64_t i = 0; i < (int64_t)rows * chosen && entry < exchange->received; i++) {
            if (!is_here(exchange, expert[i]))
                continue;
            int32_t to = exchange->next[expert[i] - exchange->first_expert]++;
            place[entry++] = to;
            memcpy(
                exchange->rows + to * hidden, row + i / chosen * hidden,
                (size_t)hidden * sizeof(float));
        }
    }
}

pr_status pr_shared_exchange_dispatch(pr_shared_exchange *exchange, pr_dispatch_args *args)
{
    assert(args->tokens >= 0 && args->tokens <= exchange->params.max_tokens);
    assert(args->chosen == exchange->params.chosen && args->hidden == exchange->params.hidden);
    publish_share(exchange, args);
    exchange->tokens = args->tokens;
    memcpy(
        exchange->chosen, args->expert,
        (size_t)args->tokens * (size_t)args->chosen * sizeof(int32_t));
    PR_TRY(wait_for_group(exchange, "expert dispatch"));
    exchange->received = 0;
    if (exchange->local_experts > 0) {
        PR_TRY(
            count_entries(exchange, part_of(exchange, exchange->group->rank, exchange->at.first)));
        sort_rows(exchange);
    }
    args->received = exchange->received;
    args->rows = exchange->rows;
    args->count = exchange->count;
    args->results = part_of(exchange, exchange->group->rank, exchange->at.result);
    return PR_OK;
}

// A rank's entries of a lane are in order of token and slot: one walk over the slots finds all of them.
static pr_status find_results(pr_shared_exchange *exchange, const float **slot)
{
    const pr_group *group = exchange->group;
    int64_t slot_count = (int64_t)exchange->tokens * exchange->params.chosen;
    int64_t hidden = exchange->params.hidden;
    for (int32_t rank = 0; rank < group->ranks; rank++)
        exchange->next[rank] =
            ((const int32_t *)part_of(exchange, rank, exchange->at.first))[group->lane];
    for (int64_t i = 0; i < slot_count; i++) {
        int32_t rank = exchange->home[exchange->chosen[i]], entry = exchange->next[rank]++;
        const int32_t *place = part_of(exchange, rank, exchange->at.place);
        const float *result = part_of(exchange, rank, exchange->at.result);
        if (entry < 0 || entry >= exchange->arrivals || place[entry] < 0 ||
            place[entry] >= exchange->arrivals)
            return pr_fail(
                PR_ERR_PEER, "rank %d sent malformed results in expert combine",
                group->first_rank + rank);
        slot[i] = result + place[entry] * hidden;
    }
    return PR_OK;
}

pr_status pr_shared_exchange_combine(pr_shared_exchange *exchange, const pr_return_args *args)
{
    const pr_group *group = exchange->group;
    float *results = part_of(exchange, group->rank, exchange->at.result);
    size_t size_bytes =
        (size_t)exchange->received * (size_t)exchange->params.hidden * sizeof(float);
    if (args->rows != results)
        memcpy(results, args->rows, size_bytes);
    exchange->counts->combine_bytes +=
        (int64_t)size_bytes + exchange->received * (int64_t)sizeof(int32_t);
    pr_shared_window_publish(exchange->window, PR_SHARED_GROUP);
    PR_TRY(wait_for_group(exchange, "expert combine"));
    return find_results(exchange, args->slot);
}

#endif
