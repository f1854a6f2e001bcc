// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/doctor/srun_types.h"

#include <stdio.h>
#include <string.h>

static const char name_characters[] = "abcdefghijklmnopqrstuvwxyz0123456789_";

// A name is alone on its line; sentences have several words.
void pr_srun_types_list(const char *text, char types[PR_SRUN_TYPES_BYTES])
{
    size_t used = 0;
    types[0] = '\0';
    for (const char *line = text; *line && used < PR_SRUN_TYPES_BYTES;) {
        const char *word = line + strspn(line, " \t");
        size_t length = strspn(word, name_characters), line_length = strcspn(line, "\n");
        if (length > 0 && word + length == line + line_length)
            used += (size_t)snprintf(
                types + used, PR_SRUN_TYPES_BYTES - used, "%s%.*s", used ? ", " : "", (int)length,
                word);
        line += line_length + (line[line_length] == '\n');
    }
}
