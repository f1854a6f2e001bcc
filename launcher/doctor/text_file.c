// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/doctor/text_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool pr_text_file_read(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "r");
    bool read = file && fgets(line, (int)size, file);
    if (file)
        fclose(file);
    if (read)
        line[strcspn(line, "\n")] = '\0';
    return read;
}

// The system's files have no size until they are read.
char *pr_text_file_load(const char *path)
{
    size_t used = 0, room = 8192;
    FILE *file = fopen(path, "r");
    char *text = file ? malloc(room) : NULL;
    while (text) {
        used += fread(text + used, 1, room - used - 1, file);
        if (used < room - 1)
            break;
        room *= 2;
        char *larger = realloc(text, room);
        if (!larger)
            free(text);
        text = larger;
    }
    if (text)
        text[used] = '\0';
    if (file)
        fclose(file);
    return text;
}
