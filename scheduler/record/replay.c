// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/record/replay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "scheduler/scheduler_state.h"

enum { MAX_REPLAY_LANES = 65536 };

typedef struct replay {
    FILE *events;
    int64_t line_number;
    char *line;
    size_t line_bytes;
    char *at;      // next word of the line
    bool damaged;  // a word was missing or out of bounds
    pr_layout *layout;
    pr_scheduler *scheduler;
} replay;

static pr_status bad_line(const replay *run, const char *what)
{
    return pr_fail(
        PR_ERR_FORMAT, "recorded events, line %lld: %s", (long long)run->line_number, what);
}

static bool next_line(replay *run)
{
    run->line_number++;
    ssize_t length = getline(&run->line, &run->line_bytes, run->events);
    run->at = run->line;
    run->damaged = false;
    return length > 0;
}

static uint64_t take_unsigned(replay *run)
{
    char *end;
    uint64_t value = strtoull(run->at, &end, 10);
    run->damaged = run->damaged || end == run->at;
    run->at = end;
    return value;
}

// A number within [low, high]; `low` and a damaged line if it is not.
static int32_t take_int(replay *run, int32_t low, int32_t high)
{
    char *end;
    long long value = strtoll(run->at, &end, 10);
    bool bad = end == run->at || value < low || value > high;
    run->damaged = run->damaged || bad;
    run->at = end;
    return bad ? low : (int32_t)value;
}

// A count of entries that follow; each takes at least two characters, so the line bounds it.
static int32_t take_count(replay *run)
{
    int32_t count = take_int(run, 0, INT32_MAX);
    if ((size_t)count > strlen(run->at) / 2) {
        run->damaged = true;
        return 0;
    }
    return count;
}

static pr_status read_layout(replay *run, pr_scheduler_params *params)
{
    pr_layout *layout = run->layout;
    int64_t lanes = 0;
    layout->ranks = take_int(run, 1, INT32_MAX);
    layout->dedicated_controller = take_int(run, 0, 1);
    layout->groups = take_int(run, 1, PR_MAX_GROUPS);
    for (int32_t g = 0; g < layout->groups; g++) {
        pr_group_layout *group = &layout->group[g];
        group->role = (pr_role)take_int(run, PR_ROLE_MIXED, PR_ROLE_DECODE);
        group->first_rank = take_int(run, 0, INT32_MAX);
        group->ranks = take_int(run, 1, MAX_REPLAY_LANES);
        group->tp = take_int(run, 1, group->ranks);
        lanes += group->ranks / group->tp;
    }
    params->layout = layout;
    if (run->damaged || lanes > MAX_REPLAY_LANES)
        return bad_line(run, "parameters or layout are not well formed");
    return PR_OK;
}

static pr_status read_first_line(replay *run)
{
    static const char magic[] = "polyreme-events 1 ";
    if (!next_line(run) || strncmp(run->line, magic, strlen(magic)) != 0)
        return bad_line(run, "this is no recording of version 1 (--record writes one)");
    run->at += strlen(magic);
    enum { MOST = 1 << 24 };
    pr_scheduler_params params;
    params.kv_blocks = take_int(run, 1, MOST);
    params.block_tokens = take_int(run, 1, MOST);
    params.max_model_len = take_int(run, 2, MOST);
    params.max_num_batched_tokens = take_int(run, 1, MOST);
    params.max_num_seqs = take_int(run, 1, MOST);
    params.lease_steps = take_int(run, 1, MOST);
    params.prefix_caching = take_int(run, 0, 1);
    PR_TRY(read_layout(run, &params));
    return pr_scheduler_create(&params, &run->scheduler);
}

static pr_status replay_submit(replay *run)
{
    pr_request *request = calloc(1, sizeof *request);
    if (!request)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a request");
    pr_status status;
    request->id = take_unsigned(run);
    request->priority = take_int(run, INT32_MIN, INT32_MAX);
    request->salt = take_unsigned(run);
    request->sibling_of = take_unsigned(run);
    request->sampling.choice = take_int(run, 0, INT32_MAX);
    request->sampling.max_tokens = take_int(run, 1, INT32_MAX);
    request->prompt_tokens = take_count(run);
    request->prompt = malloc((size_t)request->prompt_tokens * sizeof(int32_t) + 1);
    if (!request->prompt) {
        status = pr_fail(PR_ERR_RESOURCE, "no memory for a prompt");
        goto destroy;
    }
    for (int32_t i = 0; i < request->prompt_tokens; i++)
        request->prompt[i] = take_int(run, INT32_MIN, INT32_MAX);
    if (run->damaged) {
        status = bad_line(run, "the request is not well formed");
        goto destroy;
    }
    PR_TRY_GOTO(pr_scheduler_submit(run->scheduler, request), destroy);
    return PR_OK;

destroy:
    pr_request_destroy(request);
    return status;
}

static void read_tokens(replay *run, pr_token_report *token, int32_t tokens)
{
    for (int32_t i = 0; i < tokens; i++) {
        token[i].id = take_unsigned(run);
        token[i].generation = (uint32_t)take_unsigned(run);
        token[i].index = take_int(run, INT32_MIN, INT32_MAX);
        token[i].token = take_int(run, INT32_MIN, INT32_MAX);
        token[i].finish = (pr_finish)take_int(run, PR_FINISH_NONE, PR_FINISH_HANDED);
    }
}

static void read_chunks(replay *run, pr_chunk_report *chunk, int32_t chunks)
{
    for (int32_t i = 0; i < chunks; i++) {
        chunk[i].id = take_unsigned(run);
        chunk[i].generation = (uint32_t)take_unsigned(run);
        chunk[i].computed = take_int(run, INT32_MIN, INT32_MAX);
    }
}

static void read_arrivals(replay *run, pr_arrival_report *arrival, int32_t arrivals)
{
    for (int32_t i = 0; i < arrivals; i++) {
        arrival[i].id = take_unsigned(run);
        arrival[i].generation = (uint32_t)take_unsigned(run);
        arrival[i].intact = take_int(run, 0, 1);
    }
}

static pr_status replay_report(replay *run)
{
    pr_report report = {
        .plan = take_unsigned(run),
        .step = (uint32_t)take_unsigned(run),
        .group = take_int(run, INT32_MIN, INT32_MAX),
        .lane = take_int(run, INT32_MIN, INT32_MAX),
        .plan_finished = take_int(run, 0, 1),
    };
    report.tokens = take_count(run);
    pr_token_report *token = calloc((size_t)report.tokens + 1, sizeof *token);
    if (token)
        read_tokens(run, token, report.tokens);
    report.chunks = take_count(run);
    pr_chunk_report *chunk = calloc((size_t)report.chunks + 1, sizeof *chunk);
    if (chunk)
        read_chunks(run, chunk, report.chunks);
    report.arrivals = take_count(run);
    pr_arrival_report *arrival = calloc((size_t)report.arrivals + 1, sizeof *arrival);
    if (arrival)
        read_arrivals(run, arrival, report.arrivals);
    report.token = token;
    report.chunk = chunk;
    report.arrival = arrival;
    pr_status status = PR_OK;
    if (!token || !chunk || !arrival)
        status = pr_fail(PR_ERR_RESOURCE, "no memory for a report");
    else if (run->damaged)
        status = bad_line(run, "the report is not well formed");
    else
        pr_scheduler_report(run->scheduler, &report);
    free(token);
    free(chunk);
    free(arrival);
    return status;
}

static bool line_is(replay *run, const char *word)
{
    size_t length = strlen(word);
    if (strncmp(run->line, word, length) != 0)
        return false;
    run->at = run->line + length;
    return true;
}

static pr_status replay_next(replay *run, int32_t calls)
{
    pr_decision decision;
    for (int32_t i = 0; i < calls; i++)
        pr_scheduler_next(run->scheduler, &decision);
    for (int32_t g = 0; g < run->scheduler->groups; g++) {
        if (run->scheduler->group[g].ready)
            return bad_line(run, "it ends before all plans of the round are out");
    }
    return PR_OK;
}

static pr_status replay_event(replay *run, pr_replay_result *result)
{
    result->events++;
    if (line_is(run, "submit "))
        return replay_submit(run);
    if (line_is(run, "report "))
        return replay_report(run);
    if (line_is(run, "next ")) {
        int32_t calls = take_int(run, 1, INT32_MAX);
        return run->damaged ? bad_line(run, "the event is not well formed")
                            : replay_next(run, calls);
    }
    if (line_is(run, "cancel "))
        pr_scheduler_cancel(run->scheduler, take_unsigned(run));
    else if (line_is(run, "advance "))
        pr_scheduler_advance(run->scheduler, (int64_t)take_unsigned(run));
    else if (line_is(run, "hash ")) {
        result->complete = true;
        result->recorded_hash = strtoull(run->at, NULL, 16);
    } else
        return bad_line(run, "unknown event");
    return run->damaged ? bad_line(run, "the event is not well formed") : PR_OK;
}

pr_status pr_replay_run(FILE *events, pr_replay_result *result)
{
    pr_replay_result made = {0};
    replay run = {.events = events};
    pr_status status = PR_OK;
    run.layout = calloc(1, sizeof *run.layout);
    if (!run.layout)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a layout");
    PR_TRY_GOTO(read_first_line(&run), destroy);
    while (!made.complete && next_line(&run))
        PR_TRY_GOTO(replay_event(&run, &made), destroy);
    made.hash = pr_scheduler_hash(run.scheduler);
    pr_scheduler_count(run.scheduler, &made.counts);
    *result = made;

destroy:
    if (run.scheduler)
        pr_scheduler_destroy(run.scheduler);
    free(run.layout);
    free(run.line);
    return status;
}
