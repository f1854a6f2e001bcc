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

#include "runtime/base/log.h"
#include "slurm/sbatch_template.h"

static const char text[] = "#!/bin/bash\n"
                           "# SPDX-License-Identifier: BSD-3-Clause\n"
                           "#SBATCH --nodes=@NODES@\n"
                           "#SBATCH --array=0-@LAST@%@NODES@\n"
                           "#SBATCH --signal=B:USR1@60\n"
                           "run \"${all[@]}\" @MODEL@@OPTIONS@ a@b@ @\n";

static const size_t bytes = sizeof text - 1;
static const pr_sbatch_template made = {
    .kind = "test", .text = (const unsigned char *)text, .bytes = &bytes};

// *filled: to be freed.
static pr_status fill(const pr_sbatch_value *value, int32_t values, char **filled)
{
    size_t size_bytes;
    FILE *out = open_memstream(filled, &size_bytes);
    assert_non_null(out);
    pr_status status = pr_sbatch_template_fill(&made, value, values, out);
    fclose(out);
    return status;
}

static void values_stand_where_their_names_stood(void **state)
{
    (void)state;
    char *filled = NULL;
    const pr_sbatch_value value[] = {
        {"NODES", "4"}, {"LAST", "7"}, {"MODEL", "'a b'"}, {"OPTIONS", " -x"}};
    assert_int_equal(fill(value, 4, &filled), PR_OK);
    assert_string_equal(
        filled, "#!/bin/bash\n#SBATCH --nodes=4\n#SBATCH --array=0-7%4\n"
                "#SBATCH --signal=B:USR1@60\nrun \"${all[@]}\" 'a b' -x a@b@ @\n");
    free(filled);
}

static void a_directive_without_its_value_is_a_comment_that_names_it(void **state)
{
    (void)state;
    char *filled = NULL;
    const pr_sbatch_value value[] = {
        {"NODES", "4"}, {"LAST", NULL}, {"MODEL", "m"}, {"OPTIONS", ""}};
    assert_int_equal(fill(value, 4, &filled), PR_OK);
    assert_non_null(strstr(filled, "\n##SBATCH --array=0-LAST%4\n"));
    free(filled);
}

static void a_name_without_value_elsewhere_is_our_mistake(void **state)
{
    (void)state;
    char *filled = NULL;
    const pr_sbatch_value value[] = {{"NODES", "4"}, {"LAST", "7"}, {"OPTIONS", ""}};
    pr_error_capture_begin();
    assert_int_equal(fill(value, 3, &filled), PR_ERR_INTERNAL);
    pr_error_capture_end();
    free(filled);
}

static void a_template_knows_its_names(void **state)
{
    (void)state;
    assert_true(pr_sbatch_template_uses(&made, "NODES"));
    assert_true(pr_sbatch_template_uses(&made, "OPTIONS"));
    assert_false(pr_sbatch_template_uses(&made, "NODE"));
    assert_false(pr_sbatch_template_uses(&made, "60"));
    assert_null(pr_sbatch_template_find("nothing"));
    assert_non_null(pr_sbatch_template_find("batch-array"));
}

static void every_word_survives_the_shell(void **state)
{
    (void)state;
    static const char *const word[] = {
        "plain/path-1.2_x", "", "a b", "it's", "''", "$(reboot)`x`\\\"", "\n", "ä",
        "a;b&c|d>e*?[!~#",
    };
    for (size_t i = 0; i < sizeof word / sizeof word[0]; i++) {
        char quoted[128], command[256], back[128] = "";
        assert_int_equal(pr_sbatch_template_quote(word[i], quoted, sizeof quoted), PR_OK);
        snprintf(command, sizeof command, "printf '%%s|' %s", quoted);
        FILE *shell = popen(command, "r");
        assert_non_null(shell);
        back[fread(back, 1, sizeof back - 1, shell)] = '\0';
        pclose(shell);
        size_t length = strlen(back);
        assert_true(length > 0 && back[length - 1] == '|');
        back[length - 1] = '\0';
        assert_string_equal(back, word[i]);
    }
}

static void a_word_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    char quoted[16] = "";
    pr_error_capture_begin();
    assert_int_equal(
        pr_sbatch_template_quote("''''''''''''", quoted, sizeof quoted), PR_ERR_ARGUMENT);
    assert_int_equal(
        pr_sbatch_template_quote("0123456789abcdef", quoted, sizeof quoted), PR_ERR_ARGUMENT);
    pr_error_capture_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_stand_where_their_names_stood),
        cmocka_unit_test(a_directive_without_its_value_is_a_comment_that_names_it),
        cmocka_unit_test(a_name_without_value_elsewhere_is_our_mistake),
        cmocka_unit_test(a_template_knows_its_names),
        cmocka_unit_test(every_word_survives_the_shell),
        cmocka_unit_test(a_word_that_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
