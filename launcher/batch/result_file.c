// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/batch/result_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/file_write.h"
#include "runtime/base/log.h"

struct pr_result_file {
    char *path;
    int descriptor;
    bool input_order, failed;
    bool owned;                     // a regular file of our own, which may be cut
    off_t size_bytes;               // of the whole lines written
    char **held;                    // ring: the line of position p is at p % capacity, or NULL
    int64_t capacity, next, lines;  // position due next; lines held
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
    made->descriptor = strcmp(path, "-") == 0 ? dup(STDOUT_FILENO)
                                              : open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
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

pr_status pr_result_file_begin(pr_result_file *file)
{
    struct stat status;
    bool standard = strcmp(file->path, "-") == 0;
    file->owned = !standard && fstat(file->descriptor, &status) == 0 && S_ISREG(status.st_mode);
    if (!file->owned || ftruncate(file->descriptor, 0) == 0)
        return PR_OK;
    return pr_fail(PR_ERR_IO, "cannot empty %s: %s", file->path, strerror(errno));
}

// Takes the line.
static pr_status write_line(pr_result_file *file, char *line)
{
    size_t length = strlen(line), done = pr_file_write(file->descriptor, line, length);
    int reason = errno;
    file->failed = done < length;
    free(line);
    if (!file->failed) {
        file->size_bytes += (off_t)length;
        return PR_OK;
    }
    pr_status status = pr_fail(PR_ERR_IO, "cannot write to %s: %s", file->path, strerror(reason));
    if (done > 0 && (!file->owned || ftruncate(file->descriptor, file->size_bytes) != 0))
        pr_log(PR_LOG_WARN, "%s ends in half a line", file->path);
    return status;
}

static char **place_of(const pr_result_file *file, int64_t position)
{
    return &file->held[position % file->capacity];
}

static pr_status make_room(pr_result_file *file, int64_t position)
{
    int64_t needed = position - file->next + 1, capacity = file->capacity ? file->capacity : 64;
    if (needed <= file->capacity)
        return PR_OK;
    while (capacity < needed)
        capacity *= 2;
    char **grown = calloc((size_t)capacity, sizeof *grown);
    if (!grown)
        return pr_fail(PR_ERR_RESOURCE, "no memory to hold back %lld results", (long long)needed);
    for (int64_t i = file->next; i < file->next + file->capacity; i++)
        grown[i % capacity] = *place_of(file, i);
    free(file->held);
    file->held = grown;
    file->capacity = capacity;
    return PR_OK;
}

// Writes the line at the front, if it is there.
static pr_status write_front(pr_result_file *file)
{
    char *line = *place_of(file, file->next);
    *place_of(file, file->next++) = NULL;
    if (!line)
        return PR_OK;
    file->lines--;
    return write_line(file, line);
}

pr_status pr_result_file_put(pr_result_file *file, int64_t position, char *line)
{
    if (!line)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a result line");
    if (!file->input_order)
        return write_line(file, line);
    pr_status status = make_room(file, position);
    if (status != PR_OK) {
        free(line);
        return status;
    }
    *place_of(file, position) = line;
    file->lines++;
    while (*place_of(file, file->next))
        PR_TRY(write_front(file));
    return PR_OK;
}

int64_t pr_result_file_held(const pr_result_file *file) { return file->lines; }

pr_status pr_result_file_close(pr_result_file *file)
{
    pr_status status = PR_OK;
    if (!file)
        return PR_OK;
    while (file->lines > 0 && !file->failed)
        status = write_front(file);
    for (int64_t i = 0; i < file->capacity; i++)
        free(file->held[i]);
    if (close(file->descriptor) != 0 && status == PR_OK)
        status = pr_fail(PR_ERR_IO, "cannot finish %s: %s", file->path, strerror(errno));
    free(file->held);
    free(file->path);
    free(file);
    return status;
}
