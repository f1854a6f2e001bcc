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
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/serve/endpoint_file.h"
#include "runtime/base/atomic_file.h"
#include "runtime/base/log.h"

static char folder[] = "/tmp/polyreme-test-XXXXXX";
static char path[64], key_path[80];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/endpoint.json", folder);
    snprintf(key_path, sizeof key_path, "%s.key", path);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)unlink(key_path);
    return rmdir(folder);
}

static pr_endpoint an_endpoint(void)
{
    return (pr_endpoint){
        .url = "http://127.0.0.1:8000/v1",
        .host = "127.0.0.1",
        .port = 8000,
        .model = "demo",
        .job_id = "4711",
        .pid = 42,
        .version = "1.2.3",
    };
}

static void write_text(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static mode_t mode_of(const char *file)
{
    struct stat status;
    assert_int_equal(stat(file, &status), 0);
    return status.st_mode & 0777;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    pr_endpoint endpoint = an_endpoint(), back;
    assert_int_equal(pr_endpoint_file_make_key(path, &endpoint), PR_OK);
    assert_int_equal(strlen(endpoint.api_key), 3 + 43);
    assert_int_equal(mode_of(key_path), 0600);
    assert_int_equal(pr_endpoint_file_write(path, &endpoint), PR_OK);
    assert_int_equal(pr_endpoint_file_read(path, &back), PR_OK);
    assert_memory_equal(&back, &endpoint, sizeof back);
    assert_string_equal(back.api_key_file, key_path);
    endpoint.state = PR_ENDPOINT_DRAINING;
    endpoint.end_unix_s = 1767225600;
    assert_int_equal(pr_endpoint_file_write(path, &endpoint), PR_OK);
    assert_int_equal(pr_endpoint_file_read(path, &back), PR_OK);
    assert_int_equal(back.state, PR_ENDPOINT_DRAINING);
    assert_int_equal(back.end_unix_s, 1767225600);
    char key[PR_KEY_BYTES];
    memcpy(key, endpoint.api_key, sizeof key);
    assert_int_equal(pr_endpoint_file_make_key(path, &endpoint), PR_OK);
    assert_string_not_equal(key, endpoint.api_key);
    pr_endpoint_file_remove(path, &endpoint);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access(key_path, F_OK), 0);
}

static void the_file_says_what_docs_say(void **state)
{
    (void)state;
    char text[2048];
    pr_endpoint endpoint = an_endpoint();
    endpoint.job_id[0] = '\0';
    assert_int_equal(pr_endpoint_file_write(path, &endpoint), PR_OK);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(
        text, "{\n"
              "  \"url\": \"http://127.0.0.1:8000/v1\",\n"
              "  \"host\": \"127.0.0.1\",\n"
              "  \"port\": 8000,\n"
              "  \"model\": \"demo\",\n"
              "  \"api_key_file\": null,\n"
              "  \"job_id\": null,\n"
              "  \"pid\": 42,\n"
              "  \"state\": \"ready\",\n"
              "  \"end_unix_s\": null,\n"
              "  \"version\": \"1.2.3\"\n"
              "}");
}

static void another_jobs_file_is_not_removed(void **state)
{
    (void)state;
    pr_endpoint mine = an_endpoint(), theirs = an_endpoint();
    assert_int_equal(pr_endpoint_file_make_key(path, &mine), PR_OK);
    theirs.pid = 43;
    assert_int_equal(pr_endpoint_file_write(path, &theirs), PR_OK);
    pr_endpoint_file_remove(path, &mine);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(access(key_path, F_OK), 0);
}

static void a_key_that_others_may_read_is_refused(void **state)
{
    (void)state;
    pr_endpoint endpoint = an_endpoint(), back = {.port = 7};
    assert_int_equal(pr_endpoint_file_make_key(path, &endpoint), PR_OK);
    assert_int_equal(pr_endpoint_file_write(path, &endpoint), PR_OK);
    pr_error_capture_begin();
    assert_int_equal(chmod(key_path, 0640), 0);
    assert_int_equal(pr_endpoint_file_read(path, &back), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "mode 640): run chmod 600"));
    assert_int_equal(chmod(key_path, 0600), 0);
    assert_int_equal(unlink(key_path), 0);
    assert_int_equal(pr_endpoint_file_read(path, &back), PR_ERR_IO);
    assert_int_equal(symlink("/dev/null", key_path), 0);
    assert_int_equal(pr_endpoint_file_read(path, &back), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    assert_int_equal(back.port, 7);
    assert_int_equal(unlink(key_path), 0);
}

static void a_file_that_anybody_may_write_is_refused(void **state)
{
    (void)state;
    pr_endpoint endpoint = an_endpoint();
    assert_int_equal(pr_endpoint_file_write(path, &endpoint), PR_OK);
    assert_int_equal(chmod(path, 0666), 0);
    pr_error_capture_begin();
    assert_int_equal(pr_endpoint_file_read(path, &endpoint), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "chmod o-w"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(pr_endpoint_file_read(path, &endpoint), PR_ERR_NOT_FOUND);
    pr_error_capture_end();
}

static void a_key_file_holds_one_key(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        pr_status status;
    } given[] = {
        {"abc", PR_OK},
        {"abc\nmore", PR_OK},
        {"abc\r\n", PR_OK},
        {"", PR_ERR_ARGUMENT},
        {"\nabc", PR_ERR_ARGUMENT},
        {"a b", PR_ERR_ARGUMENT},
        {"a\x7f", PR_ERR_ARGUMENT},
        {"\xc3\xa4", PR_ERR_ARGUMENT},
    };
    char key[PR_KEY_BYTES], longest[PR_KEY_BYTES + 1];
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        assert_int_equal(
            pr_atomic_file_write(key_path, 0600, given[i].text, strlen(given[i].text)), PR_OK);
        assert_int_equal(pr_key_file_read(key_path, key), given[i].status);
        if (given[i].status == PR_OK)
            assert_string_equal(key, "abc");
    }
    memset(longest, 'x', sizeof longest);
    assert_int_equal(pr_atomic_file_write(key_path, 0600, longest, PR_KEY_BYTES - 2), PR_OK);
    assert_int_equal(pr_key_file_read(key_path, key), PR_OK);
    assert_int_equal(strlen(key), PR_KEY_BYTES - 2);
    assert_int_equal(pr_atomic_file_write(key_path, 0600, longest, PR_KEY_BYTES - 1), PR_OK);
    assert_int_equal(pr_key_file_read(key_path, key), PR_ERR_ARGUMENT);
    pr_error_capture_end();
}

static void a_url_leads_to_a_host_and_port_or_a_socket(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host;
        int port;
        pr_status status;
    } given[] = {
        {"http://a-b.example:1/v1", "a-b.example", 1, PR_OK},
        {"https://[::1]:65535/v1", "::1", 65535, PR_OK},
        {"unix:/run/user/1/p.sock", "", 0, PR_OK},
        {"unix:p.sock", "", 0, PR_ERR_FORMAT},
        {"http://h:0/v1", "h", 0, PR_ERR_FORMAT},
        {"http://h:65536/v1", "h", 65536, PR_ERR_FORMAT},
        {"http://h:8a", "h", 8, PR_ERR_FORMAT},
        {"http://h:-8", "h", -8, PR_ERR_FORMAT},
        {"http://h", "h", 80, PR_ERR_FORMAT},
        {"http://:80", "", 80, PR_ERR_FORMAT},
        {"http://h:80/v2", "h", 80, PR_ERR_FORMAT},
        {"http://h:80?x=:80", "h", 80, PR_ERR_FORMAT},
        {"http://user@h:80", "user@h", 80, PR_ERR_FORMAT},
        {"http://h g:80", "h g", 80, PR_ERR_FORMAT},
        {"file:///etc/passwd:80", "/etc/passwd", 80, PR_ERR_FORMAT},
        {"http://h:80/v1", "g", 80, PR_ERR_FORMAT},
        {"http://h:80/v1", "h", 81, PR_ERR_FORMAT},
        {"http://h\\n:80", "h\\n", 80, PR_ERR_FORMAT},
    };
    char text[1024];
    pr_endpoint endpoint;
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        snprintf(
            text, sizeof text,
            "{\"url\":\"%s\",\"host\":\"%s\",\"port\":%d,\"model\":\"m\",\"state\":\"ready\"}",
            given[i].url, given[i].host, given[i].port);
        write_text(text);
        if (pr_endpoint_file_read(path, &endpoint) != given[i].status)
            fail_msg("%s: %s", given[i].url, pr_error_text());
    }
    pr_error_capture_end();
}

static void what_is_no_endpoint_is_refused_with_one_line(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "{",
        "{}",
        "{\"url\":\"unix:/s\"}",
        "{\"url\":\"unix:/s\",\"model\":\"m\"}",
        "{\"url\":\"unix:/s\",\"model\":\"m\",\"state\":\"dead\"}",
        "{\"url\":\"unix:/s\",\"model\":7,\"state\":\"ready\"}",
        "{\"url\":\"unix:/s\",\"model\":\"\",\"state\":\"ready\"}",
        "{\"url\":\"unix:/s\",\"model\":\"m\",\"state\":\"ready\",\"api_key_file\":\"key\"}",
        "{\"url\":\"unix:/s\",\"model\":\"m\",\"state\":\"ready\",\"job_id\":7}",
        "{\"url\":\"unix:/s\",\"url\":\"unix:/t\",\"model\":\"m\",\"state\":\"ready\"}",
        "{\"url\":\"unix:/s\",\"model\":\"a\\u001b[2Jb\",\"state\":\"ready\"}",
    };
    pr_endpoint endpoint;
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_text(texts[i]);
        if (pr_endpoint_file_read(path, &endpoint) != PR_ERR_FORMAT)
            fail_msg("taken: %s", texts[i]);
        assert_non_null(strstr(pr_error_text(), "give the file that polyreme serve writes"));
    }
    pr_error_capture_end();
    write_text("{\"url\":\"unix:/s\",\"model\":\"m\",\"state\":\"ready\",\"new\":1}");
    assert_int_equal(pr_endpoint_file_read(path, &endpoint), PR_OK);
}

static void a_link_beside_the_file_is_not_followed(void **state)
{
    (void)state;
    char beside[80], target[80], text[8] = "";
    snprintf(beside, sizeof beside, "%s.tmp", path);
    snprintf(target, sizeof target, "%s/target", folder);
    assert_int_equal(symlink(target, beside), 0);
    assert_int_equal(pr_atomic_file_write(path, 0644, "new", 3), PR_OK);
    assert_int_not_equal(access(target, F_OK), 0);
    assert_int_not_equal(access(beside, F_OK), 0);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fread(text, 1, sizeof text, file), 3);
    assert_string_equal(text, "new");
    fclose(file);
    pr_error_capture_begin();
    assert_int_equal(pr_atomic_file_write("/nowhere/at/all", 0644, "new", 3), PR_ERR_IO);
    assert_non_null(strstr(pr_error_text(), "cannot write /nowhere/at/all"));
    pr_error_capture_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(the_file_says_what_docs_say),
        cmocka_unit_test(another_jobs_file_is_not_removed),
        cmocka_unit_test(a_key_that_others_may_read_is_refused),
        cmocka_unit_test(a_file_that_anybody_may_write_is_refused),
        cmocka_unit_test(a_key_file_holds_one_key),
        cmocka_unit_test(a_url_leads_to_a_host_and_port_or_a_socket),
        cmocka_unit_test(what_is_no_endpoint_is_refused_with_one_line),
        cmocka_unit_test(a_link_beside_the_file_is_not_followed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
