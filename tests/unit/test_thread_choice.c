// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/placement/thread_choice.h"

static const pr_thread_wish ours = {.bind = "auto", .granted = true};

// So many cores in so many NUMA nodes; the second hardware thread of core c is c + cores, as Linux numbers.
static pr_core_map make_map(int32_t cores, int32_t nodes, int32_t hardware_threads)
{
    pr_core_map map;
    memset(&map, 0xff, sizeof map);
    for (int32_t cpu = 0; cpu < cores * hardware_threads; cpu++) {
        map.core[cpu] = (int16_t)(cpu % cores);
        map.numa[cpu] = (int16_t)(cpu % cores / (cores / nodes));
    }
    return map;
}

static pr_cpu_set from_to(int32_t begin, int32_t end)
{
    pr_cpu_set set = {0};
    for (int32_t cpu = begin; cpu < end; cpu++)
        pr_cpu_set_add(&set, cpu);
    return set;
}

static void assert_described(const pr_thread_choice *choice, const char *expected)
{
    char text[PR_THREAD_TEXT_BYTES];
    pr_thread_describe(choice, text);
    assert_string_equal(text, expected);
}

static void one_process_takes_all_cores_and_binds_only_what_is_granted(void **state)
{
    (void)state;
    pr_core_map map = make_map(2, 1, 1);
    pr_cpu_set all = from_to(0, 2);
    pr_thread_choice choice;
    pr_thread_choose(&map, &all, 1, 0, &ours, &choice);
    assert_described(&choice, "2 threads on 2 cores, bound to CPUs 0-1");
    assert_int_equal(choice.cpu[0], 0);
    assert_int_equal(choice.cpu[1], 1);
    assert_int_equal(choice.cpu[2], -1);
    pr_thread_wish wish = {.bind = "auto"};
    pr_thread_choose(&map, &all, 1, 0, &wish, &choice);
    assert_int_equal(choice.threads, 2);
    assert_false(choice.bound);
    assert_int_equal(choice.cpu[1], -1);
    wish.bind = "on";
    pr_thread_choose(&map, &all, 1, 0, &wish, &choice);
    assert_true(choice.bound);
    pr_thread_choose(&map, &all, 1, 0, &(pr_thread_wish){.bind = "off", .granted = true}, &choice);
    assert_described(&choice, "2 threads on 2 cores, not bound: --bind off");
}

static void many_ranks_on_two_cores_have_one_thread_each(void **state)
{
    (void)state;
    pr_core_map map = make_map(2, 1, 1);
    pr_cpu_set usable[8];
    for (int32_t i = 0; i < 8; i++)
        usable[i] = from_to(0, 2);
    for (int32_t ranks = 2; ranks <= 8; ranks++) {
        pr_thread_choice choice;
        pr_thread_choose(&map, usable, ranks, ranks - 1, &ours, &choice);
        assert_int_equal(choice.threads, 1);
        assert_int_equal(choice.sharers, ranks);
        assert_int_equal(choice.shares_cores, ranks > 2);
        assert_false(choice.bound);
    }
}

static void ranks_that_share_a_mask_take_its_parts_in_order(void **state)
{
    (void)state;
    pr_core_map map = make_map(8, 2, 1);
    pr_cpu_set usable[2] = {from_to(0, 8), from_to(0, 8)};
    pr_thread_choice choice;
    for (int32_t rank = 0; rank < 2; rank++) {
        pr_thread_choose(&map, usable, 2, rank, &ours, &choice);
        assert_int_equal(choice.threads, 4);
        assert_true(choice.bound);
        for (int32_t i = 0; i < 4; i++)
            assert_int_equal(choice.cpu[i], 4 * rank + i);
    }
    // Fewer threads than its part: the first cores of the part.
    pr_thread_wish two = {.threads = 2, .bind = "auto", .granted = true};
    pr_thread_choose(&map, usable, 2, 1, &two, &choice);
    assert_described(&choice, "2 threads on 8 cores that 2 ranks may use, bound to CPUs 4-5");
}

static void ranks_with_masks_of_their_own_do_not_divide(void **state)
{
    (void)state;
    pr_core_map map = make_map(8, 2, 1);
    pr_cpu_set usable[3] = {from_to(0, 3), from_to(4, 8), from_to(3, 4)};
    pr_thread_choice choice;
    pr_thread_choose(&map, usable, 3, 1, &ours, &choice);
    assert_described(&choice, "4 threads on 4 cores, bound to CPUs 4-7");
    pr_thread_choose(&map, usable, 3, 0, &ours, &choice);
    assert_int_equal(choice.threads, 3);
    pr_thread_choose(&map, usable, 3, 2, &ours, &choice);
    assert_described(&choice, "1 thread on 1 core, not bound: one thread needs no place");
}

static void masks_that_overlap_divide_and_bind_nothing(void **state)
{
    (void)state;
    pr_core_map map = make_map(8, 1, 1);
    pr_cpu_set usable[2] = {from_to(0, 8), from_to(4, 8)};
    pr_thread_choice choice;
    pr_thread_choose(&map, usable, 2, 0, &ours, &choice);
    assert_int_equal(choice.threads, 4);
    assert_int_equal(choice.sharers, 2);
    assert_string_equal(choice.unbound_why, "the ranks' masks overlap");
}

static void both_hardware_threads_of_a_core_count_once(void **state)
{
    (void)state;
    pr_core_map map = make_map(4, 1, 2);
    pr_cpu_set all = from_to(0, 8), late = from_to(2, 7);  // 2, 3, and the second ones of 0, 1, 2
    pr_thread_choice choice;
    pr_thread_choose(&map, &all, 1, 0, &ours, &choice);
    assert_described(&choice, "4 threads on 4 cores, bound to CPUs 0-3");
    pr_thread_choose(&map, &late, 1, 0, &ours, &choice);
    assert_described(&choice, "4 threads on 4 cores, bound to CPUs 4-5,2-3");
    // The two halves of the hardware threads are the same cores.
    pr_cpu_set halves[2] = {from_to(0, 4), from_to(4, 8)};
    pr_thread_choose(&map, halves, 2, 1, &ours, &choice);
    assert_int_equal(choice.threads, 2);
    assert_int_equal(choice.sharers, 2);
    assert_described(&choice, "2 threads on 4 cores that 2 ranks may use, bound to CPUs 6-7");
}

static void more_threads_than_cores_are_allowed_and_float(void **state)
{
    (void)state;
    pr_core_map map = make_map(2, 1, 1);
    pr_cpu_set usable[4] = {from_to(0, 2), from_to(0, 2), from_to(0, 2), from_to(0, 2)};
    pr_thread_wish wish = {.threads = 3, .bind = "on", .granted = true};
    pr_thread_choice choice;
    pr_thread_choose(&map, usable, 1, 0, &wish, &choice);
    assert_described(&choice, "3 threads on 2 cores, not bound: more threads than cores");
    assert_true(choice.shares_cores);
    wish.threads = 2;
    pr_thread_choose(&map, usable, 1, 0, &wish, &choice);
    assert_false(choice.shares_cores);
    pr_thread_choose(&map, usable, 4, 2, &wish, &choice);
    assert_int_equal(choice.threads, 2);
    assert_true(choice.shares_cores && !choice.bound);
}

static void a_mask_without_a_known_core_gives_one_thread(void **state)
{
    (void)state;
    pr_core_map map = make_map(2, 1, 1);
    pr_cpu_set elsewhere = from_to(100, 104);
    pr_thread_choice choice;
    pr_rank_proposal proposal;
    pr_thread_choose(&map, &elsewhere, 1, 0, &ours, &choice);
    assert_int_equal(choice.threads, 1);
    assert_false(choice.bound);
    pr_thread_propose(&map, &elsewhere, &proposal);
    assert_int_equal(proposal.ranks, 1);
    assert_int_equal(proposal.threads, 1);
}

static void a_rank_for_each_numa_node_is_proposed(void **state)
{
    (void)state;
    pr_core_map map = make_map(128, 8, 2);
    pr_cpu_set all = from_to(0, 256), some = from_to(8, 48);  // 8, 16 and 16 cores of three nodes
    pr_rank_proposal proposal;
    pr_thread_propose(&map, &all, &proposal);
    assert_int_equal(proposal.cores, 128);
    assert_int_equal(proposal.numa_nodes, 8);
    assert_int_equal(proposal.ranks, 8);
    assert_int_equal(proposal.threads, 16);
    pr_thread_propose(&map, &some, &proposal);
    assert_int_equal(proposal.ranks, 3);
    assert_int_equal(proposal.threads, 8);
    assert_int_equal(proposal.cores, 40);
}

static void a_rank_stays_in_one_numa_node_also_where_their_cores_alternate(void **state)
{
    (void)state;
    pr_core_map map = make_map(8, 1, 1);
    for (int32_t cpu = 0; cpu < 8; cpu++)
        map.numa[cpu] = (int16_t)(cpu % 2);
    pr_cpu_set usable[2] = {from_to(0, 8), from_to(0, 8)};
    pr_thread_choice choice;
    pr_thread_choose(&map, usable, 2, 1, &ours, &choice);
    assert_described(&choice, "4 threads on 8 cores that 2 ranks may use, bound to CPUs 1,3,5,7");
}

static void the_numa_node_of_a_rank_is_that_of_all_its_cores_or_none(void **state)
{
    (void)state;
    pr_core_map map = make_map(8, 2, 1);
    pr_cpu_set all = from_to(0, 8), second = from_to(4, 8), usable[2] = {all, all};
    pr_thread_choice choice;
    pr_thread_choose(&map, usable, 2, 1, &ours, &choice);  // bound to 4-7
    assert_int_equal(pr_thread_numa(&map, &all, &choice), 1);
    pr_thread_choose(&map, usable, 1, 0, &ours, &choice);  // bound to all
    assert_int_equal(pr_thread_numa(&map, &all, &choice), -1);
    const pr_thread_choice floats = {.threads = 1};
    assert_int_equal(pr_thread_numa(&map, &all, &floats), -1);
    assert_int_equal(pr_thread_numa(&map, &second, &floats), 1);
}

static void this_machine_is_read_as_the_system_says(void **state)
{
    (void)state;
    pr_topology topology;
    cpu_set_t mask;
    pr_topology_read(&topology);
    assert_int_equal(sched_getaffinity(0, sizeof mask, &mask), 0);
    assert_int_equal(topology.usable_threads, CPU_COUNT(&mask));
    for (int32_t cpu = 0; cpu < PR_MAX_CPUS; cpu++) {
        bool usable = CPU_ISSET(cpu, &mask);
        assert_int_equal(pr_cpu_set_has(&topology.usable, cpu), usable);
        assert_true(!usable || (topology.map.core[cpu] >= 0 && topology.map.numa[cpu] >= 0));
    }
}

#ifdef PR_HAVE_HWLOC
// hwloc makes the machine: 2 packages of 4 NUMA nodes of 16 cores with 2 hardware threads each.
static void a_large_node_is_read_from_hwloc_and_cut_by_numa_nodes(void **state)
{
    (void)state;
    pr_topology topology;
    pr_rank_proposal proposal;
    pr_thread_choice choice;
    setenv("HWLOC_SYNTHETIC", "pack:2 numa:4 core:16 pu:2", 1);
    pr_topology_read(&topology);
    unsetenv("HWLOC_SYNTHETIC");
    assert_int_equal(topology.cores, 128);
    assert_int_equal(topology.usable_threads, 256);
    assert_true(topology.whole);
    pr_thread_propose(&topology.map, &topology.usable, &proposal);
    assert_int_equal(proposal.ranks, 8);
    assert_int_equal(proposal.threads, 16);
    // As mpirun --bind-to none would start them.
    pr_cpu_set usable[8];
    for (int32_t i = 0; i < 8; i++)
        usable[i] = topology.usable;
    for (int32_t rank = 0; rank < 8; rank++) {
        pr_thread_choose(&topology.map, usable, 8, rank, &ours, &choice);
        assert_int_equal(choice.threads, 16);
        assert_true(choice.bound);
        for (int32_t i = 0; i < 16; i++) {
            assert_int_equal(topology.map.numa[choice.cpu[i]], rank);
            assert_int_equal(topology.map.core[choice.cpu[i]], 16 * rank + i);
        }
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_process_takes_all_cores_and_binds_only_what_is_granted),
        cmocka_unit_test(many_ranks_on_two_cores_have_one_thread_each),
        cmocka_unit_test(ranks_that_share_a_mask_take_its_parts_in_order),
        cmocka_unit_test(ranks_with_masks_of_their_own_do_not_divide),
        cmocka_unit_test(masks_that_overlap_divide_and_bind_nothing),
        cmocka_unit_test(both_hardware_threads_of_a_core_count_once),
        cmocka_unit_test(more_threads_than_cores_are_allowed_and_float),
        cmocka_unit_test(a_mask_without_a_known_core_gives_one_thread),
        cmocka_unit_test(a_rank_for_each_numa_node_is_proposed),
        cmocka_unit_test(a_rank_stays_in_one_numa_node_also_where_their_cores_alternate),
        cmocka_unit_test(the_numa_node_of_a_rank_is_that_of_all_its_cores_or_none),
        cmocka_unit_test(this_machine_is_read_as_the_system_says),
#ifdef PR_HAVE_HWLOC
        cmocka_unit_test(a_large_node_is_read_from_hwloc_and_cut_by_numa_nodes),
#endif
    };
    return cmocka_run_group_tests_name("thread_choice", tests, NULL, NULL);
}
