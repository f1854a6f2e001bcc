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

static const char ENDING[] = ".journal";

char *pr_journal_folder_path(const char *output)
{
    size_t bytes = strlen(output) + sizeof ENDING;
    char *path = malloc(bytes);
    if (path)
        snprintf(path, bytes, "%s%s", output, ENDING);
    return path;
}

char *pr_journal_folder_file(const char *folder, int32_t number)
{
    size_t bytes = strlen(folder) + DIGITS + sizeof ENDING + 8;
    char *path = malloc(bytes);
    if (path)
        snprintf(path, bytes, "%s/%0*d%s", folder, (int)DIGITS, (int)number, ENDING);
    return path;
}

// 0: it is none of ours.
static int32_t number_of(const char *name)
{
    char *end;
    if (strspn(name, "0123456789") != DIGITS)
        return 0;
    long number = strtol(name, &end, 10);
    return strcmp(end, ENDING) == 0 && number <= MOST_FILES ? (int32_t)number : 0;
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

pr_status pr_journal_folder_list(const char *folder, int32_t **number, int32_t *numbers)
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
        int32_t value = number_of(entry->d_name);
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

pr_status pr_journal_folder_create(const char *folder)
{
    if (mkdir(folder, 0777) == 0 || errno == EEXIST)
        return PR_OK;
    return pr_fail(
        PR_ERR_IO, "cannot make the journal's folder %s: %s: choose another place with -o", folder,
        strerror(errno));
}

void pr_journal_folder_remove(const char *folder)
{
    int32_t *number, numbers;
    if (pr_journal_folder_list(folder, &number, &numbers) != PR_OK)
        return;
    for (int32_t i = 0; i < numbers; i++) {
        char *path = pr_journal_folder_file(folder, number[i]);
        if (path && unlink(path) != 0 && errno != ENOENT)
            pr_log(PR_LOG_WARN, "cannot remove %s: %s", path, strerror(errno));
        free(path);
    }
    free(number);
    if (rmdir(folder) != 0 && errno != ENOENT)
        pr_log(PR_LOG_WARN, "the journal's folder %s stays: %s", folder, strerror(errno));
}

void pr_journal_folder_sync(const char *path)
{
    char *parent = strdup(path);
    if (!parent)
        return;
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent ? 1 : 0] = '\0';
    int descriptor = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0) {
        (void)fsync(descriptor);  // not every file system can
        close(descriptor);
    }
    free(parent);
}
