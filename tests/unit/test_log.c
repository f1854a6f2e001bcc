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
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"

static char text[16384];
static int kept_stderr, pipe_end[2];

static void begin_capture(void)
{
    fflush(stderr);
    assert_int_equal(pipe(pipe_end), 0);
    kept_stderr = dup(STDERR_FILENO);
    assert_true(dup2(pipe_end[1], STDERR_FILENO) >= 0);
}

static void end_capture(void)
{
    assert_true(dup2(kept_stderr, STDERR_FILENO) >= 0);
    close(kept_stderr);
    close(pipe_end[1]);
    ssize_t got = read(pipe_end[0], text, sizeof text - 1);
    text[got > 0 ? got : 0] = '\0';
    close(pipe_end[0]);
}

static const char *json_text_of(const char *said, json_t **line)
{
    begin_capture();
    pr_log(PR_LOG_WARN, "%s", said);
    end_capture();
    size_t length = strlen(text);
    assert_true(length > 0 && text[length - 1] == '\n' && !strchr(text, '\n')[1]);
    *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(*line);
    assert_int_equal(json_object_size(*line), 4);
    return json_string_value(json_object_get(*line, "text"));
}

static void a_json_line_says_time_level_rank_and_text(void **state)
{
    (void)state;
    json_t *line;
    assert_string_equal(json_text_of("hello", &line), "hello");
    assert_true(json_is_null(json_object_get(line, "rank")));
    assert_string_equal(json_string_value(json_object_get(line, "level")), "WARN");
    const char *time = json_string_value(json_object_get(line, "time"));
    assert_int_equal(strlen(time), strlen("2026-01-01T00:00:00.123Z"));
    assert_true(time[10] == 'T' && time[19] == '.' && time[23] == 'Z');
    json_decref(line);
    pr_log_set_rank(3);
    json_text_of("", &line);
    assert_int_equal(json_integer_value(json_object_get(line, "rank")), 3);
    json_decref(line);
    pr_log_set_rank(-1);
}

static void any_bytes_make_a_json_line(void **state)
{
    (void)state;
    static const struct {
        const char *said, *read;
    } given[] = {
        {"a \"quoted\" \\ path", "a \"quoted\" \\ path"},
        {"line\nline\ttab\x01\x7f", "line\nline\ttab\x01\x7f"},
        {"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xff", "\xef\xbf\xbd"},
        {"\xc0\xafx", "\xef\xbf\xbd\xef\xbf\xbdx"},                // longer than needed
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},  // a surrogate
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},  // cut off
        {"\xe0\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        json_t *line;
        assert_string_equal(json_text_of(given[i].said, &line), given[i].read);
        json_decref(line);
    }
}

static void the_longest_line_is_json_too(void **state)
{
    (void)state;
    char said[4096];
    json_t *line;
    for (int byte = 1; byte < 256; byte += 127) {  // 0x01, 0x80, 0xff: six bytes each in JSON
        memset(said, byte, sizeof said - 1);
        said[sizeof said - 1] = '\0';
        pr_log_set_rank(1000000);
        assert_true(strlen(json_text_of(said, &line)) >= 1000);
        pr_log_set_rank(-1);
        json_decref(line);
    }
}

static void errors_are_lines_of_the_same_form(void **state)
{
    (void)state;
    begin_capture();
    assert_int_equal(pr_fail(PR_ERR_IO, "no %s", "luck"), PR_ERR_IO);
    end_capture();
    json_t *line = json_loads(text, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(line, "level")), "ERROR");
    assert_string_equal(json_string_value(json_object_get(line, "text")), "no luck");
    assert_string_equal(pr_error_text(), "no luck");
    json_decref(line);
}

static void a_text_line_is_as_before(void **state)
{
    (void)state;
    pr_log_set_json(false);
    pr_log_set_rank(3);
    begin_capture();
    pr_log(PR_LOG_INFO, "load: %d \"files\"", 2);
    pr_log(PR_LOG_DEBUG, "not said");
    end_capture();
    assert_string_equal(text + 24, " INFO [r03] load: 2 \"files\"\n");
    pr_log_set_rank(-1);
    pr_log_set_json(true);
}

static int speak_json(void **state)
{
    (void)state;
    pr_log_set_json(true);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_json_line_says_time_level_rank_and_text),
        cmocka_unit_test(any_bytes_make_a_json_line),
        cmocka_unit_test(the_longest_line_is_json_too),
        cmocka_unit_test(errors_are_lines_of_the_same_form),
        cmocka_unit_test(a_text_line_is_as_before),
    };
    return cmocka_run_group_tests(tests, speak_json, NULL);
}
