// SPDX-License-Identifier: BSD-3-Clause
// The next candidates along the ranking of a row, sorted, with their weights, in shared memory: what sampling walks along.
// A list ends at a key below which there are enough candidates but not more than it holds. The key is found by counting
// below seven keys at once: first at depths that halve, then at eighths of what is left, which always ends since keys
// differ. One block of PR_LIST_THREADS works on a row; every thread arrives at every function here.
#ifndef PR_GPU_ROWS_RANKED_LIST_CUH
#define PR_GPU_ROWS_RANKED_LIST_CUH

#include "kernels/gpu/rows/block_scan.cuh"
#include "kernels/gpu/rows/logit_row.cuh"

enum {
    PR_LIST_THREADS = 512,
    PR_LIST_MOST = 2048,   // candidates of a list
    PR_LIST_ENOUGH = 128,  // that end the search
    PR_LIST_PROBES = 7,
};

// A row's draw: depth is the largest logit less a token's own (sampler.c).
struct pr_candidates {
    const float *logits;  // [V]
    int32_t vocabulary;
    double largest, temperature, most_depth, near_depth;
};

struct pr_ranked_list {
    uint64_t key[PR_LIST_MOST];
    double weight[PR_LIST_MOST];
    pr_block_scan scan;
    int32_t warp_count[PR_LIST_PROBES][PR_LIST_THREADS / GPU_WARP];
};

GPU_FUNCTION bool pr_candidates_hold(const pr_candidates &row, float value)
{
    return row.largest - (double)value <= row.most_depth;
}

GPU_FUNCTION double pr_candidates_weight(const pr_candidates &row, float value)
{
    return gpu_exp_f64(-(row.largest - (double)value) / row.temperature);
}

// Probe i of the first search from a value on: at near_depth / 64, .. / 2, / 1 below it.
GPU_FUNCTION uint64_t pr_candidates_probe(const pr_candidates &row, float from, int i)
{
    double depth = row.near_depth / (double)(1 << (PR_LIST_PROBES - 1 - i));
    float value = pr_logit_row_value((float)((double)from - depth));
    return (uint64_t)pr_logit_row_rank_bits(value) << 32 | 0xffffffffu;
}

// Calls visit(key) for this thread's candidates with after < key <= upto, in the same order each time.
template <bool WIDE, class VISIT>
GPU_FUNCTION void
pr_candidates_each(const pr_candidates &row, uint64_t after, uint64_t upto, VISIT visit)
{
    for (int64_t first = (int64_t)gpu_thread() * PR_LOGIT_QUAD; first < row.vocabulary;
         first += (int64_t)gpu_threads() * PR_LOGIT_QUAD) {
        int32_t token = (int32_t)first;
        pr_logit_quad quad = pr_logit_row_quad<WIDE>(row.logits, token, row.vocabulary);
        GPU_UNROLL
        for (int j = 0; j < PR_LOGIT_QUAD; j++) {
            uint64_t key = pr_logit_row_key(quad.value[j], token + j);
            if (key > after && key <= upto && pr_candidates_hold(row, quad.value[j]))
                visit(key);
        }
    }
}

// How many candidates lie after `after`, up to each probe.
template <bool WIDE>
GPU_FUNCTION void pr_ranked_list_count(
    pr_ranked_list &list,
    const pr_candidates &row,
    uint64_t after,
    const uint64_t (&probe)[PR_LIST_PROBES],
    int32_t (&count)[PR_LIST_PROBES])
{
    GPU_UNROLL
    for (int i = 0; i < PR_LIST_PROBES; i++)
        count[i] = 0;
    pr_candidates_each<WIDE>(row, after, probe[PR_LIST_PROBES - 1], [&](uint64_t key) {
        GPU_UNROLL
        for (int i = 0; i < PR_LIST_PROBES; i++)
            count[i] += key <= probe[i];
    });
    GPU_UNROLL
    for (int i = 0; i < PR_LIST_PROBES; i++) {
        GPU_UNROLL
        for (int step = 1; step < GPU_WARP; step *= 2)
            count[i] += gpu_shuffle_xor(count[i], step);
        if (gpu_lane() == 0)
            list.warp_count[i][gpu_warp()] = count[i];
    }
    gpu_barrier();
    GPU_UNROLL
    for (int i = 0; i < PR_LIST_PROBES; i++) {
        count[i] = 0;
        for (int warp = 0; warp < PR_LIST_THREADS / GPU_WARP; warp++)
            count[i] += list.warp_count[i][warp];
    }
    gpu_barrier();
}

// What a search knows: up to `low` there are `held` candidates, not too many; up to `high` too many.
struct pr_list_search {
    uint64_t low, high;
    int32_t held;
};

GPU_FUNCTION void pr_list_search_narrow(
    pr_list_search &search,
    const uint64_t (&probe)[PR_LIST_PROBES],
    const int32_t (&count)[PR_LIST_PROBES])
{
    GPU_UNROLL
    for (int i = 0; i < PR_LIST_PROBES; i++) {
        if (count[i] > PR_LIST_MOST) {
            search.high = probe[i] < search.high ? probe[i] : search.high;
        } else if (probe[i] > search.low) {
            search.low = probe[i];
            search.held = count[i];
        }
    }
}

// The key at which the list after `after` ends, by searching on until `enough` are held.
template <bool WIDE>
GPU_FUNCTION uint64_t pr_list_search_end(
    pr_list_search search,
    pr_ranked_list &list,
    const pr_candidates &row,
    uint64_t after,
    int32_t enough)
{
    while (search.held < enough) {
        uint64_t probe[PR_LIST_PROBES], step = (search.high - search.low) / (PR_LIST_PROBES + 1);
        int32_t count[PR_LIST_PROBES];
        GPU_UNROLL
        for (int i = 0; i < PR_LIST_PROBES; i++)
            probe[i] = search.low + (step > 0 ? step : 1) * (uint64_t)(i + 1);
        pr_ranked_list_count<WIDE>(list, row, after, probe, count);
        pr_list_search_narrow(search, probe, count);
    }
    return search.low;
}

// Sorts key[0, n), n a power of two: Batcher's bitonic network ("Sorting Networks and Their Applications", 1968).
GPU_FUNCTION void pr_ranked_list_sort(uint64_t *key, int32_t n)
{
    for (int32_t size = 2; size <= n; size *= 2) {
        for (int32_t step = size / 2; step > 0; step /= 2) {
            for (int32_t pair = gpu_thread(); pair < n / 2; pair += PR_LIST_THREADS) {
                int32_t low = 2 * pair - (pair & (step - 1)), high = low + step;
                uint64_t a = key[low], b = key[high];
                if ((a > b) == ((low & size) == 0)) {
                    key[low] = b;
                    key[high] = a;
                }
            }
            gpu_barrier();
        }
    }
}

// The candidates after `after` up to `upto`, at most PR_LIST_MOST; returns how many.
template <bool WIDE>
GPU_FUNCTION int32_t
pr_ranked_list_fill(pr_ranked_list &list, const pr_candidates &row, uint64_t after, uint64_t upto)
{
    int32_t own = 0, all = 0;
    pr_candidates_each<WIDE>(row, after, upto, [&](uint64_t) { own++; });
    int32_t at = pr_block_scan_before(list.scan, own, all);
    pr_candidates_each<WIDE>(row, after, upto, [&](uint64_t key) { list.key[at++] = key; });
    int32_t padded = 1;
    while (padded < all)
        padded *= 2;
    for (int32_t i = all + gpu_thread(); i < padded; i += PR_LIST_THREADS)
        list.key[i] = PR_LOGIT_NO_KEY;
    gpu_barrier();
    pr_ranked_list_sort(list.key, padded);
    for (int32_t i = gpu_thread(); i < all; i += PR_LIST_THREADS)
        list.weight[i] = pr_candidates_weight(row, pr_logit_row_value_of(list.key[i]));
    gpu_barrier();
    return all;
}

#endif
