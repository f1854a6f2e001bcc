// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "launcher/client/top_view.h"

static const char folder[] = PR_SOURCE_DIR "/tests/data/top";

static pr_run_status read_status(const char *name)
{
    char path[512];
    pr_run_status status;
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    assert_int_equal(pr_run_status_parse(root, &status), PR_OK);
    json_decref(root);
    return status;
}

static char *render(const pr_top_view *view)
{
    pr_byte_buffer out = {0};
    pr_top_view_render(view, &out);
    pr_byte_buffer_append(&out, "", 1);
    assert_false(out.failed);
    return out.data;
}

static void assert_is_golden(const pr_top_view *view, const char *name)
{
    char path[512], golden[16384];
    snprintf(path, sizeof path, "%s/%s.txt", folder, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size_bytes = fread(golden, 1, sizeof golden - 1, file);
    fclose(file);
    golden[size_bytes] = '\0';
    char *text = render(view);
    assert_string_equal(text, golden);
    free(text);
}

static void a_picture_for_80_columns_is_the_golden_one(void **state)
{
    (void)state;
    pr_run_status status = read_status("full"), before = read_status("full");
    pr_rate_history history = {0};
    before.group[0].steps -= 20;
    before.group[1].steps -= 150;
    for (int i = 0; i <= 40; i++)
        pr_rate_history_add(&history, 100 + i, i * 10);
    pr_top_view view = {
        .status = &status,
        .before = &before,
        .between_s = 2,
        .output = &history,
        .now_s = 140,
        .url = "http://127.0.0.1:8000/v1",
        .columns = 80,
        .rows = 24,
        .unicode = true,
        .keys = true,
    };
    assert_is_golden(&view, "full-80x24");
    view.colour = true;
    view.note = "as of 3 s ago: no server";
    assert_is_golden(&view, "full-80x24-colour");
    pr_run_status_clear(&status);
    pr_run_status_clear(&before);
}

static void a_report_without_history_is_the_golden_one(void **state)
{
    (void)state;
    pr_run_status status = read_status("full");
    pr_top_view view = {
        .status = &status,
        .url = "http://127.0.0.1:8000/v1",
        .columns = 110,
        .rows = INT_MAX,
    };
    assert_is_golden(&view, "full-report");
    pr_run_status_clear(&status);
}

static void fields_that_are_missing_or_absurd_are_shown_plainly(void **state)
{
    (void)state;
    pr_run_status status = read_status("foreign");
    pr_top_view view = {.status = &status, .url = "http://h/v1", .columns = 90, .rows = INT_MAX};
    assert_is_golden(&view, "foreign");
    pr_run_status_clear(&status);
}

static void a_server_not_heard_yet_has_its_note(void **state)
{
    (void)state;
    pr_top_view view = {.url = "http://h/v1", .note = "gone\n", .columns = 80, .rows = 24};
    char *text = render(&view);
    assert_string_equal(text, "polyreme top  http://h/v1\ngone \n");
    free(text);
}

// Columns of the line without its escapes.
static int32_t columns_of(const char *line, size_t size_bytes)
{
    int32_t columns = 0;
    for (size_t at = 0; at < size_bytes;) {
        utf8proc_int32_t point;
        if (line[at] == '\033') {
            at += strcspn(line + at, "m") + 1;
            continue;
        }
        at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)line + at, -1, &point);
        columns += utf8proc_charwidth(point);
    }
    return columns;
}

static void no_size_of_terminal_is_overrun(void **state)
{
    (void)state;
    pr_run_status status = read_status("full");
    pr_rate_history history = {0};
    pr_rate_history_add(&history, 1, 5);
    for (int32_t columns = 0; columns <= 130; columns++) {
        for (int32_t rows = 0; rows <= 30; rows++) {
            pr_top_view view = {
                .status = &status,
                .output = &history,
                .now_s = 1,
                .url = "http://127.0.0.1:8000/v1",
                .note = rows % 2 ? "no server" : NULL,
                .columns = columns,
                .rows = rows,
                .colour = rows % 3 == 0,
                .unicode = true,
                .keys = true,
            };
            char *text = render(&view), *line = text;
            int32_t lines = 0;
            for (; *line; lines++) {
                size_t length = strcspn(line, "\n");
                assert_true(columns_of(line, length) <= columns);
                line += length + (line[length] != '\0');
            }
            assert_true(lines <= rows);
            free(text);
        }
    }
    pr_run_status_clear(&status);
}

static void groups_that_do_not_fit_are_counted(void **state)
{
    (void)state;
    enum { GROUPS = 300 };
    json_t *root = json_object(), *groups = json_array();
    for (int i = 0; i < GROUPS; i++)
        json_array_append_new(groups, json_pack("{s:i}", "index", i));
    json_object_set_new(root, "groups", groups);
    pr_run_status status;
    assert_int_equal(pr_run_status_parse(root, &status), PR_OK);
    assert_int_equal(status.groups, GROUPS);
    pr_top_view view = {.status = &status, .url = "", .columns = 80, .rows = 24};
    char *text = render(&view);
    assert_non_null(strstr(text, "... and 288 more groups"));
    assert_non_null(strstr(text, " 11 - "));
    assert_null(strstr(text, " 12 - "));
    free(text);
    pr_run_status_clear(&status);
    json_decref(root);
}

static void a_latency_of_0_is_not_known(void **state)
{
    (void)state;
    json_t *root = json_pack("{s:{s:{s:f,s:f}}}", "latency_s", "ttft", "p50", 0.0, "p90", 1e-4);
    pr_run_status status;
    assert_int_equal(pr_run_status_parse(root, &status), PR_OK);
    assert_true(isnan(status.ttft.p50) && status.ttft.p90 == 1e-4 && isnan(status.ttft.p99));
    pr_run_status_clear(&status);
    json_decref(root);
}

static void lists_longer_than_the_maximum_are_cut(void **state)
{
    (void)state;
    json_t *root = json_object(), *groups = json_array();
    for (int i = 0; i <= PR_RUN_STATUS_MAX_GROUPS; i++)
        json_array_append_new(groups, json_null());
    json_object_set_new(root, "groups", groups);
    pr_run_status status;
    assert_int_equal(pr_run_status_parse(root, &status), PR_OK);
    assert_int_equal(status.groups, PR_RUN_STATUS_MAX_GROUPS);
    assert_true(isnan(status.group[PR_RUN_STATUS_MAX_GROUPS - 1].index));
    pr_run_status_clear(&status);
    json_decref(root);
}

static void spans_are_means_and_hold_through_gaps(void **state)
{
    (void)state;
    pr_rate_history history = {0};
    double mean[4];
    pr_rate_history_add(&history, 60, 1000);
    pr_rate_history_add(&history, 116, 10);
    pr_rate_history_add(&history, 117, 20);
    pr_rate_history_add(&history, 118, (double)NAN);
    pr_rate_history_add(&history, 160, 50);
    pr_rate_history_spans(&history, 160, 4, mean);
    assert_true(isnan(mean[0]));
    assert_true(mean[1] == 15 && mean[2] == 15 && mean[3] == 50);
}

static void the_newest_samples_displace_the_oldest(void **state)
{
    (void)state;
    pr_rate_history history = {0};
    double mean;
    for (int i = 0; i < 2 * PR_RATE_HISTORY_SAMPLES + 1; i++)
        pr_rate_history_add(&history, 1, i);
    pr_rate_history_spans(&history, 1, 1, &mean);
    double last = 2 * PR_RATE_HISTORY_SAMPLES, first = last - PR_RATE_HISTORY_SAMPLES + 1;
    assert_true(fabs(mean - (first + last) / 2) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_picture_for_80_columns_is_the_golden_one),
        cmocka_unit_test(a_report_without_history_is_the_golden_one),
        cmocka_unit_test(fields_that_are_missing_or_absurd_are_shown_plainly),
        cmocka_unit_test(a_server_not_heard_yet_has_its_note),
        cmocka_unit_test(no_size_of_terminal_is_overrun),
        cmocka_unit_test(groups_that_do_not_fit_are_counted),
        cmocka_unit_test(a_latency_of_0_is_not_known),
        cmocka_unit_test(lists_longer_than_the_maximum_are_cut),
        cmocka_unit_test(spans_are_means_and_hold_through_gaps),
        cmocka_unit_test(the_newest_samples_displace_the_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
