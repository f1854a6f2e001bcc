// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/doctor/cgroup_limits.h"
#include "launcher/doctor/child_output.h"
#include "launcher/doctor/doctor.h"
#include "launcher/doctor/mca_settings.h"
#include "launcher/doctor/mount_table.h"
#include "launcher/doctor/process_limits.h"
#include "launcher/doctor/srun_types.h"
#include "launcher/doctor/text_file.h"

#define DATA PR_SOURCE_DIR "/tests/data/doctor/"

static char *load(const char *path)
{
    char *text = pr_text_file_load(path);
    assert_non_null(text);
    return text;
}

static void assert_on(const char *mountinfo, const char *path, const char *type, pr_mount_kind kind)
{
    pr_mount mount;
    assert_true(pr_mount_table_find(mountinfo, path, &mount));
    assert_string_equal(mount.type, type);
    assert_int_equal(mount.kind, kind);
}

static void a_path_is_on_the_longest_mount_point_and_the_last_of_equal_ones(void **state)
{
    (void)state;
    char *text = load(DATA "mountinfo_cluster.txt");
    assert_on(text, "/", "xfs", PR_MOUNT_LOCAL);
    assert_on(text, "/homes/a", "xfs", PR_MOUNT_LOCAL);
    assert_on(text, "/home", "nfs4", PR_MOUNT_NETWORK);
    assert_on(text, "/home/a/b", "nfs4", PR_MOUNT_NETWORK);
    assert_on(text, "/scratch/x", "lustre", PR_MOUNT_PARALLEL);
    assert_on(text, "/scratch/big/x", "beegfs", PR_MOUNT_PARALLEL);
    assert_on(text, "/scratch/bigger", "lustre", PR_MOUNT_PARALLEL);
    assert_on(text, "/dev/shm/m", "tmpfs", PR_MOUNT_MEMORY);
    assert_on(text, "/tmp/x", "ext4", PR_MOUNT_LOCAL);
    assert_on(text, "/my models/llama", "gpfs", PR_MOUNT_PARALLEL);
    assert_on(text, "/odd", "weirdfs", PR_MOUNT_UNKNOWN);
    pr_mount mount;
    assert_true(pr_mount_table_find(text, "/home/a", &mount));
    assert_string_equal(mount.source, "fs1:/export/home");
    assert_false(pr_mount_table_find("", "/home", &mount));
    assert_false(pr_mount_table_find("no mount table", "/home", &mount));
    free(text);
}

static void limits_are_read_by_their_whole_names(void **state)
{
    (void)state;
    char *text = load(DATA "limits_typical.txt");
    pr_process_limit limit;
    assert_true(pr_process_limits_find(text, "Max open files", &limit));
    assert_int_equal(limit.soft, 1024);
    assert_int_equal(limit.hard, 524288);
    assert_true(pr_process_limits_find(text, "Max core file size", &limit));
    assert_int_equal(limit.soft, 0);
    assert_int_equal(limit.hard, PR_LIMIT_NONE);
    assert_false(pr_process_limits_find(text, "Max open", &limit));
    assert_false(pr_process_limits_find(text, "Max file locks", &limit));
    assert_false(
        pr_process_limits_find("Max open files  many more files\n", "Max open files", &limit));
    free(text);
}

static void the_last_setting_of_open_mpi_counts_and_comments_do_not(void **state)
{
    (void)state;
    char *text = load(DATA "openmpi-mca-params.conf"), value[PR_MCA_VALUE_BYTES];
    assert_true(pr_mca_settings_find(text, "pml", value));
    assert_string_equal(value, "^ucx");
    assert_true(pr_mca_settings_find(text, "btl", value));
    assert_string_equal(value, "^uct,openib,ofi");
    assert_true(pr_mca_settings_find(text, "btl_base_warn_component_unused", value));
    assert_string_equal(value, "0");
    assert_true(pr_mca_settings_find(text, "empty", value));
    assert_string_equal(value, "");
    assert_false(pr_mca_settings_find(text, "osc", value));
    assert_false(pr_mca_settings_find(text, "btl_base", value));
    free(text);
}

static void a_list_of_components_takes_or_leaves_them(void **state)
{
    (void)state;
    assert_true(pr_mca_settings_allow("", "ucx"));
    assert_true(pr_mca_settings_allow("ob1,ucx", "ucx"));
    assert_false(pr_mca_settings_allow("ob1", "ucx"));
    assert_false(pr_mca_settings_allow("^ucx,pt2pt", "ucx"));
    assert_true(pr_mca_settings_allow("^uct,openib", "ucx"));
    assert_false(pr_mca_settings_allow("ucxx", "ucx"));
}

static void srun_names_its_ways_one_a_line(void **state)
{
    (void)state;
    char *text = load(DATA "srun_mpi_list.txt"), types[PR_SRUN_TYPES_BYTES];
    pr_srun_types_list(text, types);
    assert_string_equal(types, "pmix, cray_shasta, none, pmi2");
    pr_srun_types_list("srun: error: cannot find a configuration\n", types);
    assert_string_equal(types, "");
    free(text);
}

static void the_least_limit_of_all_groups_around_counts(void **state)
{
    (void)state;
    pr_cgroup_limits limits;
    pr_cgroup_limits_read(DATA "cgroup2", &limits);
    assert_int_equal(limits.memory_bytes, INT64_C(8589934592));
    assert_int_equal(limits.memory_used_bytes, INT64_C(1073741824));
    assert_int_equal(limits.processes, 300);
    assert_true(fabs(limits.cpus - 1.5) < 1e-9);
}

static void groups_of_version_1_are_found_by_their_controllers(void **state)
{
    (void)state;
    pr_cgroup_limits limits;
    pr_cgroup_limits_read(DATA "cgroup1", &limits);
    assert_int_equal(limits.memory_bytes, INT64_C(4294967296));
    assert_int_equal(limits.memory_used_bytes, 100);
    assert_int_equal(limits.processes, 0);
    assert_true(fabs(limits.cpus - 2) < 1e-9);
    pr_cgroup_limits_read(DATA "nothing", &limits);
    assert_int_equal(limits.memory_bytes, 0);
    assert_true(limits.cpus <= 0);
}

static void a_child_is_read_and_killed_when_its_time_is_over(void **state)
{
    (void)state;
    const char *const echo[] = {"sh", "-c", "echo out; echo error >&2", NULL};
    const char *const fails[] = {"sh", "-c", "echo x; exit 3", NULL};
    const char *const hangs[] = {"sh", "-c", "echo begun; sleep 1000 & wait", NULL};
    const char *const silent[] = {"sh", "-c", "exec >&- 2>&-; sleep 1000", NULL};
    const char *const nothing[] = {"no-such-program-here", NULL};
    char text[32];
    assert_int_equal(pr_child_output_of(echo, 60000, text, sizeof text), PR_CHILD_DONE);
    assert_string_equal(text, "out\nerror\n");
    assert_int_equal(pr_child_output_of(echo, 60000, text, 3), PR_CHILD_DONE);
    assert_string_equal(text, "ou");
    assert_int_equal(pr_child_output_of(fails, 60000, text, sizeof text), PR_CHILD_FAILED);
    assert_string_equal(text, "x\n");
    assert_int_equal(pr_child_output_of(hangs, 500, text, sizeof text), PR_CHILD_LATE);
    assert_int_equal(pr_child_output_of(silent, 500, text, sizeof text), PR_CHILD_LATE);
    assert_int_equal(pr_child_output_of(nothing, 60000, text, sizeof text), PR_CHILD_MISSING);
}

static void write_number(void *context, int output)
{
    assert_int_equal(write(output, context, sizeof(int32_t)), (int)sizeof(int32_t));
}

static void write_and_crash(void *context, int output)
{
    write_number(context, output);
    raise(SIGKILL);
}

static void work_in_a_child_gives_what_it_wrote_before_a_crash(void **state)
{
    (void)state;
    int32_t sent = 42, got = 0, bytes = 0;
    assert_int_equal(
        pr_child_output_call(write_number, &sent, 60000, &got, sizeof got, &bytes), PR_CHILD_DONE);
    assert_int_equal(bytes, (int)sizeof got);
    assert_int_equal(got, 42);
    got = 0;
    assert_int_equal(
        pr_child_output_call(write_and_crash, &sent, 60000, &got, sizeof got, &bytes),
        PR_CHILD_FAILED);
    assert_int_equal(got, 42);
}

static void findings_keep_their_number_within_bounds(void **state)
{
    (void)state;
    static pr_findings findings;
    for (int32_t i = 0; i < PR_MAX_FINDINGS + 3; i++)
        pr_finding_advise(
            pr_finding_add(&findings, PR_FINDING_NOTE, "subject", "number %d", (int)i), "do %d",
            (int)i);
    assert_int_equal(findings.count, PR_MAX_FINDINGS);
    assert_string_equal(findings.finding[0].text, "number 0");
    assert_string_equal(findings.finding[PR_MAX_FINDINGS - 1].text, "number 66");
    assert_string_equal(findings.finding[PR_MAX_FINDINGS - 1].advice, "do 66");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_is_on_the_longest_mount_point_and_the_last_of_equal_ones),
        cmocka_unit_test(limits_are_read_by_their_whole_names),
        cmocka_unit_test(the_last_setting_of_open_mpi_counts_and_comments_do_not),
        cmocka_unit_test(a_list_of_components_takes_or_leaves_them),
        cmocka_unit_test(srun_names_its_ways_one_a_line),
        cmocka_unit_test(the_least_limit_of_all_groups_around_counts),
        cmocka_unit_test(groups_of_version_1_are_found_by_their_controllers),
        cmocka_unit_test(a_child_is_read_and_killed_when_its_time_is_over),
        cmocka_unit_test(work_in_a_child_gives_what_it_wrote_before_a_crash),
        cmocka_unit_test(findings_keep_their_number_within_bounds),
    };
    return cmocka_run_group_tests_name("doctor", tests, NULL, NULL);
}
