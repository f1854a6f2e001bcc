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
#include <time.h>
#include <unistd.h>

#include "k8s-adapter/pod_job.h"
#include "launcher/job_choice.h"
#include "runtime/base/log.h"
#include "runtime/base/process_start.h"
#include "slurm/slurm_job.h"

static const char *const variables[] = {
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_HET_SIZE",
    "SLURM_JOB_ID_HET_GROUP_0",
    "SLURM_JOB_ID_HET_GROUP_1",
    "SLURM_RESTART_COUNT",
    "SLURM_JOB_END_TIME",
    "KUBERNETES_SERVICE_HOST",
    "POD_NAME",
    "HOSTNAME",
    "ACTIVE_DEADLINE_SECONDS",
    "TEST_ANSWER",
};

static int forget(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    setenv("SLURM_CONF", "/dev/null", 1);  // of no cluster that this machine may belong to
    return 0;
}

static int64_t duration(const char *text)
{
    int64_t seconds = 0;
    assert_int_equal(pr_job_choice_parse_duration("--walltime", text, &seconds), PR_OK);
    return seconds;
}

static void durations_are_read_as_slurm_writes_them(void **state)
{
    (void)state;
    assert_int_equal(duration("90"), 90 * 60);
    assert_int_equal(duration("1:30"), 90);
    assert_int_equal(duration("0:05"), 5);
    assert_int_equal(duration("1:30:00"), 5400);
    assert_int_equal(duration("48:00:01"), 172801);
    assert_int_equal(duration("2-12"), 2 * 86400 + 12 * 3600);
    assert_int_equal(duration("0-1:30"), 5400);
    assert_int_equal(duration("1-0:0:7"), 86407);
}

static void what_is_no_duration_is_refused(void **state)
{
    (void)state;
    static const char *const text[] = {
        "",     "0",   "1h",      "-5",  "5-",       "1-2-3",     "1:2:3:4",
        "1::2", ":30", "30:",     "1.5", " 5",       "1-2:3:4:5", "99999999999",
        "x-1",  "1-x", "0-0:0:0", "+5",  "auto-off", "1:2-3",
    };
    for (size_t i = 0; i < sizeof text / sizeof text[0]; i++) {
        int64_t seconds = -1;
        pr_error_capture_begin();
        assert_int_equal(
            pr_job_choice_parse_duration("--walltime", text[i], &seconds), PR_ERR_ARGUMENT);
        pr_error_capture_end();
        assert_int_equal(seconds, -1);
    }
}

static void a_slurm_job_is_what_its_environment_says(void **state)
{
    (void)state;
    pr_system_job job;
    assert_false(pr_slurm_job.is_here());
    setenv("SLURM_JOB_ID", "1234", 1);
    setenv("SLURM_RESTART_COUNT", "2", 1);
    setenv("SLURM_JOB_END_TIME", "1999999999", 1);
    assert_true(pr_slurm_job.is_here());
    assert_int_equal(pr_slurm_job.read(&job), PR_OK);
    assert_string_equal(job.id, "1234");
    assert_int_equal(job.restarts, 2);
    assert_int_equal(job.end_unix_s, 1999999999);
}

static void an_array_task_and_a_component_are_called_what_squeue_calls_them(void **state)
{
    (void)state;
    pr_system_job job;
    setenv("SLURM_JOB_ID", "1239", 1);
    setenv("SLURM_ARRAY_JOB_ID", "1234", 1);
    setenv("SLURM_ARRAY_TASK_ID", "5", 1);
    assert_int_equal(pr_slurm_job.read(&job), PR_OK);
    assert_string_equal(job.id, "1234_5");
    assert_int_equal(job.end_unix_s, 0);
    forget(NULL);
    setenv("SLURM_JOB_ID", "78", 1);
    setenv("SLURM_HET_SIZE", "2", 1);
    setenv("SLURM_JOB_ID_HET_GROUP_0", "77", 1);
    setenv("SLURM_JOB_ID_HET_GROUP_1", "78", 1);
    assert_int_equal(pr_slurm_job.read(&job), PR_OK);
    assert_string_equal(job.id, "77");
}

static void a_pod_ends_its_deadline_after_its_first_process_began(void **state)
{
    (void)state;
    pr_system_job job;
    int64_t start_unix_s = 0;
    setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1", 1);
    setenv("POD_NAME", "demo-worker-3", 1);
    assert_true(pr_pod_job.is_here());
    assert_int_equal(pr_pod_job.read(&job), PR_OK);
    assert_int_equal(job.end_unix_s, 0);
    assert_string_equal(job.id, "demo-worker-3");
    setenv("ACTIVE_DEADLINE_SECONDS", "3600", 1);
    assert_int_equal(pr_process_start_read(1, &start_unix_s), PR_OK);
    assert_int_equal(pr_pod_job.read(&job), PR_OK);
    assert_in_range(job.end_unix_s, start_unix_s + 3599, start_unix_s + 3601);
    setenv("ACTIVE_DEADLINE_SECONDS", "1h", 1);
    pr_error_capture_begin();
    assert_int_equal(pr_pod_job.read(&job), PR_ERR_ARGUMENT);
    pr_error_capture_end();
}

static void a_process_began_before_now(void **state)
{
    (void)state;
    int64_t start_unix_s = 0;
    assert_int_equal(pr_process_start_read(0, &start_unix_s), PR_OK);
    assert_in_range(start_unix_s, time(NULL) - 600, time(NULL));
}

static int64_t chosen_end(const char *walltime)
{
    pr_options options = {.walltime = walltime};
    pr_job_choice choice;
    pr_system_job job;
    assert_int_equal(pr_job_choice_open(&options, &choice), PR_OK);
    assert_int_equal(pr_job_choice_read(&choice, &job), PR_OK);
    return job.end_unix_s;
}

static void the_earlier_of_job_and_walltime_counts(void **state)
{
    (void)state;
    int64_t start_unix_s = 0;
    assert_int_equal(pr_process_start_read(0, &start_unix_s), PR_OK);
    assert_int_equal(chosen_end("auto"), 0);
    assert_in_range(chosen_end("10:00"), start_unix_s + 599, start_unix_s + 601);
    setenv("SLURM_JOB_ID", "1234", 1);
    setenv("TEST_ANSWER", "{\"id\":\"1234\",\"restarts\":1,\"end_unix_s\":1999999999}", 1);
    pr_log_set_level(PR_LOG_ERROR);
    assert_int_equal(chosen_end("auto"), 1999999999);
    assert_int_equal(chosen_end("off"), 0);
    assert_in_range(chosen_end("10:00"), start_unix_s + 599, start_unix_s + 601);
    assert_int_equal(chosen_end("30000-0"), 1999999999);
}

static void an_answer_that_is_none_leaves_the_end_open(void **state)
{
    (void)state;
    static const char *const answer[] = {
        "", "{", "[]", "{\"id\":5,\"restarts\":0,\"end_unix_s\":7}"};
    setenv("SLURM_JOB_ID", "1234", 1);
    pr_log_set_level(PR_LOG_ERROR);
    for (size_t i = 0; i < sizeof answer / sizeof answer[0]; i++) {
        setenv("TEST_ANSWER", answer[i], 1);
        assert_int_equal(chosen_end("auto"), 0);
    }
}

int main(int argc, char **argv)
{
    // The choice asks its own program, which is this one.
    if (argc > 1 && strcmp(argv[1], "job") == 0) {
        fputs(getenv("TEST_ANSWER"), stdout);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_read_as_slurm_writes_them),
        cmocka_unit_test(what_is_no_duration_is_refused),
        cmocka_unit_test_setup(a_slurm_job_is_what_its_environment_says, forget),
        cmocka_unit_test_setup(
            an_array_task_and_a_component_are_called_what_squeue_calls_them, forget),
        cmocka_unit_test_setup(a_pod_ends_its_deadline_after_its_first_process_began, forget),
        cmocka_unit_test_setup(a_process_began_before_now, forget),
        cmocka_unit_test_setup(the_earlier_of_job_and_walltime_counts, forget),
        cmocka_unit_test_setup(an_answer_that_is_none_leaves_the_end_open, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
