// SPDX-License-Identifier: BSD-3-Clause
// One line of a batch file and its request body: whatever the bytes, a refusal that can be written as a
// result line, or a request that a worker takes.
#include <stdint.h>
#include <stdlib.h>

#include "launcher/batch/batch_line.h"
#include "runtime/batch/plan.h"

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

static void must(int holds)
{
    if (!holds)
        abort();
}

// What one bad request must never do: be refused by the worker, which would end the whole run.
static void send_to_worker(const pr_completion_request *request)
{
    unsigned char *wire = NULL;
    size_t size_bytes = 0;
    for (int32_t i = 0; i < request->prompts; i++) {
        pr_plan *decoded;
        pr_request sequence = {
            .id = 1,
            .prompt_tokens = request->prompt[i].tokens,
            .prompt = request->prompt[i].token,
            .sampling = request->sampling,
            .priority = request->priority,
            .sibling_of = 1,
        };
        pr_admission admission = {.request = &sequence};
        pr_plan plan = {.number = 1, .admissions = 1, .admission = &admission};
        size_bytes = 0;
        must(pr_plan_encode(&plan, &wire, &size_bytes) == PR_OK);
        must(pr_plan_decode(wire, size_bytes, &decoded) == PR_OK);
        pr_plan_free(decoded);
    }
    free(wire);
}

static void refuse(const pr_batch_line *line, const pr_refusal *refusal, bool readable)
{
    char *text = pr_batch_line_refusal(line->custom_id, 1, refusal, readable);
    must(text != NULL);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static pr_tokenizer *tokenizer;
    static pr_model model = {
        .vocabulary = 300,
        .eos_count = 1,
        .eos = {2},
        .default_temperature = 1,
        .default_top_p = 1,
        .default_repetition_penalty = 1,
    };
    if (!tokenizer)
        must(pr_tokenizer_parse(tokenizer_json, sizeof tokenizer_json - 1, &tokenizer) == PR_OK);
    pr_batch_line line;
    pr_refusal refusal;
    pr_completion_request *request;
    pr_completion_context context = {
        .model = &model,
        .tokenizer = tokenizer,
        .served_name = "demo",
        .max_model_len = 64,
    };
    if (pr_batch_line_parse((const char *)data, size, 1, &line, &refusal) != PR_OK) {
        refuse(&line, &refusal, false);
    } else if (pr_completion_request_parse(&context, line.body, &request, &refusal) != PR_OK) {
        refuse(&line, &refusal, true);
    } else {
        send_to_worker(request);
        pr_completion_request_destroy(request);
    }
    pr_batch_line_clear(&line);
    return 0;
}
