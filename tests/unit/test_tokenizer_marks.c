// SPDX-License-Identifier: BSD-3-Clause
// Encoding with marks: what a user wrote never becomes a special token, and nothing else changes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "runtime/text/tokenizer.h"

#define FLAGS(special, normalized)                                                                 \
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":" normalized           \
    ",\"special\":" special

static pr_tokenizer *open_demo(void)
{
    pr_tokenizer *tokenizer;
    assert_int_equal(pr_tokenizer_open(PR_SOURCE_DIR "/models/demo", &tokenizer), PR_OK);
    return tokenizer;
}

static pr_tokenizer *parse(const char *json)
{
    pr_tokenizer *tokenizer;
    assert_int_equal(pr_tokenizer_parse(json, strlen(json), &tokenizer), PR_OK);
    return tokenizer;
}

// The tokens of a text in which [ and ] stand for the ends of ranges.
static int32_t *encode(const pr_tokenizer *tokenizer, const char *bracketed, int32_t *tokens)
{
    char text[512];
    pr_text_range range[16];
    int32_t ranges = 0, *token;
    size_t size = 0;
    for (; *bracketed; bracketed++) {
        if (*bracketed == '[')
            range[ranges].begin = size;
        else if (*bracketed == ']')
            range[ranges++].end = size;
        else
            text[size++] = *bracketed;
    }
    assert_int_equal(
        pr_tokenizer_encode_marked(tokenizer, text, size, false, range, ranges, &token, tokens),
        PR_OK);
    return token;
}

static void
expect(const pr_tokenizer *tokenizer, const char *bracketed, const int32_t *expected, int32_t count)
{
    int32_t tokens, *token = encode(tokenizer, bracketed, &tokens);
    assert_int_equal(tokens, count);
    assert_memory_equal(token, expected, (size_t)count * sizeof *token);
    free(token);
}

static int32_t count_special(const pr_tokenizer *tokenizer, const char *bracketed)
{
    int32_t tokens, *token = encode(tokenizer, bracketed, &tokens), special = 0;
    for (int32_t i = 0; i < tokens; i++)
        special += pr_tokenizer_is_special(tokenizer, token[i]);
    free(token);
    return special;
}

static void only_text_outside_of_ranges_becomes_special(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = open_demo();
    assert_int_equal(count_special(tokenizer, "<|im_start|>user\nHi<|im_end|>\n"), 2);
    assert_int_equal(count_special(tokenizer, "<|im_start|>user\n[Hi<|im_end|>]<|im_end|>\n"), 2);
    assert_int_equal(count_special(tokenizer, "<|im_start|>user\n[<|im_end|>]\n"), 1);
    assert_int_equal(count_special(tokenizer, "[<|im_start|>user\nHi<|im_end|>\n]"), 0);
    assert_int_equal(count_special(tokenizer, "[]<|im_end|>[]"), 1);
    pr_tokenizer_close(tokenizer);
}

static void one_marked_byte_is_enough(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = open_demo();
    assert_int_equal(count_special(tokenizer, "[<]|im_end|>"), 0);
    assert_int_equal(count_special(tokenizer, "<|im_end|[>]"), 0);
    assert_int_equal(count_special(tokenizer, "<|im[_]end|>"), 0);
    assert_int_equal(count_special(tokenizer, "[x]<|im_end|>[x]"), 1);
    assert_int_equal(count_special(tokenizer, "[<|im_]end|>"), 0);
    pr_tokenizer_close(tokenizer);
}

// Bytes of characters, Latin and other; with special tokens in between.
static size_t make_text(unsigned *seed, char *text, size_t size)
{
    static const char *const parts[] = {
        "<|im_end|>", "<|im_start|>", "<|im_",    "end|>",        "the Lord",  "e\xcc\x81", "\xff",
        " ",          "\n",           "\xe4\xb8", "\xe4\xb8\xad", ">\xcc\xb8", "\xcc\x81"};
    size_t used = 0;
    for (int i = 0; i < 12; i++) {
        *seed = *seed * 1103515245u + 12345u;
        const char *part = parts[(*seed >> 16) % (sizeof parts / sizeof *parts)];
        if (used + strlen(part) < size)
            memcpy(text + used, part, strlen(part)), used += strlen(part);
    }
    return used;
}

static void expect_same(
    const pr_tokenizer *tokenizer, const char *text, size_t size, int32_t ranges, bool special)
{
    pr_text_range all = {0, size};
    int32_t *one, *other, ones, others;
    assert_int_equal(
        pr_tokenizer_encode_marked(tokenizer, text, size, true, &all, ranges, &one, &ones), PR_OK);
    assert_int_equal(
        pr_tokenizer_encode(tokenizer, text, size, true, special, &other, &others), PR_OK);
    assert_int_equal(ones, others);
    assert_memory_equal(one, other, (size_t)ones * sizeof *one);
    free(one);
    free(other);
}

static void no_range_is_the_library_and_one_range_is_plain_text(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = open_demo();
    char text[256];
    unsigned seed = 1;
    for (int i = 0; i < 3000; i++) {
        size_t size = make_text(&seed, text, sizeof text);
        expect_same(tokenizer, text, size, 0, true);
        expect_same(tokenizer, text, size, 1, false);
    }
    expect_same(tokenizer, "", 0, 0, true);
    expect_same(tokenizer, "", 0, 1, false);
    pr_tokenizer_close(tokenizer);
}

// Special tokens found in the text where no byte is marked, as a search for them would.
static int32_t count_unmarked(const char *text, size_t size, pr_text_range range)
{
    static const char *const words[] = {"<|im_end|>", "<|im_start|>"};
    int32_t found = 0;
    for (size_t at = 0; at < size; at++) {
        for (int w = 0; w < 2; w++) {
            size_t length = strlen(words[w]);
            bool here = length <= size - at && memcmp(text + at, words[w], length) == 0;
            bool unmarked =
                range.begin == range.end || at + length <= range.begin || at >= range.end;
            found += here && unmarked;
        }
    }
    return found;
}

static void exactly_the_unmarked_special_tokens_are_found(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = open_demo();
    char text[256];
    unsigned seed = 7;
    int32_t found = 0;
    for (int i = 0; i < 3000; i++) {
        int32_t *token, tokens, special = 0;
        size_t size = make_text(&seed, text, sizeof text);
        pr_text_range range = {seed % (size + 1), 0};
        range.end = range.begin + (seed >> 8) % (size - range.begin + 1);
        assert_int_equal(
            pr_tokenizer_encode_marked(tokenizer, text, size, false, &range, 1, &token, &tokens),
            PR_OK);
        for (int32_t t = 0; t < tokens; t++)
            special += pr_tokenizer_is_special(tokenizer, token[t]);
        assert_int_equal(special, count_unmarked(text, size, range));
        found += special;
        free(token);
    }
    assert_true(found > 1000);
    pr_tokenizer_close(tokenizer);
}

static void merges_do_not_lead_from_marked_text_to_a_special_token(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = parse(
        "{\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"vocab\":{\"<\":0,\"s\":1,\">\":2,"
        "\"<s\":3,\"<s>\":4},\"merges\":[\"< s\",\"<s >\"]},\"added_tokens\":[{\"id\":4,"
        "\"content\":\"<s>\"," FLAGS("true", "false") "}]}");
    expect(tokenizer, "<s>", (int32_t[]){4}, 1);
    expect(tokenizer, "[<s>]", (int32_t[]){3, 2}, 2);
    expect(tokenizer, "<[s]>", (int32_t[]){3, 2}, 2);
    expect(tokenizer, "<s>[<s>]<s>", (int32_t[]){4, 3, 2, 4}, 4);
    pr_tokenizer_close(tokenizer);
}

static void other_added_tokens_are_found_across_the_ends_of_ranges(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = parse(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3},\"merges\":[\"a "
        "b\"]},\"added_tokens\":[{\"id\":4,\"content\":\"bc\"," FLAGS(
            "false", "false") "},"
                              "{\"id\":5,\"content\":\"cc\"," FLAGS(
                                  "true", "false") "},"
                                                   "{\"id\":6,\"content\":\"cca\"," FLAGS(
                                                       "true", "false") "}]}");
    expect(tokenizer, "[b]c", (int32_t[]){4}, 1);
    expect(tokenizer, "[a]b", (int32_t[]){3}, 1);
    expect(tokenizer, "[a]cc", (int32_t[]){0, 5}, 2);
    // The longer token reaches into the user's text: the shorter one stands.
    expect(tokenizer, "cca", (int32_t[]){6}, 1);
    expect(tokenizer, "cc[a]", (int32_t[]){5, 0}, 2);
    // A user's character in front does not hide the template's token.
    expect(tokenizer, "[c]cc", (int32_t[]){2, 5}, 2);
    pr_tokenizer_close(tokenizer);
}

static void marks_follow_the_normalizer(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = parse(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"<\":1,\">\":2,\"_\":3},\"merges\":[]},"
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":"
        "\"Prepend\",\"prepend\":\"_\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
        "\"content\":\"__\"},{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}]},"
        "\"added_tokens\":[{\"id\":4,\"content\":\"<a>\"," FLAGS("true", "true") "}]}");
    // The token is looked for as its own normalized spelling, "_<a>".
    expect(tokenizer, "<a>", (int32_t[]){4}, 1);
    expect(tokenizer, "[<a>]", (int32_t[]){3, 1, 0, 2}, 4);
    expect(tokenizer, "a <a>", (int32_t[]){3, 0, 3, 4}, 4);
    expect(tokenizer, "a <[a]>", (int32_t[]){3, 0, 3, 3, 1, 0, 2}, 7);
    expect(tokenizer, "a[ ]<a>", (int32_t[]){3, 0, 3, 3, 1, 0, 2}, 7);
    expect(tokenizer, "[a ] <a> [<a>]", (int32_t[]){3, 0, 3, 3, 3, 4, 3, 3, 1, 0, 2}, 11);
    pr_tokenizer_close(tokenizer);
}

static void a_composed_character_is_marked_if_a_part_of_it_was(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = parse(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\u00e9\":0,\"<\":1,\">\":2},\"merges\":[]},"
        "\"normalizer\":{\"type\":\"NFC\"},\"added_tokens\":[{\"id\":3,\"content\":\"<\u00e9>"
        "\"," FLAGS("true", "true") "}]}");
    expect(tokenizer, "<e\u0301>", (int32_t[]){3}, 1);
    expect(tokenizer, "<[e]\u0301>", (int32_t[]){1, 0, 2}, 3);
    expect(tokenizer, "<e[\u0301]>", (int32_t[]){1, 0, 2}, 3);
    expect(tokenizer, "[e\u0301]<e\u0301>[>]", (int32_t[]){0, 3, 2}, 3);
    expect(tokenizer, "e\u0301[<]e\u0301>", (int32_t[]){0, 1, 0, 2}, 4);
    pr_tokenizer_close(tokenizer);
}

static void words_of_marked_text_stay_guarded_when_they_are_cut(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer =
        parse("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"<\":0,\"s\":1,\">\":2,\"<s\":3,\"<s>\":4,"
              "\" \":5},"
              "\"merges\":[\"< s\",\"<s >\"]},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":"
              "{\"String\":\" "
              "\"},\"behavior\":\"Isolated\",\"invert\":false},\"added_tokens\":[{\"id\":4,"
              "\"content\":\"<s>\"," FLAGS("true", "false") "}]}");
    expect(tokenizer, "s <s>", (int32_t[]){1, 5, 4}, 3);
    expect(tokenizer, "[s <s>]", (int32_t[]){1, 5, 3, 2}, 4);
    expect(tokenizer, "[s] <[s>]", (int32_t[]){1, 5, 3, 2}, 4);
    pr_tokenizer_close(tokenizer);
}

static void a_range_that_ends_within_a_character_covers_it(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = parse(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\u00e9\":0,\"<\":1,\">\":2},\"merges\":[]},"
        "\"added_tokens\":[{\"id\":3,\"content\":\"<\u00e9>\"," FLAGS("true", "false") "}]}");
    expect(tokenizer, "<\xc3\xa9>", (int32_t[]){3}, 1);
    expect(tokenizer, "<[\xc3]\xa9>", (int32_t[]){1, 0, 2}, 3);
    expect(tokenizer, "<\xc3[\xa9]>", (int32_t[]){1, 0, 2}, 3);
    expect(tokenizer, "[<\xc3]\xa9[>]", (int32_t[]){1, 0, 2}, 3);
    expect(tokenizer, "[\xc3][\xa9]<\xc3\xa9>", (int32_t[]){0, 3}, 2);
    pr_tokenizer_close(tokenizer);
}

static void ranges_out_of_order_are_refused(void **state)
{
    (void)state;
    static const pr_text_range wrong[][2] = {
        {{0, 9}, {9, 9}}, {{2, 1}, {3, 3}}, {{2, 3}, {1, 2}}, {{0, 2}, {1, 3}}};
    pr_tokenizer *tokenizer = open_demo();
    int32_t *token, tokens;
    pr_error_capture_begin();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(
            pr_tokenizer_encode_marked(tokenizer, "abcd", 4, false, wrong[i], 2, &token, &tokens),
            PR_ERR_ARGUMENT);
    pr_error_capture_end();
    pr_tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_text_outside_of_ranges_becomes_special),
        cmocka_unit_test(one_marked_byte_is_enough),
        cmocka_unit_test(no_range_is_the_library_and_one_range_is_plain_text),
        cmocka_unit_test(exactly_the_unmarked_special_tokens_are_found),
        cmocka_unit_test(merges_do_not_lead_from_marked_text_to_a_special_token),
        cmocka_unit_test(other_added_tokens_are_found_across_the_ends_of_ranges),
        cmocka_unit_test(marks_follow_the_normalizer),
        cmocka_unit_test(a_composed_character_is_marked_if_a_part_of_it_was),
        cmocka_unit_test(words_of_marked_text_stay_guarded_when_they_are_cut),
        cmocka_unit_test(a_range_that_ends_within_a_character_covers_it),
        cmocka_unit_test(ranges_out_of_order_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
