// SPDX-License-Identifier: BSD-3-Clause
// Log-softmax of one token of each row, its rank and the likeliest tokens, with the sampler's bits (report_logprobs of
// runtime/sampling/sampler.c). One block a row. Each thread keeps the best few of its tokens in registers, the block takes
// the best of the threads' first ones in turn; a thread that has given all it kept looks through its tokens again.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/rows/logit_row.cuh"

enum { KEPT = 4 };

struct logprobs_shared {
    pr_logit_shared logits;
    int32_t before[PR_LOGIT_THREADS / GPU_WARP];
};

// One row.
struct logits_row {
    const float *logits;
    int32_t vocabulary;
};

// The best of a thread's tokens, ascending keys; those behind the last real one are PR_LOGIT_NO_KEY.
struct best_few {
    uint64_t key[KEPT];
};

GPU_FUNCTION void insert(best_few &best, uint64_t key)
{
    GPU_UNROLL
    for (int i = 0; i < KEPT; i++) {
        uint64_t later = key < best.key[i] ? best.key[i] : key;
        best.key[i] = key < best.key[i] ? key : best.key[i];
        key = later;
    }
}

// Calls visit(value, token, lane of the thread) for this thread's tokens of one chunk; those beyond the vocabulary are left out.
template <bool WIDE, class VISIT>
GPU_FUNCTION void each_of_chunk(const logits_row &row, int32_t begin, VISIT visit)
{
    for (int32_t i = 0; i < PR_VOCABULARY_CHUNK; i += PR_VOCABULARY_LANES) {
        int32_t token = begin + i + gpu_thread() * PR_LOGIT_QUAD;
        pr_logit_quad quad = pr_logit_row_quad<WIDE>(row.logits, token, row.vocabulary);
        GPU_UNROLL
        for (int j = 0; j < PR_LOGIT_QUAD; j++) {
            if (token + j < row.vocabulary)
                visit(quad.value[j], token + j, j);
        }
    }
}

// The best of this thread's tokens after `after`; 0: of all.
template <bool WIDE> GPU_FUNCTION best_few best_after(const logits_row &row, uint64_t after)
{
    best_few best;
    GPU_UNROLL
    for (int i = 0; i < KEPT; i++)
        best.key[i] = PR_LOGIT_NO_KEY;
    for (int32_t begin = 0; begin < row.vocabulary; begin += PR_VOCABULARY_CHUNK)
        each_of_chunk<WIDE>(row, begin, [&](float value, int32_t token, int) {
            uint64_t key = pr_logit_row_key(value, token);
            if (key > after && key < best.key[KEPT - 1])
                insert(best, key);
        });
    return best;
}

// The logarithm of the sum of exponentials; infinity if no token is possible.
template <bool WIDE>
GPU_FUNCTION double normaliser_of(pr_logit_shared &shared, const logits_row &row, float largest)
{
    if (!(largest > pr_logit_row_impossible()))
        return gpu_from_bits_f64(0x7ff0000000000000u);
    double sum = 0;
    for (int32_t begin = 0; begin < row.vocabulary; begin += PR_VOCABULARY_CHUNK) {
        double lane[PR_LOGIT_QUAD] = {};
        each_of_chunk<WIDE>(row, begin, [&](float value, int32_t, int j) {
            lane[j] += gpu_exp_f64((double)value - (double)largest);
        });
        sum += pr_logit_row_tree(shared, lane);
    }
    return (double)largest + gpu_log_f64(sum);
}

// How many tokens rank before the key.
template <bool WIDE>
GPU_FUNCTION int32_t tokens_before(logprobs_shared &shared, const logits_row &row, uint64_t key)
{
    int32_t before = 0;
    for (int32_t begin = 0; begin < row.vocabulary; begin += PR_VOCABULARY_CHUNK)
        each_of_chunk<WIDE>(row, begin, [&](float value, int32_t token, int) {
            before += pr_logit_row_key(value, token) < key;
        });
    GPU_UNROLL
    for (int step = 1; step < GPU_WARP; step *= 2)
        before += gpu_shuffle_xor(before, step);
    if (gpu_lane() == 0)
        shared.before[gpu_warp()] = before;
    gpu_barrier();
    before = 0;
    for (int warp = 0; warp < PR_LOGIT_THREADS / GPU_WARP; warp++)
        before += shared.before[warp];
    return before;
}

// The best that is left, which its thread gives up.
template <bool WIDE>
GPU_FUNCTION uint64_t take_best(logprobs_shared &shared, const logits_row &row, best_few &best)
{
    uint64_t first = pr_logit_row_first_key(shared.logits, best.key[0]);
    if (first != best.key[0] || first == PR_LOGIT_NO_KEY)
        return first;
    GPU_UNROLL
    for (int i = 0; i < KEPT - 1; i++)
        best.key[i] = best.key[i + 1];
    best.key[KEPT - 1] = PR_LOGIT_NO_KEY;
    if (best.key[0] == PR_LOGIT_NO_KEY)
        best = best_after<WIDE>(row, first);
    return first;
}

template <bool WIDE> GPU_KERNEL void logprobs_rows(pr_gpu_logprobs_args args)
{
    logprobs_shared &shared = gpu_shared<logprobs_shared>();
    int64_t r = gpu_block();
    logits_row row = {args.logits + r * args.vocabulary, args.vocabulary};
    best_few best = best_after<WIDE>(row, 0);
    uint64_t largest = pr_logit_row_first_key(shared.logits, best.key[0]);
    double normaliser = normaliser_of<WIDE>(shared.logits, row, pr_logit_row_value_of(largest));
    int32_t token = args.token[r];
    uint64_t key = PR_LOGIT_NO_KEY;  // of no token: impossible, and after all
    float logit = pr_logit_row_impossible();
    if (token >= 0 && token < args.vocabulary) {
        logit = pr_logit_row_value(row.logits[token]);
        key = pr_logit_row_key(logit, token);
    }
    int32_t before = tokens_before<WIDE>(shared, row, key);
    if (gpu_thread() == 0) {
        args.logprob[r] = (float)((double)logit - normaliser);
        args.rank[r] = before + 1;
    }
    for (int32_t i = 0; i < args.top; i++) {
        uint64_t top = take_best<WIDE>(shared, row, best);
        if (gpu_thread() != 0)
            continue;
        bool none = top == PR_LOGIT_NO_KEY;
        int32_t at = none ? -1 : pr_logit_row_token_of(top);
        float value = none ? pr_logit_row_impossible() : pr_logit_row_value(row.logits[at]);
        args.top_token[r * args.top + i] = at;
        args.top_logprob[r * args.top + i] = (float)((double)value - normaliser);
    }
}

void pr_gpu_logprobs(pr_gpu_stream *stream, const pr_gpu_logprobs_args *args)
{
    if (args->rows <= 0 || args->vocabulary <= 0)
        return;
    gpu_grid grid = {(unsigned)args->rows};
    unsigned shared_bytes = (unsigned)sizeof(logprobs_shared);
    if (pr_row_vector_fits(args->logits, args->vocabulary))
        gpu_launch(logprobs_rows<true>, grid, PR_LOGIT_THREADS, shared_bytes, stream, *args);
    else
        gpu_launch(logprobs_rows<false>, grid, PR_LOGIT_THREADS, shared_bytes, stream, *args);
}
