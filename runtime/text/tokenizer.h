// SPDX-License-Identifier: BSD-3-Clause
// Text to token ids and back, from tokenizer.json (Hugging Face `tokenizers` format). Supported:
// model BPE (byte-level, or SentencePiece style with byte fallback); the normalizers, pre-tokenizers,
// post-processors and decoders listed in docs/tokenizer.md. Anything else is refused by name.
// Ids and text are equal to the `tokenizers` library's (tests/data/tokenizer has the vectors).
// Threads: a tokenizer is immutable after open and may be shared; encode uses the caller's thread.
#ifndef PR_RUNTIME_TEXT_TOKENIZER_H
#define PR_RUNTIME_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"
#include "runtime/text/text_range.h"

typedef struct pr_tokenizer pr_tokenizer;
typedef struct pr_detokenizer pr_detokenizer;

// directory/tokenizer.json, plus tokenizer_config.json if there (add_bos_token, add_eos_token).
pr_status pr_tokenizer_open(const char *directory, pr_tokenizer **tokenizer) PR_MUST_CHECK;
// From the text of a tokenizer.json (the fuzz target's door).
pr_status
pr_tokenizer_parse(const char *json, size_t size_bytes, pr_tokenizer **tokenizer) PR_MUST_CHECK;
void pr_tokenizer_close(pr_tokenizer *tokenizer);

// UTF-8 in (invalid bytes are replaced by U+FFFD as Python's errors="replace" does). *token is
// malloc'ed and given to the caller. add_special: run the post-processor (bos etc.).
// parse_special: special-token text inside `text` becomes the special token (the library's way).
pr_status pr_tokenizer_encode(
    const pr_tokenizer *tokenizer,
    const char *text,
    size_t size_bytes,
    bool add_special,
    bool parse_special,
    int32_t **token,
    int32_t *tokens) PR_MUST_CHECK;

// As encode with parse_special, but no special token is made of text that lies in a range, be it in part: what a user
// wrote stays text. Words, merges and other added tokens go on across the ends of ranges.
pr_status pr_tokenizer_encode_marked(
    const pr_tokenizer *tokenizer,
    const char *text,
    size_t size_bytes,
    bool add_special,
    const pr_text_range *range,  // [ranges] ascending, disjoint, within the text
    int32_t ranges,
    int32_t **token,
    int32_t *tokens) PR_MUST_CHECK;

// *text is malloc'ed, NUL-terminated, given to the caller. skip_special drops special tokens. An id
// without a token has no text: models pad their vocabularies.
pr_status pr_tokenizer_decode(
    const pr_tokenizer *tokenizer,
    const int32_t *token,
    int32_t tokens,
    bool skip_special,
    char **text,
    size_t *size_bytes) PR_MUST_CHECK;

int32_t pr_tokenizer_size(const pr_tokenizer *tokenizer);  // ids are 0..size-1
bool pr_tokenizer_is_special(const pr_tokenizer *tokenizer, int32_t token);
// Appends the bytes the token stands for, wherever it stands (docs/structured-output.md on spaces at the
// beginning). Special and added tokens and ids without a token have none.
pr_status pr_tokenizer_raw_bytes(
    const pr_tokenizer *tokenizer, int32_t token, pr_byte_buffer *bytes) PR_MUST_CHECK;
// Id of a token by its exact content, or -1.
int32_t pr_tokenizer_find(const pr_tokenizer *tokenizer, const char *content);

// Incremental decoding: feeds return the new text, never half a UTF-8 character; the pieces put
// together (with finish) equal pr_tokenizer_decode of the whole. *text is owned by the detokenizer
// and valid until its next call.
pr_status pr_detokenizer_create(
    const pr_tokenizer *tokenizer, bool skip_special, pr_detokenizer **detokenizer) PR_MUST_CHECK;
void pr_detokenizer_destroy(pr_detokenizer *detokenizer);
pr_status pr_detokenizer_feed(
    pr_detokenizer *detokenizer, int32_t token, const char **text, size_t *size_bytes)
    PR_MUST_CHECK;
pr_status pr_detokenizer_finish(pr_detokenizer *detokenizer, const char **text, size_t *size_bytes)
    PR_MUST_CHECK;

#endif
