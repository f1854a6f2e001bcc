// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/observe/timeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/observe/id_table.h"
#include "runtime/base/file_write.h"
#include "runtime/base/log.h"

enum { BUFFER_BYTES = 65536, EVENT_BYTES = 512, END_BYTES = 4, REQUESTS = 65536 };
static const int64_t write_ns = 1000000000;

// What a request is doing, as the value of its id.
enum { QUEUED = 1, PREFILL, DECODE };
static const char *const phase_names[] = {"", "queued", "prefill", "decode"};

struct pr_timeline {
    pr_timeline_params params;
    int descriptor;
    bool ended;  // at most_bytes, or a write failed
    int64_t written_bytes, written_ns;
    size_t used;
    char text[BUFFER_BYTES];
    int64_t *lane_end_ns;  // [ranks] of the last slice of the lane with this first rank
    pr_id_table *phase;
};

// ---- The file ----

static void end_file(pr_timeline *timeline)
{
    timeline->ended = true;
    close(timeline->descriptor);
    timeline->descriptor = -1;
}

static void write_out(pr_timeline *timeline)
{
    size_t done = pr_file_write(timeline->descriptor, timeline->text, timeline->used);
    if (done < timeline->used) {
        pr_log(
            PR_LOG_WARN, "the timeline %s ends here: %s", timeline->params.path, strerror(errno));
        end_file(timeline);
    }
    timeline->written_bytes += (int64_t)done;
    timeline->used = 0;
}

static void finish(pr_timeline *timeline)
{
    memcpy(timeline->text + timeline->used, "\n]\n", 3);
    timeline->used += 3;
    write_out(timeline);
    if (!timeline->ended)
        end_file(timeline);
}

static bool is_full(const pr_timeline *timeline)
{
    return timeline->written_bytes + (int64_t)timeline->used + EVENT_BYTES + END_BYTES >
           timeline->params.most_bytes;
}

// One event, {...}: the format gives what is between the braces.
static void __attribute__((format(printf, 2, 3)))
put(pr_timeline *timeline, const char *format, ...)
{
    if (timeline->ended)
        return;
    if (is_full(timeline)) {
        pr_log(
            PR_LOG_WARN,
            "the timeline %s has %lld bytes and ends here; --trace-file-size allows more",
            timeline->params.path, (long long)timeline->params.most_bytes);
        finish(timeline);
        return;
    }
    if (timeline->used + EVENT_BYTES + END_BYTES > BUFFER_BYTES) {
        write_out(timeline);
        if (timeline->ended)
            return;
    }
    char *at = timeline->text + timeline->used;
    bool first = timeline->written_bytes + (int64_t)timeline->used == 1;
    int begin = snprintf(at, EVENT_BYTES, "%s{", first ? "\n" : ",\n");
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(at + begin, (size_t)(EVENT_BYTES - begin), format, arguments);
    va_end(arguments);
    // Names come from this program and numbers are short: what does not fit is our mistake, and left out.
    if (length < 0 || begin + length + 1 >= EVENT_BYTES)
        return;
    at[begin + length] = '}';
    timeline->used += (size_t)(begin + length + 1);
}

static double us(const pr_timeline *timeline, int64_t time_ns)
{
    return (double)(time_ns - timeline->params.begin_ns) * 1e-3;
}

// The process of requests and queue stands after those of the ranks.
static int32_t request_process(const pr_timeline *timeline)
{
    return timeline->params.layout->ranks;
}

static void name_everything(pr_timeline *timeline)
{
    const pr_layout *layout = timeline->params.layout;
    put(timeline,
        "\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":\"requests\"}",
        request_process(timeline));
    for (int32_t g = 0; g < layout->groups; g++) {
        const pr_group_layout *group = &layout->group[g];
        put(timeline,
            "\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":"
            "\"group %d, %s at first, ranks %d-%d\"}",
            group->first_rank, g, pr_role_name(group->role), group->first_rank,
            group->first_rank + group->ranks - 1);
        for (int32_t lane = 0; lane < pr_layout_lanes(layout, g); lane++)
            put(timeline,
                "\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":"
                "\"lane %d\"}",
                group->first_rank, lane, lane);
    }
}

pr_status pr_timeline_open(const pr_timeline_params *params, pr_timeline **timeline)
{
    pr_timeline *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a timeline");
    made->params = *params;
    made->lane_end_ns = calloc((size_t)params->layout->ranks, sizeof *made->lane_end_ns);
    pr_status status = made->lane_end_ns ? pr_id_table_create(REQUESTS, &made->phase)
                                         : pr_fail(PR_ERR_RESOURCE, "no memory for a timeline");
    if (status == PR_OK) {
        made->descriptor = open(params->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (made->descriptor < 0)
            status = pr_fail(
                PR_ERR_IO, "cannot write the timeline %s: %s: choose another --trace-file",
                params->path, strerror(errno));
    }
    if (status != PR_OK) {
        pr_id_table_destroy(made->phase);
        free(made->lane_end_ns);
        free(made);
        return status;
    }
    made->text[made->used++] = '[';
    made->written_ns = params->begin_ns;
    name_everything(made);
    *timeline = made;
    return PR_OK;
}

// ---- Requests ----

static void
put_request(pr_timeline *timeline, int64_t now_ns, uint64_t id, char phase, const char *name)
{
    put(timeline,
        "\"cat\":\"request\",\"id\":\"0x%llx\",\"name\":\"%s\",\"ph\":\"%c\",\"pid\":%d,\"tid\":0,"
        "\"ts\":%.3f",
        (unsigned long long)id, name, phase, request_process(timeline), us(timeline, now_ns));
}

static void change_phase(pr_timeline *timeline, int64_t now_ns, uint64_t id, int32_t phase)
{
    int32_t *at = pr_id_table_find(timeline->phase, id);
    if (!at || *at >= phase)
        return;
    put_request(timeline, now_ns, id, 'e', phase_names[*at]);
    put_request(timeline, now_ns, id, 'b', phase_names[phase]);
    *at = phase;
}

static void
put_end(pr_timeline *timeline, int64_t now_ns, uint64_t id, int32_t phase, const char *why)
{
    put_request(timeline, now_ns, id, 'e', phase_names[phase]);
    put(timeline,
        "\"cat\":\"request\",\"id\":\"0x%llx\",\"name\":\"request\",\"ph\":\"e\",\"pid\":%d,"
        "\"tid\":0,"
        "\"ts\":%.3f,\"args\":{\"end\":\"%s\"}",
        (unsigned long long)id, request_process(timeline), us(timeline, now_ns), why);
}

static void end_request(pr_timeline *timeline, int64_t now_ns, uint64_t id, const char *why)
{
    const int32_t *phase = pr_id_table_find(timeline->phase, id);
    if (!phase)
        return;
    put_end(timeline, now_ns, id, *phase, why);
    pr_id_table_remove(timeline->phase, id);
}

void pr_timeline_arrived(pr_timeline *timeline, int64_t now_ns, const pr_request *request)
{
    int32_t *phase = pr_id_table_add(timeline->phase, request->id);
    if (!phase)
        return;
    *phase = QUEUED;
    put(timeline,
        "\"cat\":\"request\",\"id\":\"0x%llx\",\"name\":\"request\",\"ph\":\"b\",\"pid\":%d,"
        "\"tid\":0,"
        "\"ts\":%.3f,\"args\":{\"prompt_tokens\":%d,\"max_tokens\":%d}",
        (unsigned long long)request->id, request_process(timeline), us(timeline, now_ns),
        (int)request->prompt_tokens, (int)request->sampling.max_tokens);
    put_request(timeline, now_ns, request->id, 'b', phase_names[QUEUED]);
}

void pr_timeline_planned(pr_timeline *timeline, int64_t now_ns, const pr_plan *plan)
{
    for (int32_t i = 0; i < plan->admissions; i++) {
        const pr_admission *admission = &plan->admission[i];
        uint64_t id = admission->request->id;
        const int32_t *phase = pr_id_table_find(timeline->phase, id);
        if (!phase || admission->arrives)
            continue;
        if (*phase != QUEUED)
            put_request(timeline, now_ns, id, 'n', "computed again");
        change_phase(timeline, now_ns, id, PREFILL);
    }
    for (int32_t i = 0; i < plan->handovers; i++) {
        const pr_handover *handover = &plan->handover[i];
        // It stands in the plans of both groups.
        if (handover->from_group == plan->group && pr_id_table_find(timeline->phase, handover->id))
            put_request(
                timeline, now_ns, handover->id, 'n', handover->gather ? "gather" : "handover");
    }
}

void pr_timeline_token(pr_timeline *timeline, int64_t now_ns, const pr_token_report *token)
{
    if (token->index == 0)
        change_phase(timeline, now_ns, token->id, DECODE);
    if (token->finish != PR_FINISH_NONE)
        end_request(
            timeline, now_ns, token->id, token->finish == PR_FINISH_STOP ? "stop" : "length");
}

void pr_timeline_ended(pr_timeline *timeline, int64_t now_ns, uint64_t id, const char *why)
{
    end_request(timeline, now_ns, id, why);
}

// ---- Groups ----

void pr_timeline_reported(pr_timeline *timeline, int64_t now_ns, const pr_report *report)
{
    const pr_layout *layout = timeline->params.layout;
    if (report->step_ns <= 0 || report->group < 0 || report->group >= layout->groups ||
        report->lane < 0 || report->lane >= pr_layout_lanes(layout, report->group))
        return;
    const pr_step_work *work = &report->work;
    int64_t *end_ns =
        &timeline->lane_end_ns[pr_layout_rank(layout, report->group, report->lane, 0)];
    // Reports do not travel evenly; slices of a lane must not overlap.
    int64_t begin_ns = now_ns - report->step_ns;
    if (begin_ns < *end_ns)
        begin_ns = *end_ns;
    *end_ns = now_ns;
    const char *name = work->prefill_rows == 0       ? "decode"
                       : work->decode_sequences == 0 ? "prefill"
                                                     : "prefill and decode";
    put(timeline,
        "\"cat\":\"step\",\"name\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%."
        "3f,"
        "\"args\":{\"plan\":%llu,\"step\":%u,\"prefill_tokens\":%d,\"decode_sequences\":%d,"
        "\"step_us\":%.3f}",
        name, layout->group[report->group].first_rank, (int)report->lane, us(timeline, begin_ns),
        (double)(now_ns - begin_ns) * 1e-3, (unsigned long long)report->plan,
        (unsigned)report->step, (int)work->prefill_rows, (int)work->decode_sequences,
        (double)report->step_ns * 1e-3);
}

void pr_timeline_sample(pr_timeline *timeline, const pr_snapshot *snapshot)
{
    double ts_us = us(timeline, snapshot->time_ns);
    put(timeline,
        "\"name\":\"sequences\",\"ph\":\"C\",\"pid\":%d,\"ts\":%.3f,\"args\":{\"waiting\":%d,"
        "\"running\":%d}",
        request_process(timeline), ts_us, (int)snapshot->waiting,
        (int)(snapshot->unfinished - snapshot->waiting));
    for (int32_t g = 0; g < snapshot->groups; g++)
        put(timeline,
            "\"name\":\"KV blocks in "
            "use\",\"ph\":\"C\",\"pid\":%d,\"ts\":%.3f,\"args\":{\"used\":%d}",
            (int)snapshot->group[g].first_rank, ts_us, (int)snapshot->group[g].used_blocks);
    if (!timeline->ended && snapshot->time_ns - timeline->written_ns >= write_ns) {
        write_out(timeline);
        timeline->written_ns = snapshot->time_ns;
    }
}

void pr_timeline_close(pr_timeline *timeline, int64_t now_ns)
{
    if (!timeline)
        return;
    uint64_t cursor = 0, id;
    int32_t phase;
    while (!timeline->ended && pr_id_table_next(timeline->phase, &cursor, &id, &phase))
        put_end(timeline, now_ns, id, phase, "unfinished");
    if (!timeline->ended)
        finish(timeline);
    pr_id_table_destroy(timeline->phase);
    free(timeline->lane_end_ns);
    free(timeline);
}
