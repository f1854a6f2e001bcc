// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/http/api_key.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "launcher/http/key_file.h"
#include "runtime/base/log.h"
#include "runtime/base/sha256.h"

enum { SECRET_BYTES = 32, MOST_KEY_BYTES = 1024 };

struct pr_api_keys {
    unsigned char secret[SECRET_BYTES];
    char (*hash)[PR_SHA256_TEXT_BYTES];
    int32_t count, capacity;
};

static pr_status fill_random(void *bytes, size_t size_bytes)
{
    if (getrandom(bytes, size_bytes, 0) == (ssize_t)size_bytes)
        return PR_OK;
    return pr_fail(PR_ERR_IO, "the system gives no random bytes: %s", strerror(errno));
}

pr_status pr_api_keys_create(pr_api_keys **keys)
{
    pr_api_keys *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for API keys");
    pr_status status = fill_random(made->secret, sizeof made->secret);
    if (status != PR_OK) {
        free(made);
        return status;
    }
    *keys = made;
    return PR_OK;
}

void pr_api_keys_destroy(pr_api_keys *keys)
{
    if (!keys)
        return;
    free(keys->hash);
    explicit_bzero(keys, sizeof *keys);
    free(keys);
}

// The secret before and behind (as HMAC does), so that nobody can extend a hash.
static void
hash_key(const pr_api_keys *keys, const char *key, size_t bytes, char text[PR_SHA256_TEXT_BYTES])
{
    pr_sha256 hash;
    pr_sha256_begin(&hash);
    pr_sha256_add(&hash, keys->secret, SECRET_BYTES);
    pr_sha256_add(&hash, key, bytes);
    pr_sha256_add(&hash, keys->secret, SECRET_BYTES);
    pr_sha256_end(&hash, text);
    explicit_bzero(&hash, sizeof hash);
}

static bool is_key(const char *key, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (key[i] <= ' ' || key[i] >= 0x7f)
            return false;
    }
    return bytes > 0 && bytes <= MOST_KEY_BYTES;
}

static pr_status add(pr_api_keys *keys, const char *key, size_t bytes, const char *from)
{
    if (!is_key(key, bytes))
        return pr_fail(
            PR_ERR_ARGUMENT, "%s: a key has 1 to %d visible ASCII characters and no blanks", from,
            MOST_KEY_BYTES);
    if (keys->count == keys->capacity) {
        int32_t capacity = keys->capacity ? 2 * keys->capacity : 4;
        void *grown = realloc(keys->hash, (size_t)capacity * sizeof *keys->hash);
        if (!grown)
            return pr_fail(PR_ERR_RESOURCE, "no memory for API keys");
        keys->hash = grown;
        keys->capacity = capacity;
    }
    hash_key(keys, key, bytes, keys->hash[keys->count++]);
    return PR_OK;
}

pr_status pr_api_keys_add(pr_api_keys *keys, const char *key, const char *from)
{
    return add(keys, key, strlen(key), from);
}

pr_status pr_api_keys_add_file(pr_api_keys *keys, const char *path)
{
    FILE *file = NULL;
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    int32_t before = keys->count;
    pr_status status = PR_OK;
    PR_TRY(pr_key_file_open(path, &file));
    while (status == PR_OK && (length = getline(&line, &room, file)) >= 0) {
        while (length > 0 && strchr(" \t\r\n", line[length - 1]))
            length--;
        if (length > 0 && line[0] != '#')
            status = add(keys, line, (size_t)length, path);
    }
    if (line)
        explicit_bzero(line, room);
    free(line);
    fclose(file);
    if (status == PR_OK && keys->count == before)
        return pr_fail(PR_ERR_ARGUMENT, "--api-key-file %s holds no key", path);
    return status;
}

int32_t pr_api_keys_count(const pr_api_keys *keys) { return keys->count; }

// Looks at every byte of both, whatever they hold.
static unsigned difference(const char *a, const char *b)
{
    unsigned differs = 0;
    for (int i = 0; i < PR_SHA256_TEXT_BYTES; i++)
        differs |= (unsigned char)a[i] ^ (unsigned char)b[i];
    return differs;
}

bool pr_api_keys_check_plain(const pr_api_keys *keys, const char *key, uint64_t *tenant)
{
    char hash[PR_SHA256_TEXT_BYTES], start[17];
    if (keys->count == 0) {
        *tenant = 0;
        return true;
    }
    size_t bytes = key ? strlen(key) : 0;
    if (bytes == 0 || bytes > MOST_KEY_BYTES)
        return false;
    bool known = false;
    hash_key(keys, key, bytes, hash);
    for (int32_t i = 0; i < keys->count; i++)
        known |= difference(hash, keys->hash[i]) == 0;
    if (!known)
        return false;
    memcpy(start, hash, 16);
    start[16] = '\0';
    uint64_t number = strtoull(start, NULL, 16);
    *tenant = number ? number : 1;
    return true;
}

bool pr_api_keys_check(const pr_api_keys *keys, const char *authorization, uint64_t *tenant)
{
    static const char scheme[] = "Bearer ";
    const char *key = NULL;
    if (authorization && strncasecmp(authorization, scheme, sizeof scheme - 1) == 0)
        key = authorization + sizeof scheme - 1 + strspn(authorization + sizeof scheme - 1, " ");
    return pr_api_keys_check_plain(keys, key, tenant);
}

pr_status pr_api_key_make(char text[PR_API_KEY_TEXT_BYTES])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char bytes[33] = {0};  // the last is padding: 43 digits hold 258 bits
    PR_TRY(fill_random(bytes, 32));
    memcpy(text, "sk-", 3);
    for (int i = 0; i < 43; i++) {
        int bit = 6 * i, at = bit / 8;
        unsigned pair = (unsigned)bytes[at] << 8 | (at + 1 < 33 ? bytes[at + 1] : 0u);
        text[3 + i] = digits[pair >> (10 - bit % 8) & 63];
    }
    text[46] = '\0';
    explicit_bzero(bytes, sizeof bytes);
    return PR_OK;
}
