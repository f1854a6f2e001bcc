// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/batch_input.h"
#include "launcher/result_file.h"
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

static void lines_come_out_in_input_order(void **state)
{
    (void)state;
    pr_result_file *file;
    char text[64];
    assert_int_equal(pr_result_file_open(path, true, &file), PR_OK);
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

static void completion_order_writes_at_once(void **state)
{
    (void)state;
    pr_result_file *file;
    char text[64];
    assert_int_equal(pr_result_file_open(path, false, &file), PR_OK);
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

static void write_input(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void input_lines_keep_their_numbers_and_skip_empty_ones(void **state)
{
    (void)state;
    pr_batch_input *input;
    pr_input_line line;
    pr_input_state state_now;
    write_input("{}\n\n  \r\n[1]\r\nlast");
    assert_int_equal(pr_batch_input_open(path, 0, &input), PR_OK);
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
    assert_int_equal(pr_batch_input_open(name, 0, &input), PR_OK);
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
    write_input("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nn\no\np\nq\nr\ns\nt\n");
    for (int round = 0; round < 2; round++) {
        pr_batch_input *input;
        assert_int_equal(pr_batch_input_open(path, 5, &input), PR_OK);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_out_in_input_order),
        cmocka_unit_test(completion_order_writes_at_once),
        cmocka_unit_test(an_unwritable_output_names_path_and_way_out),
        cmocka_unit_test(input_lines_keep_their_numbers_and_skip_empty_ones),
        cmocka_unit_test(a_pipe_without_data_does_not_hold_up_its_reader),
        cmocka_unit_test(a_shuffle_is_a_permutation_that_its_seed_repeats),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
