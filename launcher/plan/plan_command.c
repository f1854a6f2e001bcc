// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/plan/plan_command.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/commands.h"
#include "launcher/engine/device_choice.h"
#include "launcher/engine/layout_choice.h"
#include "launcher/placement/thread_choice.h"
#include "launcher/plan/plan_drawing.h"
#include "launcher/plan/prediction.h"
#include "launcher/plan/split_mode.h"
#include "runtime/base/log.h"
#include "runtime/model/packed_table.h"
#include "runtime/parallel.h"

enum { RANKS_SHOWN = 64, START_BYTES = 128 };

typedef struct plan_view {
    pr_memory_facts facts;
    pr_rank_proposal here;  // for this machine
    int32_t threads;        // of each rank
    pr_layout layout;
    int32_t blocks;  // per lane, 0 if the model does not fit
    bool forecast;   // a machine was named and the model fits
    pr_prediction prediction;
    pr_topology topology;  // of a node
    pr_plan_placement placement;
    char flags[PR_LAYOUT_TEXT_BYTES];
    char why[PR_LAYOUT_TEXT_BYTES];
} plan_view;

// ---- figures ----

void pr_rank_figures_of(
    const pr_memory_facts *facts,
    const pr_layout *layout,
    int32_t blocks,
    int32_t rank,
    pr_rank_figures *figures)
{
    const pr_model *model = facts->model;
    int32_t number = pr_layout_group_of(layout, rank);
    *figures = (pr_rank_figures){.group = number};
    if (number < 0)
        return;
    const pr_group_layout *group = &layout->group[number];
    int32_t within = rank - group->first_rank;
    figures->lane = within / group->tp;
    figures->place = (pr_place){
        .tp = group->tp,
        .tp_rank = within % group->tp,
        .ranks = group->ranks,
        .rank = within,
    };
    figures->first_expert = (int32_t)pr_share_begin(model->experts, within, group->ranks);
    figures->experts =
        (int32_t)pr_share_begin(model->experts, within + 1, group->ranks) - figures->first_expert;
    figures->query_heads = model->query_heads / group->tp;
    figures->kv_heads = model->kv_heads / group->tp;
    figures->read_bytes = pr_shard_predict_bytes(model, &figures->place, facts->weight_dtype);
    pr_memory_budget budget;
    pr_memory_budget_of(facts, group->ranks, group->tp, &budget);
    figures->packed_bytes = pr_memory_weight_bytes(facts, figures->experts, group->tp);
    figures->work_bytes = budget.work_bytes;
    figures->kv_bytes = blocks * budget.block_bytes;
}

void pr_traffic_figures_of(
    const pr_memory_facts *facts, const pr_group_layout *group, pr_traffic_figures *figures)
{
    const pr_model *model = facts->model;
    int64_t row = 4 * (int64_t)model->hidden, rounds = 0, moe_layers = 0;
    for (int32_t tp = group->tp; tp > 1; tp /= 2)
        rounds++;
    for (int32_t i = 0; i < model->layers; i++)
        moe_layers += model->experts > 0 && model->layer_is_moe[i];
    int64_t reduces = 2 * (int64_t)model->layers - moe_layers;  // o_proj, dense down_proj
    *figures = (pr_traffic_figures){.reduce_bytes = reduces * rounds * row};
    figures->gather_bytes = 4 * (int64_t)model->vocabulary / group->tp * (group->tp - 1);
    figures->experts_bytes =
        moe_layers * 2 * model->experts_chosen * row * (group->ranks - 1) / group->ranks;
    if (group->role != PR_ROLE_MIXED)
        figures->handover_bytes =
            2 * (int64_t)model->layers * model->kv_heads * model->head_size *
            (int64_t)pr_dtype_bytes(pr_options_kv_dtype(facts->options, facts->weight_dtype));
}

// ---- text ----

static void print_model(const plan_view *view)
{
    const pr_model *m = view->facts.model;
    bool quantised = pr_memory_quantization(&view->facts) != PR_QUANTIZATION_NONE;
    printf(
        "Model    %s: %s, %d layers, hidden %d, %d query and %d KV heads of %d, vocabulary %d, "
        "%s%s%s",
        m->path, pr_family_name(m->family), (int)m->layers, (int)m->hidden, (int)m->query_heads,
        (int)m->kv_heads, (int)m->head_size, (int)m->vocabulary,
        pr_dtype_name(view->facts.weight_dtype), quantised ? " " : "",
        quantised ? pr_options_weights_text(pr_memory_quantization(&view->facts)) : "");
    if (m->experts)
        printf(", %d experts, %d for each token", (int)m->experts, (int)m->experts_chosen);
    printf("\nLayout   polyreme ... %s\n", view->flags);
}

static void print_groups(const plan_view *view)
{
    for (int32_t i = 0; i < view->layout.groups && i < RANKS_SHOWN; i++) {
        const pr_group_layout *group = &view->layout.group[i];
        char ranks[32];
        pr_layout_ranks_text(group, ranks);
        printf(
            "         group %d: %s, %s, tp %d, %d lane%s\n", (int)i, pr_role_name(group->role),
            ranks, (int)group->tp, (int)pr_layout_lanes(&view->layout, i),
            group->ranks > group->tp ? "s" : "");
    }
}

static void print_ranks(const plan_view *view)
{
    char memory[24], read[24], packed[24], work[24], kv[24];
    pr_memory_text(view->facts.memory_bytes, memory);
    printf(
        "\nRanks    of %s each\n  rank group lane tp   experts heads q/kv      files    weights  "
        "working mem.         KV\n",
        memory);
    for (int32_t i = 0; i < view->layout.ranks && i < RANKS_SHOWN; i++) {
        pr_rank_figures f;
        pr_rank_figures_of(&view->facts, &view->layout, view->blocks, i, &f);
        if (f.group < 0) {
            printf("  %4d controller\n", (int)i);
            continue;
        }
        char experts[32] = "-";
        if (f.experts)
            snprintf(
                experts, sizeof experts, "%d-%d", (int)f.first_expert,
                (int)(f.first_expert + f.experts - 1));
        pr_memory_text(f.read_bytes, read);
        pr_memory_text(f.packed_bytes, packed);
        pr_memory_text(f.work_bytes, work);
        pr_memory_text(f.kv_bytes, kv);
        printf(
            "  %4d %5d %4d %2d %9s %6d/%-4d %10s %10s %13s %10s\n", (int)i, (int)f.group,
            (int)f.lane, (int)f.place.tp_rank, experts, (int)f.query_heads, (int)f.kv_heads, read,
            packed, work, kv);
    }
    if (view->layout.ranks > RANKS_SHOWN)
        printf("  ... %d more ranks\n", (int)(view->layout.ranks - RANKS_SHOWN));
}

// How to start one rank for each NUMA node of this machine.
static void
write_starts(const pr_rank_proposal *here, char mpirun[START_BYTES], char srun[START_BYTES])
{
    char start[PR_MPIRUN_TEXT_BYTES];
    pr_thread_mpirun(here, start);
    snprintf(mpirun, START_BYTES, "%s polyreme ...", start);
    snprintf(
        srun, START_BYTES,
        "srun -n %d --cpus-per-task=%d --hint=nomultithread --cpu-bind=cores --mem-bind=local "
        "polyreme ...",
        (int)here->ranks, (int)here->threads);
}

static void print_threads(const plan_view *view)
{
    const pr_rank_proposal *here = &view->here;
    printf("\nThreads  %d of each rank", (int)view->threads);
    if (view->facts.options->machine) {
        printf(" on %s\n", view->facts.options->machine);
        return;
    }
    printf(
        ": %d core%s of %s may be used, in %d NUMA node%s", (int)here->cores,
        here->cores == 1 ? "" : "s", view->facts.options->topology ? "such a node" : "this machine",
        (int)here->numa_nodes, here->numa_nodes == 1 ? "" : "s");
    if (here->ranks == 1) {
        printf(", so one rank is best without need of more\n");
        return;
    }
    char mpirun[START_BYTES], srun[START_BYTES];
    write_starts(here, mpirun, srun);
    printf(
        ", so %d ranks of %d threads are best:\n  %s\n  %s\n", (int)here->ranks, (int)here->threads,
        mpirun, srun);
}

static void print_kv_and_traffic(const plan_view *view)
{
    int32_t size = view->facts.options->block_size;
    printf(
        "\nKV       %d blocks of %d tokens per lane: %lld tokens, %s\n", (int)view->blocks,
        (int)size, (long long)view->blocks * size,
        pr_dtype_name(pr_options_kv_dtype(view->facts.options, view->facts.weight_dtype)));
    for (int32_t i = 0; i < view->layout.groups; i++) {
        const pr_group_layout *group = &view->layout.group[i];
        bool repeats = i > 0 && group->role == group[-1].role && group->ranks == group[-1].ranks &&
                       group->tp == group[-1].tp;
        if (repeats)
            continue;
        char block[24], reduce[24], gather[24], experts[24], handover[24];
        pr_traffic_figures f;
        pr_memory_budget budget;
        pr_traffic_figures_of(&view->facts, group, &f);
        pr_memory_budget_of(&view->facts, group->ranks, group->tp, &budget);
        pr_memory_text(budget.block_bytes, block);
        pr_memory_text(f.reduce_bytes, reduce);
        pr_memory_text(f.gather_bytes, gather);
        pr_memory_text(f.experts_bytes, experts);
        pr_memory_text(f.handover_bytes, handover);
        printf(
            "%s group %d: a KV block is %s; sent per token at most: reduce %s, experts %s, logits "
            "%s",
            i ? "        " : "Sent    ", (int)i, block, reduce, experts, gather);
        printf(group->role == PR_ROLE_MIXED ? "\n" : ", KV handover %s\n", handover);
    }
}

// Calls `line` for each line of the reasons.
static void for_each_reason(
    const char *why, void (*line)(const char *text, int length, void *context), void *context)
{
    for (const char *at = why; *at;) {
        int length = (int)strcspn(at, "\n");
        line(at, length, context);
        at += length + (at[length] == '\n');
    }
}

static void print_reason(const char *text, int length, void *context)
{
    (void)context;
    printf("  %.*s\n", length, text);
}

static void print_text(const plan_view *view)
{
    print_model(view);
    print_groups(view);
    print_ranks(view);
    print_threads(view);
    print_kv_and_traffic(view);
    if (view->layout.ranks > 1)
        pr_plan_placement_print(&view->placement);
    if (view->forecast)
        pr_prediction_print(&view->prediction);
    printf("\nWhy\n");
    for_each_reason(view->why, print_reason, NULL);
}

// ---- JSON ----

static json_t *group_json(const plan_view *view, int32_t number)
{
    const pr_group_layout *group = &view->layout.group[number];
    pr_traffic_figures f;
    pr_memory_budget budget;
    pr_traffic_figures_of(&view->facts, group, &f);
    pr_memory_budget_of(&view->facts, group->ranks, group->tp, &budget);
    return json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:I, s:{s:I, s:I, s:I, s:I}}", "role", pr_role_name(group->role),
        "first_rank", (int)group->first_rank, "ranks", (int)group->ranks, "tp", (int)group->tp,
        "lanes", (int)pr_layout_lanes(&view->layout, number), "kv_block_bytes",
        (json_int_t)budget.block_bytes, "sent_bytes_per_token", "reduce",
        (json_int_t)f.reduce_bytes, "experts", (json_int_t)f.experts_bytes, "logits",
        (json_int_t)f.gather_bytes, "handover", (json_int_t)f.handover_bytes);
}

static json_t *rank_json(const plan_view *view, int32_t rank)
{
    pr_rank_figures f;
    pr_rank_figures_of(&view->facts, &view->layout, view->blocks, rank, &f);
    return json_pack(
        "{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I}", "rank", (int)rank, "group",
        (int)f.group, "lane", (int)f.lane, "tp_rank", (int)f.place.tp_rank, "first_expert",
        (int)f.first_expert, "experts", (int)f.experts, "query_heads", (int)f.query_heads,
        "kv_heads", (int)f.kv_heads, "read_bytes", (json_int_t)f.read_bytes, "weight_bytes",
        (json_int_t)f.packed_bytes, "work_bytes", (json_int_t)f.work_bytes, "kv_bytes",
        (json_int_t)f.kv_bytes);
}

static void add_reason(const char *text, int length, void *context)
{
    json_array_append_new(context, json_stringn(text, (size_t)length));
}

static json_t *machine_json(const pr_rank_proposal *here)
{
    char mpirun[START_BYTES], srun[START_BYTES];
    write_starts(here, mpirun, srun);
    return json_pack(
        "{s:i, s:i, s:i, s:i, s:s, s:s}", "cores", (int)here->cores, "numa_nodes",
        (int)here->numa_nodes, "ranks", (int)here->ranks, "threads", (int)here->threads, "mpirun",
        mpirun, "srun", srun);
}

static pr_status print_json(const plan_view *view)
{
    json_t *groups = json_array(), *ranks = json_array(), *why = json_array();
    for (int32_t i = 0; i < view->layout.groups; i++)
        json_array_append_new(groups, group_json(view, i));
    for (int32_t i = 0; i < view->layout.ranks; i++)
        json_array_append_new(ranks, rank_json(view, i));
    for_each_reason(view->why, add_reason, why);
    int32_t size = view->facts.options->block_size;
    const char *quantization = view->facts.converted == PR_QUANTIZATION_NONE
                                   ? view->facts.options->quantization
                                   : pr_quantization_name(view->facts.converted);
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:s, s:b, s:I, s:i, s:i, s:I, s:i, s:o, s:o, s:o, s:o, s:o}", "model",
        view->facts.model->path, "family", pr_family_name(view->facts.model->family), "layout",
        view->flags, "quantization", quantization, "fits", view->blocks > 0,
        "memory_bytes_per_rank", (json_int_t)view->facts.memory_bytes, "block_tokens", (int)size,
        "kv_blocks_per_lane", (int)view->blocks, "kv_tokens_per_lane",
        (json_int_t)view->blocks * size, "threads_per_rank", (int)view->threads, "this_machine",
        machine_json(&view->here), "groups", groups, "ranks", ranks, "placement",
        pr_plan_placement_json(&view->placement), "why", why);
    if (root && view->forecast &&
        json_object_set_new(root, "forecast", pr_prediction_json(&view->prediction)) != 0) {
        json_decref(root);
        root = NULL;
    }
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text)
        return pr_fail(PR_ERR_RESOURCE, "out of memory while printing the plan");
    puts(text);
    free(text);
    return PR_OK;
}

// ---- the command ----

static int32_t ranks_of_node(const pr_options *options)
{
    return (options->ranks + options->nodes - 1) / options->nodes;
}

// What a run on the machine would be given if nothing else is said: its nodes, threads and memory.
static void adopt_machine(pr_machine *machine, pr_options *options)
{
    if (options->ranks == 0)
        options->ranks = options->nodes ? options->nodes : 1;
    if (options->nodes == 0)
        options->nodes = machine->cores
                             ? 1
                             : (options->ranks + machine->node_devices - 1) / machine->node_devices;
    options->threads = pr_machine_threads(machine, ranks_of_node(options), options->threads);
    if (machine->cores)
        *machine = pr_machine_with_threads(machine, options->threads);
    if (options->memory == 0)
        options->memory = (int64_t)(machine->memory_bytes * 0.9);
}

// What a run on such nodes would be given.
static void
adopt_node(const pr_rank_proposal *here, const pr_topology *topology, pr_options *options)
{
    if (options->nodes == 0)
        options->nodes = 1;
    if (options->ranks == 0)
        options->ranks = options->nodes * here->ranks;
    if (options->threads == 0)
        options->threads = pr_thread_share(here->cores, ranks_of_node(options));
    if (options->topology && options->memory == 0 && topology->memory_bytes > 0)
        options->memory = (int64_t)((double)topology->memory_bytes * 0.9) / ranks_of_node(options);
}

// What the user's options and the model make of the ranks. The options are copied; *fits says why not.
static pr_status fill_view(
    const pr_options *options,
    const pr_model *model,
    const pr_weights *weights,
    const pr_device_choice *device,
    pr_options *adopted,
    plan_view *view,
    pr_status *fits)
{
    pr_machine machine;
    bool named = options->machine && pr_machine_find(options->machine, &machine);
    *adopted = *options;
    *view = (plan_view){0};
    if (options->topology)
        PR_TRY(pr_topology_describe(options->topology, &view->topology));
    else
        pr_topology_read(&view->topology);
    pr_thread_propose(&view->topology.map, &view->topology.usable, &view->here);
    if (named)
        adopt_machine(&machine, adopted);
    adopt_node(&view->here, &view->topology, adopted);
    view->threads = adopted->threads;
    PR_TRY(pr_memory_facts_fill(
        adopted, model, weights, device->device,
        pr_device_choice_sharers(device, ranks_of_node(adopted)), &view->facts));
    PR_TRY(pr_layout_choose(&view->facts, adopted->ranks, &view->layout, view->why));
    pr_layout_describe(&view->layout, view->flags);
    *fits = pr_memory_budget_blocks(&view->facts, &view->layout, &view->blocks);
    view->forecast = named && *fits == PR_OK;
    if (view->forecast)
        pr_prediction_make(&view->facts, &machine, &view->layout, view->blocks, &view->prediction);
    pr_plan_nodes nodes = {
        .nodes = adopted->nodes,
        .nodes_per_switch = adopted->nodes_per_switch,
        .topology = named && !options->topology ? NULL : &view->topology,
    };
    return pr_plan_placement_make(&view->layout, &nodes, adopted, &view->placement);
}

// Fills a view from the model directory and hands it to `use`, whose context it does not touch.
static pr_status with_view(
    const pr_options *options,
    pr_status (*use)(const plan_view *view, void *context),
    void *context)
{
    static plan_view view;  // one per process; its layout is too large for a stack
    pr_options adopted;
    pr_model *model;
    pr_device_choice device;
    pr_weights *weights = NULL;
    pr_status status, fits;
    PR_TRY(pr_model_open(options->model, &model));
    // A directory with a config.json alone can be planned for too.
    pr_error_capture_begin();
    if (pr_weights_open(options->model, &weights) != PR_OK)
        weights = NULL;
    pr_error_capture_end();
    const pr_thread_choice one = {.threads = 1};
    PR_TRY_GOTO(pr_device_choice_open(options, &one, 0, &device), close_model);
    PR_TRY_GOTO(fill_view(options, model, weights, &device, &adopted, &view, &fits), close_device);
    status = use(&view, context);
    pr_plan_placement_release(&view.placement);
    if (status == PR_OK)
        status = fits;
close_device:
    pr_device_choice_close(&device);
close_model:
    if (weights)
        pr_weights_close(weights);
    pr_model_close(model);
    return status;
}

static pr_status draw(const plan_view *view, const char *path)
{
    char title[PR_LAYOUT_TEXT_BYTES + 256];
    const char *model = view->facts.model->path, *name = strrchr(model, '/');
    bool names = name && name[1];
    snprintf(title, sizeof title, "%s %s", names ? name + 1 : model, view->flags);
    return pr_plan_drawing_write(&view->placement, title, path);
}

static pr_status print_view(const plan_view *view, void *context)
{
    const pr_options *options = context;
    if (options->svg)
        PR_TRY(draw(view, options->svg));
    if (options->json)
        return print_json(view);
    print_text(view);
    return PR_OK;
}

int pr_plan_command(const pr_options *options)
{
    if (options->split > 0)
        return pr_split_mode(options);
    pr_options shown = *options;
    return pr_exit_code(with_view(options, print_view, &shown));
}

static pr_status take_forecast(const plan_view *view, void *context)
{
    pr_prediction *prediction = context;
    *prediction = view->prediction;
    return PR_OK;
}

pr_status pr_plan_forecast(const pr_options *options, pr_prediction *prediction)
{
    if (!options->machine)
        return pr_fail(PR_ERR_ARGUMENT, "name a machine to forecast for with --machine NAME");
    return with_view(options, take_forecast, prediction);
}
