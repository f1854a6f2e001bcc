// SPDX-License-Identifier: BSD-3-Clause
// One line of a batch file and its request body: whatever the bytes, an answer or a refusal.
#include <stdint.h>
#include <stdlib.h>

#include "launcher/batch_line.h"
#include "runtime/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Token-id prompts need no tokenizer; a text prompt goes through this smallest one.
static const char tokenizer_json[] =
    "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":"
    "\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false},"
    "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"trim_offsets\":true,\"use_regex\":false},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
    "\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
    "\"fuse_unk\":false,\"byte_fallback\":false,\"vocab\":{\"a\":0,\"b\":1,\"c\":2},\"merges\":[]}"
    "}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static pr_tokenizer *tokenizer;
    static pr_model model = {.vocabulary = 300, .eos_count = 1, .eos = {2}};
    if (!tokenizer &&
        pr_tokenizer_parse(tokenizer_json, sizeof tokenizer_json - 1, &tokenizer) != PR_OK)
        abort();
    pr_batch_line line;
    pr_refusal refusal;
    pr_completion_request *request;
    pr_completion_context context = {
        .model = &model,
        .tokenizer = tokenizer,
        .served_name = "demo",
        .max_model_len = 64,
    };
    if (pr_batch_line_parse((const char *)data, size, 1, &line, &refusal) == PR_OK) {
        if (pr_completion_request_parse(&context, line.body, &request, &refusal) == PR_OK)
            pr_completion_request_destroy(request);
        else
            free(pr_batch_line_refusal(line.custom_id, 1, &refusal, true));
    } else {
        free(pr_batch_line_refusal(line.custom_id, 1, &refusal, false));
    }
    pr_batch_line_clear(&line);
    return 0;
}
