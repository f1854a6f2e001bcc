// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/bench/bench_prompt.h"

#include "runtime/base/hash.h"

static const uint64_t ODD = 0x9e3779b97f4a7c15u;

static int32_t divide_up(int32_t tokens, int32_t scale)
{
    int64_t scaled = ((int64_t)tokens + scale - 1) / scale;
    return scaled > 0 ? (int32_t)scaled : 1;
}

int32_t pr_bench_prompt_tokens(const pr_bench_scale *scale, const pr_trace_request *request)
{
    return divide_up(request->prompt_tokens, scale->tokens);
}

int32_t pr_bench_prompt_outputs(const pr_bench_scale *scale, const pr_trace_request *request)
{
    return divide_up(request->outputs, scale->tokens);
}

static int32_t draw_token(const pr_bench_scale *scale, uint64_t identity, int32_t position)
{
    uint64_t bits = pr_hash_mix(identity + ODD * (uint64_t)(position + 1));
    uint64_t half = (uint64_t)(scale->vocabulary + 1) / 2;
    return scale->vocabulary / 4 + (int32_t)(bits % half);
}

void pr_bench_prompt_fill(
    const pr_bench_scale *scale, const pr_trace_request *request, int64_t number, int32_t *token)
{
    int32_t tokens = pr_bench_prompt_tokens(scale, request);
    int32_t size = request->blocks > 0 ? scale->block_tokens / scale->tokens : tokens;
    if (size < 1)
        size = 1;
    for (int32_t i = 0; i < tokens; i++) {
        int32_t block = i / size;
        if (block >= request->blocks)  // a block that the scale does not divide leaves some over
            block = request->blocks - 1;
        uint64_t identity =
            block >= 0 ? request->block[block] : pr_hash_mix((uint64_t)number + ODD);
        token[i] = draw_token(scale, identity, block >= 0 ? i - block * size : i);
    }
}
