// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/sampling/token_bytes.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

pr_status pr_token_bytes_create(int32_t tokens, int64_t packed_bytes, pr_token_bytes **table)
{
    pr_token_bytes *made = calloc(1, sizeof *made);
    if (made) {
        made->tokens = tokens;
        made->packed_bytes = packed_bytes;
        made->packed = malloc((size_t)packed_bytes + 1);
        made->offset = malloc(((size_t)tokens + 1) * sizeof *made->offset);
    }
    if (!made || !made->packed || !made->offset) {
        pr_token_bytes_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "no memory for the bytes of %d tokens", tokens);
    }
    *table = made;
    return PR_OK;
}

void pr_token_bytes_destroy(pr_token_bytes *table)
{
    if (!table)
        return;
    free(table->packed);
    free(table->offset);
    free(table);
}

pr_status pr_token_bytes_index(pr_token_bytes *table)
{
    int64_t at = table->tokens;
    for (int32_t i = 0; i < table->tokens && at <= table->packed_bytes; i++) {
        table->offset[i] = (uint32_t)at;
        at += table->packed[i];
    }
    if (at != table->packed_bytes)
        return pr_fail(
            PR_ERR_FORMAT, "a table of %d tokens' bytes has %lld bytes, but names %lld",
            table->tokens, (long long)table->packed_bytes, (long long)at);
    return PR_OK;
}

static pr_status
gather(const pr_tokenizer *tokenizer, int32_t tokens, pr_byte_buffer *length, pr_byte_buffer *bytes)
{
    for (int32_t i = 0; i < tokens; i++) {
        size_t before = bytes->size_bytes;
        PR_TRY(pr_tokenizer_raw_bytes(tokenizer, i, bytes));
        if (bytes->size_bytes - before > PR_TOKEN_MAX_BYTES)
            bytes->size_bytes = before;
        uint8_t size = (uint8_t)(bytes->size_bytes - before);
        pr_byte_buffer_append(length, &size, 1);
    }
    PR_TRY(pr_byte_buffer_check(length));
    return pr_byte_buffer_check(bytes);
}

pr_status
pr_token_bytes_from_tokenizer(const pr_tokenizer *tokenizer, int32_t tokens, pr_token_bytes **table)
{
    pr_byte_buffer length = {0}, bytes = {0};
    pr_token_bytes *made = NULL;
    pr_status status = gather(tokenizer, tokens, &length, &bytes);
    if (status == PR_OK)
        status =
            pr_token_bytes_create(tokens, (int64_t)(tokens + (int64_t)bytes.size_bytes), &made);
    if (status == PR_OK) {
        if (tokens > 0)
            memcpy(made->packed, length.data, (size_t)tokens);
        if (bytes.size_bytes > 0)
            memcpy(made->packed + tokens, bytes.data, bytes.size_bytes);
        status = pr_token_bytes_index(made);
    }
    pr_byte_buffer_free(&length);
    pr_byte_buffer_free(&bytes);
    if (status != PR_OK) {
        pr_token_bytes_destroy(made);
        return status;
    }
    *table = made;
    return PR_OK;
}
