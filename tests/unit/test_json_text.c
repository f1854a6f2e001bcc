// SPDX-License-Identifier: BSD-3-Clause
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>
#include <string.h>

#include "launcher/openai/json_text.h"

static void assert_like_jansson(json_t *value)
{
    pr_byte_buffer text = {0};
    char *expected = json_dumps(value, PR_JSON_DUMP_FLAGS);
    pr_json_text_append_raw(&text, "x");  // it appends
    pr_json_text_append(&text, value);
    assert_false(text.failed);
    assert_int_equal(text.size_bytes, strlen(expected) + 1);
    assert_memory_equal((char *)text.data + 1, expected, strlen(expected));
    free(expected);
    pr_byte_buffer_free(&text);
}

static void values_are_printed_as_jansson_prints_them(void **state)
{
    (void)state;
    assert_like_jansson(json_null());
    assert_like_jansson(json_true());
    assert_like_jansson(json_false());
    assert_like_jansson(json_integer(0));
    assert_like_jansson(json_integer(-1));
    assert_like_jansson(json_integer(INT64_MIN));
    assert_like_jansson(json_integer(INT64_MAX));
    assert_like_jansson(json_real(-0.1));
    assert_like_jansson(json_string(""));
    assert_like_jansson(json_string("plain"));
    assert_like_jansson(json_pack("[s, n, {s:i}]", "a\n", "b", 1));
}

static void strings_of_any_two_characters_are_printed_as_jansson_prints_them(void **state)
{
    (void)state;
    for (int first = 0; first < 128; first++) {
        for (int second = 0; second < 128; second++) {
            const char text[2] = {(char)first, (char)second};
            pr_byte_buffer own = {0}, other = {0};
            pr_json_text_append_string(&own, text, 2);
            json_t *value = json_stringn(text, 2);
            char *expected = json_dumps(value, PR_JSON_DUMP_FLAGS);
            json_decref(value);
            pr_json_text_append_raw(&other, expected);
            assert_int_equal(own.size_bytes, other.size_bytes);
            assert_memory_equal(own.data, other.data, own.size_bytes);
            free(expected);
            pr_byte_buffer_free(&own);
            pr_byte_buffer_free(&other);
        }
    }
    assert_like_jansson(json_string("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
}

static void bytes_that_are_no_utf8_mark_the_buffer_as_failed(void **state)
{
    (void)state;
    pr_byte_buffer text = {0};
    pr_json_text_append_string(&text, "a\xff", 2);
    assert_true(text.failed);
    pr_byte_buffer_free(&text);
    text = (pr_byte_buffer){0};
    pr_json_text_append(&text, NULL);
    assert_true(text.failed);
    pr_byte_buffer_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_printed_as_jansson_prints_them),
        cmocka_unit_test(strings_of_any_two_characters_are_printed_as_jansson_prints_them),
        cmocka_unit_test(bytes_that_are_no_utf8_mark_the_buffer_as_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
