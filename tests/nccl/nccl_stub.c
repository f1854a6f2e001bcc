// SPDX-License-Identifier: BSD-3-Clause
// What comm/nccl_library.h looks for, for tests without GPUs: libnccl.so.2 whose messages go by MPI between the ranks of the
// world, in memory of an emulated GPU. The test names that GPU's back end first. A version other than the usual comes
// from NCCL_STUB_VERSION_OF_RANK_1.
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu/gpu_backend.h"

enum { MOST_OPERATIONS = 64, TAG = 77, VERSION = 22809, FLOAT32 = 7 };
enum { OK = 0, UNHANDLED = 1, INVALID_ARGUMENT = 4, INVALID_USAGE = 5 };

typedef struct operation {
    void *to;
    const void *from;
    size_t size_bytes;
    int peer;
    pr_gpu_stream *stream;
    void *staging;
    MPI_Request request;
} operation;

struct comm {
    int ranks, rank;
};

typedef struct unique_id {
    char internal[128];
} unique_id;

static const pr_gpu_backend *gpu;
static operation queued[MOST_OPERATIONS];
static int operations, depth;

void nccl_stub_use(const pr_gpu_backend *backend);
void nccl_stub_use(const pr_gpu_backend *backend) { gpu = backend; }

int ncclGetVersion(int *version);
int ncclGetVersion(int *version)
{
    int rank;
    const char *other = getenv("NCCL_STUB_VERSION_OF_RANK_1");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    *version = other && rank == 1 ? atoi(other) : VERSION;
    return OK;
}

int ncclGetUniqueId(unique_id *id);
int ncclGetUniqueId(unique_id *id)
{
    memset(id, 0x5a, sizeof *id);
    return OK;
}

int ncclCommInitRank(struct comm **comm, int ranks, unique_id id, int rank);
int ncclCommInitRank(struct comm **comm, int ranks, unique_id id, int rank)
{
    if (id.internal[0] != 0x5a || id.internal[127] != 0x5a || rank < 0 || rank >= ranks)
        return INVALID_ARGUMENT;
    *comm = malloc(sizeof **comm);
    if (!*comm)
        return UNHANDLED;
    **comm = (struct comm){.ranks = ranks, .rank = rank};
    return OK;
}

int ncclCommDestroy(struct comm *comm);
int ncclCommDestroy(struct comm *comm)
{
    free(comm);
    return OK;
}

static int put(const struct comm *comm, const operation *wanted, int type)
{
    if (depth == 0 || operations == MOST_OPERATIONS)
        return INVALID_USAGE;
    if (!gpu || type != FLOAT32 || wanted->peer < 0 || wanted->peer >= comm->ranks)
        return INVALID_ARGUMENT;
    queued[operations++] = *wanted;
    return OK;
}

int ncclSend(const void *from, size_t count, int type, int peer, struct comm *comm, void *stream);
int ncclSend(const void *from, size_t count, int type, int peer, struct comm *comm, void *stream)
{
    return put(
        comm,
        &(operation){
            .from = from, .size_bytes = count * sizeof(float), .peer = peer, .stream = stream},
        type);
}

int ncclRecv(void *to, size_t count, int type, int peer, struct comm *comm, void *stream);
int ncclRecv(void *to, size_t count, int type, int peer, struct comm *comm, void *stream)
{
    return put(
        comm,
        &(operation){.to = to, .size_bytes = count * sizeof(float), .peer = peer, .stream = stream},
        type);
}

int ncclGroupStart(void);
int ncclGroupStart(void)
{
    depth++;
    return OK;
}

static int begin(operation *one)
{
    one->staging = malloc(one->size_bytes ? one->size_bytes : 1);
    if (!one->staging)
        return UNHANDLED;
    int count = (int)one->size_bytes;
    if (one->from) {
        if (!gpu->copy(one->staging, one->from, one->size_bytes, one->stream) ||
            !gpu->wait(one->stream))
            return UNHANDLED;
        MPI_Isend(one->staging, count, MPI_BYTE, one->peer, TAG, MPI_COMM_WORLD, &one->request);
    } else {
        MPI_Irecv(one->staging, count, MPI_BYTE, one->peer, TAG, MPI_COMM_WORLD, &one->request);
    }
    return OK;
}

static int end(operation *one)
{
    MPI_Wait(&one->request, MPI_STATUS_IGNORE);
    bool good = one->from || (gpu->copy(one->to, one->staging, one->size_bytes, one->stream) &&
                              gpu->wait(one->stream));
    free(one->staging);
    return good ? OK : UNHANDLED;
}

int ncclGroupEnd(void);
int ncclGroupEnd(void)
{
    int code = OK;
    if (depth != 1)
        return INVALID_USAGE;
    for (int i = 0; code == OK && i < operations; i++)
        code = begin(&queued[i]);
    for (int i = 0; code == OK && i < operations; i++)
        code = end(&queued[i]);
    operations = depth = 0;
    return code;
}

const char *ncclGetErrorString(int code);
const char *ncclGetErrorString(int code)
{
    return code == OK ? "no error" : code == INVALID_ARGUMENT ? "invalid argument" : "refused";
}
