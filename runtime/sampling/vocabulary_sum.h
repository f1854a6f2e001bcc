// SPDX-License-Identifier: BSD-3-Clause
// The sum over a vocabulary of one term per token, in an order that a GPU can follow with many blocks of many threads and a
// CPU with vectors: tokens go in chunks of 8192, in a chunk to 1024 lanes (token mod 1024) by addition, token ascending
// from 0; lanes are added as a balanced binary tree of neighbours ((0+1)+(2+3))...; chunks ascending.
//
//   begin(sum); for each chunk { for each token: add(sum, token, term); end_chunk(sum); } sum.total
//
// A token that is left out counts as 0. Source: ours. Threads: none of its own.
#ifndef PR_RUNTIME_SAMPLING_VOCABULARY_SUM_H
#define PR_RUNTIME_SAMPLING_VOCABULARY_SUM_H

#include <stdint.h>

enum { PR_VOCABULARY_LANES = 1024, PR_VOCABULARY_CHUNK = 8192 };

typedef struct pr_vocabulary_sum {
    double lane[PR_VOCABULARY_LANES];  // all 0 between chunks
    double total;                      // of the chunks that ended
} pr_vocabulary_sum;

static inline void pr_vocabulary_sum_begin(pr_vocabulary_sum *sum)
{
    for (int32_t i = 0; i < PR_VOCABULARY_LANES; i++)
        sum->lane[i] = 0;
    sum->total = 0;
}

static inline void pr_vocabulary_sum_add(pr_vocabulary_sum *sum, int32_t token, double term)
{
    sum->lane[token % PR_VOCABULARY_LANES] += term;
}

static inline void pr_vocabulary_sum_end_chunk(pr_vocabulary_sum *sum)
{
    for (int32_t left = PR_VOCABULARY_LANES; left > 1; left /= 2) {
        for (int32_t i = 0; i < left / 2; i++)
            sum->lane[i] = sum->lane[2 * i] + sum->lane[2 * i + 1];
    }
    sum->total += sum->lane[0];
    for (int32_t i = 0; i < PR_VOCABULARY_LANES; i++)
        sum->lane[i] = 0;
}

#endif
