// SPDX-License-Identifier: BSD-3-Clause
#include "comm/nccl_exchange.h"

#ifdef PR_HAVE_MPI

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "comm/group_ranks.h"
#include "comm/nccl_library.h"
#include "comm/watch.h"
#include "runtime/base/log.h"

// How many rows go to or come from each rank, one rank's after another's.
typedef struct rows_of_ranks {
    int32_t *count, *first;  // [R], [R + 1]
} rows_of_ranks;

typedef struct nccl_exchange {
    pr_device_exchange exchange;
    pr_group *group;
    pr_comm_params params;
    pr_device *device;
    pr_nccl nccl;
    pr_nccl_comm *comm;
    int32_t first_expert, local_experts;
    int32_t *home;  // [E] rank that holds the expert
    // The host's, of the dispatch in flight:
    int32_t *tokens;                    // [R] of the rank's lane
    int32_t *chosen;                    // [R's shares][K]
    rows_of_ranks ids;                  // of chosen, in int32
    rows_of_ranks sent, arrived, back;  // rows of dispatch, both ways; results to come
    int32_t *index;                     // [most_index] on its way to the device
    int32_t *sorted;  // [arrivals] an entry's place in the rows, in order of source, token, slot
    int32_t *lane_first;  // [lanes + 1] a lane's first entry
    int32_t *count;       // [local experts]
    int32_t *next;        // [local experts]
    const float **slot;   // [T][K]
    // The device's:
    float *packed;    // rows on their way out
    float *rows;      // [R * S][H] arrived
    float *returned;  // [T][K][H]
    float *branch;    // [T][H] another rank's
    int32_t *device_index, *device_row_of, *device_count;
} nccl_exchange;

static nccl_exchange *state_of(pr_device_exchange *exchange) { return exchange->state; }

static pr_status checked(const nccl_exchange *state, int code, const char *operation)
{
    if (code == 0)
        return PR_OK;
    return pr_fail(
        PR_ERR_PEER, "%s failed in %s: %s (NCCL_DEBUG=INFO tells more)", state->nccl.name,
        operation, state->nccl.error_text(code));
}

// ---- Grouped messages ----

typedef struct message {
    const float *from;
    float *to;
    rows_of_ranks out, in;
    int64_t cols;
} message;

// Rows to and from all ranks; this rank's own are copied.
static pr_status exchange_rows(nccl_exchange *state, const message *rows, const char *operation)
{
    const pr_nccl *nccl = &state->nccl;
    int32_t own = state->group->rank;
    size_t cols = (size_t)rows->cols;
    void *queue = state->device->queue(state->device);
    if (rows->out.count[own] > 0)
        state->device->copy(
            state->device, rows->to + (size_t)rows->in.first[own] * cols,
            rows->from + (size_t)rows->out.first[own] * cols,
            (size_t)rows->out.count[own] * cols * sizeof(float));
    PR_TRY(checked(state, nccl->group_start(), operation));
    for (int32_t rank = 0; rank < state->group->ranks; rank++) {
        if (rank == own)
            continue;
        size_t out = (size_t)rows->out.count[rank] * cols, in = (size_t)rows->in.count[rank] * cols;
        const float *from = rows->from + (size_t)rows->out.first[rank] * cols;
        float *to = rows->to + (size_t)rows->in.first[rank] * cols;
        if (out > 0)
            PR_TRY(checked(
                state, nccl->send(from, out, PR_NCCL_FLOAT32, rank, state->comm, queue),
                operation));
        if (in > 0)
            PR_TRY(checked(
                state, nccl->receive(to, in, PR_NCCL_FLOAT32, rank, state->comm, queue),
                operation));
    }
    return checked(state, nccl->group_end(), operation);
}

static void lay_end_to_end(const nccl_exchange *state, rows_of_ranks *rows)
{
    rows->first[0] = 0;
    for (int32_t rank = 0; rank < state->group->ranks; rank++)
        rows->first[rank + 1] = rows->first[rank] + rows->count[rank];
}

// to[i] = from[index[i]] on the device; the index is the host's.
static pr_status
gather_rows(nccl_exchange *state, const int32_t *index, int32_t rows, const float *from, float *to)
{
    if (rows == 0)
        return PR_OK;
    PR_TRY(state->device->copy_in(
        state->device, state->device_index, index, (size_t)rows * sizeof *index));
    const pr_gather_args gather = {
        .rows = rows,
        .cols = state->params.hidden,
        .row_of = state->device_index,
        .from = from,
        .to = to,
    };
    state->device->gather(state->device, &gather);
    return PR_OK;
}

// ---- Dispatch ----

// Of a rank: its share of its lane's tokens.
static int32_t share_begin(const nccl_exchange *state, int32_t rank)
{
    int32_t tp = state->group->tp;
    return (int32_t)pr_share_begin(state->tokens[rank], rank % tp, tp);
}

static int32_t share_rows(const nccl_exchange *state, int32_t rank)
{
    int32_t tp = state->group->tp;
    int64_t end = pr_share_begin(state->tokens[rank], rank % tp + 1, tp);
    return (int32_t)end - share_begin(state, rank);
}

static pr_status wait_for(const nccl_exchange *state, MPI_Request *request, int code)
{
    const int32_t nobody = -1;
    PR_TRY(pr_mpi_check(code, "expert dispatch", -1));
    return pr_mpi_wait_all(request, &nobody, 1, "expert dispatch", state->params.timeout_ms);
}

// Every rank's tokens and the experts of its share, on all ranks.
static pr_status tell_experts(nccl_exchange *state, const pr_dispatch_args *args)
{
    const pr_group *group = state->group;
    MPI_Request request;
    state->tokens[group->rank] = args->tokens;
    PR_TRY(wait_for(
        state, &request,
        MPI_Iallgather(
            MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, state->tokens, 1, MPI_INT32_T, group->comm,
            &request)));
    for (int32_t rank = 0; rank < group->ranks; rank++)
        state->ids.count[rank] = share_rows(state, rank) * args->chosen;
    lay_end_to_end(state, &state->ids);
    int32_t own = state->ids.count[group->rank];
    if (own > 0)
        PR_TRY(state->device->copy_out(
            state->device, state->chosen + state->ids.first[group->rank],
            args->expert + (int64_t)share_begin(state, group->rank) * args->chosen,
            (size_t)own * sizeof(int32_t)));
    return wait_for(
        state, &request,
        MPI_Iallgatherv(
            MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, state->chosen, state->ids.count, state->ids.first,
            MPI_INT32_T, group->comm, &request));
}

// Whether a token, by its experts, goes to a rank.
static bool goes_to(const nccl_exchange *state, const int32_t *expert, int32_t rank)
{
    bool goes = false;
    for (int32_t k = 0; k < state->params.chosen; k++)
        goes |= state->home[expert[k]] == rank;
    return goes;
}

// Lists the rows that go out, and counts those that come.
static void count_rows(nccl_exchange *state)
{
    int32_t ranks = state->group->ranks, own = state->group->rank, n = 0;
    int32_t chosen = state->params.chosen;
    for (int32_t rank = 0; rank < ranks; rank++) {
        const int32_t *mine = state->chosen + state->ids.first[own];
        const int32_t *theirs = state->chosen + state->ids.first[rank];
        state->sent.count[rank] = state->arrived.count[rank] = 0;
        for (int32_t t = 0; t < share_rows(state, own); t++) {
            if (!goes_to(state, mine + (int64_t)t * chosen, rank))
                continue;
            state->index[n++] = share_begin(state, own) + t;
            state->sent.count[rank]++;
        }
        for (int32_t t = 0; t < share_rows(state, rank); t++)
            state->arrived.count[rank] += goes_to(state, theirs + (int64_t)t * chosen, own);
    }
    lay_end_to_end(state, &state->sent);
    lay_end_to_end(state, &state->arrived);
}

// Counting sort by local expert, stable in order of source, token, slot. Returns the number of entries.
static int32_t sort_entries(nccl_exchange *state)
{
    int32_t ranks = state->group->ranks, tp = state->group->tp, chosen = state->params.chosen;
    int32_t all = state->ids.first[ranks], begin = 0, entry = 0, row = 0;
    memset(state->count, 0, (size_t)state->local_experts * sizeof(int32_t));
    for (int32_t i = 0; i < all; i++) {
        if (state->home[state->chosen[i]] == state->group->rank)
            state->count[state->chosen[i] - state->first_expert]++;
    }
    for (int32_t e = 0; e < state->local_experts; e++) {
        state->next[e] = begin;
        begin += state->count[e];
    }
    for (int32_t rank = 0; rank < ranks; rank++) {
        if (rank % tp == 0)
            state->lane_first[rank / tp] = entry;
        for (int32_t i = state->ids.first[rank]; i < state->ids.first[rank + 1]; i += chosen) {
            int32_t before = entry;
            for (int32_t k = 0; k < chosen; k++) {
                if (state->home[state->chosen[i + k]] != state->group->rank)
                    continue;
                int32_t place = state->next[state->chosen[i + k] - state->first_expert]++;
                state->sorted[entry++] = place;
                state->index[place] = row;
            }
            row += entry > before;
        }
    }
    state->lane_first[ranks / tp] = entry;
    return entry;
}

static pr_status dispatch(pr_device_exchange *exchange, pr_dispatch_args *args)
{
    nccl_exchange *state = state_of(exchange);
    pr_device *device = state->device;
    assert(args->tokens <= state->params.max_tokens && args->chosen == state->params.chosen);
    PR_TRY(tell_experts(state, args));
    count_rows(state);
    int32_t out = state->sent.first[state->group->ranks];
    PR_TRY(gather_rows(state, state->index, out, args->x, state->packed));
    const message rows = {
        .from = state->packed,
        .to = state->rows,
        .out = state->sent,
        .in = state->arrived,
        .cols = args->hidden,
    };
    PR_TRY(exchange_rows(state, &rows, "expert dispatch"));
    int32_t entries = sort_entries(state);
    if (entries > 0)
        PR_TRY(device->copy_in(
            device, state->device_row_of, state->index, (size_t)entries * sizeof(int32_t)));
    if (state->local_experts > 0)
        PR_TRY(device->copy_in(
            device, state->device_count, state->count,
            (size_t)state->local_experts * sizeof(int32_t)));
    args->rows = state->rows;
    args->row_of = state->device_row_of;
    args->place = NULL;
    args->count = state->device_count;
    args->received = entries;
    args->results = NULL;
    return PR_OK;
}

// ---- Combine ----

// The lane's experts, of all its tokens: the shares of its ranks one after another.
static const int32_t *lane_chosen(const nccl_exchange *state, int32_t *count)
{
    int32_t first = state->group->lane * state->group->tp;
    *count = state->ids.first[first + state->group->tp] - state->ids.first[first];
    return state->chosen + state->ids.first[first];
}

static pr_status combine(pr_device_exchange *exchange, const pr_return_args *args)
{
    nccl_exchange *state = state_of(exchange);
    int32_t ranks = state->group->ranks, tp = state->group->tp, slots;
    int64_t hidden = state->params.hidden;
    const int32_t *expert = lane_chosen(state, &slots);
    int32_t entries = state->lane_first[ranks / tp];
    PR_TRY(gather_rows(state, state->sorted, entries, args->rows, state->packed));
    // All ranks of a lane get the same rows.
    for (int32_t rank = 0; rank < ranks; rank++) {
        state->sent.first[rank] = state->lane_first[rank / tp];
        state->sent.count[rank] = state->lane_first[rank / tp + 1] - state->lane_first[rank / tp];
        state->back.count[rank] = 0;
    }
    for (int32_t i = 0; i < slots; i++)
        state->back.count[state->home[expert[i]]]++;
    lay_end_to_end(state, &state->back);
    const message rows = {
        .from = state->packed,
        .to = state->returned,
        .out = state->sent,
        .in = state->back,
        .cols = hidden,
    };
    PR_TRY(exchange_rows(state, &rows, "expert combine"));
    for (int32_t i = 0; i < slots; i++)
        state->slot[i] = state->returned + state->back.first[state->home[expert[i]]]++ * hidden;
    if (slots == 0)
        return PR_OK;
    return state->device->copy_in(
        state->device, args->slot, state->slot, (size_t)slots * sizeof *state->slot);
}

// ---- Reduce ----

static pr_status
reduce(pr_device_exchange *exchange, const float *branch, float *sum, int64_t elements)
{
    nccl_exchange *state = state_of(exchange);
    const pr_nccl *nccl = &state->nccl;
    pr_device *device = state->device;
    static const char operation[] = "tensor reduce";
    size_t count = (size_t)elements;
    void *queue = device->queue(device);
    if (elements == 0)
        return PR_OK;
    if (branch != sum)
        device->copy(device, sum, branch, count * sizeof(float));
    for (int32_t step = 1; step < state->group->tp; step *= 2) {
        int peer = state->group->lane * state->group->tp + (state->group->tp_rank ^ step);
        PR_TRY(checked(state, nccl->group_start(), operation));
        PR_TRY(checked(
            state, nccl->send(sum, count, PR_NCCL_FLOAT32, peer, state->comm, queue), operation));
        PR_TRY(checked(
            state, nccl->receive(state->branch, count, PR_NCCL_FLOAT32, peer, state->comm, queue),
            operation));
        PR_TRY(checked(state, nccl->group_end(), operation));
        const pr_add_args add = {.elements = elements, .x = sum, .y = state->branch};
        device->add(device, &add);
    }
    return PR_OK;
}

static pr_status check(pr_device_exchange *exchange)
{
    (void)exchange;
    return PR_OK;
}

// ---- Setting up ----

static void close_comm(pr_device_exchange *exchange)
{
    nccl_exchange *state = state_of(exchange);
    if (state->comm)
        (void)state->nccl.destroy(state->comm);
    state->comm = NULL;
}

static void destroy(pr_device_exchange *exchange)
{
    nccl_exchange *state = state_of(exchange);
    close_comm(exchange);
    void *of_device[] = {state->packed,      state->rows,         state->returned,
                         state->branch,      state->device_index, state->device_row_of,
                         state->device_count};
    for (size_t i = 0; i < sizeof of_device / sizeof *of_device; i++)
        state->device->memory_release(state->device, of_device[i]);
    void *of_host[] = {state->home,       state->tokens,        state->chosen,
                       state->ids.count,  state->ids.first,     state->sent.count,
                       state->sent.first, state->arrived.count, state->arrived.first,
                       state->back.count, state->back.first,    state->index,
                       state->sorted,     state->lane_first,    state->count,
                       state->next,       (void *)state->slot};
    for (size_t i = 0; i < sizeof of_host / sizeof *of_host; i++)
        free(of_host[i]);
    free(state);
}

static bool take_counts(rows_of_ranks *rows, size_t ranks)
{
    rows->count = pr_group_take(ranks, sizeof(int32_t));
    rows->first = pr_group_take(ranks + 1, sizeof(int32_t));
    return rows->count && rows->first;
}

static pr_status take_memory(nccl_exchange *state)
{
    const pr_comm_params *params = &state->params;
    size_t ranks = (size_t)state->group->ranks, tp = (size_t)state->group->tp;
    size_t tokens = (size_t)params->max_tokens, chosen = (size_t)params->chosen;
    size_t lanes = ranks / tp, local = (size_t)state->local_experts, word = sizeof(int32_t);
    size_t arrivals = lanes * tokens * (local < chosen ? local : chosen);
    size_t out = (tokens / tp + 1) * (chosen < ranks ? chosen : ranks);
    size_t most = out > arrivals ? out : arrivals;
    size_t row_bytes = (size_t)params->hidden * sizeof(float);
    bool good = take_counts(&state->ids, ranks) && take_counts(&state->sent, ranks) &&
                take_counts(&state->arrived, ranks) && take_counts(&state->back, ranks);
    struct {
        size_t count;
        int32_t **memory;
    } words[] = {
        {(size_t)params->experts, &state->home},
        {ranks, &state->tokens},
        {lanes * tokens * chosen, &state->chosen},
        {most, &state->index},
        {arrivals, &state->sorted},
        {lanes + 1, &state->lane_first},
        {local, &state->count},
        {local, &state->next},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        *words[i].memory = pr_group_take(words[i].count, word);
        good = good && *words[i].memory;
    }
    state->slot = pr_group_take(tokens * chosen, sizeof *state->slot);
    if (!good || !state->slot)
        return pr_fail(PR_ERR_RESOURCE, "no memory to exchange %zu rows by NCCL", arrivals);
    struct {
        size_t size_bytes;
        void **memory;
    } wanted[] = {
        {most * row_bytes, (void **)&state->packed},
        {(chosen ? lanes * tokens : 0) * row_bytes, (void **)&state->rows},
        {tokens * chosen * row_bytes, (void **)&state->returned},
        {(tp > 1 ? tokens : 0) * row_bytes, (void **)&state->branch},
        {most * word, (void **)&state->device_index},
        {arrivals * word, (void **)&state->device_row_of},
        {local * word, (void **)&state->device_count},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        PR_TRY(state->device->memory_take(
            state->device, wanted[i].size_bytes ? wanted[i].size_bytes : 1, wanted[i].memory));
    return PR_OK;
}

// Ranks of different containers may load different libraries, which do not understand each other.
static pr_status open_library(nccl_exchange *state)
{
    int version = 0;
    pr_status status = pr_nccl_library_open(state->device->name, &state->nccl);
    if (status == PR_OK)
        status = checked(state, state->nccl.version(&version), "opening");
    int64_t most = version, least = -(int64_t)version;
    PR_TRY(pr_group_agree(state->group, &most, state->params.timeout_ms));
    PR_TRY(pr_group_agree(state->group, &least, state->params.timeout_ms));
    if (status != PR_OK || most == -least)
        return status;
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "rank %d has version %d of %s, others of its group have up to %lld and down to %lld: give "
        "all the same library",
        state->group->first_rank + state->group->rank, version, state->nccl.name, (long long)most,
        (long long)-least);
}

static pr_status join(nccl_exchange *state)
{
    pr_nccl_id id = {{0}};
    const pr_group *group = state->group;
    if (group->rank == 0)
        PR_TRY(checked(state, state->nccl.unique_id(&id), "opening"));
    pr_watch_collective("opening of NCCL");
    int code = MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, group->comm);
    pr_status status = pr_mpi_check(code, "opening of NCCL", -1);
    if (status == PR_OK)
        status = checked(
            state, state->nccl.init_rank(&state->comm, group->ranks, id, group->rank), "opening");
    pr_watch_go();
    return status;
}

pr_status pr_nccl_exchange_create(
    pr_group *group, const pr_comm_params *params, pr_device_exchange **exchange)
{
    nccl_exchange *state = calloc(1, sizeof *state);
    if (!state)
        return pr_fail(PR_ERR_RESOURCE, "no memory for an exchange by NCCL");
    state->group = group;
    state->params = *params;
    state->device = params->device;
    state->first_expert = (int32_t)pr_share_begin(params->experts, group->rank, group->ranks);
    state->local_experts = (int32_t)pr_share_begin(params->experts, group->rank + 1, group->ranks) -
                           state->first_expert;
    state->exchange = (pr_device_exchange){
        .state = state,
        .dispatch = dispatch,
        .combine = combine,
        .reduce = reduce,
        .check = check,
        .close = close_comm,
        .destroy = destroy,
    };
    pr_status status;
    PR_TRY_GOTO(open_library(state), destroy_created);
    PR_TRY_GOTO(take_memory(state), destroy_created);
    pr_group_find_homes(group, params->experts, state->home);
    PR_TRY_GOTO(join(state), destroy_created);
    *exchange = &state->exchange;
    return PR_OK;
destroy_created:
    destroy(&state->exchange);
    return status;
}

#endif
