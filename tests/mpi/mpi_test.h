// SPDX-License-Identifier: BSD-3-Clause
// Helpers of the tests under mpirun. A check that fails on one rank is noted there; agree() makes
// all ranks see it, so that none hangs in an operation that another will not enter.
#ifndef PR_TESTS_MPI_TEST_H
#define PR_TESTS_MPI_TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm/group.h"
#include "comm/world.h"
#include "runtime/base/hash.h"
#include "runtime/base/log.h"

static pr_world *mpi_test_world;
static int64_t mpi_test_failures;

// Prints the first few failures of this rank, counts all.
#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition) && mpi_test_failures++ < 5) {                                             \
            printf("rank %d, line %d: ", pr_world_rank(mpi_test_world), __LINE__);                 \
            printf(__VA_ARGS__);                                                                   \
            printf(" (%s)\n", #condition);                                                         \
            fflush(stdout);                                                                        \
        }                                                                                          \
    } while (0)

// Own code must not fail here: the other ranks would wait for ever, so all are ended.
#define MUST(call)                                                                                 \
    do {                                                                                           \
        if ((call) != PR_OK) {                                                                     \
            printf("line %d: %s failed\n", __LINE__, #call);                                       \
            fflush(stdout);                                                                        \
            pr_world_abort(mpi_test_world, 1);                                                     \
        }                                                                                          \
    } while (0)

// Collective. Leaves with failure on every rank if any rank has noted one.
static void agree(const char *test)
{
    int64_t failures = mpi_test_failures;
    MUST(pr_world_max(mpi_test_world, &failures));
    if (pr_world_rank(mpi_test_world) == 0)
        printf("%s %s\n", failures ? "FAILED" : "ok    ", test);
    fflush(stdout);
    if (failures) {
        pr_world_close(mpi_test_world);
        exit(1);
    }
}

static inline void mpi_test_begin(void)
{
    alarm(100);  // whatever happens, no rank stays
    if (pr_world_open(&mpi_test_world) != PR_OK)
        exit(1);
    pr_log_set_rank(pr_world_rank(mpi_test_world));
}

static inline int mpi_test_end(void)
{
    pr_world_close(mpi_test_world);
    return 0;
}

// The whole world as one group.
static inline pr_layout *mpi_test_layout(int32_t tp)
{
    pr_layout *layout = calloc(1, sizeof *layout);
    if (!layout)
        abort();
    layout->ranks = pr_world_ranks(mpi_test_world);
    layout->groups = 1;
    layout->group[0] = (pr_group_layout){.ranks = layout->ranks, .tp = tp};
    return layout;
}

// A number that depends on its indices alone.
static inline uint64_t noise(uint64_t a, uint64_t b, uint64_t c)
{
    return pr_hash_mix(a * 0x9e3779b97f4a7c15u + b * 0xbf58476d1ce4e5b9u + c + 1);
}

// In [-1, 1), with many different exponents, so that the order of additions shows.
static inline float noise_float(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t bits = noise(a, b, c);
    float value = (float)(int32_t)(bits >> 32) * 0x1p-31f;
    return value / (float)(1u << (bits & 15));
}

#endif
