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

#include "launcher/client/client_endpoint.h"
#include "launcher/client/plain_text.h"
#include "launcher/serve/endpoint_file.h"
#include "runtime/base/log.h"

static char file_path[] = "/tmp/pr_endpoint_XXXXXX", key_path[] = "/tmp/pr_key_XXXXXX";

static int make_files(void **state)
{
    (void)state;
    int file = mkstemp(file_path), key = mkstemp(key_path);
    close(file);
    close(key);
    return file < 0 || key < 0;
}

static int remove_files(void **state)
{
    (void)state;
    return remove(file_path) + remove(key_path);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
}

static pr_status read_endpoint(const pr_options *options, pr_client_endpoint *endpoint)
{
    *endpoint = (pr_client_endpoint){0};
    pr_error_capture_begin();
    pr_status status = pr_client_endpoint_read(options, endpoint);
    pr_error_capture_end();
    return status;
}

static void assert_url(const char *given, const char *url, const char *unix_socket)
{
    pr_options options = {.url = given};
    pr_client_endpoint endpoint;
    assert_int_equal(read_endpoint(&options, &endpoint), PR_OK);
    assert_string_equal(endpoint.url, url);
    if (unix_socket)
        assert_string_equal(endpoint.unix_socket, unix_socket);
    else
        assert_null(endpoint.unix_socket);
    assert_false(endpoint.from_file);
    pr_client_endpoint_clear(&endpoint);
}

static void an_address_without_a_path_gets_v1(void **state)
{
    (void)state;
    assert_url(NULL, "http://127.0.0.1:8000/v1", NULL);
    assert_url("http://node7:9", "http://node7:9/v1", NULL);
    assert_url("HTTPS://node7///", "HTTPS://node7/v1", NULL);
    assert_url("http://[::1]:8000/v1/", "http://[::1]:8000/v1", NULL);
    assert_url("https://h/some/where", "https://h/some/where", NULL);
    assert_url("unix:/run/p.sock", "http://localhost/v1", "/run/p.sock");
}

static void what_is_no_address_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "node7:8000",
        "http://",
        "http:///v1",
        "https:///",
        "ftp://h",
        "http://h/v1?x=1",
        "http://h/#a",
        "http://h x/",
        "http://h\r\nX: y",
        "http://h\x80",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pr_options options = {.url = bad[i]};
        pr_client_endpoint endpoint;
        assert_int_equal(read_endpoint(&options, &endpoint), PR_ERR_ARGUMENT);
        assert_null(endpoint.url);
    }
}

static void a_file_names_server_key_and_state(void **state)
{
    (void)state;
    pr_options options = {.endpoint_file = file_path};
    pr_client_endpoint endpoint, later;
    pr_endpoint file = {.url = "http://n:1/v1", .host = "n", .port = 1, .model = "demo"};
    write_file(key_path, "secret\nsecond\n");
    snprintf(file.api_key_file, sizeof file.api_key_file, "%s", key_path);
    assert_int_equal(pr_endpoint_file_write(file_path, &file), PR_OK);
    assert_int_equal(read_endpoint(&options, &endpoint), PR_OK);
    assert_string_equal(endpoint.url, "http://n:1/v1");
    assert_string_equal(endpoint.key, "secret");
    assert_true(endpoint.from_file && !endpoint.draining);

    // A key given is stronger than the file's.
    file.state = PR_ENDPOINT_DRAINING;
    assert_int_equal(pr_endpoint_file_write(file_path, &file), PR_OK);
    options.api_key = (pr_strings){.count = 1, .text = {"other"}};
    assert_int_equal(read_endpoint(&options, &later), PR_OK);
    assert_true(later.draining);
    assert_string_equal(later.key, "other");
    assert_false(pr_client_endpoint_same(&endpoint, &later));
    pr_client_endpoint_clear(&later);

    file.api_key_file[0] = '\0';
    assert_int_equal(pr_endpoint_file_write(file_path, &file), PR_OK);
    options.api_key.text[0] = "secret";
    assert_int_equal(read_endpoint(&options, &later), PR_OK);
    assert_true(pr_client_endpoint_same(&endpoint, &later));
    pr_client_endpoint_clear(&later);
    pr_client_endpoint_clear(&endpoint);
}

static void a_file_may_name_a_unix_socket(void **state)
{
    (void)state;
    pr_options options = {.endpoint_file = file_path};
    pr_client_endpoint endpoint;
    pr_endpoint file = {.url = "unix:/run/p.sock", .model = "demo"};
    assert_int_equal(pr_endpoint_file_write(file_path, &file), PR_OK);
    assert_int_equal(read_endpoint(&options, &endpoint), PR_OK);
    assert_string_equal(endpoint.unix_socket, "/run/p.sock");
    assert_null(endpoint.key);
    pr_client_endpoint_clear(&endpoint);
}

static void a_file_that_is_wrong_leaves_nothing(void **state)
{
    (void)state;
    pr_options options = {.endpoint_file = file_path};
    pr_client_endpoint endpoint;
    write_file(file_path, "{\"url\":");
    assert_int_equal(read_endpoint(&options, &endpoint), PR_ERR_FORMAT);
    assert_null(endpoint.url);
    options.endpoint_file = "/nowhere/endpoint";
    assert_int_equal(read_endpoint(&options, &endpoint), PR_ERR_NOT_FOUND);
}

static void one_server_and_one_key_are_asked_for(void **state)
{
    (void)state;
    pr_client_endpoint endpoint;
    pr_options two_servers = {.url = "http://h", .endpoint_file = file_path};
    pr_options two_keys = {.api_key = {.count = 2, .text = {"a", "b"}}};
    pr_options key_and_file = {.api_key = {.count = 1, .text = {"a"}}, .api_key_file = key_path};
    pr_options bad_key = {.api_key = {.count = 1, .text = {"a\r\nHost: b"}}};
    pr_options empty_file = {.api_key_file = key_path};
    write_file(key_path, "\n\n");
    assert_int_equal(read_endpoint(&two_servers, &endpoint), PR_ERR_ARGUMENT);
    assert_int_equal(read_endpoint(&two_keys, &endpoint), PR_ERR_ARGUMENT);
    assert_int_equal(read_endpoint(&key_and_file, &endpoint), PR_ERR_ARGUMENT);
    assert_int_equal(read_endpoint(&bad_key, &endpoint), PR_ERR_ARGUMENT);
    assert_int_equal(read_endpoint(&empty_file, &endpoint), PR_ERR_ARGUMENT);
}

// ---- text of others ----

static void assert_line(const char *text, size_t size_bytes, int32_t columns, const char *expected)
{
    pr_byte_buffer out = {0};
    int32_t used = pr_plain_text_line(text, size_bytes, columns, &out);
    assert_true(used <= columns);
    pr_byte_buffer_append(&out, "", 1);
    assert_string_equal((char *)out.data, expected);
    pr_byte_buffer_free(&out);
}

static void a_line_has_no_control_characters_and_keeps_its_width(void **state)
{
    (void)state;
    assert_line("\033]0;t\007a\rb\177c\302\233d", 14, 80, "]0;tabcd");
    assert_line("a\nb\tc\342\200\250d", 9, 80, "a b c d");
    assert_line("\342\200\256abc", 6, 80, "abc");
    assert_line("a\0b", 3, 80, "ab");
    assert_line("a\377\303", 3, 80, "a\357\277\275\357\277\275");
    assert_line("日本語", 9, 5, "日本");
    assert_line("日本語", 9, 0, "");
    assert_line("abc", 3, 2, "ab");
}

static void a_stream_keeps_line_breaks_and_tabs(void **state)
{
    (void)state;
    pr_byte_buffer out = {0};
    pr_plain_text_stream("a\n\tb\033[2J\r\n", 10, &out);
    assert_int_equal(out.size_bytes, 8);
    assert_memory_equal(out.data, "a\n\tb[2J\n", 8);
    pr_byte_buffer_free(&out);
}

static void a_copy_is_cut_between_characters(void **state)
{
    (void)state;
    char out[6];
    pr_plain_text_copy("ab日本", 8, out, sizeof out);
    assert_string_equal(out, "ab日");
    pr_plain_text_copy("a\nb", 3, out, sizeof out);
    assert_string_equal(out, "a b");
    pr_plain_text_copy("abc", 3, out, 1);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_without_a_path_gets_v1),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_file_names_server_key_and_state),
        cmocka_unit_test(a_file_may_name_a_unix_socket),
        cmocka_unit_test(a_file_that_is_wrong_leaves_nothing),
        cmocka_unit_test(one_server_and_one_key_are_asked_for),
        cmocka_unit_test(a_line_has_no_control_characters_and_keeps_its_width),
        cmocka_unit_test(a_stream_keeps_line_breaks_and_tabs),
        cmocka_unit_test(a_copy_is_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
