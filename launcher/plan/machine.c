// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/plan/machine.h"

#include <math.h>
#include <string.h>

// Published profiles of operators, and our own record: see tests/unit/test_machine.c.
#define PROFILES                                                                                   \
    "published operator profiles of a 70 B dense model, tp 8 (vidur): steps and chunks within 20 " \
    "%"

static const double TRANSFER_START_S = 0.4e-3;  // of one KV handover (Mooncake, FAST 2025)

static const pr_machine GPU = {
    .node_devices = 8,
    .memory_part = 0.75,
    .kv_part = 0.8,
    .matmul_part = 0.75,
    .attention_part = 0.6,
    .local_part = 0.67,
    .network_part = 0.92,
    .layer_s = 50e-6,
    .local_start_s = 12e-6,
    .network_start_s = 35e-6,
    .number = PR_BF16,
};

typedef struct peaks {
    const char *name, *what, *checked;
    int32_t node_devices;
    double memory_gb, memory_tb_s, arithmetic_tf, local_gb_s, network_gb_s;
    bool slingshot;
} peaks;

static const peaks GPUS[] = {
    {"a100", "A100 SXM 80 GB, NVSwitch, 200 Gb/s each", PROFILES, 8, 80, 2.04, 312, 300, 25, false},
    {"h100", "H100 SXM 80 GB, NVSwitch, 400 Gb/s each", PROFILES, 8, 80, 3.35, 989, 450, 50, false},
    {"h200", "H200 SXM 141 GB, NVSwitch, 400 Gb/s each", NULL, 8, 141, 4.8, 989, 450, 50, false},
    {"b200", "B200 180 GB, NVSwitch, 400 Gb/s each", NULL, 8, 180, 8, 2250, 900, 50, false},
    {"gh200", "GH200 96 GB, four a node, 200 Gb/s each", NULL, 4, 96, 4, 989, 150, 25, true},
    {"mi250x", "one die of an MI250X, 64 GB, Slingshot", NULL, 8, 64, 1.6, 191.5, 100, 12.5, true},
    {"mi300a", "MI300A 128 GB, four a node, Slingshot", NULL, 4, 128, 5.3, 980, 128, 25, true},
    {"mi300x", "MI300X 192 GB, 400 Gb/s each", NULL, 8, 192, 5.3, 1307, 448, 50, false},
};

enum { GPU_KINDS = sizeof GPUS / sizeof GPUS[0] };

// One core of the two of a virtual machine (Zen 4, AVX-512), as benchmarks/results says: 26.9 GB/s by one
// core, 32.8 by both, 126 GFLOP/s each, KV read at 8 GB/s. Links and starts are estimates.
static const pr_machine CPU = {
    .name = "cpu",
    .what = "one core of a 2-core virtual machine, Zen 4 with AVX-512",
    .checked = "our first-light record, a 0.6 B dense model on 1 and 2 ranks: within 30 %",
    .node_devices = 2,
    .cores = true,
    .memory_bytes = 8e9,
    .memory_rate = 26.9e9,
    .node_memory_rate = 32.8e9,
    .arithmetic_rate = 126e9,
    .local_rate = 5e9,
    .network_rate = 1.25e9,
    .memory_part = 0.88,
    .kv_part = 0.3,
    .matmul_part = 0.65,
    .attention_part = 0.3,
    .local_part = 1,
    .network_part = 0.9,
    .layer_s = 20e-6,
    .local_start_s = 20e-6,
    .network_start_s = 100e-6,
    .number = PR_F32,
};

static void fill_gpu(const peaks *from, pr_machine *machine)
{
    *machine = GPU;
    machine->name = from->name;
    machine->what = from->what;
    machine->checked = from->checked;
    machine->node_devices = from->node_devices;
    machine->memory_bytes = from->memory_gb * 1e9;
    machine->memory_rate = from->memory_tb_s * 1e12;
    machine->arithmetic_rate = from->arithmetic_tf * 1e12;
    machine->local_rate = from->local_gb_s * 1e9;
    machine->network_rate = from->network_gb_s * 1e9;
    if (from->slingshot) {
        machine->network_part = 0.86;
        machine->network_start_s = 50e-6;
    }
}

bool pr_machine_find(const char *name, pr_machine *machine)
{
    if (strcmp(name, CPU.name) == 0) {
        *machine = CPU;
        return true;
    }
    for (int i = 0; i < GPU_KINDS; i++) {
        if (strcmp(name, GPUS[i].name) == 0) {
            fill_gpu(&GPUS[i], machine);
            return true;
        }
    }
    return false;
}

int32_t pr_machine_threads(const pr_machine *machine, int32_t ranks, int32_t threads)
{
    if (!machine->cores)
        return 1;
    int32_t most = machine->node_devices;
    int32_t wanted = threads > 0 ? threads : most / (ranks < most ? ranks : most);
    return wanted < most ? wanted : most;
}

pr_machine pr_machine_with_threads(const pr_machine *machine, int32_t threads)
{
    pr_machine with = *machine;
    with.node_devices = machine->node_devices / threads;
    with.memory_bytes *= threads;
    with.memory_rate = fmin(machine->memory_rate * threads, machine->node_memory_rate);
    with.kv_part *= machine->memory_rate * threads / with.memory_rate;  // of each core
    with.arithmetic_rate *= threads;
    with.local_rate *= threads;
    with.cores = false;
    return with;
}

// ---- the terms ----

typedef struct shape {
    double tp, ranks, lanes;
    double layers, moe_layers;
    double layer_weights, expert_weights, head_weights;  // of one token: all layers; lm_head
    double fixed_bytes, expert_bytes;                    // weights in a rank's memory
    double experts_chosen, expert_part;                  // K, K / E
} shape;

static void fill_shape(const pr_memory_facts *facts, const pr_group_layout *group, shape *of)
{
    const pr_model *m = facts->model;
    pr_memory_budget budget;
    pr_memory_budget_of(facts, group->ranks, group->tp, &budget);
    *of = (shape){.tp = group->tp, .ranks = group->ranks, .lanes = group->ranks / group->tp};
    double hidden = m->hidden, heads = m->query_heads, kv_heads = m->kv_heads;
    double attention = 2 * hidden * (heads + kv_heads) * m->head_size;
    of->layers = m->layers;
    for (int32_t i = 0; i < m->layers; i++) {
        bool moe = m->experts > 0 && m->layer_is_moe[i];
        of->moe_layers += moe;
        of->layer_weights += attention + (moe ? hidden * m->experts : 3 * hidden * m->inner);
        of->expert_weights += moe ? 3.0 * m->experts_chosen * hidden * m->expert_inner : 0;
    }
    of->head_weights = hidden * m->vocabulary;
    of->fixed_bytes = (double)pr_memory_weight_bytes(facts, 0, group->tp);
    of->expert_bytes = (double)budget.weight_bytes - of->fixed_bytes;
    of->experts_chosen = m->experts_chosen;
    of->expert_part = m->experts > 0 ? (double)m->experts_chosen / m->experts : 0;
}

// Seconds to read the weights that so many rows of each lane need.
static double read_s(const pr_machine *machine, const shape *of, int32_t ranks, double rows)
{
    double rate = machine->memory_rate;
    double on_node = fmin(ranks, machine->node_devices);
    if (machine->node_memory_rate > 0)
        rate = fmin(rate, machine->node_memory_rate / on_node);
    double hit = 1 - pow(1 - of->expert_part, rows * of->lanes);
    return (of->fixed_bytes + hit * of->expert_bytes) / (rate * machine->memory_part);
}

// Launches and starts of exchanges of one step.
static double starts_s(const pr_machine *machine, const shape *of)
{
    bool inside = of->ranks <= machine->node_devices;
    double start = inside ? machine->local_start_s : machine->network_start_s;
    double reduce = of->tp <= machine->node_devices ? machine->local_start_s : start;
    double reduces = of->tp > 1 ? 2 * of->layers - of->moe_layers : 0;
    double exchanges = of->ranks > 1 ? 2 * of->moe_layers : 0;
    return of->layers * machine->layer_s + reduces * reduce + exchanges * start;
}

// What one row adds: exchanged bytes of all layers.
static double exchange_s(const pr_machine *machine, const shape *of, double hidden)
{
    double local = machine->local_rate * machine->local_part;
    double network = machine->network_rate * machine->network_part;
    double row = hidden * (double)pr_dtype_bytes(machine->number);
    double reduced = (2 * of->layers - of->moe_layers) * 2 * (of->tp - 1) / of->tp * row;
    double sent = of->moe_layers * 2 * of->experts_chosen * row;
    double near = fmin(of->ranks, machine->node_devices);
    double seconds = reduced / (of->tp <= machine->node_devices ? local : network);
    return seconds + sent * (near - 1) / of->ranks / local +
           sent * (of->ranks - near) / of->ranks / network;
}

// KV of one token, all layers, on all ranks of a lane.
static double kv_bytes(const pr_memory_facts *facts)
{
    const pr_model *m = facts->model;
    return 2.0 * m->layers * m->kv_heads * m->head_size *
           (double)pr_dtype_bytes(pr_options_kv_dtype(facts->options, facts->weight_dtype));
}

void pr_machine_cost_of(
    const pr_machine *machine,
    const pr_memory_facts *facts,
    const pr_group_layout *group,
    int32_t ranks,
    int64_t capacity_tokens,
    pr_cost_model *cost)
{
    const pr_model *model = facts->model;
    const pr_options *options = facts->options;
    shape of;
    fill_shape(facts, group, &of);
    int32_t most = options->max_num_seqs;
    double starts = starts_s(machine, &of), exchange = exchange_s(machine, &of, model->hidden);
    double matmul = machine->arithmetic_rate * machine->matmul_part;
    double attention = 4.0 * model->query_heads * model->head_size * model->layers;
    double layers_s = 2 * (of.layer_weights + of.expert_weights) / of.tp / matmul;
    double row_s = layers_s + 2 * of.head_weights / of.tp / matmul;
    double one_s = read_s(machine, &of, ranks, 1), most_s = read_s(machine, &of, ranks, most);
    bool inside = ranks <= machine->node_devices;
    double link = inside ? machine->local_rate * machine->local_part
                         : machine->network_rate * machine->network_part;
    *cost = (pr_cost_model){
        .chunk_s = read_s(machine, &of, ranks, options->max_num_batched_tokens) + starts,
        .chunk_token_s = layers_s + exchange,
        .chunk_pair_s = attention / of.tp / (machine->arithmetic_rate * machine->attention_part),
        .step_s = fmax(0, one_s - row_s) + starts,
        .step_sequence_s = row_s + exchange + (most > 1 ? (most_s - one_s) / (most - 1) : 0),
        .step_context_s = kv_bytes(facts) / of.tp / (machine->memory_rate * machine->kv_part),
        .transfer_s = TRANSFER_START_S,
        .transfer_bytes_per_s = link * of.tp,
        .kv_bytes_per_token = kv_bytes(facts),
        .chunk_tokens = options->max_num_batched_tokens,
        .max_batch = most,
        .capacity_tokens = capacity_tokens,
    };
}
