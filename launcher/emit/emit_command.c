// SPDX-License-Identifier: BSD-3-Clause
// `polyreme emit sbatch KIND`: a job script of slurm/templates/, filled, on standard output. What is wrong with the
// values is said here, on the login node, and not by a job that has waited for an hour.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launcher/commands.h"
#include "launcher/job_choice.h"
#include "runtime/base/log.h"
#include "runtime/base/option.h"
#include "slurm/sbatch_template.h"

enum { TEXT_BYTES = 2 * PATH_MAX, NUMBER_BYTES = 16, MOST_VALUES = 24, MOST_RANK_COUNTS = 32 };

// One value of a template: the option it comes from, and its text.
typedef struct emit_value {
    const char *name;
    const char *option;
    char text[TEXT_BYTES];
    bool given;
} emit_value;

typedef struct emission {
    const pr_options *options;
    const pr_sbatch_template *made;
    int32_t values;
    emit_value value[MOST_VALUES];
} emission;

static bool uses(const emission *self, const char *name)
{
    return pr_sbatch_template_uses(self->made, name);
}

static void add(emission *self, const char *name, const char *option, const char *text)
{
    emit_value *value = &self->value[self->values++];
    value->name = name;
    value->option = option;
    value->given = text != NULL;
    snprintf(value->text, sizeof value->text, "%s", text ? text : "");
}

static void add_number(emission *self, const char *name, const char *option, int64_t number)
{
    char text[NUMBER_BYTES];
    snprintf(text, sizeof text, "%lld", (long long)number);
    add(self, name, option, text);
}

// A word of an #SBATCH line, which knows no quotes.
static pr_status add_word(emission *self, const char *name, const char *option, const char *text)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.,:+-";
    if (text && (!*text || strspn(text, allowed) != strlen(text)))
        return pr_fail(
            PR_ERR_ARGUMENT, "--%s '%s': letters, digits and _ . , : + - only", option, text);
    add(self, name, option, text);
    return PR_OK;
}

static pr_status add_quoted(emission *self, const char *name, const char *option, const char *text)
{
    char quoted[TEXT_BYTES];
    PR_TRY(pr_sbatch_template_quote(text, quoted, sizeof quoted));
    add(self, name, option, quoted);
    return PR_OK;
}

// ---- Paths: absolute, so that the script may be submitted from anywhere ----

static pr_status add_existing(
    emission *self, const char *name, const char *option, const char *path, const char *inside)
{
    char full[PATH_MAX], probe[PATH_MAX + 16];
    if (!uses(self, name)) {
        add(self, name, option, NULL);
        return PR_OK;
    }
    if (!path)
        return pr_fail(PR_ERR_ARGUMENT, "%s needs --%s", self->made->kind, option);
    snprintf(probe, sizeof probe, "%.*s%s", PATH_MAX - 1, path, inside);
    if (access(probe, R_OK) != 0 || !realpath(path, full))
        return pr_fail(PR_ERR_NOT_FOUND, "--%s: %s: %s", option, probe, strerror(errno));
    return add_quoted(self, name, option, full);
}

static pr_status add_future(emission *self, const char *name, const char *option, const char *path)
{
    char here[PATH_MAX], full[TEXT_BYTES];
    if (*path != '/' && !getcwd(here, sizeof here))
        return pr_fail(PR_ERR_IO, "the working directory has no path: %s", strerror(errno));
    if (*path == '/')
        snprintf(full, sizeof full, "%s", path);
    else
        snprintf(full, sizeof full, "%s/%.*s", here, PATH_MAX - 1, path);
    return add_quoted(self, name, option, full);
}

static pr_status add_program(emission *self)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0)
        return pr_fail(PR_ERR_IO, "/proc/self/exe: %s", strerror(errno));
    path[length] = '\0';
    return add_quoted(self, "POLYREME", NULL, path);
}

// ---- Values with rules of their own ----

// "1,2,4" to "1 2 4".
static pr_status add_rank_counts(emission *self)
{
    const pr_options *options = self->options;
    int64_t most = (int64_t)options->nodes * options->ranks_per_node;
    char text[MOST_RANK_COUNTS * NUMBER_BYTES] = "";
    int32_t used = 0, count = 0;
    for (const char *at = options->rank_counts; *at; count++) {
        char *end;
        long ranks = strtol(at, &end, 10);
        if (end == at || (*end != ',' && *end) || ranks < 1 || count == MOST_RANK_COUNTS)
            return pr_fail(
                PR_ERR_ARGUMENT, "--rank-counts '%s': numbers of ranks with commas, such as 1,2,4",
                options->rank_counts);
        if (uses(self, "RANK_COUNTS") && ranks > most)
            return pr_fail(
                PR_ERR_ARGUMENT,
                "--rank-counts: %ld ranks do not fit in --nodes %d of --ranks-per-node %d", ranks,
                (int)options->nodes, (int)options->ranks_per_node);
        used += snprintf(text + used, sizeof text - (size_t)used, count ? " %ld" : "%ld", ranks);
        at = *end ? end + 1 : end;
    }
    add(self, "RANK_COUNTS", "rank-counts", text);
    return PR_OK;
}

// What the user says to serve or batch goes into the script as it is.
static pr_status add_run_options(emission *self)
{
    char text[TEXT_BYTES] = "";
    const char *given = self->options->run_options;
    if (given && strchr(given, '\n'))
        return pr_fail(PR_ERR_ARGUMENT, "--run-options must be one line");
    if (given && strlen(given) > TEXT_BYTES / 2)
        return pr_fail(PR_ERR_ARGUMENT, "--run-options is longer than %d bytes", TEXT_BYTES / 2);
    if (given && *given)
        snprintf(text, sizeof text, " %.*s", TEXT_BYTES / 2, given);
    add(self, "OPTIONS", "run-options", text);
    return PR_OK;
}

static pr_status add_time(emission *self)
{
    int64_t seconds;
    PR_TRY(pr_job_choice_parse_duration("--time", self->options->time, &seconds));
    if (uses(self, "LEAD_MINUTES") && seconds <= 60 * (int64_t)self->options->lead_minutes)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "--time %s leaves nothing before the successor starts --lead-minutes %d ahead of the "
            "end",
            self->options->time, (int)self->options->lead_minutes);
    add(self, "TIME", "time", self->options->time);
    return PR_OK;
}

static pr_status add_all(emission *self)
{
    const pr_options *o = self->options;
    char name[64];
    snprintf(name, sizeof name, "polyreme-%s", self->made->kind);
    const char *decode_partition = o->decode_partition ? o->decode_partition : o->partition;
    const char *standard_output = uses(self, "RANK_COUNTS") ? "scaling" : "results.jsonl";
    PR_TRY(add_existing(self, "MODEL", "model", o->model, "/config.json"));
    PR_TRY(add_existing(self, "INPUT", "input", o->input, ""));
    PR_TRY(add_future(self, "OUTPUT", "output", o->output ? o->output : standard_output));
    // Not as the option's default, which would be that of all commands.
    const char *endpoint_file = o->endpoint_file ? o->endpoint_file : "polyreme-endpoint.json";
    PR_TRY(add_future(self, "ENDPOINT_FILE", "endpoint-file", endpoint_file));
    PR_TRY(add_word(self, "JOB_NAME", "job-name", o->job_name ? o->job_name : name));
    PR_TRY(add_word(self, "PARTITION", "partition", o->partition));
    PR_TRY(add_word(self, "DECODE_PARTITION", "decode-partition", decode_partition));
    PR_TRY(add_word(self, "ACCOUNT", "account", o->account));
    PR_TRY(add_word(self, "GPUS_PER_NODE", "gpus-per-node", o->gpus_per_node));
    PR_TRY(add_time(self));
    PR_TRY(add_rank_counts(self));
    PR_TRY(add_run_options(self));
    PR_TRY(add_program(self));
    add_number(self, "NODES", "nodes", o->nodes);
    add_number(self, "RANKS_PER_NODE", "ranks-per-node", o->ranks_per_node);
    add_number(self, "PREFILL_NODES", "prefill-nodes", o->prefill_nodes);
    add_number(self, "DECODE_NODES", "decode-nodes", o->decode_nodes);
    add_number(self, "PARTS", "parts", o->parts);
    add_number(self, "LAST_PART", "parts", o->parts - 1);
    add_number(
        self, "PARTS_AT_ONCE", "parts-at-once", o->parts_at_once ? o->parts_at_once : o->parts);
    add_number(self, "LEAD_MINUTES", "lead-minutes", o->lead_minutes);
    return PR_OK;
}

// An option that the script has no place for was meant for another one.
static pr_status check_used(const emission *self)
{
    for (int32_t i = 0; i < self->values; i++) {
        const emit_value *value = &self->value[i];
        if (value->option && pr_options_given_as_flag(self->options, value->option) &&
            !uses(self, value->name))
            return pr_fail(
                PR_ERR_ARGUMENT, "--%s: %s has no place for it", value->option, self->made->kind);
    }
    return PR_OK;
}

static pr_status emit(emission *self)
{
    pr_sbatch_value value[MOST_VALUES];
    PR_TRY(add_all(self));
    PR_TRY(check_used(self));
    for (int32_t i = 0; i < self->values; i++) {
        const emit_value *from = &self->value[i];
        value[i] = (pr_sbatch_value){.name = from->name, .text = from->given ? from->text : NULL};
    }
    return pr_sbatch_template_fill(self->made, value, self->values, stdout);
}

static void list_kinds(void)
{
    puts("polyreme emit sbatch KIND --model MODEL [options] > job.sh, where KIND is");
    for (int32_t i = 0; i < PR_SBATCH_TEMPLATES; i++)
        printf("  %-12s %s\n", pr_sbatch_template_all[i].kind, pr_sbatch_template_all[i].summary);
    puts("Options: polyreme help emit. How jobs run: docs/slurm.md");
}

static pr_status find_kind(const char *kind, const pr_sbatch_template **made)
{
    const char *name[PR_SBATCH_TEMPLATES];
    *made = pr_sbatch_template_find(kind);
    if (*made)
        return PR_OK;
    for (int32_t i = 0; i < PR_SBATCH_TEMPLATES; i++)
        name[i] = pr_sbatch_template_all[i].kind;
    const char *nearest = pr_option_nearest(kind, name, PR_SBATCH_TEMPLATES);
    return pr_fail(
        PR_ERR_ARGUMENT, "no job script '%s': %s%s%s`polyreme emit sbatch` lists them", kind,
        nearest ? "did you mean '" : "", nearest ? nearest : "", nearest ? "'? " : "");
}

int pr_emit_command(const pr_options *options)
{
    if (!options->kind) {
        list_kinds();
        return PR_EXIT_OK;
    }
    emission *self = calloc(1, sizeof *self);
    pr_status status = self ? PR_OK : pr_fail(PR_ERR_RESOURCE, "no memory for a job script");
    if (status == PR_OK) {
        self->options = options;
        status = find_kind(options->kind, &self->made);
    }
    if (status == PR_OK)
        status = emit(self);
    free(self);
    return pr_exit_code(status);
}
