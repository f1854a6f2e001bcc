// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/observe/id_table.h"
#include "launcher/observe/timeline.h"
#include "runtime/base/log.h"

static char path[] = "/tmp/polyreme-test-XXXXXX";
static const int64_t begin = 5000000000, ms = 1000000;

static const pr_layout layout = {
    .ranks = 4,
    .groups = 2,
    .group =
        {{.role = PR_ROLE_PREFILL, .ranks = 2, .tp = 2},
         {.role = PR_ROLE_DECODE, .first_rank = 2, .ranks = 2, .tp = 1}},
};

static int make_file(void **state)
{
    (void)state;
    int descriptor = mkstemp(path);
    return descriptor < 0 || close(descriptor) != 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static pr_timeline *open_timeline(int64_t most_bytes)
{
    pr_timeline *timeline;
    pr_timeline_params params = {
        .path = path, .layout = &layout, .most_bytes = most_bytes, .begin_ns = begin};
    assert_int_equal(pr_timeline_open(&params, &timeline), PR_OK);
    return timeline;
}

static json_t *read_events(void)
{
    json_error_t error;
    json_t *events = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!events)
        fail_msg("line %d: %s", error.line, error.text);
    return events;
}

static const char *text_of(const json_t *event, const char *name)
{
    const char *text = json_string_value(json_object_get(event, name));
    return text ? text : "";
}

static double number_of(const json_t *event, const char *name)
{
    return json_number_value(json_object_get(event, name));
}

// Spans of each request open and close like brackets, and time does not go back in them.
static void check_spans(const json_t *events)
{
    enum { IDS = 8, DEPTH = 4 };
    const char *open[IDS][DEPTH];
    int depth[IDS] = {0};
    double last[IDS] = {0};
    size_t at;
    const json_t *event;
    json_array_foreach(events, at, event)
    {
        const char *phase = text_of(event, "ph");
        if (strcmp(text_of(event, "cat"), "request") != 0)
            continue;
        long id = strtol(text_of(event, "id"), NULL, 16);
        assert_true(id >= 0 && id < IDS && number_of(event, "ts") >= last[id]);
        last[id] = number_of(event, "ts");
        if (*phase == 'b')
            open[id][depth[id]++] = text_of(event, "name");
        else if (*phase == 'e')
            assert_string_equal(open[id][--depth[id]], text_of(event, "name"));
        else
            assert_string_equal(phase, "n");
    }
    for (int id = 0; id < IDS; id++)
        assert_int_equal(depth[id], 0);
}

static const json_t *find(const json_t *events, const char *phase, const char *name, const char *id)
{
    size_t at;
    const json_t *event;
    json_array_foreach(events, at, event)
    {
        if (strcmp(text_of(event, "ph"), phase) == 0 && strcmp(text_of(event, "name"), name) == 0 &&
            (!id || strcmp(text_of(event, "id"), id) == 0))
            return event;
    }
    fail_msg("no event %s %s %s", phase, name, id ? id : "");
    return NULL;
}

// ---- A run ----

static void arrive(pr_timeline *timeline, int64_t now_ns, uint64_t id)
{
    pr_request request = {.id = id, .prompt_tokens = 9, .sampling = {.max_tokens = 7}};
    pr_timeline_arrived(timeline, now_ns, &request);
}

static void admit(pr_timeline *timeline, int64_t now_ns, int32_t group, uint64_t id, bool hands)
{
    pr_request request = {.id = id};
    pr_admission admission = {.request = &request, .arrives = group == 1};
    pr_handover handover = {.id = id, .from_group = 0, .to_group = 1};
    pr_plan plan = {
        .group = group,
        .admissions = 1,
        .admission = &admission,
        .handovers = hands,
        .handover = &handover,
    };
    pr_timeline_planned(timeline, now_ns, &plan);
}

static void token(pr_timeline *timeline, int64_t now_ns, uint64_t id, int32_t index, pr_finish how)
{
    pr_token_report report = {.id = id, .index = index, .finish = how};
    pr_timeline_token(timeline, now_ns, &report);
}

static void a_request_is_spans_that_nest(void **state)
{
    (void)state;
    pr_timeline *timeline = open_timeline(1 << 20);
    arrive(timeline, begin + ms, 1);
    arrive(timeline, begin + ms, 2);
    arrive(timeline, begin + ms, 3);
    arrive(timeline, begin + ms, 4);
    admit(timeline, begin + 2 * ms, 0, 1, true);
    admit(timeline, begin + 2 * ms, 1, 1, true);
    admit(timeline, begin + 3 * ms, 0, 2, false);
    token(timeline, begin + 4 * ms, 1, 0, PR_FINISH_NONE);
    admit(timeline, begin + 5 * ms, 0, 1, false);  // preempted, and back
    token(timeline, begin + 6 * ms, 1, 1, PR_FINISH_STOP);
    token(timeline, begin + 6 * ms, 1, 2, PR_FINISH_NONE);  // unknown by now
    token(timeline, begin + 7 * ms, 2, 0, PR_FINISH_LENGTH);
    pr_timeline_ended(timeline, begin + 8 * ms, 3, "cancelled");
    pr_timeline_ended(timeline, begin + 8 * ms, 3, "cancelled");
    pr_timeline_close(timeline, begin + 9 * ms);
    json_t *events = read_events();
    check_spans(events);
    const json_t *request = find(events, "b", "request", "0x1");
    assert_true(number_of(request, "ts") == 1000);
    assert_true(number_of(json_object_get(request, "args"), "prompt_tokens") == 9);
    assert_true(number_of(find(events, "e", "queued", "0x1"), "ts") == 2000);
    assert_true(number_of(find(events, "b", "decode", "0x1"), "ts") == 4000);
    find(events, "n", "handover", "0x1");
    assert_true(number_of(find(events, "n", "computed again", "0x1"), "ts") == 5000);
    static const char *const ends[] = {"stop", "length", "cancelled", "unfinished"};
    for (int i = 0; i < 4; i++) {
        char id[8];
        snprintf(id, sizeof id, "0x%d", i + 1);
        const json_t *args = json_object_get(find(events, "e", "request", id), "args");
        assert_string_equal(text_of(args, "end"), ends[i]);
    }
    json_decref(events);
}

static void steps_are_slices_of_their_lane_that_do_not_overlap(void **state)
{
    (void)state;
    pr_timeline *timeline = open_timeline(1 << 20);
    pr_report report = {
        .plan = 1, .group = 1, .lane = 1, .step_ns = 3 * ms, .work = {.decode_sequences = 2}};
    pr_timeline_reported(timeline, begin + 10 * ms, &report);
    report.step = 1;
    report.work.prefill_rows = 5;
    pr_timeline_reported(
        timeline, begin + 12 * ms, &report);  // told early: began at 9 at the latest
    report.step_ns = 0;
    pr_timeline_reported(timeline, begin + 13 * ms, &report);  // no step
    report = (pr_report){.group = 9, .step_ns = ms};
    pr_timeline_reported(timeline, begin + 14 * ms, &report);
    report = (pr_report){.group = 0, .lane = 1, .step_ns = ms};
    pr_timeline_reported(timeline, begin + 14 * ms, &report);
    pr_group_snapshot group[2] = {{.used_blocks = 3}, {.first_rank = 2, .used_blocks = 4}};
    pr_snapshot snapshot = {
        .time_ns = begin + 15 * ms, .waiting = 2, .unfinished = 5, .groups = 2, .group = group};
    pr_timeline_sample(timeline, &snapshot);
    pr_timeline_close(timeline, begin + 16 * ms);
    json_t *events = read_events();
    int slices = 0;
    size_t at;
    json_t *event;
    json_array_foreach(events, at, event) slices += strcmp(text_of(event, "ph"), "X") == 0;
    assert_int_equal(slices, 2);
    const json_t *first = find(events, "X", "decode", NULL);
    const json_t *second = find(events, "X", "prefill and decode", NULL);
    assert_true(number_of(first, "pid") == 2 && number_of(first, "tid") == 1);
    assert_true(number_of(first, "ts") == 7000 && number_of(first, "dur") == 3000);
    assert_true(number_of(second, "ts") == 10000 && number_of(second, "dur") == 2000);
    const json_t *queue = json_object_get(find(events, "C", "sequences", NULL), "args");
    assert_true(number_of(queue, "waiting") == 2 && number_of(queue, "running") == 3);
    find(events, "M", "process_name", NULL);
    find(events, "M", "thread_name", NULL);
    json_decref(events);
}

static void the_file_ends_whole_at_its_size(void **state)
{
    (void)state;
    struct stat status;
    pr_log_set_level(PR_LOG_ERROR);
    for (int64_t most = 4096; most < 300000; most = most * 3 + 17) {
        pr_timeline *timeline = open_timeline(most);
        for (uint64_t i = 0; i < 2000; i++) {
            arrive(timeline, begin + (int64_t)i * ms, 1);
            token(timeline, begin + (int64_t)i * ms, 1, 0, PR_FINISH_STOP);
        }
        pr_timeline_close(timeline, begin);
        assert_int_equal(stat(path, &status), 0);
        assert_true(status.st_size <= most && status.st_size > most - 1024);
        json_t *events = read_events();
        assert_true(json_array_size(events) > 10);
        json_decref(events);
    }
    pr_log_set_level(PR_LOG_INFO);
}

// A run that is killed leaves whole events; only the bracket is missing.
static void what_is_written_so_far_is_whole_events(void **state)
{
    (void)state;
    char text[1 << 16];
    pr_group_snapshot group[2] = {0};
    pr_snapshot snapshot = {.time_ns = begin + 2000 * ms, .groups = 2, .group = group};
    pr_timeline *timeline = open_timeline(1 << 20);
    arrive(timeline, begin + ms, 1);
    pr_timeline_sample(timeline, &snapshot);
    arrive(timeline, begin + ms, 2);  // not written yet
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof text - 2, file);
    fclose(file);
    assert_true(length > 100 && text[length - 1] == '}');
    memcpy(text + length, "]", 2);
    json_t *events = json_loads(text, 0, NULL);
    assert_non_null(events);
    find(events, "b", "request", "0x1");
    json_decref(events);
    pr_timeline_close(timeline, begin);
}

static void a_file_that_cannot_be_made_is_one_line(void **state)
{
    (void)state;
    pr_timeline *timeline;
    pr_timeline_params params = {.path = "/nowhere/trace", .layout = &layout, .most_bytes = 1};
    pr_error_capture_begin();
    assert_int_equal(pr_timeline_open(&params, &timeline), PR_ERR_IO);
    assert_non_null(strstr(pr_error_text(), "choose another --trace-file"));
    pr_error_capture_end();
    pr_timeline_close(NULL, 0);
}

static void the_table_agrees_with_a_naive_one(void **state)
{
    (void)state;
    enum { MOST = 50, IDS = 120, ROUNDS = 20000 };
    pr_id_table *table;
    int32_t number[IDS] = {0}, entries = 0;
    uint64_t random = 1;
    assert_int_equal(pr_id_table_create(MOST, &table), PR_OK);
    for (int round = 1; round <= ROUNDS; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t id = (random >> 33) % IDS;
        if (random >> 63) {
            int32_t *at = pr_id_table_add(table, id * 1000);
            assert_int_equal(at != NULL, number[id] == 0 && entries < MOST);
            if (at) {
                *at = number[id] = round;
                entries++;
            }
        } else {
            pr_id_table_remove(table, id * 1000);
            entries -= number[id] != 0;
            number[id] = 0;
        }
        for (uint64_t each = 0; each < IDS; each++) {
            const int32_t *at = pr_id_table_find(table, each * 1000);
            assert_int_equal(at ? *at : 0, number[each]);
        }
    }
    uint64_t cursor = 0, id;
    int32_t value, seen = 0;
    while (pr_id_table_next(table, &cursor, &id, &value)) {
        assert_int_equal(value, number[id / 1000]);
        seen++;
    }
    assert_int_equal(seen, entries);
    pr_id_table_destroy(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_spans_that_nest),
        cmocka_unit_test(steps_are_slices_of_their_lane_that_do_not_overlap),
        cmocka_unit_test(the_file_ends_whole_at_its_size),
        cmocka_unit_test(what_is_written_so_far_is_whole_events),
        cmocka_unit_test(a_file_that_cannot_be_made_is_one_line),
        cmocka_unit_test(the_table_agrees_with_a_naive_one),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
