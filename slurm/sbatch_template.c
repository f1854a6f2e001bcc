// SPDX-License-Identifier: BSD-3-Clause
#include "slurm/sbatch_template.h"

#include <ctype.h>
#include <string.h>

#include "runtime/base/log.h"
#include "slurm/sbatch_text.h"

enum { NAME_BYTES = 32 };

const pr_sbatch_template pr_sbatch_template_all[PR_SBATCH_TEMPLATES] = {
    {"batch", "a file of requests, requeued until all are answered", pr_sbatch_text_batch,
     &pr_sbatch_text_batch_bytes},
    {"batch-array", "the same in parts, each a small job of its own", pr_sbatch_text_batch_array,
     &pr_sbatch_text_batch_array_bytes},
    {"hetjob", "the same with nodes of different kinds for prefill and decode",
     pr_sbatch_text_hetjob, &pr_sbatch_text_hetjob_bytes},
    {"serve", "OpenAI's API until the job ends", pr_sbatch_text_serve, &pr_sbatch_text_serve_bytes},
    {"chain", "the same, handed on from job to job without a gap", pr_sbatch_text_chain,
     &pr_sbatch_text_chain_bytes},
    {"scaling", "one file of requests on several numbers of ranks, and a table",
     pr_sbatch_text_scaling, &pr_sbatch_text_scaling_bytes},
};

const pr_sbatch_template *pr_sbatch_template_find(const char *kind)
{
    for (int32_t i = 0; i < PR_SBATCH_TEMPLATES; i++) {
        if (strcmp(pr_sbatch_template_all[i].kind, kind) == 0)
            return &pr_sbatch_template_all[i];
    }
    return NULL;
}

// The name of the @NAME@ that begins here, or "".
static void take_name(const char *at, const char *end, char name[NAME_BYTES])
{
    const char *first = at + 1, *last = first;
    while (last < end && (isupper((unsigned char)*last) || *last == '_'))
        last++;
    size_t length = (size_t)(last - first);
    bool whole = *at == '@' && last < end && *last == '@' && length > 0 && length < NAME_BYTES;
    memcpy(name, first, whole ? length : 0);
    name[whole ? length : 0] = '\0';
}

bool pr_sbatch_template_uses(const pr_sbatch_template *made, const char *name)
{
    const char *at = (const char *)made->text, *end = at + *made->bytes;
    char found[NAME_BYTES];
    for (; at < end; at++) {
        take_name(at, end, found);
        if (strcmp(found, name) == 0)
            return true;
    }
    return false;
}

static const pr_sbatch_value *
find_value(const pr_sbatch_value *value, int32_t values, const char *name)
{
    for (int32_t i = 0; i < values; i++) {
        if (strcmp(value[i].name, name) == 0)
            return &value[i];
    }
    return NULL;
}

static bool
line_lacks_value(const char *line, const char *end, const pr_sbatch_value *value, int32_t values)
{
    char name[NAME_BYTES];
    for (; line < end; line++) {
        take_name(line, end, name);
        const pr_sbatch_value *found = *name ? find_value(value, values, name) : NULL;
        if (*name && (!found || !found->text))
            return true;
    }
    return false;
}

static pr_status fill_line(
    const char *line, const char *end, const pr_sbatch_value *value, int32_t values, FILE *out)
{
    static const char directive[] = "#SBATCH";
    char name[NAME_BYTES];
    bool optional = (size_t)(end - line) >= sizeof directive - 1 &&
                    memcmp(line, directive, sizeof directive - 1) == 0;
    if (optional && line_lacks_value(line, end, value, values))
        fputc('#', out);
    while (line < end) {
        take_name(line, end, name);
        const pr_sbatch_value *found = *name ? find_value(value, values, name) : NULL;
        if (*name && !optional && (!found || !found->text))
            return pr_fail(PR_ERR_INTERNAL, "the job script has no value for %s", name);
        if (*name)
            fputs(found && found->text ? found->text : name, out);
        else
            fputc(*line, out);
        line += *name ? strlen(name) + 2 : 1;
    }
    return PR_OK;
}

pr_status pr_sbatch_template_fill(
    const pr_sbatch_template *made, const pr_sbatch_value *value, int32_t values, FILE *out)
{
    static const char licence[] = "# SPDX-";  // of the template; what is made of it is the user's
    const char *line = (const char *)made->text, *end = line + *made->bytes;
    while (line < end) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        next = next ? next + 1 : end;
        bool shown = (size_t)(next - line) < sizeof licence ||
                     memcmp(line, licence, sizeof licence - 1) != 0;
        if (shown)
            PR_TRY(fill_line(line, next, value, values, out));
        line = next;
    }
    return PR_OK;
}

static bool needs_no_quotes(const char *text)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+:,=";
    return *text && strspn(text, plain) == strlen(text);
}

pr_status pr_sbatch_template_quote(const char *text, char *quoted, size_t size_bytes)
{
    static const char escape[] = "'\\''";
    bool bare = needs_no_quotes(text);
    size_t used = 0, longest = size_bytes - sizeof escape - 2;
    if (!bare)
        quoted[used++] = '\'';
    for (const char *at = text; *at; at++) {
        if (used >= longest)
            return pr_fail(PR_ERR_ARGUMENT, "'%.40s...' is too long for a job script", text);
        if (*at == '\'') {
            memcpy(quoted + used, escape, sizeof escape - 1);
            used += sizeof escape - 1;
        } else {
            quoted[used++] = *at;
        }
    }
    if (!bare)
        quoted[used++] = '\'';
    quoted[used] = '\0';
    return PR_OK;
}
