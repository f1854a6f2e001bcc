// SPDX-License-Identifier: BSD-3-Clause
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/options.h"
#include "runtime/base/log.h"

typedef struct record {
    bool fast;
    int32_t seqs, block, hands;
    int64_t memory;
    double heat;
    const char *type, *file, *model, *other;
    pr_strings stop;
} record;

#define AT(field) offsetof(record, field)

static const pr_option own[] = {
    {.name = "fast", .kind = PR_OPTION_FLAG, .offset = AT(fast), .standard = "true", .help = "f"},
    {.name = "max-num-seqs",
     .letters = "ns",
     .value_name = "N",
     .kind = PR_OPTION_INT,
     .offset = AT(seqs),
     .standard = "64",
     .least = 1,
     .most = 65536,
     .common = true,
     .help = "s"},
    {.name = "block-size",
     .value_name = "N",
     .kind = PR_OPTION_INT,
     .offset = AT(block),
     .standard = "16",
     .least = 16,
     .most = 1024,
     .multiple = 16,
     .help = "b"},
    {.name = "memory",
     .value_name = "N",
     .kind = PR_OPTION_INT64,
     .offset = AT(memory),
     .help = "m"},
    {.name = "hands",
     .value_name = "N",
     .kind = PR_OPTION_INT,
     .offset = AT(hands),
     .standard = "auto",
     .zero = "auto",
     .least = 0,
     .most = 8,
     .help = "n"},
    {.name = "heat",
     .value_name = "X",
     .kind = PR_OPTION_FLOAT,
     .offset = AT(heat),
     .standard = "0.5",
     .least = 0,
     .most = 2,
     .help = "h"},
    {.name = "type",
     .value_name = "T",
     .kind = PR_OPTION_STRING,
     .offset = AT(type),
     .standard = "auto",
     .choices = "auto|float32",
     .help = "t"},
    {.name = "config",
     .value_name = "FILE",
     .kind = PR_OPTION_STRING,
     .offset = AT(file),
     .help = "c"},
    {.name = "model",
     .value_name = "MODEL",
     .kind = PR_OPTION_STRING,
     .offset = AT(model),
     .position = 1,
     .help = "d"},
    {.name = "stop",
     .value_name = "TEXT",
     .kind = PR_OPTION_STRINGS,
     .offset = AT(stop),
     .help = "e"},
};
static const pr_option foreign[] = {
    {.name = "other",
     .value_name = "X",
     .kind = PR_OPTION_STRING,
     .offset = AT(other),
     .standard = "o",
     .help = "o"},
};
static const pr_option_group own_group = {"Own", own, sizeof own / sizeof own[0]};
static const pr_option_group foreign_group = {"Foreign", foreign, 1};
static const pr_option_group *const mine[] = {&own_group};
static const pr_option_group *const known[] = {&own_group, &foreign_group};
static const char *const others[] = {"T_SOURCE", NULL};

static record got;
static pr_config *config;

// Reads a NULL-terminated list of arguments with an environment; the last error stays in
// pr_error_text.
static pr_status read_with(const char *const *environment, const char *const *argument)
{
    int32_t arguments = 0;
    while (argument[arguments])
        arguments++;
    pr_config_params params = {mine, 1, known, 2, "T_", others, "config", &got};
    memset(&got, 0, sizeof got);
    pr_config_destroy(config);
    config = NULL;
    pr_error_capture_begin();
    pr_status status = pr_config_read(&params, arguments, argument, environment, &config);
    pr_error_capture_end();
    return status;
}

#define ARGUMENTS(...) ((const char *[]){__VA_ARGS__, NULL})
#define READ(...) read_with(NULL, ARGUMENTS(__VA_ARGS__))
#define assert_refused(text, ...)                                                                  \
    do {                                                                                           \
        assert_int_equal(READ(__VA_ARGS__), PR_ERR_ARGUMENT);                                      \
        assert_string_equal(pr_error_text(), text);                                                \
    } while (0)

static int forget(void **state)
{
    (void)state;
    pr_config_destroy(config);
    config = NULL;
    return 0;
}

static void a_word_may_stand_for_zero(void **state)
{
    (void)state;
    assert_int_equal(READ("--hands", "3"), PR_OK);
    assert_int_equal(got.hands, 3);
    assert_int_equal(READ("--hands", "auto"), PR_OK);
    assert_int_equal(got.hands, 0);
    assert_refused(
        "--hands 'many' is not a whole number that fits (suffixes: k M GiB ...) and not auto",
        "--hands", "many");
    assert_refused("--hands 9 is out of bounds: it must be from 0 to 8", "--hands", "9");
    char text[8] = "";
    FILE *out = fmemopen(text, sizeof text, "w");
    pr_option_print_value(&own[4], &got.hands, out);
    fclose(out);
    assert_string_equal(text, "auto");
}

static void nothing_given_gives_defaults_of_all_known_tables(void **state)
{
    (void)state;
    assert_int_equal(read_with(NULL, (const char *[]){NULL}), PR_OK);
    assert_true(got.fast);
    assert_int_equal(got.seqs, 64);
    assert_true(got.heat == 0.5);
    assert_string_equal(got.type, "auto");
    assert_null(got.model);
    assert_string_equal(got.other, "o");
    assert_int_equal(pr_config_origin(config, "max-num-seqs"), PR_ORIGIN_DEFAULT);
}

static void every_spelling_of_a_flag_works(void **state)
{
    (void)state;
    assert_int_equal(READ("--max-num-seqs", "7"), PR_OK);
    assert_int_equal(got.seqs, 7);
    assert_int_equal(READ("--max-num-seqs=8"), PR_OK);
    assert_int_equal(got.seqs, 8);
    assert_int_equal(READ("-ns", "9"), PR_OK);
    assert_int_equal(got.seqs, 9);
    assert_int_equal(READ("--no-fast"), PR_OK);
    assert_false(got.fast);
    assert_int_equal(READ("--fast=false"), PR_OK);
    assert_false(got.fast);
    assert_int_equal(READ("--no-fast", "--fast"), PR_OK);
    assert_true(got.fast);
    assert_int_equal(READ("dir", "--heat", "1.25"), PR_OK);
    assert_string_equal(got.model, "dir");
    assert_true(got.heat == 1.25);
    assert_int_equal(READ("--", "--dir"), PR_OK);
    assert_string_equal(got.model, "--dir");
}

static void suffixes_multiply(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {
        {"5", 5},
        {"2k", 2000},
        {"2K", 2048},
        {"25.6k", 25600},
        {"1.5GiB", 1610612736},
        {"3MB", 3000000},
        {"1T", INT64_C(1099511627776)},
        {"-4", -4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--memory=%s", cases[i].text);
        assert_int_equal(READ(flag), PR_OK);
        assert_int_equal(got.memory, cases[i].value);
    }
    static const char *const bad[] = {
        "--memory=",
        "--memory=k",
        "--memory=1.5",
        "--memory=1x",
        "--memory=1KiBs",
        "--memory=9223372036854775808",
        "--memory=9000000000000M",
        "--memory= 1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(READ(bad[i]), PR_ERR_ARGUMENT);
    assert_int_equal(READ("--max-num-seqs=4g"), PR_ERR_ARGUMENT);
}

static void flag_beats_environment_beats_file_beats_default(void **state)
{
    (void)state;
    char path[] = "/tmp/test_config_XXXXXX";
    int descriptor = mkstemp(path);
    static const char text[] = "{\"max-num-seqs\": 11, \"heat\": 1.5, \"block-size\": \"32\","
                               " \"stop\": [\"a\", \"b\"], \"other\": \"skipped\"}";
    assert_int_equal(write(descriptor, text, sizeof text - 1), sizeof text - 1);
    close(descriptor);
    char variable[64];
    snprintf(variable, sizeof variable, "T_CONFIG=%s", path);
    const char *environment[] = {
        variable, "T_HEAT=1.75", "T_BLOCK_SIZE=48", "T_SOURCE=x", "T_OTHER=y", "P=1", NULL};
    assert_int_equal(read_with(environment, ARGUMENTS("--block-size", "64", "--stop", "c")), PR_OK);
    assert_int_equal(got.seqs, 11);
    assert_true(got.heat == 1.75);
    assert_int_equal(got.block, 64);
    assert_int_equal(got.stop.count, 1);
    assert_string_equal(got.stop.text[0], "c");
    assert_string_equal(got.other, "o");
    assert_int_equal(pr_config_origin(config, "max-num-seqs"), PR_ORIGIN_FILE);
    assert_int_equal(pr_config_origin(config, "heat"), PR_ORIGIN_ENVIRONMENT);
    assert_int_equal(pr_config_origin(config, "block-size"), PR_ORIGIN_FLAG);
    assert_int_equal(read_with(environment, (const char *[]){NULL}), PR_OK);
    assert_int_equal(got.stop.count, 2);
    unlink(path);
}

static void a_wrong_file_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[1]",
        "{\"max-num-seqs\": 1",
        "{\"max-num-seq\": 1}",
        "{\"heat\": [1]}",
        "{\"max-num-seqs\": 0}",
        "{\"max-num-seqs\": 1, \"max-num-seqs\": 2}",
        ""};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char path[] = "/tmp/test_config_XXXXXX", flag[64];
        int descriptor = mkstemp(path);
        assert_int_equal(write(descriptor, texts[i], strlen(texts[i])), strlen(texts[i]));
        close(descriptor);
        snprintf(flag, sizeof flag, "--config=%s", path);
        assert_int_equal(READ(flag), PR_ERR_ARGUMENT);
        assert_non_null(strstr(pr_error_text(), path));
        unlink(path);
    }
    assert_int_equal(READ("--config", "/tmp/no/such/file"), PR_ERR_NOT_FOUND);
}

static void an_unknown_name_is_refused_with_the_nearest(void **state)
{
    (void)state;
    assert_refused(
        "unknown option --max-num-seq: did you mean --max-num-seqs?", "--max-num-seq", "3");
    assert_refused("unknown option --fsat: did you mean --fast?", "--fsat");
    assert_refused("unknown option --zebra: see --help=all", "--zebra=1");
    assert_refused("unknown option --max: see --help=all", "--max=1");
    assert_refused("unknown option --block: did you mean --block-size?", "--block=1");
    assert_refused("unknown option -q: see --help=all", "-q");
    assert_refused("'b' is one argument too many: options begin with --", "a", "b");
    const char *environment[] = {"T_MAX_NUM_SEQ=1", NULL};
    assert_int_equal(read_with(environment, (const char *[]){NULL}), PR_ERR_ARGUMENT);
    assert_non_null(strstr(pr_error_text(), "T_MAX_NUM_SEQ"));
}

static void a_wrong_value_is_refused_with_what_is_allowed(void **state)
{
    (void)state;
    assert_refused(
        "--max-num-seqs 0 is out of bounds: it must be from 1 to 65536", "--max-num-seqs", "0");
    assert_refused("--heat 2.1 is out of bounds: it must be from 0 to 2", "--heat=2.1");
    assert_refused("--heat 'nan' is not a number", "--heat=nan");
    assert_refused("--block-size 24: it must be a multiple of 16", "--block-size", "24");
    assert_refused("--type 'float' is unknown: use one of auto|float32", "--type", "float");
    assert_refused("--fast is a switch: 'maybe' is neither true nor false", "--fast=maybe");
    assert_refused("--no-fast=true: a --no- option takes no value", "--no-fast=true");
    assert_refused("--heat needs a value: --heat X", "--heat");
    assert_refused("--heat needs a value: --heat X", "--heat", "--fast");
}

static void printing_shows_value_and_origin(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(READ("--max-num-seqs", "2k", "--stop=x"), PR_OK);
    FILE *out = open_memstream(&text, &size);
    pr_config_print(config, out);
    fclose(out);
    assert_non_null(strstr(text, "max-num-seqs = 2000  (flag)\n"));
    assert_non_null(strstr(text, "fast = true  (default)\n"));
    assert_non_null(strstr(text, "stop = 'x'  (flag)\n"));
    assert_non_null(strstr(text, "model = (none)  (default)\n"));
    free(text);
}

static void short_help_shows_only_common_options(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    pr_option_group_print(&own_group, false, out);
    fflush(out);
    assert_non_null(strstr(text, "-ns, --max-num-seqs N"));
    assert_null(strstr(text, "--heat"));
    pr_option_group_print(&own_group, true, out);
    fclose(out);
    assert_non_null(strstr(text, "--heat X"));
    free(text);
}

static void no_line_of_help_is_wider_than_a_hundred_columns(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    for (int i = 0; i < PR_OPTION_GROUPS; i++)
        pr_option_group_print(pr_options_all[i], true, out);
    fclose(out);
    for (const char *at = text; *at;) {
        size_t width = strcspn(at, "\n");
        assert_in_range(width, 0, 100);
        at += width + 1;
    }
    free(text);
}

// The product's own tables: a name that two groups have means the same field, defaults lie within their bounds, help
// is there.
static void the_programs_tables_are_sound(void **state)
{
    (void)state;
    pr_options options;
    const char *argument[] = {"dir", "-i", "in"};
    // All but the first, emit's: its first argument is another.
    assert_ptr_equal(pr_options_all[0], &pr_options_emit);
    assert_int_equal(
        pr_options_read(pr_options_all + 1, PR_OPTION_GROUPS - 1, 3, argument, &options, &config),
        PR_OK);
    assert_int_equal(options.max_num_seqs, 64);
    assert_true(pr_options_given(&options, "input"));
    assert_false(pr_options_given(&options, "temperature"));
    const pr_option *seen[512];
    int count = 0;
    for (int i = 0; i < PR_OPTION_GROUPS; i++) {
        for (int j = 0; j < pr_options_all[i]->options; j++) {
            const pr_option *option = &pr_options_all[i]->option[j];
            assert_non_null(option->help);
            assert_true((option->kind == PR_OPTION_FLAG) == (option->value_name == NULL));
            for (int k = 0; k < count; k++) {
                bool same = seen[k]->kind == option->kind && seen[k]->offset == option->offset;
                assert_true(same == (strcmp(seen[k]->name, option->name) == 0));
            }
            assert_true(count < 512);
            seen[count++] = option;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_word_may_stand_for_zero, forget),
        cmocka_unit_test_teardown(nothing_given_gives_defaults_of_all_known_tables, forget),
        cmocka_unit_test_teardown(every_spelling_of_a_flag_works, forget),
        cmocka_unit_test_teardown(suffixes_multiply, forget),
        cmocka_unit_test_teardown(flag_beats_environment_beats_file_beats_default, forget),
        cmocka_unit_test_teardown(a_wrong_file_is_refused, forget),
        cmocka_unit_test_teardown(an_unknown_name_is_refused_with_the_nearest, forget),
        cmocka_unit_test_teardown(a_wrong_value_is_refused_with_what_is_allowed, forget),
        cmocka_unit_test_teardown(printing_shows_value_and_origin, forget),
        cmocka_unit_test_teardown(short_help_shows_only_common_options, forget),
        cmocka_unit_test_teardown(no_line_of_help_is_wider_than_a_hundred_columns, forget),
        cmocka_unit_test_teardown(the_programs_tables_are_sound, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
