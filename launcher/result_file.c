// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/result_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"

struct pr_result_file {
    char *path;
    int descriptor;
    bool input_order;
    char **held;  // [capacity], line of position `next` + i, or NULL
    int64_t capacity, next;
};

pr_status pr_result_file_open(const char *path, bool input_order, pr_result_file **file)
{
    pr_result_file *made = calloc(1, sizeof *made);
    if (made)
        made->path = strdup(path);
    if (!made || !made->path) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the output file");
    }
    made->input_order = input_order;
    made->descriptor = strcmp(path, "-") == 0
                           ? dup(STDOUT_FILENO)
                           : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (made->descriptor < 0) {
        pr_status status = pr_fail(
            PR_ERR_IO, "cannot write output %s: %s: choose another path with -o", path,
            strerror(errno));
        free(made->path);
        free(made);
        return status;
    }
    *file = made;
    return PR_OK;
}

static pr_status write_line(pr_result_file *file, char *line)
{
    size_t left = strlen(line);
    const char *from = line;
    while (left > 0) {
        ssize_t written = write(file->descriptor, from, left);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            free(line);
            return pr_fail(PR_ERR_IO, "cannot write to %s: %s", file->path, strerror(errno));
        }
        from += written;
        left -= (size_t)written;
    }
    free(line);
    return PR_OK;
}

static pr_status make_room(pr_result_file *file, int64_t index)
{
    if (index < file->capacity)
        return PR_OK;
    int64_t capacity = (index + 1) * 2;
    char **grown = realloc(file->held, (size_t)capacity * sizeof *grown);
    if (!grown)
        return pr_fail(PR_ERR_RESOURCE, "no memory to hold back %lld results", (long long)index);
    memset(grown + file->capacity, 0, (size_t)(capacity - file->capacity) * sizeof *grown);
    file->held = grown;
    file->capacity = capacity;
    return PR_OK;
}

// Writes the lines at the front that are there.
static pr_status flush_front(pr_result_file *file)
{
    int64_t ready = 0;
    pr_status status = PR_OK;
    while (status == PR_OK && ready < file->capacity && file->held[ready]) {
        status = write_line(file, file->held[ready]);
        file->held[ready++] = NULL;
    }
    if (ready > 0) {
        memmove(
            file->held, file->held + ready, (size_t)(file->capacity - ready) * sizeof *file->held);
        memset(file->held + file->capacity - ready, 0, (size_t)ready * sizeof *file->held);
        file->next += ready;
    }
    return status;
}

pr_status pr_result_file_put(pr_result_file *file, int64_t position, char *line)
{
    if (!line)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a result line");
    if (!file->input_order)
        return write_line(file, line);
    pr_status status = make_room(file, position - file->next);
    if (status != PR_OK) {
        free(line);
        return status;
    }
    file->held[position - file->next] = line;
    return flush_front(file);
}

pr_status pr_result_file_close(pr_result_file *file)
{
    pr_status status = PR_OK;
    if (!file)
        return PR_OK;
    for (int64_t i = 0; i < file->capacity; i++) {
        if (file->held[i] && status == PR_OK)
            status = write_line(file, file->held[i]);
        else
            free(file->held[i]);
    }
    if (close(file->descriptor) != 0 && status == PR_OK)
        status = pr_fail(PR_ERR_IO, "cannot finish %s: %s", file->path, strerror(errno));
    free(file->held);
    free(file->path);
    free(file);
    return status;
}
