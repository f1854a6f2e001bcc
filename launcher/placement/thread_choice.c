// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/placement/thread_choice.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

// Core numbers as a set of their own: two masks may meet in a core without sharing a hardware thread.
static int32_t find_cores(const pr_core_map *map, const pr_cpu_set *usable, pr_cpu_set *cores)
{
    int32_t count = 0;
    *cores = (pr_cpu_set){0};
    for (int32_t cpu = 0; cpu < PR_MAX_CPUS; cpu++) {
        if (map->core[cpu] < 0 || !pr_cpu_set_has(usable, cpu))
            continue;
        count += !pr_cpu_set_has(cores, map->core[cpu]);
        pr_cpu_set_add(cores, map->core[cpu]);
    }
    return count;
}

static bool meet(const pr_cpu_set *a, const pr_cpu_set *b)
{
    for (int32_t i = 0; i < PR_MAX_CPUS / 64; i++) {
        if (a->word[i] & b->word[i])
            return true;
    }
    return false;
}

// Who else may run on this rank's cores.
typedef struct company {
    int32_t sharers;  // with this rank
    int32_t before;   // of them, ranks with lower numbers
    bool alike;       // all may use the same cores
    pr_cpu_set all;   // cores that any of them may use
} company;

static void find_company(
    const pr_core_map *map,
    const pr_cpu_set *usable,
    int32_t ranks,
    int32_t rank,
    const pr_cpu_set *mine,
    company *of)
{
    *of = (company){.alike = true, .all = *mine};
    for (int32_t i = 0; i < ranks; i++) {
        pr_cpu_set cores;
        find_cores(map, &usable[i], &cores);
        if (i != rank && !meet(&cores, mine))
            continue;
        of->sharers++;
        of->before += i < rank;
        of->alike &= memcmp(&cores, mine, sizeof cores) == 0;
        for (int32_t w = 0; w < PR_MAX_CPUS / 64; w++)
            of->all.word[w] |= cores.word[w];
    }
}

int32_t pr_thread_share(int32_t cores, int32_t ranks)
{
    int32_t share = cores / ranks;
    return share < 1 ? 1 : share > PR_MAX_THREADS ? PR_MAX_THREADS : share;
}

static int32_t count_cores(const pr_cpu_set *cores)
{
    int32_t count = 0;
    for (int32_t i = 0; i < PR_MAX_CPUS / 64; i++)
        count += __builtin_popcountll(cores->word[i]);
    return count;
}

// One hardware thread of each usable core, by NUMA node, then by core.
static int32_t list_cores(const pr_core_map *map, const pr_cpu_set *usable, int32_t *cpu)
{
    pr_cpu_set listed = {0};
    int32_t count = 0;
    for (;;) {
        int32_t next = -1;
        for (int32_t i = 0; i < PR_MAX_CPUS; i++) {
            if (map->core[i] < 0 || !pr_cpu_set_has(usable, i) ||
                pr_cpu_set_has(&listed, map->core[i]))
                continue;
            if (next < 0 || map->numa[i] < map->numa[next] ||
                (map->numa[i] == map->numa[next] && map->core[i] < map->core[next]))
                next = i;
        }
        if (next < 0)
            return count;
        pr_cpu_set_add(&listed, map->core[next]);
        cpu[count++] = next;
    }
}

static const char *
why_unbound(const pr_thread_choice *choice, const company *with, const pr_thread_wish *wish)
{
    bool asked = strcmp(wish->bind, "on") == 0;
    if (strcmp(wish->bind, "off") == 0)
        return "--bind off";
    if (choice->shares_cores)
        return "more threads than cores";
    if (!with->alike)
        return "the ranks' masks overlap";
    if (choice->threads == 1 && !asked)
        return "one thread needs no place";
    if (!wish->granted && !asked)
        return "no launcher or mask grants the cores (--bind on does)";
    return NULL;
}

void pr_thread_choose(
    const pr_core_map *map,
    const pr_cpu_set *usable,
    int32_t ranks,
    int32_t rank,
    const pr_thread_wish *wish,
    pr_thread_choice *choice)
{
    assert(rank >= 0 && rank < ranks);
    pr_cpu_set mine;
    company with;
    int32_t cores = find_cores(map, &usable[rank], &mine);
    find_company(map, usable, ranks, rank, &mine, &with);
    *choice = (pr_thread_choice){.cores = cores, .sharers = with.sharers};
    choice->threads = wish->threads > 0 ? wish->threads : pr_thread_share(cores, with.sharers);
    choice->shares_cores = (int64_t)choice->threads * with.sharers > count_cores(&with.all);
    choice->unbound_why = why_unbound(choice, &with, wish);
    choice->bound = choice->unbound_why == NULL;
    int32_t cpu[PR_MAX_CPUS], first = 0;
    if (choice->bound) {
        list_cores(map, &usable[rank], cpu);
        first = cores / with.sharers * with.before;
    }
    for (int32_t i = 0; i < PR_MAX_THREADS; i++)
        choice->cpu[i] = choice->bound && i < choice->threads ? cpu[first + i] : -1;
}

int32_t
pr_thread_numa(const pr_core_map *map, const pr_cpu_set *usable, const pr_thread_choice *choice)
{
    pr_cpu_set set = *usable;
    int32_t numa = -1;
    if (choice->bound)
        set = (pr_cpu_set){0};
    for (int32_t i = 0; choice->bound && i < choice->threads; i++)
        pr_cpu_set_add(&set, choice->cpu[i]);
    for (int32_t cpu = 0; cpu < PR_MAX_CPUS; cpu++) {
        if (map->core[cpu] < 0 || !pr_cpu_set_has(&set, cpu) || map->numa[cpu] == numa)
            continue;
        if (numa >= 0)
            return -1;
        numa = map->numa[cpu];
    }
    return numa;
}

void pr_thread_cpus_text(const pr_thread_choice *choice, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int32_t i = 0, end; i < choice->threads && used < size; i = end) {
        for (end = i + 1; end < choice->threads && choice->cpu[end] == choice->cpu[end - 1] + 1;)
            end++;
        used += (size_t)snprintf(text + used, size - used, "%s%d", i ? "," : "", choice->cpu[i]);
        if (end - i > 1 && used < size)
            used += (size_t)snprintf(text + used, size - used, "-%d", choice->cpu[end - 1]);
    }
}

void pr_thread_describe(const pr_thread_choice *choice, char text[PR_THREAD_TEXT_BYTES])
{
    char place[PR_THREAD_TEXT_BYTES / 2], others[48] = "";
    int length =
        snprintf(place, sizeof place, "%s", choice->bound ? "bound to CPUs " : "not bound: ");
    if (choice->bound)
        pr_thread_cpus_text(choice, place + length, sizeof place - (size_t)length);
    else
        snprintf(place + length, sizeof place - (size_t)length, "%s", choice->unbound_why);
    if (choice->sharers > 1)
        snprintf(others, sizeof others, " that %d ranks may use", (int)choice->sharers);
    snprintf(
        text, PR_THREAD_TEXT_BYTES, "%d thread%s on %d core%s%s, %s", (int)choice->threads,
        choice->threads > 1 ? "s" : "", (int)choice->cores, choice->cores > 1 ? "s" : "", others,
        place);
}

void pr_thread_propose(const pr_core_map *map, const pr_cpu_set *usable, pr_rank_proposal *proposal)
{
    int32_t cpu[PR_MAX_CPUS], node_cores[PR_MAX_CPUS] = {0};
    int32_t cores = list_cores(map, usable, cpu), least = cores;
    *proposal = (pr_rank_proposal){.cores = cores};
    for (int32_t i = 0; i < cores; i++)
        node_cores[map->numa[cpu[i]]]++;
    for (int32_t i = 0; i < PR_MAX_CPUS; i++) {
        if (node_cores[i] == 0)
            continue;
        proposal->numa_nodes++;
        least = node_cores[i] < least ? node_cores[i] : least;
    }
    proposal->ranks = proposal->numa_nodes < 1 ? 1 : proposal->numa_nodes;
    proposal->threads = pr_thread_share(least, 1);
}

void pr_thread_mpirun(const pr_rank_proposal *proposal, char text[PR_MPIRUN_TEXT_BYTES])
{
    snprintf(
        text, PR_MPIRUN_TEXT_BYTES, "mpirun -n %d --map-by ppr:1:numa:PE=%d --bind-to core",
        (int)proposal->ranks, (int)proposal->threads);
}
