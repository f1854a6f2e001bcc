// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/journal/model_identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

enum { SAMPLE_BYTES = 65536 };

static int counts(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' &&
           (length < 3 || strcmp(entry->d_name + length - 3, ".md") != 0);
}

static pr_status hash_sample(int descriptor, off_t offset, uint64_t *hash)
{
    unsigned char sample[SAMPLE_BYTES];
    ssize_t got = pread(descriptor, sample, sizeof sample, offset);
    if (got < 0)
        return PR_ERR_IO;
    *hash = pr_hash_bytes(*hash, sample, (size_t)got);
    return PR_OK;
}

static pr_status hash_file(int folder, const char *name, uint64_t *hash)
{
    struct stat file;
    pr_status status = PR_ERR_IO;
    int descriptor = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return PR_ERR_IO;
    if (fstat(descriptor, &file) != 0)
        goto close;
    if (!S_ISREG(file.st_mode)) {
        status = PR_OK;
        goto close;
    }
    int64_t size_bytes = file.st_size;
    *hash = pr_hash_bytes(*hash, name, strlen(name));
    *hash = pr_hash_bytes(*hash, &size_bytes, sizeof size_bytes);
    PR_TRY_GOTO(hash_sample(descriptor, 0, hash), close);
    if (size_bytes > SAMPLE_BYTES)
        PR_TRY_GOTO(hash_sample(descriptor, file.st_size - SAMPLE_BYTES, hash), close);
    status = PR_OK;
close:
    close(descriptor);
    return status;
}

pr_status pr_model_identity(const char *folder, uint64_t *identity)
{
    struct dirent **entry = NULL;
    int entries = scandir(folder, &entry, counts, alphasort);
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pr_status status = entries < 0 || descriptor < 0 ? PR_ERR_IO : PR_OK;
    uint64_t hash = 0;
    for (int i = 0; i < entries; i++) {
        if (status == PR_OK)
            status = hash_file(descriptor, entry[i]->d_name, &hash);
        if (status != PR_OK)
            pr_log(PR_LOG_DEBUG, "cannot look into %s", entry[i]->d_name);
    }
    int reason = errno;
    for (int i = 0; i < entries; i++)
        free(entry[i]);
    free(entry);
    if (descriptor >= 0)
        close(descriptor);
    if (status != PR_OK)
        return pr_fail(
            PR_ERR_IO, "cannot read the files of the model %s: %s", folder, strerror(reason));
    *identity = hash;
    return PR_OK;
}

pr_status pr_model_identity_of_file(const char *path, uint64_t *identity)
{
    *identity = 0;
    if (hash_file(AT_FDCWD, path, identity) == PR_OK)
        return PR_OK;
    return pr_fail(PR_ERR_IO, "cannot read %s: %s", path, strerror(errno));
}
