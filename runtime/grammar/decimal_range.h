// SPDX-License-Identifier: BSD-3-Clause
// Numbers between bounds as grammar over their decimal digits. Texts are canonical: no leading zeros, no
// plus sign, no exponent.
//
//   [17, 240], three digits:   1 -> (>= 00: free)   2 -> (<= 40: 0-3 free, 4 -> 0)
//
// Integers are exact. Numbers with bounds have at most 15 significant digits, so that what is above a bound
// as a text is above it as a double, too; where a side has no bound, nine digits stand before the point.
// Source: ours.
#ifndef PR_RUNTIME_GRAMMAR_DECIMAL_RANGE_H
#define PR_RUNTIME_GRAMMAR_DECIMAL_RANGE_H

#include "runtime/grammar/grammar_builder.h"

enum { PR_DECIMAL_DIGITS = 15, PR_DECIMAL_MOST_DIGITS = 18 };
#define PR_DECIMAL_LARGEST INT64_C(999999999999999)  // of an integer without bounds
#define PR_DECIMAL_MOST INT64_C(999999999999999999)  // of any integer
#define PR_DECIMAL_LARGEST_OPEN INT64_C(999999999)   // integer part, on a side without a bound

typedef struct pr_decimal_bound {
    bool given, exclusive;
    double value;
} pr_decimal_bound;

// low and high within +-PR_DECIMAL_MOST; PR_GRAMMAR_NOWHERE if low > high.
int32_t
pr_decimal_range_integers(pr_grammar_builder *builder, int64_t low, int64_t high, int32_t next);
int32_t pr_decimal_range_numbers(
    pr_grammar_builder *builder, pr_decimal_bound low, pr_decimal_bound high, int32_t next);

#endif
