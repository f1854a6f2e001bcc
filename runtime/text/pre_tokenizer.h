// SPDX-License-Identifier: BSD-3-Clause
// Splitting text into the words that merges stay within: Split, ByteLevel, Digits, Metaspace, and
// Sequences of them.
// A text under way is a list of pieces over one buffer; a piece is text still to be cut, or an added
// token already found, which nothing later touches.
// Threads: immutable once loaded.
#ifndef PR_RUNTIME_TEXT_PRE_TOKENIZER_H
#define PR_RUNTIME_TEXT_PRE_TOKENIZER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"

typedef struct pr_pre_tokenizer pr_pre_tokenizer;

typedef struct pr_piece {
    size_t start, size_bytes;  // in the list's text
    int32_t token;             // an added token's id, or -1: text
    bool first;                // begins where the whole input begins
    bool guarded;              // text that may not become a special token is in it
} pr_piece;

typedef struct pr_pieces {
    pr_byte_buffer text;
    pr_byte_buffer piece;  // pr_piece[]
} pr_pieces;

static inline size_t pr_pieces_count(const pr_pieces *pieces)
{
    return pieces->piece.size_bytes / sizeof(pr_piece);
}

static inline void pr_pieces_clear(pr_pieces *pieces)
{
    pr_byte_buffer_clear(&pieces->text);
    pr_byte_buffer_clear(&pieces->piece);
}

static inline void pr_pieces_free(pr_pieces *pieces)
{
    pr_byte_buffer_free(&pieces->text);
    pr_byte_buffer_free(&pieces->piece);
}

// json: the "pre_tokenizer" of a tokenizer file; NULL or null leaves the text whole.
pr_status
pr_pre_tokenizer_create(const json_t *json, pr_pre_tokenizer **pre_tokenizer) PR_MUST_CHECK;
void pr_pre_tokenizer_destroy(pr_pre_tokenizer *pre_tokenizer);

// Cuts *pieces in place; *spare is working space.
pr_status pr_pre_tokenizer_apply(
    const pr_pre_tokenizer *pre_tokenizer, pr_pieces *pieces, pr_pieces *spare) PR_MUST_CHECK;

#endif
