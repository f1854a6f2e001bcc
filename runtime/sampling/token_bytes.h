// SPDX-License-Identifier: BSD-3-Clause
// The bytes each token stands for, in one piece of memory that can be sent to other ranks as it is:
//
//     packed   [ length of token 0, 1, ... : one byte each | bytes of 0 | bytes of 1 | ... ]
//
// A token without bytes (special, added, unknown, or longer than PR_TOKEN_MAX_BYTES) has length 0.
// Cost: 1.2 MB for a vocabulary of 152,000. Threads: immutable once made.
#ifndef PR_RUNTIME_SAMPLING_TOKEN_BYTES_H
#define PR_RUNTIME_SAMPLING_TOKEN_BYTES_H

#include "runtime/text/tokenizer.h"

enum { PR_TOKEN_MAX_BYTES = 255 };

typedef struct pr_token_bytes {
    int32_t tokens;
    int64_t packed_bytes;
    uint8_t *packed;
    uint32_t *offset;  // [tokens] within packed
} pr_token_bytes;

// Tokens 0..tokens-1; ids beyond the tokenizer's have no bytes.
pr_status pr_token_bytes_from_tokenizer(
    const pr_tokenizer *tokenizer, int32_t tokens, pr_token_bytes **table) PR_MUST_CHECK;
// With `packed` unset, to be filled by the caller, who then calls index.
pr_status
pr_token_bytes_create(int32_t tokens, int64_t packed_bytes, pr_token_bytes **table) PR_MUST_CHECK;
pr_status pr_token_bytes_index(pr_token_bytes *table) PR_MUST_CHECK;
void pr_token_bytes_destroy(pr_token_bytes *table);

// NULL and 0 for a token without bytes or an id outside of the table.
static inline const uint8_t *
pr_token_bytes_of(const pr_token_bytes *table, int32_t token, int32_t *size_bytes)
{
    bool known = token >= 0 && token < table->tokens;
    *size_bytes = known ? table->packed[token] : 0;
    return *size_bytes > 0 ? table->packed + table->offset[token] : NULL;
}

#endif
