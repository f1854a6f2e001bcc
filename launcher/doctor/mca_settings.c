// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/doctor/mca_settings.h"

#include <stdio.h>
#include <string.h>

static const char *skip_blanks(const char *at) { return at + strspn(at, " \t"); }

// The value that a line gives the name, up to *length bytes, or NULL.
static const char *value_of(const char *line, const char *name, size_t *length)
{
    size_t named = strlen(name);
    line = skip_blanks(line);
    if (strncmp(line, name, named) != 0)
        return NULL;
    line = skip_blanks(line + named);
    if (*line != '=')
        return NULL;
    line = skip_blanks(line + 1);
    *length = strcspn(line, "\n");
    while (*length > 0 && strchr(" \t\r", line[*length - 1]))
        --*length;
    return line;
}

bool pr_mca_settings_find(const char *settings, const char *name, char value[PR_MCA_VALUE_BYTES])
{
    bool found = false;
    for (const char *line = settings; *line;) {
        size_t length = 0;
        const char *given = value_of(line, name, &length);
        if (given) {
            snprintf(value, PR_MCA_VALUE_BYTES, "%.*s", (int)length, given);
            found = true;
        }
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return found;
}

bool pr_mca_settings_allow(const char *list, const char *component)
{
    bool excludes = list[0] == '^', listed = false;
    size_t length = strlen(component);
    for (const char *at = list + excludes; *at;) {
        size_t word = strcspn(at, ",");
        listed |= word == length && strncmp(at, component, length) == 0;
        at += word + (at[word] == ',');
    }
    return list[0] == '\0' || listed != excludes;
}
