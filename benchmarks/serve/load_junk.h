// SPDX-License-Identifier: BSD-3-Clause
// Bytes that are no request, or nearly one. The same dice give the same bytes.
// Threads: none of its own.
#ifndef PR_BENCHMARKS_SERVE_LOAD_JUNK_H
#define PR_BENCHMARKS_SERVE_LOAD_JUNK_H

#include "benchmarks/serve/load_target.h"

typedef struct pr_load_dice {
    uint64_t state;
} pr_load_dice;

uint64_t pr_load_dice_draw(pr_load_dice *dice);
static inline size_t pr_load_dice_below(pr_load_dice *dice, size_t end)
{
    return (size_t)(pr_load_dice_draw(dice) % end);
}

// Appends one piece of junk and returns what kind of it.
const char *
pr_load_junk_make(pr_load_dice *dice, const pr_load_target *target, pr_byte_buffer *out);

#endif
