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
#include "runtime/text/text_range.h"
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

// Where special tokens are taken for what they are.
typedef struct pr_special_rule {
    bool parse;                  // false: nowhere, their text stays text
    const pr_text_range *range;  // [ranges] not where one would touch these: ascending, disjoint
    int32_t ranges;
    size_t origin;  // where the text to be cut begins in that which the ranges speak of
} pr_special_rule;

// Cuts one text (of the pieces' own buffer) into tokens and the text between, appended to
// pieces->piece.
void pr_added_tokens_cut(
    const pr_added_tokens *added,
    bool normalized,
    const pr_special_rule *rule,
    const pr_piece *whole,
    pr_pieces *pieces);

#endif
