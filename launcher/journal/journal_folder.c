// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/journal/journal_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/log.h"

enum { DIGITS = 6, MOST_FILES = 999999 };

static const char ENDING[] = ".journal", DRAFT_ENDING[] = ".output";

char *pr_journal_folder_path(const char *output)
{
    size_t bytes = strlen(output) + sizeof ENDING;
    char *path = malloc(bytes);
    if (path)
        snprintf(path, bytes, "%s%s", output, ENDING);
    return path;
}

static char *make_path(const char *folder, int32_t number, const char *ending)
{
    size_t bytes = strlen(folder) + DIGITS + strlen(ending) + 8;
    char *path = malloc(bytes);
    if (path)
        snprintf(path, bytes, "%s/%0*d%s", folder, (int)DIGITS, (int)number, ending);
    return path;
}

char *pr_journal_folder_file(const char *folder, int32_t number)
{
    return make_path(folder, number, ENDING);
}

char *pr_journal_folder_draft(const char *folder, int32_t number)
{
    return make_path(folder, number, DRAFT_ENDING);
}

// 0: it is none of ours.
static int32_t number_of(const char *name, const char *ending)
{
    char *end;
    if (strspn(name, "0123456789") != DIGITS)
        return 0;
    long number = strtol(name, &end, 10);
    return strcmp(end, ending) == 0 && number <= MOST_FILES ? (int32_t)number : 0;
}

static int compare(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

static pr_status append(int32_t value, int32_t **number, int32_t *numbers)
{
    int32_t *grown = realloc(*number, ((size_t)*numbers + 1) * sizeof **number);
    if (!grown)
        return pr_fail(PR_ERR_RESOURCE, "no memory for the files of a journal");
    *number = grown;
    grown[(*numbers)++] = value;
    return PR_OK;
}

static pr_status list(const char *folder, const char *ending, int32_t **number, int32_t *numbers)
{
    *number = NULL;
    *numbers = 0;
    DIR *open = opendir(folder);
    if (!open && errno == ENOENT)
        return PR_OK;
    if (!open)
        return pr_fail(PR_ERR_IO, "cannot read the journal %s: %s", folder, strerror(errno));
    pr_status status = PR_OK;
    for (struct dirent *entry; status == PR_OK && (entry = readdir(open)) != NULL;) {
        int32_t value = number_of(entry->d_name, ending);
        if (value > 0)
            status = append(value, number, numbers);
    }
    closedir(open);
    if (status != PR_OK) {
        free(*number);
        *number = NULL;
        *numbers = 0;
        return status;
    }
    if (*numbers > 0)
        qsort(*number, (size_t)*numbers, sizeof **number, compare);
    return PR_OK;
}

pr_status pr_journal_folder_list(const char *folder, int32_t **number, int32_t *numbers)
{
    return list(folder, ENDING, number, numbers);
}

pr_status pr_journal_folder_create(const char *folder)
{
    if (mkdir(folder, 0777) == 0 || errno == EEXIST)
        return PR_OK;
    return pr_fail(
        PR_ERR_IO, "cannot make the journal's folder %s: %s: choose another place with -o", folder,
        strerror(errno));
}

static void remove_files(const char *folder, const char *ending)
{
    int32_t *number, numbers;
    if (list(folder, ending, &number, &numbers) != PR_OK)
        return;
    for (int32_t i = 0; i < numbers; i++) {
        char *path = make_path(folder, number[i], ending);
        if (path && unlink(path) != 0 && errno != ENOENT)
            pr_log(PR_LOG_WARN, "cannot remove %s: %s", path, strerror(errno));
        free(path);
    }
    free(number);
}

void pr_journal_folder_remove(const char *folder)
{
    remove_files(folder, DRAFT_ENDING);
    remove_files(folder, ENDING);
    if (rmdir(folder) != 0 && errno != ENOENT)
        pr_log(PR_LOG_WARN, "the journal's folder %s stays: %s", folder, strerror(errno));
}

char *pr_journal_folder_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

void pr_journal_folder_sync(const char *path)
{
    char *parent = pr_journal_folder_parent(path);
    if (!parent)
        return;
    int descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0) {
        (void)fsync(descriptor);  // not every file system can
        close(descriptor);
    }
    free(parent);
}
