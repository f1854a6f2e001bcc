// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/virtual/null_group.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

enum { PLANS_AHEAD = 4 };

typedef struct null_sequence {
    bool used;
    uint64_t id;
    uint32_t generation;
    int64_t request;  // of the load
    int32_t lane, prompt_tokens, max_tokens;
    int32_t total, computed, blocks;
    bool prefilled, hands_over, samples;
} null_sequence;

typedef struct null_arrival {
    int32_t lane, boundaries;
    pr_arrival_report report;
} null_arrival;

struct pr_null_group {
    pr_scheduler_params params;
    int32_t number, lanes, tp, seats;  // seats of all lanes
    const pr_virtual_load *load;
    pr_null_group_face face;
    null_sequence *sequence;  // [seats]
    pr_plan *queue[PLANS_AHEAD];
    int32_t queued;
    pr_plan *plan;  // the running one, or NULL
    uint64_t number_of_plan;
    int32_t step;
    pr_step_work *work;     // [lanes]
    null_arrival *arrival;  // not yet told
    int32_t arrivals, arrival_room;
    pr_token_report *token;  // [seats]
    pr_chunk_report *chunk;  // [seats]
};

pr_status pr_null_group_create(
    const pr_scheduler_params *params,
    int32_t number,
    const pr_virtual_load *load,
    const pr_null_group_face *face,
    pr_null_group **group)
{
    pr_null_group *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a group");
    made->params = *params;
    made->number = number;
    made->lanes = pr_layout_lanes(params->layout, number);
    made->tp = params->layout->group[number].tp;
    made->seats = made->lanes * params->max_num_seqs;
    made->load = load;
    made->face = *face;
    made->sequence = calloc((size_t)made->seats, sizeof *made->sequence);
    made->work = calloc((size_t)made->lanes, sizeof *made->work);
    made->token = calloc((size_t)made->seats, sizeof *made->token);
    made->chunk = calloc((size_t)made->seats, sizeof *made->chunk);
    if (!made->sequence || !made->work || !made->token || !made->chunk) {
        pr_null_group_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for a group of %d seats", (int)made->seats);
    }
    *group = made;
    return PR_OK;
}

void pr_null_group_destroy(pr_null_group *group)
{
    if (!group)
        return;
    for (int32_t i = 0; i < group->queued; i++)
        pr_plan_free(group->queue[i]);
    pr_plan_free(group->plan);
    free(group->sequence);
    free(group->work);
    free(group->arrival);
    free(group->token);
    free(group->chunk);
    free(group);
}

pr_status pr_null_group_plan(pr_null_group *group, pr_plan *plan)
{
    if (group->queued == PLANS_AHEAD)
        return pr_fail(PR_ERR_INTERNAL, "more plans ahead than a worker takes");
    group->queue[group->queued++] = plan;
    return PR_OK;
}

// ---- Applying a plan ----

static null_sequence *find(pr_null_group *group, uint64_t id)
{
    for (int32_t i = 0; i < group->seats; i++) {
        if (group->sequence[i].used && group->sequence[i].id == id)
            return &group->sequence[i];
    }
    return NULL;
}

static pr_status admit(pr_null_group *group, const pr_admission *admission)
{
    const pr_request *request = admission->request;
    int32_t seat = 0;
    while (seat < group->seats && group->sequence[seat].used)
        seat++;
    int64_t number = pr_virtual_load_find(group->load, request->id);
    if (seat == group->seats || number < 0)
        return pr_fail(
            PR_ERR_INTERNAL, "request %llu does not fit the group",
            (unsigned long long)request->id);
    int32_t total = request->prompt_tokens + admission->outputs;
    group->sequence[seat] = (null_sequence){
        .used = true,
        .id = request->id,
        .generation = admission->generation,
        .request = number,
        .lane = admission->lane,
        .prompt_tokens = request->prompt_tokens,
        .max_tokens = request->sampling.max_tokens,
        .total = total,
        .computed = admission->arrives ? total : admission->computed,
        .blocks = admission->blocks,
        .hands_over = admission->hands_over,
    };
    return PR_OK;
}

static pr_status apply_plan(pr_null_group *group)
{
    const pr_plan *plan = group->plan;
    for (int32_t i = 0; i < plan->drops; i++) {
        null_sequence *sequence = find(group, plan->drop[i].id);
        if (sequence && sequence->generation == plan->drop[i].generation)
            sequence->used = false;
    }
    for (int32_t i = 0; i < plan->admissions; i++)
        PR_TRY(admit(group, &plan->admission[i]));
    for (int32_t i = 0; i < plan->grants; i++) {
        null_sequence *sequence = find(group, plan->grant[i].id);
        if (sequence)
            sequence->blocks += plan->grant[i].blocks;
    }
    for (int32_t i = 0; i < plan->starts; i++) {
        null_sequence *sequence = find(group, plan->start[i].id);
        if (!sequence)
            continue;
        sequence->total++;
        sequence->prefilled = true;
    }
    for (int32_t i = 0; i < plan->handovers; i++) {
        if (plan->handover[i].to_group == group->number)
            PR_TRY(group->face.expects(group->face.context, &plan->handover[i]));
    }
    return PR_OK;
}

// ---- A step ----

static bool decodes(const pr_null_group *group, const null_sequence *sequence)
{
    return sequence->used && sequence->prefilled && !sequence->hands_over &&
           sequence->computed == sequence->total - 1 &&
           sequence->total <= sequence->blocks * group->params.block_tokens;
}

static bool has_decodes(const pr_null_group *group)
{
    for (int32_t i = 0; i < group->seats; i++) {
        if (decodes(group, &group->sequence[i]))
            return true;
    }
    return false;
}

static void compose_decodes(pr_null_group *group)
{
    for (int32_t i = 0; i < group->seats; i++) {
        null_sequence *sequence = &group->sequence[i];
        pr_step_work *work = &group->work[sequence->lane];
        sequence->samples = decodes(group, sequence) &&
                            work->decode_sequences < group->params.max_num_batched_tokens;
        if (!sequence->samples)
            continue;
        sequence->computed++;
        work->decode_sequences++;
        work->decode_context += sequence->computed;
    }
}

static pr_status compose_chunks(pr_null_group *group)
{
    for (int32_t i = 0; i < group->plan->chunks; i++) {
        const pr_chunk *chunk = &group->plan->chunk[i];
        null_sequence *sequence = find(group, chunk->id);
        if (!sequence || sequence->computed != chunk->start ||
            chunk->start + chunk->count > sequence->total)
            return pr_fail(
                PR_ERR_INTERNAL, "chunk [%d, %d) of request %llu does not follow", chunk->start,
                chunk->start + chunk->count, (unsigned long long)chunk->id);
        pr_step_work *work = &group->work[sequence->lane];
        int64_t rows = chunk->count;
        work->prefill_rows += chunk->count;
        work->prefill_pairs += rows * chunk->start + rows * (rows + 1) / 2;
        sequence->computed += chunk->count;
        sequence->samples = sequence->computed == sequence->total;
        sequence->prefilled = sequence->prefilled || sequence->samples;
    }
    return PR_OK;
}

static pr_step_work longest(const pr_null_group *group)
{
    pr_step_work most = {0};
    for (int32_t l = 0; l < group->lanes; l++) {
        const pr_step_work *work = &group->work[l];
        if (work->prefill_rows > most.prefill_rows)
            most.prefill_rows = work->prefill_rows;
        if (work->prefill_pairs > most.prefill_pairs)
            most.prefill_pairs = work->prefill_pairs;
        if (work->decode_sequences > most.decode_sequences)
            most.decode_sequences = work->decode_sequences;
        if (work->decode_context > most.decode_context)
            most.decode_context = work->decode_context;
    }
    return most;
}

static void end_plan(pr_null_group *group)
{
    pr_plan_free(group->plan);
    group->plan = NULL;
}

static pr_status report_empty_plan(pr_null_group *group)
{
    for (int32_t l = 0; l < group->lanes; l++) {
        pr_report report = {
            .plan = group->number_of_plan,
            .group = group->number,
            .lane = l,
            .plan_finished = true,
        };
        PR_TRY(group->face.report(group->face.context, &report));
    }
    end_plan(group);
    return PR_OK;
}

// Plans without a step are done with on the way.
static pr_status take_plan(pr_null_group *group)
{
    while (!group->plan && group->queued > 0) {
        group->plan = group->queue[0];
        group->queued--;
        memmove(group->queue, group->queue + 1, (size_t)group->queued * sizeof(pr_plan *));
        group->number_of_plan = group->plan->number;
        group->step = 0;
        PR_TRY(apply_plan(group));
        if (group->plan->max_steps == 0)
            PR_TRY(report_empty_plan(group));
    }
    return PR_OK;
}

static pr_status tell_arrivals(pr_null_group *group, bool idle)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < group->arrivals; i++) {
        if (--group->arrival[i].boundaries > 0 && !idle) {
            group->arrival[kept++] = group->arrival[i];
            continue;
        }
        pr_report report = {
            .plan = group->number_of_plan,
            .group = group->number,
            .lane = group->arrival[i].lane,
            .arrivals = 1,
            .arrival = &group->arrival[i].report,
        };
        for (int32_t rank = 0; rank < group->tp; rank++)
            PR_TRY(group->face.report(group->face.context, &report));
    }
    group->arrivals = kept;
    return PR_OK;
}

pr_status pr_null_group_begin(pr_null_group *group, bool *steps, pr_step_work *work)
{
    PR_TRY(take_plan(group));
    *steps = group->plan != NULL;
    if (!*steps)
        return tell_arrivals(group, true);
    memset(group->work, 0, (size_t)group->lanes * sizeof *group->work);
    compose_decodes(group);
    if (group->step == 0)
        PR_TRY(compose_chunks(group));
    *work = longest(group);
    return PR_OK;
}

// ---- After a step ----

static pr_finish finish_of(const pr_null_group *group, const null_sequence *sequence, int32_t index)
{
    const pr_virtual_request *request = &group->load->request[sequence->request];
    if (request->finish != PR_FINISH_NONE && index + 1 == request->outputs)
        return request->finish;
    if (index + 1 >= sequence->max_tokens)
        return PR_FINISH_LENGTH;
    return sequence->hands_over ? PR_FINISH_HANDED : PR_FINISH_NONE;
}

static pr_token_report sample(const pr_null_group *group, null_sequence *sequence)
{
    int32_t index = sequence->total - sequence->prompt_tokens;
    pr_finish finish = finish_of(group, sequence, index);
    if (finish == PR_FINISH_NONE)
        sequence->total++;
    else
        sequence->used = false;
    sequence->samples = false;
    return (pr_token_report){
        .id = sequence->id,
        .generation = sequence->generation,
        .index = index,
        .token = pr_virtual_load_token(&group->load->request[sequence->request], index),
        .finish = finish,
    };
}

static int32_t chunks_done(pr_null_group *group, int32_t lane)
{
    int32_t chunks = 0;
    for (int32_t i = 0; group->step == 0 && i < group->plan->chunks; i++) {
        const null_sequence *sequence = find(group, group->plan->chunk[i].id);
        if (sequence && sequence->lane == lane)  // NULL: one of a lane before, ended
            group->chunk[chunks++] =
                (pr_chunk_report){sequence->id, sequence->generation, sequence->computed};
    }
    return chunks;
}

static pr_status report_lane(pr_null_group *group, int32_t lane, int64_t step_ns, bool finished)
{
    pr_report report = {
        .plan = group->number_of_plan,
        .step = (uint32_t)group->step,
        .group = group->number,
        .lane = lane,
        .plan_finished = finished,
        .step_ns = step_ns,
        .work = group->work[lane],
        .chunks = chunks_done(group, lane),
        .chunk = group->chunk,
        .token = group->token,
    };
    for (int32_t i = 0; i < group->seats; i++) {
        if (group->sequence[i].samples && group->sequence[i].lane == lane)
            group->token[report.tokens++] = sample(group, &group->sequence[i]);
    }
    if (report.tokens == 0 && report.chunks == 0 && !finished)
        return PR_OK;
    return group->face.report(group->face.context, &report);
}

static bool may_continue(const pr_null_group *group)
{
    if (group->step + 1 >= group->plan->max_steps || group->queued > 0)
        return false;
    // What has sampled goes on unless this token was its last.
    for (int32_t i = 0; i < group->seats; i++) {
        const null_sequence *sequence = &group->sequence[i];
        if (!sequence->used || !sequence->samples)
            continue;
        int32_t index = sequence->total - sequence->prompt_tokens;
        if (finish_of(group, sequence, index) == PR_FINISH_NONE &&
            sequence->total + 1 <= sequence->blocks * group->params.block_tokens)
            return true;
    }
    return has_decodes(group);
}

pr_status pr_null_group_end(pr_null_group *group, int64_t step_ns)
{
    bool more = may_continue(group);
    PR_TRY(tell_arrivals(group, false));
    for (int32_t i = 0; group->step == 0 && i < group->plan->handovers; i++) {
        if (group->plan->handover[i].from_group == group->number)
            PR_TRY(group->face.sent(group->face.context, &group->plan->handover[i]));
    }
    for (int32_t l = 0; l < group->lanes; l++)
        PR_TRY(report_lane(group, l, step_ns, !more));
    group->step++;
    if (!more)
        end_plan(group);
    return PR_OK;
}

pr_status
pr_null_group_arrival(pr_null_group *group, const pr_handover *handover, int32_t boundaries)
{
    if (group->arrivals == group->arrival_room) {
        int32_t room = group->arrival_room * 2 + 16;
        null_arrival *grown = realloc(group->arrival, (size_t)room * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for %d arrivals", (int)room);
        group->arrival = grown;
        group->arrival_room = room;
    }
    group->arrival[group->arrivals++] = (null_arrival){
        .lane = handover->to_lane,
        .boundaries = boundaries,
        .report = {handover->id, handover->generation, true},
    };
    return group->plan ? PR_OK : tell_arrivals(group, true);
}
