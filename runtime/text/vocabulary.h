// SPDX-License-Identifier: BSD-3-Clause
// Tokens by id and ids by text. The model's own tokens come from model.vocab; added tokens that the
// model does not know are put beside them and are invisible to the model's look-ups.
// Cost: a find is one hash and, at half load, about 1.5 probes.
// Threads: immutable once loaded.
#ifndef PR_RUNTIME_TEXT_VOCABULARY_H
#define PR_RUNTIME_TEXT_VOCABULARY_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

// The largest published vocabularies have 262,144 ids.
enum { PR_VOCABULARY_MAX_IDS = 1 << 22 };

typedef struct pr_vocabulary pr_vocabulary;

// vocab: {"text": id, ...}; ids may have holes but not repeat.
pr_status pr_vocabulary_create(const json_t *vocab, pr_vocabulary **vocabulary) PR_MUST_CHECK;
void pr_vocabulary_destroy(pr_vocabulary *vocabulary);

// Adds a token that the model does not have; its id must be free.
pr_status pr_vocabulary_add(
    pr_vocabulary *vocabulary, const char *text, size_t size_bytes, json_int_t id) PR_MUST_CHECK;

// Makes the token decode to another text than it is found by.
pr_status pr_vocabulary_set_decoded(
    pr_vocabulary *vocabulary, int32_t id, const char *text, size_t size_bytes) PR_MUST_CHECK;

// -1 when there is none.
int32_t pr_vocabulary_find(const pr_vocabulary *vocabulary, const char *text, size_t size_bytes);
int32_t
pr_vocabulary_find_in_model(const pr_vocabulary *vocabulary, const char *text, size_t size_bytes);

// NULL for an id without a token. Owned by the vocabulary; not NUL-terminated.
const char *pr_vocabulary_text(const pr_vocabulary *vocabulary, int32_t id, size_t *size_bytes);
const char *pr_vocabulary_decoded(const pr_vocabulary *vocabulary, int32_t id, size_t *size_bytes);
int32_t pr_vocabulary_size(const pr_vocabulary *vocabulary);  // highest id + 1

#endif
