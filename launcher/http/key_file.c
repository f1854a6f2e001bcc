// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/http/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher/http/api_key.h"
#include "runtime/base/atomic_file.h"
#include "runtime/base/log.h"

static pr_status check_private(const char *path, int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) != 0)
        return pr_fail(PR_ERR_IO, "cannot look at key file %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return pr_fail(PR_ERR_ARGUMENT, "key file %s is not a file", path);
    if (status.st_uid != geteuid() && status.st_uid != 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "key file %s belongs to user %u, not to you: use a copy of your own",
            path, (unsigned)status.st_uid);
    if ((status.st_mode & 077) != 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "key file %s may be used by others (mode %03o): run chmod 600 on it",
            path, (unsigned)(status.st_mode & 0777));
    return PR_OK;
}

pr_status pr_key_file_open(const char *path, FILE **file)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return pr_fail(PR_ERR_IO, "cannot open key file %s: %s", path, strerror(errno));
    pr_status status = check_private(path, descriptor);
    FILE *opened = status == PR_OK ? fdopen(descriptor, "r") : NULL;
    if (!opened) {
        close(descriptor);
        return status != PR_OK ? status : pr_fail(PR_ERR_RESOURCE, "no memory to read %s", path);
    }
    *file = opened;
    return PR_OK;
}

pr_status pr_key_file_make(const char *path, char key[PR_KEY_BYTES])
{
    char made[PR_API_KEY_TEXT_BYTES + 1];
    PR_TRY(pr_api_key_make(made));
    size_t length = strlen(made);
    made[length] = '\n';
    PR_TRY(pr_atomic_file_write(path, 0600, made, length + 1));
    memcpy(key, made, length);
    key[length] = '\0';
    return PR_OK;
}

static pr_status read_key(const char *path, FILE *file, char *key)
{
    char text[PR_KEY_BYTES];
    size_t got = fread(text, 1, sizeof text - 1, file);
    if (ferror(file))
        return pr_fail(PR_ERR_IO, "cannot read key file %s: %s", path, strerror(errno));
    text[got] = '\0';
    size_t length = strcspn(text, "\r\n");
    bool whole = text[length] != '\0' || got < PR_KEY_BYTES - 1;
    for (size_t i = 0; i < length; i++)
        whole = whole && text[i] > ' ' && text[i] < 0x7f;
    if (!whole || length == 0)
        return pr_fail(
            PR_ERR_ARGUMENT,
            "the first line of key file %s is no key: 1 to %d printable characters, no blanks",
            path, PR_KEY_BYTES - 2);
    memcpy(key, text, length);
    key[length] = '\0';
    return PR_OK;
}

pr_status pr_key_file_read(const char *path, char key[PR_KEY_BYTES])
{
    FILE *file;
    PR_TRY(pr_key_file_open(path, &file));
    pr_status status = read_key(path, file, key);
    fclose(file);
    return status;
}
