// SPDX-License-Identifier: BSD-3-Clause
// The report half of plan.h.
#include <stdlib.h>

#include "runtime/batch/plan.h"
#include "runtime/batch/wire.h"

// Least bytes of one element on the wire.
enum {
    TOKEN_BYTES = 29,
    TOP_BYTES = 8,
    CHUNK_BYTES = 16,
    ARRIVAL_BYTES = 13,
    PROMPT_LOGPROB_BYTES = 28,
};

static void put_tops(pr_wire_writer *writer, int32_t tops, const pr_logprob *top)
{
    pr_wire_put_i32(writer, tops);
    for (int32_t k = 0; k < tops; k++) {
        pr_wire_put_i32(writer, top[k].token);
        pr_wire_put_f32(writer, top[k].logprob);
    }
}

static void put_prompt_logprobs(pr_wire_writer *writer, const pr_report *report)
{
    pr_wire_put_i32(writer, report->prompt_logprobs);
    for (int32_t i = 0; i < report->prompt_logprobs; i++) {
        const pr_prompt_logprob *each = &report->prompt_logprob[i];
        pr_wire_put_u64(writer, each->id);
        pr_wire_put_u32(writer, each->generation);
        pr_wire_put_i32(writer, each->index);
        pr_wire_put_i32(writer, each->token);
        pr_wire_put_f32(writer, each->logprob);
        put_tops(writer, each->tops, each->top);
    }
}

static void put_report(pr_wire_writer *writer, const void *record)
{
    const pr_report *report = record;
    pr_wire_put_u64(writer, report->plan);
    pr_wire_put_u32(writer, report->step);
    pr_wire_put_i32(writer, report->group);
    pr_wire_put_i32(writer, report->lane);
    pr_wire_put_u8(writer, report->plan_finished);
    pr_wire_put_u64(writer, (uint64_t)report->step_ns);
    pr_wire_put_i32(writer, report->work.prefill_rows);
    pr_wire_put_i32(writer, report->work.decode_sequences);
    pr_wire_put_u64(writer, (uint64_t)report->work.prefill_pairs);
    pr_wire_put_u64(writer, (uint64_t)report->work.decode_context);
    pr_wire_put_i32(writer, report->tokens);
    for (int32_t i = 0; i < report->tokens; i++) {
        const pr_token_report *token = &report->token[i];
        pr_wire_put_u64(writer, token->id);
        pr_wire_put_u32(writer, token->generation);
        pr_wire_put_i32(writer, token->index);
        pr_wire_put_i32(writer, token->token);
        pr_wire_put_u8(writer, (uint8_t)token->finish);
        pr_wire_put_f32(writer, token->logprob);
        put_tops(writer, token->tops, token->top);
    }
    pr_wire_put_i32(writer, report->chunks);
    for (int32_t i = 0; i < report->chunks; i++) {
        pr_wire_put_u64(writer, report->chunk[i].id);
        pr_wire_put_u32(writer, report->chunk[i].generation);
        pr_wire_put_i32(writer, report->chunk[i].computed);
    }
    pr_wire_put_i32(writer, report->arrivals);
    for (int32_t i = 0; i < report->arrivals; i++) {
        pr_wire_put_u64(writer, report->arrival[i].id);
        pr_wire_put_u32(writer, report->arrival[i].generation);
        pr_wire_put_u8(writer, report->arrival[i].intact);
    }
    put_prompt_logprobs(writer, report);
}

static const pr_logprob *get_tops(pr_wire_reader *reader, int32_t *tops)
{
    *tops = pr_wire_get_count(reader, TOP_BYTES);
    pr_wire_require(reader, *tops <= PR_MAX_TOP_LOGPROBS, "too many top logprobs");
    pr_logprob *top = pr_wire_take(reader, *tops, sizeof *top);
    for (int32_t k = 0; k < *tops && !reader->fault; k++) {
        pr_logprob each = {.token = pr_wire_get_index(reader)};
        each.logprob = pr_wire_get_f32(reader);
        if (top)
            top[k] = each;
    }
    return top;
}

static pr_token_report get_token(pr_wire_reader *reader)
{
    pr_token_report token = {.id = pr_wire_get_u64(reader)};
    token.generation = pr_wire_get_u32(reader);
    token.index = pr_wire_get_index(reader);
    token.token = pr_wire_get_index(reader);
    uint8_t finish = pr_wire_get_u8(reader);
    pr_wire_require(reader, finish <= PR_FINISH_HANDED, "a finish reason is unknown");
    token.finish = reader->fault ? PR_FINISH_NONE : (pr_finish)finish;
    token.logprob = pr_wire_get_f32(reader);
    token.top = get_tops(reader, &token.tops);
    return token;
}

static void get_tokens(pr_wire_reader *reader, pr_report *report)
{
    report->tokens = pr_wire_get_count(reader, TOKEN_BYTES);
    pr_token_report *token = pr_wire_take(reader, report->tokens, sizeof *token);
    report->token = token;
    for (int32_t i = 0; i < report->tokens && !reader->fault; i++) {
        pr_token_report each = get_token(reader);
        if (token)
            token[i] = each;
    }
}

static void get_chunks(pr_wire_reader *reader, pr_report *report)
{
    report->chunks = pr_wire_get_count(reader, CHUNK_BYTES);
    pr_chunk_report *chunk = pr_wire_take(reader, report->chunks, sizeof *chunk);
    report->chunk = chunk;
    for (int32_t i = 0; i < report->chunks && !reader->fault; i++) {
        pr_chunk_report each = {.id = pr_wire_get_u64(reader)};
        each.generation = pr_wire_get_u32(reader);
        each.computed = pr_wire_get_index(reader);
        if (chunk)
            chunk[i] = each;
    }
}

static void get_arrivals(pr_wire_reader *reader, pr_report *report)
{
    report->arrivals = pr_wire_get_count(reader, ARRIVAL_BYTES);
    pr_arrival_report *arrival = pr_wire_take(reader, report->arrivals, sizeof *arrival);
    report->arrival = arrival;
    for (int32_t i = 0; i < report->arrivals && !reader->fault; i++) {
        pr_arrival_report each = {.id = pr_wire_get_u64(reader)};
        each.generation = pr_wire_get_u32(reader);
        each.intact = pr_wire_get_bool(reader);
        if (arrival)
            arrival[i] = each;
    }
}

static void get_prompt_logprobs(pr_wire_reader *reader, pr_report *report)
{
    report->prompt_logprobs = pr_wire_get_count(reader, PROMPT_LOGPROB_BYTES);
    pr_wire_require(
        reader,
        report->prompt_logprobs == 0 || (report->tokens == 0 && report->chunks == 0 &&
                                         report->arrivals == 0 && !report->plan_finished),
        "prompt logprobs are not alone in their report");
    pr_prompt_logprob *entry = pr_wire_take(reader, report->prompt_logprobs, sizeof *entry);
    report->prompt_logprob = entry;
    for (int32_t i = 0; i < report->prompt_logprobs && !reader->fault; i++) {
        pr_prompt_logprob each = {.id = pr_wire_get_u64(reader)};
        each.generation = pr_wire_get_u32(reader);
        each.index = pr_wire_get_index(reader);
        pr_wire_require(reader, each.index > 0, "a prompt's first token has no logprob");
        each.token = pr_wire_get_index(reader);
        each.logprob = pr_wire_get_f32(reader);
        each.top = get_tops(reader, &each.tops);
        if (entry)
            entry[i] = each;
    }
}

static int64_t get_count64(pr_wire_reader *reader)
{
    uint64_t value = pr_wire_get_u64(reader);
    pr_wire_require(reader, value <= INT64_MAX, "a number is too large");
    return reader->fault ? 0 : (int64_t)value;
}

static void get_report(pr_wire_reader *reader, void *record)
{
    pr_report *report = record;
    *report = (pr_report){.plan = pr_wire_get_u64(reader)};
    report->step = pr_wire_get_u32(reader);
    report->group = pr_wire_get_index(reader);
    report->lane = pr_wire_get_index(reader);
    report->plan_finished = pr_wire_get_bool(reader);
    report->step_ns = (int64_t)pr_wire_get_u64(reader);
    report->work.prefill_rows = pr_wire_get_index(reader);
    report->work.decode_sequences = pr_wire_get_index(reader);
    report->work.prefill_pairs = get_count64(reader);
    report->work.decode_context = get_count64(reader);
    get_tokens(reader, report);
    get_chunks(reader, report);
    get_arrivals(reader, report);
    get_prompt_logprobs(reader, report);
}

size_t pr_report_measure(const pr_report *report) { return pr_wire_measure(put_report, report); }

void pr_report_write(const pr_report *report, size_t size_bytes, unsigned char *data)
{
    pr_wire_write(PR_WIRE_REPORT, put_report, report, size_bytes, data);
}

pr_status pr_report_encode(const pr_report *report, unsigned char **buffer, size_t *size_bytes)
{
    return pr_wire_encode(PR_WIRE_REPORT, put_report, report, buffer, size_bytes);
}

pr_status pr_report_decode(const void *data, size_t size_bytes, pr_report **report)
{
    void *record;
    PR_TRY(pr_wire_decode(PR_WIRE_REPORT, get_report, sizeof **report, data, size_bytes, &record));
    *report = record;
    return PR_OK;
}

void pr_report_free(pr_report *report) { free(report); }
