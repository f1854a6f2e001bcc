// SPDX-License-Identifier: BSD-3-Clause
// Sets of Unicode code points as sorted ranges, and the byte sequences that spell them in UTF-8.
// The universe is U+0001..U+10FFFF without surrogates: no set holds anything else.
// Cost: ranges are kept as they are added and sorted once by pr_code_points_normalise.
// Threads: none of its own.
#ifndef PR_RUNTIME_GRAMMAR_CODE_POINTS_H
#define PR_RUNTIME_GRAMMAR_CODE_POINTS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/text/byte_buffer.h"

typedef struct pr_code_range {
    uint32_t low, high;
} pr_code_range;

typedef struct pr_code_points {
    pr_byte_buffer range;  // pr_code_range[]
} pr_code_points;

// A run of UTF-8 spellings: byte i is any of low[i]..high[i].
typedef struct pr_utf8_run {
    int32_t bytes;  // 1..4
    uint8_t low[4], high[4];
} pr_utf8_run;

void pr_code_points_free(pr_code_points *set);
void pr_code_points_add(pr_code_points *set, uint32_t low, uint32_t high);
void pr_code_points_add_all(pr_code_points *set, const pr_code_points *other);

// Sorts, merges, and cuts to the universe. The functions below take normalised sets.
void pr_code_points_normalise(pr_code_points *set);
void pr_code_points_negate(pr_code_points *set);
void pr_code_points_subtract(pr_code_points *set, const pr_code_points *other);

static inline const pr_code_range *pr_code_points_ranges(const pr_code_points *set)
{
    return set->range.data;
}

static inline int32_t pr_code_points_count(const pr_code_points *set)
{
    return (int32_t)(set->range.size_bytes / sizeof(pr_code_range));
}

// Appends the set's spellings in ascending order. Of two runs, the first byte's ranges are equal or
// apart, and of those with equal ones so are the second byte's, and so on: they form a tree.
void pr_code_points_spell(const pr_code_points *set, pr_byte_buffer *runs);  // pr_utf8_run[]

#endif
