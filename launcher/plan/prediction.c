// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/plan/prediction.h"

#include <math.h>
#include <stdio.h>

static double step_s(const pr_prediction *prediction, int32_t batch)
{
    int64_t held = prediction->prompt_tokens + prediction->output_tokens / 2;
    return pr_cost_model_step_s(&prediction->decode, batch, held * batch);
}

// Batches 1, 8, 64 as far as a decode lane holds them, and the most it holds.
static void fill_steps(pr_prediction *prediction)
{
    const pr_cost_model *cost = &prediction->decode;
    int64_t fit =
        cost->capacity_tokens / ((int64_t)prediction->prompt_tokens + prediction->output_tokens);
    int32_t most = fit < cost->max_batch ? (int32_t)fit : cost->max_batch;
    if (most < 1)
        most = 1;
    for (int32_t batch = 1; batch < most && batch <= 64; batch *= 8)
        prediction->batch[prediction->batches++] = batch;
    prediction->batch[prediction->batches++] = most;
    for (int32_t i = 0; i < prediction->batches; i++)
        prediction->step_s[i] = step_s(prediction, prediction->batch[i]);
}

static void fill_rates(pr_prediction *prediction, const pr_layout *layout)
{
    double lanes[PR_ROLES] = {0};
    for (int32_t i = 0; i < layout->groups; i++)
        lanes[layout->group[i].role] += pr_layout_lanes(layout, i);
    int32_t last = prediction->batches - 1;
    double decode_s =
        prediction->output_tokens * prediction->step_s[last] / prediction->batch[last];
    prediction->balanced = prediction->first_token_s / decode_s;
    prediction->decode_requests_per_s =
        prediction->split ? lanes[PR_ROLE_DECODE] / decode_s : (double)INFINITY;
    prediction->prefill_requests_per_s =
        prediction->split ? lanes[PR_ROLE_PREFILL] / prediction->first_token_s
                          : lanes[PR_ROLE_MIXED] / (prediction->first_token_s + decode_s);
}

static const pr_group_layout *first_of(const pr_layout *layout, pr_role role)
{
    for (int32_t i = 0; i < layout->groups; i++) {
        if (layout->group[i].role == role)
            return &layout->group[i];
    }
    return NULL;
}

void pr_prediction_make(
    const pr_memory_facts *facts,
    const pr_machine *machine,
    const pr_layout *layout,
    int32_t blocks,
    pr_prediction *prediction)
{
    const pr_options *options = facts->options;
    const pr_group_layout *mixed = first_of(layout, PR_ROLE_MIXED);
    const pr_group_layout *prefill = mixed ? mixed : first_of(layout, PR_ROLE_PREFILL);
    const pr_group_layout *decode = mixed ? mixed : first_of(layout, PR_ROLE_DECODE);
    int64_t capacity = (int64_t)blocks * options->block_size;
    *prediction = (pr_prediction){
        .machine = *machine,
        .prompt_tokens = options->prompt_tokens,
        .output_tokens = options->output_tokens,
        .split = !mixed,
    };
    pr_machine_cost_of(machine, facts, prefill, layout->ranks, capacity, &prediction->prefill);
    pr_machine_cost_of(machine, facts, decode, layout->ranks, capacity, &prediction->decode);
    prediction->first_token_s =
        pr_cost_model_prefill_s(&prediction->prefill, prediction->prompt_tokens, 0);
    if (prediction->split)
        prediction->handover_s =
            pr_cost_model_transfer_s(&prediction->prefill, prediction->prompt_tokens);
    fill_steps(prediction);
    fill_rates(prediction, layout);
}

// ---- text ----

static void print_cost(const char *whose, const pr_cost_model *cost)
{
    printf(
        "  %-10s a=%.4g,b=%.4g,c=%.4g,d0=%.4g,d1=%.4g,d2=%.4g,alpha=%.4g,beta=%.4g,kappa=%.0f,"
        "chunk=%d,batch=%d,capacity=%lld\n",
        whose, cost->chunk_s, cost->chunk_token_s, cost->chunk_pair_s, cost->step_s,
        cost->step_sequence_s, cost->step_context_s, cost->transfer_s, cost->transfer_bytes_per_s,
        cost->kv_bytes_per_token, (int)cost->chunk_tokens, (int)cost->max_batch,
        (long long)cost->capacity_tokens);
}

static double requests_per_s(const pr_prediction *p)
{
    return fmin(p->prefill_requests_per_s, p->decode_requests_per_s);
}

static const char *bound_by(const pr_prediction *p)
{
    if (!p->split)
        return "lanes";
    return p->prefill_requests_per_s < p->decode_requests_per_s ? "prefill" : "decode";
}

void pr_prediction_print(const pr_prediction *p)
{
    printf("\nForecast on %s: %s\n", p->machine.name, p->machine.what);
    if (p->machine.checked)
        printf(
            "  validated  against %s;\n             other models and layouts are extrapolated\n",
            p->machine.checked);
    else
        printf("  not validated: from the machine's data sheet and usual efficiencies\n");
    printf(
        "  for        %d prompt tokens, none cached, and %d output tokens a request; no queueing\n",
        (int)p->prompt_tokens, (int)p->output_tokens);
    printf("  TTFT       %.4g ms", p->first_token_s * 1e3);
    if (p->split)
        printf(", KV handover %.4g ms", p->handover_s * 1e3);
    printf("\n  TPOT      ");
    for (int32_t i = 0; i < p->batches; i++)
        printf(
            " %.4g ms at batch %d%s", p->step_s[i] * 1e3, (int)p->batch[i],
            i + 1 < p->batches ? "," : "\n");
    double rate = requests_per_s(p);
    printf(
        "  throughput %.4g requests/s, %.4g output tokens/s; bound by %s\n", rate,
        rate * p->output_tokens, bound_by(p));
    if (p->split)
        printf(
            "  balance    %.3g prefill lanes for each decode lane keep both busy\n", p->balanced);
    print_cost(p->split ? "prefill" : "model", &p->prefill);
    if (p->split)
        print_cost("decode", &p->decode);
}

// ---- JSON ----

static json_t *cost_json(const pr_cost_model *cost)
{
    return json_pack(
        "{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:i, s:I}", "a", cost->chunk_s, "b",
        cost->chunk_token_s, "c", cost->chunk_pair_s, "d0", cost->step_s, "d1",
        cost->step_sequence_s, "d2", cost->step_context_s, "alpha", cost->transfer_s, "beta",
        cost->transfer_bytes_per_s, "kappa", cost->kv_bytes_per_token, "chunk",
        (int)cost->chunk_tokens, "batch", (int)cost->max_batch, "capacity",
        (json_int_t)cost->capacity_tokens);
}

json_t *pr_prediction_json(const pr_prediction *p)
{
    json_t *steps = json_array();
    for (int32_t i = 0; i < p->batches; i++)
        json_array_append_new(
            steps, json_pack("{s:i, s:f}", "batch", (int)p->batch[i], "tpot_s", p->step_s[i]));
    double rate = requests_per_s(p);
    json_t *root = json_pack(
        "{s:s, s:s, s:b, s:i, s:i, s:f, s:f, s:o, s:f, s:f, s:s, s:o, s:o}", "machine",
        p->machine.name, "device", p->machine.what, "validated", p->machine.checked != NULL,
        "prompt_tokens", (int)p->prompt_tokens, "output_tokens", (int)p->output_tokens, "ttft_s",
        p->first_token_s, "handover_s", p->handover_s, "steps", steps, "requests_per_s", rate,
        "output_tokens_per_s", rate * p->output_tokens, "bound", bound_by(p), "prefill_cost",
        cost_json(&p->prefill), "decode_cost", cost_json(&p->decode));
    if (root && p->machine.checked)
        json_object_set_new(root, "validated_against", json_string(p->machine.checked));
    if (root && p->split)
        json_object_set_new(root, "balanced_prefill_per_decode_lane", json_real(p->balanced));
    return root;
}
