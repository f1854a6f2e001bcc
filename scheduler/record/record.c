// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/record/record.h"

#include <inttypes.h>

static void write_dispatch(FILE *out, const pr_scheduler_params *p)
{
    const pr_job_queue_params *q = &p->queue;
    const pr_cost_model *c = &p->cost;
    fprintf(
        out, "dispatch %s %d %d %d %a %a %a", p->policy, (int)q->fair, (int)q->most_jobs,
        (int)q->most_tenants, q->prompt_weight, q->output_weight, q->guard_s);
    fprintf(
        out, " %a %a %a %a %a %a %a %a %a", c->chunk_s, c->chunk_token_s, c->chunk_pair_s,
        c->step_s, c->step_sequence_s, c->step_context_s, c->transfer_s, c->transfer_bytes_per_s,
        c->kv_bytes_per_token);
    fprintf(out, " %d %d %" PRId64, (int)c->chunk_tokens, (int)c->max_batch, c->capacity_tokens);
    fprintf(
        out, " %" PRId64 " %a %d %d", p->flow.most_prompt_tokens, p->flow.ttl_s,
        (int)p->flow.sheddable_above, (int)p->short_suffix);
    if (p->balance.period_s > 0)
        fprintf(
            out, " %a %a %d", p->balance.period_s, p->balance.tpot_target_s,
            (int)p->balance.rotate);
    fputc('\n', out);
}

void pr_record_begin(pr_scheduler *scheduler)
{
    const pr_scheduler_params *p = &scheduler->params;
    const pr_layout *layout = p->layout;
    FILE *out = scheduler->record;
    fprintf(
        out, "polyreme-events 2 %d %d %d %d %d %d %d", (int)p->kv_blocks, (int)p->block_tokens,
        (int)p->max_model_len, (int)p->max_num_batched_tokens, (int)p->max_num_seqs,
        (int)p->lease_steps, (int)p->prefix_caching);
    fprintf(
        out, " %d %d %d", (int)layout->ranks, (int)layout->dedicated_controller,
        (int)layout->groups);
    for (int32_t g = 0; g < layout->groups; g++) {
        const pr_group_layout *group = &layout->group[g];
        fprintf(
            out, " %d %d %d %d", (int)group->role, (int)group->first_rank, (int)group->ranks,
            (int)group->tp);
    }
    fputc('\n', out);
    write_dispatch(out, p);
}

// The stream for the next event's line, or NULL.
static FILE *next_line(pr_scheduler *scheduler)
{
    if (scheduler->record && scheduler->record_calls > 0)
        fprintf(
            scheduler->record, "next %" PRId64 " %08" PRIx32 "\n", scheduler->record_calls,
            (uint32_t)scheduler->hash);
    scheduler->record_calls = 0;
    return scheduler->record;
}

void pr_record_submit(pr_scheduler *scheduler, const pr_request *request)
{
    FILE *out = next_line(scheduler);
    if (!out)
        return;
    fprintf(
        out, "submit %" PRIu64 " %d %" PRIu64 " %" PRIu64 " %d %d", request->id,
        (int)request->priority, request->salt, request->tenant, (int)request->ttft_target_ms,
        (int)request->tpot_target_ms);
    fprintf(
        out, " %" PRIu64 " %d %d %d", request->sibling_of, (int)request->sampling.choice,
        (int)request->sampling.max_tokens, (int)request->prompt_tokens);
    for (int32_t i = 0; i < request->prompt_tokens; i++)
        fprintf(out, " %d", (int)request->prompt[i]);
    if (request->outputs > 0)
        fprintf(out, " %d", (int)request->outputs);
    for (int32_t i = 0; i < request->outputs; i++)
        fprintf(out, " %d", (int)request->output[i]);
    fputc('\n', out);
}

void pr_record_report(pr_scheduler *scheduler, const pr_report *report)
{
    FILE *out = next_line(scheduler);
    if (!out)
        return;
    const pr_step_work *work = &report->work;
    fprintf(
        out, "report %" PRIu64 " %u %d %d %d %" PRId64, report->plan, (unsigned)report->step,
        (int)report->group, (int)report->lane, (int)report->plan_finished, report->step_ns);
    fprintf(
        out, " %d %d %" PRId64 " %" PRId64 " %d", (int)work->prefill_rows,
        (int)work->decode_sequences, work->prefill_pairs, work->decode_context,
        (int)report->tokens);
    for (int32_t i = 0; i < report->tokens; i++) {
        const pr_token_report *t = &report->token[i];
        fprintf(
            out, " %" PRIu64 " %u %d %d %d", t->id, (unsigned)t->generation, (int)t->index,
            (int)t->token, (int)t->finish);
    }
    fprintf(out, " %d", (int)report->chunks);
    for (int32_t i = 0; i < report->chunks; i++) {
        const pr_chunk_report *c = &report->chunk[i];
        fprintf(out, " %" PRIu64 " %u %d", c->id, (unsigned)c->generation, (int)c->computed);
    }
    fprintf(out, " %d", (int)report->arrivals);
    for (int32_t i = 0; i < report->arrivals; i++) {
        const pr_arrival_report *a = &report->arrival[i];
        fprintf(out, " %" PRIu64 " %u %d", a->id, (unsigned)a->generation, (int)a->intact);
    }
    fputc('\n', out);
}

void pr_record_cancel(pr_scheduler *scheduler, uint64_t id)
{
    FILE *out = next_line(scheduler);
    if (out)
        fprintf(out, "cancel %" PRIu64 "\n", id);
}

void pr_record_group(pr_scheduler *scheduler, pr_record_kind kind, int32_t value)
{
    FILE *out = next_line(scheduler);
    if (out)
        fprintf(
            out, "%s %d\n",
            kind == PR_RECORD_LOST   ? "lost"
            : kind == PR_RECORD_BACK ? "back"
                                     : "pause",
            (int)value);
}

void pr_record_advance(pr_scheduler *scheduler, int64_t now_ns)
{
    FILE *out = next_line(scheduler);
    if (out)
        fprintf(out, "advance %" PRId64 "\n", now_ns);
}

void pr_record_end_time(pr_scheduler *scheduler, int64_t end_ns, pr_at_end at_end)
{
    FILE *out = next_line(scheduler);
    if (out)
        fprintf(out, "end %" PRId64 " %d\n", end_ns, (int)at_end);
}

void pr_record_next(pr_scheduler *scheduler) { scheduler->record_calls++; }

void pr_record_plan(pr_scheduler *scheduler, const pr_plan *plan)
{
    FILE *out = scheduler->record;
    if (!out)
        return;
    fprintf(
        out, "plan %" PRIu64 " %d %d %d %d", plan->number, (int)plan->group, (int)plan->max_steps,
        (int)plan->chunks, (int)plan->admissions);
    for (int32_t i = 0; i < plan->admissions; i++) {
        const pr_admission *a = &plan->admission[i];
        fprintf(
            out, " %" PRIu64 " %d %d %d", a->request->id, (int)a->lane, (int)a->computed,
            (int)a->arrives);
    }
    fprintf(out, " %d", (int)plan->handovers);
    for (int32_t i = 0; i < plan->handovers; i++) {
        const pr_handover *h = &plan->handover[i];
        fprintf(
            out, " %" PRIu64 " %d %d %d", h->id, (int)h->from_group, (int)h->to_group,
            (int)h->blocks);
    }
    fputc('\n', out);
}

void pr_record_role(pr_scheduler *scheduler, int32_t group, pr_role role)
{
    if (scheduler->record)
        fprintf(scheduler->record, "role %d %d\n", (int)group, (int)role);
}

void pr_record_end(pr_scheduler *scheduler)
{
    FILE *out = next_line(scheduler);
    if (out)
        fprintf(out, "hash %016" PRIx64 "\n", scheduler->hash);
}
