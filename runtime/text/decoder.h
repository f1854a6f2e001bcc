// SPDX-License-Identifier: BSD-3-Clause
// Tokens' texts back to text, as a chain of steps: ByteLevel, Replace, ByteFallback, Fuse, Strip,
// Metaspace, and Sequences of them.
// A chain works on a stream. What flows between steps is pieces (one per token at the source), in
// fragments of whole characters, each piece closed by an end mark:
//
//     token texts -> step -> step -> ... -> out          "▁Hel" "lo" | "<0xE2>" | ...
//
// A step passes on what no later piece can change and keeps the rest: ByteLevel an unfinished
// character, ByteFallback the open run of byte tokens. Decoding a whole text is the same stream,
// fed and finished at once, so the two cannot differ.
// Threads: a decoder is immutable once loaded; each stream is its own.
#ifndef PR_RUNTIME_TEXT_DECODER_H
#define PR_RUNTIME_TEXT_DECODER_H

#include <jansson.h>
#include <stddef.h>

#include "runtime/base/status.h"
#include "runtime/text/byte_buffer.h"

typedef struct pr_decoder pr_decoder;
typedef struct pr_decoder_stream pr_decoder_stream;

// json: the "decoder" of a tokenizer file; NULL or null joins tokens with spaces.
pr_status pr_decoder_create(const json_t *json, pr_decoder **decoder) PR_MUST_CHECK;
void pr_decoder_destroy(pr_decoder *decoder);

// Appends the bytes that a token stands for wherever it stands: without repair of UTF-8, and without what
// depends on its neighbours (the space that some decoders strip from the beginning of a text). Nothing
// when the decoder puts spaces between tokens.
pr_status pr_decoder_raw_bytes(
    const pr_decoder *decoder, const char *token, size_t size_bytes, pr_byte_buffer *out)
    PR_MUST_CHECK;

// The decoder is borrowed and must outlive the stream.
pr_status
pr_decoder_stream_create(const pr_decoder *decoder, pr_decoder_stream **stream) PR_MUST_CHECK;
void pr_decoder_stream_destroy(pr_decoder_stream *stream);
// Append to *out whatever text has become certain: after one more token, or after the last.
// A finished stream starts anew.
pr_status pr_decoder_stream_feed(
    pr_decoder_stream *stream, const char *token, size_t size_bytes, pr_byte_buffer *out)
    PR_MUST_CHECK;
pr_status pr_decoder_stream_finish(pr_decoder_stream *stream, pr_byte_buffer *out) PR_MUST_CHECK;

#endif
