// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "launcher/http/api_key.h"
#include "runtime/base/log.h"

static pr_api_keys *keys_of(const char *first, const char *second)
{
    pr_api_keys *keys;
    assert_int_equal(pr_api_keys_create(&keys), PR_OK);
    if (first)
        assert_int_equal(pr_api_keys_add(keys, first, "--api-key"), PR_OK);
    if (second)
        assert_int_equal(pr_api_keys_add(keys, second, "--api-key"), PR_OK);
    return keys;
}

static void without_keys_everyone_is_tenant_0(void **state)
{
    (void)state;
    pr_api_keys *keys = keys_of(NULL, NULL);
    uint64_t tenant = 7;
    assert_int_equal(pr_api_keys_count(keys), 0);
    assert_true(pr_api_keys_check(keys, NULL, &tenant));
    assert_int_equal(tenant, 0);
    tenant = 7;
    assert_true(pr_api_keys_check(keys, "Bearer anything", &tenant));
    assert_int_equal(tenant, 0);
    pr_api_keys_destroy(keys);
}

static void only_a_known_key_is_let_in(void **state)
{
    static const char *const wrong[] = {
        "",
        "Bearer",
        "Bearer ",
        "Bearer on",
        "Bearer onee",
        "Bearer One",
        "Bearer one two",
        "Basic one",
        "one",
        "Bearerone",
        "Bearer one ",
        "Bearer\tone",
    };
    (void)state;
    pr_api_keys *keys = keys_of("one", "two");
    uint64_t tenant = 7;
    assert_int_equal(pr_api_keys_count(keys), 2);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(pr_api_keys_check(keys, wrong[i], &tenant));
    assert_false(pr_api_keys_check(keys, NULL, &tenant));
    assert_false(pr_api_keys_check_plain(keys, NULL, &tenant));
    assert_false(pr_api_keys_check_plain(keys, "", &tenant));
    assert_false(pr_api_keys_check_plain(keys, "Bearer one", &tenant));
    char longer[3000];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_false(pr_api_keys_check_plain(keys, longer, &tenant));
    assert_int_equal(tenant, 7);
    assert_true(pr_api_keys_check(keys, "Bearer one", &tenant));
    assert_true(pr_api_keys_check(keys, "bearer  two", &tenant));
    assert_true(pr_api_keys_check_plain(keys, "two", &tenant));
    pr_api_keys_destroy(keys);
}

static void a_tenant_belongs_to_a_key_and_a_process(void **state)
{
    (void)state;
    pr_api_keys *keys = keys_of("one", "two"), *others = keys_of("one", "two");
    uint64_t first, second, again, plain, other;
    assert_true(pr_api_keys_check(keys, "Bearer one", &first));
    assert_true(pr_api_keys_check(keys, "Bearer two", &second));
    assert_true(pr_api_keys_check(keys, "Bearer one", &again));
    assert_true(pr_api_keys_check_plain(keys, "one", &plain));
    assert_true(pr_api_keys_check(others, "Bearer one", &other));
    assert_true(first != 0 && second != 0 && first != second);
    assert_true(first == again && first == plain);
    assert_true(first != other);
    pr_api_keys_destroy(keys);
    pr_api_keys_destroy(others);
}

static void malformed_keys_are_refused(void **state)
{
    (void)state;
    pr_api_keys *keys = keys_of(NULL, NULL);
    pr_error_capture_begin();
    assert_int_equal(pr_api_keys_add(keys, "", "--api-key"), PR_ERR_ARGUMENT);
    assert_int_equal(pr_api_keys_add(keys, "a b", "--api-key"), PR_ERR_ARGUMENT);
    assert_int_equal(pr_api_keys_add(keys, "a\n", "POLYREME_API_KEY"), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "POLYREME_API_KEY"));
    assert_int_equal(pr_api_keys_add(keys, "\xc3\xa9", "--api-key"), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    assert_int_equal(pr_api_keys_count(keys), 0);
    pr_api_keys_destroy(keys);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path, mode), 0);
}

static void a_key_file_must_be_private(void **state)
{
    (void)state;
    char path[] = "/tmp/api_key_XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    pr_api_keys *keys = keys_of(NULL, NULL);
    uint64_t tenant;
    static const mode_t open_modes[] = {0640, 0604, 0620, 0610, 0666, 0601};
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof open_modes / sizeof *open_modes; i++) {
        write_file(path, "one\n", open_modes[i]);
        assert_int_equal(pr_api_keys_add_file(keys, path), PR_ERR_ARGUMENT);
        assert_non_null(strstr(pr_error_text(), "chmod 600"));
    }
    assert_int_equal(pr_api_keys_count(keys), 0);
    write_file(path, "# no key\n\n", 0600);
    assert_int_equal(pr_api_keys_add_file(keys, path), PR_ERR_ARGUMENT);
    write_file(path, "bad key\n", 0600);
    assert_int_equal(pr_api_keys_add_file(keys, path), PR_ERR_ARGUMENT);
    assert_int_equal(pr_api_keys_add_file(keys, "/tmp"), PR_ERR_ARGUMENT);
    assert_int_equal(pr_api_keys_add_file(keys, "/nonexistent/key"), PR_ERR_IO);
    pr_error_capture_end();
    write_file(path, "# keys\none\r\n\n two\n", 0600);
    pr_error_capture_begin();
    assert_int_equal(pr_api_keys_add_file(keys, path), PR_ERR_ARGUMENT);
    pr_error_capture_end();
    write_file(path, "# keys\none \r\n\ntwo", 0400);
    pr_api_keys_destroy(keys);
    keys = keys_of(NULL, NULL);
    assert_int_equal(pr_api_keys_add_file(keys, path), PR_OK);
    assert_int_equal(pr_api_keys_count(keys), 2);
    assert_true(pr_api_keys_check(keys, "Bearer one", &tenant));
    assert_true(pr_api_keys_check(keys, "Bearer two", &tenant));
    assert_false(pr_api_keys_check(keys, "Bearer # keys", &tenant));
    pr_api_keys_destroy(keys);
    unlink(path);
}

static void made_keys_are_random_and_usable(void **state)
{
    (void)state;
    enum { MADE = 200 };
    static char made[MADE][PR_API_KEY_TEXT_BYTES];
    bool seen[43][128] = {{false}};
    for (int i = 0; i < MADE; i++) {
        assert_int_equal(pr_api_key_make(made[i]), PR_OK);
        assert_int_equal(strlen(made[i]), PR_API_KEY_TEXT_BYTES - 1);
        assert_memory_equal(made[i], "sk-", 3);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(made[i], made[j]);
        for (int j = 0; j < 43; j++)
            seen[j][(unsigned char)made[i][3 + j]] = true;
    }
    // Every place varies: 64 digits in 200 keys, 16 of them at the last place (4 bits).
    for (int j = 0; j < 43; j++) {
        int different = 0;
        for (int k = 0; k < 128; k++)
            different += seen[j][k];
        assert_in_range(different, j < 42 ? 45 : 12, j < 42 ? 64 : 16);
    }
    pr_api_keys *keys = keys_of(made[0], NULL);
    uint64_t tenant;
    assert_true(pr_api_keys_check_plain(keys, made[0], &tenant));
    assert_false(pr_api_keys_check_plain(keys, made[1], &tenant));
    pr_api_keys_destroy(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_keys_everyone_is_tenant_0),
        cmocka_unit_test(only_a_known_key_is_let_in),
        cmocka_unit_test(a_tenant_belongs_to_a_key_and_a_process),
        cmocka_unit_test(malformed_keys_are_refused),
        cmocka_unit_test(a_key_file_must_be_private),
        cmocka_unit_test(made_keys_are_random_and_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
