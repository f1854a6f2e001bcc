// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/base/option.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

// The factor of a number's suffix, or 0 if it is none.
static double suffix_factor(const char *suffix)
{
    static const char letters[] = "kmgtKMGT";
    const char *at = suffix[0] ? strchr(letters, suffix[0]) : NULL;
    if (suffix[0] == '\0')
        return 1;
    if (!at)
        return 0;
    int power = (int)(at - letters) % 4 + 1;
    bool decimal = at - letters < 4;
    if (strcmp(suffix + 1, "iB") == 0)
        decimal = false;
    else if (strcmp(suffix + 1, "B") == 0)
        decimal = true;
    else if (suffix[1] != '\0')
        return 0;
    return pow(decimal ? 1000 : 1024, power);
}

static bool parse_integer(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    long long whole = strtoll(text, &end, 10);
    if (end == text || isspace((unsigned char)text[0]) || errno == ERANGE)
        return false;
    double factor;
    if (*end != '.') {
        factor = suffix_factor(end);
        int64_t product;
        if (factor < 1 || __builtin_mul_overflow((int64_t)whole, (int64_t)factor, &product))
            return false;
        *value = product;
        return true;
    }
    // 1.5GiB: a fraction is fine where the suffix makes it whole.
    double number = strtod(text, &end);
    factor = suffix_factor(end);
    number *= factor;
    if (factor <= 1 || fabs(number) >= 9e18)
        return false;
    *value = (int64_t)llround(number);
    return true;
}

static bool parse_float(const char *text, double *value)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || isspace((unsigned char)text[0]) || !isfinite(number))
        return false;
    *value = number;
    return true;
}

static bool parse_flag(const char *text, bool *value)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    static const char *const no[] = {"0", "false", "no", "off"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *value = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

static pr_status
check_bounds(const pr_option *option, double value, const char *spelling, const char *text)
{
    bool bounded = option->least < option->most;
    if (bounded && (value < option->least || value > option->most))
        return pr_fail(
            PR_ERR_ARGUMENT, "%s %s is out of bounds: it must be from %.15g to %.15g", spelling,
            text, option->least, option->most);
    if (option->multiple && fmod(value, option->multiple) != 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "%s %s: it must be a multiple of %d", spelling, text,
            (int)option->multiple);
    return PR_OK;
}

static pr_status check_choice(const pr_option *option, const char *spelling, const char *text)
{
    if (!option->choices)
        return PR_OK;
    size_t length = strlen(text);
    for (const char *at = option->choices; *at;) {
        size_t width = strcspn(at, "|");
        if (width == length && strncmp(at, text, length) == 0)
            return PR_OK;
        at += width + (at[width] == '|');
    }
    return pr_fail(
        PR_ERR_ARGUMENT, "%s '%s' is unknown: use one of %s", spelling, text, option->choices);
}

static pr_status
set_integer(const pr_option *option, void *field, const char *spelling, const char *text)
{
    int64_t value = 0;
    bool is_zero = option->zero && strcmp(text, option->zero) == 0;
    if (!is_zero && (!parse_integer(text, &value) ||
                     (option->kind == PR_OPTION_INT && (value > INT32_MAX || value < INT32_MIN))))
        return pr_fail(
            PR_ERR_ARGUMENT, "%s '%s' is not a whole number that fits (suffixes: k M GiB ...)%s%s",
            spelling, text, option->zero ? " and not " : "", option->zero ? option->zero : "");
    PR_TRY(check_bounds(option, (double)value, spelling, text));
    if (option->kind == PR_OPTION_INT)
        *(int32_t *)field = (int32_t)value;
    else
        *(int64_t *)field = value;
    return PR_OK;
}

static pr_status
set_float(const pr_option *option, double *field, const char *spelling, const char *text)
{
    double value;
    if (!parse_float(text, &value))
        return pr_fail(PR_ERR_ARGUMENT, "%s '%s' is not a number", spelling, text);
    PR_TRY(check_bounds(option, value, spelling, text));
    *field = value;
    return PR_OK;
}

pr_status
pr_option_parse(const pr_option *option, const char *spelling, const char *text, void *field)
{
    pr_strings *strings = field;
    switch (option->kind) {
    case PR_OPTION_FLAG:
        if (!parse_flag(text, field))
            return pr_fail(
                PR_ERR_ARGUMENT, "%s is a switch: '%s' is neither true nor false", spelling, text);
        return PR_OK;
    case PR_OPTION_INT:
    case PR_OPTION_INT64:
        return set_integer(option, field, spelling, text);
    case PR_OPTION_FLOAT:
        return set_float(option, field, spelling, text);
    case PR_OPTION_STRING:
        PR_TRY(check_choice(option, spelling, text));
        *(const char **)field = text;
        return PR_OK;
    case PR_OPTION_STRINGS:
        if (strings->count == PR_MAX_STRINGS)
            return pr_fail(
                PR_ERR_ARGUMENT, "%s is given more than %d times", spelling, PR_MAX_STRINGS);
        strings->text[strings->count++] = text;
        return PR_OK;
    }
    return pr_fail(PR_ERR_INTERNAL, "option %s is of no known kind", option->name);
}

static int32_t edit_distance(const char *a, const char *b)
{
    int32_t line[128];
    int32_t columns = (int32_t)strlen(b);
    if (columns >= 127)
        return INT32_MAX;
    for (int32_t j = 0; j <= columns; j++)
        line[j] = j;
    for (int32_t i = 1; *a; a++, i++) {
        int32_t diagonal = line[0];
        line[0] = i;
        for (int32_t j = 1; j <= columns; j++) {
            int32_t replace = diagonal + (*a != b[j - 1]);
            int32_t insert = (line[j] < line[j - 1] ? line[j] : line[j - 1]) + 1;
            diagonal = line[j];
            line[j] = replace < insert ? replace : insert;
        }
    }
    return line[columns];
}

const char *pr_option_nearest(const char *text, const char *const *candidate, int32_t candidates)
{
    const char *best = NULL;
    int32_t length = (int32_t)strlen(text), least = length / 3 + 2;
    for (int32_t i = 0; i < candidates; i++) {
        int32_t distance = edit_distance(text, candidate[i]);
        // A beginning that only lacks its end is near, however long the end is.
        if (length >= 4 && strncmp(text, candidate[i], (size_t)length) == 0 && distance > 1)
            distance = 1;
        if (distance < least) {
            least = distance;
            best = candidate[i];
        }
    }
    return best;
}

static void print_integer(const pr_option *option, int64_t value, FILE *out)
{
    if (value == 0 && option->zero)
        fputs(option->zero, out);
    else
        fprintf(out, "%lld", (long long)value);
}

void pr_option_print_value(const pr_option *option, const void *field, FILE *out)
{
    const pr_strings *strings = field;
    const char *text;
    switch (option->kind) {
    case PR_OPTION_FLAG:
        fputs(*(const bool *)field ? "true" : "false", out);
        break;
    case PR_OPTION_INT:
        print_integer(option, *(const int32_t *)field, out);
        break;
    case PR_OPTION_INT64:
        print_integer(option, *(const int64_t *)field, out);
        break;
    case PR_OPTION_FLOAT:
        fprintf(out, "%.15g", *(const double *)field);
        break;
    case PR_OPTION_STRING:
        text = *(const char *const *)field;
        fputs(text ? text : "(none)", out);
        break;
    case PR_OPTION_STRINGS:
        for (int32_t i = 0; i < strings->count; i++)
            fprintf(out, "%s'%s'", i ? " " : "", strings->text[i]);
        fputs(strings->count ? "" : "(none)", out);
        break;
    }
}

enum { HELP_COLUMN = 37, HELP_WIDTH = 100 };

// Words from column HELP_COLUMN on, in as many lines as it takes.
static void print_wrapped(const char *text, FILE *out)
{
    int column = HELP_COLUMN;
    for (const char *at = text; *at;) {
        int length = (int)strcspn(at, " ");
        if (column > HELP_COLUMN && column + 1 + length > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        column += fprintf(out, "%s%.*s", column > HELP_COLUMN ? " " : "", length, at);
        at += length + (at[length] == ' ');
    }
    fputc('\n', out);
}

static void print_option(const pr_option *option, FILE *out)
{
    char left[128] = "", help[512];
    size_t used = 0;
    const char *value = option->choices ? option->choices : option->value_name;
    if (option->letters)
        used = (size_t)snprintf(left, sizeof left, "-%s, ", option->letters);
    snprintf(
        left + used, sizeof left - used, "--%s%s%s", option->name, value ? " " : "",
        value ? value : "");
    bool tells_standard = option->standard && option->standard[0];
    snprintf(
        help, sizeof help, "%s%s%s%s", option->help, tells_standard ? " [" : "",
        tells_standard ? option->standard : "", tells_standard ? "]" : "");
    int width = fprintf(out, "  %s", left);
    if (width >= HELP_COLUMN)
        fprintf(out, "\n%*s", HELP_COLUMN, "");
    else
        fprintf(out, "%*s", HELP_COLUMN - width, "");
    print_wrapped(help, out);
}

void pr_option_group_print(const pr_option_group *group, bool all, FILE *out)
{
    bool headed = false;
    for (int32_t i = 0; i < group->options; i++) {
        if (!all && !group->option[i].common)
            continue;
        if (!headed)
            fprintf(out, "\n%s:\n", group->heading);
        headed = true;
        print_option(&group->option[i], out);
    }
}
