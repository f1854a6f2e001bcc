// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/serve/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/atomic_file.h"
#include "runtime/base/log.h"

enum { RANDOM_BYTES = 32 };

pr_status pr_key_file_make(const char *path, char key[PR_KEY_BYTES])
{
    unsigned char random[RANDOM_BYTES];
    char made[PR_KEY_BYTES] = "pr-";
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return pr_fail(PR_ERR_IO, "the system gives no random bytes: %s", strerror(errno));
    size_t length = strlen(made);
    for (int i = 0; i < RANDOM_BYTES; i++)
        length += (size_t)snprintf(made + length, sizeof made - length, "%02x", random[i]);
    made[length] = '\n';
    PR_TRY(pr_atomic_file_write(path, 0600, made, length + 1));
    made[length] = '\0';
    memcpy(key, made, length + 1);
    return PR_OK;
}

static pr_status check_file(const char *path, int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) != 0)
        return pr_fail(PR_ERR_IO, "cannot look at key file %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return pr_fail(PR_ERR_ARGUMENT, "key file %s is not a file", path);
    if (status.st_uid != geteuid())
        return pr_fail(
            PR_ERR_ARGUMENT, "key file %s belongs to user %u, not to you: use a copy of your own",
            path, (unsigned)status.st_uid);
    if ((status.st_mode & 077) != 0)
        return pr_fail(
            PR_ERR_ARGUMENT, "key file %s may be used by others (mode %03o): run chmod 600 on it",
            path, (unsigned)(status.st_mode & 0777));
    return PR_OK;
}

static pr_status read_key(const char *path, int descriptor, char *key)
{
    char text[PR_KEY_BYTES];
    ssize_t got = read(descriptor, text, sizeof text - 1);
    if (got < 0)
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
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return pr_fail(PR_ERR_IO, "cannot open key file %s: %s", path, strerror(errno));
    pr_status status = check_file(path, descriptor);
    if (status == PR_OK)
        status = read_key(path, descriptor, key);
    close(descriptor);
    return status;
}
