// SPDX-License-Identifier: BSD-3-Clause
// The text changes that come before splitting: NFC, Replace, Prepend, Strip, and Sequences of them.
// Threads: immutable once loaded.
#ifndef PR_RUNTIME_TEXT_NORMALIZER_H
#define PR_RUNTIME_TEXT_NORMALIZER_H

#include <jansson.h>
#include <stdbool.h>

#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"

typedef struct pr_normalizer pr_normalizer;

// json: the "normalizer" of a tokenizer file; NULL or null changes nothing.
pr_status pr_normalizer_create(const json_t *json, pr_normalizer **normalizer) PR_MUST_CHECK;
void pr_normalizer_destroy(pr_normalizer *normalizer);

// Changes *text in place. *start_kept becomes false when the text's first characters are removed.
pr_status pr_normalizer_apply(
    const pr_normalizer *normalizer,
    pr_byte_buffer *text,
    pr_byte_buffer *mark,  // a byte 0 or 1 for each of text, changed along with it; or NULL
    bool *start_kept) PR_MUST_CHECK;

#endif
