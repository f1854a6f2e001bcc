// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <jansson.h>
#include <sys/wait.h>

#include "journal_run.h"
#include "launcher/batch/batch_output.h"
#include "launcher/batch/batch_state.h"
#include "launcher/batch/state_writer.h"
#include "launcher/commands.h"

static pr_options options;
static char model_name[] = "tiny";
static const pr_engine engine = {
    .options = &options,
    .model_name = model_name,
    .max_model_len = 128,
    .kv_dtype = PR_BF16,
};

static void begin_options(void)
{
    options = (pr_options){
        .model = PR_SOURCE_DIR "/tests/data/models/llama-tiny",
        .output = run_output,
        .order = "input",
        .journal = "auto",
        .journal_sync = 1000,
        .tool_call_parser = "auto",
        .reasoning_parser = "auto",
    };
}

static pr_batch_output *open_output(bool resume)
{
    pr_batch_output *output;
    bool complete;
    options.resume = resume;
    assert_int_equal(pr_batch_output_open(&options, &output, &complete), PR_OK);
    assert_false(complete);
    assert_int_equal(pr_batch_output_begin(output, &engine), PR_OK);
    return output;
}

static pr_input_line make_line(int64_t position)
{
    static const char *const text[] = {"the first", "the second", "the third"};
    return (pr_input_line){
        .text = text[position],
        .size_bytes = strlen(text[position]),
        .number = position + 1,
        .position = position,
    };
}

static void answer_line(pr_batch_output *output, int64_t position)
{
    char text[32];
    const pr_input_line line = make_line(position);
    const pr_id_key key = pr_id_set_key("id");
    const pr_journal_result result = {.position = position, .output_tokens = 1};
    snprintf(text, sizeof text, "answer %lld\n", (long long)position);
    assert_int_equal(pr_batch_output_claim(output, &line, &key), PR_OK);
    assert_int_equal(pr_batch_output_put(output, &result, strdup(text)), PR_OK);
    assert_int_equal(pr_batch_output_flush(output), PR_OK);
}

static void end_complete(pr_batch_output *output, int64_t lines)
{
    bool resumable;
    const pr_batch_ending ending = {.complete = true, .end = lines};
    assert_int_equal(pr_batch_output_end(output, &ending, &resumable), PR_OK);
    assert_false(resumable);
    pr_batch_output_close(output);
}

static pr_batch_state read_state(void)
{
    pr_batch_state state;
    bool there;
    assert_int_equal(pr_batch_state_read(run_output, &state, &there), PR_OK);
    assert_true(there);
    return state;
}

static void expect_answers(const char *expected)
{
    size_t size_bytes;
    char *got = run_read(run_output, &size_bytes);
    assert_non_null(got);
    assert_string_equal(got, expected);
    free(got);
}

static bool has_journal(void)
{
    bool exists;
    assert_int_equal(pr_journal_exists(run_output, &exists), PR_OK);
    return exists;
}

static int clean(void **state)
{
    (void)state;
    pr_journal_discard(run_output);
    (void)unlink(run_output);
    (void)unlink(run_path("out.state"));
    begin_options();
    return 0;
}

// The run is killed: nothing is told.
static void drop(pr_batch_output *output) { pr_batch_output_close(output); }

static void answers_of_two_runs_come_out_in_the_order_of_the_input(void **state)
{
    (void)state;
    pr_batch_output *output = open_output(false);
    answer_line(output, 2);
    assert_int_equal(read_state().phase, PR_BATCH_RUNNING);
    assert_int_equal(access(run_output, F_OK), -1);
    drop(output);
    output = open_output(true);
    assert_int_equal(pr_batch_output_totals(output).answered, 1);
    const pr_journal_entry *known;
    const pr_input_line third = make_line(2), first = make_line(0);
    assert_int_equal(pr_batch_output_find(output, &third, &known), PR_OK);
    assert_true(known && known->done && known->claim.id_hash == pr_id_set_key("id").hash);
    assert_int_equal(pr_batch_output_find(output, &first, &known), PR_OK);
    assert_null(known);
    answer_line(output, 1);
    answer_line(output, 0);
    end_complete(output, 3);
    expect_answers("answer 0\nanswer 1\nanswer 2\n");
    assert_false(has_journal());
    assert_int_equal(read_state().phase, PR_BATCH_DONE);
    assert_int_equal(read_state().answered, 3);
    assert_int_equal(read_state().requests, 3);
}

static void an_earlier_output_stays_until_the_new_one_is_whole(void **state)
{
    (void)state;
    run_write(run_output, "earlier\n", 8);
    pr_batch_output *output = open_output(false);
    answer_line(output, 0);
    expect_answers("earlier\n");
    drop(output);
    output = open_output(true);
    expect_answers("earlier\n");
    end_complete(output, 1);
    expect_answers("answer 0\n");
}

static void a_batch_that_is_complete_has_nothing_to_resume(void **state)
{
    (void)state;
    pr_batch_output *output = open_output(true), *again;
    bool complete;
    answer_line(output, 0);
    end_complete(output, 1);
    assert_int_equal(pr_batch_output_open(&options, &again, &complete), PR_OK);
    assert_true(complete);
    assert_null(again);
    options.resume = false;
    assert_int_equal(pr_batch_output_open(&options, &again, &complete), PR_OK);
    assert_false(complete);
    pr_batch_output_close(again);
    expect_answers("answer 0\n");
}

// Wherever a run is killed after the output is there: the journal whole, in part, as an empty folder.
static void a_kill_while_the_journal_is_removed_leaves_nothing_to_do(void **state)
{
    (void)state;
    for (int left = 0; left < 3; left++) {
        pr_batch_output *output = open_output(false);
        bool complete;
        answer_line(output, 0);
        end_complete(output, 1);
        assert_int_equal(mkdir(run_path("out.journal"), 0777), 0);
        for (int i = 0; i < left; i++)
            run_write(run_path("out.journal/00000%d.journal", i + 2), "left", 4);
        options.resume = true;
        assert_int_equal(pr_batch_output_open(&options, &output, &complete), PR_OK);
        assert_true(complete);
        assert_int_equal(access(run_path("out.journal"), F_OK), -1);
        expect_answers("answer 0\n");
        clean(NULL);
    }
}

// An earlier batch is done and a new one begins: its "done" is not about the new journal.
static void a_kill_at_the_beginning_of_a_second_batch_is_not_taken_for_the_first(void **state)
{
    (void)state;
    pr_batch_output *output = open_output(false);
    answer_line(output, 0);
    end_complete(output, 1);
    // A link to nowhere: the journal cannot begin, so this is where a kill would have come.
    assert_int_equal(symlink("nowhere", run_path("out.journal")), 0);
    bool complete;
    options.resume = false;
    assert_int_equal(pr_batch_output_open(&options, &output, &complete), PR_OK);
    pr_error_capture_begin();
    assert_int_equal(pr_batch_output_begin(output, &engine), PR_ERR_IO);
    pr_error_capture_end();
    pr_batch_output_close(output);
    assert_int_equal(read_state().phase, PR_BATCH_RUNNING);
    assert_int_equal(unlink(run_path("out.journal")), 0);
    drop(open_output(true));
    options.resume = true;
    assert_int_equal(pr_batch_output_open(&options, &output, &complete), PR_OK);
    assert_false(complete);
    assert_true(has_journal());
    pr_batch_output_close(output);
}

static void a_run_that_ends_early_says_how_far_it_came(void **state)
{
    (void)state;
    pr_batch_output *output = open_output(false);
    const pr_input_line line = make_line(1);
    const pr_token_report token = {.token = 5};
    bool resumable;
    answer_line(output, 0);
    assert_int_equal(pr_batch_output_claim(output, &line, NULL), PR_OK);
    assert_int_equal(pr_batch_output_token(output, 1, 0, &token), PR_OK);
    const pr_batch_ending ending = {
        .end = 3, .reason = "signal 15", .end_unix_s = 77, .idle_tail_s = 1.5};
    assert_int_equal(pr_batch_output_end(output, &ending, &resumable), PR_OK);
    assert_true(resumable);
    pr_batch_output_close(output);
    pr_batch_state got = read_state();
    assert_int_equal(got.phase, PR_BATCH_PREEMPTED);
    assert_string_equal(got.reason, "signal 15");
    assert_int_equal(got.requests, 3);
    assert_int_equal(got.answered, 1);
    assert_int_equal(got.begun, 1);
    assert_int_equal(got.end_unix_s, 77);
    assert_true(got.idle_tail_s == 1.5);
    assert_int_equal(access(run_output, F_OK), -1);
    output = open_output(true);
    const pr_journal_entry *known;
    assert_int_equal(pr_batch_output_find(output, &line, &known), PR_OK);
    assert_true(known && known->answers == 1 && known->answer[0].token[0].token == 5);
    pr_batch_output_forget_tokens(output, 1);
    assert_int_equal(known->answers, 0);
    drop(output);
}

static void a_run_that_fails_says_why(void **state)
{
    (void)state;
    pr_batch_output *output = open_output(false);
    answer_line(output, 0);
    pr_batch_output_salvage(output, "rank 2 is lost");
    pr_batch_output_close(output);
    assert_int_equal(read_state().phase, PR_BATCH_FAILED);
    assert_string_equal(read_state().reason, "rank 2 is lost");
    assert_true(has_journal());
}

static void an_output_that_cannot_be_put_together_is_a_failure_that_resume_mends(void **state)
{
    (void)state;
    pr_batch_output *output = open_output(false);
    bool resumable;
    answer_line(output, 0);
    assert_int_equal(mkdir(run_output, 0777), 0);
    const pr_batch_ending ending = {.complete = true, .end = 1};
    pr_error_capture_begin();
    assert_int_equal(pr_batch_output_end(output, &ending, &resumable), PR_ERR_IO);
    pr_error_capture_end();
    pr_batch_output_close(output);
    assert_int_equal(read_state().phase, PR_BATCH_FAILED);
    assert_non_null(strstr(read_state().reason, "go on with --resume"));
    assert_int_equal(rmdir(run_output), 0);
    end_complete(open_output(true), 1);
    expect_answers("answer 0\n");
}

static void a_run_that_was_taken_over_leaves_the_state_to_the_other(void **state)
{
    (void)state;
    bool resumable;
    pr_batch_output *slow = open_output(false);
    answer_line(slow, 0);
    pr_batch_output *quick = open_output(true);
    answer_line(quick, 1);
    end_complete(quick, 2);
    const pr_batch_ending ending = {.complete = true, .end = 1};
    pr_error_capture_begin();
    assert_int_equal(pr_batch_output_end(slow, &ending, &resumable), PR_ERR_PEER);
    pr_error_capture_end();
    pr_batch_output_close(slow);
    assert_int_equal(read_state().phase, PR_BATCH_DONE);
    expect_answers("answer 0\nanswer 1\n");
}

static void expect_refusal(pr_status expected, const char *text)
{
    pr_batch_output *output = NULL;
    bool complete;
    pr_error_capture_begin();
    pr_status status = pr_batch_output_open(&options, &output, &complete);
    if (status == PR_OK)
        status = pr_batch_output_begin(output, &engine);
    pr_batch_output_close(output);
    pr_error_capture_end();
    assert_int_equal(status, expected);
    if (!strstr(pr_error_text(), text))
        fail_msg("'%s' lacks '%s'", pr_error_text(), text);
}

static void wrong_uses_have_one_line_each(void **state)
{
    (void)state;
    options.resume = true;
    options.output = "-";
    expect_refusal(PR_ERR_ARGUMENT, "--resume needs a journal: give a file with -o");
    options.output = "/dev/null";
    expect_refusal(PR_ERR_ARGUMENT, "--resume needs a journal");
    options.output = run_output;
    options.journal = "off";
    expect_refusal(PR_ERR_ARGUMENT, "leave --journal at auto");
    options.journal = "auto";
    options.output = run_path("no/folder/out");
    expect_refusal(PR_ERR_IO, "cannot write output");
    options.output = run_folder;
    expect_refusal(PR_ERR_IO, "Is a directory");
    options.output = run_output;
    drop(open_output(false));
    options.resume = false;
    expect_refusal(PR_ERR_ARGUMENT, "go on with --resume, or remove it");
    options.resume = true;
    options.part = "0/2";
    expect_refusal(PR_ERR_ARGUMENT, "part all, shuffle seed 0");
    options.part = NULL;
    options.shuffle_seed = 9;
    expect_refusal(PR_ERR_ARGUMENT, "shuffle seed 9");
    options.shuffle_seed = 0;
    options.model = PR_SOURCE_DIR "/tests/data/models/mixtral-tiny";
    expect_refusal(PR_ERR_ARGUMENT, "Resume with the same, or remove it");
    begin_options();
    drop(open_output(true));
}

static void an_input_that_became_shorter_is_refused(void **state)
{
    (void)state;
    pr_batch_output *output = open_output(false);
    answer_line(output, 0);
    answer_line(output, 2);
    assert_int_equal(pr_batch_output_end_input(output, 3), PR_OK);
    drop(output);
    output = open_output(true);
    assert_int_equal(pr_batch_output_end_input(output, 3), PR_OK);
    assert_int_equal(pr_batch_output_end_input(output, 4), PR_OK);
    pr_error_capture_begin();
    assert_int_equal(pr_batch_output_end_input(output, 2), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "ended after 2 lines"));
    drop(output);
}

static void a_line_that_has_changed_is_refused(void **state)
{
    (void)state;
    pr_batch_output *output = open_output(false);
    pr_input_line line = make_line(0);
    const pr_journal_entry *known;
    answer_line(output, 0);
    line.size_bytes--;
    pr_error_capture_begin();
    assert_int_equal(pr_batch_output_find(output, &line, &known), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "line 1 of the input is not the one"));
    drop(output);
}

// ---- The state ----

static void a_state_is_read_as_it_was_written(void **state)
{
    (void)state;
    static const char *const names[] = {"running", "preempted", "failed", "done"};
    for (int phase = PR_BATCH_RUNNING; phase <= PR_BATCH_DONE; phase++) {
        const pr_batch_state written = {
            .phase = (pr_batch_phase)phase,
            .reason = "\"quoted\" \xc3\xa4",
            .requests = phase == PR_BATCH_RUNNING ? -1 : INT64_C(1) << 40,
            .answered = 3,
            .refused = 2,
            .begun = 1,
            .end_unix_s = INT64_C(1) << 33,
            .idle_tail_s = 0.25,
            .job = "4711_3",
        };
        assert_int_equal(pr_batch_state_write(run_output, &written), PR_OK);
        const pr_batch_state got = read_state();
        assert_int_equal(got.phase, written.phase);
        assert_string_equal(got.reason, written.reason);
        assert_int_equal(got.requests, written.requests);
        assert_int_equal(got.answered, 3);
        assert_int_equal(got.refused, 2);
        assert_int_equal(got.begun, 1);
        assert_int_equal(got.end_unix_s, written.end_unix_s);
        assert_true(got.idle_tail_s == 0.25);
        assert_string_equal(got.job, "4711_3");
        json_t *root = json_load_file(run_path("out.state"), 0, NULL);
        assert_string_equal(json_string_value(json_object_get(root, "state")), names[phase]);
        json_decref(root);
    }
}

static void change_state(const char *key, json_t *value)
{
    json_t *root = json_load_file(run_path("out.state"), 0, NULL);
    json_object_set_new(root, key, value);
    assert_int_equal(json_dump_file(root, run_path("out.state"), 0), 0);
    json_decref(root);
}

static void a_run_that_does_not_run_any_more_was_killed(void **state)
{
    (void)state;
    const pr_batch_state running = {.phase = PR_BATCH_RUNNING};
    pid_t child = fork();
    if (child == 0)
        _exit(pr_batch_state_write(run_output, &running) == PR_OK ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read_state().phase, PR_BATCH_FAILED);
    assert_string_equal(read_state().reason, "it was killed");
    assert_int_equal(pr_batch_state_write(run_output, &running), PR_OK);
    assert_int_equal(read_state().phase, PR_BATCH_RUNNING);
    change_state("host", json_string("elsewhere"));
    assert_int_equal(read_state().phase, PR_BATCH_RUNNING);
    change_state("updated_unix_s", json_integer(1000));
    assert_int_equal(read_state().phase, PR_BATCH_FAILED);
}

static void a_state_that_cannot_be_read_is_left_out_of_account(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "{", "[]", "{}", "{\"state\":1}", "{\"state\":\"lost\"}"};
    pr_log_set_level(PR_LOG_ERROR);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        pr_batch_state got;
        bool there;
        run_write(run_path("out.state"), texts[i], strlen(texts[i]));
        assert_int_equal(pr_batch_state_read(run_output, &got, &there), PR_OK);
        assert_false(there);
        drop(open_output(true));
        assert_int_equal(read_state().phase, PR_BATCH_RUNNING);
    }
    pr_log_set_level(PR_LOG_WARN);
}

static void the_last_state_that_is_told_is_written_beside_the_run(void **state)
{
    (void)state;
    pr_state_writer *writer;
    pr_batch_state told = {.phase = PR_BATCH_RUNNING, .requests = -1};
    assert_int_equal(pr_batch_state_write(run_output, &told), PR_OK);
    assert_int_equal(pr_state_writer_create(run_output, &writer), PR_OK);
    for (told.answered = 1; told.answered < 1000; told.answered++)
        assert_int_equal(pr_state_writer_tell(writer, &told), PR_OK);
    while (read_state().answered < 999)
        usleep(1000);
    pr_state_writer_destroy(writer);
    assert_int_equal(read_state().answered, 999);
    assert_int_equal(access(run_path("out.state.tmp"), F_OK), -1);
}

static void a_state_that_cannot_be_written_is_told_at_the_next(void **state)
{
    (void)state;
    pr_state_writer *writer;
    const pr_batch_state told = {.phase = PR_BATCH_RUNNING};
    pr_status status = PR_OK;
    assert_int_equal(pr_state_writer_create(run_path("no/folder/out"), &writer), PR_OK);
    while (status == PR_OK) {
        status = pr_state_writer_tell(writer, &told);
        usleep(1000);
    }
    assert_int_equal(status, PR_ERR_IO);
    pr_state_writer_destroy(writer);
}

static void a_stream_takes_the_state_of_an_earlier_run_away(void **state)
{
    (void)state;
    pr_batch_output *output = open_output(false);
    answer_line(output, 0);
    end_complete(output, 1);
    options.journal = "off";
    output = open_output(false);
    assert_int_equal(access(run_path("out.state"), F_OK), -1);
    drop(output);
    options.journal = "auto";
    bool complete;
    options.resume = true;
    assert_int_equal(pr_batch_output_open(&options, &output, &complete), PR_OK);
    assert_false(complete);
    pr_batch_output_close(output);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup(answers_of_two_runs_come_out_in_the_order_of_the_input, clean),
    cmocka_unit_test_setup(an_earlier_output_stays_until_the_new_one_is_whole, clean),
    cmocka_unit_test_setup(a_batch_that_is_complete_has_nothing_to_resume, clean),
    cmocka_unit_test_setup(a_kill_while_the_journal_is_removed_leaves_nothing_to_do, clean),
    cmocka_unit_test_setup(
        a_kill_at_the_beginning_of_a_second_batch_is_not_taken_for_the_first, clean),
    cmocka_unit_test_setup(a_run_that_ends_early_says_how_far_it_came, clean),
    cmocka_unit_test_setup(a_run_that_fails_says_why, clean),
    cmocka_unit_test_setup(
        an_output_that_cannot_be_put_together_is_a_failure_that_resume_mends, clean),
    cmocka_unit_test_setup(a_run_that_was_taken_over_leaves_the_state_to_the_other, clean),
    cmocka_unit_test_setup(wrong_uses_have_one_line_each, clean),
    cmocka_unit_test_setup(an_input_that_became_shorter_is_refused, clean),
    cmocka_unit_test_setup(a_line_that_has_changed_is_refused, clean),
    cmocka_unit_test_setup(a_state_is_read_as_it_was_written, clean),
    cmocka_unit_test_setup(a_run_that_does_not_run_any_more_was_killed, clean),
    cmocka_unit_test_setup(a_state_that_cannot_be_read_is_left_out_of_account, clean),
    cmocka_unit_test_setup(the_last_state_that_is_told_is_written_beside_the_run, clean),
    cmocka_unit_test_setup(a_state_that_cannot_be_written_is_told_at_the_next, clean),
    cmocka_unit_test_setup(a_stream_takes_the_state_of_an_earlier_run_away, clean),
};

int main(void)
{
    pr_log_set_level(PR_LOG_ERROR);
    return cmocka_run_group_tests(tests, run_make_folder, run_remove_folder);
}
