// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/plan/plan_drawing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/plan/plan_geometry.h"
#include "runtime/base/log.h"

enum { NEAR_RANKS = 64, CHARACTER_WIDTH = 8, CELL_TEXT = 9 };

typedef struct drawing {
    FILE *out;
    const pr_plan_placement *placement;
    pr_plan_geometry geometry;
    bool has_joint, has_split, has_cpus, has_arrow[3];  // what the legend must explain
} drawing;

// Plain fills first: a renderer that knows no media queries draws the light scheme.
static const char style[] =
    "<style>\n"
    "text { font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; }\n"
    ".paper { fill: #ffffff; } .node { fill: #f4f6f9; stroke: #b9c2ce; }\n"
    ".numa { fill: #ffffff; stroke: #d5dce5; } .switch { fill: none; stroke: #8b97a7; "
    "stroke-dasharray: 6 5; }\n"
    ".title { fill: #16202c; font-size: 16px; font-weight: 600; } .text { fill: #44505f; "
    "font-size: 12px; }\n"
    ".head { fill: #5b6878; font-size: 12px; } .rank { fill: #ffffff; font-size: 14px; "
    "font-weight: 600; }\n"
    ".note { fill: #ffffff; font-size: 10px; } .middle { text-anchor: middle; }\n"
    ".prefill { fill: #2563c9; } .decode { fill: #b4530c; } .mixed { fill: #0b7a6f; } .controller "
    "{ fill: #5f6773; }\n"
    ".joint { fill: none; stroke-width: 22; stroke-linecap: round; opacity: 0.4; }\n"
    ".joint.prefill { stroke: #2563c9; } .joint.decode { stroke: #b4530c; } .joint.mixed { stroke: "
    "#0b7a6f; }\n"
    ".split { fill: none; stroke: #c81e3a; stroke-width: 2.5; stroke-dasharray: 3 4; }\n"
    ".arrow { fill: none; stroke: #6d28b8; stroke-width: 2; } .tip { fill: #6d28b8; }\n"
    ".arrow.far { stroke-dasharray: 7 4; } .arrow.farthest { stroke-dasharray: 2 4; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  .paper { fill: #0f141b; } .node { fill: #18202b; stroke: #3b4757; } .numa { fill: #212b38; "
    "stroke: #354152; }\n"
    "  .switch { stroke: #738196; } .title { fill: #eef2f7; } .text { fill: #b4bfcc; } .head { "
    "fill: #98a5b5; }\n"
    "  .joint { opacity: 0.75; } .split { stroke: #ff6b81; } .arrow { stroke: #c79bff; } .tip { "
    "fill: #c79bff; }\n"
    "}\n"
    "</style>\n";

// ---- parts ----

// Text as XML has it, and no longer than so many characters.
static void put_text(FILE *out, const char *text, int32_t most)
{
    size_t length = strlen(text);
    bool cut = most > 3 && length > (size_t)most;
    for (size_t i = 0; i < (cut ? (size_t)most - 3 : length); i++) {
        unsigned char c = (unsigned char)text[i];
        const char *name = c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : NULL;
        if (name)
            fputs(name, out);
        else if (c >= 0x20 && c < 0x7f)
            fputc(c, out);
        else
            fputc('?', out);
    }
    if (cut)
        fputs("...", out);
}

static void put_label(FILE *out, const char *kind, int32_t x, int32_t y, const char *text)
{
    fprintf(out, "<text class=\"%s\" x=\"%d\" y=\"%d\">", kind, (int)x, (int)y);
    put_text(out, text, 0);
    fputs("</text>\n", out);
}

static void put_box(FILE *out, const char *kind, pr_box box, int32_t radius)
{
    fprintf(
        out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"%d\"/>\n", kind,
        (int)box.x, (int)box.y, (int)box.width, (int)box.height, (int)radius);
}

static int32_t middle_x(pr_box box) { return box.x + box.width / 2; }

static int32_t middle_y(pr_box box) { return box.y + box.height / 2; }

static int64_t distance_between(pr_box a, pr_box b)
{
    int64_t dx = middle_x(a) - middle_x(b), dy = middle_y(a) - middle_y(b);
    return dx * dx + dy * dy;
}

// ---- the machine ----

static int32_t count_domain_cores(const pr_topology *topology, int32_t domain)
{
    pr_cpu_set cores = {0};
    int32_t count = 0;
    for (int32_t cpu = 0; cpu < PR_MAX_CPUS; cpu++) {
        int16_t core = topology->map.core[cpu];
        if (core < 0 || topology->map.numa[cpu] != domain || pr_cpu_set_has(&cores, core))
            continue;
        pr_cpu_set_add(&cores, core);
        count++;
    }
    return count;
}

static void put_machine(const drawing *d)
{
    const pr_plan_geometry *g = &d->geometry;
    char text[64];
    int32_t per_switch = d->placement->nodes.nodes_per_switch;
    for (int32_t i = 0; g->frames && i * per_switch < g->nodes; i++) {
        put_box(d->out, "switch", g->frame[i], 12);
        snprintf(text, sizeof text, "switch %d", (int)i);
        put_label(d->out, "head", g->frame[i].x + PR_BOX_PAD, g->frame[i].y + 18, text);
    }
    for (int32_t i = 0; i < g->nodes; i++) {
        put_box(d->out, "node", g->node[i], 10);
        snprintf(text, sizeof text, "node %d", (int)i);
        put_label(d->out, "head", g->node[i].x + PR_BOX_PAD, g->node[i].y + 18, text);
        for (int32_t domain = 0; domain < g->domains; domain++) {
            pr_box box = pr_plan_geometry_domain(g, i, domain);
            put_box(d->out, "numa", box, 7);
            snprintf(
                text, sizeof text, "NUMA %d, %d cores", (int)domain,
                (int)count_domain_cores(d->placement->nodes.topology, domain));
            put_label(d->out, "head", box.x + PR_BOX_PAD, box.y + 18, text);
        }
    }
}

// ---- ranks ----

static const char *kind_of(const pr_layout *layout, int32_t group)
{
    return group < 0 ? "controller" : pr_role_name(layout->group[group].role);
}

static void put_rank(drawing *d, int32_t rank)
{
    const pr_layout *layout = d->placement->layout;
    const pr_plan_seat *seat = &d->placement->seat[rank];
    int32_t number = pr_layout_group_of(layout, rank);
    const pr_group_layout *group = &layout->group[number < 0 ? 0 : number];
    int32_t lane = number < 0 ? 0 : (rank - group->first_rank) / group->tp;
    pr_box cell = d->geometry.cell[rank];
    char text[64], cpus[256] = "";
    if (seat->threads && seat->threads->bound)
        pr_thread_cpus_text(seat->threads, cpus, sizeof cpus);
    fprintf(d->out, "<g><title>rank %d, the launcher's %d: ", (int)rank, (int)seat->launched);
    if (number < 0)
        fputs("controller", d->out);
    else
        fprintf(
            d->out, "%s, group %d, lane %d, tp rank %d of %d", kind_of(layout, number), (int)number,
            (int)lane, (int)((rank - group->first_rank) % group->tp), (int)group->tp);
    fprintf(d->out, "%s%s</title>\n", cpus[0] ? ", CPUs " : "", cpus);
    put_box(d->out, kind_of(layout, number), cell, 8);
    bool wide = cpus[0] && strlen(cpus) <= CELL_TEXT;
    d->has_cpus |= wide;
    int32_t y = cell.y + (wide ? 16 : 20);
    snprintf(text, sizeof text, "%d", (int)rank);
    put_label(d->out, "rank middle", middle_x(cell), y, text);
    if (number < 0)
        snprintf(text, sizeof text, "control");
    else if (group->ranks == group->tp)
        snprintf(text, sizeof text, "g%d", (int)number);
    else
        snprintf(text, sizeof text, "g%d.%d", (int)number, (int)lane);
    put_label(d->out, "note middle", middle_x(cell), y + 13, text);
    if (wide)
        put_label(d->out, "note middle", middle_x(cell), y + 25, cpus);
    fputs("</g>\n", d->out);
}

// Each rank of a lane but the first is joined to the nearest before it.
static void put_lane(drawing *d, int32_t number, int32_t lane)
{
    const pr_layout *layout = d->placement->layout;
    const pr_box *cell = d->geometry.cell;
    int32_t first = pr_layout_rank(layout, number, lane, 0), tp = layout->group[number].tp;
    for (int32_t i = first + 1; i < first + tp; i++) {
        int32_t nearest = -1;
        for (int32_t k = first; k < i; k++) {
            if (cell[k].width > 0 && (nearest < 0 || distance_between(cell[k], cell[i]) <
                                                         distance_between(cell[nearest], cell[i])))
                nearest = k;
        }
        if (nearest < 0 || cell[i].width == 0)
            continue;
        bool split = d->placement->seat[i].node != d->placement->seat[nearest].node;
        d->has_split |= split;
        d->has_joint |= !split;
        fprintf(
            d->out, "<path class=\"%s%s\" d=\"M%d %dL%d %d\"/>\n", split ? "split" : "joint ",
            split ? "" : kind_of(layout, number), (int)middle_x(cell[nearest]),
            (int)middle_y(cell[nearest]), (int)middle_x(cell[i]), (int)middle_y(cell[i]));
    }
}

static void put_ranks(drawing *d)
{
    const pr_layout *layout = d->placement->layout;
    for (int32_t i = 0; i < layout->groups; i++) {
        for (int32_t lane = 0; lane < pr_layout_lanes(layout, i); lane++)
            put_lane(d, i, lane);
    }
    for (int32_t i = 0; i < layout->ranks; i++) {
        if (d->geometry.cell[i].width > 0)
            put_rank(d, i);
    }
}

// ---- arrows ----

static const char *const arrow_kinds[] = {"arrow", "arrow far", "arrow farthest"};

static int32_t arrow_kind(int32_t distance) { return distance > 2 ? 2 : distance; }

// The two drawn cells of two groups that are nearest to each other, of the first ranks of large groups.
static bool find_pair(const drawing *d, int32_t from, int32_t to, pr_box *a, pr_box *b)
{
    const pr_group_layout *p = &d->placement->layout->group[from];
    const pr_group_layout *q = &d->placement->layout->group[to];
    bool found = false;
    for (int32_t i = 0; i < p->ranks && i < NEAR_RANKS; i++) {
        for (int32_t k = 0; k < q->ranks && k < NEAR_RANKS; k++) {
            pr_box left = d->geometry.cell[p->first_rank + i];
            pr_box right = d->geometry.cell[q->first_rank + k];
            if (left.width == 0 || right.width == 0 ||
                (found && distance_between(left, right) >= distance_between(*a, *b)))
                continue;
            *a = left;
            *b = right;
            found = true;
        }
    }
    return found;
}

// Within a row an arc above the cells, else from one's bottom to the other's top, or the other way round.
static void put_arrow(drawing *d, pr_box a, pr_box b, int32_t kind)
{
    int32_t x0 = middle_x(a), x1 = middle_x(b), y0 = a.y, y1 = b.y - 3, bend0, bend1;
    if (a.y == b.y) {
        int32_t wide = x1 > x0 ? x1 - x0 : x0 - x1;
        bend0 = bend1 = a.y - 20 - (wide < 400 ? wide : 400) / 30;
    } else if (a.y < b.y) {
        y0 = a.y + a.height;
        bend0 = y0 + (y1 - y0) / 2;
        bend1 = y1 - (y1 - y0) / 2;
    } else {
        y1 = b.y + b.height + 3;
        bend0 = y0 - (y0 - y1) / 2;
        bend1 = y1 + (y0 - y1) / 2;
    }
    d->has_arrow[kind] = true;
    fprintf(
        d->out, "<path class=\"%s\" marker-end=\"url(#tip)\" d=\"M%d %dC%d %d %d %d %d %d\"/>\n",
        arrow_kinds[kind], (int)x0, (int)y0, (int)x0, (int)bend0, (int)x1, (int)bend1, (int)x1,
        (int)y1);
}

static void put_arrows(drawing *d)
{
    for (int32_t i = 0; i < d->placement->layout->groups; i++) {
        const pr_counterpart *to = &d->placement->counterpart[i];
        pr_box a, b;
        if (to->group >= 0 && d->placement->layout->group[i].role == PR_ROLE_PREFILL &&
            find_pair(d, i, to->group, &a, &b))
            put_arrow(d, a, b, arrow_kind(to->distance));
    }
}

// ---- legend ----

static bool has_role(const pr_layout *layout, int32_t role)
{
    for (int32_t i = 0; i < layout->groups; i++) {
        if ((int32_t)layout->group[i].role == role)
            return true;
    }
    return false;
}

// A swatch and its meaning; returns where the next one begins.
static int32_t
put_swatch(const drawing *d, int32_t x, int32_t y, const char *kind, const char *text)
{
    put_box(d->out, kind, (pr_box){x, y - 11, 14, 14}, 4);
    put_label(d->out, "text", x + 20, y, text);
    return x + 36 + CHARACTER_WIDTH * (int32_t)strlen(text);
}

static int32_t
put_line_sample(const drawing *d, int32_t x, int32_t y, const char *kind, const char *text)
{
    bool joint = strncmp(kind, "joint", 5) == 0, arrow = strncmp(kind, "arrow", 5) == 0;
    fprintf(
        d->out, "<path class=\"%s\"%s%s d=\"M%d %dh%d\"/>\n", kind,
        joint ? " style=\"stroke-width:10\"" : "", arrow ? " marker-end=\"url(#tip)\"" : "",
        (int)(x + (joint ? 5 : 0)), (int)(y - 4), joint ? 20 : 28);
    put_label(d->out, "text", x + 38, y, text);
    return x + 54 + CHARACTER_WIDTH * (int32_t)strlen(text);
}

static void put_legend(const drawing *d)
{
    static const char *const role_text[PR_ROLES] = {
        [PR_ROLE_MIXED] = "mixed", [PR_ROLE_PREFILL] = "prefill", [PR_ROLE_DECODE] = "decode"};
    const pr_layout *layout = d->placement->layout;
    int32_t x = PR_BOX_GAP + 2, y = d->geometry.height - PR_LEGEND_HEIGHT + 30;
    const char *joint = "joint mixed";
    for (int32_t role = 0; role < PR_ROLES; role++) {
        if (!has_role(layout, role))
            continue;
        x = put_swatch(d, x, y, role_text[role], role_text[role]);
        joint = role == PR_ROLE_PREFILL ? "joint prefill" : joint;
    }
    if (layout->dedicated_controller)
        x = put_swatch(d, x, y, "controller", "controller");
    put_label(
        d->out, "text", x, y,
        d->has_cpus ? "g1.0: group 1, lane 0; below it the CPUs" : "g1.0: group 1, lane 0");
    x = PR_BOX_GAP + 2;
    y += 22;
    if (d->has_joint)
        x = put_line_sample(d, x, y, joint, "tp lane");
    if (d->has_split)
        x = put_line_sample(d, x, y, "split", "tp lane across nodes");
    for (int32_t i = 0; i < 3; i++) {
        char text[64];
        snprintf(
            text, sizeof text, "KV to the nearest decode group, %s",
            pr_plan_distance_text(d->placement, i));
        if (d->has_arrow[i])
            x = put_line_sample(d, x, y, arrow_kinds[i], text);
    }
}

// ---- the whole ----

static void put_head(const drawing *d, const char *title)
{
    const pr_plan_geometry *g = &d->geometry;
    char summary[96], text[160];
    int32_t left_out = d->placement->nodes.nodes - g->nodes;
    pr_plan_placement_summary(d->placement, summary);
    snprintf(text, sizeof text, "%s", summary);
    if (left_out > 0)
        snprintf(text, sizeof text, "%s; the last %d nodes are not drawn", summary, (int)left_out);
    fprintf(
        d->out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"%d\" height=\"%d\" "
        "viewBox=\"0 0 %d %d\">\n<title>",
        (int)g->width, (int)g->height, (int)g->width, (int)g->height);
    put_text(d->out, title, 0);
    fprintf(d->out, "</title>\n<desc>%s</desc>\n%s", text, style);
    fputs(
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"6\" refY=\"4\" markerWidth=\"7\" "
        "markerHeight=\"7\" orient=\"auto\"><path class=\"tip\" d=\"M0 0L8 4L0 8Z\"/></marker>"
        "</defs>\n",
        d->out);
    put_box(d->out, "paper", (pr_box){0, 0, g->width, g->height}, 0);
    fprintf(d->out, "<text class=\"title\" x=\"%d\" y=\"28\">", PR_BOX_GAP + 2);
    put_text(d->out, title, (g->width - 2 * PR_BOX_GAP) / CHARACTER_WIDTH);
    fputs("</text>\n", d->out);
    put_label(d->out, "text", PR_BOX_GAP + 2, 48, text);
}

pr_status
pr_plan_drawing_write(const pr_plan_placement *placement, const char *title, const char *path)
{
    drawing d = {.placement = placement};
    PR_TRY(pr_plan_geometry_make(placement, &d.geometry));
    d.out = fopen(path, "w");
    if (!d.out) {
        pr_plan_geometry_release(&d.geometry);
        return pr_fail(PR_ERR_IO, "cannot write the drawing %s: %s", path, strerror(errno));
    }
    put_head(&d, title);
    put_machine(&d);
    put_ranks(&d);
    put_arrows(&d);
    put_legend(&d);
    fputs("</svg>\n", d.out);
    bool failed = ferror(d.out);
    failed |= fclose(d.out) != 0;
    pr_plan_geometry_release(&d.geometry);
    if (failed)
        return pr_fail(PR_ERR_IO, "cannot write the drawing %s: %s", path, strerror(errno));
    return PR_OK;
}
