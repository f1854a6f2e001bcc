// SPDX-License-Identifier: BSD-3-Clause
// Order of work in pr_config_read: defaults; arguments are matched to rows but not yet applied; the
// file they (or the environment) name is applied, then the environment, then the arguments. So every
// stronger origin simply overwrites.
#include "runtime/base/config.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

// What of an option is known beside its value in the record.
typedef struct row {
    const pr_option *option;
    pr_origin origin;
} row;

struct pr_config {
    pr_config_params params;
    row *row;  // [rows], in table order
    int32_t rows;
    char **text;  // [texts] owned strings
    int32_t texts, text_capacity;
    char *file;  // path of the file, or NULL
};

// An argument matched to its row; value NULL for --name of a flag.
typedef struct match {
    row *row;
    const char *spelling;  // as the user wrote it, for messages
    const char *value;
} match;

static const char *const origin_names[] = {"default", "file", "environment", "flag"};

static pr_status config_keep(pr_config *config, const char *text, const char **kept)
{
    if (config->texts == config->text_capacity) {
        int32_t capacity = config->text_capacity ? 2 * config->text_capacity : 64;
        char **grown = realloc(config->text, (size_t)capacity * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "out of memory while reading options");
        config->text = grown;
        config->text_capacity = capacity;
    }
    char *copy = strdup(text);
    if (!copy)
        return pr_fail(PR_ERR_RESOURCE, "out of memory while reading options");
    config->text[config->texts++] = copy;
    *kept = copy;
    return PR_OK;
}

// Parses one value into its field. spelling is how the user named the option.
static pr_status
config_set(pr_config *config, row *target, pr_origin origin, const char *spelling, const char *text)
{
    const pr_option *option = target->option;
    void *field = (char *)config->params.record + option->offset;
    if (option->kind == PR_OPTION_STRING || option->kind == PR_OPTION_STRINGS)
        PR_TRY(config_keep(config, text, &text));
    if (option->kind == PR_OPTION_STRINGS && target->origin != origin)
        ((pr_strings *)field)->count = 0;
    PR_TRY(pr_option_parse(option, spelling, text, field));
    target->origin = origin;
    return PR_OK;
}

static pr_status fail_unknown(const pr_config *config, const char *before, const char *name)
{
    enum { LIMIT = 256 };
    const char *candidate[LIMIT];
    int32_t candidates = 0;
    for (int32_t i = 0; i < config->rows && candidates < LIMIT; i++)
        candidate[candidates++] = config->row[i].option->name;
    const char *nearest = pr_option_nearest(name, candidate, candidates);
    if (nearest)
        return pr_fail(
            PR_ERR_ARGUMENT, "unknown option %s%s: did you mean %s%s?", before, name, before,
            nearest);
    return pr_fail(PR_ERR_ARGUMENT, "unknown option %s%s: see --help=all", before, name);
}

static row *find_name(const pr_config *config, const char *name, size_t length)
{
    for (int32_t i = 0; i < config->rows; i++) {
        const char *own = config->row[i].option->name;
        if (strlen(own) == length && strncmp(own, name, length) == 0)
            return &config->row[i];
    }
    return NULL;
}

static row *find_letters(const pr_config *config, const char *letters, size_t length)
{
    for (int32_t i = 0; i < config->rows; i++) {
        const char *own = config->row[i].option->letters;
        if (own && strlen(own) == length && strncmp(own, letters, length) == 0)
            return &config->row[i];
    }
    return NULL;
}

static bool is_known_elsewhere(const pr_config *config, const char *name)
{
    for (int32_t i = 0; i < config->params.knowns; i++) {
        const pr_option_group *group = config->params.known[i];
        for (int32_t j = 0; j < group->options; j++) {
            if (strcmp(group->option[j].name, name) == 0)
                return true;
        }
    }
    return false;
}

// ---- arguments ----

static pr_status
match_positional(pr_config *config, int32_t position, const char *text, match *found)
{
    for (int32_t i = 0; i < config->rows; i++) {
        if (config->row[i].option->position == position) {
            *found = (match){&config->row[i], config->row[i].option->value_name, text};
            return PR_OK;
        }
    }
    return pr_fail(PR_ERR_ARGUMENT, "'%s' is one argument too many: options begin with --", text);
}

// The option that argument[*at] names, with its value; *at moves on to the last argument used.
static pr_status match_option(
    pr_config *config, int32_t arguments, const char *const *argument, int32_t *at, match *found)
{
    const char *text = argument[*at], *name = text + 1 + (text[1] == '-');
    bool is_long = text[1] == '-';
    size_t length = strcspn(name, "=");
    const char *value = name[length] ? name + length + 1 : NULL;
    row *target = is_long ? find_name(config, name, length) : find_letters(config, name, length);
    bool negated = false;
    if (!target && is_long && length > 3 && strncmp(name, "no-", 3) == 0) {
        target = find_name(config, name + 3, length - 3);
        negated = target && target->option->kind == PR_OPTION_FLAG;
        target = negated ? target : NULL;
    }
    if (!target) {
        char cut[128];
        snprintf(cut, sizeof cut, "%.*s", (int)length, name);
        return fail_unknown(config, is_long ? "--" : "-", cut);
    }
    *found = (match){target, text, value};
    if (target->option->kind == PR_OPTION_FLAG) {
        if (negated && value)
            return pr_fail(PR_ERR_ARGUMENT, "%s: a --no- option takes no value", text);
        if (!value)
            found->value = negated ? "false" : "true";
        return PR_OK;
    }
    if (value)
        return PR_OK;
    bool has_next = *at + 1 < arguments && strncmp(argument[*at + 1], "--", 2) != 0;
    if (!has_next)
        return pr_fail(
            PR_ERR_ARGUMENT, "%s needs a value: %s %s", text, text, target->option->value_name);
    found->value = argument[++*at];
    return PR_OK;
}

static pr_status match_arguments(
    pr_config *config,
    int32_t arguments,
    const char *const *argument,
    match *found,
    int32_t *matches)
{
    int32_t count = 0, positionals = 0;
    bool only_positional = false;
    for (int32_t i = 0; i < arguments; i++) {
        const char *text = argument[i];
        if (!only_positional && strcmp(text, "--") == 0) {
            only_positional = true;
            continue;
        }
        if (!only_positional && text[0] == '-' && text[1] != '\0')
            PR_TRY(match_option(config, arguments, argument, &i, &found[count]));
        else
            PR_TRY(match_positional(config, ++positionals, text, &found[count]));
        count++;
    }
    *matches = count;
    return PR_OK;
}

// "--name" for messages: the spelling without "=value".
static pr_status apply_match(pr_config *config, const match *found)
{
    char spelling[128];
    snprintf(
        spelling, sizeof spelling, "%.*s", (int)strcspn(found->spelling, "="), found->spelling);
    return config_set(config, found->row, PR_ORIGIN_FLAG, spelling, found->value);
}

// ---- environment ----

// POLYREME_MAX_NUM_SEQS from max-num-seqs, the other way round: "MAX_NUM_SEQS" to "max-num-seqs".
static void option_name_of(const char *variable, size_t length, char *name, size_t capacity)
{
    size_t used = 0;
    for (; used < length && used + 1 < capacity; used++) {
        char c = variable[used];
        name[used] = c == '_' ? '-' : (char)tolower((unsigned char)c);
    }
    name[used] = '\0';
}

static bool is_other_variable(const pr_config *config, const char *entry, size_t length)
{
    for (const char *const *other = config->params.other_variables; other && *other; other++) {
        if (strlen(*other) == length && strncmp(*other, entry, length) == 0)
            return true;
    }
    return false;
}

static pr_status apply_variable(pr_config *config, const char *entry)
{
    size_t prefix = strlen(config->params.environment_prefix);
    size_t length = strcspn(entry, "=");
    if (entry[length] != '=' || strncmp(entry, config->params.environment_prefix, prefix) != 0)
        return PR_OK;
    char name[128], variable[128];
    snprintf(variable, sizeof variable, "%.*s", (int)length, entry);
    option_name_of(entry + prefix, length - prefix, name, sizeof name);
    row *target = find_name(config, name, strlen(name));
    if (target)
        return config_set(config, target, PR_ORIGIN_ENVIRONMENT, variable, entry + length + 1);
    if (is_known_elsewhere(config, name) || is_other_variable(config, entry, length))
        return PR_OK;
    return pr_fail(
        PR_ERR_ARGUMENT,
        "environment variable %s belongs to no option: unset it, or see --help=all", variable);
}

// ---- file ----

static pr_status apply_entry_text(pr_config *config, row *target, json_t *value)
{
    char spelling[512], number[64];
    snprintf(spelling, sizeof spelling, "%s: %s", config->file, target->option->name);
    if (json_is_string(value))
        return config_set(config, target, PR_ORIGIN_FILE, spelling, json_string_value(value));
    if (json_is_integer(value))
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        snprintf(number, sizeof number, "%.17g", json_real_value(value));
    else if (json_is_boolean(value))
        snprintf(number, sizeof number, "%s", json_is_true(value) ? "true" : "false");
    else
        return pr_fail(PR_ERR_ARGUMENT, "%s must be a string, a number or true/false", spelling);
    return config_set(config, target, PR_ORIGIN_FILE, spelling, number);
}

static pr_status apply_entry(pr_config *config, const char *name, json_t *value)
{
    row *target = find_name(config, name, strlen(name));
    if (!target) {
        if (is_known_elsewhere(config, name))
            return PR_OK;
        char before[512];
        snprintf(before, sizeof before, "in %s: ", config->file);
        return fail_unknown(config, before, name);
    }
    if (target->option->kind != PR_OPTION_STRINGS || !json_is_array(value))
        return apply_entry_text(config, target, value);
    size_t i;
    json_t *element;
    json_array_foreach(value, i, element) PR_TRY(apply_entry_text(config, target, element));
    return PR_OK;
}

static pr_status apply_file(pr_config *config)
{
    json_error_t error;
    FILE *file = fopen(config->file, "r");
    if (!file)
        return pr_fail(PR_ERR_NOT_FOUND, "%s: %s", config->file, strerror(errno));
    json_t *root = json_loadf(file, JSON_REJECT_DUPLICATES, &error);
    fclose(file);
    if (!root || !json_is_object(root)) {
        json_decref(root);
        return pr_fail(
            PR_ERR_ARGUMENT, "%s: not a JSON object of option names%s%s", config->file,
            root ? "" : ": ", root ? "" : error.text);
    }
    pr_status status = PR_OK;
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        status = apply_entry(config, name, value);
        if (status != PR_OK)
            break;
    }
    json_decref(root);
    return status;
}

// The file named by an argument, else by the environment.
static pr_status
find_file(pr_config *config, const match *found, int32_t matches, const char *const *environment)
{
    const char *path = NULL;
    char variable[128];
    int length = snprintf(
        variable, sizeof variable, "%s%s=", config->params.environment_prefix,
        config->params.file_option);
    for (int i = (int)strlen(config->params.environment_prefix); i < length; i++)
        variable[i] = variable[i] == '-' ? '_' : (char)toupper((unsigned char)variable[i]);
    for (const char *const *entry = environment; entry && *entry; entry++) {
        if (strncmp(*entry, variable, (size_t)length) == 0)
            path = *entry + length;
    }
    for (int32_t i = 0; i < matches; i++) {
        if (strcmp(found[i].row->option->name, config->params.file_option) == 0)
            path = found[i].value;
    }
    if (!path)
        return PR_OK;
    config->file = strdup(path);
    return config->file ? PR_OK : pr_fail(PR_ERR_RESOURCE, "out of memory while reading options");
}

// ---- the whole ----

// Defaults are literals of the tables, so fields of string kinds may point at them.
static pr_status set_group_defaults(const pr_config *config, const pr_option_group *group)
{
    for (int32_t i = 0; i < group->options; i++) {
        const pr_option *option = &group->option[i];
        void *field = (char *)config->params.record + option->offset;
        if (option->standard)
            PR_TRY(pr_option_parse(option, option->name, option->standard, field));
    }
    return PR_OK;
}

static pr_status set_defaults(const pr_config *config)
{
    for (int32_t i = 0; i < config->params.knowns; i++)
        PR_TRY(set_group_defaults(config, config->params.known[i]));
    for (int32_t i = 0; i < config->params.groups; i++)
        PR_TRY(set_group_defaults(config, config->params.group[i]));
    return PR_OK;
}

static bool asks_nothing_more(const pr_config *config)
{
    for (int32_t i = 0; i < config->rows; i++) {
        if (config->row[i].option->suffices && config->row[i].origin != PR_ORIGIN_DEFAULT)
            return true;
    }
    return false;
}

static pr_status check_required(const pr_config *config)
{
    if (asks_nothing_more(config))
        return PR_OK;
    for (int32_t i = 0; i < config->rows; i++) {
        const pr_option *option = config->row[i].option;
        if (!option->required || config->row[i].origin != PR_ORIGIN_DEFAULT)
            continue;
        if (option->position)
            return pr_fail(PR_ERR_ARGUMENT, "%s is missing: %s", option->value_name, option->help);
        return pr_fail(
            PR_ERR_ARGUMENT, "--%s %s is missing: %s", option->name, option->value_name,
            option->help);
    }
    return PR_OK;
}

static pr_status config_create(const pr_config_params *params, pr_config **made)
{
    int32_t rows = 0;
    for (int32_t i = 0; i < params->groups; i++)
        rows += params->group[i]->options;
    pr_config *config = calloc(1, sizeof *config);
    row *row_memory = calloc((size_t)rows + 1, sizeof *row_memory);
    if (!config || !row_memory) {
        free(config);
        free(row_memory);
        return pr_fail(PR_ERR_RESOURCE, "out of memory while reading options");
    }
    config->params = *params;
    config->row = row_memory;
    for (int32_t i = 0; i < params->groups; i++) {
        for (int32_t j = 0; j < params->group[i]->options; j++)
            config->row[config->rows++].option = &params->group[i]->option[j];
    }
    *made = config;
    return PR_OK;
}

pr_status pr_config_read(
    const pr_config_params *params,
    int32_t arguments,
    const char *const *argument,
    const char *const *environment,
    pr_config **config)
{
    pr_config *made = NULL;
    pr_status status;
    int32_t matches;
    PR_TRY(config_create(params, &made));
    match *found = calloc((size_t)arguments + 1, sizeof *found);
    if (!found) {
        pr_config_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "out of memory while reading options");
    }
    PR_TRY_GOTO(set_defaults(made), undo);
    PR_TRY_GOTO(match_arguments(made, arguments, argument, found, &matches), undo);
    PR_TRY_GOTO(find_file(made, found, matches, environment), undo);
    if (made->file)
        PR_TRY_GOTO(apply_file(made), undo);
    for (const char *const *entry = environment; entry && *entry; entry++)
        PR_TRY_GOTO(apply_variable(made, *entry), undo);
    for (int32_t i = 0; i < matches; i++)
        PR_TRY_GOTO(apply_match(made, &found[i]), undo);
    PR_TRY_GOTO(check_required(made), undo);
    free(found);
    *config = made;
    return PR_OK;
undo:
    free(found);
    pr_config_destroy(made);
    return status;
}

void pr_config_destroy(pr_config *config)
{
    if (!config)
        return;
    for (int32_t i = 0; i < config->texts; i++)
        free(config->text[i]);
    free(config->text);
    free(config->row);
    free(config->file);
    free(config);
}

pr_origin pr_config_origin(const pr_config *config, const char *name)
{
    const row *found = find_name(config, name, strlen(name));
    return found ? found->origin : PR_ORIGIN_DEFAULT;
}

void pr_config_print(const pr_config *config, FILE *out)
{
    for (int32_t i = 0; i < config->rows; i++) {
        const pr_option *option = config->row[i].option;
        fprintf(out, "%s = ", option->name);
        pr_option_print_value(option, (const char *)config->params.record + option->offset, out);
        fprintf(out, "  (%s)\n", origin_names[config->row[i].origin]);
    }
}
