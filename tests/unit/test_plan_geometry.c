// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launcher/plan/plan_geometry.h"
#include "runtime/base/log.h"

static const pr_options options = {.bind = "auto", .rank_order = "auto"};

static bool is_inside(pr_box inner, pr_box outer)
{
    return inner.x >= outer.x && inner.y >= outer.y &&
           inner.x + inner.width <= outer.x + outer.width &&
           inner.y + inner.height <= outer.y + outer.height;
}

static bool overlap(pr_box a, pr_box b)
{
    return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height &&
           b.y < a.y + a.height;
}

// Nodes of 8 cores in so many NUMA domains; without hwloc nothing is known of them.
static pr_topology make_topology(int32_t domains)
{
    pr_topology topology = {.numa_nodes = domains, .cores = 8, .threads = 8};
    for (int32_t cpu = 0; cpu < PR_MAX_CPUS; cpu++) {
        topology.map.core[cpu] = (int16_t)(cpu < 8 ? cpu : -1);
        topology.map.numa[cpu] = (int16_t)(cpu < 8 ? cpu / (8 / domains) : -1);
        if (cpu < 8)
            pr_cpu_set_add(&topology.usable, cpu);
    }
    return topology;
}

static pr_layout make_layout(int32_t groups, int32_t ranks, int32_t tp, bool controller)
{
    pr_layout layout = {.ranks = controller, .dedicated_controller = controller};
    for (; layout.groups < groups; layout.groups++) {
        layout.group[layout.groups] = (pr_group_layout){
            .role = layout.groups % 2 ? PR_ROLE_DECODE : PR_ROLE_PREFILL,
            .first_rank = layout.ranks,
            .ranks = ranks,
            .tp = tp,
        };
        layout.ranks += ranks;
    }
    return layout;
}

static void check_boxes(const pr_plan_placement *placement, const pr_plan_geometry *g)
{
    pr_box whole = {.width = g->width, .height = g->height};
    int32_t per_switch = placement->nodes.nodes_per_switch;
    for (int32_t i = 0; i < g->nodes; i++) {
        assert_true(is_inside(g->node[i], whole));
        assert_true(!g->frames || is_inside(g->node[i], g->frame[i / per_switch]));
        for (int32_t k = 0; k < i; k++)
            assert_false(overlap(g->node[i], g->node[k]));
        for (int32_t domain = 0; domain < g->domains; domain++)
            assert_true(is_inside(pr_plan_geometry_domain(g, i, domain), g->node[i]));
    }
    for (int32_t i = 0; i < placement->layout->ranks; i++) {
        const pr_plan_seat *seat = &placement->seat[i];
        if (seat->node >= g->nodes) {
            assert_int_equal(g->cell[i].width, 0);
            continue;
        }
        assert_true(is_inside(g->cell[i], g->node[seat->node]));
        assert_true(
            g->domains == 0 || seat->numa < 0 ||
            is_inside(g->cell[i], pr_plan_geometry_domain(g, seat->node, seat->numa)));
        for (int32_t k = 0; k < i; k++)
            assert_true(g->cell[k].width == 0 || !overlap(g->cell[i], g->cell[k]));
    }
}

static void check(const pr_layout *layout, const pr_plan_nodes *nodes, int32_t domains)
{
    pr_plan_placement placement;
    pr_plan_geometry geometry;
    assert_int_equal(pr_plan_placement_make(layout, nodes, &options, &placement), PR_OK);
    assert_int_equal(pr_plan_geometry_make(&placement, &geometry), PR_OK);
    assert_int_equal(geometry.domains, domains);
    check_boxes(&placement, &geometry);
    pr_plan_geometry_release(&geometry);
    pr_plan_placement_release(&placement);
}

static void boxes_lie_within_each_other_and_apart_from_their_like(void **state)
{
    (void)state;
    pr_topology two = make_topology(2), four = make_topology(4);
    for (int32_t groups = 1; groups <= 12; groups += 3) {
        for (int32_t ranks = 1; ranks <= 8; ranks *= 2) {
            pr_layout layout = make_layout(groups, ranks, 1, false);
            for (int32_t nodes = 1; nodes <= layout.ranks && nodes <= 9; nodes += 2) {
                check(&layout, &(pr_plan_nodes){.nodes = nodes}, 0);
                check(&layout, &(pr_plan_nodes){.nodes = nodes, .nodes_per_switch = 2}, 0);
            }
        }
    }
    pr_layout pairs = make_layout(4, 4, 2, false);
    check(&pairs, &(pr_plan_nodes){.nodes = 4, .topology = &two}, 2);
    check(&pairs, &(pr_plan_nodes){.nodes = 4, .nodes_per_switch = 3, .topology = &two}, 2);
    check(&pairs, &(pr_plan_nodes){.nodes = 4, .topology = &four}, 4);
}

static void a_controller_is_drawn_although_it_has_no_cores(void **state)
{
    (void)state;
    pr_topology two = make_topology(2);
    pr_layout layout = make_layout(2, 4, 2, true);
    check(&layout, &(pr_plan_nodes){.nodes = 3, .topology = &two}, 2);
}

static void numa_domains_are_drawn_only_if_each_rank_has_one(void **state)
{
    (void)state;
    pr_topology two = make_topology(2);
    pr_layout layout = make_layout(1, 1, 1, false);  // one rank on all cores
    check(&layout, &(pr_plan_nodes){.nodes = 1, .topology = &two}, 0);
}

static void nodes_beyond_the_most_are_left_out(void **state)
{
    (void)state;
    pr_layout layout = make_layout(300, 2, 2, false);
    check(&layout, &(pr_plan_nodes){.nodes = 300, .nodes_per_switch = 7}, 0);
}

static void each_node_needs_a_rank(void **state)
{
    (void)state;
    pr_layout layout = make_layout(1, 2, 1, false);
    pr_plan_placement placement;
    pr_error_capture_begin();
    assert_int_equal(
        pr_plan_placement_make(&layout, &(pr_plan_nodes){.nodes = 3}, &options, &placement),
        PR_ERR_ARGUMENT);
    pr_error_capture_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes_lie_within_each_other_and_apart_from_their_like),
        cmocka_unit_test(a_controller_is_drawn_although_it_has_no_cores),
        cmocka_unit_test(numa_domains_are_drawn_only_if_each_rank_has_one),
        cmocka_unit_test(nodes_beyond_the_most_are_left_out),
        cmocka_unit_test(each_node_needs_a_rank),
    };
    return cmocka_run_group_tests_name("plan_geometry", tests, NULL, NULL);
}
