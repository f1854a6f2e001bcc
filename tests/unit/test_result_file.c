// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "launcher/batch/batch_input.h"
#include "launcher/batch/result_file.h"
#include "runtime/base/log.h"

static char path[] = "/tmp/polyreme-test-XXXXXX";

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

static void read_all(char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t got = fread(text, 1, size - 1, file);
    text[got] = '\0';
    fclose(file);
}

static void write_text(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void lines_come_out_in_input_order(void **state)
{
    (void)state;
    pr_result_file *file;
    char text[64];
    assert_int_equal(pr_result_file_open(path, true, &file), PR_OK);
    assert_int_equal(pr_result_file_begin(file), PR_OK);
    assert_int_equal(pr_result_file_put(file, 2, strdup("c\n")), PR_OK);
    assert_int_equal(pr_result_file_put(file, 0, strdup("a\n")), PR_OK);
    read_all(text, sizeof text);
    assert_string_equal(text, "a\n");
    assert_int_equal(pr_result_file_put(file, 1, strdup("b\n")), PR_OK);
    read_all(text, sizeof text);
    assert_string_equal(text, "a\nb\nc\n");
    assert_int_equal(pr_result_file_put(file, 4, strdup("e\n")), PR_OK);
    assert_int_equal(pr_result_file_close(file), PR_OK);
    read_all(text, sizeof text);
    assert_string_equal(text, "a\nb\nc\ne\n");
}

static void lines_held_back_come_out_in_order_however_many(void **state)
{
    (void)state;
    enum { LINES = 1000 };
    static char text[8 * LINES];
    char line[16];
    int at = 0;
    pr_result_file *file;
    assert_int_equal(pr_result_file_open(path, true, &file), PR_OK);
    assert_int_equal(pr_result_file_begin(file), PR_OK);
    for (int first = 0; first < LINES; first += 100) {  // each hundred backwards
        for (int i = first + 99; i >= first; i--) {
            snprintf(line, sizeof line, "%d\n", i);
            assert_int_equal(pr_result_file_put(file, i, strdup(line)), PR_OK);
            assert_int_equal(pr_result_file_held(file), i > first ? first + 100 - i : 0);
        }
    }
    assert_int_equal(pr_result_file_close(file), PR_OK);
    read_all(text, sizeof text);
    for (int i = 0; i < LINES; i++) {
        int length = snprintf(line, sizeof line, "%d\n", i);
        assert_memory_equal(text + at, line, (size_t)length);
        at += length;
    }
    assert_int_equal(text[at], '\0');
}

static void earlier_results_stay_until_the_run_begins(void **state)
{
    (void)state;
    pr_result_file *file;
    char text[64];
    write_text("earlier\n");
    assert_int_equal(pr_result_file_open(path, true, &file), PR_OK);
    assert_int_equal(pr_result_file_close(file), PR_OK);
    read_all(text, sizeof text);
    assert_string_equal(text, "earlier\n");
    assert_int_equal(pr_result_file_open(path, true, &file), PR_OK);
    assert_int_equal(pr_result_file_begin(file), PR_OK);
    assert_int_equal(pr_result_file_close(file), PR_OK);
    read_all(text, sizeof text);
    assert_string_equal(text, "");
}

static void a_full_disk_is_one_error_and_close_adds_none(void **state)
{
    (void)state;
    pr_result_file *file;
    assert_int_equal(pr_result_file_open("/dev/full", true, &file), PR_OK);
    assert_int_equal(pr_result_file_begin(file), PR_OK);
    assert_int_equal(pr_result_file_put(file, 1, strdup("b\n")), PR_OK);
    pr_error_capture_begin();
    assert_int_equal(pr_result_file_put(file, 0, strdup("a\n")), PR_ERR_IO);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "/dev/full"));
    assert_int_equal(pr_result_file_close(file), PR_OK);
}

// With a limit on the size of files in the place of a full disk: the write is cut short.
static void a_line_that_does_not_fit_is_taken_back(void **state)
{
    (void)state;
    pr_result_file *file;
    char text[64];
    struct rlimit old, small = {.rlim_cur = 10};
    assert_int_equal(pr_result_file_open(path, true, &file), PR_OK);
    assert_int_equal(pr_result_file_begin(file), PR_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    pr_status first = pr_result_file_put(file, 0, strdup("first\n"));
    pr_error_capture_begin();
    pr_status second = pr_result_file_put(file, 1, strdup("second\n"));
    pr_error_capture_end();
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(first, PR_OK);
    assert_int_equal(second, PR_ERR_IO);
    assert_int_equal(pr_result_file_close(file), PR_OK);
    read_all(text, sizeof text);
    assert_string_equal(text, "first\n");
}

static void completion_order_writes_at_once(void **state)
{
    (void)state;
    pr_result_file *file;
    char text[64];
    assert_int_equal(pr_result_file_open(path, false, &file), PR_OK);
    assert_int_equal(pr_result_file_begin(file), PR_OK);
    assert_int_equal(pr_result_file_put(file, 7, strdup("z\n")), PR_OK);
    read_all(text, sizeof text);
    assert_string_equal(text, "z\n");
    assert_int_equal(pr_result_file_close(file), PR_OK);
}

static void an_unwritable_output_names_path_and_way_out(void **state)
{
    (void)state;
    pr_result_file *file;
    pr_error_capture_begin();
    assert_int_equal(pr_result_file_open("/nonexistent/out", true, &file), PR_ERR_IO);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "/nonexistent/out"));
    assert_non_null(strstr(pr_error_text(), "-o"));
}

static void input_lines_keep_their_numbers_and_skip_empty_ones(void **state)
{
    (void)state;
    pr_batch_input *input;
    pr_input_line line;
    pr_input_state state_now;
    write_text("{}\n\n  \r\n[1]\r\nlast");
    assert_int_equal(pr_batch_input_open(path, 0, NULL, &input), PR_OK);
    static const int numbers[] = {1, 4, 5};
    static const int sizes[] = {2, 3, 4};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
        assert_int_equal(state_now, PR_INPUT_LINE);
        assert_int_equal(line.number, numbers[i]);
        assert_int_equal(line.position, i);
        assert_int_equal(line.size_bytes, sizes[i]);
    }
    assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
    assert_int_equal(state_now, PR_INPUT_END);
    pr_batch_input_close(input);
}

static void a_line_beyond_the_limit_is_told_and_the_next_one_read(void **state)
{
    (void)state;
    pr_batch_input *input;
    pr_input_line line;
    pr_input_state state_now;
    enum { CHUNK = 1 << 20 };
    static char chunk[CHUNK];
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    memset(chunk, 'a', sizeof chunk);
    fputs("[1]\n", file);
    for (int i = 0; i < PR_MAX_LINE_BYTES / CHUNK + 1; i++)
        assert_int_equal(fwrite(chunk, 1, CHUNK, file), CHUNK);
    fputs("\n[3]", file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(pr_batch_input_open(path, 0, NULL, &input), PR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
        assert_int_equal(state_now, PR_INPUT_LINE);
        assert_int_equal(line.number, i + 1);
        assert_int_equal(line.position, i);
        assert_int_equal(line.too_long, i == 1);
        assert_int_equal(line.size_bytes, i == 1 ? 0 : 3);
    }
    assert_memory_equal(line.text, "[3]", 3);
    assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
    assert_int_equal(state_now, PR_INPUT_END);
    pr_batch_input_close(input);
}

static void a_pipe_without_data_does_not_hold_up_its_reader(void **state)
{
    (void)state;
    int pipe_ends[2];
    pr_batch_input *input;
    pr_input_line line;
    pr_input_state state_now;
    char name[64];
    assert_int_equal(pipe(pipe_ends), 0);
    snprintf(name, sizeof name, "/proc/self/fd/%d", pipe_ends[0]);
    assert_int_equal(pr_batch_input_open(name, 0, NULL, &input), PR_OK);
    assert_int_equal(write(pipe_ends[1], "{\"a\":", 5), 5);
    assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
    assert_int_equal(state_now, PR_INPUT_LATER);
    assert_int_equal(write(pipe_ends[1], "1}\n[", 4), 4);
    assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
    assert_int_equal(state_now, PR_INPUT_LINE);
    assert_int_equal(line.size_bytes, 7);
    assert_memory_equal(line.text, "{\"a\":1}", 7);
    close(pipe_ends[1]);
    assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
    assert_int_equal(state_now, PR_INPUT_LINE);
    assert_memory_equal(line.text, "[", 1);
    assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
    assert_int_equal(state_now, PR_INPUT_END);
    pr_batch_input_close(input);
    close(pipe_ends[0]);
}

static void a_shuffle_is_a_permutation_that_its_seed_repeats(void **state)
{
    (void)state;
    pr_input_line line;
    pr_input_state state_now;
    bool moved = false;
    int64_t first[20], seen = 0;
    write_text("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nn\no\np\nq\nr\ns\nt\n");
    for (int round = 0; round < 2; round++) {
        pr_batch_input *input;
        assert_int_equal(pr_batch_input_open(path, 5, NULL, &input), PR_OK);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
            assert_int_equal(line.text[0], 'a' + line.position);
            if (round == 0) {
                first[i] = line.position;
                seen |= (int64_t)1 << line.position;
                moved |= line.position != i;
            }
            assert_int_equal(line.position, first[i]);
        }
        pr_batch_input_close(input);
    }
    assert_int_equal(seen, (1 << 20) - 1);
    assert_true(moved);
}

// Every line is in one part, the parts follow each other, and those before a part come as elsewhere.
static void parts_of_an_input_are_the_whole(void **state)
{
    (void)state;
    write_text("0\n\n1\n2\n3\n\n4\n5\n6");
    for (int parts = 1; parts <= 10; parts++) {
        char next = '0';
        for (int part = 0; part < parts; part++) {
            pr_batch_input *input;
            pr_input_line line;
            pr_input_state state_now;
            char name[32], begin = next, at = '0';
            int64_t position = 0;
            snprintf(name, sizeof name, "%d/%d", part, parts);
            assert_int_equal(pr_batch_input_open(path, 0, name, &input), PR_OK);
            for (;;) {
                assert_int_equal(pr_batch_input_next(input, &line, &state_now), PR_OK);
                if (state_now == PR_INPUT_END)
                    break;
                assert_int_equal(line.text[0], at);
                assert_int_equal(line.elsewhere, at < begin);
                if (!line.elsewhere) {
                    assert_int_equal(line.position, position++);
                    next++;
                }
                at++;
            }
            assert_true(next - begin == 7 / parts || next - begin == 7 / parts + 1);
            pr_batch_input_close(input);
        }
        assert_int_equal(next, '7');
    }
}

static void a_part_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "4/4", "5/4", "-1/4", "0/0",   "1", "/",    "1/",
        "/4",  "a/b", "0/4x", "0/4/4", "",  "0/-4", "0/99999999999999999999"};
    pr_batch_input *input;
    int ends[2];
    char name[64];
    write_text("0\n1\n");
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        assert_int_equal(pr_batch_input_open(path, 0, parts[i], &input), PR_ERR_ARGUMENT);
        assert_non_null(strstr(pr_error_text(), "the third of four is 2/4"));
    }
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/proc/self/fd/%d", ends[0]);
    assert_int_equal(pr_batch_input_open(name, 0, "0/2", &input), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "give a file with -i"));
    pr_error_capture_end();
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_out_in_input_order),
        cmocka_unit_test(lines_held_back_come_out_in_order_however_many),
        cmocka_unit_test(earlier_results_stay_until_the_run_begins),
        cmocka_unit_test(a_full_disk_is_one_error_and_close_adds_none),
        cmocka_unit_test(a_line_that_does_not_fit_is_taken_back),
        cmocka_unit_test(completion_order_writes_at_once),
        cmocka_unit_test(an_unwritable_output_names_path_and_way_out),
        cmocka_unit_test(input_lines_keep_their_numbers_and_skip_empty_ones),
        cmocka_unit_test(a_line_beyond_the_limit_is_told_and_the_next_one_read),
        cmocka_unit_test(a_pipe_without_data_does_not_hold_up_its_reader),
        cmocka_unit_test(a_shuffle_is_a_permutation_that_its_seed_repeats),
        cmocka_unit_test(parts_of_an_input_are_the_whole),
        cmocka_unit_test(a_part_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
