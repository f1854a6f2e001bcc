// SPDX-License-Identifier: BSD-3-Clause
// A record of events, replayed: whatever the bytes, a refusal that names the line, or a scheduler whose
// books are right after every event that workers or a file may have made up.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "scheduler/record/record_reader.h"
#include "scheduler/record/replay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A record may ask for pools as large as a cluster's; not here.
static bool is_small(FILE *events)
{
    pr_record_reader *reader;
    if (pr_record_reader_open(events, &reader) != PR_OK)
        return false;
    const pr_scheduler_params *params = pr_record_reader_params(reader);
    int32_t lanes = 0;
    for (int32_t g = 0; g < params->layout->groups; g++)
        lanes += params->layout->group[g].ranks / params->layout->group[g].tp;
    bool small = lanes <= 16 && params->kv_blocks <= 8192 && params->block_tokens <= 512 &&
                 params->max_model_len <= 4096 && params->max_num_seqs <= 64 &&
                 params->max_num_batched_tokens <= 4096 && params->lease_steps <= 64 &&
                 params->queue.most_tenants <= 1 << 20;
    pr_record_reader_close(reader);
    rewind(events);
    return small;
}

static void drain(pr_scheduler *scheduler)
{
    pr_decision decision;
    do {
        pr_scheduler_next(scheduler, &decision);
    } while (decision.kind != PR_DECISION_NONE);
    pr_scheduler_check(scheduler);
}

// The same events, but decisions are taken after each: whatever the calls that the record names.
static void run_checked(pr_record_reader *reader, pr_scheduler *scheduler)
{
    pr_record_event event;
    bool more = true;
    while (pr_record_reader_next(reader, &event, &more) == PR_OK && more) {
        if (event.kind == PR_RECORD_REPORT)
            pr_scheduler_report(scheduler, &event.report);
        else if (event.kind == PR_RECORD_CANCEL)
            pr_scheduler_cancel(scheduler, event.id);
        else if (event.kind == PR_RECORD_ADVANCE)
            pr_scheduler_advance(scheduler, event.now_ns);
        else if (event.kind == PR_RECORD_LOST)
            pr_scheduler_group_lost(scheduler, event.group);
        else if (event.kind == PR_RECORD_BACK)
            pr_scheduler_group_back(scheduler, event.group);
        else if (event.kind == PR_RECORD_PAUSE)
            pr_scheduler_pause(scheduler, event.paused);
        else if (
            event.kind == PR_RECORD_SUBMIT &&
            pr_scheduler_submit(scheduler, event.request) != PR_OK)
            pr_request_destroy(event.request);
        drain(scheduler);
    }
}

static void run_again(FILE *events)
{
    pr_record_reader *reader;
    pr_scheduler *scheduler;
    rewind(events);
    if (pr_record_reader_open(events, &reader) != PR_OK)
        return;
    if (pr_scheduler_create(pr_record_reader_params(reader), &scheduler) == PR_OK) {
        run_checked(reader, scheduler);
        pr_scheduler_destroy(scheduler);
    }
    pr_record_reader_close(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t *copy = malloc(size);
    FILE *events = copy ? fmemopen(memcpy(copy, data, size), size, "r") : NULL;
    pr_log_set_level(PR_LOG_ERROR);
    pr_error_capture_begin();
    pr_replay_result result;
    if (events && is_small(events)) {
        (void)!pr_replay_run(events, &result);
        run_again(events);
    }
    pr_error_capture_end();
    if (events)
        fclose(events);
    free(copy);
    return 0;
}
