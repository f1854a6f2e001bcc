// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/plan/plan_geometry.h"

#include <stdlib.h>

#include "runtime/base/log.h"

enum { CELL_COLUMNS = 4, DOMAIN_COLUMNS = 4, WIDTH_WANTED = 1240, WIDTH_LEAST = 640 };

static int32_t at_least(int32_t value, int32_t least) { return value < least ? least : value; }

static int32_t at_most(int32_t value, int32_t most) { return value > most ? most : value; }

static int32_t divide_up(int32_t a, int32_t b) { return (a + b - 1) / b; }

// Width or height of so many equal things side by side.
static int32_t row_length(int32_t count, int32_t size, int32_t gap)
{
    return count * size + at_least(count - 1, 0) * gap;
}

// The box of the i-th of equal things in a grid.
static pr_box grid_box(int32_t i, int32_t columns, pr_box first, int32_t gap)
{
    return (pr_box){
        .x = first.x + i % columns * (first.width + gap),
        .y = first.y + i / columns * (first.height + gap),
        .width = first.width,
        .height = first.height,
    };
}

static bool knows_domains(const pr_plan_placement *placement)
{
    const pr_topology *topology = placement->nodes.topology;
    if (!topology || topology->numa_nodes < 2)
        return false;
    for (int32_t i = 0; i < placement->layout->ranks; i++) {
        bool idle = i == 0 && placement->layout->dedicated_controller;
        if (!idle && placement->seat[i].numa < 0)
            return false;
    }
    return true;
}

// In which box of its node a rank is drawn; a controller without cores in the first.
static int32_t box_of(const pr_plan_geometry *geometry, const pr_plan_seat *seat)
{
    return geometry->domains == 0 ? 0 : at_least(seat->numa, 0);
}

// Ranks so far of each box of each node; returns the most that one has.
static int32_t
count_cells(const pr_plan_placement *placement, const pr_plan_geometry *geometry, int32_t *count)
{
    int32_t boxes = at_least(geometry->domains, 1), most = 1;
    for (int32_t i = 0; i < placement->layout->ranks; i++) {
        const pr_plan_seat *seat = &placement->seat[i];
        int32_t cells = ++count[seat->node * boxes + box_of(geometry, seat)];
        most = at_least(most, cells);
    }
    return most;
}

static void size_node(pr_plan_geometry *geometry, int32_t most_cells, pr_box *node, pr_box *cell)
{
    int32_t columns = at_most(most_cells, CELL_COLUMNS);
    *cell = (pr_box){PR_BOX_PAD, PR_CELL_HEAD, PR_CELL_WIDTH, PR_CELL_HEIGHT};
    pr_box box = {
        .width = row_length(columns, PR_CELL_WIDTH, PR_CELL_GAP) + 2 * PR_BOX_PAD,
        .height = row_length(divide_up(most_cells, columns), PR_CELL_HEIGHT, PR_CELL_GAP) +
                  PR_CELL_HEAD + PR_BOX_PAD,
    };
    if (geometry->domains == 0) {
        *node = box;
        return;
    }
    int32_t across = at_most(geometry->domains, DOMAIN_COLUMNS);
    geometry->domain = (pr_box){PR_BOX_PAD, PR_BOX_HEAD, box.width, box.height};
    geometry->domain_columns = across;
    *node = (pr_box){
        .width = row_length(across, box.width, PR_BOX_GAP) + 2 * PR_BOX_PAD,
        .height = row_length(divide_up(geometry->domains, across), box.height, PR_BOX_GAP) +
                  PR_BOX_HEAD + PR_BOX_PAD,
    };
}

static void place_nodes(const pr_plan_placement *placement, pr_plan_geometry *geometry, pr_box node)
{
    int32_t per_switch =
        geometry->frames ? placement->nodes.nodes_per_switch : placement->nodes.nodes;
    int32_t in_frame = at_most(per_switch, geometry->nodes);
    int32_t fit = at_least((WIDTH_WANTED + PR_BOX_GAP) / (node.width + PR_BOX_GAP), 1);
    int32_t columns = at_most(in_frame, geometry->frames ? at_most(fit, 4) : fit);
    pr_box frame = {
        .x = PR_BOX_GAP,
        .y = PR_TITLE_HEIGHT,
        .width = row_length(columns, node.width, PR_BOX_GAP),
        .height = row_length(divide_up(in_frame, columns), node.height, PR_BOX_GAP),
    };
    if (geometry->frames) {
        frame.width += 2 * PR_BOX_PAD;
        frame.height += PR_BOX_HEAD + PR_BOX_PAD;
    }
    int32_t frames = divide_up(geometry->nodes, in_frame);
    int32_t across =
        at_most(frames, at_least((WIDTH_WANTED + PR_BOX_GAP) / (frame.width + PR_BOX_GAP), 1));
    for (int32_t i = 0; i < frames; i++)
        geometry->frame[i] = grid_box(i, across, frame, PR_BOX_GAP);
    for (int32_t i = 0; i < geometry->nodes; i++) {
        pr_box first = geometry->frame[i / in_frame];
        first.x += geometry->frames ? PR_BOX_PAD : 0;
        first.y += geometry->frames ? PR_BOX_HEAD : 0;
        first.width = node.width;
        first.height = node.height;
        geometry->node[i] = grid_box(i % in_frame, columns, first, PR_BOX_GAP);
    }
    geometry->width =
        at_least(row_length(across, frame.width, PR_BOX_GAP) + 2 * PR_BOX_GAP, WIDTH_LEAST);
    geometry->height = PR_TITLE_HEIGHT +
                       row_length(divide_up(frames, across), frame.height, PR_BOX_GAP) +
                       PR_LEGEND_HEIGHT;
}

pr_box pr_plan_geometry_domain(const pr_plan_geometry *geometry, int32_t node, int32_t domain)
{
    pr_box box = grid_box(domain, geometry->domain_columns, geometry->domain, PR_BOX_GAP);
    box.x += geometry->node[node].x;
    box.y += geometry->node[node].y;
    return box;
}

static void place_cells(
    const pr_plan_placement *placement,
    pr_plan_geometry *geometry,
    pr_box first,
    int32_t most_cells,
    int32_t *count)
{
    int32_t boxes = at_least(geometry->domains, 1), columns = at_most(most_cells, CELL_COLUMNS);
    for (int32_t i = 0; i < placement->layout->ranks; i++) {
        const pr_plan_seat *seat = &placement->seat[i];
        int32_t box = box_of(geometry, seat), number = count[seat->node * boxes + box]++;
        if (seat->node >= geometry->nodes)
            continue;
        pr_box around = geometry->domains ? pr_plan_geometry_domain(geometry, seat->node, box)
                                          : geometry->node[seat->node];
        pr_box own = first;
        own.x += around.x;
        own.y += around.y;
        geometry->cell[i] = grid_box(number, columns, own, PR_CELL_GAP);
    }
}

pr_status pr_plan_geometry_make(const pr_plan_placement *placement, pr_plan_geometry *geometry)
{
    pr_box node, cell;
    *geometry = (pr_plan_geometry){
        .nodes = at_most(placement->nodes.nodes, PR_DRAWN_NODES_MOST),
        .domains = knows_domains(placement) ? placement->nodes.topology->numa_nodes : 0,
        .frames = placement->switches > 1,
        .cell = calloc((size_t)placement->layout->ranks, sizeof *geometry->cell),
    };
    size_t boxes = (size_t)placement->nodes.nodes * (size_t)at_least(geometry->domains, 1);
    int32_t *count = calloc(2 * boxes, sizeof *count);
    if (!geometry->cell || !count) {
        free(count);
        pr_plan_geometry_release(geometry);
        return pr_fail(PR_ERR_RESOURCE, "no memory to draw the plan");
    }
    int32_t most_cells = count_cells(placement, geometry, count);
    size_node(geometry, most_cells, &node, &cell);
    place_nodes(placement, geometry, node);
    place_cells(placement, geometry, cell, most_cells, count + boxes);
    free(count);
    return PR_OK;
}

void pr_plan_geometry_release(pr_plan_geometry *geometry)
{
    free(geometry->cell);
    geometry->cell = NULL;
}
