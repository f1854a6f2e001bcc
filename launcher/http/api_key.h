// SPDX-License-Identifier: BSD-3-Clause
// Who may ask: a set of keys, and the tenant that a key stands for.
// Kept are not the keys but SHA-256 of each with a secret of this process; a given key is hashed the
// same way and compared with every entry in constant time, so neither time nor a core dump of the set
// tells a key. The tenant is part of that hash: the same key is the same tenant within one run, and cannot be
// guessed from outside, so prefixes are never shared between keys.
// Threads: any, once filled.
#ifndef PR_LAUNCHER_HTTP_API_KEY_H
#define PR_LAUNCHER_HTTP_API_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_API_KEY_TEXT_BYTES = 47 };  // of a made key: "sk-", 43 characters, a zero

typedef struct pr_api_keys pr_api_keys;

pr_status pr_api_keys_create(pr_api_keys **keys) PR_MUST_CHECK;
void pr_api_keys_destroy(pr_api_keys *keys);

// `from` names the source in an error. Empty keys and keys with blanks or control bytes are refused.
pr_status pr_api_keys_add(pr_api_keys *keys, const char *key, const char *from) PR_MUST_CHECK;
// One key a line; empty lines and lines that begin with # are skipped. Refused: a file that others than its
// owner may read or write, one that belongs to another user (but root), and one without a key.
pr_status pr_api_keys_add_file(pr_api_keys *keys, const char *path) PR_MUST_CHECK;
int32_t pr_api_keys_count(const pr_api_keys *keys);

// The value of an Authorization field ("Bearer KEY", the word in any case), or NULL if there was none.
// Without any key everyone is let in as tenant 0; else tenants are not 0. The tenant is written on success only.
bool pr_api_keys_check(const pr_api_keys *keys, const char *authorization, uint64_t *tenant);
// The value of an x-api-key field: the key itself.
bool pr_api_keys_check_plain(const pr_api_keys *keys, const char *key, uint64_t *tenant);

// A new key: 32 bytes of the system's randomness in base64url.
pr_status pr_api_key_make(char text[PR_API_KEY_TEXT_BYTES]) PR_MUST_CHECK;

#endif
