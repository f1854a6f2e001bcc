// SPDX-License-Identifier: BSD-3-Clause
#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/text/tokenizer_parts.h"

struct pr_detokenizer {
    const pr_tokenizer *tokenizer;
    pr_decoder_stream *stream;
    pr_byte_buffer text;  // given out until the next call
    bool skip_special;
};

pr_status pr_detokenizer_create(
    const pr_tokenizer *tokenizer, bool skip_special, pr_detokenizer **detokenizer)
{
    pr_detokenizer *fresh = calloc(1, sizeof *fresh);
    if (!fresh)
        return pr_fail(PR_ERR_RESOURCE, "tokenizer: no memory to decode");
    fresh->tokenizer = tokenizer;
    fresh->skip_special = skip_special;
    pr_status status = pr_decoder_stream_create(tokenizer->decoder, &fresh->stream);
    if (status != PR_OK) {
        free(fresh);
        return status;
    }
    *detokenizer = fresh;
    return PR_OK;
}

void pr_detokenizer_destroy(pr_detokenizer *detokenizer)
{
    if (!detokenizer)
        return;
    pr_decoder_stream_destroy(detokenizer->stream);
    pr_byte_buffer_free(&detokenizer->text);
    free(detokenizer);
}

static void give_text(pr_detokenizer *detokenizer, const char **text, size_t *size_bytes)
{
    *size_bytes = detokenizer->text.size_bytes;
    *text = *size_bytes > 0 ? detokenizer->text.data : "";
}

pr_status pr_detokenizer_feed(
    pr_detokenizer *detokenizer, int32_t token, const char **text, size_t *size_bytes)
{
    const pr_tokenizer *tokenizer = detokenizer->tokenizer;
    size_t token_bytes;
    const char *token_text = pr_vocabulary_decoded(tokenizer->vocabulary, token, &token_bytes);
    bool skipped = detokenizer->skip_special && pr_tokenizer_is_special(tokenizer, token);
    pr_byte_buffer_clear(&detokenizer->text);
    if (token_text && !skipped)  // an id without a token has no text: models pad their vocabularies
        PR_TRY(pr_decoder_stream_feed(
            detokenizer->stream, token_text, token_bytes, &detokenizer->text));
    give_text(detokenizer, text, size_bytes);
    return PR_OK;
}

pr_status pr_detokenizer_finish(pr_detokenizer *detokenizer, const char **text, size_t *size_bytes)
{
    pr_byte_buffer_clear(&detokenizer->text);
    PR_TRY(pr_decoder_stream_finish(detokenizer->stream, &detokenizer->text));
    give_text(detokenizer, text, size_bytes);
    return PR_OK;
}
