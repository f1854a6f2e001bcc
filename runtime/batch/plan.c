// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/batch/plan.h"

#include <stdlib.h>

#include "runtime/batch/wire.h"

// Least bytes of one element on the wire: a count beyond what is left is refused before its loop.
enum {
    DROP_BYTES = 12,
    COPY_BYTES = 12,
    ADMISSION_BYTES = 124,
    GRANT_BYTES = 12,
    START_BYTES = 16,
    HANDOVER_BYTES = 41,
    CHUNK_BYTES = 16,
    BIAS_BYTES = 8,
    INDEX_BYTES = 4,
};

static void put_sampling(pr_wire_writer *writer, const pr_sampling *sampling)
{
    pr_wire_put_f32(writer, sampling->temperature);
    pr_wire_put_f32(writer, sampling->top_p);
    pr_wire_put_f32(writer, sampling->min_p);
    pr_wire_put_i32(writer, sampling->top_k);
    pr_wire_put_f32(writer, sampling->repetition_penalty);
    pr_wire_put_f32(writer, sampling->presence_penalty);
    pr_wire_put_f32(writer, sampling->frequency_penalty);
    pr_wire_put_u64(writer, sampling->seed);
    pr_wire_put_i32(writer, sampling->choice);
    pr_wire_put_i32(writer, sampling->max_tokens);
    pr_wire_put_i32(writer, sampling->min_tokens);
    pr_wire_put_u8(writer, sampling->ignore_eos);
    pr_wire_put_i32(writer, sampling->top_logprobs);
    pr_wire_put_i32(writer, sampling->prompt_logprobs);
    pr_wire_put_i32(writer, sampling->stop_tokens);
    pr_wire_put_i32s(writer, sampling->stop_token, sampling->stop_tokens);
    pr_wire_put_i32(writer, sampling->biases);
    for (int32_t i = 0; i < sampling->biases; i++) {
        pr_wire_put_i32(writer, sampling->bias[i].token);
        pr_wire_put_f32(writer, sampling->bias[i].bias);
    }
    pr_wire_put_u8(writer, (uint8_t)sampling->grammar.kind);
    pr_wire_put_i32(writer, sampling->grammar.size_bytes);
    pr_wire_put_bytes(writer, sampling->grammar.text, sampling->grammar.size_bytes);
}

static void get_stop_tokens(pr_wire_reader *reader, pr_sampling *sampling)
{
    sampling->stop_tokens = pr_wire_get_count(reader, INDEX_BYTES);
    pr_wire_require(reader, sampling->stop_tokens <= PR_MAX_STOP_TOKENS, "too many stop tokens");
    if (reader->fault)
        sampling->stop_tokens = 0;
    for (int32_t i = 0; i < sampling->stop_tokens; i++)
        sampling->stop_token[i] = pr_wire_get_index(reader);
}

static void get_biases(pr_wire_reader *reader, pr_sampling *sampling)
{
    int32_t previous = -1;
    sampling->biases = pr_wire_get_count(reader, BIAS_BYTES);
    pr_wire_require(reader, sampling->biases <= PR_MAX_LOGIT_BIAS, "too many logit biases");
    sampling->bias = pr_wire_take(reader, sampling->biases, sizeof *sampling->bias);
    for (int32_t i = 0; i < sampling->biases && !reader->fault; i++) {
        pr_logit_bias bias = {.token = pr_wire_get_index(reader)};
        bias.bias = pr_wire_get_finite(reader);
        pr_wire_require(reader, bias.token > previous, "logit biases are not in token order");
        previous = bias.token;
        if (sampling->bias)
            sampling->bias[i] = bias;
    }
}

// How many most likely tokens beside each; -1: no logprobs.
static int32_t get_tops(pr_wire_reader *reader)
{
    int32_t tops = pr_wire_get_i32(reader);
    pr_wire_require(
        reader, tops >= -1 && tops <= PR_MAX_TOP_LOGPROBS, "a number of logprobs is out of bounds");
    return tops;
}

static void get_grammar(pr_wire_reader *reader, pr_grammar_source *grammar)
{
    uint8_t kind = pr_wire_get_u8(reader);
    int32_t size_bytes = pr_wire_get_count(reader, 1);
    bool has_text = kind != PR_GRAMMAR_NONE && kind != PR_GRAMMAR_JSON_OBJECT;
    pr_wire_require(reader, kind < PR_GRAMMAR_KINDS, "an unknown kind of grammar");
    pr_wire_require(reader, has_text || size_bytes == 0, "a grammar's text without a use");
    pr_wire_require(reader, size_bytes <= PR_GRAMMAR_MAX_TEXT_BYTES, "a grammar is too long");
    *grammar = (pr_grammar_source){.kind = (pr_grammar_kind)kind, .size_bytes = size_bytes};
    grammar->text = pr_wire_get_bytes(reader, size_bytes);
}

static void get_sampling(pr_wire_reader *reader, pr_sampling *sampling)
{
    *sampling = (pr_sampling){.temperature = pr_wire_get_finite(reader)};
    sampling->top_p = pr_wire_get_finite(reader);
    sampling->min_p = pr_wire_get_finite(reader);
    sampling->top_k = pr_wire_get_i32(reader);
    sampling->repetition_penalty = pr_wire_get_finite(reader);
    sampling->presence_penalty = pr_wire_get_finite(reader);
    sampling->frequency_penalty = pr_wire_get_finite(reader);
    sampling->seed = pr_wire_get_u64(reader);
    sampling->choice = pr_wire_get_index(reader);
    sampling->max_tokens = pr_wire_get_index(reader);
    sampling->min_tokens = pr_wire_get_index(reader);
    sampling->ignore_eos = pr_wire_get_bool(reader);
    sampling->top_logprobs = get_tops(reader);
    sampling->prompt_logprobs = get_tops(reader);
    get_stop_tokens(reader, sampling);
    get_biases(reader, sampling);
    get_grammar(reader, &sampling->grammar);
}

static void put_request(pr_wire_writer *writer, const pr_request *request)
{
    pr_wire_put_u64(writer, request->id);
    pr_wire_put_i32(writer, request->priority);
    pr_wire_put_u64(writer, request->salt);
    pr_wire_put_u64(writer, request->sibling_of);
    pr_wire_put_i32(writer, request->prompt_tokens);
    pr_wire_put_i32s(writer, request->prompt, request->prompt_tokens);
    put_sampling(writer, &request->sampling);
}

static void get_request(pr_wire_reader *reader, pr_request *request)
{
    *request = (pr_request){.id = pr_wire_get_u64(reader)};
    request->priority = pr_wire_get_i32(reader);
    request->salt = pr_wire_get_u64(reader);
    request->sibling_of = pr_wire_get_u64(reader);
    request->prompt_tokens = pr_wire_get_count(reader, INDEX_BYTES);
    request->prompt = pr_wire_get_indices(reader, request->prompt_tokens);
    get_sampling(reader, &request->sampling);
}

static void put_admission(pr_wire_writer *writer, const pr_admission *admission)
{
    put_request(writer, admission->request);
    pr_wire_put_u32(writer, admission->generation);
    pr_wire_put_i32(writer, admission->lane);
    pr_wire_put_i32(writer, admission->outputs);
    pr_wire_put_i32s(writer, admission->output, admission->outputs);
    pr_wire_put_i32(writer, admission->computed);
    pr_wire_put_i32(writer, admission->blocks);
    pr_wire_put_i32s(writer, admission->block, admission->blocks);
    pr_wire_put_u8(writer, admission->arrives);
    pr_wire_put_u8(writer, admission->hands_over);
}

static pr_admission get_admission(pr_wire_reader *reader)
{
    pr_request request, *kept = pr_wire_take(reader, 1, sizeof *kept);
    get_request(reader, &request);
    if (kept)
        *kept = request;
    pr_admission admission = {.request = kept, .generation = pr_wire_get_u32(reader)};
    admission.lane = pr_wire_get_index(reader);
    admission.outputs = pr_wire_get_count(reader, INDEX_BYTES);
    pr_wire_require(
        reader, admission.outputs <= INT32_MAX - request.prompt_tokens, "a sequence is too long");
    admission.output = pr_wire_get_indices(reader, admission.outputs);
    admission.computed = pr_wire_get_index(reader);
    pr_wire_require(
        reader, (int64_t)admission.computed <= (int64_t)request.prompt_tokens + admission.outputs,
        "more tokens are computed than there are");
    admission.blocks = pr_wire_get_count(reader, INDEX_BYTES);
    admission.block = pr_wire_get_indices(reader, admission.blocks);
    admission.arrives = pr_wire_get_bool(reader);
    admission.hands_over = pr_wire_get_bool(reader);
    return admission;
}

static void put_handover(pr_wire_writer *writer, const pr_handover *handover)
{
    pr_wire_put_u64(writer, handover->id);
    pr_wire_put_u32(writer, handover->generation);
    pr_wire_put_i32(writer, handover->tag);
    pr_wire_put_i32(writer, handover->from_group);
    pr_wire_put_i32(writer, handover->from_lane);
    pr_wire_put_i32(writer, handover->to_group);
    pr_wire_put_i32(writer, handover->to_lane);
    pr_wire_put_i32(writer, handover->first_block);
    pr_wire_put_u8(writer, handover->gather);
    pr_wire_put_i32(writer, handover->blocks);
    pr_wire_put_i32s(writer, handover->from_block, handover->blocks);
    pr_wire_put_i32s(writer, handover->to_block, handover->blocks);
}

static pr_handover get_handover(pr_wire_reader *reader)
{
    pr_handover handover = {.id = pr_wire_get_u64(reader)};
    handover.generation = pr_wire_get_u32(reader);
    handover.tag = pr_wire_get_index(reader);
    pr_wire_require(reader, handover.tag <= INT16_MAX, "a handover's tag is out of bounds");
    handover.from_group = pr_wire_get_index(reader);
    handover.from_lane = pr_wire_get_index(reader);
    handover.to_group = pr_wire_get_index(reader);
    handover.to_lane = pr_wire_get_index(reader);
    handover.first_block = pr_wire_get_index(reader);
    handover.gather = pr_wire_get_bool(reader);
    handover.blocks = pr_wire_get_count(reader, INDEX_BYTES + INDEX_BYTES);
    pr_wire_require(
        reader, handover.blocks <= INT32_MAX - handover.first_block, "a handover is too long");
    handover.from_block = pr_wire_get_indices(reader, handover.blocks);
    handover.to_block = pr_wire_get_indices(reader, handover.blocks);
    return handover;
}

static void put_plan(pr_wire_writer *writer, const void *record)
{
    const pr_plan *plan = record;
    pr_wire_put_u64(writer, plan->number);
    pr_wire_put_i32(writer, plan->group);
    pr_wire_put_i32(writer, plan->max_steps);
    pr_wire_put_i32(writer, plan->drops);
    for (int32_t i = 0; i < plan->drops; i++) {
        pr_wire_put_u64(writer, plan->drop[i].id);
        pr_wire_put_u32(writer, plan->drop[i].generation);
    }
    pr_wire_put_i32(writer, plan->copies);
    for (int32_t i = 0; i < plan->copies; i++) {
        pr_wire_put_i32(writer, plan->copy[i].lane);
        pr_wire_put_i32(writer, plan->copy[i].from);
        pr_wire_put_i32(writer, plan->copy[i].to);
    }
    pr_wire_put_i32(writer, plan->admissions);
    for (int32_t i = 0; i < plan->admissions; i++)
        put_admission(writer, &plan->admission[i]);
    pr_wire_put_i32(writer, plan->grants);
    for (int32_t i = 0; i < plan->grants; i++) {
        pr_wire_put_u64(writer, plan->grant[i].id);
        pr_wire_put_i32(writer, plan->grant[i].blocks);
        pr_wire_put_i32s(writer, plan->grant[i].block, plan->grant[i].blocks);
    }
    pr_wire_put_i32(writer, plan->starts);
    for (int32_t i = 0; i < plan->starts; i++) {
        pr_wire_put_u64(writer, plan->start[i].id);
        pr_wire_put_i32(writer, plan->start[i].index);
        pr_wire_put_i32(writer, plan->start[i].token);
    }
    pr_wire_put_i32(writer, plan->handovers);
    for (int32_t i = 0; i < plan->handovers; i++)
        put_handover(writer, &plan->handover[i]);
    pr_wire_put_i32(writer, plan->chunks);
    for (int32_t i = 0; i < plan->chunks; i++) {
        pr_wire_put_u64(writer, plan->chunk[i].id);
        pr_wire_put_i32(writer, plan->chunk[i].start);
        pr_wire_put_i32(writer, plan->chunk[i].count);
    }
}

static void get_drops(pr_wire_reader *reader, pr_plan *plan)
{
    plan->drops = pr_wire_get_count(reader, DROP_BYTES);
    pr_drop *drop = pr_wire_take(reader, plan->drops, sizeof *drop);
    plan->drop = drop;
    for (int32_t i = 0; i < plan->drops && !reader->fault; i++) {
        pr_drop each = {.id = pr_wire_get_u64(reader)};
        each.generation = pr_wire_get_u32(reader);
        if (drop)
            drop[i] = each;
    }
}

static void get_copies(pr_wire_reader *reader, pr_plan *plan)
{
    plan->copies = pr_wire_get_count(reader, COPY_BYTES);
    pr_copy *copy = pr_wire_take(reader, plan->copies, sizeof *copy);
    plan->copy = copy;
    for (int32_t i = 0; i < plan->copies && !reader->fault; i++) {
        pr_copy each = {.lane = pr_wire_get_index(reader)};
        each.from = pr_wire_get_index(reader);
        each.to = pr_wire_get_index(reader);
        if (copy)
            copy[i] = each;
    }
}

static void get_admissions(pr_wire_reader *reader, pr_plan *plan)
{
    plan->admissions = pr_wire_get_count(reader, ADMISSION_BYTES);
    pr_admission *admission = pr_wire_take(reader, plan->admissions, sizeof *admission);
    plan->admission = admission;
    for (int32_t i = 0; i < plan->admissions && !reader->fault; i++) {
        pr_admission each = get_admission(reader);
        if (admission)
            admission[i] = each;
    }
}

static void get_grants(pr_wire_reader *reader, pr_plan *plan)
{
    plan->grants = pr_wire_get_count(reader, GRANT_BYTES);
    pr_grant *grant = pr_wire_take(reader, plan->grants, sizeof *grant);
    plan->grant = grant;
    for (int32_t i = 0; i < plan->grants && !reader->fault; i++) {
        pr_grant each = {.id = pr_wire_get_u64(reader)};
        each.blocks = pr_wire_get_count(reader, INDEX_BYTES);
        each.block = pr_wire_get_indices(reader, each.blocks);
        if (grant)
            grant[i] = each;
    }
}

static void get_starts(pr_wire_reader *reader, pr_plan *plan)
{
    plan->starts = pr_wire_get_count(reader, START_BYTES);
    pr_start *start = pr_wire_take(reader, plan->starts, sizeof *start);
    plan->start = start;
    for (int32_t i = 0; i < plan->starts && !reader->fault; i++) {
        pr_start each = {.id = pr_wire_get_u64(reader)};
        each.index = pr_wire_get_index(reader);
        each.token = pr_wire_get_index(reader);
        if (start)
            start[i] = each;
    }
}

static void get_handovers(pr_wire_reader *reader, pr_plan *plan)
{
    plan->handovers = pr_wire_get_count(reader, HANDOVER_BYTES);
    pr_handover *handover = pr_wire_take(reader, plan->handovers, sizeof *handover);
    plan->handover = handover;
    for (int32_t i = 0; i < plan->handovers && !reader->fault; i++) {
        pr_handover each = get_handover(reader);
        if (handover)
            handover[i] = each;
    }
}

static void get_chunks(pr_wire_reader *reader, pr_plan *plan)
{
    plan->chunks = pr_wire_get_count(reader, CHUNK_BYTES);
    pr_chunk *chunk = pr_wire_take(reader, plan->chunks, sizeof *chunk);
    plan->chunk = chunk;
    for (int32_t i = 0; i < plan->chunks && !reader->fault; i++) {
        pr_chunk each = {.id = pr_wire_get_u64(reader)};
        each.start = pr_wire_get_index(reader);
        each.count = pr_wire_get_index(reader);
        pr_wire_require(reader, each.count <= INT32_MAX - each.start, "a chunk is too long");
        if (chunk)
            chunk[i] = each;
    }
}

static void get_plan(pr_wire_reader *reader, void *record)
{
    pr_plan *plan = record;
    *plan = (pr_plan){.number = pr_wire_get_u64(reader)};
    plan->group = pr_wire_get_index(reader);
    plan->max_steps = pr_wire_get_index(reader);
    get_drops(reader, plan);
    get_copies(reader, plan);
    get_admissions(reader, plan);
    get_grants(reader, plan);
    get_starts(reader, plan);
    get_handovers(reader, plan);
    get_chunks(reader, plan);
}

pr_status pr_plan_encode(const pr_plan *plan, unsigned char **buffer, size_t *size_bytes)
{
    return pr_wire_encode(PR_WIRE_PLAN, put_plan, plan, buffer, size_bytes);
}

pr_status pr_plan_decode(const void *data, size_t size_bytes, pr_plan **plan)
{
    void *record;
    PR_TRY(pr_wire_decode(PR_WIRE_PLAN, get_plan, sizeof **plan, data, size_bytes, &record));
    *plan = record;
    return PR_OK;
}

void pr_plan_free(pr_plan *plan) { free(plan); }
