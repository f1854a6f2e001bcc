// SPDX-License-Identifier: BSD-3-Clause
// SHA-256 of input files, so that a record of a run says what it was fed. Source: FIPS 180-4.
// Threads: any; the state is the caller's.
#ifndef PR_RUNTIME_BASE_SHA256_H
#define PR_RUNTIME_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { PR_SHA256_TEXT_BYTES = 65 };  // 64 hex digits and a zero

typedef struct pr_sha256 {
    uint32_t state[8];
    uint64_t size_bytes;
    unsigned char pending[64];  // of the last, incomplete block
} pr_sha256;

void pr_sha256_begin(pr_sha256 *hash);
void pr_sha256_add(pr_sha256 *hash, const void *data, size_t size_bytes);
void pr_sha256_end(pr_sha256 *hash, char text[PR_SHA256_TEXT_BYTES]);

#endif
