// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as tokenizer.json. A file that is accepted must encode and decode, and pieces of the
// incremental detokenizer must be valid UTF-8.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char sample[] = "Hi <s> ab  aab\n\xe2\x96\x81"
                             "cafe\xcc\x81 12 \xf0\x9f\x98\x80\xff don't<0x41>";

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_pieces(const pr_tokenizer *tokenizer, const int32_t *token, int32_t tokens)
{
    pr_detokenizer *detokenizer;
    const char *piece;
    size_t size_bytes;
    if (pr_detokenizer_create(tokenizer, true, &detokenizer) != PR_OK)
        return;
    for (int32_t i = 0; i < tokens; i++) {
        pr_byte_buffer same = {0};
        if (pr_detokenizer_feed(detokenizer, token[i], &piece, &size_bytes) != PR_OK)
            break;
        (void)pr_utf8_repair(piece, size_bytes, true, &same);
        require(same.size_bytes == size_bytes);
        require(size_bytes == 0 || memcmp(same.data, piece, size_bytes) == 0);
        pr_byte_buffer_free(&same);
    }
    pr_detokenizer_destroy(detokenizer);
}

static void try_tokenizer(const pr_tokenizer *tokenizer, bool special)
{
    int32_t *token, tokens;
    char *text;
    size_t size_bytes;
    if (pr_tokenizer_encode(
            tokenizer, sample, sizeof sample - 1, special, special, &token, &tokens) != PR_OK)
        return;
    for (int32_t i = 0; i < tokens; i++)
        require(token[i] >= 0 && token[i] < pr_tokenizer_size(tokenizer));
    if (pr_tokenizer_decode(tokenizer, token, tokens, !special, &text, &size_bytes) == PR_OK)
        free(text);
    check_pieces(tokenizer, token, tokens);
    free(token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    pr_tokenizer *tokenizer;
    if (size > 1 << 16)
        return 0;
    pr_error_capture_begin();
    pr_log_set_level(PR_LOG_ERROR);
    if (pr_tokenizer_parse((const char *)data, size, &tokenizer) == PR_OK) {
        try_tokenizer(tokenizer, true);
        try_tokenizer(tokenizer, false);
        pr_tokenizer_close(tokenizer);
    }
    pr_error_capture_end();
    return 0;
}
