// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch_input.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

typedef struct stored_line {
    char *text;
    size_t size_bytes;
    int64_t number, position;
} stored_line;

struct pr_batch_input {
    FILE *file;
    char *path;
    char *buffer;  // of getline
    size_t capacity;
    int64_t number, position;
    bool shuffled;
    stored_line *stored;  // when shuffled
    int64_t count, next;
};

// The next non-empty line of the file.
static pr_status read_line(pr_batch_input *input, pr_input_line *line, bool *found)
{
    *found = false;
    for (;;) {
        errno = 0;
        ssize_t length = getline(&input->buffer, &input->capacity, input->file);
        if (length < 0) {
            if (ferror(input->file))
                return pr_fail(PR_ERR_IO, "cannot read %s: %s", input->path, strerror(errno));
            return PR_OK;
        }
        input->number++;
        while (length > 0 && strchr(" \t\r\n", input->buffer[length - 1]))
            length--;
        if (length == 0)
            continue;
        *line = (pr_input_line){
            .text = input->buffer,
            .size_bytes = (size_t)length,
            .number = input->number,
            .position = input->position++,
        };
        *found = true;
        return PR_OK;
    }
}

static pr_status store_line(pr_batch_input *input, const pr_input_line *line, int64_t *capacity)
{
    if (input->count == *capacity) {
        *capacity = *capacity ? *capacity * 2 : 256;
        stored_line *grown = realloc(input->stored, (size_t)*capacity * sizeof *grown);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory to shuffle %s", input->path);
        input->stored = grown;
    }
    char *text = malloc(line->size_bytes + 1);
    if (!text)
        return pr_fail(PR_ERR_RESOURCE, "no memory to shuffle %s", input->path);
    memcpy(text, line->text, line->size_bytes);
    input->stored[input->count++] = (stored_line){
        .text = text,
        .size_bytes = line->size_bytes,
        .number = line->number,
        .position = line->position,
    };
    return PR_OK;
}

// Fisher and Yates with a counter-based draw.
static pr_status read_shuffled(pr_batch_input *input, uint64_t seed)
{
    pr_input_line line;
    int64_t capacity = 0;
    bool found;
    for (;;) {
        PR_TRY(read_line(input, &line, &found));
        if (!found)
            break;
        PR_TRY(store_line(input, &line, &capacity));
    }
    for (int64_t i = input->count - 1; i > 0; i--) {
        int64_t j = (int64_t)(pr_hash_mix(seed + (uint64_t)i) % (uint64_t)(i + 1));
        stored_line other = input->stored[j];
        input->stored[j] = input->stored[i];
        input->stored[i] = other;
    }
    return PR_OK;
}

static pr_status open_file(pr_batch_input *input)
{
    struct stat status;
    input->file = strcmp(input->path, "-") == 0 ? stdin : fopen(input->path, "r");
    if (!input->file)
        return pr_fail(
            PR_ERR_NOT_FOUND, "cannot read input %s: %s: give a JSONL file with -i", input->path,
            strerror(errno));
    if (fstat(fileno(input->file), &status) == 0 && S_ISDIR(status.st_mode))
        return pr_fail(
            PR_ERR_NOT_FOUND, "input %s is a folder: give a JSONL file with -i", input->path);
    return PR_OK;
}

pr_status pr_batch_input_open(const char *path, uint64_t shuffle_seed, pr_batch_input **input)
{
    pr_batch_input *made = calloc(1, sizeof *made);
    if (made)
        made->path = strdup(path);
    if (!made || !made->path) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the input");
    }
    made->shuffled = shuffle_seed != 0;
    pr_status status = open_file(made);
    if (status == PR_OK && made->shuffled)
        status = read_shuffled(made, shuffle_seed);
    if (status != PR_OK) {
        pr_batch_input_close(made);
        return status;
    }
    *input = made;
    return PR_OK;
}

void pr_batch_input_close(pr_batch_input *input)
{
    if (!input)
        return;
    for (int64_t i = 0; i < input->count; i++)
        free(input->stored[i].text);
    free(input->stored);
    if (input->file && input->file != stdin)
        fclose(input->file);
    free(input->buffer);
    free(input->path);
    free(input);
}

pr_status pr_batch_input_next(pr_batch_input *input, pr_input_line *line, bool *found)
{
    if (!input->shuffled)
        return read_line(input, line, found);
    *found = input->next < input->count;
    if (!*found)
        return PR_OK;
    const stored_line *stored = &input->stored[input->next++];
    *line = (pr_input_line){
        .text = stored->text,
        .size_bytes = stored->size_bytes,
        .number = stored->number,
        .position = stored->position,
    };
    return PR_OK;
}
