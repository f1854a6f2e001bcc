// SPDX-License-Identifier: BSD-3-Clause
// What comes out when, token by token. That the pieces together are the whole text is compared for
// every golden string in test_tokenizer.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/text/tokenizer.h"

// Byte tokens of a byte-level vocabulary: Ã is byte c3, © a9, ð f0, Ł 9f, ĺ 98, Ģ 80.
static const char byte_level[] =
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\u00c3\":1,\"\u00a9\":2,\"\u00f0\":3,"
    "\"\u0141\":4,\"\u013a\":5,\"\u0122\":6,\"\u00f0\u0141\":7,\"\u6f22\":8},\"merges\":[]},"
    "\"added_tokens\":[{\"id\":9,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
    "\"rstrip\":false,\"normalized\":false,\"special\":true}],\"decoder\":{\"type\":\"ByteLevel\"}"
    "}";

static const char byte_fallback[] =
    "{\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{\"<0xC3>\":0,\"<0xA9>\":1,"
    "\"a\":2,\"\u2581\":3,\"\u2581a\":4},\"merges\":[]},\"decoder\":{\"type\":\"Sequence\","
    "\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\u2581\"},\"content\":\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}}";

// A token of -2 finishes; the text of each step is compared.
typedef struct step {
    int32_t token;
    const char *text;
} step;

enum { FINISH = -2 };

static void expect(const char *json, bool skip_special, const step *steps, int count)
{
    pr_tokenizer *tokenizer;
    pr_detokenizer *detokenizer;
    assert_int_equal(pr_tokenizer_parse(json, strlen(json), &tokenizer), PR_OK);
    assert_int_equal(pr_detokenizer_create(tokenizer, skip_special, &detokenizer), PR_OK);
    for (int i = 0; i < count; i++) {
        const char *text;
        size_t size_bytes;
        if (steps[i].token == FINISH)
            assert_int_equal(pr_detokenizer_finish(detokenizer, &text, &size_bytes), PR_OK);
        else
            assert_int_equal(
                pr_detokenizer_feed(detokenizer, steps[i].token, &text, &size_bytes), PR_OK);
        assert_int_equal(size_bytes, strlen(steps[i].text));
        assert_memory_equal(text, steps[i].text, size_bytes);
    }
    pr_detokenizer_destroy(detokenizer);
    pr_tokenizer_close(tokenizer);
}

#define EXPECT(json, skip, ...)                                                                    \
    do {                                                                                           \
        const step steps_[] = {__VA_ARGS__};                                                       \
        expect(json, skip, steps_, (int)(sizeof steps_ / sizeof *steps_));                         \
    } while (0)

static void a_character_comes_out_when_its_last_byte_does(void **state)
{
    (void)state;
    EXPECT(byte_level, true, {0, "a"}, {1, ""}, {2, "\u00e9"}, {0, "a"}, {FINISH, ""});
    EXPECT(byte_level, true, {7, ""}, {5, ""}, {6, "\U0001f600"}, {FINISH, ""});
}

static void an_unfinished_character_becomes_one_replacement(void **state)
{
    (void)state;
    EXPECT(byte_level, true, {3, ""}, {4, ""}, {5, ""}, {FINISH, "\ufffd"});
    EXPECT(
        byte_level, true, {3, ""}, {4, ""},
        {0, "\ufffd"
            "a"},
        {FINISH, ""});
    EXPECT(byte_level, true, {2, "\ufffd"}, {2, "\ufffd"}, {FINISH, ""});
}

static void a_token_outside_the_byte_alphabet_is_its_own_text(void **state)
{
    (void)state;
    EXPECT(byte_level, true, {8, "\u6f22"}, {1, ""}, {8, "\ufffd\u6f22"}, {FINISH, ""});
}

static void a_run_of_byte_tokens_comes_out_when_it_ends(void **state)
{
    (void)state;
    EXPECT(
        byte_fallback, true, {0, ""}, {1, ""},
        {2, "\u00e9"
            "a"},
        {FINISH, ""});
    EXPECT(byte_fallback, true, {0, ""}, {1, ""}, {FINISH, "\u00e9"});
    // One byte too many spoils the run, a replacement for each byte.
    EXPECT(
        byte_fallback, true, {0, ""}, {1, ""}, {1, ""},
        {2, "\ufffd\ufffd\ufffd"
            "a"},
        {FINISH, ""});
}

static void only_the_first_space_is_stripped(void **state)
{
    (void)state;
    EXPECT(byte_fallback, true, {4, "a"}, {4, " a"}, {3, " "}, {FINISH, ""});
    EXPECT(byte_fallback, true, {3, ""}, {3, " "}, {2, "a"}, {FINISH, ""});
}

static void special_tokens_and_ids_without_a_token_have_no_text(void **state)
{
    (void)state;
    EXPECT(byte_level, true, {9, ""}, {0, "a"}, {FINISH, ""});
    EXPECT(byte_level, false, {9, "<s>"}, {0, "a"}, {FINISH, ""});
    EXPECT(byte_level, false, {10, ""}, {INT32_MAX, ""}, {-1, ""}, {0, "a"}, {FINISH, ""});
}

static void a_finished_stream_starts_anew(void **state)
{
    (void)state;
    EXPECT(byte_fallback, true, {4, "a"}, {0, ""}, {FINISH, "\ufffd"}, {4, "a"}, {4, " a"});
    EXPECT(byte_level, true, {1, ""}, {FINISH, "\ufffd"}, {2, "\ufffd"}, {0, "a"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_character_comes_out_when_its_last_byte_does),
        cmocka_unit_test(an_unfinished_character_becomes_one_replacement),
        cmocka_unit_test(a_token_outside_the_byte_alphabet_is_its_own_text),
        cmocka_unit_test(a_run_of_byte_tokens_comes_out_when_it_ends),
        cmocka_unit_test(only_the_first_space_is_stripped),
        cmocka_unit_test(special_tokens_and_ids_without_a_token_have_no_text),
        cmocka_unit_test(a_finished_stream_starts_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
