// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/record/record_reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

enum { MAX_LANES = 65536 };

// Memory for the records of a line; grows to the largest.
typedef struct scratch {
    void *data;
    size_t bytes;
} scratch;

struct pr_record_reader {
    FILE *events;
    int64_t line_number;
    char *line;
    size_t line_bytes;
    char *at;      // next word of the line
    bool damaged;  // a word was missing or out of bounds
    bool ended;    // the last line was read
    int64_t now_ns;
    pr_layout layout;
    pr_scheduler_params params;
    char *policy;
    scratch token, chunk, arrival, admission, handover;
};

pr_status pr_record_reader_fail(const pr_record_reader *reader, const char *what)
{
    return pr_fail(
        PR_ERR_FORMAT, "recorded events, line %lld: %s", (long long)reader->line_number, what);
}

int64_t pr_record_reader_line(const pr_record_reader *reader) { return reader->line_number; }

const pr_scheduler_params *pr_record_reader_params(const pr_record_reader *reader)
{
    return &reader->params;
}

// ---- Words ----

static bool next_line(pr_record_reader *reader)
{
    ssize_t length = getline(&reader->line, &reader->line_bytes, reader->events);
    reader->line_number++;
    reader->at = reader->line;
    reader->damaged = false;
    return length > 0;
}

static uint64_t take_unsigned(pr_record_reader *reader)
{
    char *end;
    uint64_t value = strtoull(reader->at, &end, 10);
    reader->damaged = reader->damaged || end == reader->at;
    reader->at = end;
    return value;
}

static int64_t take_int64(pr_record_reader *reader)
{
    char *end;
    int64_t value = strtoll(reader->at, &end, 10);
    reader->damaged = reader->damaged || end == reader->at;
    reader->at = end;
    return value;
}

static uint64_t take_hash(pr_record_reader *reader)
{
    char *end;
    uint64_t value = strtoull(reader->at, &end, 16);
    reader->damaged = reader->damaged || end == reader->at;
    reader->at = end;
    return value;
}

// A number within [low, high]; `low` and a damaged line if it is not.
static int32_t take_int(pr_record_reader *reader, int32_t low, int32_t high)
{
    char *end;
    long long value = strtoll(reader->at, &end, 10);
    bool bad = end == reader->at || value < low || value > high;
    reader->damaged = reader->damaged || bad;
    reader->at = end;
    return bad ? low : (int32_t)value;
}

static double take_number(pr_record_reader *reader)
{
    char *end;
    double value = strtod(reader->at, &end);
    reader->damaged = reader->damaged || end == reader->at || isnan(value);
    reader->at = end;
    return value;
}

// A count of entries that follow; each takes at least two characters, so the line bounds it.
static int32_t take_count(pr_record_reader *reader)
{
    int32_t count = take_int(reader, 0, INT32_MAX);
    if ((size_t)count > strlen(reader->at) / 2) {
        reader->damaged = true;
        return 0;
    }
    return count;
}

// Room for so many records, or NULL.
static void *scratch_take(scratch *room, int32_t count, size_t size)
{
    size_t bytes = ((size_t)count + 1) * size;
    if (bytes > room->bytes) {
        free(room->data);
        room->data = malloc(bytes);
        room->bytes = room->data ? bytes : 0;
    }
    return room->data;
}

// ---- Lines ----

static pr_status read_layout(pr_record_reader *reader)
{
    pr_layout *layout = &reader->layout;
    int64_t lanes = 0;
    layout->ranks = take_int(reader, 1, INT32_MAX);
    layout->dedicated_controller = take_int(reader, 0, 1);
    layout->groups = take_int(reader, 1, PR_MAX_GROUPS);
    for (int32_t g = 0; g < layout->groups; g++) {
        pr_group_layout *group = &layout->group[g];
        group->role = (pr_role)take_int(reader, PR_ROLE_MIXED, PR_ROLE_DECODE);
        group->first_rank = take_int(reader, 0, INT32_MAX);
        group->ranks = take_int(reader, 1, MAX_LANES);
        group->tp = take_int(reader, 1, group->ranks);
        lanes += group->ranks / group->tp;
    }
    reader->params.layout = layout;
    if (reader->damaged || lanes > MAX_LANES)
        return pr_record_reader_fail(reader, "parameters or layout are not well formed");
    return PR_OK;
}

static pr_status read_first_line(pr_record_reader *reader)
{
    static const char magic[] = "polyreme-events 2 ";
    if (!next_line(reader) || strncmp(reader->line, magic, strlen(magic)) != 0)
        return pr_record_reader_fail(
            reader, "this is no recording of version 2 (--record writes one)");
    reader->at += strlen(magic);
    enum { MOST = 1 << 24 };
    pr_scheduler_params *params = &reader->params;
    params->kv_blocks = take_int(reader, 1, MOST);
    params->block_tokens = take_int(reader, 1, MOST);
    params->max_model_len = take_int(reader, 2, MOST);
    params->max_num_batched_tokens = take_int(reader, 1, MOST);
    params->max_num_seqs = take_int(reader, 1, MOST);
    params->lease_steps = take_int(reader, 1, MOST);
    params->prefix_caching = take_int(reader, 0, 1);
    return read_layout(reader);
}

static void take_cost(pr_record_reader *reader, pr_cost_model *cost)
{
    double *number[] = {
        &cost->chunk_s,    &cost->chunk_token_s,        &cost->chunk_pair_s,
        &cost->step_s,     &cost->step_sequence_s,      &cost->step_context_s,
        &cost->transfer_s, &cost->transfer_bytes_per_s, &cost->kv_bytes_per_token,
    };
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        *number[i] = take_number(reader);
        reader->damaged = reader->damaged || !(*number[i] >= 0) || !isfinite(*number[i]);
    }
    cost->chunk_tokens = take_int(reader, 1, INT32_MAX);
    cost->max_batch = take_int(reader, 1, INT32_MAX);
    cost->capacity_tokens = take_int64(reader);
}

static void take_balance(pr_record_reader *reader, pr_balance_params *balance)
{
    balance->period_s = take_number(reader);
    balance->tpot_target_s = take_number(reader);
    balance->rotate = take_int(reader, 0, 1);
    reader->damaged = reader->damaged || !(balance->period_s > 0) || !(balance->tpot_target_s > 0);
}

static pr_status read_dispatch(pr_record_reader *reader)
{
    static const char word[] = "dispatch ";
    if (!next_line(reader) || strncmp(reader->line, word, strlen(word)) != 0)
        return pr_record_reader_fail(
            reader, "the second line does not say how requests are dispatched");
    reader->at += strlen(word);
    size_t length = strcspn(reader->at, " \n");
    reader->policy = strndup(reader->at, length);
    if (!reader->policy)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the name of a policy");
    reader->at += length;
    pr_scheduler_params *params = &reader->params;
    params->policy = reader->policy;
    params->queue.fair = take_int(reader, 0, 1);
    params->queue.most_jobs = take_int(reader, 1, INT32_MAX);
    params->queue.most_tenants = take_int(reader, 1, INT32_MAX);
    params->queue.prompt_weight = take_number(reader);
    params->queue.output_weight = take_number(reader);
    params->queue.guard_s = take_number(reader);
    take_cost(reader, &params->cost);
    params->flow.most_prompt_tokens = take_int64(reader);
    params->flow.ttl_s = take_number(reader);
    params->flow.sheddable_above = take_int(reader, INT32_MIN, INT32_MAX);
    params->short_suffix = take_int(reader, 0, INT32_MAX);
    if (*reader->at == ' ')
        take_balance(reader, &params->balance);
    if (reader->damaged)
        return pr_record_reader_fail(reader, "the policy or its numbers are not well formed");
    return PR_OK;
}

// *token: from malloc, also when the line is damaged; NULL without memory.
static int32_t take_tokens(pr_record_reader *reader, int32_t **token)
{
    int32_t tokens = take_count(reader);
    *token = malloc((size_t)tokens * sizeof **token + 1);
    for (int32_t i = 0; *token && i < tokens; i++)
        (*token)[i] = take_int(reader, INT32_MIN, INT32_MAX);
    return tokens;
}

static bool has_more(const pr_record_reader *reader)
{
    return reader->at[strspn(reader->at, " \n")] != '\0';
}

static pr_status read_submit(pr_record_reader *reader, pr_record_event *event)
{
    pr_request *request = calloc(1, sizeof *request);
    if (!request)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a request");
    pr_status status;
    request->id = take_unsigned(reader);
    request->priority = take_int(reader, INT32_MIN, INT32_MAX);
    request->salt = take_unsigned(reader);
    request->tenant = take_unsigned(reader);
    request->ttft_target_ms = take_int(reader, 0, INT32_MAX);
    request->tpot_target_ms = take_int(reader, 0, INT32_MAX);
    request->sibling_of = take_unsigned(reader);
    request->sampling.choice = take_int(reader, 0, INT32_MAX);
    request->sampling.max_tokens = take_int(reader, 1, INT32_MAX);
    request->sampling.top_logprobs = request->sampling.prompt_logprobs = -1;
    request->prompt_tokens = take_tokens(reader, &request->prompt);
    bool goes_on = has_more(reader);
    if (goes_on)
        request->outputs = take_tokens(reader, &request->output);
    if (!request->prompt || (goes_on && !request->output)) {
        status = pr_fail(PR_ERR_RESOURCE, "no memory for a prompt");
        goto destroy;
    }
    if (reader->damaged) {
        status = pr_record_reader_fail(reader, "the request is not well formed");
        goto destroy;
    }
    event->request = request;
    return PR_OK;

destroy:
    pr_request_destroy(request);
    return status;
}

static void read_tokens(pr_record_reader *reader, pr_token_report *token, int32_t tokens)
{
    for (int32_t i = 0; i < tokens; i++) {
        token[i] = (pr_token_report){.id = take_unsigned(reader)};
        token[i].generation = (uint32_t)take_unsigned(reader);
        token[i].index = take_int(reader, INT32_MIN, INT32_MAX);
        token[i].token = take_int(reader, INT32_MIN, INT32_MAX);
        token[i].finish = (pr_finish)take_int(reader, PR_FINISH_NONE, PR_FINISH_HANDED);
    }
}

static void read_chunks(pr_record_reader *reader, pr_chunk_report *chunk, int32_t chunks)
{
    for (int32_t i = 0; i < chunks; i++) {
        chunk[i].id = take_unsigned(reader);
        chunk[i].generation = (uint32_t)take_unsigned(reader);
        chunk[i].computed = take_int(reader, INT32_MIN, INT32_MAX);
    }
}

static void read_arrivals(pr_record_reader *reader, pr_arrival_report *arrival, int32_t arrivals)
{
    for (int32_t i = 0; i < arrivals; i++) {
        arrival[i].id = take_unsigned(reader);
        arrival[i].generation = (uint32_t)take_unsigned(reader);
        arrival[i].intact = take_int(reader, 0, 1);
    }
}

static pr_status read_report(pr_record_reader *reader, pr_report *report)
{
    report->plan = take_unsigned(reader);
    report->step = (uint32_t)take_unsigned(reader);
    report->group = take_int(reader, INT32_MIN, INT32_MAX);
    report->lane = take_int(reader, INT32_MIN, INT32_MAX);
    report->plan_finished = take_int(reader, 0, 1);
    report->step_ns = take_int64(reader);
    report->work.prefill_rows = take_int(reader, 0, INT32_MAX);
    report->work.decode_sequences = take_int(reader, 0, INT32_MAX);
    report->work.prefill_pairs = take_int64(reader);
    report->work.decode_context = take_int64(reader);
    report->tokens = take_count(reader);
    pr_token_report *token = scratch_take(&reader->token, report->tokens, sizeof *token);
    if (token)
        read_tokens(reader, token, report->tokens);
    report->chunks = take_count(reader);
    pr_chunk_report *chunk = scratch_take(&reader->chunk, report->chunks, sizeof *chunk);
    if (chunk)
        read_chunks(reader, chunk, report->chunks);
    report->arrivals = take_count(reader);
    pr_arrival_report *arrival = scratch_take(&reader->arrival, report->arrivals, sizeof *arrival);
    if (arrival)
        read_arrivals(reader, arrival, report->arrivals);
    report->token = token;
    report->chunk = chunk;
    report->arrival = arrival;
    return token && chunk && arrival ? PR_OK : pr_fail(PR_ERR_RESOURCE, "no memory for a report");
}

static pr_status read_plan(pr_record_reader *reader, pr_record_event *event)
{
    event->plan = take_unsigned(reader);
    event->group = take_int(reader, 0, reader->layout.groups - 1);
    event->max_steps = take_int(reader, 0, INT32_MAX);
    event->chunks = take_int(reader, 0, INT32_MAX);
    event->admissions = take_count(reader);
    pr_record_admission *admission =
        scratch_take(&reader->admission, event->admissions, sizeof *admission);
    if (!admission)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a plan");
    for (int32_t i = 0; i < event->admissions; i++) {
        admission[i].id = take_unsigned(reader);
        admission[i].lane = take_int(reader, 0, INT32_MAX);
        admission[i].cached = take_int(reader, 0, INT32_MAX);
        admission[i].arrives = take_int(reader, 0, 1);
    }
    event->admission = admission;
    event->handovers = take_count(reader);
    pr_record_handover *handover =
        scratch_take(&reader->handover, event->handovers, sizeof *handover);
    if (!handover)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a plan");
    for (int32_t i = 0; i < event->handovers; i++) {
        handover[i].id = take_unsigned(reader);
        handover[i].from_group = take_int(reader, 0, reader->layout.groups - 1);
        handover[i].to_group = take_int(reader, 0, reader->layout.groups - 1);
        handover[i].blocks = take_int(reader, 0, INT32_MAX);
    }
    event->handover = handover;
    return PR_OK;
}

static bool line_is(pr_record_reader *reader, const char *word)
{
    size_t length = strlen(word);
    if (strncmp(reader->line, word, length) != 0)
        return false;
    reader->at = reader->line + length;
    return true;
}

static pr_status read_event(pr_record_reader *reader, pr_record_event *event)
{
    if (line_is(reader, "submit ")) {
        event->kind = PR_RECORD_SUBMIT;
        return read_submit(reader, event);
    }
    if (line_is(reader, "report ")) {
        event->kind = PR_RECORD_REPORT;
        return read_report(reader, &event->report);
    }
    if (line_is(reader, "plan ")) {
        event->kind = PR_RECORD_PLAN;
        return read_plan(reader, event);
    }
    if (line_is(reader, "next ")) {
        event->kind = PR_RECORD_NEXT;
        event->calls = take_int(reader, 1, INT32_MAX);
        event->hash = take_hash(reader);
    } else if (line_is(reader, "cancel ")) {
        event->kind = PR_RECORD_CANCEL;
        event->id = take_unsigned(reader);
    } else if (line_is(reader, "advance ")) {
        event->kind = PR_RECORD_ADVANCE;
        reader->now_ns = take_int64(reader);
    } else if (line_is(reader, "end ")) {
        event->kind = PR_RECORD_END;
        event->end_ns = take_int64(reader);
        event->at_end = (pr_at_end)take_int(reader, PR_AT_END_LEAVE, PR_AT_END_REJECT);
    } else if (line_is(reader, "lost ")) {
        event->kind = PR_RECORD_LOST;
        event->group = take_int(reader, 0, reader->layout.groups - 1);
    } else if (line_is(reader, "back ")) {
        event->kind = PR_RECORD_BACK;
        event->group = take_int(reader, 0, reader->layout.groups - 1);
    } else if (line_is(reader, "pause ")) {
        event->kind = PR_RECORD_PAUSE;
        event->paused = take_int(reader, 0, 1);
    } else if (line_is(reader, "role ")) {
        event->kind = PR_RECORD_ROLE;
        event->group = take_int(reader, 0, reader->layout.groups - 1);
        event->role = (pr_role)take_int(reader, PR_ROLE_PREFILL, PR_ROLE_DECODE);
    } else if (line_is(reader, "hash ")) {
        event->kind = PR_RECORD_HASH;
        event->hash = take_hash(reader);
        reader->ended = true;
    } else {
        return pr_record_reader_fail(reader, "unknown event");
    }
    return PR_OK;
}

pr_status pr_record_reader_next(pr_record_reader *reader, pr_record_event *event, bool *more)
{
    *event = (pr_record_event){0};
    *more = !reader->ended && next_line(reader);
    if (!*more)
        return PR_OK;
    PR_TRY(read_event(reader, event));
    event->now_ns = reader->now_ns;
    return reader->damaged ? pr_record_reader_fail(reader, "the event is not well formed") : PR_OK;
}

pr_status pr_record_reader_open(FILE *events, pr_record_reader **reader)
{
    pr_record_reader *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a record");
    made->events = events;
    pr_status status = read_first_line(made);
    if (status == PR_OK)
        status = read_dispatch(made);
    if (status != PR_OK) {
        pr_record_reader_close(made);
        return status;
    }
    *reader = made;
    return PR_OK;
}

void pr_record_reader_close(pr_record_reader *reader)
{
    if (!reader)
        return;
    free(reader->token.data);
    free(reader->chunk.data);
    free(reader->arrival.data);
    free(reader->admission.data);
    free(reader->handover.data);
    free(reader->line);
    free(reader->policy);
    free(reader);
}
