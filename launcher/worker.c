// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/worker.h"

#include <stdlib.h>
#include <string.h>

#include "comm/recovery.h"
#include "comm/watch.h"
#include "launcher/prompt_scorer.h"
#include "launcher/slot.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/sampling/sampler.h"

enum { PLANS_AHEAD = 4, ARRIVALS_AT_ONCE = 64, ORDER_WAIT_MS = 1000 };

struct pr_worker {
    pr_worker_params params;
    pr_slots *slots;
    pr_forward *forward;
    pr_sampler **sampler;  // [threads of the device]
    pr_prompt_scorer *scorer;
    pr_constraints *constraints;
    pr_plan *queue[PLANS_AHEAD];  // received, not yet begun; oldest first
    int32_t queued;
    uint64_t plan_number;    // the last one begun
    bool stop;               // PR_MESSAGE_STOP is there
    bool left;               // the group has agreed to leave its plans for the stop
    bool orphaned;           // the controller is gone
    bool broken;             // the group has lost a rank
    pr_recover_order order;  // to be carried out by whoever runs the worker
    // The step being composed: rows of this lane.
    int32_t *token, *position;  // [max_num_batched_tokens]
    int32_t *output_row;        // [max_num_seqs]
    pr_slot **output_owner;     // [max_num_seqs]
    pr_sampler_args *draw;      // [max_num_seqs]
    int32_t *free_output;       // [max_num_seqs] those without a grammar
    pr_segment *segment;        // [max_num_seqs]
    pr_forward_batch batch;
    pr_status push_status;  // of layer_done, which cannot return one
    // The report being composed.
    pr_token_report *token_report;  // [max_num_seqs]
    pr_sampled *sampled;            // [max_num_seqs]
    pr_chunk_report *chunk_report;  // [max_num_seqs]
    int32_t token_reports, chunk_reports;
    pr_step_work work;
    unsigned char *wire;  // [wire_bytes], grows to the largest report
    size_t wire_bytes;
    pr_worker_counts counts;
};

static bool is_lane_leader(const pr_worker *worker)
{
    return worker->params.parallel->tp_rank == 0;
}

static pr_device *device_of(const pr_worker *worker) { return worker->params.shard->device; }

static pr_status create_samplers(pr_worker *worker)
{
    int32_t threads = device_of(worker)->threads;
    worker->sampler = calloc((size_t)threads, sizeof(pr_sampler *));
    if (!worker->sampler)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the samplers");
    for (int32_t i = 0; i < threads; i++)
        PR_TRY(pr_sampler_create(worker->params.model->vocabulary, &worker->sampler[i]));
    return PR_OK;
}

pr_status pr_worker_create(const pr_worker_params *params, pr_worker **worker)
{
    pr_status status = PR_OK;
    pr_worker *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the worker");
    made->params = *params;
    size_t rows = (size_t)params->max_num_batched_tokens, seqs = (size_t)params->max_num_seqs;
    made->token = calloc(rows, sizeof *made->token);
    made->position = calloc(rows, sizeof *made->position);
    made->output_row = calloc(seqs, sizeof *made->output_row);
    made->output_owner = calloc(seqs, sizeof(pr_slot *));
    made->draw = calloc(seqs, sizeof *made->draw);
    made->free_output = calloc(seqs, sizeof *made->free_output);
    made->segment = calloc(seqs, sizeof *made->segment);
    made->token_report = calloc(seqs, sizeof *made->token_report);
    made->sampled = calloc(seqs, sizeof *made->sampled);
    made->chunk_report = calloc(seqs, sizeof *made->chunk_report);
    if (!made->token || !made->position || !made->output_row || !made->output_owner ||
        !made->draw || !made->free_output || !made->segment || !made->token_report ||
        !made->sampled || !made->chunk_report) {
        status = pr_fail(PR_ERR_RESOURCE, "no memory for the worker's step");
        goto failed;
    }
    PR_TRY_GOTO(
        pr_constraints_create(params->token_bytes, params->model->vocabulary, &made->constraints),
        failed);
    PR_TRY_GOTO(
        pr_slots_create(
            params->max_num_seqs, params->max_model_len, params->store->block_tokens,
            made->constraints, &made->slots),
        failed);
    pr_forward_limits limits = {
        .max_tokens = params->max_num_batched_tokens,
        .max_outputs = params->max_num_seqs,
        .max_positions = params->max_model_len,
        .max_segments = params->max_num_seqs,
    };
    PR_TRY_GOTO(
        pr_forward_create(
            params->model, params->shard, params->store, params->parallel, &limits, &made->forward),
        failed);
    PR_TRY_GOTO(create_samplers(made), failed);
    pr_prompt_scorer_params scorer = {
        .forward = made->forward,
        .sampler = made->sampler[0],
        .vocabulary = params->model->vocabulary,
        .max_rows = params->max_num_batched_tokens,
        .rows_at_once = params->max_num_seqs,
        .leads = is_lane_leader(made),
    };
    PR_TRY_GOTO(pr_prompt_scorer_create(&scorer, &made->scorer), failed);
    made->counts.read_bytes = params->shard->read_bytes;
    made->plan_number = params->plan_number;
    *worker = made;
    return PR_OK;
failed:
    pr_worker_destroy(made);
    return status;
}

void pr_worker_destroy(pr_worker *worker)
{
    if (!worker)
        return;
    for (int32_t i = 0; i < worker->queued; i++)
        pr_plan_free(worker->queue[i]);
    pr_slots_destroy(worker->slots);
    pr_prompt_scorer_destroy(worker->scorer);
    pr_constraints_destroy(worker->constraints);
    pr_forward_destroy(worker->forward);
    for (int32_t i = 0; worker->sampler && i < device_of(worker)->threads; i++)
        pr_sampler_destroy(worker->sampler[i]);
    free(worker->sampler);
    free(worker->token);
    free(worker->position);
    free(worker->output_row);
    free(worker->output_owner);
    free(worker->draw);
    free(worker->free_output);
    free(worker->segment);
    free(worker->token_report);
    free(worker->sampled);
    free(worker->chunk_report);
    free(worker->wire);
    free(worker);
}

// ---- Messages ----

static pr_status lose_controller(pr_worker *worker)
{
    worker->orphaned = true;
    return pr_fail(PR_ERR_PEER, "rank 0 (the controller) is lost: this rank ends");
}

static pr_status take_order(pr_worker *worker, const pr_message *message)
{
    pr_recover_order order;
    if (message->size_bytes != sizeof order)
        return pr_fail(PR_ERR_INTERNAL, "an order of %zu bytes", message->size_bytes);
    memcpy(&order, message->data, sizeof order);
    bool ours = order.group == worker->params.group_index;
    if (order.kind == PR_RECOVER_LOSE && ours)
        worker->broken = true;
    else if (order.kind == PR_RECOVER_LOSE)
        pr_kv_transfer_lose(worker->params.transfer, order.group);
    else if (order.kind == PR_RECOVER_RETURN)
        pr_kv_transfer_return(worker->params.transfer, order.group);
    else
        worker->order = order;
    return PR_OK;
}

static pr_status take_message(pr_worker *worker, const pr_message *message)
{
    pr_plan *plan;
    switch (message->kind) {
    case PR_MESSAGE_PLAN:
        PR_TRY(pr_plan_decode(message->data, message->size_bytes, &plan));
        uint64_t expected = worker->plan_number + (uint64_t)worker->queued + 1;
        if (worker->queued == PLANS_AHEAD || plan->number != expected) {
            pr_status status = pr_fail(
                PR_ERR_INTERNAL, "plan %llu came where %llu was due",
                (unsigned long long)plan->number, (unsigned long long)expected);
            pr_plan_free(plan);
            return status;
        }
        worker->queue[worker->queued++] = plan;
        return PR_OK;
    case PR_MESSAGE_STOP:
        worker->stop = true;
        return PR_OK;
    case PR_MESSAGE_ORDER:
        return take_order(worker, message);
    case PR_MESSAGE_LOST:
        return lose_controller(worker);
    default:
        return PR_OK;
    }
}

static pr_status take_waiting_messages(pr_worker *worker)
{
    for (;;) {
        pr_message message;
        PR_TRY(pr_control_receive(worker->params.control, 0, &message));
        if (message.kind == PR_MESSAGE_NONE)
            return PR_OK;
        PR_TRY(take_message(worker, &message));
    }
}

static pr_status
send_to_controller(pr_worker *worker, pr_message_kind kind, const void *data, size_t size_bytes)
{
    pr_status sent = pr_control_send(worker->params.control, 0, kind, data, size_bytes);
    return sent == PR_ERR_PEER ? lose_controller(worker) : sent;
}

static pr_status grow_wire(pr_worker *worker, size_t size_bytes)
{
    unsigned char *grown = realloc(worker->wire, 2 * size_bytes);
    if (!grown)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a report of %zu bytes", size_bytes);
    worker->wire = grown;
    worker->wire_bytes = 2 * size_bytes;
    return PR_OK;
}

// Nobody waits for a token in the middle of a sequence as for its first or last one.
static bool can_wait(const pr_report *report)
{
    bool can = !report->plan_finished && report->chunks == 0 && report->arrivals == 0 &&
               report->prompt_logprobs == 0;
    for (int32_t i = 0; can && i < report->tokens; i++)
        can = report->token[i].index > 0 && report->token[i].finish == PR_FINISH_NONE;
    return can;
}

static pr_status send_report(pr_worker *worker, pr_report *report)
{
    report->group = worker->params.group_index;
    report->lane = worker->params.lane;
    size_t size_bytes = pr_report_measure(report);
    if (size_bytes > worker->wire_bytes)
        PR_TRY(grow_wire(worker, size_bytes));
    pr_report_write(report, size_bytes, worker->wire);
    if (!can_wait(report))
        return send_to_controller(worker, PR_MESSAGE_REPORT, worker->wire, size_bytes);
    pr_status sent =
        pr_control_post(worker->params.control, 0, PR_MESSAGE_REPORT, worker->wire, size_bytes);
    return sent == PR_ERR_PEER ? lose_controller(worker) : sent;
}

// Moves KV of other groups on, and tells the controller what has arrived.
static pr_status progress_transfers(pr_worker *worker)
{
    pr_arrival_report arrival[ARRIVALS_AT_ONCE];
    int32_t arrivals = 0;
    if (pr_kv_transfer_pending(worker->params.transfer) == 0)
        return PR_OK;
    PR_TRY(pr_kv_transfer_progress(worker->params.transfer, arrival, ARRIVALS_AT_ONCE, &arrivals));
    if (arrivals == 0)
        return PR_OK;
    pr_report report = {.plan = worker->plan_number, .arrivals = arrivals, .arrival = arrival};
    return send_report(worker, &report);
}

// ---- Applying a plan ----

static pr_status note_handover(pr_worker *worker, const pr_handover *handover)
{
    const pr_worker_params *p = &worker->params;
    if (handover->from_group == p->group_index && handover->from_lane == p->lane)
        PR_TRY(pr_kv_transfer_send(p->transfer, handover));
    if (handover->to_group == p->group_index && handover->to_lane == p->lane)
        PR_TRY(pr_kv_transfer_expect(p->transfer, handover));
    return PR_OK;
}

static pr_status start_slot(pr_worker *worker, const pr_start *start)
{
    pr_slot *slot = pr_slots_find(worker->slots, start->id);
    if (!slot)
        return PR_OK;  // another lane's
    if (slot->total != slot->request->prompt_tokens + start->index ||
        slot->total >= worker->slots->max_tokens)
        return pr_fail(
            PR_ERR_INTERNAL, "request %llu started at output %d, but holds %d tokens",
            (unsigned long long)start->id, start->index, slot->total);
    slot->prefilled = true;
    if (!pr_slot_add_token(slot, start->token))
        return pr_fail(
            PR_ERR_INTERNAL, "output %d of request %llu does not fit its grammar", start->index,
            (unsigned long long)start->id);
    return PR_OK;
}

static pr_status apply_plan(pr_worker *worker, const pr_plan *plan)
{
    for (int32_t i = 0; i < plan->drops; i++) {
        pr_slot *slot = pr_slots_find(worker->slots, plan->drop[i].id);
        if (slot && slot->generation == plan->drop[i].generation)
            pr_slot_release(slot);
    }
    for (int32_t i = 0; i < plan->copies; i++) {
        if (plan->copy[i].lane == worker->params.lane)
            pr_kv_store_copy(worker->params.store, plan->copy[i].from, plan->copy[i].to);
    }
    for (int32_t i = 0; i < plan->admissions; i++) {
        if (plan->admission[i].lane == worker->params.lane)
            PR_TRY(pr_slots_admit(worker->slots, &plan->admission[i]));
    }
    for (int32_t i = 0; i < plan->grants; i++)
        PR_TRY(pr_slots_grant(worker->slots, &plan->grant[i]));
    for (int32_t i = 0; i < plan->starts; i++)
        PR_TRY(start_slot(worker, &plan->start[i]));
    for (int32_t i = 0; i < plan->handovers; i++)
        PR_TRY(note_handover(worker, &plan->handover[i]));
    return PR_OK;
}

// ---- Composing a step ----

static void add_rows(pr_worker *worker, pr_slot *slot, int32_t start, int32_t count)
{
    pr_forward_batch *batch = &worker->batch;
    worker->segment[batch->segments++] = (pr_segment){
        .first_row = batch->tokens,
        .rows = count,
        .start_position = start,
        .block = slot->block,
    };
    for (int32_t i = 0; i < count; i++) {
        worker->token[batch->tokens] = slot->token[start + i];
        worker->position[batch->tokens++] = start + i;
    }
    slot->computed = start + count;
    if (slot->computed == slot->total) {
        slot->prefilled = true;
        worker->output_owner[batch->outputs] = slot;
        worker->output_row[batch->outputs++] = batch->tokens - 1;
    }
}

static pr_status add_chunk(pr_worker *worker, const pr_chunk *chunk)
{
    pr_slot *slot = pr_slots_find(worker->slots, chunk->id);
    if (!slot)
        return PR_OK;  // another lane's
    int32_t room = slot->blocks * worker->slots->block_tokens;
    int32_t end = chunk->start + chunk->count;
    if (chunk->start != slot->computed || end > slot->total || end > room ||
        worker->batch.tokens + chunk->count > worker->params.max_num_batched_tokens ||
        worker->batch.segments == worker->params.max_num_seqs)
        return pr_fail(
            PR_ERR_INTERNAL, "chunk [%d, %d) of request %llu does not follow %d of %d tokens",
            chunk->start, end, (unsigned long long)chunk->id, slot->computed, slot->total);
    pr_prompt_scorer_note(worker->scorer, slot, worker->batch.tokens, chunk->start, chunk->count);
    add_rows(worker, slot, chunk->start, chunk->count);
    int64_t rows = chunk->count;
    worker->work.prefill_rows += chunk->count;
    worker->work.prefill_pairs += rows * chunk->start + rows * (rows + 1) / 2;
    worker->chunk_report[worker->chunk_reports++] = (pr_chunk_report){
        .id = chunk->id,
        .generation = slot->generation,
        .computed = end,
    };
    return PR_OK;
}

static void add_decodes(pr_worker *worker)
{
    pr_slots *slots = worker->slots;
    for (int32_t i = 0; i < slots->slots; i++) {
        pr_slot *slot = &slots->slot[i];
        if (pr_slot_decodes(slot, slots->block_tokens) &&
            worker->batch.tokens < worker->params.max_num_batched_tokens) {
            add_rows(worker, slot, slot->computed, 1);
            worker->work.decode_sequences++;
            worker->work.decode_context += slot->computed;
        }
    }
}

static void push_layer(void *context, int32_t layer)
{
    pr_worker *worker = context;
    if (worker->push_status == PR_OK)
        worker->push_status = pr_kv_transfer_push_layer(worker->params.transfer, layer);
}

// plan is NULL in the steps after the first of a plan.
static pr_status compose_step(pr_worker *worker, const pr_plan *plan)
{
    worker->token_reports = worker->chunk_reports = 0;
    worker->work = (pr_step_work){0};
    pr_prompt_scorer_begin(worker->scorer);
    worker->batch = (pr_forward_batch){
        .token = worker->token,
        .position = worker->position,
        .segment = worker->segment,
        .output_row = worker->output_row,
        .layer_done = pr_kv_transfer_pending(worker->params.transfer) > 0 ? push_layer : NULL,
        .context = worker,
    };
    add_decodes(worker);
    for (int32_t i = 0; plan && i < plan->chunks; i++)
        PR_TRY(add_chunk(worker, &plan->chunk[i]));
    return PR_OK;
}

// ---- After the forward ----

static void set_mask(const pr_slot *slot, pr_sampler_args *args)
{
    pr_constraint_mask mask;
    pr_constraint_find_mask(slot->constraint, &mask);
    args->allowed = mask.allowed;
    args->must_stop = !mask.any;
    args->may_stop = mask.may_end || !mask.any;
}

static void prepare_draw(pr_worker *worker, int32_t output, float *logits)
{
    const pr_slot *slot = worker->output_owner[output];
    const pr_request *request = slot->request;
    pr_sampler_args *args = &worker->draw[output];
    *args = (pr_sampler_args){
        .sampling = &request->sampling,
        .prompt = request->prompt,
        .prompt_tokens = request->prompt_tokens,
        .output = slot->token + request->prompt_tokens,
        .outputs = slot->total - request->prompt_tokens,
        .logits = logits,
    };
    if (slot->constraint)
        set_mask(slot, args);
}

static void draw_free_row(void *context, int64_t i, int32_t thread)
{
    pr_worker *worker = context;
    int32_t output = worker->free_output[i];
    pr_sampler_draw(worker->sampler[thread], &worker->draw[output], &worker->sampled[output]);
}

static void report_draw(pr_worker *worker, int32_t output)
{
    pr_slot *slot = worker->output_owner[output];
    const pr_request *request = slot->request;
    const pr_sampled *sampled = &worker->sampled[output];
    int32_t index = worker->draw[output].outputs;
    pr_finish finish = pr_slot_keep_sampled(slot, index, sampled->token);
    worker->token_report[worker->token_reports++] = (pr_token_report){
        .id = request->id,
        .generation = slot->generation,
        .index = index,
        .token = sampled->token,
        .finish = finish,
        .logprob = sampled->logprob,
        .tops = sampled->tops,
        .top = sampled->top,
    };
    if (finish != PR_FINISH_NONE)
        pr_slot_release(slot);
}

// Draws are independent of each other: their threads do not change a byte. A mask lives until the next
// one is found, so rows with a grammar are drawn one by one.
static void sample(pr_worker *worker, float *logits)
{
    int32_t outputs = worker->batch.outputs, free_outputs = 0;
    for (int32_t i = 0; i < outputs; i++) {
        prepare_draw(worker, i, logits + (size_t)i * (size_t)worker->params.model->vocabulary);
        if (worker->output_owner[i]->constraint)
            pr_sampler_draw(worker->sampler[0], &worker->draw[i], &worker->sampled[i]);
        else
            worker->free_output[free_outputs++] = i;
    }
    device_of(worker)->share(device_of(worker), draw_free_row, worker, free_outputs);
    for (int32_t i = 0; i < outputs; i++)
        report_draw(worker, i);
}

// After the outputs are sampled: it takes the memory of their logits.
static pr_status score_prompts(pr_worker *worker)
{
    for (;;) {
        pr_report report = {.plan = worker->plan_number};
        PR_TRY(
            pr_prompt_scorer_next(worker->scorer, &report.prompt_logprobs, &report.prompt_logprob));
        if (report.prompt_logprobs == 0)
            return PR_OK;
        if (is_lane_leader(worker))
            PR_TRY(send_report(worker, &report));
    }
}

static pr_status run_step(pr_worker *worker, const pr_plan *plan)
{
    int64_t begin_ns = pr_clock_now_ns();
    float *logits;
    PR_TRY(compose_step(worker, plan));
    PR_TRY(pr_forward_run(worker->forward, &worker->batch, &logits));
    PR_TRY(worker->push_status);
    sample(worker, logits);
    PR_TRY(score_prompts(worker));
    worker->counts.steps++;
    worker->counts.rows += worker->batch.tokens;
    worker->counts.step_ns += pr_clock_now_ns() - begin_ns;
    return PR_OK;
}

static bool has_decodes(const pr_worker *worker)
{
    const pr_slots *slots = worker->slots;
    for (int32_t i = 0; i < slots->slots; i++) {
        if (pr_slot_decodes(&slots->slot[i], slots->block_tokens))
            return true;
    }
    return false;
}

// What the ranks of the group do after a step: the largest of these wins on all. Only the leader says
// that there is a newer plan or a stop; the others have it already or get it soon.
static pr_status agree(pr_worker *worker, bool may_continue, bool *more)
{
    int64_t done = (int64_t)worker->plan_number * 2, another_step = done + 1, next_plan = done + 2;
    int64_t value = may_continue && has_decodes(worker) ? another_step : done;
    bool leads = worker->params.parallel->rank == 0;
    if (leads && worker->queued > 0)
        value = next_plan;
    if (leads && worker->stop)
        value = INT64_MAX;
    PR_TRY(pr_group_agree(worker->params.group, &value, worker->params.timeout_ms));
    worker->left = value == INT64_MAX;
    *more = value == another_step;
    return PR_OK;
}

static pr_status report_step(pr_worker *worker, int32_t step, int64_t step_ns, bool finished)
{
    bool silent = worker->token_reports == 0 && worker->chunk_reports == 0 && !finished;
    if (!is_lane_leader(worker) || silent)
        return PR_OK;
    pr_report report = {
        .plan = worker->plan_number,
        .step = (uint32_t)step,
        .plan_finished = finished,
        .step_ns = step_ns,
        .work = worker->work,
        .tokens = worker->token_reports,
        .token = worker->token_report,
        .chunks = worker->chunk_reports,
        .chunk = worker->chunk_report,
    };
    return send_report(worker, &report);
}

static pr_status run_plan(pr_worker *worker, const pr_plan *plan)
{
    PR_TRY(apply_plan(worker, plan));
    worker->token_reports = worker->chunk_reports = 0;
    worker->work = (pr_step_work){0};
    if (plan->max_steps == 0)
        return report_step(worker, 0, 0, true);
    bool more = true;
    for (int32_t step = 0; more; step++) {
        int64_t begin_ns = pr_clock_now_ns();
        pr_watch_step(plan->number, step);
        pr_watch_begin("begin of the step", -1);
        PR_TRY(run_step(worker, step == 0 ? plan : NULL));
        PR_TRY(progress_transfers(worker));
        PR_TRY(take_waiting_messages(worker));
        PR_TRY(agree(worker, step + 1 < plan->max_steps, &more));
        PR_TRY(report_step(worker, step, pr_clock_now_ns() - begin_ns, !more));
    }
    return PR_OK;
}

// ---- The loop ----

// Sleeps until the next plan or the stop; looks after transfers while there are any.
static pr_status wait_for_plan(pr_worker *worker)
{
    while (!worker->stop && !worker->broken && worker->order.kind == PR_RECOVER_NONE &&
           (worker->queued == 0 || worker->left)) {
        PR_TRY(progress_transfers(worker));
        pr_watch_idle();
        bool moving = pr_kv_transfer_pending(worker->params.transfer) > 0;
        pr_message message;
        PR_TRY(pr_control_receive(worker->params.control, moving ? 1 : -1, &message));
        PR_TRY(take_message(worker, &message));
    }
    return PR_OK;
}

static pr_status send_counts(pr_worker *worker)
{
    pr_comm_counts comm = {0};
    pr_comm_parallel_count(worker->params.parallel, &comm);
    worker->counts.reduce_bytes = comm.reduce_bytes;
    worker->counts.gather_bytes = comm.gather_bytes;
    worker->counts.dispatch_bytes = comm.dispatch_bytes;
    worker->counts.combine_bytes = comm.combine_bytes;
    worker->counts.transfer_bytes = pr_kv_transfer_sent_bytes(worker->params.transfer);
    return send_to_controller(worker, PR_MESSAGE_COUNTS, &worker->counts, sizeof worker->counts);
}

// Until the stop, an order, or until the group is broken.
static pr_status run_plans(pr_worker *worker)
{
    for (;;) {
        PR_TRY(wait_for_plan(worker));
        if (worker->broken || worker->queued == 0 || worker->left)
            return PR_OK;
        pr_plan *plan = worker->queue[0];
        worker->queued--;
        memmove(&worker->queue[0], &worker->queue[1], (size_t)worker->queued * sizeof(pr_plan *));
        worker->plan_number = plan->number;
        pr_status status = run_plan(worker, plan);
        pr_plan_free(plan);
        PR_TRY(status);
    }
}

static bool is_in_vain(void *context)
{
    pr_worker *worker = context;
    return take_waiting_messages(worker) != PR_OK || worker->broken;
}

// After an error, which may come before the controller's word: is a rank of the group lost?
static bool await_order(pr_worker *worker)
{
    int64_t end_ns = pr_clock_now_ns() + (int64_t)ORDER_WAIT_MS * 1000000;
    while (worker->params.recovers && !worker->broken && !worker->orphaned &&
           pr_clock_now_ns() < end_ns) {
        pr_message message;
        if (pr_control_receive(worker->params.control, 10, &message) != PR_OK ||
            take_message(worker, &message) != PR_OK)
            return false;
    }
    return worker->broken;
}

static pr_status stand_by(pr_worker *worker)
{
    pr_group_abandon(worker->params.group);
    while (worker->queued > 0)
        pr_plan_free(worker->queue[--worker->queued]);
    pr_slots_release_all(worker->slots);
    pr_watch_idle();
    while (!worker->stop && !worker->orphaned && worker->order.kind == PR_RECOVER_NONE) {
        pr_message message;
        PR_TRY(pr_control_receive(worker->params.control, -1, &message));
        PR_TRY(take_message(worker, &message));
    }
    return PR_OK;
}

static pr_status run_until_stopped(pr_worker *worker)
{
    pr_status status = run_plans(worker);
    if (worker->broken || (status != PR_OK && await_order(worker)))
        status = stand_by(worker);
    if (worker->orphaned)
        return lose_controller(worker);
    bool stopped = status == PR_OK && worker->order.kind == PR_RECOVER_NONE;
    return stopped ? send_counts(worker) : status;
}

bool pr_worker_is_broken(const pr_worker *worker) { return worker->broken; }

pr_status pr_worker_run(pr_worker *worker, pr_recover_order *order)
{
    worker->order.kind = PR_RECOVER_NONE;
    pr_recovery_ask(worker->params.recovers ? is_in_vain : NULL, worker);
    pr_status status = run_until_stopped(worker);
    pr_recovery_ask(NULL, NULL);
    *order = worker->order;
    if (status != PR_OK && !worker->orphaned) {
        const char *text = pr_error_text();
        pr_status told =
            pr_control_send(worker->params.control, 0, PR_MESSAGE_FAULT, text, strlen(text) + 1);
        (void)told;  // the status that matters is already known
    }
    return status;
}
