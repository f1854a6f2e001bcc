// SPDX-License-Identifier: BSD-3-Clause
// The tokenizer against the library's answers (tests/data/tokenizer, made by
// scripts/make_tokenizer_vectors.py), and what it says about files it cannot take.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/tokenizer.h"

typedef struct text {
    char *data;
    size_t size_bytes;
} text;

static text unzip(const char *name)
{
    char command[4096];
    snprintf(command, sizeof command, "gzip -dc '%s/tests/data/tokenizer/%s'", PR_SOURCE_DIR, name);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    text whole = {NULL, 0};
    size_t capacity = 1 << 16, got = 0;
    do {
        whole.size_bytes += got;
        capacity *= whole.size_bytes * 2 > capacity ? 2 : 1;
        whole.data = realloc(whole.data, capacity);
        assert_non_null(whole.data);
        got = fread(whole.data + whole.size_bytes, 1, capacity - whole.size_bytes, pipe);
    } while (got > 0);
    assert_int_equal(pclose(pipe), 0);
    assert_true(whole.size_bytes > 0);
    return whole;
}

static pr_tokenizer *open_kind(const char *kind)
{
    char name[64];
    snprintf(name, sizeof name, "%s.json.gz", kind);
    text json = unzip(name);
    pr_tokenizer *tokenizer = NULL;
    assert_int_equal(pr_tokenizer_parse(json.data, json.size_bytes, &tokenizer), PR_OK);
    free(json.data);
    return tokenizer;
}

// ---- the vectors

static uint32_t u32_at(text from, size_t at)
{
    uint32_t value;
    assert_true(at + 4 <= from.size_bytes);
    memcpy(&value, from.data + at, 4);
    return value;
}

static text load_crc(const char *kind)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/data/tokenizer/%s.crc", PR_SOURCE_DIR, kind);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    text whole = {malloc(1 << 20), 0};
    assert_non_null(whole.data);
    whole.size_bytes = fread(whole.data, 1, 1 << 20, file);
    fclose(file);
    return whole;
}

// CRC-32 of ISO 3309, as zlib computes it, half a byte at a time.
static uint32_t crc32(text from)
{
    static uint32_t table[16];
    for (uint32_t i = 0; i < 16 && table[15] == 0; i++) {
        table[i] = i;
        for (int bit = 0; bit < 4; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
    }
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < from.size_bytes; i++) {
        crc ^= (uint8_t)from.data[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

// ---- our answers, in the layout of the file

static void put(text *out, const void *data, size_t size_bytes)
{
    out->data = realloc(out->data, out->size_bytes + size_bytes + 1);
    assert_non_null(out->data);
    memcpy(out->data + out->size_bytes, data, size_bytes);
    out->size_bytes += size_bytes;
}

static void put_counted(text *out, uint32_t count, const void *data, size_t size_bytes)
{
    put(out, &count, 4);
    put(out, data, size_bytes);
}

static int32_t
put_encoded(const pr_tokenizer *tokenizer, text raw, bool special, text *out, int32_t **token)
{
    int32_t tokens;
    assert_int_equal(
        pr_tokenizer_encode(tokenizer, raw.data, raw.size_bytes, special, special, token, &tokens),
        PR_OK);
    put_counted(out, (uint32_t)tokens, *token, 4 * (size_t)tokens);
    return tokens;
}

static bool is_utf8(const char *data, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes;) {
        uint8_t first = (uint8_t)data[i];
        size_t length = first < 0x80   ? 1
                        : first < 0xc2 ? 0
                        : first < 0xe0 ? 2
                        : first < 0xf0 ? 3
                                       : 4;
        if (length == 0 || first > 0xf4 || length > size_bytes - i)
            return false;
        for (size_t k = 1; k < length; k++) {
            if (((uint8_t)data[i + k] & 0xc0) != 0x80)
                return false;
        }
        i += length;
    }
    return true;
}

// The incremental pieces are valid UTF-8 and together the whole.
static void check_pieces(
    const pr_tokenizer *tokenizer, const int32_t *token, int32_t tokens, bool skip, text whole)
{
    pr_detokenizer *detokenizer;
    const char *piece;
    size_t size_bytes, at = 0;
    assert_int_equal(pr_detokenizer_create(tokenizer, skip, &detokenizer), PR_OK);
    for (int32_t i = 0; i <= tokens; i++) {
        if (i < tokens)
            assert_int_equal(
                pr_detokenizer_feed(detokenizer, token[i], &piece, &size_bytes), PR_OK);
        else
            assert_int_equal(pr_detokenizer_finish(detokenizer, &piece, &size_bytes), PR_OK);
        assert_true(is_utf8(piece, size_bytes));
        assert_true(at + size_bytes <= whole.size_bytes);
        assert_memory_equal(piece, whole.data + at, size_bytes);
        at += size_bytes;
    }
    assert_int_equal(at, whole.size_bytes);
    pr_detokenizer_destroy(detokenizer);
}

static void put_decoded(
    const pr_tokenizer *tokenizer, const int32_t *token, int32_t tokens, bool skip, text *out)
{
    text whole;
    assert_int_equal(
        pr_tokenizer_decode(tokenizer, token, tokens, skip, &whole.data, &whole.size_bytes), PR_OK);
    put_counted(out, (uint32_t)whole.size_bytes, whole.data, whole.size_bytes);
    check_pieces(tokenizer, token, tokens, skip, whole);
    free(whole.data);
}

static void show_difference(text raw, uint32_t index, const char *what)
{
    fprintf(stderr, "string %u: %s differs from the library: '", index, what);
    for (size_t i = 0; i < raw.size_bytes && i < 300; i++)
        fprintf(stderr, "\\x%02x", (uint8_t)raw.data[i]);
    fprintf(stderr, "'\n");
    fail();
}

// answers: the library's own for the string, when it is among those stored in full; *at moves on.
static void compare_string(
    const pr_tokenizer *tokenizer, text raw, uint32_t index, text crc, text answers, size_t *at)
{
    text encoded = {NULL, 0}, decoded = {NULL, 0};
    int32_t *token, *plain;
    int32_t tokens = put_encoded(tokenizer, raw, true, &encoded, &token);
    (void)put_encoded(tokenizer, raw, false, &encoded, &plain);
    put_decoded(tokenizer, token, tokens, false, &decoded);
    put_decoded(tokenizer, token, tokens, true, &decoded);
    if (index < u32_at(answers, 0)) {
        assert_true(*at + encoded.size_bytes + decoded.size_bytes <= answers.size_bytes);
        if (memcmp(answers.data + *at, encoded.data, encoded.size_bytes) != 0)
            show_difference(raw, index, "encoding");
        *at += encoded.size_bytes;
        if (memcmp(answers.data + *at, decoded.data, decoded.size_bytes) != 0)
            show_difference(raw, index, "decoding");
        *at += decoded.size_bytes;
    }
    if (crc32(encoded) != u32_at(crc, 8 * (size_t)index))
        show_difference(raw, index, "encoding");
    if (crc32(decoded) != u32_at(crc, 8 * (size_t)index + 4))
        show_difference(raw, index, "decoding");
    free(token);
    free(plain);
    free(encoded.data);
    free(decoded.data);
}

// Lists of ids that no encoder makes.
static uint32_t compare_random_ids(const pr_tokenizer *tokenizer, const char *kind)
{
    char name[64];
    snprintf(name, sizeof name, "%s.decode.gz", kind);
    text whole = unzip(name);
    size_t at = 4;
    for (uint32_t i = 0; i < u32_at(whole, 0); i++) {
        int32_t token[64];
        uint32_t tokens = u32_at(whole, at);
        text decoded = {NULL, 0};
        assert_true(tokens <= 64 && at + 4 + 4 * (size_t)tokens <= whole.size_bytes);
        memcpy(token, whole.data + at + 4, 4 * (size_t)tokens);
        at += 4 + 4 * (size_t)tokens;
        put_decoded(tokenizer, token, (int32_t)tokens, false, &decoded);
        put_decoded(tokenizer, token, (int32_t)tokens, true, &decoded);
        assert_true(at + decoded.size_bytes <= whole.size_bytes);
        if (memcmp(whole.data + at, decoded.data, decoded.size_bytes) != 0)
            show_difference((text){whole.data + at, decoded.size_bytes}, i, "decoding of ids");
        at += decoded.size_bytes;
        free(decoded.data);
    }
    assert_int_equal(at, whole.size_bytes);
    uint32_t count = u32_at(whole, 0);
    free(whole.data);
    return count;
}

static void compare_kind(const char *kind)
{
    char name[64];
    snprintf(name, sizeof name, "%s.answers.gz", kind);
    pr_tokenizer *tokenizer = open_kind(kind);
    text strings = unzip("strings.gz"), answers = unzip(name), crc = load_crc(kind);
    uint32_t count = u32_at(strings, 0);
    size_t string_at = 4, answer_at = 4;
    assert_true(count >= 20000);
    assert_true(u32_at(answers, 0) >= 500);
    assert_int_equal(crc.size_bytes, 8 * (size_t)count);
    for (uint32_t i = 0; i < count; i++) {
        text raw = {strings.data + string_at + 4, u32_at(strings, string_at)};
        string_at += 4 + raw.size_bytes;
        assert_true(string_at <= strings.size_bytes);
        compare_string(tokenizer, raw, i, crc, answers, &answer_at);
    }
    assert_int_equal(answer_at, answers.size_bytes);
    uint32_t lists = compare_random_ids(tokenizer, kind);
    assert_true(lists >= 1000);
    printf(
        "%s: %u strings equal the library's ids and texts, %u lists of ids its texts\n", kind,
        count, lists);
    free(strings.data);
    free(answers.data);
    free(crc.data);
    pr_tokenizer_close(tokenizer);
}

static void gpt2_equals_the_library(void **state) { (void)state, compare_kind("gpt2"); }
static void gpt2_with_prefix_space_equals_the_library(void **state)
{
    (void)state, compare_kind("gpt2_prefix");
}
static void llama3_equals_the_library(void **state) { (void)state, compare_kind("llama3"); }
static void qwen2_equals_the_library(void **state) { (void)state, compare_kind("qwen2"); }
static void every_split_behavior_equals_the_library(void **state)
{
    (void)state, compare_kind("splits");
}
static void llama2_equals_the_library(void **state) { (void)state, compare_kind("llama2"); }
static void mistral_equals_the_library(void **state) { (void)state, compare_kind("mistral"); }
static void metaspace_equals_the_library(void **state) { (void)state, compare_kind("metaspace"); }

// ---- what the files cannot show

#define TINY_MODEL                                                                                 \
    "\"model\":{\"type\":\"BPE\",\"unk_token\":null,\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"aab\":"  \
    "3,"                                                                                           \
    "\"<s>\":4},\"merges\":[\"a b\",[\"a\",\"ab\"]]}"
#define FLAGS(special)                                                                             \
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"                \
    "\"special\":" special

static pr_status parse(const char *json, pr_tokenizer **tokenizer)
{
    pr_error_capture_begin();
    pr_status status = pr_tokenizer_parse(json, strlen(json), tokenizer);
    pr_error_capture_end();
    return status;
}

static void expect_refusal(const char *json, pr_status expected, const char *words)
{
    pr_tokenizer *tokenizer;
    assert_int_equal(parse(json, &tokenizer), expected);
    if (!strstr(pr_error_text(), words)) {
        fprintf(stderr, "'%s' does not say '%s'\n", pr_error_text(), words);
        fail();
    }
    assert_null(strchr(pr_error_text(), '\n'));
}

static void other_kinds_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const models[] = {"WordPiece", "Unigram", "WordLevel"};
    char json[1024];
    for (int i = 0; i < 3; i++) {
        snprintf(json, sizeof json, "{\"model\":{\"type\":\"%s\",\"vocab\":{}}}", models[i]);
        expect_refusal(json, PR_ERR_UNSUPPORTED, models[i]);
        expect_refusal(json, PR_ERR_UNSUPPORTED, "BPE");
    }
    expect_refusal(
        "{" TINY_MODEL ",\"normalizer\":{\"type\":\"BertNormalizer\"}}", PR_ERR_UNSUPPORTED,
        "normalizer 'BertNormalizer'");
    expect_refusal(
        "{" TINY_MODEL ",\"pre_tokenizer\":{\"type\":\"Punctuation\"}}", PR_ERR_UNSUPPORTED,
        "pre_tokenizer 'Punctuation'");
    expect_refusal(
        "{" TINY_MODEL ",\"post_processor\":{\"type\":\"BertProcessing\"}}", PR_ERR_UNSUPPORTED,
        "post_processor 'BertProcessing'");
    expect_refusal(
        "{" TINY_MODEL ",\"decoder\":{\"type\":\"WordPiece\"}}", PR_ERR_UNSUPPORTED,
        "decoder 'WordPiece'");
}

static void broken_files_get_one_line_that_says_what(void **state)
{
    (void)state;
    expect_refusal("", PR_ERR_FORMAT, "not valid JSON");
    expect_refusal("{\"model\":", PR_ERR_FORMAT, "not valid JSON");
    expect_refusal("{}", PR_ERR_FORMAT, "\"model\"");
    expect_refusal(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a zz\"]}}", PR_ERR_FORMAT,
        "merge 0 names token 'zz'");
    expect_refusal(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", PR_ERR_FORMAT,
        "merge 0");
    expect_refusal(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", PR_ERR_FORMAT,
        "id -1");
    expect_refusal(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4194304},\"merges\":[]}}", PR_ERR_FORMAT,
        "id 4194304");
    expect_refusal(
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}}", PR_ERR_FORMAT,
        "same id 1");
    expect_refusal(
        "{" TINY_MODEL ",\"added_tokens\":[{\"id\":2,\"content\":\"new\"," FLAGS("true") "}]}",
        PR_ERR_FORMAT, "same id 2");
    expect_refusal(
        "{" TINY_MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"},"
        "\"behavior\":\"Isolated\",\"invert\":false}}",
        PR_ERR_UNSUPPORTED, "'(a'");
    expect_refusal(
        "{" TINY_MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},"
        "\"behavior\":\"Isolated\",\"invert\":false}}",
        PR_ERR_UNSUPPORTED, "&&");
}

static void every_truncation_of_a_file_is_refused(void **state)
{
    (void)state;
    text json = unzip("metaspace.json.gz");
    pr_tokenizer *tokenizer;
    pr_error_capture_begin();
    for (size_t size = 0; size < json.size_bytes; size += 1 + json.size_bytes / 200)
        assert_int_equal(pr_tokenizer_parse(json.data, size, &tokenizer), PR_ERR_FORMAT);
    pr_error_capture_end();
    free(json.data);
}

static void text_of_a_special_token_never_becomes_it_unless_asked(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer;
    int32_t *token, tokens;
    // Even where merges, or ignore_merges, lead to the special token.
    static const char json[] =
        "{\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"vocab\":{\"<\":0,\"s\":1,\">\":2,"
        "\"<s\":3,\"<s>\":4},\"merges\":[\"< s\",\"<s >\"]},\"added_tokens\":[{\"id\":4,"
        "\"content\":\"<s>\"," FLAGS("true") "}]}";
    assert_int_equal(parse(json, &tokenizer), PR_OK);
    assert_int_equal(pr_tokenizer_encode(tokenizer, "<s>", 3, false, true, &token, &tokens), PR_OK);
    assert_int_equal(tokens, 1);
    assert_int_equal(token[0], 4);
    free(token);
    assert_int_equal(
        pr_tokenizer_encode(tokenizer, "<s>", 3, false, false, &token, &tokens), PR_OK);
    assert_int_equal(tokens, 2);
    assert_int_equal(token[0], 3);
    assert_int_equal(token[1], 2);
    free(token);
    assert_true(pr_tokenizer_is_special(tokenizer, 4));
    assert_false(pr_tokenizer_is_special(tokenizer, 3));
    assert_int_equal(pr_tokenizer_find(tokenizer, "<s>"), 4);
    assert_int_equal(pr_tokenizer_find(tokenizer, "s>"), -1);
    assert_int_equal(pr_tokenizer_size(tokenizer), 5);
    pr_tokenizer_close(tokenizer);
}

// The spans of "<s>" in a text are marked one after another; ids of the tokens that come out, as digits.
static void check_marked(const char *json, const char *line, pr_text_range range, const char *ids)
{
    pr_tokenizer *tokenizer;
    int32_t *token, tokens;
    char found[64] = "";
    assert_int_equal(parse(json, &tokenizer), PR_OK);
    assert_int_equal(
        pr_tokenizer_encode_marked(
            tokenizer, line, strlen(line), false, &range, range.begin < range.end, &token, &tokens),
        PR_OK);
    for (int32_t i = 0; i < tokens; i++)
        found[i] = (char)('0' + token[i]);
    assert_string_equal(found, ids);
    free(token);
    pr_tokenizer_close(tokenizer);
}

static void a_special_token_is_none_where_a_range_touches_it(void **state)
{
    (void)state;
    static const char *const json[] = {
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"<\":0,\"s\":1,\">\":2,\"<s\":3,\"<s>\":4,\"#\":"
        "5},"
        "\"merges\":[\"< s\",\"<s >\"]},\"added_tokens\":[{\"id\":4,\"content\":\"<s>\"," FLAGS(
            "true") "},{\"id\":5,\"content\":\"#\"," FLAGS("false") "}]}",
        // Found in normalized text, where offsets are the same, and where they are not.
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"<\":0,\"s\":1,\">\":2,\"<s\":3,\"<s>\":4,\"#\":"
        "5},"
        "\"merges\":[\"< s\",\"<s "
        ">\"]},\"normalizer\":{\"type\":\"NFC\"},\"added_tokens\":[{\"id\":4,"
        "\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
        "\"normalized\":true,\"special\":true},{\"id\":5,\"content\":\"#\"," FLAGS("false") "}]}",
    };
    for (size_t i = 0; i < sizeof json / sizeof *json; i++) {
        check_marked(json[i], "<s>#<s>", (pr_text_range){0, 0}, "454");
        check_marked(json[i], "<s>#<s>", (pr_text_range){0, 7}, "32532");
        check_marked(json[i], "<s>#<s>", (pr_text_range){0, 3}, "3254");
        check_marked(json[i], "<s>#<s>", (pr_text_range){3, 4}, "454");
        check_marked(json[i], "<s>#<s>", (pr_text_range){2, 4}, "3254");
        check_marked(json[i], "<s>#<s>", (pr_text_range){4, 5}, "4532");
        check_marked(json[i], "<s<s>", (pr_text_range){0, 2}, "34");
        check_marked(json[i], "", (pr_text_range){0, 0}, "");
    }
}

// Merges that join all of the word again and again: a a -> aa, aa aa -> aaaa, ...
static void a_hundred_kilobytes_of_one_letter_take_no_time(void **state)
{
    (void)state;
    static char word[100001], json[1 << 16];
    memset(word, 'a', sizeof word - 1);
    int at = snprintf(json, sizeof json, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0");
    for (int i = 1; i <= 12; i++)
        at += snprintf(json + at, sizeof json - at, ",\"%.*s\":%d", 1 << i, word, i);
    at += snprintf(json + at, sizeof json - at, "},\"merges\":[\"a a\"");
    for (int i = 1; i < 12; i++)
        at += snprintf(json + at, sizeof json - at, ",\"%.*s %.*s\"", 1 << i, word, 1 << i, word);
    snprintf(json + at, sizeof json - at, "]}}");
    pr_tokenizer *tokenizer;
    int32_t *token, tokens;
    assert_int_equal(parse(json, &tokenizer), PR_OK);
    int64_t start_ns = pr_clock_now_ns();
    assert_int_equal(
        pr_tokenizer_encode(tokenizer, word, sizeof word - 1, false, false, &token, &tokens),
        PR_OK);
    assert_true(pr_clock_now_ns() - start_ns < 2000000000);
    // 100,000 = 24 x 4,096 + 1,024 + 512 + 128 + 32
    assert_int_equal(tokens, 28);
    assert_int_equal(token[23], 12);
    assert_int_equal(token[24], 10);
    assert_int_equal(token[27], 5);
    free(token);
    pr_tokenizer_close(tokenizer);
}

static void a_hundred_kilobytes_of_spaces_take_no_time(void **state)
{
    (void)state;
    static char spaces[100000];
    memset(spaces, ' ', sizeof spaces);
    pr_tokenizer *tokenizer = open_kind("llama3");
    int32_t *token, tokens;
    int64_t start_ns = pr_clock_now_ns();
    assert_int_equal(
        pr_tokenizer_encode(tokenizer, spaces, sizeof spaces, false, false, &token, &tokens),
        PR_OK);
    assert_true(pr_clock_now_ns() - start_ns < 2000000000);
    free(token);
    pr_tokenizer_close(tokenizer);
}

static void write_file(const char *directory, const char *name, const char *content)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

// What "a" (id 0) becomes under the given tokenizer_config.json; <s> has id 4.
static void expect_with_config(const char *config, const int32_t *expected, int32_t count)
{
    static const char json[] =
        "{" TINY_MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
        "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
        "\"type_id\":0}}],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[4]}}}}";
    char directory[] = "/tmp/test_tokenizer_XXXXXX", path[64];
    pr_tokenizer *tokenizer;
    int32_t *token, tokens;
    assert_non_null(mkdtemp(directory));
    write_file(directory, "tokenizer.json", json);
    write_file(directory, "tokenizer_config.json", config);
    pr_error_capture_begin();
    pr_status status = pr_tokenizer_open(directory, &tokenizer);
    pr_error_capture_end();
    snprintf(path, sizeof path, "%s/tokenizer.json", directory);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", directory);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
    assert_int_equal(status, count > 0 ? PR_OK : PR_ERR_FORMAT);
    if (count == 0)
        return;
    assert_int_equal(pr_tokenizer_encode(tokenizer, "a", 1, true, true, &token, &tokens), PR_OK);
    assert_int_equal(tokens, count);
    assert_memory_equal(token, expected, 4 * (size_t)count);
    free(token);
    pr_tokenizer_close(tokenizer);
}

static void the_config_may_switch_the_tokens_around_a_text(void **state)
{
    (void)state;
    expect_with_config("{}", (int32_t[]){4, 0}, 2);
    expect_with_config("{\"add_bos_token\":null}", (int32_t[]){4, 0}, 2);
    expect_with_config("{\"add_bos_token\":false}", (int32_t[]){0}, 1);
    expect_with_config("{\"add_bos_token\":true,\"bos_token\":\"b\"}", (int32_t[]){1, 0}, 2);
    expect_with_config(
        "{\"add_eos_token\":true,\"eos_token\":{\"content\":\"b\"}}", (int32_t[]){4, 0, 1}, 3);
    expect_with_config("{\"add_bos_token\":true,\"bos_token\":\"none\"}", NULL, 0);
    expect_with_config("{", NULL, 0);
}

static void composition_loses_no_character(void **state)
{
    (void)state;
    static const char before[] = "e\u0301\uac38\u11a7\u0301\u1100\u1161\u11a8";
    static const char after[] = "\u00e9\uac38\u11a7\u0301\uac01";
    json_t *json = json_pack("{s:s}", "type", "NFC");
    pr_normalizer *normalizer;
    pr_byte_buffer work = {0};
    bool start_kept;
    assert_int_equal(pr_normalizer_create(json, &normalizer), PR_OK);
    pr_byte_buffer_append(&work, before, sizeof before - 1);
    assert_int_equal(pr_normalizer_apply(normalizer, &work, NULL, &start_kept), PR_OK);
    assert_int_equal(work.size_bytes, sizeof after - 1);
    assert_memory_equal(work.data, after, work.size_bytes);
    pr_byte_buffer_free(&work);
    pr_normalizer_destroy(normalizer);
    json_decref(json);
}

static void a_directory_without_the_file_is_named(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer;
    pr_error_capture_begin();
    assert_int_equal(pr_tokenizer_open("/nonexistent", &tokenizer), PR_ERR_NOT_FOUND);
    pr_error_capture_end();
    assert_non_null(strstr(pr_error_text(), "/nonexistent/tokenizer.json"));
}

// The tokens of a text, byte by byte, are the text; decoders of SentencePiece strip one space in front.
static void check_raw_bytes(const char *kind, const char *text_in)
{
    pr_tokenizer *tokenizer = open_kind(kind);
    int32_t *token, tokens;
    pr_byte_buffer raw = {0};
    char *decoded;
    size_t size = strlen(text_in), decoded_bytes;
    assert_int_equal(
        pr_tokenizer_encode(tokenizer, text_in, size, false, false, &token, &tokens), PR_OK);
    for (int32_t i = 0; i < tokens; i++)
        assert_int_equal(pr_tokenizer_raw_bytes(tokenizer, token[i], &raw), PR_OK);
    assert_int_equal(
        pr_tokenizer_decode(tokenizer, token, tokens, false, &decoded, &decoded_bytes), PR_OK);
    size_t stripped = raw.size_bytes - decoded_bytes;
    assert_in_range(stripped, 0, 1);
    assert_true(stripped == 0 || *(char *)raw.data == ' ');
    assert_memory_equal((char *)raw.data + stripped, decoded, decoded_bytes);
    free(decoded);
    free(token);
    pr_byte_buffer_free(&raw);
    pr_tokenizer_close(tokenizer);
}

static void raw_bytes_of_tokens_put_together_are_the_text(void **state)
{
    (void)state;
    static const char *const kinds[] = {"gpt2",   "llama3",  "qwen2",
                                        "llama2", "mistral", "metaspace"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        check_raw_bytes(kinds[i], "{\"name\": \"The boat, \xc3\xa4 and\", \"n\": -12.5}\n");
        check_raw_bytes(kinds[i], "a  b \xe2\x82\xac \xf0\x9f\x98\x80 \xe4\xb8\x96");
    }
}

static void special_tokens_and_unknown_ids_have_no_raw_bytes(void **state)
{
    (void)state;
    pr_tokenizer *tokenizer = open_kind("llama2");
    pr_byte_buffer raw = {0};
    int32_t special = pr_tokenizer_find(tokenizer, "</s>");
    assert_true(special >= 0);
    assert_int_equal(pr_tokenizer_raw_bytes(tokenizer, special, &raw), PR_OK);
    assert_int_equal(pr_tokenizer_raw_bytes(tokenizer, -1, &raw), PR_OK);
    assert_int_equal(pr_tokenizer_raw_bytes(tokenizer, 1 << 20, &raw), PR_OK);
    assert_int_equal(raw.size_bytes, 0);
    int32_t byte = pr_tokenizer_find(tokenizer, "<0xE2>");
    assert_int_equal(pr_tokenizer_raw_bytes(tokenizer, byte, &raw), PR_OK);
    assert_int_equal(raw.size_bytes, 1);
    assert_int_equal(*(unsigned char *)raw.data, 0xe2);
    pr_byte_buffer_free(&raw);
    pr_tokenizer_close(tokenizer);
}

static void the_demo_model_opens_and_round_trips(void **state)
{
    (void)state;
    static const char line[] = "<|im_start|>user\nHow many ranks? 42, don't ask.<|im_end|>\n";
    pr_tokenizer *tokenizer;
    int32_t *token, tokens;
    char *back;
    size_t size_bytes;
    assert_int_equal(pr_tokenizer_open(PR_SOURCE_DIR "/models/demo", &tokenizer), PR_OK);
    assert_int_equal(
        pr_tokenizer_encode(tokenizer, line, sizeof line - 1, true, true, &token, &tokens), PR_OK);
    assert_int_equal(token[0], pr_tokenizer_find(tokenizer, "<|im_start|>"));
    assert_int_equal(
        pr_tokenizer_decode(tokenizer, token, tokens, false, &back, &size_bytes), PR_OK);
    assert_string_equal(back, line);
    free(back);
    free(token);
    pr_tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_equals_the_library),
        cmocka_unit_test(gpt2_with_prefix_space_equals_the_library),
        cmocka_unit_test(llama3_equals_the_library),
        cmocka_unit_test(qwen2_equals_the_library),
        cmocka_unit_test(every_split_behavior_equals_the_library),
        cmocka_unit_test(llama2_equals_the_library),
        cmocka_unit_test(mistral_equals_the_library),
        cmocka_unit_test(metaspace_equals_the_library),
        cmocka_unit_test(other_kinds_are_refused_by_name),
        cmocka_unit_test(broken_files_get_one_line_that_says_what),
        cmocka_unit_test(every_truncation_of_a_file_is_refused),
        cmocka_unit_test(text_of_a_special_token_never_becomes_it_unless_asked),
        cmocka_unit_test(a_special_token_is_none_where_a_range_touches_it),
        cmocka_unit_test(a_hundred_kilobytes_of_one_letter_take_no_time),
        cmocka_unit_test(a_hundred_kilobytes_of_spaces_take_no_time),
        cmocka_unit_test(the_config_may_switch_the_tokens_around_a_text),
        cmocka_unit_test(composition_loses_no_character),
        cmocka_unit_test(a_directory_without_the_file_is_named),
        cmocka_unit_test(raw_bytes_of_tokens_put_together_are_the_text),
        cmocka_unit_test(special_tokens_and_unknown_ids_have_no_raw_bytes),
        cmocka_unit_test(the_demo_model_opens_and_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
