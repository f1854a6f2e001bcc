// SPDX-License-Identifier: BSD-3-Clause
// Added tokens: texts that are one token wherever they stand, found before anything else cuts the
// text. "normalized" ones are looked for after the normalizer, in its spelling of them; the others
// in the raw text. Of several that match at one place the longest is taken.
// Cost: per byte of text one table look-up, and a binary search per byte that goes on matching.
// Threads: immutable once loaded.
#ifndef PR_RUNTIME_TEXT_ADDED_TOKENS_H
#define PR_RUNTIME_TEXT_ADDED_TOKENS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/normalizer.h"
#include "runtime/text/pre_tokenizer.h"
#include "runtime/text/vocabulary.h"

typedef struct pr_added_tokens pr_added_tokens;

// json: the array "added_tokens" of a tokenizer file, or NULL. Tokens the vocabulary lacks are put
// into it; the normalizer is used here only.
pr_status pr_added_tokens_create(
    const json_t *json,
    const pr_normalizer *normalizer,
    pr_vocabulary *vocabulary,
    pr_added_tokens **added) PR_MUST_CHECK;
void pr_added_tokens_destroy(pr_added_tokens *added);

// [ids of the vocabulary], true for special tokens.
const bool *pr_added_tokens_special(const pr_added_tokens *added);

// Cuts one text (of the pieces' own buffer) into tokens and the text between, appended to
// pieces->piece. with_special = false leaves special tokens' text in place; so does a mark on any byte of it.
void pr_added_tokens_cut(
    const pr_added_tokens *added,
    bool normalized,
    bool with_special,
    const uint8_t *mark,  // [whole->size_bytes] 0 or 1, or NULL: none
    const pr_piece *whole,
    pr_pieces *pieces);

#endif
