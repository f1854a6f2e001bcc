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

#include "k8s-adapter/endpoints_file.h"
#include "runtime/base/log.h"

static char path[] = "/tmp/polyreme-test-XXXXXX";
static char text[4096];

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

static const char *content(void)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static pr_endpoints_entry entry(void)
{
    return (pr_endpoints_entry){.name = "job4711", .address = "10.0.0.1", .port = 8000};
}

static void the_file_is_what_llm_d_reads(void **state)
{
    (void)state;
    pr_endpoints_entry entries[] = {entry(), entry()};
    entries[1].name = "job4712-d.0";
    entries[1].space = "ai";
    entries[1].role = "decode";
    assert_int_equal(pr_endpoints_file_write(path, entries, 2), PR_OK);
    assert_string_equal(
        content(), "endpoints:\n"
                   "  - name: \"job4711\"\n"
                   "    namespace: \"default\"\n"
                   "    address: \"10.0.0.1\"\n"
                   "    port: \"8000\"\n"
                   "    labels:\n"
                   "      llm-d.ai/role: \"prefill-decode\"\n"
                   "      llm-d.ai/engine-type: \"vllm\"\n"
                   "  - name: \"job4712-d.0\"\n"
                   "    namespace: \"ai\"\n"
                   "    address: \"10.0.0.1\"\n"
                   "    port: \"8000\"\n"
                   "    labels:\n"
                   "      llm-d.ai/role: \"decode\"\n"
                   "      llm-d.ai/engine-type: \"vllm\"\n");
}

static void a_drained_job_leaves_an_empty_list(void **state)
{
    (void)state;
    assert_int_equal(pr_endpoints_file_write(path, NULL, 0), PR_OK);
    assert_string_equal(content(), "endpoints: []\n");
}

static void what_llm_d_would_not_take_is_refused_and_the_file_stays(void **state)
{
    (void)state;
    pr_endpoints_entry good = entry();
    assert_int_equal(pr_endpoints_file_write(path, &good, 1), PR_OK);
    static const char *const addresses[] = {"node7",      "::1",     "",          "10.0.0",
                                            "10.0.0.1.2", "0.0.0.0", "10.0.0.1 ", "10.0.0.256"};
    static const char *const names[] = {"", "-a", "a-", "Job", "a b", "a\"b", "a_b"};
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        pr_endpoints_entry bad = entry();
        bad.address = addresses[i];
        assert_int_equal(pr_endpoints_file_write(path, &bad, 1), PR_ERR_ARGUMENT);
        assert_non_null(strstr(pr_error_text(), "literal IPv4"));
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        pr_endpoints_entry bad = entry();
        bad.name = names[i];
        assert_int_equal(pr_endpoints_file_write(path, &bad, 1), PR_ERR_ARGUMENT);
    }
    pr_endpoints_entry bad = entry();
    bad.port = 65536;
    assert_int_equal(pr_endpoints_file_write(path, &bad, 1), PR_ERR_ARGUMENT);
    bad = entry();
    bad.role = "boss";
    assert_int_equal(pr_endpoints_file_write(path, &bad, 1), PR_ERR_ARGUMENT);
    pr_endpoints_entry twice[] = {entry(), entry()};
    assert_int_equal(pr_endpoints_file_write(path, twice, 2), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "two endpoints"));
    pr_error_capture_end();
    assert_non_null(strstr(content(), "job4711"));
}

static void a_file_ends_at_a_mebibyte(void **state)
{
    (void)state;
    enum { MANY = 7000 };
    static char name[MANY][16];
    static pr_endpoints_entry entries[MANY];
    for (int i = 0; i < MANY; i++) {
        snprintf(name[i], sizeof name[i], "j%d", i);
        entries[i] = entry();
        entries[i].name = name[i];
    }
    pr_error_capture_begin();
    assert_int_equal(pr_endpoints_file_write(path, entries, MANY), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "1 MiB"));
    pr_error_capture_end();
    assert_int_equal(pr_endpoints_file_write(path, entries, MANY / 2), PR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_is_what_llm_d_reads),
        cmocka_unit_test(a_drained_job_leaves_an_empty_list),
        cmocka_unit_test(what_llm_d_would_not_take_is_refused_and_the_file_stays),
        cmocka_unit_test(a_file_ends_at_a_mebibyte),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
