// SPDX-License-Identifier: BSD-3-Clause
// One token from each row of logits: runtime/sampling/sampler.c, operation by operation in double, so the same token.
//   largest   the first of the ranking in each chunk of the vocabulary
//   sums      weights of candidates and exponentials of each chunk, in the order of vocabulary_sum.h; how many candidates
//             lie how deep
//   draw      one block a row: chunks added ascending; then along the ranking, whose sums have one order only, in lists
//             that are nearly always the first one
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/rows/ranked_list.cuh"

struct chunk {
    uint64_t largest;                          // key
    double weight, exponential;                // sums
    int32_t candidates, near[PR_LIST_PROBES];  // near: up to each probe from the largest logit
};

GPU_FUNCTION int32_t chunks_of(int32_t vocabulary)
{
    return (vocabulary + PR_VOCABULARY_CHUNK - 1) / PR_VOCABULARY_CHUNK;
}

GPU_FUNCTION chunk *chunks_of_row(const pr_gpu_sample_args &args, int row)
{
    return static_cast<chunk *>(args.scratch) + (int64_t)row * chunks_of(args.vocabulary);
}

GPU_FUNCTION pr_candidates candidates_of(const pr_gpu_sample_args &args, int row)
{
    const chunk *chunks = chunks_of_row(args, row);
    const pr_gpu_draw &draw = args.draw[row];
    uint64_t largest = PR_LOGIT_NO_KEY;
    for (int32_t i = 0; i < chunks_of(args.vocabulary); i++)
        largest = chunks[i].largest < largest ? chunks[i].largest : largest;
    pr_candidates made;
    made.logits = args.logits + (int64_t)row * args.vocabulary;
    made.vocabulary = args.vocabulary;
    made.largest = (double)pr_logit_row_value_of(largest);
    made.temperature = (double)draw.temperature;
    made.most_depth = gpu_from_bits_f64(0x7fefffffffffffffu);  // any finite depth
    if (draw.min_p > 0)
        made.most_depth = -made.temperature * gpu_log_f64((double)draw.min_p);
    made.near_depth = 8 * made.temperature;
    return made;
}

template <bool WIDE> GPU_KERNEL void sample_largest(pr_gpu_sample_args args)
{
    const float *logits = args.logits + (int64_t)gpu_block_y() * args.vocabulary;
    int32_t begin = gpu_block() * PR_VOCABULARY_CHUNK + gpu_thread() * PR_LOGIT_QUAD;
    uint64_t largest = PR_LOGIT_NO_KEY;
    for (int32_t i = 0; i < PR_VOCABULARY_CHUNK; i += PR_VOCABULARY_LANES) {
        pr_logit_quad quad = pr_logit_row_quad<WIDE>(logits, begin + i, args.vocabulary);
        GPU_UNROLL
        for (int j = 0; j < PR_LOGIT_QUAD; j++) {
            uint64_t key = pr_logit_row_key(quad.value[j], begin + i + j);
            largest = key < largest ? key : largest;
        }
    }
    largest = pr_logit_row_first_key(gpu_shared<pr_logit_shared>(), largest);
    if (gpu_thread() == 0)
        chunks_of_row(args, gpu_block_y())[gpu_block()].largest = largest;
}

// What one thread adds up of a chunk.
struct thread_sums {
    double weight[PR_LOGIT_QUAD], exponential[PR_LOGIT_QUAD];
    int32_t candidates, near[PR_LIST_PROBES];
};

GPU_FUNCTION void add_candidate(
    thread_sums &sums,
    const pr_candidates &row,
    const uint32_t (&probe)[PR_LIST_PROBES],
    int j,
    float value)
{
    if (!pr_candidates_hold(row, value))
        return;
    sums.weight[j] += pr_candidates_weight(row, value);
    sums.candidates++;
    GPU_UNROLL
    for (int i = 0; i < PR_LIST_PROBES; i++)
        sums.near[i] += pr_logit_row_rank_bits(value) <= probe[i];
}

template <bool WIDE>
GPU_FUNCTION thread_sums sums_of_thread(const pr_gpu_sample_args &args, const pr_candidates &row)
{
    thread_sums sums = {};
    uint32_t probe[PR_LIST_PROBES];
    bool draws = row.temperature > 0, logprob = args.logprob != NULL;
    GPU_UNROLL
    for (int i = 0; i < PR_LIST_PROBES; i++)
        probe[i] = (uint32_t)(pr_candidates_probe(row, (float)row.largest, i) >> 32);
    int32_t begin = gpu_block() * PR_VOCABULARY_CHUNK + gpu_thread() * PR_LOGIT_QUAD;
    for (int32_t i = 0; i < PR_VOCABULARY_CHUNK; i += PR_VOCABULARY_LANES) {
        pr_logit_quad quad = pr_logit_row_quad<WIDE>(row.logits, begin + i, args.vocabulary);
        GPU_UNROLL
        for (int j = 0; j < PR_LOGIT_QUAD; j++) {
            if (logprob)
                sums.exponential[j] += gpu_exp_f64((double)quad.value[j] - row.largest);
            if (draws)
                add_candidate(sums, row, probe, j, quad.value[j]);
        }
    }
    return sums;
}

struct sums_shared {
    pr_logit_shared logits;
    int32_t count[PR_LIST_PROBES + 1][PR_LOGIT_THREADS / GPU_WARP];
};

// The block's sum of a small number, for thread 0, after the next barrier: by `count_of_warps`.
GPU_FUNCTION void add_in_warp(int32_t *warp_count, int32_t count)
{
    GPU_UNROLL
    for (int step = 1; step < GPU_WARP; step *= 2)
        count += gpu_shuffle_xor(count, step);
    if (gpu_lane() == 0)
        warp_count[gpu_warp()] = count;
}
GPU_FUNCTION int32_t count_of_warps(const int32_t *warp_count)
{
    int32_t count = 0;
    for (int warp = 0; warp < PR_LOGIT_THREADS / GPU_WARP; warp++)
        count += warp_count[warp];
    return count;
}

template <bool WIDE> GPU_KERNEL void sample_sums(pr_gpu_sample_args args)
{
    sums_shared &shared = gpu_shared<sums_shared>();
    pr_candidates row = candidates_of(args, gpu_block_y());
    thread_sums sums = sums_of_thread<WIDE>(args, row);
    double weight = pr_logit_row_tree(shared.logits, sums.weight);
    double exponential = pr_logit_row_tree(shared.logits, sums.exponential);
    add_in_warp(shared.count[PR_LIST_PROBES], sums.candidates);
    GPU_UNROLL
    for (int i = 0; i < PR_LIST_PROBES; i++)
        add_in_warp(shared.count[i], sums.near[i]);
    gpu_barrier();
    if (gpu_thread() != 0)
        return;
    chunk &mine = chunks_of_row(args, gpu_block_y())[gpu_block()];
    mine.weight = weight;
    mine.exponential = exponential;
    mine.candidates = count_of_warps(shared.count[PR_LIST_PROBES]);
    for (int i = 0; i < PR_LIST_PROBES; i++)
        mine.near[i] = count_of_warps(shared.count[i]);
}

// ---- Draw: one block a row ----

struct draw_shared {
    pr_ranked_list list;
    double sum;      // of a walk so far
    int32_t walked;  // ranks in it
    bool ended;
};

// Where the block stands along the ranking. The same in every thread.
struct ranking {
    pr_candidates row;
    int32_t candidates;
    uint64_t first_end;   // where the first list ends
    int32_t begin, held;  // ranks [begin, begin + held) are in the list
};

// Sum of the first `walked` weights.
struct walk {
    double sum;
    int32_t walked;
};

template <bool WIDE> GPU_FUNCTION void begin_list(draw_shared &shared, ranking &at)
{
    at.begin = 0;
    at.held = pr_ranked_list_fill<WIDE>(shared.list, at.row, 0, at.first_end);
}

template <bool WIDE> GPU_FUNCTION void next_list(draw_shared &shared, ranking &at)
{
    uint64_t after = shared.list.key[at.held - 1], end = PR_LOGIT_NO_KEY;
    at.begin += at.held;
    if (at.candidates - at.begin > PR_LIST_MOST) {
        pr_list_search search = {after, PR_LOGIT_NO_KEY, 0};
        uint64_t probe[PR_LIST_PROBES];
        int32_t count[PR_LIST_PROBES];
        GPU_UNROLL
        for (int i = 0; i < PR_LIST_PROBES; i++)
            probe[i] = pr_candidates_probe(at.row, pr_logit_row_value_of(after), i);
        pr_ranked_list_count<WIDE>(shared.list, at.row, after, probe, count);
        pr_list_search_narrow(search, probe, count);
        end = pr_list_search_end<WIDE>(search, shared.list, at.row, after, PR_LIST_ENOUGH);
    }
    at.held = pr_ranked_list_fill<WIDE>(shared.list, at.row, after, end);
}

// Adds weights from rank 0 on, one by one, while fewer than `most` and the sum is below the bound (or at it, if so said).
template <bool WIDE>
GPU_FUNCTION walk
walk_ranking(draw_shared &shared, ranking &at, int32_t most, double bound, bool at_bound)
{
    if (at.begin > 0)
        begin_list<WIDE>(shared, at);
    if (gpu_thread() == 0) {
        shared.sum = shared.list.weight[0];
        shared.walked = 1;
    }
    for (;;) {
        if (gpu_thread() == 0) {
            double sum = shared.sum;
            int32_t i = shared.walked, end = at.begin + at.held;
            end = end < most ? end : most;
            for (; i < end && (sum < bound || (at_bound && sum == bound)); i++)
                sum += shared.list.weight[i - at.begin];
            shared.ended = i < end || i >= most || !(sum < bound || (at_bound && sum == bound));
            shared.sum = sum;
            shared.walked = i;
        }
        gpu_barrier();
        walk now = {shared.sum, shared.walked};
        bool ended = shared.ended;
        gpu_barrier();
        if (ended)
            return now;
        next_list<WIDE>(shared, at);
    }
}

// Philox 4x32-10 (runtime/sampling/philox.c), and 53 bits of it as a number in [0, 1).
GPU_FUNCTION double uniform(const pr_gpu_draw &draw)
{
    uint32_t c0 = draw.position, c1 = (uint32_t)draw.stream, c2 = 0, c3 = 0;
    uint32_t k0 = (uint32_t)draw.seed, k1 = (uint32_t)(draw.seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t left = (uint64_t)0xd2511f53u * c0, right = (uint64_t)0xcd9e8d57u * c2;
        c0 = (uint32_t)(right >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)right;
        c2 = (uint32_t)(left >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)left;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return (double)((uint64_t)(c0 >> 5) << 26 | c1 >> 6) * 0x1p-53;
}

template <bool WIDE>
GPU_FUNCTION int32_t
draw_token(draw_shared &shared, ranking &at, const pr_gpu_draw &draw, double total)
{
    int32_t kept = at.candidates;
    if (kept == 0)
        return 0;
    begin_list<WIDE>(shared, at);
    double unbounded = gpu_from_bits_f64(0x7ff0000000000000u);
    if (draw.top_k > 0) {
        kept = draw.top_k < kept ? draw.top_k : kept;
        total = walk_ranking<WIDE>(shared, at, kept, unbounded, false).sum;
    }
    if (draw.top_p < 1) {
        walk cut = walk_ranking<WIDE>(shared, at, kept, (double)draw.top_p * total, false);
        kept = cut.walked;
        total = cut.sum;
    }
    walk last = walk_ranking<WIDE>(shared, at, kept, uniform(draw) * total, true);
    return pr_logit_row_token_of(shared.list.key[last.walked - 1 - at.begin]);
}

// Where the first list ends, from what the chunks counted.
template <bool WIDE>
GPU_FUNCTION uint64_t
first_end_of(draw_shared &shared, const ranking &at, const int32_t (&near)[PR_LIST_PROBES])
{
    if (at.candidates <= PR_LIST_MOST)
        return PR_LOGIT_NO_KEY;
    pr_list_search search = {0, PR_LOGIT_NO_KEY, 0};
    uint64_t probe[PR_LIST_PROBES];
    GPU_UNROLL
    for (int i = 0; i < PR_LIST_PROBES; i++)
        probe[i] = pr_candidates_probe(at.row, (float)at.row.largest, i);
    pr_list_search_narrow(search, probe, near);
    return pr_list_search_end<WIDE>(search, shared.list, at.row, 0, PR_LIST_ENOUGH);
}

template <bool WIDE> GPU_KERNEL void sample_draw(pr_gpu_sample_args args)
{
    draw_shared &shared = gpu_shared<draw_shared>();
    const chunk *chunks = chunks_of_row(args, gpu_block());
    const pr_gpu_draw draw = args.draw[gpu_block()];
    double weight = 0, exponential = 0;
    int32_t near[PR_LIST_PROBES] = {};
    uint64_t largest = PR_LOGIT_NO_KEY;
    ranking at = {candidates_of(args, gpu_block()), 0, 0, 0, 0};
    for (int32_t i = 0; i < chunks_of(args.vocabulary); i++) {
        weight += chunks[i].weight;
        exponential += chunks[i].exponential;
        at.candidates += chunks[i].candidates;
        largest = chunks[i].largest < largest ? chunks[i].largest : largest;
        GPU_UNROLL
        for (int j = 0; j < PR_LIST_PROBES; j++)
            near[j] += chunks[i].near[j];
    }
    bool possible = pr_logit_row_value_of(largest) > pr_logit_row_impossible();
    int32_t token = possible ? pr_logit_row_token_of(largest) : 0;
    if (draw.temperature > 0) {
        at.first_end = first_end_of<WIDE>(shared, at, near);
        token = draw_token<WIDE>(shared, at, draw, weight);
    }
    if (gpu_thread() != 0)
        return;
    args.token[gpu_block()] = token;
    if (args.logprob != NULL) {
        double normaliser = possible ? at.row.largest + gpu_log_f64(exponential)
                                     : gpu_from_bits_f64(0x7ff0000000000000u);
        double logit = (double)pr_logit_row_value(at.row.logits[token]);
        args.logprob[gpu_block()] = (float)(logit - normaliser);
    }
}

size_t pr_gpu_sample_scratch_bytes(int32_t rows, int32_t vocabulary)
{
    int64_t chunks = ((int64_t)vocabulary + PR_VOCABULARY_CHUNK - 1) / PR_VOCABULARY_CHUNK;
    return (size_t)(rows * chunks) * sizeof(chunk);
}

template <bool WIDE> static void launch(pr_gpu_stream *stream, const pr_gpu_sample_args *args)
{
    unsigned rows = (unsigned)args->rows;
    unsigned chunks = ((unsigned)args->vocabulary + PR_VOCABULARY_CHUNK - 1) / PR_VOCABULARY_CHUNK;
    gpu_grid grid = {chunks, rows};
    gpu_launch(
        sample_largest<WIDE>, grid, PR_LOGIT_THREADS, (unsigned)sizeof(pr_logit_shared), stream,
        *args);
    gpu_launch(
        sample_sums<WIDE>, grid, PR_LOGIT_THREADS, (unsigned)sizeof(sums_shared), stream, *args);
    gpu_launch(
        sample_draw<WIDE>, gpu_grid{rows}, PR_LIST_THREADS, (unsigned)sizeof(draw_shared), stream,
        *args);
}

void pr_gpu_sample(pr_gpu_stream *stream, const pr_gpu_sample_args *args)
{
    if (args->rows <= 0 || args->vocabulary <= 0)
        return;
    if (pr_row_vector_fits(args->logits, args->vocabulary))
        launch<true>(stream, args);
    else
        launch<false>(stream, args);
}
