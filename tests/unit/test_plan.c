// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "runtime/batch/plan.h"

// ---- Random records. Their arrays live in one bump buffer.

static uint64_t random_state;
static char memory[1 << 20];
static size_t memory_used;

static uint64_t random_u64(void)
{
    random_state += 0x9e3779b97f4a7c15u;
    return pr_hash_mix(random_state);
}

static int32_t below(int32_t limit) { return (int32_t)(random_u64() % (uint64_t)limit); }

static int32_t random_index(void) { return (int32_t)(random_u64() & INT32_MAX); }

static float random_f32(void) { return (float)below(2001) / 16 - 60; }

static bool random_bool(void) { return below(2) == 1; }

static void *take(int32_t count, size_t size)
{
    void *taken = memory + memory_used;
    memory_used += ((size_t)count * size + 15) & ~(size_t)15;
    assert_true(memory_used <= sizeof memory);
    memset(taken, 0, (size_t)count * size);
    return taken;
}

static int32_t *random_indices(int32_t count)
{
    int32_t *array = take(count, sizeof *array);
    for (int32_t i = 0; i < count; i++)
        array[i] = random_index();
    return array;
}

static pr_request *random_request(int32_t size)
{
    pr_request *request = take(1, sizeof *request);
    pr_sampling *sampling = &request->sampling;
    request->id = random_u64();
    request->prompt_tokens = below(size);
    request->prompt = random_indices(request->prompt_tokens);
    request->priority = (int32_t)random_u64();
    request->salt = random_u64();
    request->sibling_of = random_u64();
    sampling->temperature = random_f32();
    sampling->top_p = random_f32();
    sampling->min_p = random_f32();
    sampling->top_k = below(50) - 1;
    sampling->repetition_penalty = random_f32();
    sampling->presence_penalty = random_f32();
    sampling->frequency_penalty = random_f32();
    sampling->seed = random_u64();
    sampling->choice = random_index();
    sampling->max_tokens = random_index();
    sampling->min_tokens = random_index();
    sampling->ignore_eos = random_bool();
    sampling->top_logprobs = below(22) - 1;
    sampling->prompt_logprobs = below(22) - 1;
    sampling->stop_tokens = below(PR_MAX_STOP_TOKENS + 1);
    for (int32_t i = 0; i < sampling->stop_tokens; i++)
        sampling->stop_token[i] = random_index();
    sampling->biases = below(size);
    sampling->bias = take(sampling->biases, sizeof *sampling->bias);
    for (int32_t i = 0; i < sampling->biases; i++)
        sampling->bias[i] = (pr_logit_bias){3 * i + below(3), random_f32()};
    pr_grammar_source *grammar = &sampling->grammar;
    grammar->kind = (pr_grammar_kind)below(PR_GRAMMAR_KINDS);
    bool has_text = grammar->kind != PR_GRAMMAR_NONE && grammar->kind != PR_GRAMMAR_JSON_OBJECT;
    grammar->size_bytes = has_text ? below(size) : 0;
    grammar->text = take(grammar->size_bytes, 1);
    for (int32_t i = 0; i < grammar->size_bytes; i++)
        grammar->text[i] = (char)random_u64();
    return request;
}

static pr_admission random_admission(int32_t size)
{
    pr_admission admission = {
        .request = random_request(size), .generation = (uint32_t)random_u64()};
    admission.lane = random_index();
    admission.outputs = below(size);
    admission.output = random_indices(admission.outputs);
    admission.computed = below(admission.request->prompt_tokens + admission.outputs + 1);
    admission.blocks = below(size);
    admission.block = random_indices(admission.blocks);
    admission.arrives = random_bool();
    admission.hands_over = random_bool();
    return admission;
}

static pr_handover random_handover(int32_t size)
{
    pr_handover handover = {.id = random_u64(), .generation = (uint32_t)random_u64()};
    handover.tag = below(32768);
    handover.from_group = random_index();
    handover.from_lane = random_index();
    handover.to_group = random_index();
    handover.to_lane = random_index();
    handover.first_block = below(1 << 20);
    handover.gather = random_bool();
    handover.blocks = below(size);
    handover.from_block = random_indices(handover.blocks);
    handover.to_block = random_indices(handover.blocks);
    return handover;
}

// size 1: everything empty.
static pr_plan random_plan(int32_t size)
{
    memory_used = 0;
    pr_plan plan = {.number = random_u64(), .group = random_index(), .max_steps = random_index()};
    pr_drop *drop = take(plan.drops = below(size), sizeof *drop);
    for (int32_t i = 0; i < plan.drops; i++)
        drop[i] = (pr_drop){random_u64(), (uint32_t)random_u64()};
    pr_copy *copy = take(plan.copies = below(size), sizeof *copy);
    for (int32_t i = 0; i < plan.copies; i++)
        copy[i] = (pr_copy){random_index(), random_index(), random_index()};
    pr_admission *admission = take(plan.admissions = below(size), sizeof *admission);
    for (int32_t i = 0; i < plan.admissions; i++)
        admission[i] = random_admission(size);
    pr_grant *grant = take(plan.grants = below(size), sizeof *grant);
    for (int32_t i = 0; i < plan.grants; i++) {
        grant[i] = (pr_grant){random_u64(), below(size), NULL};
        grant[i].block = random_indices(grant[i].blocks);
    }
    pr_start *start = take(plan.starts = below(size), sizeof *start);
    for (int32_t i = 0; i < plan.starts; i++)
        start[i] = (pr_start){random_u64(), random_index(), random_index()};
    pr_handover *handover = take(plan.handovers = below(size), sizeof *handover);
    for (int32_t i = 0; i < plan.handovers; i++)
        handover[i] = random_handover(size);
    pr_chunk *chunk = take(plan.chunks = below(size), sizeof *chunk);
    for (int32_t i = 0; i < plan.chunks; i++)
        chunk[i] = (pr_chunk){random_u64(), below(1 << 30), below(1 << 30)};
    plan.drop = drop, plan.copy = copy, plan.admission = admission, plan.grant = grant;
    plan.start = start, plan.handover = handover, plan.chunk = chunk;
    return plan;
}

static const pr_logprob *random_tops(int32_t *tops)
{
    pr_logprob *top = take(*tops = below(PR_MAX_TOP_LOGPROBS + 1), sizeof *top);
    for (int32_t k = 0; k < *tops; k++)
        top[k] = (pr_logprob){random_index(), random_f32()};
    return top;
}

static pr_report random_prompt_logprobs(int32_t size)
{
    pr_report report = {.plan = random_u64(), .group = random_index(), .lane = random_index()};
    pr_prompt_logprob *each = take(report.prompt_logprobs = below(size), sizeof *each);
    for (int32_t i = 0; i < report.prompt_logprobs; i++) {
        each[i] = (pr_prompt_logprob){.id = random_u64(), .generation = (uint32_t)random_u64()};
        each[i].index = 1 + below(1 << 30);
        each[i].token = random_index();
        each[i].logprob = random_f32();
        each[i].top = random_tops(&each[i].tops);
    }
    report.prompt_logprob = each;
    return report;
}

static pr_report random_report(int32_t size)
{
    memory_used = 0;
    if (random_bool())
        return random_prompt_logprobs(size);
    pr_report report = {.plan = random_u64(), .step = (uint32_t)random_u64()};
    report.group = random_index();
    report.lane = random_index();
    report.plan_finished = random_bool();
    report.step_ns = (int64_t)random_u64();
    report.work.prefill_rows = random_index();
    report.work.decode_sequences = random_index();
    report.work.prefill_pairs = (int64_t)(random_u64() >> 1);
    report.work.decode_context = (int64_t)(random_u64() >> 1);
    pr_token_report *token = take(report.tokens = below(size), sizeof *token);
    for (int32_t i = 0; i < report.tokens; i++) {
        token[i] = (pr_token_report){.id = random_u64(), .generation = (uint32_t)random_u64()};
        token[i].index = random_index();
        token[i].token = random_index();
        token[i].finish = (pr_finish)below(4);
        token[i].logprob = random_f32();
        token[i].top = random_tops(&token[i].tops);
    }
    pr_chunk_report *chunk = take(report.chunks = below(size), sizeof *chunk);
    for (int32_t i = 0; i < report.chunks; i++)
        chunk[i] = (pr_chunk_report){random_u64(), (uint32_t)random_u64(), random_index()};
    pr_arrival_report *arrival = take(report.arrivals = below(size), sizeof *arrival);
    for (int32_t i = 0; i < report.arrivals; i++)
        arrival[i] = (pr_arrival_report){random_u64(), (uint32_t)random_u64(), random_bool()};
    report.token = token, report.chunk = chunk, report.arrival = arrival;
    return report;
}

// ---- Comparison, field by field.

static void assert_same_i32s(const int32_t *a, const int32_t *b, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        assert_int_equal(a[i], b[i]);
}

static void assert_same_request(const pr_request *a, const pr_request *b)
{
    const pr_sampling *s = &a->sampling, *t = &b->sampling;
    assert_true(a->id == b->id && a->salt == b->salt && a->sibling_of == b->sibling_of);
    assert_int_equal(a->priority, b->priority);
    assert_int_equal(a->prompt_tokens, b->prompt_tokens);
    assert_same_i32s(a->prompt, b->prompt, a->prompt_tokens);
    assert_true(s->temperature == t->temperature && s->top_p == t->top_p && s->min_p == t->min_p);
    assert_int_equal(s->top_k, t->top_k);
    assert_true(s->repetition_penalty == t->repetition_penalty);
    assert_true(s->presence_penalty == t->presence_penalty);
    assert_true(s->frequency_penalty == t->frequency_penalty);
    assert_true(s->seed == t->seed && s->choice == t->choice && s->ignore_eos == t->ignore_eos);
    assert_int_equal(s->max_tokens, t->max_tokens);
    assert_int_equal(s->min_tokens, t->min_tokens);
    assert_int_equal(s->top_logprobs, t->top_logprobs);
    assert_int_equal(s->prompt_logprobs, t->prompt_logprobs);
    assert_int_equal(s->stop_tokens, t->stop_tokens);
    assert_same_i32s(s->stop_token, t->stop_token, s->stop_tokens);
    assert_int_equal(s->biases, t->biases);
    for (int32_t i = 0; i < s->biases; i++)
        assert_true(s->bias[i].token == t->bias[i].token && s->bias[i].bias == t->bias[i].bias);
    assert_int_equal(s->grammar.kind, t->grammar.kind);
    assert_int_equal(s->grammar.size_bytes, t->grammar.size_bytes);
    if (s->grammar.size_bytes > 0)
        assert_memory_equal(s->grammar.text, t->grammar.text, (size_t)s->grammar.size_bytes);
}

static void assert_same_admission(const pr_admission *a, const pr_admission *b)
{
    assert_same_request(a->request, b->request);
    assert_true(a->generation == b->generation && a->lane == b->lane);
    assert_true(a->arrives == b->arrives && a->hands_over == b->hands_over);
    assert_int_equal(a->computed, b->computed);
    assert_int_equal(a->outputs, b->outputs);
    assert_same_i32s(a->output, b->output, a->outputs);
    assert_int_equal(a->blocks, b->blocks);
    assert_same_i32s(a->block, b->block, a->blocks);
}

static void assert_same_handover(const pr_handover *a, const pr_handover *b)
{
    assert_true(a->id == b->id && a->generation == b->generation && a->tag == b->tag);
    assert_true(a->from_group == b->from_group && a->from_lane == b->from_lane);
    assert_true(a->to_group == b->to_group && a->to_lane == b->to_lane);
    assert_true(a->blocks == b->blocks && a->first_block == b->first_block);
    assert_int_equal(a->gather, b->gather);
    assert_same_i32s(a->from_block, b->from_block, a->blocks);
    assert_same_i32s(a->to_block, b->to_block, a->blocks);
}

static void assert_same_plan(const pr_plan *a, const pr_plan *b)
{
    assert_true(a->number == b->number && a->group == b->group && a->max_steps == b->max_steps);
    assert_true(a->drops == b->drops && a->copies == b->copies && a->grants == b->grants);
    assert_true(a->admissions == b->admissions && a->starts == b->starts);
    assert_true(a->handovers == b->handovers && a->chunks == b->chunks);
    for (int32_t i = 0; i < a->drops; i++)
        assert_true(
            a->drop[i].id == b->drop[i].id && a->drop[i].generation == b->drop[i].generation);
    for (int32_t i = 0; i < a->copies; i++)
        assert_true(
            a->copy[i].lane == b->copy[i].lane && a->copy[i].from == b->copy[i].from &&
            a->copy[i].to == b->copy[i].to);
    for (int32_t i = 0; i < a->admissions; i++)
        assert_same_admission(&a->admission[i], &b->admission[i]);
    for (int32_t i = 0; i < a->grants; i++) {
        assert_true(a->grant[i].id == b->grant[i].id && a->grant[i].blocks == b->grant[i].blocks);
        assert_same_i32s(a->grant[i].block, b->grant[i].block, a->grant[i].blocks);
    }
    for (int32_t i = 0; i < a->starts; i++)
        assert_true(
            a->start[i].id == b->start[i].id && a->start[i].index == b->start[i].index &&
            a->start[i].token == b->start[i].token);
    for (int32_t i = 0; i < a->handovers; i++)
        assert_same_handover(&a->handover[i], &b->handover[i]);
    for (int32_t i = 0; i < a->chunks; i++)
        assert_true(
            a->chunk[i].id == b->chunk[i].id && a->chunk[i].start == b->chunk[i].start &&
            a->chunk[i].count == b->chunk[i].count);
}

static void assert_same_tops(const pr_logprob *a, const pr_logprob *b, int32_t tops)
{
    for (int32_t k = 0; k < tops; k++)
        assert_true(a[k].token == b[k].token && a[k].logprob == b[k].logprob);
}

static void assert_same_report(const pr_report *a, const pr_report *b)
{
    assert_true(a->plan == b->plan && a->step == b->step && a->group == b->group);
    assert_true(a->lane == b->lane && a->plan_finished == b->plan_finished);
    const pr_step_work *v = &a->work, *w = &b->work;
    assert_true(a->step_ns == b->step_ns && v->prefill_rows == w->prefill_rows);
    assert_true(v->prefill_pairs == w->prefill_pairs && v->decode_context == w->decode_context);
    assert_true(v->decode_sequences == w->decode_sequences);
    assert_true(a->tokens == b->tokens && a->chunks == b->chunks && a->arrivals == b->arrivals);
    for (int32_t i = 0; i < a->tokens; i++) {
        const pr_token_report *s = &a->token[i], *t = &b->token[i];
        assert_true(s->id == t->id && s->generation == t->generation && s->index == t->index);
        assert_true(s->token == t->token && s->finish == t->finish && s->tops == t->tops);
        assert_true(s->logprob == t->logprob);
        assert_same_tops(s->top, t->top, s->tops);
    }
    assert_int_equal(a->prompt_logprobs, b->prompt_logprobs);
    for (int32_t i = 0; i < a->prompt_logprobs; i++) {
        const pr_prompt_logprob *s = &a->prompt_logprob[i], *t = &b->prompt_logprob[i];
        assert_true(s->id == t->id && s->generation == t->generation && s->index == t->index);
        assert_true(s->token == t->token && s->logprob == t->logprob && s->tops == t->tops);
        assert_same_tops(s->top, t->top, s->tops);
    }
    for (int32_t i = 0; i < a->chunks; i++)
        assert_true(
            a->chunk[i].id == b->chunk[i].id && a->chunk[i].generation == b->chunk[i].generation &&
            a->chunk[i].computed == b->chunk[i].computed);
    for (int32_t i = 0; i < a->arrivals; i++)
        assert_true(
            a->arrival[i].id == b->arrival[i].id &&
            a->arrival[i].generation == b->arrival[i].generation &&
            a->arrival[i].intact == b->arrival[i].intact);
}

// ---- Tests

static void a_plan_comes_back_as_it_went(void **state)
{
    (void)state;
    unsigned char *buffer = NULL;
    for (int32_t round = 0; round < 2000; round++) {
        pr_plan plan = random_plan(1 + round % 12), *back;
        size_t size_bytes = 0;
        assert_int_equal(pr_plan_encode(&plan, &buffer, &size_bytes), PR_OK);
        assert_int_equal(pr_plan_decode(buffer, size_bytes, &back), PR_OK);
        assert_same_plan(&plan, back);
        pr_plan_free(back);
    }
    free(buffer);
}

static void a_report_comes_back_as_it_went(void **state)
{
    (void)state;
    unsigned char *buffer = NULL;
    for (int32_t round = 0; round < 2000; round++) {
        pr_report report = random_report(1 + round % 12), *back;
        size_t size_bytes = 0;
        assert_int_equal(pr_report_encode(&report, &buffer, &size_bytes), PR_OK);
        assert_int_equal(pr_report_decode(buffer, size_bytes, &back), PR_OK);
        assert_same_report(&report, back);
        pr_report_free(back);
    }
    free(buffer);
}

static void encoding_appends_to_what_is_there(void **state)
{
    (void)state;
    unsigned char *buffer = malloc(3);
    assert_non_null(buffer);
    memcpy(buffer, "abc", 3);
    size_t size_bytes = 3;
    pr_plan plan = random_plan(5), *back;
    assert_int_equal(pr_plan_encode(&plan, &buffer, &size_bytes), PR_OK);
    assert_memory_equal(buffer, "abc", 3);
    assert_int_equal(pr_plan_decode(buffer + 3, size_bytes - 3, &back), PR_OK);  // unaligned, too
    assert_same_plan(&plan, back);
    pr_plan_free(back);
    free(buffer);
}

// The bytes of docs/messages.md: whoever changes them must raise PR_WIRE_VERSION.
static void the_wire_form_of_a_small_plan_is_known(void **state)
{
    (void)state;
    static const unsigned char expected[] = {
        'P', 'R', 'M', '1', 3, 0, 1, 0, 76, 0, 0, 0, 0, 0, 0, 0,  // header
        7,   0,   0,   0,   0, 0, 0, 0,                           // number
        2,   0,   0,   0,   8, 0, 0, 0,                           // group, max_steps
        0,   0,   0,   0,   0, 0, 0, 0, 0,  0, 0, 0,              // drops, copies, admissions
        0,   0,   0,   0,   0, 0, 0, 0, 0,  0, 0, 0,              // grants, starts, handovers
        1,   0,   0,   0,                                         // chunks
        9,   0,   0,   0,   0, 0, 0, 1, 16, 0, 0, 0, 5, 0, 0, 0,  // id, start, count
    };
    pr_chunk chunk = {0x0100000000000009u, 16, 5};
    pr_plan plan = {.number = 7, .group = 2, .max_steps = 8, .chunks = 1, .chunk = &chunk};
    unsigned char *buffer = NULL;
    size_t size_bytes = 0;
    assert_int_equal(pr_plan_encode(&plan, &buffer, &size_bytes), PR_OK);
    assert_int_equal(size_bytes, sizeof expected);
    assert_memory_equal(buffer, expected, sizeof expected);
    free(buffer);
}

static void the_smallest_elements_are_accepted(void **state)
{
    (void)state;
    pr_request request = {.id = 1};
    pr_drop drop = {0};
    pr_copy copy = {0};
    pr_admission admission = {.request = &request};
    pr_grant grant = {0};
    pr_start start = {0};
    pr_handover handover = {0};
    pr_chunk chunk = {0};
    pr_plan one[7] = {
        {.drops = 1, .drop = &drop},
        {.copies = 1, .copy = &copy},
        {.admissions = 1, .admission = &admission},
        {.grants = 1, .grant = &grant},
        {.starts = 1, .start = &start},
        {.handovers = 1, .handover = &handover},
        {.chunks = 1, .chunk = &chunk},
    };
    for (int i = 0; i < 7; i++) {
        unsigned char *buffer = NULL;
        size_t size_bytes = 0;
        pr_plan *back;
        assert_int_equal(pr_plan_encode(&one[i], &buffer, &size_bytes), PR_OK);
        assert_int_equal(pr_plan_decode(buffer, size_bytes, &back), PR_OK);
        assert_same_plan(&one[i], back);
        pr_plan_free(back);
        free(buffer);
    }
}

static pr_status encode_and_decode(const pr_report *report)
{
    unsigned char *buffer = NULL;
    size_t size_bytes = 0;
    pr_report *back;
    assert_int_equal(pr_report_encode(report, &buffer, &size_bytes), PR_OK);
    pr_status status = pr_report_decode(buffer, size_bytes, &back);
    if (status == PR_OK) {
        assert_same_report(report, back);
        pr_report_free(back);
    }
    free(buffer);
    return status;
}

static void prompt_logprobs_are_alone_in_their_report_and_begin_at_position_1(void **state)
{
    (void)state;
    pr_logprob top[PR_MAX_TOP_LOGPROBS + 1] = {{0, 0}};
    pr_prompt_logprob entry = {.id = 1, .index = 1, .tops = PR_MAX_TOP_LOGPROBS, .top = top};
    pr_chunk_report chunk = {.id = 1};
    pr_report report = {.prompt_logprobs = 1, .prompt_logprob = &entry};
    assert_int_equal(encode_and_decode(&report), PR_OK);
    entry.tops = 0;
    assert_int_equal(encode_and_decode(&report), PR_OK);
    pr_error_capture_begin();
    entry.tops = PR_MAX_TOP_LOGPROBS + 1;
    assert_int_equal(encode_and_decode(&report), PR_ERR_FORMAT);
    entry.tops = 0;
    entry.index = 0;
    assert_int_equal(encode_and_decode(&report), PR_ERR_FORMAT);
    entry.index = 1;
    report.plan_finished = true;
    assert_int_equal(encode_and_decode(&report), PR_ERR_FORMAT);
    report.plan_finished = false;
    report.chunks = 1;
    report.chunk = &chunk;
    assert_int_equal(encode_and_decode(&report), PR_ERR_FORMAT);
    pr_error_capture_end();
}

// A copy of exactly the given length, so that a read past the end is seen by the sanitizer.
static pr_status decode_bytes(bool is_plan, const unsigned char *data, size_t size_bytes)
{
    unsigned char *exact = malloc(size_bytes > 0 ? size_bytes : 1);
    assert_non_null(exact);
    memcpy(exact, data, size_bytes);
    pr_plan *plan;
    pr_report *report;
    pr_status status = is_plan ? pr_plan_decode(exact, size_bytes, &plan)
                               : pr_report_decode(exact, size_bytes, &report);
    if (status == PR_OK && is_plan)
        pr_plan_free(plan);
    if (status == PR_OK && !is_plan)
        pr_report_free(report);
    free(exact);
    return status;
}

static void encode_random(bool is_plan, unsigned char **buffer, size_t *size_bytes)
{
    *buffer = NULL;
    *size_bytes = 0;
    if (is_plan) {
        pr_plan plan = random_plan(6);
        assert_int_equal(pr_plan_encode(&plan, buffer, size_bytes), PR_OK);
    } else {
        pr_report report = random_report(6);
        assert_int_equal(pr_report_encode(&report, buffer, size_bytes), PR_OK);
    }
}

// Also with the length field made to agree, so that the body's own checks are met.
static void every_truncation_is_refused(void **state)
{
    (void)state;
    pr_error_capture_begin();
    for (int round = 0; round < 20; round++) {
        bool is_plan = round % 2 == 0;
        unsigned char *buffer;
        size_t size_bytes;
        encode_random(is_plan, &buffer, &size_bytes);
        assert_int_equal(decode_bytes(is_plan, buffer, size_bytes), PR_OK);
        for (size_t length = 0; length < size_bytes; length++) {
            assert_int_equal(decode_bytes(is_plan, buffer, length), PR_ERR_FORMAT);
            if (length < 16)
                continue;
            unsigned char kept[8];
            memcpy(kept, buffer + 8, 8);
            for (int i = 0; i < 8; i++)
                buffer[8 + i] = (unsigned char)((uint64_t)length >> (8 * i));
            assert_int_equal(decode_bytes(is_plan, buffer, length), PR_ERR_FORMAT);
            memcpy(buffer + 8, kept, 8);
        }
        free(buffer);
    }
    pr_error_capture_end();
}

static void every_changed_byte_is_refused_or_decoded(void **state)
{
    (void)state;
    static const unsigned char change[] = {0x01, 0x80, 0xff, 0x7f, 0x10};
    int refused = 0, decoded = 0;
    pr_error_capture_begin();
    for (int round = 0; round < 20; round++) {
        bool is_plan = round % 2 == 0;
        unsigned char *buffer;
        size_t size_bytes;
        encode_random(is_plan, &buffer, &size_bytes);
        for (size_t at = 0; at < size_bytes; at++) {
            for (size_t k = 0; k < sizeof change; k++) {
                buffer[at] ^= change[k];
                pr_status status = decode_bytes(is_plan, buffer, size_bytes);
                buffer[at] ^= change[k];
                refused += status != PR_OK;
                decoded += status == PR_OK;
                assert_true(at >= 16 || status != PR_OK);  // nothing in the header is free
            }
        }
        free(buffer);
    }
    pr_error_capture_end();
    assert_true(refused > 1000 && decoded > 1000);
}

static void another_version_kind_or_tail_is_named(void **state)
{
    (void)state;
    pr_plan plan = {.number = 1}, *back;
    pr_report *report;
    unsigned char *buffer = NULL;
    size_t size_bytes = 0;
    assert_int_equal(pr_plan_encode(&plan, &buffer, &size_bytes), PR_OK);
    pr_error_capture_begin();
    assert_int_equal(pr_report_decode(buffer, size_bytes, &report), PR_ERR_FORMAT);
    assert_non_null(strstr(pr_error_text(), "another kind"));
    assert_int_equal(pr_plan_decode(buffer, size_bytes + 1, &back), PR_ERR_FORMAT);
    assert_non_null(strstr(pr_error_text(), "length field"));
    buffer[4] = PR_WIRE_VERSION + 1;
    assert_int_equal(pr_plan_decode(buffer, size_bytes, &back), PR_ERR_UNSUPPORTED);
    assert_non_null(strstr(pr_error_text(), "version 4"));
    pr_error_capture_end();
    free(buffer);
}

// A grammar of a kind, with so many bytes of text, as the only odd thing of a plan.
static pr_status decode_with_grammar(int kind, int32_t size_bytes)
{
    pr_request request = {.id = 1};
    pr_admission admission = {.request = &request};
    pr_plan plan = {.number = 1, .admissions = 1, .admission = &admission}, *back;
    unsigned char *buffer = NULL;
    size_t length = 0;
    request.sampling.grammar.kind = (pr_grammar_kind)kind;
    request.sampling.grammar.size_bytes = size_bytes;
    request.sampling.grammar.text = calloc((size_t)size_bytes + 1, 1);
    assert_int_equal(pr_plan_encode(&plan, &buffer, &length), PR_OK);
    pr_status status = pr_plan_decode(buffer, length, &back);
    if (status == PR_OK)
        pr_plan_free(back);
    free(request.sampling.grammar.text);
    free(buffer);
    return status;
}

static void a_grammar_keeps_to_its_bounds(void **state)
{
    (void)state;
    pr_error_capture_begin();
    assert_int_equal(decode_with_grammar(PR_GRAMMAR_NONE, 0), PR_OK);
    assert_int_equal(decode_with_grammar(PR_GRAMMAR_NONE, 1), PR_ERR_FORMAT);
    assert_int_equal(decode_with_grammar(PR_GRAMMAR_JSON_OBJECT, 1), PR_ERR_FORMAT);
    assert_int_equal(decode_with_grammar(PR_GRAMMAR_REGEX, 0), PR_OK);
    assert_int_equal(decode_with_grammar(PR_GRAMMAR_CHOICE, PR_GRAMMAR_MAX_TEXT_BYTES), PR_OK);
    assert_int_equal(
        decode_with_grammar(PR_GRAMMAR_CHOICE, PR_GRAMMAR_MAX_TEXT_BYTES + 1), PR_ERR_FORMAT);
    assert_int_equal(decode_with_grammar(PR_GRAMMAR_KINDS, 0), PR_ERR_FORMAT);
    pr_error_capture_end();
}

static void a_copied_request_is_deep(void **state)
{
    (void)state;
    memory_used = 0;
    for (int32_t round = 0; round < 50; round++) {
        pr_request *request = random_request(1 + round), *copy;
        assert_int_equal(pr_request_copy(request, &copy), PR_OK);
        assert_same_request(request, copy);
        assert_true(request->prompt_tokens == 0 || request->prompt != copy->prompt);
        assert_true(request->sampling.biases == 0 || request->sampling.bias != copy->sampling.bias);
        const pr_grammar_source *grammar = &request->sampling.grammar;
        assert_true(grammar->size_bytes == 0 || grammar->text != copy->sampling.grammar.text);
        pr_request_destroy(copy);
        memory_used = 0;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_comes_back_as_it_went),
        cmocka_unit_test(a_report_comes_back_as_it_went),
        cmocka_unit_test(encoding_appends_to_what_is_there),
        cmocka_unit_test(the_wire_form_of_a_small_plan_is_known),
        cmocka_unit_test(the_smallest_elements_are_accepted),
        cmocka_unit_test(prompt_logprobs_are_alone_in_their_report_and_begin_at_position_1),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_changed_byte_is_refused_or_decoded),
        cmocka_unit_test(another_version_kind_or_tail_is_named),
        cmocka_unit_test(a_grammar_keeps_to_its_bounds),
        cmocka_unit_test(a_copied_request_is_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
