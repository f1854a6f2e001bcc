// SPDX-License-Identifier: BSD-3-Clause
// Byte-pair encoding: a word becomes symbols (characters, or <0xNN> bytes for characters the
// vocabulary lacks), then the adjacent pair with the lowest merge rank, leftmost first, is joined
// until no pair is left to join.
// Source: Sennrich, Haddow, Birch 2016; byte fallback as in SentencePiece.
// Cost: a word of n symbols: n look-ups plus O(n^2) comparisons when n is small, O(n log n) else.
// Threads: immutable once loaded; each encode brings its own pr_bpe_work.
#ifndef PR_RUNTIME_TEXT_BPE_H
#define PR_RUNTIME_TEXT_BPE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"
#include "runtime/text/vocabulary.h"

typedef struct pr_bpe pr_bpe;

// Scratch of one encode; start from all zero, free with pr_bpe_work_free.
typedef struct pr_bpe_work {
    pr_byte_buffer symbol;
    pr_byte_buffer heap;
} pr_bpe_work;

// model: the "model" object of a tokenizer file. The vocabulary is borrowed and must outlive bpe.
pr_status
pr_bpe_create(const json_t *model, const pr_vocabulary *vocabulary, pr_bpe **bpe) PR_MUST_CHECK;
void pr_bpe_destroy(pr_bpe *bpe);

// Appends the word's ids (int32_t) to *token. barred: [ids], or NULL: ids that no merge may make,
// so that a control token's text cannot become the control token.
pr_status pr_bpe_encode(
    const pr_bpe *bpe,
    const char *word,
    size_t size_bytes,
    const bool *barred,
    pr_bpe_work *work,
    pr_byte_buffer *token) PR_MUST_CHECK;

void pr_bpe_work_free(pr_bpe_work *work);

#endif
