// SPDX-License-Identifier: BSD-3-Clause
#include "comm/expert_exchange.h"

#ifdef PR_HAVE_MPI

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "comm/group_ranks.h"
#include "runtime/base/log.h"

typedef struct entry {
    int32_t row;     // within the message's rows
    int32_t expert;  // local at the receiver
} entry;

// {rows, entries} and then the entries themselves; what one rank tells another per step.
typedef struct entry_list {
    int32_t rows, entries;
    entry entry[];
} entry_list;

struct pr_expert_exchange {
    pr_group *group;
    pr_comm_counts *counts;
    pr_comm_params params;
    int32_t local_experts;
    int32_t *home;  // [E] group rank that holds the expert

    // Origin: what goes to each rank, and where its results belong.
    char *out_lists;           // [R] entry lists of list_bytes
    float *origin_rows;        // [T * K][H]: rows on the way out, later results on the way in
    int32_t *out_first;        // [R] first row in origin_rows
    int32_t *next_row;         // [R] next row to pack
    int32_t *last_token;       // [R] last token with a row for that rank
    int32_t *chosen;           // [T][K] experts of the step
    int32_t tokens, *returns;  // [R] entries that rank returns to this lane
    int32_t *return_place;     // [R + 1]: where each rank's results start

    // Expert side: what came from each rank.
    char *in_lists;       // [R] entry lists
    float *home_rows;     // [max entries][H]: arrived rows, later results in order of arrival
    float *rows;          // [max entries][H]: sorted by expert, handed out
    int32_t *sorted;      // [max entries]: an entry's place in rows, in order of arrival
    int32_t *in_first;    // [R] first row in home_rows
    int32_t *lane_first;  // [lanes + 1]: a lane's first entry in order of arrival
    int32_t *count;       // [local experts]
    int32_t *next;        // [local experts]: next place of each expert while sorting

    size_t list_bytes;
    MPI_Datatype row_type;            // H floats
    MPI_Request *request;             // [4 R]
    int32_t *peer;                    // [4 R]
    int32_t requests, list_requests;  // all, and the receives of lists among them, which are first
};

static entry_list *list_at(char *lists, size_t list_bytes, int32_t rank)
{
    return (entry_list *)(void *)(lists + list_bytes * (size_t)rank);
}

static bool holds_experts(const pr_expert_exchange *exchange, int32_t rank)
{
    int32_t experts = exchange->params.experts, ranks = exchange->group->ranks;
    return pr_share_begin(experts, rank, ranks) < pr_share_begin(experts, rank + 1, ranks);
}

static int32_t first_expert(const pr_expert_exchange *exchange, int32_t rank)
{
    return (int32_t)pr_share_begin(exchange->params.experts, rank, exchange->group->ranks);
}

static pr_status take_memory(pr_expert_exchange *exchange)
{
    const pr_comm_params *params = &exchange->params;
    size_t ranks = (size_t)exchange->group->ranks, lanes = ranks / (size_t)exchange->group->tp;
    size_t tokens = (size_t)params->max_tokens, chosen = (size_t)params->chosen;
    size_t row_bytes = (size_t)params->hidden * sizeof(float);
    size_t share = tokens / (size_t)exchange->group->tp + 1;
    size_t arrivals = exchange->local_experts ? lanes * tokens * chosen : 0;
    exchange->list_bytes = sizeof(entry_list) + share * chosen * sizeof(entry);
    exchange->home = pr_group_take((size_t)params->experts, sizeof(int32_t));
    exchange->out_lists = pr_group_take(ranks, exchange->list_bytes);
    exchange->origin_rows = pr_group_take(tokens * chosen, row_bytes);
    exchange->out_first = pr_group_take(ranks, sizeof(int32_t));
    exchange->next_row = pr_group_take(ranks, sizeof(int32_t));
    exchange->last_token = pr_group_take(ranks, sizeof(int32_t));
    exchange->chosen = pr_group_take(tokens * chosen, sizeof(int32_t));
    exchange->returns = pr_group_take(ranks, sizeof(int32_t));
    exchange->return_place = pr_group_take(ranks + 1, sizeof(int32_t));
    exchange->in_lists = pr_group_take(ranks, exchange->list_bytes);
    exchange->home_rows = pr_group_take(arrivals, row_bytes);
    exchange->rows = pr_group_take(arrivals, row_bytes);
    exchange->sorted = pr_group_take(arrivals, sizeof(int32_t));
    exchange->in_first = pr_group_take(ranks, sizeof(int32_t));
    exchange->lane_first = pr_group_take(lanes + 1, sizeof(int32_t));
    exchange->count = pr_group_take((size_t)exchange->local_experts, sizeof(int32_t));
    exchange->next = pr_group_take((size_t)exchange->local_experts, sizeof(int32_t));
    exchange->request = pr_group_take(4 * ranks, sizeof(MPI_Request));
    exchange->peer = pr_group_take(4 * ranks, sizeof(int32_t));
    const void *const taken[] = {
        exchange->home,         exchange->out_lists,  exchange->origin_rows, exchange->out_first,
        exchange->returns,      exchange->in_lists,   exchange->home_rows,   exchange->rows,
        exchange->return_place, exchange->sorted,     exchange->in_first,    exchange->lane_first,
        exchange->count,        exchange->next,       exchange->request,     exchange->peer,
        exchange->next_row,     exchange->last_token, exchange->chosen};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        if (!taken[i])
            return pr_fail(
                PR_ERR_RESOURCE,
                "no memory to exchange %zu rows of %zu bytes between experts: lower "
                "--max-num-batched-tokens",
                arrivals, row_bytes);
    }
    return PR_OK;
}

pr_status pr_expert_exchange_create(
    pr_group *group,
    const pr_comm_params *params,
    pr_comm_counts *counts,
    pr_expert_exchange **exchange)
{
    assert(group->ranks > 1 && params->experts > 0 && params->chosen > 0);
    pr_expert_exchange *created = calloc(1, sizeof *created);
    if (!created)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the expert exchange");
    created->group = group;
    created->counts = counts;
    created->params = *params;
    created->row_type = MPI_DATATYPE_NULL;
    created->local_experts =
        first_expert(created, group->rank + 1) - first_expert(created, group->rank);
    pr_status status;
    PR_TRY_GOTO(take_memory(created), destroy_created);
    pr_group_find_homes(group, params->experts, created->home);
    PR_TRY_GOTO(
        pr_mpi_check(
            MPI_Type_contiguous(params->hidden, MPI_FLOAT, &created->row_type),
            "expert exchange creation", -1),
        destroy_created);
    PR_TRY_GOTO(
        pr_mpi_check(MPI_Type_commit(&created->row_type), "expert exchange creation", -1),
        destroy_created);
    *exchange = created;
    return PR_OK;
destroy_created:
    pr_expert_exchange_destroy(created);
    return status;
}

void pr_expert_exchange_destroy(pr_expert_exchange *exchange)
{
    // After a failed operation MPI may still write to the buffers: they stay until the process ends.
    if (!exchange || exchange->group->broken)
        return;
    if (exchange->row_type != MPI_DATATYPE_NULL)
        MPI_Type_free(&exchange->row_type);
    free(exchange->home);
    free(exchange->out_lists);
    free(exchange->origin_rows);
    free(exchange->out_first);
    free(exchange->next_row);
    free(exchange->last_token);
    free(exchange->chosen);
    free(exchange->returns);
    free(exchange->return_place);
    free(exchange->in_lists);
    free(exchange->home_rows);
    free(exchange->rows);
    free(exchange->sorted);
    free(exchange->in_first);
    free(exchange->lane_first);
    free(exchange->count);
    free(exchange->next);
    free(exchange->request);
    free(exchange->peer);
    free(exchange);
}

// Starts one message; to or from this rank itself never comes here.
static pr_status start(
    pr_expert_exchange *exchange,
    bool sends,
    void *data,
    int64_t count,
    MPI_Datatype type,
    int32_t rank,
    int tag)
{
    const char *operation = tag == PR_TAG_EXPERT_RESULTS ? "expert combine" : "expert dispatch";
    MPI_Comm comm = exchange->group->comm;
    MPI_Request *request = &exchange->request[exchange->requests];
    int32_t peer = exchange->group->first_rank + rank;
    exchange->peer[exchange->requests++] = peer;
    if (sends)
        exchange->counts->messages++;
    return pr_mpi_check(
        sends ? MPI_Isend(data, (int)count, type, rank, tag, comm, request)
              : MPI_Irecv(data, (int)count, type, rank, tag, comm, request),
        operation, peer);
}

static pr_status wait_all(pr_expert_exchange *exchange, const char *operation)
{
    int32_t requests = exchange->requests;
    exchange->requests = 0;
    return pr_mpi_wait_all(
        exchange->request, exchange->peer, requests, operation, exchange->params.timeout_ms);
}

// Lists this rank's share of the tokens: one entry per slot, one row per token and receiver.
static void list_share(pr_expert_exchange *exchange, const pr_dispatch_args *args)
{
    const pr_group *group = exchange->group;
    int32_t begin = (int32_t)pr_share_begin(args->tokens, group->tp_rank, group->tp);
    int32_t end = (int32_t)pr_share_begin(args->tokens, group->tp_rank + 1, group->tp);
    for (int32_t rank = 0; rank < group->ranks; rank++) {
        entry_list *list = list_at(exchange->out_lists, exchange->list_bytes, rank);
        list->rows = list->entries = 0;
        exchange->last_token[rank] = -1;
    }
    for (int32_t t = begin; t < end; t++) {
        for (int32_t k = 0; k < args->chosen; k++) {
            int32_t expert = args->expert[(int64_t)t * args->chosen + k];
            assert(expert >= 0 && expert < exchange->params.experts);
            int32_t rank = exchange->home[expert];
            entry_list *list = list_at(exchange->out_lists, exchange->list_bytes, rank);
            list->rows += exchange->last_token[rank] != t;
            exchange->last_token[rank] = t;
            list->entry[list->entries++] =
                (entry){list->rows - 1, expert - first_expert(exchange, rank)};
        }
    }
}

// Copies the listed rows to origin_rows, those for rank 0 first.
static void pack_share(pr_expert_exchange *exchange, const pr_dispatch_args *args)
{
    const pr_group *group = exchange->group;
    int32_t begin = (int32_t)pr_share_begin(args->tokens, group->tp_rank, group->tp);
    int32_t end = (int32_t)pr_share_begin(args->tokens, group->tp_rank + 1, group->tp);
    int64_t hidden = args->hidden;
    for (int32_t rank = 0, first = 0; rank < group->ranks; rank++) {
        exchange->out_first[rank] = exchange->next_row[rank] = first;
        first += list_at(exchange->out_lists, exchange->list_bytes, rank)->rows;
        exchange->last_token[rank] = -1;
    }
    for (int32_t t = begin; t < end; t++) {
        for (int32_t k = 0; k < args->chosen; k++) {
            int32_t rank = exchange->home[args->expert[(int64_t)t * args->chosen + k]];
            if (exchange->last_token[rank] == t)
                continue;
            exchange->last_token[rank] = t;
            memcpy(
                exchange->origin_rows + exchange->next_row[rank]++ * hidden, args->x + t * hidden,
                (size_t)hidden * sizeof(float));
        }
    }
}

static size_t list_size(const entry_list *list)
{
    return sizeof *list + (size_t)list->entries * sizeof(entry);
}

// Posts the receives of the lists, then sends lists and rows to every rank with experts.
static pr_status send_out(pr_expert_exchange *exchange, const pr_dispatch_args *args)
{
    const pr_group *group = exchange->group;
    for (int32_t rank = 0; exchange->local_experts > 0 && rank < group->ranks; rank++) {
        if (rank != group->rank)
            PR_TRY(start(
                exchange, false, list_at(exchange->in_lists, exchange->list_bytes, rank),
                (int64_t)exchange->list_bytes, MPI_BYTE, rank, PR_TAG_EXPERT_ENTRIES));
    }
    exchange->list_requests = exchange->requests;
    list_share(exchange, args);
    pack_share(exchange, args);
    for (int32_t rank = 0; rank < group->ranks; rank++) {
        if (rank == group->rank || !holds_experts(exchange, rank))
            continue;
        entry_list *list = list_at(exchange->out_lists, exchange->list_bytes, rank);
        float *rows = exchange->origin_rows + (int64_t)exchange->out_first[rank] * args->hidden;
        int64_t size_bytes = (int64_t)list_size(list);
        PR_TRY(start(exchange, true, list, size_bytes, MPI_BYTE, rank, PR_TAG_EXPERT_ENTRIES));
        exchange->counts->dispatch_bytes += size_bytes;
        if (list->rows == 0)
            continue;
        PR_TRY(
            start(exchange, true, rows, list->rows, exchange->row_type, rank, PR_TAG_EXPERT_ROWS));
        exchange->counts->dispatch_bytes +=
            (int64_t)list->rows * args->hidden * (int64_t)sizeof(float);
    }
    return PR_OK;
}

// A list comes from another process: everything used as an index is checked.
static pr_status check_list(const pr_expert_exchange *exchange, int32_t rank)
{
    const entry_list *list = list_at(exchange->in_lists, exchange->list_bytes, rank);
    size_t most = (exchange->list_bytes - sizeof *list) / sizeof(entry);
    bool good = list->entries >= 0 && (size_t)list->entries <= most && list->rows >= 0 &&
                list->rows <= list->entries;
    for (int32_t i = 0; good && i < list->entries; i++)
        good = list->entry[i].row >= 0 && list->entry[i].row < list->rows &&
               list->entry[i].expert >= 0 && list->entry[i].expert < exchange->local_experts;
    if (!good)
        return pr_fail(
            PR_ERR_PEER, "rank %d sent a malformed list in expert dispatch",
            exchange->group->first_rank + rank);
    return PR_OK;
}

// Waits for the lists, then receives the rows they announce; this rank's own are copied.
static pr_status receive_rows(pr_expert_exchange *exchange, const pr_dispatch_args *args)
{
    const pr_group *group = exchange->group;
    int32_t arrived = 0;
    // The lists only: the rows on their way out need receives that the others post after this wait.
    PR_TRY(pr_mpi_wait_all(
        exchange->request, exchange->peer, exchange->list_requests, "expert dispatch",
        exchange->params.timeout_ms));
    for (int32_t rank = 0; exchange->local_experts > 0 && rank < group->ranks; rank++) {
        entry_list *list = list_at(exchange->in_lists, exchange->list_bytes, rank);
        bool own = rank == group->rank;
        if (own) {
            const entry_list *mine = list_at(exchange->out_lists, exchange->list_bytes, rank);
            memcpy(list, mine, list_size(mine));
        }
        PR_TRY(check_list(exchange, rank));
        exchange->in_first[rank] = arrived;
        float *rows = exchange->home_rows + (int64_t)arrived * args->hidden;
        arrived += list->rows;
        if (own)
            memcpy(
                rows, exchange->origin_rows + (int64_t)exchange->out_first[rank] * args->hidden,
                (size_t)list->rows * (size_t)args->hidden * sizeof(float));
        else if (list->rows > 0)
            PR_TRY(start(
                exchange, false, rows, list->rows, exchange->row_type, rank, PR_TAG_EXPERT_ROWS));
    }
    return wait_all(exchange, "expert dispatch");
}

// Counting sort by local expert, stable in order of arrival. Returns the number of entries.
static int32_t sort_rows(pr_expert_exchange *exchange, int32_t hidden)
{
    const pr_group *group = exchange->group;
    int32_t n = 0;
    if (exchange->local_experts == 0)
        return 0;
    memset(exchange->count, 0, (size_t)exchange->local_experts * sizeof(int32_t));
    for (int32_t rank = 0; rank < group->ranks; rank++) {
        const entry_list *list = list_at(exchange->in_lists, exchange->list_bytes, rank);
        if (rank % group->tp == 0)
            exchange->lane_first[rank / group->tp] = n;
        for (int32_t i = 0; i < list->entries; i++)
            exchange->count[list->entry[i].expert]++;
        n += list->entries;
    }
    exchange->lane_first[group->ranks / group->tp] = n;
    for (int32_t e = 0, first = 0; e < exchange->local_experts; e++) {
        exchange->next[e] = first;
        first += exchange->count[e];
    }
    for (int32_t rank = 0, i = 0; rank < group->ranks; rank++) {
        const entry_list *list = list_at(exchange->in_lists, exchange->list_bytes, rank);
        const float *rows = exchange->home_rows + (int64_t)exchange->in_first[rank] * hidden;
        for (int32_t j = 0; j < list->entries; j++, i++) {
            int32_t place = exchange->next[list->entry[j].expert]++;
            exchange->sorted[i] = place;
            memcpy(
                exchange->rows + (int64_t)place * hidden,
                rows + (int64_t)list->entry[j].row * hidden, (size_t)hidden * sizeof(float));
        }
    }
    return n;
}

pr_status pr_expert_exchange_dispatch(pr_expert_exchange *exchange, pr_dispatch_args *args)
{
    assert(!exchange->group->broken);
    assert(args->tokens >= 0 && args->tokens <= exchange->params.max_tokens);
    assert(args->chosen == exchange->params.chosen && args->hidden == exchange->params.hidden);
    pr_status status = send_out(exchange, args);
    if (status == PR_OK)
        status = receive_rows(exchange, args);
    exchange->group->broken = status != PR_OK;
    if (status != PR_OK)
        return status;
    exchange->tokens = args->tokens;
    memcpy(
        exchange->chosen, args->expert,
        (size_t)args->tokens * (size_t)args->chosen * sizeof(int32_t));
    args->received = sort_rows(exchange, args->hidden);
    args->rows = exchange->rows;
    args->count = exchange->count;
    args->results = NULL;
    return PR_OK;
}

// How many results each rank owes this lane: every entry of the lane's tokens, whoever sent it.
static void count_returns(pr_expert_exchange *exchange)
{
    int32_t ranks = exchange->group->ranks;
    int64_t slots = (int64_t)exchange->tokens * exchange->params.chosen;
    memset(exchange->returns, 0, (size_t)ranks * sizeof(int32_t));
    for (int64_t i = 0; i < slots; i++)
        exchange->returns[exchange->home[exchange->chosen[i]]]++;
    exchange->return_place[0] = 0;
    for (int32_t rank = 0; rank < ranks; rank++)
        exchange->return_place[rank + 1] = exchange->return_place[rank] + exchange->returns[rank];
}

// Puts the results of each lane's entries back in order of arrival and sends them to its ranks.
static pr_status send_results(pr_expert_exchange *exchange, const float *results)
{
    const pr_group *group = exchange->group;
    int32_t lanes = group->ranks / group->tp;
    int64_t hidden = exchange->params.hidden;
    for (int32_t step = 1; exchange->local_experts > 0 && step <= lanes; step++) {
        int32_t lane = (group->lane + step) % lanes;  // own lane last, so that not all begin at 0
        int32_t begin = exchange->lane_first[lane], end = exchange->lane_first[lane + 1];
        float *packed = exchange->home_rows + begin * hidden;
        for (int32_t i = begin; i < end; i++)
            memcpy(
                exchange->home_rows + i * hidden, results + exchange->sorted[i] * hidden,
                (size_t)hidden * sizeof(float));
        for (int32_t tp_rank = 0; end > begin && tp_rank < group->tp; tp_rank++) {
            int32_t rank = lane * group->tp + tp_rank;
            if (rank == group->rank) {
                memcpy(
                    exchange->origin_rows + exchange->return_place[rank] * hidden, packed,
                    (size_t)((end - begin) * hidden) * sizeof(float));
                continue;
            }
            PR_TRY(start(
                exchange, true, packed, end - begin, exchange->row_type, rank,
                PR_TAG_EXPERT_RESULTS));
            exchange->counts->combine_bytes +=
                (int64_t)(end - begin) * hidden * (int64_t)sizeof(float);
        }
    }
    return PR_OK;
}

// A rank's results are in order of token and slot: one walk over the slots finds all of them.
static void find_results(pr_expert_exchange *exchange, const float **slot)
{
    int64_t count = (int64_t)exchange->tokens * exchange->params.chosen;
    int64_t hidden = exchange->params.hidden;
    for (int64_t i = 0; i < count; i++) {
        int32_t place = exchange->return_place[exchange->home[exchange->chosen[i]]]++;
        slot[i] = exchange->origin_rows + place * hidden;
    }
}

pr_status pr_expert_exchange_combine(pr_expert_exchange *exchange, const pr_return_args *args)
{
    const pr_group *group = exchange->group;
    pr_status status = PR_OK;
    assert(!group->broken);
    count_returns(exchange);
    for (int32_t rank = 0; status == PR_OK && rank < group->ranks; rank++) {
        if (rank != group->rank && exchange->returns[rank] > 0)
            status = start(
                exchange, false,
                exchange->origin_rows +
                    (int64_t)exchange->return_place[rank] * exchange->params.hidden,
                exchange->returns[rank], exchange->row_type, rank, PR_TAG_EXPERT_RESULTS);
    }
    if (status == PR_OK)
        status = send_results(exchange, args->rows);
    if (status == PR_OK)
        status = wait_all(exchange, "expert combine");
    exchange->group->broken = status != PR_OK;
    if (status == PR_OK)
        find_results(exchange, args->slot);
    return status;
}

#endif
